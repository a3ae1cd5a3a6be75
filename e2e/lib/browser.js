// A real headless Chromium. A machine without one fails these tests: they are the ones that matter most.

import { access, mkdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ARTIFACTS = fileURLToPath(new URL("../artifacts/", import.meta.url));
/** Nothing but the page: no updates, no look-ups, no phone calls home. */
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Starts the browser, with `flags` besides the usual ones. */
export async function launch(flags = []) {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  await access(executablePath).catch(() => {
    throw new Error(`no Chromium at ${executablePath}: install the chromium package or set CHROMIUM`);
  });
  return chromium.launch({ executablePath, args: [...FLAGS, ...flags] });
}

/** A page that keeps everything it complains about in `complaints`. */
export async function openPage(context, url) {
  const page = await context.newPage();
  page.complaints = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.complaints.push(message.text()));
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.requested = [];
  page.on("request", (request) => page.requested.push(request.url()));
  page.on("websocket", (socket) => page.requested.push(socket.url()));
  await page.goto(url);
  return page;
}

export async function screenshot(page, name, options = {}) {
  await mkdir(ARTIFACTS, { recursive: true });
  await page.screenshot({ path: path.join(ARTIFACTS, `${name}.png`), ...options });
}
