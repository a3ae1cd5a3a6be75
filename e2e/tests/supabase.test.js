// Supabase's own clients, unmodified: realtime-js (newest, in both protocol versions, and 2.15) and Python's realtime.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { binary, startServer } from "../lib/server.js";
import { CLIENTS, DEADLINE_MS, JsPerson, PyPerson } from "../lib/supabase.js";
import { until } from "../lib/until.js";

const SECRET = "the secret of the end-to-end tests";
const PUBLISHABLE = "sb_publishable_of_the_tests";
const ENV = { HERENOW_JWT_SECRET: SECRET, HERENOW_JWT_LEEWAY: "0s", HERENOW_SUPABASE_PUBLISHABLE_KEYS: PUBLISHABLE };
const [NEWEST] = CLIENTS;
const ARTIFACTS = new URL("../artifacts/", import.meta.url);

let server;
let strict;
let rooms = 0;
const nameOf = () => `supabase:${(rooms += 1)}`;
before(async () => ([server, strict] = await Promise.all([startServer(null), startServer(null, { env: ENV })])));
after(() => Promise.all([server?.stop(), strict?.stop()]));

/** Runs one scenario with every JavaScript client, each in a room of its own. */
async function withEach(context, scenario, clients = CLIENTS) {
  for (const client of clients) {
    await context.test(client.name, (inner) => scenario(inner, client, nameOf()));
  }
}

/** A token as the program makes it for trying. */
async function token(...args) {
  const { stdout } = await promisify(execFile)(binary(), ["token", ...args], { env: { PATH: process.env.PATH, ...ENV } });
  return stdout.trim();
}

const named = (key) => ({ presence: { key, enabled: true } });

test("SRV-1640 JavaScript and Python in one channel see each other come, change and go", (context) =>
  withEach(context, async (inner, client, name) => {
    const ada = new JsPerson(inner, server, client);
    const guido = new PyPerson(inner, server);
    assert.equal(await ada.join(name, named("ada")), "SUBSCRIBED");
    assert.equal(await ada.track({ from: "JavaScript" }), "ok");
    assert.equal(await guido.join(name, named("guido")), "SUBSCRIBED");
    await guido.sees({ ada: [{ from: "JavaScript" }] });
    await guido.track({ from: "Python" });
    for (const person of [ada, guido]) {
      await person.sees({ ada: [{ from: "JavaScript" }], guido: [{ from: "Python" }] });
    }
    await ada.track({ from: "JavaScript", is: "away" });
    await guido.track({ from: "Python", is: "away" });
    for (const person of [ada, guido]) {
      await person.sees({ ada: [{ from: "JavaScript", is: "away" }], guido: [{ from: "Python", is: "away" }] });
    }
    await guido.untrack();
    await ada.sees({ ada: [{ from: "JavaScript", is: "away" }] });
    await ada.leave();
    await guido.sees({});
  }));

test("SRV-1641 JavaScript and Python hear each other's broadcasts", (context) =>
  withEach(context, async (inner, client, name) => {
    const ada = new JsPerson(inner, server, client);
    const guido = new PyPerson(inner, server);
    await ada.join(name, { broadcast: { ack: true, self: true } });
    await guido.join(name, { broadcast: { ack: false, self: false } });
    assert.equal(await ada.send({ n: 1, text: "é🚀" }), "ok");
    await guido.send({ n: 2 });
    for (const [person, n] of [
      [ada, 1],
      [guido, 1],
      [ada, 2],
    ]) {
      const note = await person.hears((payload) => payload.n === n);
      assert.equal(note.event, "note");
    }
    assert.deepEqual(guido.notes[0].payload, { n: 1, text: "é🚀" });
    // What Python sends later comes after what it would have heard of itself.
    await ada.send({ n: 3 });
    await guido.hears((payload) => payload.n === 3);
    assert.deepEqual(guido.notes.map((note) => note.payload.n), [1, 3]);
  }));

test("SRV-1642 a room is as it was after its server was stopped or killed, and came back", async (context) => {
  for (const signal of ["SIGTERM", "SIGKILL"]) {
    await context.test(signal, async (inner) => {
      const own = await startServer(inner);
      const people = CLIENTS.map((client) => new JsPerson(inner, own, client));
      people.push(new PyPerson(inner, own));
      const everybody = Object.fromEntries(people.map((_, at) => [`person-${at}`, [{ at }]]));
      await Promise.all(people.map((person, at) => person.join("room", named(`person-${at}`), { at })));
      await Promise.all(people.map((person) => person.sees(everybody)));
      await own.restart(signal);
      await Promise.all(people.map((person) => person.reaches("SUBSCRIBED", 1)));
      await Promise.all(people.map((person) => person.sees(everybody)));
      await people[0].send({ after: signal });
      await Promise.all(people.slice(1).map((person) => person.hears((payload) => payload.after === signal)));
    });
  }
});

test("SRV-1643 bytes go between clients that have them, and to no other", async (context) => {
  const name = nameOf();
  const [ada, grace, old] = [NEWEST, NEWEST, CLIENTS[2]].map((client) => new JsPerson(context, server, client));
  const guido = new PyPerson(context, server);
  const config = { broadcast: { ack: true, self: false } };
  await Promise.all([ada, grace, old, guido].map((person) => person.join(name, config)));
  assert.equal(await ada.send(new Uint8Array([1, 2, 255]).buffer), "ok");
  const note = await grace.hears((payload) => payload instanceof ArrayBuffer);
  assert.deepEqual([...new Uint8Array(note.payload)], [1, 2, 255]);
  assert.equal(await ada.send({ last: true }), "ok");
  for (const person of [old, guido]) {
    await person.hears((payload) => payload.last);
    assert.equal(person.notes.length, 1);
  }
});

test("SRV-1644 broadcasts over HTTP reach every client", async (context) => {
  const name = nameOf();
  const people = CLIENTS.map((client) => new JsPerson(context, server, client));
  const guido = new PyPerson(context, server);
  people.push(guido);
  await Promise.all(people.map((person) => person.join(name, { broadcast: { self: true } })));
  const outside = new JsPerson(context, server, NEWEST);
  outside.open(name);
  assert.deepEqual(await outside.channel.httpSend("note", { n: 1 }), { success: true });
  await guido.httpSend({ n: 2 });
  // A channel that is not joined sends over HTTP by itself.
  assert.equal(await outside.send({ n: 3 }), "ok");
  for (const person of people) {
    for (const n of [1, 2, 3]) {
      await person.hears((payload) => payload.n === n);
    }
  }
});

test("SRV-1645 with tokens, private channels are for those whose token names them, by its sub", (context) =>
  withEach(context, async (inner, client, name) => {
    const ada = new JsPerson(inner, strict, client, { key: PUBLISHABLE });
    await ada.auth(await token("--sub", "ada", "--topics", name));
    assert.equal(await ada.join(name, { private: true, presence: { key: "ada", enabled: true } }), "SUBSCRIBED");
    await ada.track({ from: "JavaScript" });
    const guido = new PyPerson(inner, strict, { key: await token("--sub", "guido", "--topics", name) });
    assert.equal(await guido.join(name, { private: true, presence: { key: "", enabled: true } }, { from: "Python" }), "SUBSCRIBED");
    for (const person of [ada, guido]) {
      await person.sees({ ada: [{ from: "JavaScript" }], guido: [{ from: "Python" }] });
    }
    const others = [
      [new JsPerson(inner, strict, client, { key: PUBLISHABLE }), PUBLISHABLE],
      [new JsPerson(inner, strict, client, { key: PUBLISHABLE }), await token("--sub", "eve")],
      [new PyPerson(inner, strict, { key: await token("--sub", "eve", "--topics", "elsewhere") }), null],
    ];
    for (const [eve, auth] of others) {
      if (auth) {
        await eve.auth(auth);
      }
      assert.equal(await eve.join(name, { private: true }), "CHANNEL_ERROR");
      assert.match(eve.statuses[0].error, new RegExp(`Unauthorized: You do not have permissions to read from this Channel topic: ${name}`));
    }
    const mallory = new JsPerson(inner, strict, client, { key: PUBLISHABLE });
    assert.equal(await mallory.join(name, named("ada")), "CHANNEL_ERROR");
    assert.match(mallory.statuses[0].error, /presence.key must be the sub of the token/);
  }));

test("SRV-1646 a renewed token keeps a channel, and one that ends closes it with a word", async (context) => {
  const name = nameOf();
  const make = (sub, ...more) => token("--sub", sub, "--topics", name, ...more);
  const people = CLIENTS.flatMap((client) => [0, 1].map(() => new JsPerson(context, strict, client, { key: PUBLISHABLE })));
  // Long enough for everybody to join by it, also on a busy machine.
  const short = await Promise.all([...people, "guido"].map((_, at) => make(`person-${at}`, "--ttl", "15s")));
  const guido = new PyPerson(context, strict, { key: short.at(-1) });
  await Promise.all(people.map((person, at) => person.auth(short[at])));
  const config = { private: true, presence: { key: "", enabled: true } };
  await Promise.all([...people, guido].map((person) => person.join(name, config)));
  const [kept, ended] = [0, 1].map((rest) => people.filter((_, at) => at % 2 === rest));
  await Promise.all(kept.map(async (person, at) => person.auth(await make(`person-${2 * at}`))));
  await guido.auth(await make(`person-${people.length}`));
  for (const person of ended) {
    const system = await person.told();
    assert.match(system.message, /^Token has expired \d+ seconds ago$/);
    await person.reaches("CLOSED");
  }
  for (const person of kept) {
    assert.equal(await person.track({ still: "here" }), "ok");
  }
  await guido.sees(Object.fromEntries(kept.map((_, at) => [`person-${2 * at}`, [{ still: "here" }]])));
  for (const person of [...kept, guido]) {
    assert.deepEqual(person.systems, []);
  }
});

test("SRV-1647 who cannot connect is told why, and comes in with a good key", async (context) => {
  const answer = await fetch(`${strict.http}/realtime/v1/websocket?apikey=nonsense&vsn=2.0.0`);
  assert.equal(answer.status, 401);
  assert.deepEqual(await answer.json(), { error: "The token provided is not a valid JWT" });
  // The newest client asks a function for the token.
  const ada = new JsPerson(context, strict, NEWEST, { key: PUBLISHABLE, accessToken: () => token("--sub", "ada") });
  await ada.auth();
  assert.equal(await ada.join(nameOf(), { presence: { key: "", enabled: true } }), "SUBSCRIBED");
  await ada.track({});
  await ada.sees({ ada: [{}] });
});

test("SRV-1648 the programs of docs/supabase.md run as they stand and meet", async (context) => {
  const guide = await readFile(new URL("../../docs/supabase.md", import.meta.url), "utf8");
  const [script] = /^import [^]*?(?=^```)/m.exec(guide.split("```js\n")[1]);
  const [program] = /^import [^]*?(?=^```)/m.exec(guide.split("```python\n")[1]);
  // Here the modules of e2e are found.
  await mkdir(ARTIFACTS, { recursive: true });
  await writeFile(new URL("ada.mjs", ARTIFACTS), script);
  const env = { ...process.env, HERENOW: server.http };
  const ada = start(context, process.execPath, [fileURLToPath(new URL("ada.mjs", ARTIFACTS))], env);
  await until(() => `ada is here\n${ada.output}`, () => ada.output.includes("here: ada\n"), DEADLINE_MS);
  const guido = start(context, process.env.PYTHON, ["-c", program], env);
  await until(() => `both see both\n${ada.output}${guido.output}`, () => [ada, guido].every((one) => one.output.includes("here: ada, guido\n")), DEADLINE_MS);
  await until(() => `the note\n${ada.output}`, () => ada.output.includes("note: hello from Python\n"), DEADLINE_MS);
});

function start(context, command, args, env) {
  const child = spawn(command, args, { env });
  const program = { output: "" };
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (data) => (program.output += data));
  }
  context.after(async () => {
    const ended = once(child, "exit");
    if (child.exitCode === null && child.signalCode === null && child.kill("SIGKILL")) {
      await ended;
    }
  });
  return program;
}
