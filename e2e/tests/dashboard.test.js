// The dashboard as an operator uses it.

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { WebSocket } from "ws";
import { launch, screenshot } from "../lib/browser.js";
import { ready, startCluster } from "../lib/cluster.js";
import { live, operator, person } from "../lib/operator.js";
import { startServer } from "../lib/server.js";

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
  assert.equal(await page.locator("dialog[open]").count(), 0);
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

test("SRV-809 a page that finds no server says so and tries again", async (context) => {
  const own = await startServer(context);
  const { open, isClean, context: inner } = await operator(context, browser);
  await inner.route("**/dashboard/access", (route) => route.abort());
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
  await page.evaluate(() => document.getElementById("main").focus());
  await page.keyboard.press("Escape");
  await page.getByRole("heading", { name: "Topics by size" }).waitFor(PATIENT);
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
