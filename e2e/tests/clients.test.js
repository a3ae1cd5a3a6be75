// The matrix: the newest stock client and 1.7, over WebSocket and long poll, in both protocol versions, under Node.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { COMBINATIONS, Client } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

let server;
let rooms = 0;
before(async () => (server = await startServer(null)));
after(() => server?.stop());

/** Runs one scenario with every stock client, each in a room of its own. */
async function everywhere(context, scenario) {
  for (const combination of COMBINATIONS) {
    await context.test(combination.name, async (inner) => {
      const clients = [];
      const connect = (options) => clients[clients.push(new Client(server.ws, combination, options)) - 1];
      inner.after(() => Promise.all(clients.map((client) => client.close())));
      await scenario({ connect, topic: `room:matrix-${(rooms += 1)}`, combination, clients });
    });
  }
}

test("SRV-200 a stock client joins, gets the state and then the diffs", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada", meta: { name: "Ada" } });
    await ada.sees("ada");
    const [meta] = ada.metas("ada");
    assert.equal(meta.name, "Ada");
    assert.match(meta.online_at, /^\d{10}$/);
    assert.equal(typeof meta.phx_ref, "string");

    const grace = await connect().join(topic, { user_id: "grace", meta: { name: "Grace" } });
    await ada.sees("ada", "grace");
    await grace.sees("ada", "grace");
    assert.equal(grace.events[0].event, "presence_state", "the state comes before any diff");
    assert.ok(ada.events.some((one) => one.event === "presence_diff" && one.payload.joins.grace), "the diff says who came");
    assert.deepEqual(grace.here(), ada.here());
  }));

test("SRV-201 two tabs of one user are one key with two metas", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const desktop = await connect().join(topic, { user_id: "ada", meta: { device: "desktop" } });
    const phone = await connect().join(topic, { user_id: "ada", meta: { device: "phone" } });
    for (const tab of [desktop, phone]) {
      await until("both devices", () => tab.metas("ada").length === 2);
      assert.deepEqual(tab.metas("ada").map((meta) => meta.device), ["desktop", "phone"]);
    }
    await phone.client.close();
    if (phone.client.socket.transport.name === "RecordingWebSocket") {
      await until("one device is left", () => desktop.metas("ada").length === 1);
      assert.equal(desktop.metas("ada")[0].device, "desktop");
    }
  }));

test("SRV-202 updates, patches and the status shorthand reach everybody as one diff each", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada", meta: { status: "online", note: "tea" } });
    const grace = await connect().join(topic, { user_id: "grace" });
    await grace.sees("ada", "grace");
    const first = grace.metas("ada")[0];

    const away = await ada.push("status", { status: "away" });
    assert.equal(away.status, "ok");
    await until("grace sees ada away", () => grace.metas("ada")[0].status === "away");
    const second = grace.metas("ada")[0];
    assert.equal(second.note, "tea");
    assert.equal(second.online_at, first.online_at);
    assert.equal(second.phx_ref_prev, first.phx_ref);
    assert.equal(second.phx_ref, away.response.phx_ref, "the reply tells the new ref");
    const diff = grace.events.findLast((one) => one.event === "presence_diff").payload;
    assert.deepEqual([Object.keys(diff.joins), Object.keys(diff.leaves)], [["ada"], ["ada"]], "one diff, the key in both halves");

    assert.equal((await ada.push("presence:update", { patch: { note: null, mood: "calm" } })).status, "ok");
    await until("the patch", () => grace.metas("ada")[0].mood === "calm");
    assert.equal("note" in grace.metas("ada")[0], false, "null removes a field");
    assert.equal(grace.metas("ada")[0].status, "away", "a patch keeps the others");

    assert.equal((await ada.push("presence:update", { meta: { fresh: true } })).status, "ok");
    await until("the new meta", () => grace.metas("ada")[0].fresh === true);
    assert.equal("mood" in grace.metas("ada")[0], false, "a new meta replaces the old one");
    assert.equal(grace.metas("ada").length, 1);
  }));

test("SRV-203 leaving, and untrack and track without leaving, are seen by the others", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada" });
    const grace = await connect().join(topic, { user_id: "grace" });
    await ada.sees("ada", "grace");

    assert.equal((await grace.push("presence:untrack")).status, "ok");
    await ada.sees("ada");
    assert.equal((await grace.push("presence:track", { meta: { back: true } })).status, "ok");
    await ada.sees("ada", "grace");
    assert.equal(ada.metas("grace")[0].back, true);

    await grace.leave();
    await ada.sees("ada");
  }));

test("SRV-204 an event is broadcast to everybody, its sender included, and echo answers only the sender", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada" });
    const grace = await connect().join(topic, { user_id: "grace" });
    const said = { text: "hello, wörld 🚀", nested: [1, { two: null }] };
    assert.equal((await ada.push("chat", said)).status, "ok");
    assert.deepEqual(await ada.hears("chat"), said);
    assert.deepEqual(await grace.hears("chat"), said);

    assert.deepEqual(await ada.push("echo", said), { status: "ok", response: said });
    await ada.push("chat", { text: "after" });
    assert.deepEqual(await grace.hears("chat", 1), { text: "after" });
    assert.equal(grace.events.some((one) => one.event === "echo"), false);
  }));

test("SRV-205 a topic without a pattern and reserved events are refused by name", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const client = connect();
    const stranger = client.tab("nowhere:1");
    await until("the join is refused", () => stranger.refusal);
    assert.equal(stranger.refusal.reason, "unmatched topic");
    stranger.channel.leave();

    const ada = await client.join(topic, { user_id: "ada" });
    const grace = await connect().join(topic, { user_id: "grace" });
    for (const event of ["presence_state", "presence_diff", "phx_custom", "presence:unknown"]) {
      const { status, response } = await ada.push(event, { forged: true });
      assert.equal(status, "error", event);
      assert.ok(JSON.stringify(response).includes("reserved") || JSON.stringify(response).includes(event), `${event} is answered with a reason: ${JSON.stringify(response)}`);
    }
    await ada.push("chat", { text: "last" });
    await grace.hears("chat");
    assert.equal(grace.events.some((one) => one.payload?.forged), false, "nothing forged arrived");
    assert.ok(grace.here().ada, "the room is as it was");
  }));

test("SRV-206 without a user id a client only looks on", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada" });
    const observer = await connect().join(topic);
    await observer.sees("ada");
    const grace = await connect().join(topic, { user_id: "grace" });
    await observer.sees("ada", "grace");
    await ada.sees("ada", "grace");
    await grace.leave();
    await observer.sees("ada");
  }));

test("SRV-207 a killed server that comes back finds its clients, and the room is whole again", (context) =>
  everywhere(context, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada", meta: { n: 1 } });
    const grace = await connect().join(topic, { user_id: "grace", meta: { n: 2 } });
    const phone = await connect().join(topic, { user_id: "ada", meta: { n: 3 } });
    await ada.sees("ada", "grace");

    await server.restart("SIGKILL");
    for (const tab of [ada, grace, phone]) {
      await tab.joined(2);
    }
    for (const tab of [ada, grace, phone]) {
      await until("everybody is back, with both devices", () => tab.metas("ada").length === 2 && tab.metas("grace").length === 1);
      assert.deepEqual(tab.metas("ada").map((meta) => meta.n).sort(), [1, 3]);
    }
    await grace.leave();
    await ada.sees("ada");
  }));
