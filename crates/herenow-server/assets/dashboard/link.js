// The way to the server: the key, what it may do, and the socket of the stock phoenix client.
//
// A browser does not tell a page why a WebSocket was refused. So the page asks over HTTP what its key
// may do before it opens the socket, and again whenever the socket cannot be opened. The key is kept
// for this tab only, and is sent in headers only.

import { Socket } from "./phoenix.mjs";

const STORED_AS = "herenow.key";
const RETRY_MS = [500, 1000, 2000, 5000];
const ASK_AGAIN_MS = 2000;
const PUSH_TIMEOUT_MS = 10_000;
const ASK_TIMEOUT_MS = 5000;
const TICK_MS = 1000;
/** Figures come once a second. So many ticks without any, and the server hangs; or the way to it does. */
const SILENT_TICKS = 5;
/** So many ticks after that an attempt to come back is given up for another. */
const RETRY_TICKS = 10;

/**
 * `handlers`: `state(state, detail)` and `figures(figures)`. States: `checking`, `live`, `lost`, `unreachable`,
 * `refused` with the problem that the server answered.
 */
export class Link {
  #handlers;
  #socket = null;
  #overview = null;
  #retries = 0;
  #timer = null;
  #watch = null;
  #silentTicks = 0;
  #askedAt = 0;
  #key = kept();
  /** Raised when all begins anew or ends: what was asked before is answered for nobody. */
  #life = 0;
  #state = "checking";
  /** What the server says of the key: `key`, `right`, `node`, `version`. */
  access = null;

  constructor(handlers) {
    this.#handlers = handlers;
  }

  get hasKey() {
    return this.#key !== null;
  }

  /** Begins, or begins anew with another key. An empty one is none. */
  async begin(key) {
    if (key !== undefined) {
      this.#key = key || null;
      keep(this.#key);
    }
    this.end();
    this.#become("checking");
    await this.#check();
  }

  end() {
    this.#life += 1;
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#socket?.disconnect();
    this.#socket = null;
    this.#overview = null;
  }

  /** Asks the server to do something; resolves with the answer, rejects with what a person can read. */
  push(event, payload) {
    return pushed(this.#overview, event, payload);
  }

  /** Opens `topic:…` or `user:…`. */
  open(name, events) {
    const channel = this.#socket.channel(name);
    for (const [event, handle] of Object.entries(events)) {
      channel.on(event, handle);
    }
    channel.join().receive("error", (refusal) => {
      channel.leave();
      events.refused?.(reason(refusal));
    });
    return { close: () => channel.leave(), push: (event, payload) => pushed(channel, event, payload) };
  }

  /** Finds out what the key may do, and goes on with that. */
  async #check() {
    const [key, life] = [this.#key, this.#life];
    this.#askedAt = Date.now();
    const answer = await asked(key);
    if (life !== this.#life) {
      return;
    }
    if (answer === null) {
      this.#later();
    } else if (answer.access) {
      this.access = answer.access;
      this.#retries = 0;
      if (this.#socket === null) {
        this.#connect(key);
      }
    } else {
      this.#refuse(answer.problem);
    }
  }

  #later() {
    if (this.#socket === null) {
      this.#become("unreachable");
      const wait = RETRY_MS[Math.min(this.#retries, RETRY_MS.length - 1)];
      this.#retries += 1;
      this.#timer = setTimeout(() => this.#check(), wait);
    }
  }

  #refuse(problem) {
    this.end();
    this.#become("refused", problem);
  }

  #connect(key) {
    const socket = new Socket("/dashboard/socket", { timeout: PUSH_TIMEOUT_MS, ...(key === null ? {} : { authToken: key }) });
    this.#socket = socket;
    const current = (handle) => (...args) => socket === this.#socket && handle(...args);
    socket.onError(current(() => this.#lost()));
    socket.onClose(current(() => this.#lost()));
    const overview = socket.channel("overview");
    overview.on(
      "figures",
      current((figures) => {
        this.#silentTicks = 0;
        this.#handlers.figures(figures);
      }),
    );
    overview.join().receive(
      "ok",
      current((access) => {
        this.access = access;
        this.#silentTicks = 0;
        this.#become("live");
      }),
    );
    this.#overview = overview;
    socket.connect();
    this.#silentTicks = 0;
    this.#watch = setInterval(() => this.#tick(), TICK_MS);
  }

  /**
   * A server that hangs closes nothing: it is only silent. For how long is counted in ticks and not read from a clock,
   * so that a machine that slept, or a tab in the background whose timers are slow, takes nobody for lost by that alone.
   */
  #tick() {
    this.#silentTicks += 1;
    if (this.#silentTicks >= (this.#state === "live" ? SILENT_TICKS : RETRY_TICKS)) {
      this.#silentTicks = 0;
      this.#lost();
      const socket = this.#socket;
      socket.disconnect(() => socket === this.#socket && socket.connect());
    }
  }

  #lost() {
    this.#become("lost");
    // The client tries again by itself; only that the key is none any more it cannot know.
    if (Date.now() - this.#askedAt > ASK_AGAIN_MS) {
      this.#check();
    }
  }

  #become(state, detail) {
    if (this.#state !== state || detail !== undefined) {
      this.#state = state;
      this.#handlers.state(state, detail);
    }
  }
}

/** What a key may do as `access`, or why it is refused as `problem`; null if that is not to be known now. */
async function asked(key) {
  const headers = key === null ? {} : { "x-api-key": key };
  try {
    const answer = await fetch("/dashboard/access", { headers, cache: "no-store", signal: AbortSignal.timeout(ASK_TIMEOUT_MS) });
    if (answer.status === 401 || answer.status === 403) {
      return { problem: await answer.json().catch(() => ({ status: answer.status, detail: "the server refuses" })) };
    }
    return answer.ok ? { access: await answer.json() } : null;
  } catch (error) {
    // A key with a character that no header can have is none.
    const isNoKey = error instanceof TypeError && key !== null && /[^\x21-\x7e]/u.test(key);
    return isNoKey ? { problem: { status: 401, detail: "the server has no such key" } } : null;
  }
}

function pushed(channel, event, payload) {
  return new Promise((resolve, reject) => {
    if (!channel || channel.state !== "joined") {
      reject(new Error("There is no connection to the server."));
      return;
    }
    channel
      .push(event, payload)
      .receive("ok", resolve)
      .receive("error", (refusal) => reject(new Error(reason(refusal))))
      .receive("timeout", () => reject(new Error("The server did not answer in time.")));
  });
}

function reason(refusal) {
  return typeof refusal?.reason === "string" ? refusal.reason : "The server gave no reason.";
}

function kept() {
  try {
    return sessionStorage.getItem(STORED_AS);
  } catch {
    return null;
  }
}

function keep(key) {
  try {
    if (key === null) {
      sessionStorage.removeItem(STORED_AS);
    } else {
      sessionStorage.setItem(STORED_AS, key);
    }
  } catch {
    // A browser that keeps nothing asks for the key again in the next life of the page.
  }
}
