// Three nodes with what connects them, and the balancer that their clients know: whoever connects gets a node that is ready.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { Server, reservePort } from "./server.js";
import { until } from "./until.js";

const NAMES = ["a", "b", "c"];
const HEALTH_MS = 25;
const READY_MS = 60000;

/** Starts the engine and its nodes, all with these further arguments, and ends them with the test. */
export async function startCluster(context, engine, further = []) {
  const broker = await startBroker(context, engine);
  const ports = await Promise.all(NAMES.map(reservePort));
  const servers = NAMES.map((name, at) => {
    const args = ["--node", name, "--cluster", engine, ...broker.args, ...further];
    if (engine === "zenoh") {
      args.push("--cluster-listen", zenoh(ports[at]), ...ports.filter((port) => port !== ports[at]).flatMap((port) => ["--peers", zenoh(port)]));
    }
    return args;
  });
  const env = { HERENOW_CLUSTER_SECRET: "the secret of these processes" };
  const nodes = [];
  for (const args of servers) {
    const node = new Server(await reservePort(), args, env);
    context.after(() => node.stop());
    nodes.push(node);
  }
  await Promise.all(nodes.map((node) => node.start()));
  await Promise.all(nodes.map(ready));
  return nodes;
}

const zenoh = (port) => `tcp/127.0.0.1:${port}`;

/** Resolves when the node says that it has the presences of the others. */
export function ready(node) {
  return until(() => `${node.http} is ready\n${node.output}`, () => isReady(node), READY_MS);
}

async function isReady(node) {
  const answer = await fetch(`${node.http}/readyz`).catch(() => null);
  return answer?.status === 200;
}

async function startBroker(context, engine) {
  if (engine === "zenoh") {
    return { args: [] };
  }
  const port = String(await reservePort());
  const [program, args] = {
    nats: ["nats-server", ["-a", "127.0.0.1", "-p", port]],
    redis: ["redis-server", ["--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no"]],
  }[engine];
  const broker = spawn(program, args, { stdio: "ignore" });
  context.after(async () => {
    broker.kill("SIGKILL");
    await once(broker, "exit");
  });
  await Promise.race([
    once(broker, "spawn"),
    once(broker, "error").then(([error]) => {
      throw error;
    }),
  ]);
  await until(`${program} listens`, () => answers(port));
  return { args: [`--${engine}-url`, `${engine}://127.0.0.1:${port}`] };
}

function answers(port) {
  return new Promise((resolve) => {
    const probe = connect(port, "127.0.0.1");
    probe.once("connect", () => resolve(true));
    probe.once("error", () => resolve(false));
    probe.once("connect", () => probe.destroy());
  });
}

/** Passes each connection on to the next node that answers `/readyz` with 200, as load balancers are told to. */
export async function startBalancer(context, nodes) {
  const healthy = new Set();
  const look = async (node) => ((await isReady(node)) ? healthy.add(node) : healthy.delete(node));
  let isOver = false;
  const looking = (async () => {
    while (!isOver) {
      await Promise.all(nodes.map(look));
      await new Promise((resolve) => setTimeout(resolve, HEALTH_MS));
    }
  })();
  let n = 0;
  const open = new Set();
  const balancer = createServer((client) => {
    const ready = nodes.filter((node) => healthy.has(node));
    if (ready.length === 0) {
      client.destroy();
      return;
    }
    const node = connect(ready[(n += 1) % ready.length].port, "127.0.0.1");
    for (const [from, to] of [
      [client, node],
      [node, client],
    ]) {
      open.add(from);
      from.on("error", () => to.destroy());
      from.on("close", () => {
        open.delete(from);
        to.destroy();
      });
      from.pipe(to);
    }
  });
  balancer.listen(0, "127.0.0.1");
  await once(balancer, "listening");
  context.after(async () => {
    isOver = true;
    await looking;
    balancer.close();
    open.forEach((socket) => socket.destroy());
  });
  await until("the balancer has found all nodes", () => healthy.size === nodes.length);
  return `ws://127.0.0.1:${balancer.address().port}/socket`;
}
