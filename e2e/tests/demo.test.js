// The demo page as two people use it: what the README's first command ends with.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { launch, openPage, screenshot } from "../lib/browser.js";
import { binary, startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

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

const newRoom = () => `e2e-${(rooms += 1)}`;
const seat = (page, name) => page.locator("#seats .seat:not(.leaving, .ghost)").filter({ has: page.getByText(name, { exact: true }) });

/** One browser profile; its tabs share what the browser remembers. Fails the test if a tab complained. */
async function profile(context, options = {}, forgiven = () => false) {
  const inner = await browser.newContext(options);
  const pages = [];
  context.after(() => inner.close());
  return {
    async tab(room, query = "") {
      const page = await openPage(inner, `${server.http}/demo${query}#${room}`);
      pages.push(page);
      await page.locator('#link[data-state="live"]').waitFor();
      return page;
    },
    /** Nothing was logged as a problem, the policy was not violated, nothing came from elsewhere. */
    async isClean() {
      for (const page of pages) {
        assert.deepEqual(page.complaints.filter((complaint) => !forgiven(complaint)), []);
        for (const url of page.requested) {
          assert.equal(new URL(url).host, new URL(server.http).host, url);
        }
      }
    },
  };
}

/**
 * Resolves when a bubble over a seat says `words`. Bubbles go by themselves, so whoever looks begins before the words
 * are said, and looks from inside of the page, at each frame.
 */
const bubbleSays = (page, words) => page.waitForFunction((wanted) => [...document.querySelectorAll(".bubble:not([hidden])")].some((one) => one.textContent === wanted), words);
/** The same for a pointer that is drawn at this part of the stage's width. */
const pointerAt = (page, x) => page.waitForFunction((wanted) => Math.abs(Number(document.querySelector(".cursor")?.style.getPropertyValue("--x") || "NaN") - wanted) < 0.02, x);

async function join(page, name) {
  await page.fill("#name", name);
  await page.press("#name", "Enter");
  await seat(page, name).waitFor();
}

test("SRV-219 the address that the program prints when it starts is the page", async (context) => {
  const [address] = server.output.match(/http:\/\/\S+\/demo/u) ?? assert.fail(`no address of the page in:\n${server.output}`);
  const page = await openPage(await browser.newContext(), address);
  context.after(() => page.context().close());
  await page.locator('#link[data-state="live"]').waitFor();
  assert.match(await page.title(), /herenow/u);
});

test("SRV-220 two tabs with two names see each other", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  const second = await tab(room);
  await join(first, "Ada Lovelace");
  await seat(second, "Ada Lovelace").waitFor();
  await join(second, "Grace Hopper");
  await Promise.all([seat(first, "Grace Hopper").waitFor(), seat(second, "Grace Hopper").waitFor()]);
  assert.equal(await first.locator("#stage-title").textContent(), "2 people are here");
  await first.locator("#events").getByText("Grace Hopper arrived").waitFor();
  assert.match(await first.title(), /^\(2\) #e2e-\d+ · herenow$/u);
  await isClean();
});

test("SRV-221 the same name in a second tab is one person with two devices, until that tab closes", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  await join(first, "Ada Lovelace");
  const second = await tab(room);
  assert.equal(await second.inputValue("#name"), "Ada Lovelace", "the browser remembers the name");
  await second.press("#name", "Enter");
  for (const page of [first, second]) {
    await page.locator('.seat[data-devices="2"]').waitFor();
    assert.equal(await page.locator("#stage-title").textContent(), "One person is here");
  }
  await second.close();
  await first.locator('.seat[data-devices="1"]').waitFor();
  await first.locator("#events").getByText("You closed a device, 1 device left").waitFor();
  await isClean();
});

test("SRV-222 a status, typing and a note are seen by the others", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  const second = await tab(room, "?new");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");
  const grace = seat(first, "Grace Hopper");
  const graceIs = (status) => first.waitForFunction((wanted) => [...document.querySelectorAll(".seat")].some((one) => one.dataset.status === wanted && one.textContent.includes("Grace Hopper")), status);

  await second.getByRole("radio", { name: "Away" }).check({ force: true });
  await graceIs("away");
  await second.getByRole("radio", { name: "Online" }).check({ force: true });
  await graceIs("online");
  // Typing is over 2.5 s after the last key, so a busy machine may have to be shown it again.
  await until("ada is told that grace types", async () => {
    await second.locator("#text").pressSequentially("m");
    return first.evaluate(() => document.getElementById("typing").textContent === "Grace Hopper is typing" && [...document.querySelectorAll(".seat")].some((one) => one.dataset.status === "typing" && one.textContent.includes("Grace Hopper")));
  });
  await graceIs("online");

  await second.fill("#note", "mending a relay");
  await grace.getByText("mending a relay").waitFor();
  await second.fill("#note", "");
  await grace.getByText("mending a relay").waitFor({ state: "hidden" });

  // A tab in the background cannot be made in a headless browser, so the page is told that it is in one.
  await second.evaluate(() => {
    Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
    document.dispatchEvent(new Event("visibilitychange"));
  });
  await graceIs("away");
  await isClean();
});

test("SRV-223 a message, a wave and a pointer reach the other tab", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  const second = await tab(room, "?new");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");

  const said = bubbleSays(first, "Found a moth in the relay");
  await second.fill("#text", "Found a moth in the relay");
  await second.press("#text", "Enter");
  await said;
  for (const page of [first, second]) {
    await page.locator("#messages").getByText("Found a moth in the relay").waitFor();
  }

  const waved = bubbleSays(second, "waves at you");
  await seat(first, "Grace Hopper").getByRole("button").click();
  await waved;

  const pointed = pointerAt(first, 0.5);
  const box = await second.locator("#stage").boundingBox();
  await second.mouse.move(box.x + box.width * 0.25, box.y + box.height * 0.75);
  await second.mouse.move(box.x + box.width * 0.5, box.y + box.height * 0.5);
  await pointed;
  assert.equal(await second.locator("#cursors .cursor").filter({ hasText: "Grace Hopper" }).count(), 0, "one's own pointer is not drawn twice");
  await second.close();
  await first.locator("#cursors .cursor").filter({ hasText: "Grace Hopper" }).waitFor({ state: "detached" });
  await isClean();
});

test("SRV-224 who closes the last tab has left", async (context) => {
  const room = newRoom();
  const { tab } = await profile(context);
  const first = await tab(room);
  const second = await tab(room, "?new");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");
  await seat(first, "Grace Hopper").waitFor();
  await second.close();
  await first.locator("#events").getByText("Grace Hopper left").waitFor();
  await seat(first, "Grace Hopper").waitFor({ state: "detached" });
  assert.equal(await first.locator("#stage-title").textContent(), "One person is here");
});

test("SRV-225 a server that is killed and comes back finds both tabs again", async (context) => {
  const room = newRoom();
  const { tab } = await profile(context);
  const first = await tab(room);
  const second = await tab(room, "?new");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");
  await second.getByRole("radio", { name: "Away" }).check({ force: true });
  await first.locator('.seat[data-status="away"]').waitFor();
  await server.kill("SIGKILL");
  await Promise.all([first, second].map((page) => page.locator('#link[data-state="reconnecting"]').waitFor()));
  await screenshot(first, "reconnecting");
  await server.start();
  for (const page of [first, second]) {
    await page.locator('#link[data-state="live"]').waitFor();
    await seat(page, "Ada Lovelace").waitFor();
    await page.locator('.seat:not(.leaving)[data-status="away"]').filter({ hasText: "Grace Hopper" }).waitFor();
  }
  await first.fill("#text", "still here");
  await first.press("#text", "Enter");
  await second.locator("#messages").getByText("still here").waitFor();
});

test("SRV-226 the page fits a phone, in the light and in the dark", async (context) => {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [320, 390, 800]) {
      const room = newRoom();
      const { tab, isClean } = await profile(context, { colorScheme, viewport: { width, height: 800 }, hasTouch: true, deviceScaleFactor: 2 });
      const page = await tab(room);
      const fits = async (when) => {
        const widths = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
        assert.equal(widths[0], widths[1], `${when}, ${colorScheme} at ${width}`);
        const outside = await page.evaluate(() => [...document.querySelectorAll("button, input, a, h2")].filter((one) => one.getClientRects().length > 0 && !one.closest(".skip, .sr-only")).filter((one) => one.getBoundingClientRect().right > window.innerWidth).map((one) => one.id || one.className || one.tagName));
        assert.deepEqual(outside, [], `${when}, ${colorScheme} at ${width}`);
      };
      await fits("at the door");
      await screenshot(page, `door-${colorScheme}-${width}`, { fullPage: true });
      await join(page, "Wolfeschlegelsteinhausenbergerdo");
      await page.fill("#text", "a".repeat(300));
      await page.press("#text", "Enter");
      await page.locator("#messages .message").waitFor();
      await fits("in the room");
      await screenshot(page, `room-${colorScheme}-${width}`, { fullPage: true });
      await isClean();
    }
  }
});

test("SRV-227 the keyboard alone is enough to join, talk, wave, point and leave", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const watcher = await tab(room, "?new");
  await join(watcher, "Ada Lovelace");
  const page = await tab(room, "?new");
  assert.equal(await page.evaluate(() => document.activeElement.id), "name", "the name has the focus at the start");
  await page.keyboard.type("Grace Hopper");
  await page.keyboard.press("Enter");
  await seat(watcher, "Grace Hopper").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "text", "then the message has it");
  await page.keyboard.type("hello");
  await page.keyboard.press("Enter");
  await watcher.locator("#messages").getByText("hello", { exact: true }).waitFor();

  const tabTo = async (condition, key) => {
    for (let presses = 0; presses < 40; presses += 1) {
      if (await page.evaluate(condition)) {
        return;
      }
      await page.keyboard.press(key);
    }
    assert.fail(`the keyboard does not reach ${condition}`);
  };
  await tabTo(() => document.activeElement.classList.contains("seat-button") && document.activeElement.getAttribute("aria-label").startsWith("Ada Lovelace"), "Shift+Tab");
  const waved = bubbleSays(watcher, "waves at you");
  await page.keyboard.press("Enter");
  await waved;
  await tabTo(() => document.activeElement.id === "stage", "Shift+Tab");
  const pointed = watcher.waitForFunction(() => document.querySelector(".cursor") !== null);
  await page.keyboard.press("ArrowRight");
  await pointed;
  await tabTo(() => document.activeElement.name === "status", "Tab");
  await page.keyboard.press("ArrowRight");
  await watcher.locator('.seat[data-status="away"]').waitFor();
  await tabTo(() => document.activeElement.id === "leave", "Tab");
  await page.keyboard.press("Enter");
  await watcher.locator("#events").getByText("Grace Hopper left").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "name", "and back at the door the name has it again");
  await isClean();
});

test("SRV-228 everything that can be used has a name, and news is announced", async (context) => {
  const room = newRoom();
  const { tab } = await profile(context);
  const first = await tab(room);
  await join(first, "Ada Lovelace");
  const second = await tab(room, "?new");
  await join(second, "Grace Hopper");
  await seat(first, "Grace Hopper").waitFor();
  const nameless = await first.evaluate(() =>
    [...document.querySelectorAll("button, input, a, [tabindex]")]
      .filter((one) => !(one.ariaLabel || one.labels?.length || one.textContent.trim() || one.getAttribute("aria-labelledby")))
      .map((one) => one.outerHTML),
  );
  assert.deepEqual(nameless, []);
  await first.getByRole("button", { name: "Grace Hopper, online, 1 device. Wave" }).waitFor();
  await first.getByRole("region", { name: "2 people are here" }).waitFor();
  await first.getByRole("log", { name: "Messages" }).waitFor();
  await first.waitForFunction(() => document.getElementById("announce").textContent.includes("Grace Hopper arrived"));
  assert.equal(await first.locator("#announce").getAttribute("aria-live"), "polite");
  assert.equal(await first.locator("#link").getAttribute("role"), "status");
});

test("SRV-229 the policy lets nothing in but the page's own files, and hostile words stay words", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  const policy = (await fetch(`${server.http}/demo`)).headers.get("content-security-policy");
  assert.match(policy, /default-src '(none|self)'/u);
  assert.doesNotMatch(policy, /unsafe/u);
  await join(first, "Ada Lovelace");
  const second = await tab(room, "?new");
  const name = '<img src=x onerror="x()">';
  await join(second, name);
  await seat(first, name).waitFor();
  await second.fill("#text", '<script>document.title="owned"</script>');
  await second.press("#text", "Enter");
  await first.locator("#messages").getByText("<script>").waitFor();
  assert.equal(await first.locator("#seats img, #messages script").count(), 0);
  await isClean();
});

test("SRV-239 whoever joins in the page is seen by the terminal's watch within a blink", async (context) => {
  const room = newRoom();
  const { tab } = await profile(context);
  const page = await tab(room);
  const watch = spawn(binary(), ["watch", server.ws, `room:${room}`], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => watch.kill("SIGKILL"));
  const lines = createInterface({ input: watch.stdout });
  const events = [];
  lines.on("line", (line) => events.push({ ...JSON.parse(line), at: Date.now() }));
  await until("the watch is connected", () => events.some(({ event }) => event === "connected"));
  await page.fill("#name", "Ada Lovelace");
  const times = [];
  await until(
    () => `a join is told within a blink of 300 ms; it took ${times}`,
    async () => {
      const n_told = events.length;
      const told = (what) => until(`the watch tells: ${what}`, () => events.slice(n_told).find(({ event }) => event === what));
      const before = Date.now();
      await page.press("#name", "Enter");
      const joined = await told("joined");
      assert.equal(joined.meta.name, "Ada Lovelace");
      times.push(joined.at - before);
      await page.click("#leave");
      await told("left");
      return times.at(-1) < 300;
    },
  );
  assert.deepEqual(events.filter(({ event }) => event === "joined").length, times.length);
});

test("SRV-234 the page works over long poll as well", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room, "?transport=longpoll");
  const second = await tab(room, "?new&transport=longpoll");
  assert.equal(await first.locator("#link-how").textContent(), "over long poll");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");
  await seat(first, "Grace Hopper").waitFor();
  await second.fill("#text", "slow but sure");
  await second.press("#text", "Enter");
  await first.locator("#messages").getByText("slow but sure").waitFor();
  await second.click("#leave");
  await first.locator("#events").getByText("Grace Hopper left").waitFor();
  await isClean();
});

test("SRV-235 rooms are apart, and a tab moves from one to the other by its address", async (context) => {
  const [one, other] = [newRoom(), newRoom()];
  const { tab, isClean } = await profile(context);
  const first = await tab(one);
  const second = await tab(other, "?new");
  await join(first, "Ada Lovelace");
  await join(second, "Grace Hopper");
  assert.equal(await first.locator("#stage-title").textContent(), "One person is here");
  await second.fill("#room", ` #${one.toUpperCase()} `);
  await second.press("#room", "Enter");
  await seat(first, "Grace Hopper").waitFor();
  await seat(second, "Ada Lovelace").waitFor();
  assert.equal(new URL(second.url()).hash, `#${one}`);
  await isClean();
});

test("SRV-236 being someone else in a tab is another person, and a reload is not", async (context) => {
  const room = newRoom();
  const { tab, isClean } = await profile(context);
  const first = await tab(room);
  const second = await tab(room);
  await join(first, "Ada Lovelace");
  await join(second, "Ada Lovelace");
  await first.locator('.seat[data-devices="2"]').waitFor();
  await second.click("#someone");
  await second.press("#name", "Enter");
  await first.waitForFunction(() => document.querySelectorAll(".seat:not(.leaving)").length === 2);
  const name = await second.locator("#me-name").textContent();
  assert.notEqual(name, "Ada Lovelace");
  const id = await seat(first, name).getAttribute("data-id");
  await second.reload();
  await seat(second, name).waitFor();
  assert.equal(await seat(second, name).getAttribute("data-id"), id, "the same person after a reload");
  await seat(first, name).waitFor();
  await isClean();
});

test("SRV-237 who prefers reduced motion gets none", async (context) => {
  const { tab, isClean } = await profile(context, { reducedMotion: "reduce" });
  const page = await tab(newRoom());
  await join(page, "Ada Lovelace");
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await isClean();
});

test("SRV-238 the page's client is the npm package's, byte for byte", async () => {
  const vendored = fileURLToPath(new URL("../../crates/herenow-server/assets/demo/vendor/", import.meta.url));
  const packaged = fileURLToPath(new URL("../node_modules/phoenix/", import.meta.url));
  assert.deepEqual(await readFile(`${vendored}phoenix.mjs`), await readFile(`${packaged}priv/static/phoenix.mjs`));
  assert.deepEqual(await readFile(`${vendored}phoenix.LICENSE.md`), await readFile(`${packaged}LICENSE.md`));
  const { version } = JSON.parse(await readFile(`${packaged}package.json`, "utf8"));
  assert.ok((await readFile(`${vendored}README.md`, "utf8")).includes(`| ${version} |`), `the table names ${version}`);
  const served = await fetch(`${server.http}/demo/vendor/phoenix.mjs`);
  assert.deepEqual(Buffer.from(await served.arrayBuffer()), await readFile(`${packaged}priv/static/phoenix.mjs`));
});

test("SRV-1827 the page of a server that wants tokens says so and tries no more, and its address is not printed", async (context) => {
  const own = await startServer(context, { env: { HERENOW_JWT_SECRET: "a secret that no client of the demo knows" } });
  assert.doesNotMatch(own.output, /demo=/u);
  const inner = await browser.newContext();
  context.after(() => inner.close());
  await inner.clock.install();
  const page = await openPage(inner, `${own.http}/demo#${newRoom()}`);
  await page.locator("#stage-sub").getByText("This server wants a token: the demo works in dev mode only", { exact: true }).waitFor();
  await page.locator('#link[data-state="token"]').getByText("Refused").waitFor();
  assert.ok(await page.locator("#door").isHidden(), "no name is asked for");
  const sockets = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  await page.clock.fastForward("10:00");
  await page.evaluate(() => (location.hash = "elsewhere"));
  await page.clock.fastForward("10:00");
  await page.evaluate(() => document.title);
  assert.deepEqual(sockets, []);
  assert.equal(await page.locator("#stage-title").textContent(), "Nobody is let in");
});
