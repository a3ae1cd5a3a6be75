// The modules of our pages for Node. They are served without a package.json, and without one an older Node
// takes their files for scripts; so they are loaded from a copy that has one.

import { webcrypto } from "node:crypto";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

// What browsers have had for long and Node 18 has not.
globalThis.crypto ??= webcrypto;

const PAGES = fileURLToPath(new URL("../../crates/herenow-server/assets/", import.meta.url));

/** Loads the named files of the demo page and returns what they export, as one object. */
export function pageModules(...files) {
  return modulesOf("demo", files);
}

/** The same of the dashboard. */
export function dashboardModules(...files) {
  return modulesOf("dashboard", files);
}

async function modulesOf(page, files) {
  const folder = await mkdtemp(path.join(tmpdir(), "herenow-page-"));
  try {
    await cp(path.join(PAGES, page), folder, { recursive: true });
    await writeFile(path.join(folder, "package.json"), '{"type":"module"}');
    return Object.assign({}, ...(await Promise.all(files.map((file) => import(pathToFileURL(path.join(folder, file)).href)))));
  } finally {
    await rm(folder, { recursive: true });
  }
}
