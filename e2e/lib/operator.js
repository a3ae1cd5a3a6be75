// The dashboard as an operator opens it, and some life for it to show.

import assert from "node:assert/strict";
import { openPage } from "./browser.js";
import { Client } from "./clients.js";

/** One browser profile of an operator. Fails the test if a page complained, or asked anybody else. */
export async function operator(context, browser, options = {}) {
  const inner = await browser.newContext(options);
  const pages = [];
  context.after(() => inner.close());
  return {
    context: inner,
    /** Opens a view of the server's dashboard: `""`, `topic/…`, `user/…`. */
    async open(server, view = "") {
      const page = await openPage(inner, `${server.http}/#/${view}`);
      pages.push([page, new URL(server.http).host]);
      return page;
    },
    isClean(forgiven = () => false) {
      for (const [page, host] of pages) {
        assert.deepEqual(page.complaints.filter((complaint) => !forgiven(complaint)), []);
        for (const url of page.requested) {
          assert.equal(new URL(url).host, host, url);
        }
      }
    },
  };
}

/** Resolves when the page is live. */
export const live = (page) => page.locator('body[data-link="live"]').waitFor();

/** Somebody in a topic, on a device; `close()` is the leave. */
export async function person(context, server, topic, key, meta = {}) {
  const client = new Client(server.ws);
  const tab = await client.join(topic, { user_id: key, meta });
  let isOpen = true;
  const close = async () => {
    if (isOpen) {
      isOpen = false;
      await client.close();
    }
  };
  context.after(close);
  return { client, tab, close };
}
