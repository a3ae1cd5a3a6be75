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
  #askedAt = 0;
  #key = kept();
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
    clearTimeout(this.#timer);
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
    const key = this.#key;
    this.#askedAt = Date.now();
    const headers = key === null ? {} : { "x-api-key": key };
    let answer;
    try {
      answer = await fetch("/dashboard/access", { headers, cache: "no-store" });
    } catch (error) {
      // A key with a character that no header can have is none.
      return error instanceof TypeError && key !== null && /[^\x21-\x7e]/u.test(key) ? this.#refuse({ status: 401, detail: "the server has no such key" }) : this.#later();
    }
    if (answer.status === 401 || answer.status === 403) {
      return this.#refuse(await answer.json().catch(() => ({ status: answer.status, detail: "the server refuses" })));
    }
    if (!answer.ok) {
      return this.#later();
    }
    this.access = await answer.json();
    this.#retries = 0;
    if (this.#socket === null) {
      this.#connect(key);
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
    overview.on("figures", current((figures) => this.#handlers.figures(figures)));
    overview.join().receive(
      "ok",
      current((access) => {
        this.access = access;
        this.#become("live");
      }),
    );
    this.#overview = overview;
    socket.connect();
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
