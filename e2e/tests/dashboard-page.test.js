// The dashboard's own rules, without a browser: how numbers read, what is news, and that its pictures are there.

import assert from "node:assert/strict";
import { readFile, readdir, stat } from "node:fs/promises";
import { test } from "node:test";
import { dashboardModules } from "../lib/page.js";

const { Memory, ago, bytes, count, counted, inOrder, lasted, nameOf, short, since } = await dashboardModules("format.js", "memory.js", "people.js");

const figures = (uptime, warnings = []) => ({ uptime_ms: uptime, n_sockets: 2, n_lag: 1, warnings });
const outage = (part, name, for_ms, why = "connection refused") => ({ part, name, why, for_ms });
const degraded = (name, ...outages) => ({ ...node(name), figures: { ...figures(1), outages } });
const node = (name, state = "ready", warnings = []) => ({ node: name, state, figures: state === "down" ? null : figures(1, warnings), rates: state === "down" ? null : { messages_in: 1, frames_out: 2, bytes_out: 3 } });
const overview = (nodes, topics = []) => ({ node: "a", n_presences: 3, n_topics: topics.length, joins: 1, leaves: null, nodes, topics, refused: [] });
const warning = (what, last_ms_ago, reason) => ({ what, is_error: false, n: 2, first_ms_ago: 9000, last_ms_ago, fields: reason ? [["reason", reason]] : [] });

test("SRV-816 numbers and times read as people write them, and what is not known is a dash", () => {
  assert.deepEqual([0, 7, 9_999, 12_408].map(count), ["0", "7", "9,999", "12,408"]);
  assert.deepEqual([0, 0.4, 3, 12.6, 9_800, 31_400, 2_400_000, NaN, null, undefined].map(short), ["0", "0.4", "3", "13", "9,800", "31.4k", "2.4M", "–", "–", "–"]);
  assert.deepEqual([0, 840, 3_100_000, 999_999, NaN].map(bytes), ["0 B/s", "840 B/s", "3.1 MB/s", "1.0 MB/s", "–"]);
  assert.deepEqual([-5, 4_000, 60_000, 12_000_000, 86_400_000, 190_000_000, NaN].map(lasted), ["0 s", "4 s", "1 min", "3 h 20 min", "1 d", "2 d 4 h", "–"]);
  assert.deepEqual([ago(300), ago(12_000)], ["just now", "12 s ago"]);
  assert.deepEqual([counted(1, "person", "people"), counted(2, "person", "people"), counted(0, "topic")], ["1 person", "2 people", "0 topics"]);
  assert.deepEqual([{ online_at: "1787345678" }, { online_at: 7 }, { online_at: "soon" }, { online_at: {} }, { online_at: -1 }, null].map(since), [1787345678000, 7000, null, null, null, null]);
  assert.equal(nameOf({ fields: { name: "Ada" }, devices: [{ meta: { name: "other" } }] }), "Ada");
  assert.equal(nameOf({ fields: null, devices: [{ meta: null }, { meta: { name: { toString: null } } }, { meta: { name: " Bob " } }] }), "Bob");
  assert.equal(nameOf({ fields: null, devices: [] }), null);
});

test("SRV-1721 keys are ordered as the server orders them, by code points", () => {
  const ordered = ["", "a", "ab", "b", "\ue000", "\uffee", "\u{1f600}", "\u{1f600}a", "\u{1f601}", "\u{10ffff}"];
  assert.deepEqual([...ordered].reverse().sort(inOrder), ordered);
  for (const key of ordered) {
    assert.equal(inOrder(key, key), 0);
  }
  assert.deepEqual([...ordered].sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other))), ordered);
});

test("SRV-817 what happens to nodes is news once, and a node that said good-bye is remembered for a while", () => {
  const memory = new Memory();
  assert.deepEqual(memory.take(overview([node("a"), node("b")], [["room:1", 2]])), []);
  assert.deepEqual(memory.take(overview([node("a"), node("b", "down")], [["room:1", 3]])), ["Node b is not heard of any more"]);
  assert.deepEqual(memory.take(overview([node("a"), node("b", "down")])), []);
  assert.equal(memory.topics.has("room:1"), false, "what is not shown is not kept");
  assert.deepEqual(memory.take(overview([node("a"), node("b", "draining")])), ["Node b is back"]);
  assert.deepEqual(memory.take(overview([node("a")])), ["Node b has said good-bye"]);
  assert.ok(memory.ghosts.has("b"));
  assert.deepEqual(memory.take(overview([node("a"), node("b"), node("c")])), ["Node b has joined", "Node c has joined"]);
  assert.equal(memory.ghosts.size, 0);
  assert.equal(memory.totals.sockets.now, 6);
  for (let seconds = 0; seconds < 400; seconds += 1) {
    memory.take(overview([node("a")]));
  }
  assert.equal(memory.totals.presences.values.length, 150, "what is kept is bounded");
});

test("SRV-818 warnings of one kind are one, over all nodes, and a new kind is news", () => {
  const memory = new Memory();
  const told = [node("a", "ready", [warning("slow reader closed", 5000), warning("token refused", 100, "expired")]), node("b", "ready", [warning("slow reader closed", 1000), warning("token refused", 9000, "signature")])];
  assert.deepEqual(memory.take(overview(told)), [], "what was there before is no news");
  assert.deepEqual(
    memory.warnings().map(({ what, n, nodes }) => [what, n, nodes.join()]),
    [["token refused", 2, "a"], ["slow reader closed", 4, "a,b"], ["token refused", 2, "b"]],
  );
  const more = [node("a", "ready", [warning("fetch failed", 1)]), told[1]];
  assert.deepEqual(memory.take(overview(more)), ["Warning: fetch failed on node a"]);
  assert.deepEqual(memory.take(overview(more)), []);
});

test("SRV-1310 what is missing is one entry over all nodes, since the first of them, and its beginning and its end are news", () => {
  const memory = new Memory();
  const webhook = outage("webhook", "calls", 5_000);
  assert.deepEqual(memory.take(overview([degraded("a", webhook), node("b")])), [], "what was there before is no news");
  const more = [degraded("a", webhook), degraded("b", outage("webhook", "calls", 60_000), outage("keys", "jwt.jwks_url", 1_000))];
  assert.deepEqual(memory.take(overview(more)), ["Keys of tokens are not fetched"]);
  assert.deepEqual(
    memory.outages().map(({ part, name, since, nodes }) => [part, name, memory.at - since, nodes.join()]),
    [["webhook", "calls", 60_000, "a,b"], ["keys", "jwt.jwks_url", 1_000, "b"]],
  );
  assert.deepEqual(memory.take(overview([degraded("a", outage("mail", "post", 1), outage("certificate", "tls.cert", 1)), node("b", "down")])), ["Node b is not heard of any more", "A new certificate of TLS is not taken", "post is missing", "Over: Webhook calls takes no events", "Over: Keys of tokens are not fetched"]);
  assert.deepEqual(memory.take(overview([node("a")])).filter((news) => news.startsWith("Over")), ["Over: A new certificate of TLS is not taken", "Over: post is missing"]);
  assert.deepEqual(memory.take(overview([degraded("a", outage("engine", "cluster.nats_url", 1), outage("peer", "tcp/127.0.0.1:7448", 1))])), ["No connection to NATS", "Peer tcp/127.0.0.1:7448 is not reached"]);
});

test("SRV-1311 every line of the log that the page explains is one that a node can say", async () => {
  const crates = new URL("../../crates/", import.meta.url);
  const page = await readFile(new URL("herenow-server/assets/dashboard/overview.js", crates), "utf8");
  const [, meanings] = /const MEANINGS = \{\n([^]*?)\n\};/u.exec(page);
  const phrases = [...meanings.matchAll(/^ {2}"([^"]+)":/gmu)].map(([, phrase]) => phrase);
  const files = (await readdir(crates, { recursive: true })).filter((path) => /^[\w-]+\/src\/.*\.rs$/u.test(path));
  const sources = (await Promise.all(files.map((path) => readFile(new URL(path, crates), "utf8")))).join("\n");
  assert.deepEqual(phrases.filter((phrase) => !sources.includes(`"${phrase}"`)), []);
  for (const needed of ["fields not fetched", "fields not fetched several times: their source gets a pause", "webhook fails: events wait", "events for a webhook lost", "connection refused", "API key refused"]) {
    assert.ok(phrases.includes(needed), needed);
  }
});

test("SRV-819 the guide shows a picture of each view, and they are small", async () => {
  const guide = await readFile(new URL("../../docs/dashboard.md", import.meta.url), "utf8");
  const pictures = [...guide.matchAll(/\]\((pictures\/([a-z-]+)\.png)\)/gu)];
  const views = ["overview-light", "overview-dark", "phone", "key", "node-lost", "degraded", "topic", "search", "user", "evict", "connection-lost"];
  assert.deepEqual(pictures.map(([, , name]) => name).sort(), [...views].sort());
  const kept = await readdir(new URL("../../docs/pictures", import.meta.url));
  assert.deepEqual(kept.sort(), views.map((name) => `${name}.png`).sort());
  for (const [, path] of pictures) {
    const { size } = await stat(new URL(`../../docs/${path}`, import.meta.url));
    assert.ok(size > 5_000 && size < 250_000, `${path}: ${size}`);
  }
});
