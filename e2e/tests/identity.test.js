// Tokens as the stock clients present them: in a parameter, in the sub-protocol of Phoenix 1.8, and new ones for old.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { after, before, test } from "node:test";
import { COMBINATIONS, Client, LIBRARIES } from "../lib/clients.js";
import { binary, startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

const ENV = { HERENOW_JWT_SECRET: "the secret of the end-to-end tests", HERENOW_JWT_LEEWAY: "0s" };
const WITH_AUTH_TOKEN = COMBINATIONS.filter(({ library }) => library === "1.8");

let server;
let rooms = 0;
const topicOf = () => `room:identity-${(rooms += 1)}`;
before(async () => (server = await startServer(null, { env: ENV })));
after(() => server?.stop());

/** A token as the program makes it for trying. */
function token(...args) {
  return execFileSync(binary(), ["token", ...args], { env: { PATH: process.env.PATH, ...ENV }, encoding: "utf8" }).trim();
}

async function withEach(context, combinations, scenario) {
  for (const combination of combinations) {
    await context.test(combination.name, async (inner) => {
      const connect = (options) => {
        const client = new Client(server.ws, combination, options);
        inner.after(() => client.close());
        return client;
      };
      await scenario({ connect, topic: topicOf() });
    });
  }
}

test("SRV-622 every stock client is who its parameter token says", (context) => {
  const params = { token: token("--sub", "ada", "--topics", "room:*") };
  return withEach(context, COMBINATIONS, async ({ connect, topic }) => {
    const ada = await connect({ params }).join(topic);
    await ada.sees("ada");
    const other = connect({ params }).tab(topic, { user_id: "grace" });
    await until("being someone else is refused", () => other.refusal);
    assert.match(other.refusal.reason, /^user_id is another user than the token's/);
    const elsewhere = connect({ params }).tab("bench:1");
    await until("a topic that the token lacks is refused", () => elsewhere.refusal);
    assert.deepEqual(elsewhere.refusal, { reason: "unmatched topic" });
  });
});

test("SRV-624 the authToken of phoenix 1.8 is the token, over both transports", (context) => {
  const authToken = token("--sub", "ada");
  return withEach(context, WITH_AUTH_TOKEN, async ({ connect, topic }) => {
    const ada = await connect({ authToken }).join(topic);
    await ada.sees("ada");
  });
});

test("SRV-625 a client without a good token gets no socket, and hears of it", (context) =>
  withEach(context, COMBINATIONS, async ({ connect, topic }) => {
    for (const params of [{}, { token: `${token("--sub", "ada")}x` }]) {
      const client = connect({ params });
      let errors = 0;
      client.socket.onError(() => (errors += 1));
      const tab = client.tab(topic);
      await until("an error", () => errors > 0);
      assert.equal(tab.joins, 0);
    }
  }));

test("SRV-649 when a token ends, the client comes back with the next one by itself", async (context) => {
  for (const library of Object.keys(LIBRARIES)) {
    await context.test(`phoenix ${library}`, async (inner) => {
      const next = token("--sub", "ada");
      const first = token("--sub", "ada", "--ttl", "15s");
      const clients = COMBINATIONS.filter((one) => one.library === library).map((combination) => {
        let isAsked = false;
        const params = () => ({ token: isAsked ? next : ((isAsked = true), first) });
        const client = new Client(server.ws, combination, { params });
        inner.after(() => client.close());
        return { client, combination };
      });
      const topic = topicOf();
      const tabs = await Promise.all(clients.map(({ client }) => client.join(topic)));
      // Who asks for parameters again does so because the connection has ended.
      await Promise.all(tabs.map((tab) => tab.joined(2)));
      for (const [at, { client, combination }] of clients.entries()) {
        await tabs[at].sees("ada");
        if (combination.transport === "WebSocket") {
          assert.equal(client.frames.closes[0], 4401);
          assert.deepEqual(await tabs[at].hears("phx_error"), { reason: "token_expired" });
        }
      }
    });
  }
});

test("SRV-641 a new token pushed on a channel keeps the connection", async (context) => {
  const long = token("--sub", "ada");
  const short = { token: token("--sub", "ada", "--ttl", "15s") };
  const start = (combination, options) => {
    const client = new Client(server.ws, combination, { params: short, ...options });
    context.after(() => client.close());
    return client;
  };
  const renewed = WITH_AUTH_TOKEN.map((combination) => start(combination));
  const forgotten = start(WITH_AUTH_TOKEN[0], { reconnectAfterMs: () => 60_000 });
  const topic = topicOf();
  const tabs = await Promise.all([...renewed, forgotten].map((client) => client.join(topic)));
  for (const tab of tabs.slice(0, -1)) {
    const { status, response } = await tab.push("access_token", { access_token: long });
    assert.equal(status, "ok");
    assert.ok(response.expires_at > Date.now() / 1000 + 3000);
  }
  await until("the other connection ends", () => !forgotten.socket.isConnected());
  for (const tab of tabs.slice(0, -1)) {
    assert.equal((await tab.push("echo")).status, "ok");
    assert.equal(tab.joins, 1);
  }
});
