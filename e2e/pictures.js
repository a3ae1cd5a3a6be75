// Takes the pictures of docs/dashboard.md: `npm run pictures`, with HERENOW_BIN set or cargo at hand.
//
// Three real nodes with people in them who come and go; nothing is drawn by hand. The tests do not run this.

import { mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { launch, openPage } from "./lib/browser.js";
import { Client } from "./lib/clients.js";
import { startCluster } from "./lib/cluster.js";
import { reservePort, startServer } from "./lib/server.js";
import { pause } from "./lib/until.js";

const FOLDER = fileURLToPath(new URL("../docs/pictures/", import.meta.url));
const KEYS = "grafana:read:readreadreadread,ana:write:writewritewrite1";
const RULES = `[${["room:*", "doc:*", "game:*", "stream:*", "board:*"].map((pattern) => `{ pattern = "${pattern}", presence = true, broadcast = true }`).join(", ")}]`;
const NAMES = ["Ada Lovelace", "Grace Hopper", "Barbara Liskov", "Radia Perlman", "Margaret Hamilton", "Katherine Johnson", "Frances Allen", "Karen Spärck Jones", "Hedy Lamarr", "Annie Easley", "Mary Jackson", "Joan Clarke", "Adele Goldberg", "Lynn Conway", "Jean Bartik", "Evelyn Boyd Granville"];
const TOPICS = ["room:lobby", "doc:quarterly-report", "room:support", "game:chess-4812", "doc:handbook", "room:design", "stream:keynote", "board:roadmap", "room:oncall", "doc:launch-plan"];
const DEVICES = ["phone", "desktop", "tablet"];
const N_CLIENTS = 70;
/** So long the nodes live before the pictures, for lines to have a shape. */
const LIFE_MS = 50_000;

const cleanups = [];
const context = { after: (cleanup) => cleanups.push(cleanup) };
let seed = 7;
const random = (n) => (seed = (seed * 48_271) % 2_147_483_647) % n;
const pick = (list) => list[random(list.length)];

/** Somebody who comes, is in some topics, says something now and then, and goes. */
async function visit(nodes, at) {
  const name = NAMES[at % NAMES.length];
  const key = `${name.split(" ")[0].toLowerCase()}-${1000 + at}`;
  const client = new Client(nodes[random(nodes.length)].ws);
  const meta = { name, device: pick(DEVICES), ...(random(3) === 0 ? { status: "away" } : {}) };
  const tabs = [];
  for (let joins = 0; joins < 1 + random(3); joins += 1) {
    const topic = TOPICS[Math.floor((random(100) / 100) ** 2 * TOPICS.length)];
    if (!tabs.some((tab) => tab.topic === topic)) {
      tabs.push(await client.join(topic, { user_id: key, meta }));
    }
  }
  return { key, tabs, close: () => client.close() };
}

async function live(nodes, people) {
  for (let round = 0; round < LIFE_MS / 250; round += 1) {
    for (let said = 0; said < 2 + random(12); said += 1) {
      pick(pick(people).tabs).channel.push("note", { text: "hello" });
    }
    if (round % 3 === 0) {
      const at = random(people.length);
      await people[at].close();
      people[at] = await visit(nodes, at);
    }
    if (round % 24 === 0) {
      const stranger = new WebSocket(`${pick(nodes).ws}/websocket?vsn=2.0.0`, { origin: "https://elsewhere.example" });
      stranger.on("error", () => {});
    }
    await pause(250);
  }
}

async function take(page, name) {
  await page.screenshot({ path: path.join(FOLDER, `${name}.png`), scale: "css" });
}

async function opened(browser, node, view, options = {}) {
  const inner = await browser.newContext({ viewport: { width: 1280, height: 900 }, colorScheme: "light", ...options });
  await inner.addInitScript(() => sessionStorage.setItem("herenow.key", "writewritewrite1"));
  const page = await openPage(inner, `${node.http}/#/${view}`);
  await page.locator(".person, .topic").first().waitFor();
  return page;
}

/** A node whose receiver of events and source of fields are not there. */
async function degraded(browser) {
  const [hooks, fields] = [await reservePort(), await reservePort()];
  const node = await startServer(context, {
    env: {
      HERENOW_WEBHOOK_URLS: `http://127.0.0.1:${hooks}/`,
      HERENOW_WEBHOOK_SECRET: "a secret of sixteen bytes",
      HERENOW_FETCH_URL: `http://127.0.0.1:${fields}/`,
    },
  });
  const client = new Client(node.ws);
  await client.join("room:lobby", { user_id: "ada-1000", meta: { name: "Ada Lovelace" } });
  const page = await opened(browser, node, "", { viewport: { width: 1280, height: 760 } });
  const list = page.getByRole("region", { name: "Degraded" });
  await list.getByText("Webhook 1 takes no events").waitFor();
  await list.getByText("Fields of fetch.url are not fetched").waitFor();
  await take(page, "degraded");
  await client.close();
}

async function main() {
  await mkdir(FOLDER, { recursive: true });
  const nodes = await startCluster(context, "zenoh", ["--dev", "--topics", RULES, "--api-keys", KEYS]);
  const browser = await launch();
  context.after(() => browser.close());
  const people = [];
  for (let at = 0; at < N_CLIENTS; at += 1) {
    people.push(await visit(nodes, at));
  }
  context.after(() => Promise.all(people.map(({ close }) => close())));
  const [a, b, c] = nodes;
  const light = await opened(browser, a, "");
  const dark = await opened(browser, b, "", { colorScheme: "dark" });
  const topic = await opened(browser, a, `topic/${encodeURIComponent("doc:quarterly-report")}`);
  const phone = await opened(browser, a, "", { viewport: { width: 390, height: 844 }, colorScheme: "dark" });
  await live(nodes, people);
  await take(light, "overview-light");
  await take(dark, "overview-dark");
  await take(topic, "topic");
  await take(phone, "phone");
  const somebody = people.find(({ tabs }) => tabs.length > 1);
  const user = await opened(browser, a, `user/${encodeURIComponent(somebody.key)}`, { viewport: { width: 1280, height: 620 } });
  await take(user, "user");
  await user.getByRole("button", { name: "Evict from everywhere" }).click();
  await take(user, "evict");
  const locked = await browser.newContext({ viewport: { width: 1280, height: 620 } });
  const door = await openPage(locked, a.http);
  await door.locator("#key").fill("not-the-key");
  await door.keyboard.press("Enter");
  await door.getByRole("alert").getByText("no such key").waitFor();
  await take(door, "key");
  await light.fill("#search-text", "doc:");
  await light.getByRole("option").nth(1).waitFor();
  await take(light, "search");
  await light.press("#search-text", "Escape");
  await c.kill("SIGKILL");
  await light.locator(".node-state").getByText(/not heard of/u).waitFor();
  await take(light, "node-lost");
  await a.kill("SIGKILL");
  await light.locator("#stale").waitFor();
  await take(light, "connection-lost");
  await degraded(browser);
}

main()
  .catch((error) => {
    console.error(error);
    process.exitCode = 1;
  })
  .finally(async () => {
    for (const cleanup of cleanups.reverse()) {
      await Promise.resolve(cleanup()).catch(() => {});
    }
    process.exit();
  });
