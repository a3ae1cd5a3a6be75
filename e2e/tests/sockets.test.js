// What only a WebSocket can show: broken connections, draining, binary frames, and the frames byte for byte.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { COMBINATIONS, Client, LIBRARIES, ORIGINAL } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { pause, until } from "../lib/until.js";

const SOCKETS = COMBINATIONS.filter(({ transport }) => transport === "WebSocket");
const V2_SOCKETS = SOCKETS.filter(({ vsn }) => vsn === "2.0.0");

let server;
let rooms = 0;
const topicOf = () => `room:sockets-${(rooms += 1)}`;
before(async () => (server = await startServer(null)));
after(() => server?.stop());

async function withEach(context, combinations, scenario) {
  for (const combination of combinations) {
    await context.test(combination.name, async (inner) => {
      const clients = [];
      inner.after(() => Promise.all(clients.map((client) => client.close())));
      const connect = (options, address = server.ws) => clients[clients.push(new Client(address, combination, options)) - 1];
      await scenario({ connect, topic: topicOf(), combination, inner });
    });
  }
}

const bytes = (...values) => new Uint8Array(values).buffer;
const listOf = (payload) => [...new Uint8Array(payload)];

test("SRV-210 a connection that breaks is a leave, and its client comes back by itself", (context) =>
  withEach(context, SOCKETS, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada" });
    const grace = await connect({ reconnectAfterMs: () => 300 }).join(topic, { user_id: "grace" });
    await ada.sees("ada", "grace");
    const n_events = ada.events.length;
    grace.client.break();
    // What was told, and not what is shown for a moment: a busy machine may look too late.
    await until("ada is told that grace has left", () => ada.events.slice(n_events).some(({ event, payload }) => event === "presence_diff" && payload.leaves.grace));
    await grace.joined(2);
    await ada.sees("ada", "grace");
    await grace.sees("ada", "grace");
  }));

test("SRV-211 a client process that is killed has left", async (context) => {
  const topic = topicOf();
  const ada = new Client(server.ws);
  context.after(() => ada.close());
  const tab = await ada.join(topic, { user_id: "ada" });
  const child = spawn(process.execPath, [fileURLToPath(new URL("../lib/lonely.js", import.meta.url)), server.ws, topic], { stdio: "ignore" });
  context.after(() => child.kill("SIGKILL"));
  await tab.sees("ada", "lonely");
  child.kill("SIGKILL");
  await once(child, "exit");
  await tab.sees("ada");
});

test("SRV-212 a server told to stop drains its clients with 1012, and they find the next one", (context) =>
  withEach(context, SOCKETS, async ({ connect, topic, inner }) => {
    const own = await startServer(inner);
    const ada = await connect({}, own.ws).join(topic, { user_id: "ada" });
    const grace = await connect({}, own.ws).join(topic, { user_id: "grace" });
    await ada.sees("ada", "grace");
    const end = await own.restart("SIGTERM");
    assert.deepEqual(end, { code: 0, signal: null }, "a drained server ends by itself");
    for (const tab of [ada, grace]) {
      assert.equal(tab.client.frames.closes[0], 1012);
      await tab.joined(2);
      await tab.sees("ada", "grace");
    }
  }));

test("SRV-213 binary payloads travel both ways", (context) =>
  withEach(context, V2_SOCKETS, async ({ connect, topic }) => {
    const ada = await connect().join(topic, { user_id: "ada" });
    const grace = await connect().join(topic, { user_id: "grace" });
    const sent = bytes(0, 1, 2, 254, 255);
    const echoed = await ada.push("echo", sent);
    assert.equal(echoed.status, "ok");
    assert.deepEqual(listOf(echoed.response), [0, 1, 2, 254, 255]);

    assert.equal((await ada.push("blob", sent)).status, "ok");
    assert.deepEqual(listOf(await grace.hears("blob")), [0, 1, 2, 254, 255]);
    assert.deepEqual(listOf(await ada.hears("blob")), [0, 1, 2, 254, 255]);
    assert.deepEqual(listOf((await ada.push("echo", bytes())).response), [], "an empty payload is one too");
  }));

test("SRV-214 a binary push over long poll reaches a WebSocket as a binary broadcast", async (context) => {
  for (const library of Object.keys(LIBRARIES)) {
    await context.test(library, async (inner) => {
      const topic = topicOf();
      const poll = new Client(server.ws, { library, transport: "LongPoll", vsn: "2.0.0" });
      const socket = new Client(server.ws, { library, transport: "WebSocket", vsn: "2.0.0" });
      inner.after(() => Promise.all([poll.close(), socket.close()]));
      const reader = await socket.join(topic, { user_id: "reader" });
      const writer = await poll.join(topic, { user_id: "writer" });
      writer.channel.push("blob", bytes(9, 8, 255));
      assert.deepEqual(listOf(await reader.hears("blob")), [9, 8, 255]);
    });
  }
});

test("SRV-215 the last client that spoke vsn 1.0.0 by itself shares a room with the newest", async (context) => {
  const topic = topicOf();
  const newest = new Client(server.ws);
  const old = new ORIGINAL.Socket(server.ws, { transport: WebSocket });
  context.after(() => newest.close());
  context.after(() => {
    old.disconnect();
    // It forgets this one itself, and would keep the process alive with it.
    clearInterval(old.heartbeatTimer);
  });
  const ada = await newest.join(topic, { user_id: "ada", meta: { name: "Ada" } });
  old.connect();
  const channel = old.channel(topic, { user_id: "grace", meta: { name: "Grace" } });
  let presences = {};
  const heard = [];
  channel.on("presence_state", (state) => (presences = ORIGINAL.Presence.syncState(presences, state)));
  channel.on("presence_diff", (diff) => (presences = ORIGINAL.Presence.syncDiff(presences, diff)));
  channel.on("chat", (payload) => heard.push(payload));
  const joined = new Promise((resolve, reject) => channel.join().receive("ok", resolve).receive("error", reject));
  assert.deepEqual(await joined, {});

  await ada.sees("ada", "grace");
  await until("the old client sees both", () => Object.keys(presences).sort().join() === "ada,grace");
  channel.push("status", { status: "away" });
  await until("the newest sees the old one away", () => ada.metas("grace")[0]?.status === "away");
  await ada.push("chat", { text: "good old days" });
  await until("the old one hears the newest", () => heard.length === 1);
  assert.deepEqual(heard, [{ text: "good old days" }]);
  const left = new Promise((resolve) => channel.leave().receive("ok", resolve));
  await left;
  await ada.sees("ada");
});

test("JC-13 a join that is answered is sent once", async (context) => {
  const client = new Client(server.ws, COMBINATIONS[0], { timeout: 10_000 });
  context.after(() => client.close());
  const tab = await client.join(topicOf(), { user_id: "ada" });
  // Longer than the join's own time-out, after which an unanswered join would be sent again.
  await pause(10_500);
  assert.equal(tab.channel.state, "joined");
  assert.equal(client.frames.sent.length, 1);
});

test("JC-34 a refused join hands the reason to the hook", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const refusals = [];
  const channel = client.socket.channel("nowhere:1", {});
  channel.join().receive("error", (response) => refusals.push(response)).receive("ok", () => assert.fail("joined"));
  await until("the refusal", () => refusals.length > 0);
  channel.leave();
  assert.deepEqual(refusals[0], { reason: "unmatched topic" });
});

test("JC-42 phx_error runs the error callbacks with its payload, and the rejoin is let in over the old join", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic, { user_id: "ada" });
  await tab.sees("ada");
  const reasons = [];
  tab.channel.onError((reason) => reasons.push(reason));
  assert.deepEqual(reasons, [], "not before the error");
  const joinRef = tab.channel.joinRef();
  // The built-in channel has no way to crash, so the frame of a crash is put in by hand.
  client.frames.socket.onmessage({ data: JSON.stringify([joinRef, joinRef, topic, "phx_error", { reason: "channel_crash" }]) });
  assert.deepEqual(reasons, [{ reason: "channel_crash" }]);
  await tab.joined(2);
  await until("one presence again", () => tab.metas("ada").length === 1 && tab.presence.inPendingSyncState() === false);
  assert.deepEqual(reasons.length, 1);
});

test("JC-56 a push carries topic, event, payload, join_ref and ref", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic);
  assert.deepEqual((await tab.push("echo", { foo: "bar" })).response, { foo: "bar" });
  const sent = JSON.parse(client.frames.sent.at(-1));
  assert.deepEqual(sent.slice(2), [topic, "echo", { foo: "bar" }]);
  assert.equal(sent[0], tab.channel.joinRef());
  const reply = JSON.parse(client.frames.received.at(-1));
  assert.deepEqual(reply, [sent[0], sent[1], topic, "phx_reply", { status: "ok", response: { foo: "bar" } }]);
});

test("JC-64 leaving sends phx_leave and the server answers it, then closes the channel", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic);
  const joinRef = tab.channel.joinRef();
  await tab.leave();
  const sent = JSON.parse(client.frames.sent.at(-1));
  assert.deepEqual([sent[0], ...sent.slice(2)], [joinRef, topic, "phx_leave", {}]);
  // The client needs no answer to leave, so it may come after the client has done with the channel.
  await until("the close", () => client.frames.received.some((frame) => frame.includes("phx_close")));
  const answers = client.frames.received.slice(-2);
  assert.deepEqual(answers.map((answer) => JSON.parse(answer)), [
    [joinRef, sent[1], topic, "phx_reply", { status: "ok", response: {} }],
    [joinRef, joinRef, topic, "phx_close", {}],
  ]);
});

test("JC-66 a channel that left is closed and gone from its socket", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const other = await client.join(topicOf());
  const tab = await client.join(topicOf());
  await tab.leave();
  assert.equal(tab.channel.state, "closed");
  assert.deepEqual(client.socket.channels, [other.channel]);
});

test("JS-14 connecting opens a WebSocket at the socket's path with vsn", async (context) => {
  const client = new Client(server.ws, COMBINATIONS[0], { params: { user_id: "ada" } });
  context.after(() => client.close());
  const tab = await client.join(topicOf());
  assert.deepEqual(client.frames.urls, [`${server.ws}/websocket?user_id=ada&vsn=2.0.0`]);
  await tab.sees("ada");
});

test("JS-36 a push on an open socket is sent as the encoded message", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  await client.join(topicOf());
  const answers = [];
  client.socket.onMessage((message) => answers.push(message));
  client.socket.push({ topic: "phoenix", event: "heartbeat", payload: {}, ref: "77", join_ref: null });
  assert.equal(client.frames.sent.at(-1), '[null,"77","phoenix","heartbeat",{}]');
  await until("the answer", () => answers.length > 0);
  assert.deepEqual([answers[0].ref, answers[0].topic, answers[0].event, answers[0].payload], ["77", "phoenix", "phx_reply", { status: "ok", response: {} }]);
});

test("JS-41 heartbeats are sent and answered, so the connection stays", async (context) => {
  const client = new Client(server.ws, COMBINATIONS[0], { heartbeatIntervalMs: 60 });
  context.after(() => client.close());
  // The interval is also how long the client waits for an answer, for which a busy machine may need longer.
  const beat = client.socket.sendHeartbeat.bind(client.socket);
  client.socket.sendHeartbeat = () => {
    client.socket.heartbeatIntervalMs = 30_000;
    beat();
    client.socket.heartbeatIntervalMs = 60;
  };
  const beats = () => client.frames.sent.filter((frame) => frame.includes('"heartbeat"'));
  await until("four heartbeats", () => beats().length >= 4);
  assert.match(beats()[0], /^\[null,"\d+","phoenix","heartbeat",\{\}\]$/u);
  assert.equal(client.socket.isConnected(), true);
  assert.equal(client.frames.urls.length, 1, "one connection all along");
});

test("JS-50 a connection lost with 1006 is opened again", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const tab = await client.join(topicOf(), { user_id: "ada" });
  client.break();
  await tab.joined(2);
  assert.deepEqual(client.frames.closes, [1006]);
  assert.equal(client.frames.urls.length, 2);
});

test("JS-52 a connection closed with 1001 is opened again", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const tab = await client.join(topicOf(), { user_id: "ada" });
  // The server has no reason to go away here; the stock client judges by the code alone.
  client.frames.socket.onclose({ code: 1001, wasClean: true });
  client.frames.socket.close(1000);
  await tab.joined(2);
  await tab.sees("ada");
});

test("JS-68 ping tells the round trip to the server", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  await until("open", () => client.socket.isConnected());
  const before = Date.now();
  const trip = await new Promise((resolve) => assert.equal(client.socket.ping(resolve), true));
  assert.ok(trip >= 0 && trip <= Date.now() - before, `${trip} ms`);
});

test("JZ-3 a binary push is encoded as the server reads it", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic);
  await tab.push("echo", bytes(1));
  const frame = Buffer.from(client.frames.sent.at(-1));
  const ref = String(client.socket.ref);
  const joinRef = tab.channel.joinRef();
  const head = Buffer.from([0, joinRef.length, ref.length, topic.length, 4]);
  assert.deepEqual(frame, Buffer.concat([head, Buffer.from(`${joinRef}${ref}${topic}echo`), Buffer.from([1])]));
});

test("JZ-6 a binary reply of the server is decoded with its refs and status", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic);
  const messages = [];
  client.socket.onMessage((message) => messages.push(message));
  const { status, response } = await tab.push("echo", bytes(1, 1));
  assert.deepEqual([status, listOf(response)], ["ok", [1, 1]]);
  const joinRef = tab.channel.joinRef();
  const raw = client.frames.received.at(-1);
  assert.equal(raw[0], 1, "the frame is a reply");
  const { ref } = messages.at(-1);
  const head = Buffer.from([1, joinRef.length, ref.length, topic.length, 2]);
  assert.deepEqual(raw, Buffer.concat([head, Buffer.from(`${joinRef}${ref}${topic}ok`), Buffer.from([1, 1])]));
  assert.equal(messages.at(-1).event, "phx_reply");
  assert.equal(messages.at(-1).join_ref, joinRef);
});

test("JZ-9 a binary broadcast of the server is decoded without refs", async (context) => {
  const client = new Client(server.ws);
  context.after(() => client.close());
  const topic = topicOf();
  const tab = await client.join(topic);
  const messages = [];
  client.socket.onMessage((message) => message.event === "some-event" && messages.push(message));
  tab.channel.push("some-event", bytes(1, 1));
  await until("the broadcast", () => messages.length > 0);
  const [{ join_ref, ref, topic: on, payload }] = messages;
  assert.deepEqual([join_ref, ref, on, listOf(payload)], [null, null, topic, [1, 1]]);
  const raw = client.frames.received.find((frame) => typeof frame !== "string" && frame[0] === 2);
  assert.deepEqual(raw, Buffer.concat([Buffer.from([2, topic.length, 10]), Buffer.from(`${topic}some-event`), Buffer.from([1, 1])]));
});
