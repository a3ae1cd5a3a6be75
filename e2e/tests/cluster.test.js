// Three nodes restarted one after the other under the stock clients, for each engine.
//
// The clients know one address, of a balancer that asks `/readyz`. All of them are WebSockets: a poll has to come back to the node
// it began at, which a balancer that only counts connections does not see to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { COMBINATIONS, Client } from "../lib/clients.js";
import { ready, startBalancer, startCluster } from "../lib/cluster.js";
import { until } from "../lib/until.js";

const SOCKETS = COMBINATIONS.filter(({ transport }) => transport === "WebSocket");
/** The pauses are the library's own, as an application has them. */
const STOCK = { reconnectAfterMs: undefined, rejoinAfterMs: undefined };
const N_USERS = 36;
const SETTLED_MS = 60000;

async function rollingRestart(context, engine) {
  const nodes = await startCluster(context, engine);
  const address = await startBalancer(context, nodes);
  const topic = "room:rolling";
  let n = 0;
  const tabs = new Map();
  const arrive = async () => {
    const user = `user-${(n += 1)}`;
    const client = new Client(address, SOCKETS[n % SOCKETS.length], STOCK);
    context.after(() => client.close());
    tabs.set(user, await client.join(topic, { user_id: user }));
  };
  const leave = async () => {
    const [user, tab] = tabs.entries().next().value;
    tabs.delete(user);
    await tab.client.close();
  };
  const wrong = () => {
    const alive = [...tabs.keys()].sort().join();
    return [...tabs].filter(([, tab]) => Object.keys(tab.here()).sort().join() !== alive);
  };
  const settled = () =>
    until(
      () => `all ${tabs.size} lists are right; ${wrong().map(([user, tab]) => `${user} sees ${Object.keys(tab.here()).length}`)}`,
      () => wrong().length === 0,
      SETTLED_MS,
    );

  await Promise.all(Array.from({ length: N_USERS }, arrive));
  await settled();
  for (const node of nodes) {
    assert.deepEqual(await node.kill("SIGTERM"), { code: 0, signal: null }, node.output);
    await Promise.all([leave(), arrive()]);
    await node.start();
    await ready(node);
  }
  const restarted = performance.now();
  // A list is as it was while its client is not joined: somebody new shows that it is alive.
  await arrive();
  await settled();
  context.diagnostic(`every list was right ${Math.round(performance.now() - restarted)} ms after the last restart`);
  for (const tab of tabs.values()) {
    assert.ok(tab.joins >= 1 && tab.refusal === null);
  }
  // A node is ready when it has the others' presences; that they have heard of it may follow.
  for (const node of nodes) {
    let rows = [];
    await until(
      () => `${node.http} knows one life of each node, with ${tabs.size} presences: ${JSON.stringify(rows)}`,
      async () => {
        const status = await (await fetch(`${node.http}/api/cluster`)).json();
        rows = status.nodes.map((one) => [one.node, one.n_rows]);
        return rows.length === 3 && rows.reduce((sum, [, n]) => sum + n, 0) === tabs.size;
      },
      SETTLED_MS,
    );
  }
}

test("SRV-545 a rolling restart with zenoh loses no stock client", (context) => rollingRestart(context, "zenoh"));

test("SRV-545 a rolling restart with NATS loses no stock client", (context) => rollingRestart(context, "nats"));

test("SRV-545 a rolling restart with Redis loses no stock client", (context) => rollingRestart(context, "redis"));
