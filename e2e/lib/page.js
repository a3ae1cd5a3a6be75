// The demo page's modules for Node. The page is served without a package.json, and without one an older Node
// takes its files for scripts; so they are loaded from a copy that has one.

import { webcrypto } from "node:crypto";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// What browsers have had for long and Node 18 has not.
globalThis.crypto ??= webcrypto;

const PAGE = fileURLToPath(new URL("../../crates/herenow-server/assets/demo/", import.meta.url));

/** Loads the named files of the page and returns what they export, as one object. */
export async function pageModules(...files) {
  const folder = await mkdtemp(path.join(tmpdir(), "herenow-page-"));
  try {
    await cp(PAGE, folder, { recursive: true });
    await writeFile(path.join(folder, "package.json"), '{"type":"module"}');
    return Object.assign({}, ...(await Promise.all(files.map((file) => import(pathToFileURL(path.join(folder, file)).href)))));
  } finally {
    await rm(folder, { recursive: true });
  }
}
