// What the README promises in its first minute, done to the letter.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { binary, startServer } from "../lib/server.js";
import { until } from "../lib/until.js";

const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
const blocks = (language) => [...readme.matchAll(new RegExp(`\`\`\`${language}\\n([^]*?)\`\`\``, "gu"))].map((found) => found[1]);

test("SRV-244 the first command starts the server at the address that the sentence before it names", () => {
  const [command] = blocks("sh");
  assert.match(command.trim(), /^cargo run (--release )?-p herenow-server -- serve$/u, "a command without a further word");
  const [address] = readme.match(/http:\/\/[^/\s>]+\/demo/u);
  const help = execFileSync(binary(), ["serve", "--help"], { encoding: "utf8" });
  assert.ok(help.includes(`[default: ${new URL(address).host}]`), `${address} is the default`);
});

test("SRV-245 the few lines of JavaScript show who is here", async (context) => {
  const server = await startServer(context);
  const [lines] = blocks("js");
  const folder = new URL("../artifacts/", import.meta.url);
  await mkdir(folder, { recursive: true });
  const file = fileURLToPath(new URL("readme.mjs", folder));
  // Node before 22 has no WebSocket of its own; browsers have.
  await writeFile(file, `globalThis.self = globalThis;\nglobalThis.WebSocket = (await import("ws")).WebSocket;\n${asDynamicImport(lines.replace("ws://127.0.0.1:4000", `ws://127.0.0.1:${server.port}`))}`);
  const child = spawn(process.execPath, [file], { stdio: ["ignore", "pipe", "inherit"] });
  context.after(() => child.kill("SIGKILL"));
  let printed = "";
  child.stdout.on("data", (data) => (printed += data));
  await until(() => `the list is printed: ${printed}`, () => printed.includes("ada: 1"));
});

/** A static import would run before the WebSocket is there. */
function asDynamicImport(lines) {
  return lines.replace(/import (\{[^}]*\}) from ("[^"]*");/u, "const $1 = await import($2);");
}
