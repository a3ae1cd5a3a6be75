// The dashboard as an operator uses it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { launch, screenshot } from "../lib/browser.js";
import { ready, startCluster } from "../lib/cluster.js";
import { live, operator, person } from "../lib/operator.js";
import { reservePort, startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

const KEYS = "looker:read:readreadreadread,acting:write:writewritewrite1";
const VIEWS = ["", "topic/room%3Aviews", "user/ada"];
/** CI machines are busy. */
const PATIENT = { timeout: 30_000 };

let server;
let browser;
let topics = 0;
before(async () => {
  server = await startServer(null);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const newTopic = () => `room:dash-${(topics += 1)}`;
const row = (page, topic) => page.locator(".topic").filter({ has: page.getByText(topic, { exact: true }) });
const one = (page, key) => page.locator(".person").filter({ has: page.getByText(key, { exact: true }) });
/** The answer to an eviction comes beside the news of it, in any order. */
const noDialog = (page) => page.locator("dialog[open]").waitFor({ state: "detached", ...PATIENT });
const focused = (page) => page.evaluate(() => ({ id: document.activeElement.id, text: document.activeElement.textContent, name: document.activeElement.ariaLabel }));

test("SRV-800 the overview shows the node, its clients, and topics by size, and follows them", async (context) => {
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await live(page);
  const topic = newTopic();
  const first = await person(context, server, topic, "ada");
  await person(context, server, topic, "grace");
  await row(page, topic).locator(".topic-count").getByText("2", { exact: true }).waitFor(PATIENT);
  await page.locator('.node[data-state="ready"]').getByText("ready", { exact: true }).waitFor(PATIENT);
  await page.locator("main").getByText("Nothing was warned of in the last 15 minutes.").waitFor(PATIENT);
  await page.waitForFunction(() => document.querySelector(".hero-main .spark-line").getAttribute("d").includes("L"), null, PATIENT);
  await page.waitForFunction(() => /\/s$/u.test([...document.querySelectorAll(".tile dd b")][2].textContent), null, PATIENT);
  await first.close();
  await row(page, topic).locator(".topic-count").getByText("1", { exact: true }).waitFor(PATIENT);
  assert.match(await page.title(), /^[\d,]+ present · herenow$/u);
  isClean();
});

test("SRV-801 a topic shows who is here, on which devices, since when, from which node, and who comes and goes", async (context) => {
  const topic = newTopic();
  const ada = await person(context, server, topic, "ada", { name: "Ada Lovelace", device: "phone" });
  await person(context, server, topic, "ada", { device: "desktop" });
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await row(page, topic).getByRole("link").click(PATIENT);
  await page.getByRole("heading", { name: topic }).waitFor(PATIENT);
  await page.locator("main").getByText("1 person here, on 2 devices").waitFor(PATIENT);
  const devices = page.locator(".person").filter({ hasText: "Ada Lovelace" }).locator(".device");
  assert.equal(await devices.count(), 2);
  await devices.filter({ hasText: "phone" }).filter({ hasText: "local" }).filter({ hasText: /for (a moment|\d+ s)/u }).waitFor(PATIENT);
  const grace = await person(context, server, topic, "grace");
  await page.locator('.event[data-what="joined"]').filter({ hasText: "grace joined" }).waitFor(PATIENT);
  await one(page, "grace").waitFor(PATIENT);
  await ada.close();
  await page.locator('.event[data-what="left"]').filter({ hasText: "ada left with one device" }).waitFor(PATIENT);
  await grace.close();
  await page.locator('.event[data-what="left"]').filter({ hasText: /grace left/u }).waitFor(PATIENT);
  await one(page, "grace").waitFor({ state: "detached", ...PATIENT });
  await page.locator("main").getByText("1 person here, on 1 device").waitFor(PATIENT);
  await page.goBack();
  await page.getByRole("heading", { name: "Topics by size" }).waitFor(PATIENT);
  isClean();
});

test("SRV-802 a topic that nobody is in says so, and shows the first who comes", async (context) => {
  const topic = newTopic();
  const { open, isClean } = await operator(context, browser);
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  await page.locator("main").getByText("Nobody is here at the moment.").waitFor(PATIENT);
  await person(context, server, topic, "ada");
  await one(page, "ada").waitFor(PATIENT);
  isClean();
});

test("SRV-803 the search finds a user everywhere, and the user is followed", async (context) => {
  const [first, second] = [newTopic(), newTopic()];
  const user = `wanted-${first.slice(-1)}`;
  await person(context, server, first, user, { device: "phone" });
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await live(page);
  await page.keyboard.press("/");
  await page.keyboard.type(user);
  await page.getByRole("option", { name: `${user} user, in 1 topic` }).waitFor(PATIENT);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: user }).waitFor(PATIENT);
  await page.locator("main").getByText("In 1 topic, with 1 presence from 1 node").waitFor(PATIENT);
  const elsewhere = await person(context, server, second, user);
  await page.locator("main").getByText("In 2 topics, with 2 presences from 1 node").waitFor(PATIENT);
  await elsewhere.close();
  await page.locator("main").getByText("In 1 topic, with 1 presence from 1 node").waitFor(PATIENT);
  // Topics are found by how they begin; nobody is a user, too.
  await page.keyboard.press("/");
  await page.keyboard.type("room:dash-");
  await page.getByRole("option", { name: first }).waitFor(PATIENT);
  await page.keyboard.press("Escape");
  await page.fill("#search-text", "nobody at all");
  await page.press("#search-text", "Enter");
  await page.locator("main").getByText("This user is in no topic, on no node.").waitFor(PATIENT);
  isClean();
});

test("SRV-804 who is evicted leaves: from one topic, or from everywhere, and only after the question", async (context) => {
  const [first, second] = [newTopic(), newTopic()];
  await person(context, server, first, "ada");
  await person(context, server, first, "grace");
  await person(context, server, second, "grace");
  const { open, isClean } = await operator(context, browser);
  const page = await open(server, `topic/${encodeURIComponent(first)}`);
  await page.getByRole("button", { name: `Evict ada from ${first}` }).click(PATIENT);
  await page.getByRole("dialog", { name: `Evict ada from ${first}?` }).waitFor(PATIENT);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: `Evict ada from ${first}` }).click(PATIENT);
  await page.getByRole("dialog").getByRole("button", { name: "Evict", exact: true }).click(PATIENT);
  await page.locator(".event").filter({ hasText: "ada left, evicted" }).waitFor(PATIENT);
  await one(page, "ada").waitFor({ state: "detached", ...PATIENT });
  await noDialog(page);
  await one(page, "grace").getByRole("link").click(PATIENT);
  await page.locator("main").getByText("In 2 topics").waitFor(PATIENT);
  await page.getByRole("button", { name: "Evict from everywhere" }).click(PATIENT);
  await page.getByRole("dialog").getByRole("button", { name: "Evict", exact: true }).click(PATIENT);
  await page.locator("main").getByText("Not here at the moment").waitFor(PATIENT);
  isClean();
});

test("SRV-805 outside dev mode a key is asked for, kept in this tab, and never in an address", async (context) => {
  const locked = await startServer(context, { env: { HERENOW_DEV: "false", HERENOW_API_KEYS: KEYS, HERENOW_JWT_SECRET: "0123456789abcdef0123456789abcdef" } });
  const refused = (complaint) => /401|403/u.test(complaint);
  const { open, isClean, context: inner } = await operator(context, browser);
  const page = await open(locked);
  await page.getByRole("heading", { name: "This dashboard is for operators" }).waitFor(PATIENT);
  assert.equal((await focused(page)).id, "key");
  await page.keyboard.type("not-a-key-at-all");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("The server has no such key.").waitFor(PATIENT);
  await page.fill("#key", "ключ");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("The server has no such key.").waitFor(PATIENT);
  await page.fill("#key", "writewritewrite1");
  await page.getByRole("button", { name: "Open" }).click();
  await live(page);
  await page.getByText("acting may look and evict").waitFor(PATIENT);
  await page.reload();
  await live(page);
  const held = await page.evaluate(() => [Object.values(sessionStorage), Object.values(localStorage), document.cookie]);
  assert.deepEqual(held, [["writewritewrite1"], [], ""]);
  for (const url of page.requested) {
    assert.doesNotMatch(url, /writewrite|not-a-key/u);
  }
  assert.ok(page.requested.some((url) => url.startsWith("ws:") && url.includes("/dashboard/socket/websocket")));
  assert.doesNotMatch(locked.output, /writewrite|not-a-key/u);
  const other = await open(locked);
  await other.getByRole("heading", { name: "This dashboard is for operators" }).waitFor(PATIENT);
  await page.getByRole("button", { name: "Forget key" }).click();
  await page.getByRole("heading", { name: "This dashboard is for operators" }).waitFor(PATIENT);
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  isClean(refused);
  await inner.close();
});

test("SRV-806 with a key that may read, one looks and does not evict", async (context) => {
  const locked = await startServer(context, { env: { HERENOW_DEV: "true", HERENOW_API_KEYS: KEYS } });
  await person(context, locked, "room:1", "ada");
  const { open, isClean } = await operator(context, browser);
  const page = await open(locked, "topic/room%3A1");
  await page.locator("#key").fill("readreadreadread", PATIENT);
  await page.keyboard.press("Enter");
  await one(page, "ada").waitFor(PATIENT);
  await page.getByText("looker may look").waitFor(PATIENT);
  assert.equal(await page.getByRole("button", { name: /Evict/u }).count(), 0);
  isClean((complaint) => complaint.includes("401"));
});

test("SRV-807 a server without keys says how to set one, and one that takes another key asks again", async (context) => {
  const closed = await startServer(context, { env: { HERENOW_DEV: "false", HERENOW_JWT_SECRET: "0123456789abcdef0123456789abcdef" } });
  const { open, isClean } = await operator(context, browser);
  const page = await open(closed);
  await page.getByRole("heading", { name: "The dashboard is closed" }).waitFor(PATIENT);
  await page.locator("main").getByText("HERENOW_API_KEYS=").waitFor(PATIENT);
  closed.env = { ...closed.env, HERENOW_API_KEYS: KEYS };
  await closed.restart();
  await page.reload();
  await page.locator("#key").fill("readreadreadread", PATIENT);
  await page.keyboard.press("Enter");
  await live(page);
  closed.env = { ...closed.env, HERENOW_API_KEYS: "other:read:otherotherotherx" };
  await closed.restart();
  await page.getByRole("alert").getByText("The server has no such key.").waitFor(PATIENT);
  isClean((complaint) => /40[13]|ERR_|WebSocket/u.test(complaint));
});

test("SRV-808 a lost connection is told with the time of what is shown, and heals by itself", async (context) => {
  const own = await startServer(context);
  await person(context, own, "room:1", "ada");
  const { open, isClean } = await operator(context, browser);
  const page = await open(own);
  await row(page, "room:1").waitFor(PATIENT);
  await own.kill("SIGKILL");
  await page.getByText(/The connection is lost. This is how it was at \d\d:\d\d:\d\d. Trying again./u).waitFor(PATIENT);
  assert.equal(await page.locator("#link").textContent(), "Reconnecting");
  await screenshot(page, "dashboard-lost");
  await own.start();
  await live(page);
  await page.locator("#stale").waitFor({ state: "hidden", ...PATIENT });
  // The client of ada comes back, too.
  await row(page, "room:1").locator(".topic-count").getByText("1", { exact: true }).waitFor(PATIENT);
  isClean((complaint) => /ERR_|WebSocket/u.test(complaint));
});

test("SRV-1735 an overview whose first figures have not come says of nobody that they are missing", async (context) => {
  const own = await startServer(context);
  const { open, isClean, context: inner } = await operator(context, browser);
  let [n_held, isHolding] = [0, true];
  await inner.routeWebSocket(/dashboard\/socket/u, (page) => {
    page.connectToServer().onMessage((frame) => (isHolding && String(frame).includes('"figures",') ? (n_held += 1) : page.send(frame)));
  });
  const page = await open(own);
  const [nobody, noWarning] = ["Nobody is present anywhere.", "Nothing was warned of in the last 15 minutes."].map((text) => page.locator("main").getByText(text));
  await live(page);
  await until("two figures are held back", () => n_held >= 2);
  assert.equal(await page.title(), "herenow");
  assert.deepEqual([await nobody.isVisible(), await noWarning.isVisible()], [false, false]);
  isHolding = false;
  await nobody.waitFor(PATIENT);
  await noWarning.waitFor(PATIENT);
  isClean();
});

test("SRV-1720 a server that hangs is lost to the page as well, and is live again when it goes on", async (context) => {
  const own = await startServer(context);
  const { open, isClean } = await operator(context, browser);
  const page = await open(own);
  await live(page);
  await page.locator("main").getByText("Nobody is present anywhere.").waitFor(PATIENT);
  own.signal("SIGSTOP");
  await page.getByText(/The connection is lost. This is how it was at \d\d:\d\d:\d\d. Trying again./u).waitFor(PATIENT);
  assert.equal(await page.locator("#link").textContent(), "Reconnecting");
  own.signal("SIGCONT");
  await live(page);
  await page.locator("#stale").waitFor({ state: "hidden", ...PATIENT });
  await person(context, own, "room:1", "ada");
  await row(page, "room:1").locator(".topic-count").getByText("1", { exact: true }).waitFor(PATIENT);
  isClean((complaint) => /ERR_|WebSocket/u.test(complaint));
});

test("SRV-809 a page that finds no server says so and tries again", async (context) => {
  const own = await startServer(context);
  const { open, isClean, context: inner } = await operator(context, browser);
  // The first question is never answered.
  let n_asked = 0;
  await inner.route("**/dashboard/access", (route) => (n_asked += 1) > 1 && route.abort());
  const page = await open(own);
  await page.getByRole("heading", { name: "The server does not answer" }).waitFor(PATIENT);
  await inner.unroute("**/dashboard/access");
  await live(page);
  await page.locator("main").getByText("Nobody is present anywhere.").waitFor(PATIENT);
  isClean((complaint) => complaint.includes("ERR_FAILED"));
});

test("SRV-810 the dashboard of any node shows all nodes, one that is lost and one that says good-bye", async (context) => {
  const nodes = await startCluster(context, "zenoh");
  await Promise.all(nodes.map((node, at) => person(context, node, "room:all", `user-${at}`)));
  const { open, isClean } = await operator(context, browser);
  const pages = await Promise.all(nodes.slice(0, 2).map((node) => open(node)));
  const card = (page, name) => page.locator(".node").filter({ has: page.getByRole("heading", { name, exact: true }) });
  for (const page of pages) {
    await page.locator("main").getByText("all 3 ready").waitFor(PATIENT);
    for (const name of ["a", "b", "c"]) {
      await card(page, name).locator(".node-sockets b").getByText("1", { exact: true }).waitFor(PATIENT);
    }
    await row(page, "room:all").locator(".topic-count").getByText("3", { exact: true }).waitFor(PATIENT);
    await page.waitForFunction(() => [...document.querySelectorAll(".node-facts")].every((facts) => /In\d/u.test(facts.textContent)), null, PATIENT);
  }
  const [page] = pages;
  await nodes[2].kill("SIGKILL");
  await card(page, "c").getByText(/not heard of for/u).waitFor(PATIENT);
  await page.locator("#announce").getByText("Node c is not heard of any more").waitFor(PATIENT);
  await row(page, "room:all").locator(".topic-count").getByText("2", { exact: true }).waitFor(PATIENT);
  await nodes[2].start();
  await ready(nodes[2]);
  await page.locator("main").getByText("all 3 ready").waitFor(PATIENT);
  assert.equal((await nodes[1].kill("SIGTERM")).code, 0);
  await card(page, "b").getByText(/said good-bye/u).waitFor(PATIENT);
  await pages[1].locator('body[data-link="lost"]').waitFor(PATIENT);
  await nodes[1].start();
  await live(pages[1]);
  isClean((complaint) => /ERR_|WebSocket/u.test(complaint));
});

test("SRV-811 what a node warns of is shown with its meaning, how often, and its node", async (context) => {
  const own = await startServer(context, { env: { HERENOW_DEV: "false", HERENOW_API_KEYS: KEYS, HERENOW_JWT_SECRET: "0123456789abcdef0123456789abcdef" } });
  const knock = () => once(new WebSocket(`${own.ws}/websocket?vsn=2.0.0&token=very.secret.token`), "error");
  await knock();
  const { open, isClean } = await operator(context, browser);
  const page = await open(own);
  await page.locator("#key").fill("readreadreadread", PATIENT);
  await page.keyboard.press("Enter");
  await knock();
  const warning = page.locator(".warning").filter({ hasText: "Token refused" });
  await warning.getByText("Somebody tried to connect with a token that is not good.").waitFor(PATIENT);
  await warning.getByText(/reason malformed/u).waitFor(PATIENT);
  await warning.getByText("×2", { exact: true }).waitFor(PATIENT);
  await warning.getByText("local", { exact: true }).waitFor(PATIENT);
  assert.doesNotMatch(await page.content(), /very\.secret/u);
  isClean((complaint) => complaint.includes("401"));
});

test("SRV-1309 what is down is shown with its meaning until it is back, in both colours, and no URL of it", async (context) => {
  const [hooks, fields] = [await reservePort(), await reservePort()];
  const own = await startServer(context, {
    env: {
      HERENOW_WEBHOOK_URLS: `http://127.0.0.1:${hooks}/hidden-path`,
      HERENOW_WEBHOOK_SECRET: "a secret of sixteen bytes",
      HERENOW_WEBHOOK_MAX_BACKOFF: "1s",
      HERENOW_FETCH_URL: `http://127.0.0.1:${fields}/hidden-path`,
    },
  });
  await person(context, own, "room:1", "ada");
  const { open, isClean } = await operator(context, browser);
  const page = await open(own);
  const degraded = page.getByRole("region", { name: "Degraded" });
  const webhook = degraded.getByRole("listitem").filter({ hasText: "Webhook 1 takes no events" });
  await webhook.getByText(/^Events wait for it until it is back/u).waitFor(PATIENT);
  await webhook.getByText(/^for \d+ s$/u).waitFor(PATIENT);
  await webhook.getByText("local", { exact: true }).waitFor(PATIENT);
  await degraded.getByText("Fields of fetch.url are not fetched").waitFor(PATIENT);
  await page.locator(".warning").filter({ hasText: "Webhook fails: events wait" }).getByText(/^A receiver of events does not take them/u).waitFor(PATIENT);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width: 320, height: 820 });
    assert.deepEqual(await page.evaluate(faint), [], colorScheme);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), colorScheme);
  }
  assert.doesNotMatch(await page.content(), /hidden-path/u);
  const receiver = createServer((request, response) => request.resume().on("end", () => response.writeHead(204).end())).listen(hooks, "127.0.0.1");
  context.after(() => receiver.close());
  await webhook.waitFor({ state: "detached", ...PATIENT });
  await degraded.getByText("Fields of fetch.url are not fetched").waitFor(PATIENT);
  isClean();
});

test("SRV-812 the keyboard alone is enough to look, to search, to evict and to go back", async (context) => {
  const topic = newTopic();
  const user = `typed-${topic.slice(-1)}`;
  await person(context, server, topic, user);
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await row(page, topic).waitFor(PATIENT);
  const tabTo = async (condition, argument) => {
    for (let presses = 0; presses < 120; presses += 1) {
      if (await page.evaluate(condition, argument)) {
        return;
      }
      await page.keyboard.press("Tab");
    }
    assert.fail(`the keyboard does not reach ${condition} ${argument}`);
  };
  await page.keyboard.press("Tab");
  assert.equal((await focused(page)).text, "Skip to the content");
  await tabTo((name) => document.activeElement.matches(".topic-name") && document.activeElement.textContent === name, topic);
  await page.keyboard.press("Enter");
  await one(page, user).waitFor(PATIENT);
  assert.equal((await focused(page)).id, "main", "the new view has the focus");
  await tabTo((name) => document.activeElement.ariaLabel === name, `Evict ${user} from ${topic}`);
  await page.keyboard.press("Enter");
  await page.getByRole("dialog").waitFor(PATIENT);
  await tabTo(() => document.activeElement.id === "ask-yes");
  await page.keyboard.press("Enter");
  await one(page, user).waitFor({ state: "detached", ...PATIENT });
  await noDialog(page);
  await page.evaluate(() => document.getElementById("main").focus());
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: "Topics by size" }).waitFor(PATIENT);
  isClean();
});

test("SRV-1736 who has the focus in a list keeps it when somebody above goes", async (context) => {
  const topic = newTopic();
  const ada = await person(context, server, topic, "ada");
  await person(context, server, topic, "grace");
  const { open, isClean } = await operator(context, browser);
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  await page.getByLabel("Order").selectOption("key", PATIENT);
  const evict = page.getByRole("button", { name: `Evict grace from ${topic}` });
  await evict.focus(PATIENT);
  await ada.close();
  await one(page, "ada").waitFor({ state: "detached", ...PATIENT });
  assert.equal((await focused(page)).name, `Evict grace from ${topic}`);
  isClean();
});

test("SRV-1737 an order that is chosen before anybody is known is kept for them", async (context) => {
  const topic = newTopic();
  await person(context, server, topic, "zoe");
  await person(context, server, topic, "ada");
  const { open, isClean, context: inner } = await operator(context, browser);
  const held = [];
  await inner.routeWebSocket(/dashboard\/socket/u, (page) => {
    page.connectToServer().onMessage((frame) => (String(frame).includes('"state",') ? held.push(() => page.send(frame)) : page.send(frame)));
  });
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  await until("the state is held back", () => held.length === 1);
  await page.getByLabel("Order").selectOption("key", PATIENT);
  assert.equal(await page.getByText("Nobody is here at the moment.").isVisible(), false);
  held[0]();
  await one(page, "zoe").waitFor(PATIENT);
  const names = await page.locator(".person").evaluateAll((people) => people.map((each) => (each.textContent.includes("ada") ? "ada" : "zoe")));
  assert.deepEqual(names, ["ada", "zoe"]);
  isClean();
});

test("SRV-813 every view fits a phone and a desk, in the light and in the dark", async (context) => {
  const own = await startServer(context);
  const long = `room:${"a-very-long-name-of-a-topic-".repeat(4)}`;
  await person(context, own, "room:views", "ada", { name: "Ada King, Countess of Lovelace, née Byron", device: "phone", note: "n".repeat(200) });
  await person(context, own, "room:views", "x".repeat(120), { status: "away" });
  await person(context, own, long, "ada");
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [320, 820, 1366]) {
      const { open, isClean } = await operator(context, browser, { colorScheme, viewport: { width, height: 820 }, hasTouch: width < 800 });
      const page = await open(own);
      for (const view of VIEWS) {
        await page.evaluate((to) => (location.hash = `#/${to}`), view);
        await page.locator({ topic: ".topic-view", user: ".user-view" }[view.split("/")[0]] ?? ".overview").waitFor(PATIENT);
        await page.locator(".person, .topic").first().waitFor(PATIENT);
        const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
        assert.ok(content <= window, `${view} ${colorScheme} at ${width}: ${content}`);
        const outside = await page.evaluate(() => [...document.querySelectorAll("button, input, select, a, h2, h3, dd, .topic-count")].filter((one) => one.getClientRects().length > 0 && !one.closest(".skip, .sr-only")).filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5).map((one) => one.id || one.className || one.tagName));
        assert.deepEqual(outside, [], `${view} ${colorScheme} at ${width}`);
      }
      isClean();
    }
  }
});

test("SRV-814 all that can be used has a name, text can be read, and news is announced", async (context) => {
  const topic = newTopic();
  await person(context, server, topic, "ada");
  for (const colorScheme of ["light", "dark"]) {
    const { open, isClean } = await operator(context, browser, { colorScheme });
    for (const view of ["", `topic/${encodeURIComponent(topic)}`, "user/ada"]) {
      const page = await open(server, view);
      await page.locator(".person, .topic").first().waitFor(PATIENT);
      const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, a, [tabindex], svg[role=img]")].filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.getAttribute("aria-labelledby") || one.id === "main")).map((one) => one.outerHTML.slice(0, 120)));
      assert.deepEqual(nameless, []);
      assert.deepEqual(await page.evaluate(faint), [], `${view}, ${colorScheme}`);
      assert.equal(await page.locator("#announce").getAttribute("aria-live"), "polite");
      assert.equal(await page.locator("#link").getAttribute("role"), "status");
    }
    isClean();
  }
  const { open } = await operator(context, browser);
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  await one(page, "ada").waitFor(PATIENT);
  await person(context, server, topic, "grace");
  await page.locator("#announce").getByText("grace joined").waitFor(PATIENT);
});

test("SRV-815 hostile names, metas and topics stay text", async (context) => {
  const topic = `room:<img src=x onerror="x()">`;
  const key = "<script>document.title='owned'</script>/../%2f";
  await person(context, server, topic, key, { name: "<b>bold</b>", "<i>": { toString: null, deep: ["</li>"] }, online_at: { valueOf: null } });
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await row(page, topic).getByRole("link").click(PATIENT);
  await page.locator("main").getByText("<b>bold</b>").waitFor(PATIENT);
  await page.locator(".person-name").click(PATIENT);
  await page.locator("main").getByText("In 1 topic, with 1 presence from 1 node").waitFor(PATIENT);
  assert.equal(await page.locator("main img, main script").count(), 0);
  isClean();
});

test("SRV-1692 somebody with more devices than are shown stays in the list until the last of them has left", async (context) => {
  const topic = newTopic();
  const devices = [];
  for (let n = 0; n < 20; n += 1) {
    devices.push(await person(context, server, topic, "ada", { n, name: "Ada" }));
  }
  const { open, isClean } = await operator(context, browser);
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  const main = page.locator("main");
  const lines = page.locator(".device");
  await main.getByText("and 4 more devices").waitFor(PATIENT);
  assert.equal(await lines.count(), 16);
  await devices.shift().close();
  await main.getByText("1 person here, on 19 devices").waitFor(PATIENT);
  // Whether one of the shown has left or one of the others, the rest is told.
  const told = (n) => page.waitForFunction((all) => document.querySelectorAll(".device").length + Number(/\d+/u.exec(document.querySelector(".person .note:not([hidden])")?.textContent ?? "0")) === all, n, PATIENT);
  await told(19);
  for (let n = 18; n > 1; n -= 1) {
    await devices.shift().close();
    await told(n);
    assert.ok((await lines.count()) >= Math.min(n, 7), `${n} are here`);
  }
  await main.getByText("1 person here, on 2 devices").waitFor(PATIENT);
  assert.equal(await lines.count(), 2);
  assert.equal(await main.getByText("Nobody is here at the moment").isVisible(), false);
  await person(context, server, topic, "ada");
  await told(3);
  await Promise.all(devices.map((device) => device.close()));
  await told(1);
  isClean();
});

test("SRV-1693 Enter goes where the text of the field leads, also before its list is there", async (context) => {
  const topic = newTopic();
  const [short, long] = [`${topic}-us`, `${topic}-user`];
  await person(context, server, topic, short);
  await person(context, server, topic, long);
  const { open, isClean } = await operator(context, browser);
  const page = await open(server);
  await live(page);
  await page.keyboard.press("/");
  await page.keyboard.type(short);
  await page.getByRole("option", { name: `${short} user, in 1 topic` }).waitFor(PATIENT);
  // In one turn of the page, so that the list cannot be there before.
  await page.evaluate((text) => {
    const field = document.getElementById("search-text");
    field.value = text;
    field.dispatchEvent(new InputEvent("input"));
    field.form.requestSubmit();
  }, long);
  await page.getByRole("heading", { name: long, exact: true }).waitFor(PATIENT);
  assert.equal(await page.evaluate(() => location.hash), `#/user/${encodeURIComponent(long)}`);
  isClean();
});

test("SRV-1695 a topic that cannot be opened says why, and promises nothing", async (context) => {
  const { open, isClean } = await operator(context, browser);
  const page = await open(server, `topic/${"q".repeat(1500)}`);
  await page.locator("main").getByText("This topic cannot be opened: topic is 1500 bytes, the limit is 512 (presence.max_topic_bytes).").waitFor(PATIENT);
  assert.equal(await page.getByText("Joins and leaves appear here").isVisible(), false);
  isClean();
});

test("SRV-1696 a key that is forgotten stays so, whatever is still on its way", async (context) => {
  const locked = await startServer(context, { env: { HERENOW_DEV: "false", HERENOW_API_KEYS: KEYS, HERENOW_JWT_SECRET: "0123456789abcdef0123456789abcdef" } });
  const { open, isClean, context: inner } = await operator(context, browser);
  // The answer is to come late, but not too late for the page.
  await inner.addInitScript(() => (AbortSignal.timeout = () => new AbortController().signal));
  const page = await open(locked);
  const held = [];
  await inner.route("**/dashboard/access", (route) => (route.request().headers()["x-api-key"] ? held.push(route) : route.continue()));
  await page.locator("#key").fill("writewritewrite1", PATIENT);
  await page.locator("#key").press("Enter", PATIENT);
  await until("the question with the key is held back", () => held.length === 1);
  await page.evaluate(() => document.getElementById("forget").click());
  await page.getByRole("heading", { name: "This dashboard is for operators" }).waitFor(PATIENT);
  const answered = page.waitForResponse((answer) => answer.url().endsWith("/dashboard/access") && answer.ok(), PATIENT);
  await held[0].continue();
  await (await answered).finished();
  // A page that went on would have opened a socket by the time that one asks the server anew.
  await page.evaluate(() => fetch("/healthz").then((answer) => answer.text()));
  assert.ok(!page.requested.some((url) => url.startsWith("ws:")), "no socket is opened");
  assert.equal(await page.locator("body").getAttribute("data-link"), "refused");
  isClean((complaint) => complaint.includes("401"));
});

test("SRV-1697 an eviction under way does not answer the question about somebody else", async (context) => {
  const topic = newTopic();
  await person(context, server, topic, "ada");
  await person(context, server, topic, "grace");
  const { open, isClean, context: inner } = await operator(context, browser);
  const held = [];
  let isHolding = true;
  await inner.routeWebSocket(/dashboard\/socket/u, (page) => {
    const upstream = page.connectToServer();
    upstream.onMessage((frame) => (isHolding && String(frame).includes('"n_topics":1}') ? held.push(() => page.send(frame)) : page.send(frame)));
  });
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  const dialog = (key) => page.getByRole("dialog", { name: `Evict ${key} from ${topic}?` });
  await page.getByRole("button", { name: `Evict ada from ${topic}` }).click(PATIENT);
  await dialog("ada").getByRole("button", { name: "Evict", exact: true }).click(PATIENT);
  await one(page, "ada").waitFor({ state: "detached", ...PATIENT });
  await until("the answer is held back", () => held.length === 1);
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: `Evict grace from ${topic}` }).click(PATIENT);
  await dialog("grace").waitFor(PATIENT);
  isHolding = false;
  held.forEach((letGo) => letGo());
  await page.locator("#announce").getByText("ada is evicted").waitFor(PATIENT);
  assert.equal(held.length, 1);
  assert.equal(await dialog("grace").isVisible(), true);
  await dialog("grace").getByRole("button", { name: "Evict", exact: true }).click(PATIENT);
  await one(page, "grace").waitFor({ state: "detached", ...PATIENT });
  await noDialog(page);
  isClean();
});

test("SRV-1698 a page that came through a proxy in dev mode is told to set a key", async (context) => {
  const { open, isClean } = await operator(context, browser, { extraHTTPHeaders: { "x-forwarded-for": "203.0.113.7" } });
  const page = await open(server);
  await page.getByRole("heading", { name: "The dashboard does not answer here" }).waitFor(PATIENT);
  await page.locator("main").getByText(/^This came through a proxy, for it has the header x-forwarded-for.* set api\.keys/u).waitFor(PATIENT);
  isClean((complaint) => complaint.includes("403"));
});

test("SRV-1712 a page of people that comes late brings nobody back who has left, and misses nobody who has come", async (context) => {
  const topic = newTopic();
  const presence = async (key, method) => {
    const options = { method, headers: { "content-type": "application/json" }, body: method === "PUT" ? "{}" : null };
    const answer = await fetch(`${server.http}/api/topics/${encodeURIComponent(topic)}/presences/${key}`, options);
    assert.ok(answer.ok, `${method} ${key}: ${answer.status}`);
  };
  const key = (n) => `p${String(n).padStart(3, "0")}`;
  for (let n = 0; n < 102; n += 1) {
    await presence(key(n), "PUT");
  }
  const { open, isClean, context: inner } = await operator(context, browser);
  const held = [];
  await inner.routeWebSocket(/dashboard\/socket/u, (page) => {
    const upstream = page.connectToServer();
    upstream.onMessage((frame) => (/"phx_reply".*"people".*"p101"/u.test(String(frame)) ? held.push(() => page.send(frame)) : page.send(frame)));
  });
  const page = await open(server, `topic/${encodeURIComponent(topic)}`);
  const events = page.getByRole("list", { name: "Comings and goings" });
  await page.getByRole("button", { name: "Show more of 2 others" }).click(PATIENT);
  await until("the page's answer is held back", () => held.length === 1);
  await presence("p101", "DELETE");
  await presence("p102", "PUT");
  await events.getByText("p101", { exact: true }).waitFor(PATIENT);
  await events.getByText("p102", { exact: true }).waitFor(PATIENT);
  assert.equal(await one(page, "p102").count(), 0, "it is of a page that is not here yet");
  held[0]();
  await one(page, "p100").waitFor(PATIENT);
  await one(page, "p102").waitFor(PATIENT);
  assert.equal(await one(page, "p101").count(), 0);
  assert.equal(await page.locator("main").getByText("102 people here, on 102 devices").isVisible(), true);
  isClean();
});

/** Texts whose contrast with what is behind them is below what WCAG asks for: 4.5, or 3 if they are large. Runs in the page. */
function faint() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] === 1) {
        return color;
      }
    }
    return rgba("white");
  };
  const found = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!hasText || element.getClientRects().length === 0 || element.closest(".sr-only, .skip, [data-state=left]")) {
      continue;
    }
    const style = getComputedStyle(element);
    const [one, other] = [light(rgba(style.color)), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    const size = parseFloat(style.fontSize);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) {
      found.push(`${element.className || element.tagName} "${element.textContent.slice(0, 20)}" ${contrast.toFixed(2)}`);
    }
  }
  return found;
}
