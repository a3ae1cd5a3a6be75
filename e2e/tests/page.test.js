// The page's own rules, without a browser: names, colours, people and what changed between two lists.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pageModules } from "../lib/page.js";

const { Memory, changes, cleanName, cleanRoom, hue, initials, people, person, roomFromHash } = await pageModules("identity.js", "people.js");

const storage = () => {
  const kept = new Map();
  return { getItem: (key) => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, value), removeItem: (key) => kept.delete(key) };
};
const listed = (entries) => people({ list: (choose) => Object.entries(entries).map(([id, entry]) => choose(id, entry)) });

test("SRV-240 one name is one person in a browser, another name another", () => {
  const memory = new Memory(storage(), storage());
  const ada = memory.remember("Ada");
  assert.equal(memory.remember("  ada "), ada, "letters and blanks make no difference");
  const foreseen = memory.idOf("Grace");
  assert.equal(memory.remember("Grace"), foreseen);
  assert.notEqual(foreseen, ada);
  assert.equal(memory.lastName(), "Grace");
  for (let n = 0; n < 40; n += 1) {
    memory.remember(`person ${n}`);
  }
  assert.equal(memory.knows("Ada"), false, "what is kept is bounded");
  assert.equal(typeof new Memory(null, null).remember("nobody"), "string", "a browser that keeps nothing still works");
});

test("SRV-241 names, rooms and letters are tidied", () => {
  assert.equal(cleanName("  Ada \n  Lovelace "), "Ada Lovelace");
  assert.equal(Array.from(cleanName("🚀".repeat(40))).length, 32);
  assert.deepEqual(["Ada Lovelace", "ada", "", "Ada King Noel"].map(initials), ["AL", "AD", "?", "AN"]);
  assert.deepEqual(["#Lobby", "#a%20b", "", "#%%%", "#Straße 7"].map(roomFromHash), ["lobby", "a-b", "lobby", "lobby", "straße-7"]);
  assert.equal(cleanRoom("a".repeat(99)).length, 40);
  assert.equal(hue("ada"), hue("ada"));
  assert.ok(hue("ada") >= 0 && hue("ada") < 360);
});

test("SRV-242 a person is the sum of the devices, whatever they claim", () => {
  const ada = person("a1", { metas: [{ phx_ref: "x", status: "away", name: "Ada" }, { phx_ref: "y", status: "typing", name: "Ada", note: " tea ", device: "phone", online_at: "7" }] });
  assert.deepEqual([ada.name, ada.status, ada.note, ada.since, ada.devices.length], ["Ada", "typing", "tea", 7, 2]);
  const hostile = person("__proto__", { metas: [{ name: { toString: null }, status: "constructor", note: 7, device: [] }, null] });
  assert.deepEqual([hostile.status, hostile.note, hostile.devices.length], ["online", "", 2]);
  const nameless = person("u1", { metas: [{ name: { toString: null }, phx_ref: {}, online_at: { valueOf: null } }] });
  assert.deepEqual([nameless.name, nameless.devices[0].ref], ["u1", ""]);
  assert.equal(person("u9", {}).name, "u9");
});

test("SRV-243 what changed is told once and in words of people", () => {
  const one = (status) => ({ metas: [{ status }] });
  const two = { metas: [{ status: "online" }, { status: "online" }] };
  const told = (before, after) => changes(listed(before), listed(after)).map(({ what, who }) => `${who.id} ${what}`);
  assert.deepEqual(told({}, { a: one("online") }), ["a arrived"]);
  assert.deepEqual(told({ a: one("online") }, { a: two }), ["a opened"]);
  assert.deepEqual(told({ a: two, b: one("away") }, { a: one("online"), b: one("online") }), ["a closed", "b online"]);
  assert.deepEqual(told({ a: one("online") }, { a: one("typing") }), []);
  assert.deepEqual(told({ a: one("online") }, {}), ["a left"]);
});
