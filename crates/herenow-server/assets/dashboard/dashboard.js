// The page: a key if one is needed, then the view that the address names, fed by one socket.

import { el, say, set } from "./dom.js";
import { clock } from "./format.js";
import { Link } from "./link.js";
import { Memory } from "./memory.js";
import { OverviewView } from "./overview.js";
import { Search } from "./search.js";
import { TopicView } from "./topic.js";
import { UserView } from "./user.js";
import { Ask } from "./ask.js";
import { gate, waiting } from "./gate.js";

const $ = (id) => document.getElementById(id);
const ANNOUNCE_AFTER_MS = 600;

const memory = new Memory();
const link = new Link({ state: showLink, figures: showFigures });
const page = { link, memory, announce, ask: new Ask(link), mayEvict: () => link.access?.right !== "read" };
const search = new Search($("search"), link);
let view = null;
let shownAt = null;
let wasLive = false;

/* Where we are: #/, #/topic/NAME, #/user/KEY */

function route() {
  const [kind, name] = parsed(location.hash);
  view?.close();
  view = kind === "topic" ? new TopicView(page, name) : kind === "user" ? new UserView(page, name) : new OverviewView(page);
  $("main").replaceChildren(view.element);
  document.title = view.title;
  view.show();
}

function parsed(hash) {
  const [, kind, ...rest] = hash.replace(/^#/u, "").split("/");
  try {
    const name = decodeURIComponent(rest.join("/"));
    return name && (kind === "topic" || kind === "user") ? [kind, name] : ["overview", ""];
  } catch {
    return ["overview", ""];
  }
}

/* What the link says */

const WORDS = { checking: "Connecting", live: "Live", lost: "Reconnecting", unreachable: "No answer", refused: "Locked" };

function showLink(state, detail) {
  document.body.dataset.link = state;
  say($("link-text"), WORDS[state]);
  $("search").hidden = !(state === "live" || (state === "lost" && wasLive));
  showWho();
  showStale(state);
  if (state === "live") {
    wasLive = true;
    showWhere();
    if (view === null) {
      route();
    }
    return;
  }
  if (state === "refused") {
    forgetView();
    gate($("main"), detail, link.hasKey, (key) => link.begin(key));
    document.title = "Locked · herenow";
  } else if (view === null) {
    waiting($("main"), state);
  }
}

function forgetView() {
  view?.close();
  view = null;
  wasLive = false;
  shownAt = null;
  memory.clear();
  say($("where"), "");
}

function showWho() {
  const access = link.access;
  const isShown = document.body.dataset.link === "live" && link.hasKey && access?.key;
  $("who").hidden = !isShown;
  if (isShown) {
    say($("who-text"), `${access.key} may ${{ read: "look", write: "look and evict", admin: "look and evict" }[access.right] ?? access.right}`);
  }
}

/** What is shown while the connection is lost is what was, and says so. */
function showStale(state) {
  const isStale = view !== null && (state === "lost" || state === "unreachable");
  $("stale").hidden = !isStale;
  if (isStale) {
    say($("stale"), shownAt === null ? "The connection is lost. Trying again." : `The connection is lost. This is how it was at ${clock(shownAt)}. Trying again.`);
    announce("The connection is lost. Trying again");
  }
}

function showWhere() {
  const { cluster, node } = memory.latest ?? {};
  const at = node ?? link.access?.node ?? "";
  $("where").replaceChildren(...(cluster ? [el("b", {}, cluster.name), ` over ${cluster.engine}, as `, el("b", {}, at), " sees it"] : at && at !== "local" ? [el("b", {}, at)] : ["a single node"]));
}

function showFigures(figures) {
  shownAt = new Date();
  for (const news of memory.take(figures)) {
    announce(news);
  }
  showWhere();
  view?.figures?.();
}

/* Spoken by screen readers: what happens within a moment, in one go. */

const announced = [];

function announce(words) {
  announced.push(words);
  if (announced.length === 1) {
    setTimeout(() => {
      say($("announce"), `${announced.splice(0).slice(-4).join(". ")}.`);
    }, ANNOUNCE_AFTER_MS);
  }
}

/* Events of the page */

addEventListener("hashchange", () => {
  if (view !== null) {
    route();
    search.close();
    scrollTo(0, 0);
    $("main").focus({ preventScroll: true });
  }
});
addEventListener("keydown", (event) => {
  // While an eviction is under way, the dialog is open and nothing in it has the focus.
  const isTyping = event.target.closest?.("input, textarea, dialog") || $("ask").open;
  if (event.key === "/" && !isTyping && !$("search").hidden && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && !isTyping && view !== null && location.hash.length > 2) {
    location.hash = "#/";
  }
});
$("forget").addEventListener("click", () => link.begin(""));
// Times that are told as "12 s ago" get old also when nothing else happens.
setInterval(() => view?.tick?.(), 1000);

set($("main"), "aria-busy", null);
link.begin();
