// The code of the guides, taken from their pages and run as a reader would.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { launch, openPage } from "../lib/browser.js";
import { Client, COMBINATIONS } from "../lib/clients.js";
import { binary, reservePort, startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

const root = new URL("../../", import.meta.url);
const guide = await readFile(new URL("docs/guides/react.md", root), "utf8");
const ADDRESS = "127.0.0.1:4000";

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

/** The files of the guide: blocks of code that begin with their name. */
function files() {
  const blocks = [...guide.matchAll(/```jsx?\n\/\/ (\S+)\n([^]*?)```/gu)];
  return new Map(blocks.map(([, name, code]) => [name, code]));
}

/** Builds a page of the guide's files and serves it; its address. */
async function servePage(context, entry, server) {
  const folder = new URL(`e2e/artifacts/guide-${entry.split(".")[0]}/`, root);
  await mkdir(folder, { recursive: true });
  for (const [name, code] of files()) {
    await writeFile(new URL(name, folder), code.replaceAll(ADDRESS, `127.0.0.1:${server.port}`));
  }
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL(entry, folder))],
    bundle: true,
    format: "esm",
    jsx: "automatic",
    write: false,
    logLevel: "error",
  });
  const script = outputFiles[0].text;
  const html = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><body><div id="root"></div><script type="module" src="/page.js"></script>';
  const pages = createServer((request, response) => {
    const isScript = request.url === "/page.js";
    response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
    response.end(isScript ? script : html);
  }).listen(0, "127.0.0.1");
  await once(pages, "listening");
  context.after(() => pages.close());
  return `http://127.0.0.1:${pages.address().port}/`;
}

async function openTabs(context, address, users) {
  const profile = await browser.newContext();
  context.after(() => profile.close());
  return Promise.all(users.map((user) => openPage(profile, `${address}?user=${user}`)));
}

test("SRV-1010 the guide's plain page shows who is here in two tabs", async (context) => {
  const server = await startServer(context);
  const address = await servePage(context, "plain.js", server);
  const [ada, bob] = await openTabs(context, address, ["ada", "bob"]);
  for (const page of [ada, bob]) {
    await page.getByText("ada, bob", { exact: true }).waitFor();
  }
  await bob.close();
  await ada.getByText("ada", { exact: true }).waitFor();
  assert.deepEqual(ada.complaints, []);
});

test("SRV-1011 the guide's React hook shows who is here, follows changes, and survives a restart", async (context) => {
  const server = await startServer(context);
  const address = await servePage(context, "app.jsx", server);
  const [ada, bob] = await openTabs(context, address, ["ada", "bob"]);
  for (const page of [ada, bob]) {
    await page.getByRole("heading", { name: "2 here" }).waitFor();
    await page.getByRole("status").getByText("here", { exact: true }).waitFor();
  }
  await ada.getByRole("button", { name: "Away" }).click();
  await bob.getByText("ada: away").waitFor();
  await server.restart("SIGKILL");
  for (const page of [ada, bob]) {
    await page.getByRole("heading", { name: "2 here" }).waitFor();
    await page.getByRole("status").getByText("here", { exact: true }).waitFor();
  }
  await bob.close();
  await ada.getByRole("heading", { name: "1 here" }).waitFor();
});

test("SRV-1012 the Django application makes tokens, asks who is here, and hears who came and went", async (context) => {
  const page = await readFile(new URL("docs/guides/django.md", root), "utf8");
  const [secrets, serve, install] = [...page.matchAll(/```sh\n([^]*?)```/gu)].map(([, block]) => block);
  const [pip, application, ...others] = install.trim().split("\n");
  assert.deepEqual([pip, others], ["pip install -r examples/django/requirements.txt", []]);
  const [own, port] = [await reservePort(), await reservePort()];
  const [django, server] = [`http://127.0.0.1:${port}`, { http: `http://127.0.0.1:${own}`, ws: `ws://127.0.0.1:${own}/socket` }];
  // As they stand, one after the other in one shell, but for the ports; the packages are there.
  const script = [secrets, `{\n${serve}} &`, 'python() { "$PYTHON" "$@"; }', `${application} --noreload`].join("\n").replaceAll("127.0.0.1:8000", `127.0.0.1:${port}`);
  const shell = spawn("sh", ["-e", "-c", script], {
    cwd: fileURLToPath(root),
    env: { PATH: `${path.dirname(binary())}:${process.env.PATH}`, PYTHON: process.env.PYTHON, HERENOW_LISTEN: `127.0.0.1:${own}`, PRESENCE_API: server.http },
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  context.after(() => process.kill(-shell.pid, "SIGKILL"));
  let output = "";
  for (const stream of [shell.stdout, shell.stderr]) {
    stream.on("data", (data) => (output += data));
  }
  await until(
    () => `the server answers\n${output}`,
    async () => (await fetch(`${server.http}/readyz`).catch(() => null))?.ok,
  );
  const get = async (path, headers = {}) => (await fetch(`${django}${path}`, { headers })).json();
  await until(
    () => `Django answers\n${output}`,
    async () => (await fetch(`${django}/seen/ada`).catch(() => null))?.ok,
  );

  assert.equal((await fetch(`${django}/token`)).status, 403, "a stranger gets no token");
  const login = await fetch(`${django}/login`, { method: "POST", body: new URLSearchParams({ user: "ada" }) });
  const cookie = login.headers.getSetCookie()[0].split(";")[0];
  const { token } = await get("/token", { cookie });
  const client = new Client(server.ws, COMBINATIONS[0], { params: { token } });
  context.after(() => client.close());
  await client.join("room:lobby");
  assert.deepEqual(await get("/who/lobby"), { here: ["ada"] });
  await until("Django heard that ada came", async () => (await get("/seen/ada")).seen === "now");
  client.close();
  await until("Django heard that ada went", async () => /^\d{4}-/u.test((await get("/seen/ada")).seen));
  assert.deepEqual(await get("/who/lobby"), { here: [] });

  const forged = await fetch(`${django}/herenow`, { method: "POST", body: '{"events": []}', headers: { "webhook-signature": "v1,none" } });
  assert.equal(forged.status, 401, "what is not signed is not believed");
});

test("SRV-1163 the commands of the axum guide serve guests with names, and watch shows them", async (context) => {
  const page = await readFile(new URL("docs/guides/axum.md", root), "utf8");
  const [, block] = page.match(/```sh\n([^]*?)```/u);
  const [serve, watch, ...others] = block.trim().split("\n");
  assert.deepEqual(others, []);
  assert.equal(serve, "cargo run -p presence-with-sqlite");
  const [, words] = watch.match(/^cargo run -p herenow-server -- (.*)$/u);
  assert.ok(words.includes("127.0.0.1:4002"));
  const address = `127.0.0.1:${await reservePort()}`;
  const run = (program, args, env = {}) => {
    const child = spawn(program, args, { env: { PATH: process.env.PATH, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    context.after(() => child.kill("SIGKILL"));
    const running = { output: "" };
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data) => (running.output += data));
    }
    return running;
  };
  const example = run(path.join(path.dirname(binary()), "presence-with-sqlite"), [], { LISTEN: address });
  const plain = () => example.output.replaceAll(/\u001b\[[0-9;]*m/gu, "");
  await until(() => `the guests are here\n${plain()}`, () => plain().includes("guests are here n_guests=50"));
  assert.match(plain(), /users read query=\d+ topic=room:lobby n_keys=50 n_users=50/u, "one query for fifty");
  const seen = run(binary(), words.replace("127.0.0.1:4002", address).split(" "));
  const shown = () => seen.output.split("\n").filter((line) => line.startsWith("{"));
  await until(() => `all are shown with their names\n${seen.output}`, () => shown().filter((line) => /"User \d+"/u.test(line)).length >= 50);
});
