// The real `herenow` program: built if need be, started on a free port, killed and started again under its clients.

import { execFileSync, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { until } from "./until.js";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const START_MS = 60000;
const STOP_MS = 40000;
const OUTPUT_CHUNKS = 200;

// Below those that the system gives to whoever asks for any port, or connects to somewhere.
const FIRST_PORT = 10000;
const N_PORTS = 22000;

let built = null;
const reserved = [];

/** The program under test: `HERENOW_BIN`, or what cargo builds from this checkout. */
export function binary() {
  built ??= process.env.HERENOW_BIN ?? build();
  return built;
}

function build() {
  execFileSync("cargo", ["build", "--quiet", "-p", "herenow-server"], { cwd: ROOT, stdio: "inherit" });
  const metadata = execFileSync("cargo", ["metadata", "--format-version", "1", "--no-deps"], { cwd: ROOT, maxBuffer: 1 << 26 });
  return path.join(JSON.parse(metadata).target_directory, "debug", "herenow");
}

/** Starts a server and, with a test context, ends it with the test. `args` follow `herenow serve`. */
export async function startServer(context, { args = [], env = {} } = {}) {
  const server = new Server(await reservePort(), args, env);
  context?.after(() => server.stop());
  await server.start();
  return server;
}

export class Server {
  #child = null;
  #output = [];
  #panicked = false;
  #died = null;

  constructor(port, args, env) {
    this.port = port;
    this.args = args;
    this.env = env;
  }

  get http() {
    return `http://127.0.0.1:${this.port}`;
  }

  get ws() {
    return `ws://127.0.0.1:${this.port}/socket`;
  }

  /** The latest that the program wrote, for the message of a failing test. */
  get output() {
    return this.#output.join("");
  }

  async start() {
    const child = spawn(binary(), ["serve", "--listen", `127.0.0.1:${this.port}`, ...this.args], {
      env: { ...foreignEnvironment(), NO_COLOR: "1", ...this.env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#child = child;
    child.once("exit", (code, signal) => {
      if (this.#child === child) {
        this.#died = `herenow ended by itself: ${signal ?? `exit code ${code}`}`;
      }
    });
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => {
        this.#output.push(data.toString());
        this.#output.splice(0, Math.max(0, this.#output.length - OUTPUT_CHUNKS));
        this.#panicked ||= data.includes("panicked at");
      });
    }
    await until(
      () => `herenow answers /healthz\n${this.output}`,
      async () => {
        if (child.exitCode !== null || child.signalCode !== null) {
          throw new Error(`herenow ended with ${child.exitCode ?? child.signalCode}\n${this.output}`);
        }
        return (await fetch(`${this.http}/healthz`).catch(() => null))?.ok;
      },
      START_MS,
    );
  }

  /** Sends a signal that the program lives on with, such as SIGSTOP. */
  signal(signal) {
    this.#child.kill(signal);
  }

  /** Sends a signal and waits for the end; resolves with `{ code, signal }`. */
  async kill(signal = "SIGKILL") {
    const child = this.#child;
    this.#child = null;
    if (!child || child.exitCode !== null || child.signalCode !== null) {
      return { code: child?.exitCode ?? null, signal: child?.signalCode ?? null };
    }
    const ended = once(child, "exit", { signal: AbortSignal.timeout(STOP_MS) });
    child.kill(signal);
    try {
      const [code, how] = await ended;
      return { code, signal: how };
    } catch {
      child.kill("SIGKILL");
      throw new Error(`herenow did not end within ${STOP_MS} ms of ${signal}\n${this.output}`);
    }
  }

  /** The same port, a new life. */
  async restart(signal) {
    const end = await this.kill(signal);
    await this.start();
    return end;
  }

  /** Ends the server, and fails if it panicked or ended before: nothing that a client does may make it. */
  async stop() {
    await this.kill("SIGKILL");
    if (this.#panicked || this.#died) {
      throw new Error(`${this.#died ?? "herenow panicked"}\n${this.output}`);
    }
  }
}

/** The program refuses variables with its own prefix that it does not know, and `HERENOW_BIN` is this harness's. */
function foreignEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("HERENOW_")));
}

/**
 * A port that nobody listens on, and that no other caller on this machine is given before this process ends.
 * Its namesake of UDP, which no test uses, is what is taken: the system gives it back with the process.
 */
export async function reservePort() {
  for (let attempt = 0; attempt < N_PORTS; attempt += 1) {
    const port = FIRST_PORT + ((process.pid * 101 + attempt) % N_PORTS);
    const reservation = createSocket("udp4").unref();
    if ((await binds(reservation, () => reservation.bind({ port, address: "127.0.0.1", exclusive: true }))) && (await isFree(port))) {
      reserved.push(reservation);
      return port;
    }
  }
  throw new Error(`no port from ${FIRST_PORT} to ${FIRST_PORT + N_PORTS - 1} is free`);
}

async function isFree(port) {
  const probe = createServer();
  if (!(await binds(probe, () => probe.listen(port, "127.0.0.1")))) {
    return false;
  }
  probe.close();
  await once(probe, "close");
  return true;
}

async function binds(socket, bind) {
  const listening = once(socket, "listening").then(
    () => true,
    () => false,
  );
  bind();
  return listening;
}
