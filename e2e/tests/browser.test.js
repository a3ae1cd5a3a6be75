// The stock clients where they live: in a browser, with its own WebSocket, requests and Origin.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch } from "../lib/browser.js";
import { COMBINATIONS } from "../lib/clients.js";
import { startServer } from "../lib/server.js";

/** Served to the browser from the server's own origin, without the server knowing. */
const FILES = {
  "/e2e/in-browser.js": fileURLToPath(new URL("../lib/in-browser.js", import.meta.url)),
  "/e2e/phoenix-1.8.mjs": fromModules("phoenix/priv/static/phoenix.mjs"),
  "/e2e/phoenix-1.7.mjs": fromModules("phoenix-1.7/priv/static/phoenix.mjs"),
  "/e2e/phoenix-1.2.js": fromModules("phoenix-1.2/priv/static/phoenix.js"),
};

let server;
let browser;
let rooms = 0;
before(async () => {
  server = await startServer(null);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

function fromModules(file) {
  return fileURLToPath(new URL(`../node_modules/${file}`, import.meta.url));
}

/** A blank page of the server's origin with `window.tab` joined to the topic. */
async function joinedPage(context, combination, topic, user) {
  const page = await context.newPage();
  await page.route("**/e2e/**", async (route) => {
    const { pathname } = new URL(route.request().url());
    if (pathname === "/e2e/blank.html") {
      return route.fulfill({ contentType: "text/html", body: "<!doctype html><title>blank</title>" });
    }
    return route.fulfill({ contentType: "text/javascript", body: await readFile(FILES[pathname], "utf8") });
  });
  await page.goto(`${server.http}/e2e/blank.html`);
  if (combination.original) {
    await page.addScriptTag({ url: "/e2e/phoenix-1.2.js" });
  }
  await page.evaluate(
    async ({ combination: chosen, topic: room, user: id }) => {
      const { openTab } = await import("/e2e/in-browser.js");
      const library = chosen.original ? window.Phoenix : await import(`/e2e/phoenix-${chosen.library}.mjs`);
      window.tab = openTab(library, { ...chosen, topic: room, user: id });
    },
    { combination, topic, user },
  );
  await page.waitForFunction(() => window.tab.joins === 1);
  return page;
}

const sees = (page, users) => page.waitForFunction((wanted) => window.tab.users() === wanted, users);

async function meetAndPart(combination, inner) {
  const context = await browser.newContext();
  inner.after(() => context.close());
  const topic = `room:browser-${(rooms += 1)}`;
  const ada = await joinedPage(context, combination, topic, "ada");
  const grace = await joinedPage(context, combination, topic, "grace");
  await Promise.all([sees(ada, "ada,grace"), sees(grace, "ada,grace")]);

  assert.deepEqual(await ada.evaluate(() => window.tab.push("echo", { here: "now" })), { here: "now" });
  await grace.evaluate(() => window.tab.push("status", { status: "away" }));
  await ada.waitForFunction(() => window.tab.here.grace.metas[0].status === "away");
  await ada.evaluate(() => window.tab.push("chat", { text: "héllo" }));
  await grace.waitForFunction(() => window.tab.heard.some((said) => said.text === "héllo"));
  if (combination.transport === "WebSocket" && combination.vsn === "2.0.0") {
    assert.deepEqual(await ada.evaluate(() => window.tab.binary("echo", [0, 255])), [0, 255]);
    await ada.evaluate(() => window.tab.binary("blob", [1, 2, 3]));
    await grace.waitForFunction(() => window.tab.heard.some((said) => said.join?.() === "1,2,3"));
  }

  if (combination.transport === "WebSocket") {
    await grace.close();
  } else {
    await grace.evaluate(() => new Promise((resolve) => window.tab.channel.leave().receive("ok", resolve)));
  }
  await sees(ada, "ada");
}

test("SRV-230 every stock client meets another in a browser, talks and parts", async (context) => {
  for (const combination of COMBINATIONS) {
    await context.test(combination.name, (inner) => meetAndPart(combination, inner));
  }
});

test("SRV-231 the last client of vsn 1.0.0 does so too", async (context) => {
  for (const transport of ["WebSocket", "LongPoll"]) {
    const combination = { original: true, transport, vsn: "1.0.0" };
    await context.test(`phoenix 1.2, ${transport}`, (inner) => meetAndPart(combination, inner));
  }
});

test("SRV-232 a page of another origin is refused, on both transports", async (context) => {
  const inner = await browser.newContext();
  context.after(() => inner.close());
  const page = await inner.newPage();
  await page.route("http://elsewhere.test/**", (route) => route.fulfill({ contentType: "text/html", body: "<!doctype html><title>elsewhere</title>" }));
  await page.goto("http://elsewhere.test/");
  const code = await page.evaluate(
    (address) =>
      new Promise((resolve) => {
        const socket = new WebSocket(`${address}/websocket?vsn=2.0.0`);
        socket.onopen = () => resolve("open");
        socket.onclose = (event) => resolve(event.code);
      }),
    server.ws,
  );
  assert.equal(code, 1006, "the upgrade is refused");
  const answer = await fetch(`${server.http}/socket/longpoll?vsn=2.0.0`, { headers: { origin: "http://elsewhere.test" } });
  assert.deepEqual(await answer.json(), { status: 403 });
});

test("SRV-233 a page that is killed has left", async (context) => {
  const inner = await browser.newContext();
  context.after(() => inner.close());
  const topic = `room:browser-${(rooms += 1)}`;
  const ada = await joinedPage(inner, COMBINATIONS[0], topic, "ada");
  // A process of its own, so that killing it takes nobody else along.
  const other = await launch();
  context.after(() => other.close());
  const grace = await joinedPage(await other.newContext(), COMBINATIONS[0], topic, "grace");
  await sees(ada, "ada,grace");
  const session = await grace.context().newCDPSession(grace);
  session.send("Page.crash").catch(() => {});
  await sees(ada, "ada");
});
