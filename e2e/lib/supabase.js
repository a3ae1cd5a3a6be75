// People whose clients are Supabase's own, in JavaScript and in Python, with one face for both.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { until } from "./until.js";

const newest = await import("@supabase/realtime-js");
const older = await import("realtime-js-2.15");

/** Where the dialect is, below the server's own address. */
export const MOUNT = "/realtime/v1";
/** Every JavaScript client that is tried: library and protocol version. */
export const CLIENTS = [
  { name: "realtime-js newest, vsn 2.0.0", library: newest, options: {} },
  { name: "realtime-js newest, vsn 1.0.0", library: newest, options: { vsn: "1.0.0" } },
  { name: "realtime-js 2.15", library: older, options: {} },
];
/** CI machines are busy. */
export const DEADLINE_MS = 30000;
const PERSON = fileURLToPath(new URL("../python/person.py", import.meta.url));

/** What a person has seen of a room, and how to wait for more of it. */
class Watcher {
  constructor() {
    this.state = {};
    this.notes = [];
    this.systems = [];
    this.statuses = [];
  }

  /** Metas by key, without their refs. */
  here() {
    const bare = ({ presence_ref, ...meta }) => meta;
    return Object.fromEntries(Object.entries(this.state).map(([key, metas]) => [key, metas.map(bare)]));
  }

  /** Resolves when exactly these are here, each with these metas: `{ ada: [{ … }] }`. */
  async sees(wanted) {
    const text = canonical(wanted);
    await until(() => `${text}, not ${canonical(this.here())}; ${JSON.stringify(this.statuses)}`, () => canonical(this.here()) === text, DEADLINE_MS);
  }

  /** Resolves with the payload of the note that fits. */
  hears(fits) {
    return until(() => `a note; heard ${JSON.stringify(this.notes)}`, () => this.notes.find((note) => fits(note.payload)), DEADLINE_MS);
  }

  /** Resolves with the first report of this status after `from` of it. */
  async reaches(status, from = 0) {
    const reports = () => this.statuses.filter((one) => one.status === status);
    await until(() => `${status} ${from + 1} times, not ${JSON.stringify(this.statuses)}`, () => reports().length > from, DEADLINE_MS);
    return reports()[from];
  }

  told() {
    return until(() => `a system message; ${JSON.stringify(this.statuses)}`, () => this.systems[0], DEADLINE_MS);
  }
}

function canonical(value) {
  const sorted = (_, one) => (one && typeof one === "object" && !Array.isArray(one) ? Object.fromEntries(Object.entries(one).sort(([a], [b]) => (a < b ? -1 : 1))) : one);
  return JSON.stringify(value, sorted);
}

/** A person with a JavaScript client. */
export class JsPerson extends Watcher {
  constructor(context, server, client, { key = "any key at all", ...options } = {}) {
    super();
    this.client = new client.library.RealtimeClient(`${server.http}${MOUNT}`, {
      params: { apikey: key },
      transport: WebSocket,
      reconnectAfterMs: () => 50,
      ...client.options,
      ...options,
    });
    context.after(async () => {
      // A channel that is left open would join again, and so connect again.
      await this.client.removeAllChannels();
      await this.client.disconnect();
    });
  }

  /** Joins, is present with `meta` after each join if it is given, and resolves with the first report. */
  async join(name, config = {}, meta = null) {
    const channel = this.open(name, config);
    const reported = new Promise((resolve) => {
      channel.subscribe((status, error) => {
        this.statuses.push({ status, error: error?.message });
        if (status === "SUBSCRIBED" && meta) {
          channel.track(meta);
        }
        resolve(status);
      });
    });
    return reported;
  }

  /** A channel that is not joined yet. */
  open(name, config = {}) {
    this.channel = this.client.channel(name, { config });
    return this.channel
      .on("presence", { event: "sync" }, () => (this.state = structuredClone(this.channel.presenceState())))
      .on("broadcast", { event: "note" }, (note) => this.notes.push(note))
      .on("system", {}, (payload) => this.systems.push(payload));
  }

  track(meta) {
    return this.channel.track(meta);
  }

  untrack() {
    return this.channel.untrack();
  }

  send(payload) {
    return this.channel.send({ type: "broadcast", event: "note", payload });
  }

  auth(token) {
    return this.client.setAuth(token);
  }

  leave() {
    return this.channel.unsubscribe();
  }
}

/** A person with the Python client, in a process of its own. */
export class PyPerson extends Watcher {
  #child;
  #answers = new Map();
  #errors = [];
  #last = 0;

  constructor(context, server, { key = "any key at all" } = {}) {
    super();
    const python = process.env.PYTHON;
    if (!python) {
      throw new Error("PYTHON must name a Python that has e2e/python/requirements.txt; `cargo xtask e2e` sees to that");
    }
    this.#child = spawn(python, ["-u", PERSON, `${server.http}${MOUNT}`, key], { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stderr.on("data", (data) => this.#errors.push(data.toString()));
    this.#child.stdin.on("error", () => {}); // It has ended; whoever waits for it is told.
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#take(JSON.parse(line)));
    context.after(async () => {
      if (this.#child.exitCode === null && this.#child.signalCode === null) {
        const ended = once(this.#child, "exit");
        this.#child.kill("SIGKILL");
        await ended;
      }
    });
  }

  #take(line) {
    if (line.id) {
      this.#answers.set(line.id, line);
    } else if (line.on === "presence") {
      this.state = line.state;
    } else if (line.on === "broadcast") {
      this.notes.push(line.payload);
    } else if (line.on === "system") {
      this.systems.push(line.payload);
    } else {
      this.statuses.push(line);
    }
  }

  async #do(command, fields = {}) {
    const id = (this.#last += 1);
    this.#child.stdin.write(`${JSON.stringify({ id, do: command, ...fields })}\n`);
    const answer = await until(() => `Python's answer to ${command}\n${this.#errors.join("")}`, () => this.#answers.get(id), DEADLINE_MS);
    if (answer.error) {
      throw new Error(`${command}: ${answer.error}\n${this.#errors.join("")}`);
    }
  }

  /** Joins, is present with `meta` after each join if it is given, and resolves with the first report. */
  async join(name, config = {}, meta = null) {
    await this.#do("join", { name, config, meta });
    return this.statuses[0].status;
  }

  track(meta) {
    return this.#do("track", { meta });
  }

  untrack() {
    return this.#do("untrack");
  }

  send(payload) {
    return this.#do("send", { payload });
  }

  httpSend(payload) {
    return this.#do("http_send", { payload });
  }

  auth(token) {
    return this.#do("auth", { token });
  }

  leave() {
    return this.#do("leave");
  }
}
