// The stock clients, made ready for Node, and a person's tab made of one.

import { createRequire } from "node:module";
import { WebSocket } from "ws";
import { FetchXhr } from "./xhr.js";
import { until } from "./until.js";

// The clients look for browser globals when they are loaded.
globalThis.self ??= globalThis;
globalThis.WebSocket ??= WebSocket;

const newest = await import("phoenix");
const seven = await import("phoenix-1.7");
const require = createRequire(import.meta.url);

/** How long an answer may take: longer than the clients' own ten seconds, for machines that are busy. */
const ANSWER_MS = 30_000;

/** The client libraries by the name their tests use. */
export const LIBRARIES = { "1.8": newest, "1.7": seven };

/** The last client that spoke vsn 1.0.0 by itself. */
export const ORIGINAL = require("phoenix-1.2");

/** Every combination that a stock client can be: library, transport, protocol version. */
export const COMBINATIONS = Object.keys(LIBRARIES).flatMap((library) =>
  ["WebSocket", "LongPoll"].flatMap((transport) => ["2.0.0", "1.0.0"].map((vsn) => ({ library, transport, vsn, name: `phoenix ${library}, ${transport}, vsn ${vsn}` }))),
);

/** A WebSocket that remembers what went through it. */
function recording(frames) {
  return class RecordingWebSocket extends WebSocket {
    constructor(url, protocols) {
      super(url, protocols);
      frames.socket = this;
      frames.urls.push(String(url));
      this.on("message", (data, isBinary) => frames.received.push(isBinary ? Buffer.from(data) : data.toString()));
      this.on("close", (code) => frames.closes.push(code));
    }

    send(data) {
      frames.sent.push(data);
      super.send(data);
    }
  };
}

/** The objects of vsn 1.0.0, for clients that speak arrays by themselves. */
const V1_CODEC = {
  encode: ({ topic, event, payload, ref, join_ref }, done) => done(JSON.stringify({ topic, event, payload, ref, join_ref })),
  decode: (raw, done) => done(JSON.parse(raw)),
};

/** Long poll as clients of vsn 1.0.0 did it: one JSON object per request, since objects have no batches. */
function objectLongPoll(LongPoll) {
  return class ObjectLongPoll extends LongPoll {
    ajax(method, type, body, onTimeout, callback) {
      if (method !== "POST") {
        return super.ajax(method, type, body, onTimeout, callback);
      }
      const json = typeof type === "string" ? "application/json" : { ...type, "Content-Type": "application/json" };
      const [first, ...rest] = body.split("\n");
      return super.ajax("POST", json, first, onTimeout, (answer) => {
        if (rest.length > 0 && answer?.status === 200) {
          this.ajax("POST", type, rest.join("\n"), onTimeout, callback);
        } else {
          callback(answer);
        }
      });
    }
  };
}

function transportOf({ LongPoll }, { transport, vsn }, frames) {
  if (transport === "WebSocket") {
    return recording(frames);
  }
  return vsn === "1.0.0" ? objectLongPoll(LongPoll) : LongPoll;
}

/** One client, one socket. Quick to reconnect and rejoin, so that tests need not wait as people would. */
export class Client {
  constructor(address, combination = COMBINATIONS[0], options = {}) {
    const library = LIBRARIES[combination.library];
    // Newer clients prefer fetch and only the older one needs the request object of browsers.
    globalThis.XMLHttpRequest = combination.library === "1.7" ? FetchXhr : undefined;
    this.library = library;
    this.frames = { sent: [], received: [], closes: [], urls: [], socket: null };
    this.socket = new library.Socket(address, {
      vsn: combination.vsn,
      transport: transportOf(library, combination, this.frames),
      reconnectAfterMs: () => 50,
      rejoinAfterMs: () => 50,
      ...(combination.vsn === "1.0.0" ? V1_CODEC : {}),
      ...options,
    });
    this.socket.connect();
  }

  /** Joins a topic and follows its presences; resolves when the join is answered ok. */
  async join(topic, params = {}) {
    const tab = this.tab(topic, params);
    await tab.joined();
    return tab;
  }

  /** The same without waiting for the answer. */
  tab(topic, params = {}) {
    return new Tab(this, topic, params);
  }

  /** The connection breaks without a word, as when a cable is pulled. */
  break() {
    this.frames.socket.terminate();
  }

  close() {
    return new Promise((resolve) => this.socket.disconnect(resolve));
  }
}

/** One joined channel and the presences its client has put together. */
export class Tab {
  constructor(client, topic, params) {
    this.client = client;
    this.topic = topic;
    this.events = [];
    this.syncs = 0;
    this.joins = 0;
    this.refusal = null;
    this.channel = client.socket.channel(topic, params);
    this.presence = new client.library.Presence(this.channel);
    this.presence.onSync(() => (this.syncs += 1));
    const deliver = this.channel.onMessage;
    this.channel.onMessage = (event, payload, ref) => {
      // A push that is given up has no event any more.
      if (event && !event.startsWith("chan_reply_") && event !== "phx_reply") {
        this.events.push({ event, payload });
      }
      return deliver.call(this.channel, event, payload, ref);
    };
    this.channel
      .join()
      .receive("ok", () => (this.joins += 1))
      .receive("error", (refusal) => (this.refusal = refusal));
  }

  async joined(times = 1) {
    await until(() => `${this.topic} joined ${times} times; ${this.joins} so far, refusal ${JSON.stringify(this.refusal)}`, () => this.joins >= times);
  }

  /** Who is here: `{ key: [statuses or null of its metas] }` would lose too much, so whole entries by key. */
  here() {
    return Object.fromEntries(this.presence.list((key, entry) => [key, entry]));
  }

  metas(key) {
    return this.here()[key]?.metas ?? [];
  }

  /** Resolves when exactly these keys are here. */
  async sees(...keys) {
    const wanted = [...keys].sort().join();
    await until(() => `${this.topic} shows ${wanted || "nobody"}, not ${Object.keys(this.here())}`, () => Object.keys(this.here()).sort().join() === wanted);
  }

  /** The payload of the first event of this name after `from` others. */
  async hears(event, from = 0) {
    return until(
      () => `${this.topic} hears ${event}; heard ${this.events.map((one) => one.event)}`,
      () => this.events.filter((one) => one.event === event)[from],
    ).then((one) => one.payload);
  }

  /** Pushes and resolves with `{ status, response }`. */
  push(event, payload = {}) {
    return new Promise((resolve, reject) => {
      this.channel
        .push(event, payload, ANSWER_MS)
        .receive("ok", (response) => resolve({ status: "ok", response }))
        .receive("error", (response) => resolve({ status: "error", response }))
        .receive("timeout", () => reject(new Error(`no reply to ${event}`)));
    });
  }

  leave() {
    return new Promise((resolve) => this.channel.leave().receive("ok", resolve));
  }
}
