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

/** A bare page of the server's with `window.tab` joined to the topic. */
async function joinedPage(context, combination, topic, user) {
  const page = await context.newPage();
  await page.route("**/e2e/**", async (route) => {
    const { pathname } = new URL(route.request().url());
    await route.fulfill({ contentType: "text/javascript", body: await readFile(FILES[pathname], "utf8") });
  });
  // A real answer of the server: to a page that was made up, the browser would not allow a local network.
  await page.goto(`${server.http}/healthz`);
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

// Not over long poll: that client wants objects where servers since its next version have sent texts.
test("SRV-231 the last client of vsn 1.0.0 does so over its WebSocket", (context) => meetAndPart({ original: true, transport: "WebSocket", vsn: "1.0.0" }, context));

test("SRV-232 a page of another host is refused on both transports, one of the same host is let in", async (context) => {
  const other = await launch(["--host-resolver-rules=MAP elsewhere.test 127.0.0.1"]);
  context.after(() => other.close());
  const page = await other.newPage();
  const complaints = [];
  page.on("console", (message) => complaints.push(message.text()));
  const elsewhere = `elsewhere.test:${server.port}`;
  await page.goto(`http://${elsewhere}/healthz`);
  const open = (address) =>
    page.evaluate(
      (url) =>
        new Promise((resolve) => {
          const socket = new WebSocket(url);
          socket.onopen = () => resolve("open");
          socket.onclose = (event) => resolve(event.code);
        }),
      address,
    );
  assert.equal(await open(`ws://${elsewhere}/socket/websocket?vsn=2.0.0`), "open");
  assert.equal(await open(`${server.ws}/websocket?vsn=2.0.0`), 1006);
  assert.ok(complaints.some((complaint) => complaint.includes("403")), `the upgrade is refused with 403: ${complaints}`);
  const poll = (address) => page.evaluate((url) => fetch(url).then((answer) => answer.json()), address);
  assert.equal((await poll(`http://${elsewhere}/socket/longpoll?vsn=2.0.0`)).status, 410);
  assert.deepEqual(await poll(`${server.http}/socket/longpoll?vsn=2.0.0`), { status: 403 });
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
