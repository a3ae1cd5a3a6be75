// The requests of the stock client's long poll, watched on their way to the real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Client } from "../lib/clients.js";
import { startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

const LONG_POLL = { library: "1.8", transport: "LongPoll", vsn: "2.0.0" };

let server;
let rooms = 0;
let requests = [];
const realFetch = globalThis.fetch;
before(async () => {
  server = await startServer(null);
  globalThis.fetch = watchedFetch;
});
after(async () => {
  globalThis.fetch = realFetch;
  await server?.stop();
});

/** Passes a request on and keeps its method, headers, body and answer. */
async function watchedFetch(url, options) {
  const request = { url: new URL(url), ...options };
  requests.push(request);
  const response = await realFetch(url, options);
  response.clone().json().then((answer) => (request.answer = answer), () => {});
  return response;
}

async function joined(context) {
  requests = [];
  const client = new Client(server.ws, LONG_POLL);
  context.after(() => client.close());
  return client.join(`room:poll-${(rooms += 1)}`, { user_id: "ada" });
}

const sentBy = (method) => requests.filter((request) => request.method === method);
/** Clients up to 1.8 send the token in the address, later ones in a header. */
const tokenOf = (request) => request.headers?.["X-Phoenix-Longpoll-Token"] ?? request.url.searchParams.get("token");

test("JL-7 the token of the first answer comes back with every poll", async (context) => {
  await joined(context);
  const [first, second] = sentBy("GET");
  assert.equal(first.url.pathname, "/socket/longpoll");
  await until("the first answer", () => first.answer);
  assert.deepEqual([first.answer.status, first.answer.messages], [410, []]);
  assert.equal(typeof first.answer.token, "string");
  assert.equal(tokenOf(second), first.answer.token);
  assert.equal(second.headers.Accept, "application/json");

  // The header of later clients is understood as well.
  const answer = await realFetch(`${server.http}/socket/longpoll?vsn=2.0.0`, {
    method: "POST",
    headers: { "X-Phoenix-Longpoll-Token": first.answer.token, "Content-Type": "application/x-ndjson" },
    body: '[null,"99","phoenix","heartbeat",{}]',
  });
  assert.deepEqual(await answer.json(), { status: 200 });
});

test("JL-8 what is sent goes out as a line of JSON with the same token", async (context) => {
  const tab = await joined(context);
  const [post] = sentBy("POST");
  assert.equal(post.headers["Content-Type"], "application/x-ndjson");
  assert.equal(tokenOf(post), sentBy("GET")[0].answer.token);
  const [joinRef, ref, topic, event] = JSON.parse(post.body);
  assert.deepEqual([joinRef, topic, event], [tab.channel.joinRef(), tab.topic, "phx_join"]);
  assert.equal(ref, joinRef);
});

test("JL-10 two messages of one moment are two lines of one request, both answered", async (context) => {
  const tab = await joined(context);
  requests = [];
  const answers = await Promise.all([tab.push("echo", { n: 1 }), tab.push("echo", { n: 2 })]);
  assert.deepEqual(answers.map(({ response }) => response.n), [1, 2]);
  const posts = sentBy("POST");
  assert.equal(posts.length, 1);
  assert.deepEqual(posts[0].body.split("\n").map((line) => JSON.parse(line)[4]), [{ n: 1 }, { n: 2 }]);
});

test("JL-12 150 messages go out as 100 and 50, and all are answered", async (context) => {
  const tab = await joined(context);
  requests = [];
  const answers = await Promise.all(Array.from({ length: 150 }, (_, n) => tab.push("echo", { n })));
  assert.deepEqual(answers.map(({ response }) => response.n), Array.from({ length: 150 }, (_, n) => n));
  assert.deepEqual(sentBy("POST").map((post) => post.body.split("\n").length), [100, 50]);
});

test("SRV-216 messages that wait are delivered in order, whatever the number of polls", async (context) => {
  const tab = await joined(context);
  const other = new Client(server.ws);
  context.after(() => other.close());
  const talker = await other.join(tab.topic);
  for (let n = 0; n < 200; n += 1) {
    talker.channel.push("chat", { n });
  }
  await until("all are heard", () => tab.events.filter((one) => one.event === "chat").length === 200);
  assert.deepEqual(tab.events.filter((one) => one.event === "chat").map((one) => one.payload.n), Array.from({ length: 200 }, (_, n) => n));
});

test("SRV-217 a client that stops polling without a word has left", async (context) => {
  const own = await startServer(context, { args: ["--longpoll-window", "200ms"] });
  const reader = new Client(own.ws);
  const silent = new Client(own.ws, LONG_POLL);
  context.after(() => reader.close());
  const ada = await reader.join("room:silence", { user_id: "ada" });
  await silent.join("room:silence", { user_id: "silent" });
  await ada.sees("ada", "silent");
  await silent.close();
  await ada.sees("ada");
});

test("SRV-218 a server that is killed and comes back gives a polling client a new session", async (context) => {
  const own = await startServer(context);
  const polling = new Client(own.ws, LONG_POLL);
  context.after(() => polling.close());
  const ada = await polling.join("room:again", { user_id: "ada" });
  await ada.sees("ada");
  await own.restart("SIGTERM");
  await ada.joined(2);
  await ada.sees("ada");
  assert.deepEqual((await ada.push("echo", { again: true })).response, { again: true });
});
