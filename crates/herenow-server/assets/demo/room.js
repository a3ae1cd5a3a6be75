// One room on one socket, with the stock phoenix client: who is here, and what they say to each other.

import { LongPoll, Presence, Socket } from "./vendor/phoenix.mjs";
import { people } from "./people.js";

const CURSOR_INTERVAL_MS = 50;
/** Every pointer is sent to every device, so a full room moves its pointers less often. */
const CROWD_CURSOR_INTERVAL_MS = 250;
const CROWD = 30;

/**
 * `handlers`: `link(state, words)`, `people(map)`, `heard(event, payload)`, `frame(direction, text)`.
 * States of the link: connecting, live, reconnecting, refused; token, which is the last one.
 */
export class Room {
  #socket;
  #handlers;
  #channel = null;
  #presence = null;
  #me = null;
  #wasLive = false;
  #address;
  #hasAsked = false;
  #isOver = false;
  #pointer = { next: null, timer: null };

  constructor(address, { longPoll }, handlers) {
    this.#handlers = handlers;
    this.#address = address;
    this.transport = longPoll ? "long poll" : "WebSocket";
    const logger = (kind, message, data) => this.#logged(kind, message, data);
    this.#socket = new Socket(address, longPoll ? { transport: LongPoll, logger } : { logger });
    this.#socket.onClose(() => this.#lost());
    this.#socket.onError(() => this.#failed());
    this.#socket.connect();
  }

  /** Joins a room: as somebody (`{ id, meta }`), or with `null` only to look on. */
  enter(room, me) {
    this.#channel?.leave();
    this.#me = me;
    const channel = this.#socket.channel(`room:${room}`, () => this.#params());
    const current = (handle) => (...args) => channel === this.#channel && handle(...args);
    const presence = new Presence(channel);
    presence.onSync(current(() => this.#handlers.people(people(presence))));
    for (const event of ["chat", "cursor", "wave"]) {
      channel.on(event, current((payload) => this.#handlers.heard(event, payload ?? {})));
    }
    channel.onError(current(() => this.#lost()));
    this.#channel = channel;
    this.#presence = presence;
    channel
      .join()
      .receive("ok", current(() => this.#live()))
      .receive("error", current((refusal) => this.#refused(refusal)));
  }

  /** Says something to everybody in the room, this tab included. */
  say(event, payload) {
    this.#channel?.push(event, payload);
  }

  /** Changes the status of this device. Said at once, and again with every rejoin. */
  status(status) {
    if (this.#me && this.#me.meta.status !== status) {
      this.#me.meta.status = status;
      this.#channel.push("status", { status });
    }
  }

  /** Changes other fields of this device; an empty text removes the field. */
  patch(fields) {
    if (!this.#me) {
      return;
    }
    const patch = {};
    for (const [field, value] of Object.entries(fields)) {
      patch[field] = value || null;
      this.#me.meta[field] = value || undefined;
    }
    this.#channel.push("presence:update", { patch });
  }

  /** Shows this tab's pointer to the others, no more often than the room can bear. */
  point(payload) {
    this.#pointer.next = payload;
    if (this.#pointer.timer === null) {
      this.#sendPointer();
    }
  }

  #sendPointer() {
    const { next } = this.#pointer;
    this.#pointer = { next: null, timer: null };
    if (!next || this.#channel?.state !== "joined" || !this.#socket.isConnected()) {
      return;
    }
    this.#channel.push("cursor", next);
    const crowded = this.#presence.list().length > CROWD;
    this.#pointer.timer = setTimeout(() => this.#sendPointer(), crowded ? CROWD_CURSOR_INTERVAL_MS : CURSOR_INTERVAL_MS);
  }

  #params() {
    return this.#me ? { user_id: this.#me.id, meta: this.#me.meta } : {};
  }

  #live() {
    this.#wasLive = true;
    this.#handlers.link("live", "Live");
  }

  /** A browser does not say why a WebSocket is refused, but it does for a request to the same address. */
  async #failed() {
    this.#lost();
    if (this.#wasLive || this.#hasAsked) {
      return;
    }
    this.#hasAsked = true;
    const answer = await fetch(`${this.#address}/websocket?vsn=2.0.0`).catch(() => null);
    if (answer?.status === 401) {
      this.#isOver = true;
      this.#socket.disconnect();
      this.#handlers.link("token", "This server wants a token: the demo works in dev mode only");
    }
  }

  #lost() {
    if (this.#isOver) {
      return;
    }
    if (this.#wasLive) {
      this.#handlers.link("reconnecting", "Reconnecting");
    } else {
      this.#handlers.link("connecting", "Connecting");
    }
  }

  #refused(refusal) {
    this.#channel.leave();
    const reason = typeof refusal?.reason === "string" ? refusal.reason : "no reason given";
    this.#handlers.link("refused", `Refused: ${reason}`);
  }

  #logged(kind, message, data) {
    if (kind === "push") {
      this.#handlers.frame("sent", message, data);
    } else if (kind === "receive") {
      this.#handlers.frame("received", message, data);
    }
  }
}
