// The first view: how much is going on, how the nodes do, the largest topics, what was warned of.

import { Keyed, el, say, set } from "./dom.js";
import { NONE, ago, bytes, count, counted, lasted, short } from "./format.js";
import { sentence } from "./gate.js";
import { outageTitle } from "./memory.js";
import { History, Spark } from "./spark.js";

const STATES = {
  ready: "ready",
  joining: "catching up",
  draining: "draining",
  up: "up",
  silent: "up, but silent",
  down: "not heard of",
  left: "said good-bye",
};
/** Those that need a look come first. */
const ORDER = ["down", "silent", "draining", "joining", "left"];
const MAX_NODES = 24;
/** Nodes that are named beside a warning. */
const MAX_TAGS = 4;
/** What is degraded while a part is missing, and where to look. */
const DEGRADED = {
  webhook: "Events wait for it until it is back, for webhook.max_age at most. Presence goes on.",
  fields: "Presences are shown with what is known of their users, or with nothing beside it. Presence goes on.",
  keys: "Tokens are checked by the keys that were fetched before; whose key is not among them is not let in.",
  engine: "Each of these nodes shows its own users only, until the broker is back. Is it up, and is its address the one that the key says?",
  peer: "Its address is in cluster.peers. Does a node listen there, with the same cluster.name and certificates? Nodes that do not reach each other show their own users only.",
  certificate: "The one before is shown to clients until it ends. The files are read again when they change.",
};
/** What a line of the log means to an operator, and which setting has to do with it. */
const MEANINGS = {
  "slow reader closed": "A client read more slowly than its topics spoke, and was closed; it will come back.",
  "fields not fetched": "The source of users' fields did not answer. Presence goes on with what is known of them, or without.",
  "fields not fetched several times: their source gets a pause": "The source of users' fields is down. It is asked less often until it answers; presence goes on with what is known of them, or without.",
  "fields cannot be fetched now; presences go without until they can": "The source of users' fields was not there when the node started.",
  "webhook fails: events wait": "A receiver of events does not take them. They wait for it, for webhook.max_age at most, and are tried again.",
  "webhook queue full: losing events": "More events wait for a receiver than webhook.max_queued. What comes now is lost to it, and it is told how many when it is back.",
  "events for a webhook lost": "A receiver of events did not take them in time, or refused them again and again. It is told how many when it takes the next.",
  "connection refused": "An address or a user has more connections, or asks for them faster, than the limit that is named.",
  "join refused": "A client asked for a topic and was not let in. reason: no_channel, no channel of this server has such topics (topics); not_admitted, its token does not allow it; topic_too_long, socket.max_topic_bytes; too_many_channels, socket.max_channels.",
  "API key refused": "Somebody asked the API or the dashboard with a key that the server does not have, or that may not do this.",
  "fetch failed": "The source of users' fields answered with an error. Presence goes on without them.",
  "fetch missed its deadline": "The source of users' fields is slow. Presence goes on without them.",
  "fetch panicked": "The hook for users' fields failed. Presence goes on without them.",
  "token refused": "Somebody tried to connect with a token that is not good.",
  "keys of tokens not fetched": "The keys that tokens are checked by could not be fetched.",
  "keys of tokens over the limit are not used": "jwt.jwks_url has more keys than are used; tokens of the others are refused.",
  "no key for tokens in the answer of jwt.jwks_url": "jwt.jwks_url answers without a key; tokens of the keys of before are refused.",
  "socket request denied": "Somebody tried to connect from a page or in a way that is not allowed.",
  "refused a node": "A process tried to take part in the cluster and was not let in.",
};

export class OverviewView {
  title = "herenow";
  #page;
  #parts = {};
  #nodes;
  #topics;
  #warnings;
  #outages;
  #showsAllNodes = false;

  constructor(page) {
    this.#page = page;
    this.element = this.#make();
  }

  show() {
    this.figures();
  }

  close() {}

  #make() {
    const parts = this.#parts;
    const tile = (name, label, help) => {
      const value = measure();
      const spark = new Spark(label);
      parts[name] = { value, spark };
      return el("div.tile", { title: help }, el("dt", {}, label), el("dd", {}, value.element, spark.element));
    };
    parts.present = el("b", {}, NONE);
    parts.presentSpark = new Spark("Presences");
    parts.where = el("span", {}, "");
    const hero = el(
      "section.hero",
      { "aria-label": "Now" },
      el("div.hero-main", {}, el("p.hero-number", {}, parts.present, el("span", {}, "present")), el("p.hero-where", {}, parts.where), parts.presentSpark.element),
      el(
        "dl.tiles",
        {},
        tile("sockets", "Connections", "Clients connected to all nodes"),
        tile("flow", "Joins and leaves", "Presences that came and went per second, over all nodes"),
        tile("in", "Messages in", "Messages from clients per second"),
        tile("out", "Messages out", "Frames written to clients per second"),
        tile("bytes", "Written", "Bytes written to clients per second"),
        tile("lag", "Replication lag", "Writes that nodes have announced and others do not have yet"),
      ),
    );

    const nodeList = el("ul.nodes", { "aria-label": "Nodes" });
    this.#nodes = new Keyed(nodeList, () => nodeCard(this.#page.memory));
    parts.nodesTitle = el("span.tally", {}, "");
    parts.refused = el("ul.refused", { "aria-label": "Nodes that are refused" });
    parts.moreNodes = el("button.quiet.more", { type: "button", hidden: true, onclick: () => {
      this.#showsAllNodes = true;
      this.figures();
    } });
    const nodes = el("section.block", { "aria-labelledby": "nodes-title" }, el("h2", { id: "nodes-title" }, "Nodes ", parts.nodesTitle), nodeList, parts.moreNodes, parts.refused);

    const outageList = el("ul.outages", { "aria-label": "What is degraded" });
    this.#outages = new Keyed(outageList, outageRow);
    parts.outages = el("section.card.degraded", { "aria-labelledby": "outages-title", hidden: true }, el("h2", { id: "outages-title" }, "Degraded"), outageList);

    const topicList = el("ol.topics", { "aria-label": "Topics by size" });
    this.#topics = new Keyed(topicList, () => topicRow(this.#page.memory));
    parts.topicsTally = el("span.tally", {}, "");
    // Until the first figures have come, nothing is known, and so nothing is said to be missing.
    parts.noTopics = el("p.empty", { hidden: true }, "Nobody is present anywhere. As soon as a client joins a topic, the topic is listed here.");
    parts.moreTopics = el("p.note", {});
    const topics = el("section.card.wide", { "aria-labelledby": "topics-title" }, el("h2", { id: "topics-title" }, "Topics by size ", parts.topicsTally), topicList, parts.noTopics, parts.moreTopics);

    const warningList = el("ol.warnings", { "aria-label": "Warnings, the latest first" });
    this.#warnings = new Keyed(warningList, warningRow);
    parts.noWarnings = el("p.empty.good", { hidden: true }, "Nothing was warned of in the last 15 minutes.");
    const warnings = el("section.card", { "aria-labelledby": "warnings-title" }, el("h2", { id: "warnings-title" }, "Recent warnings"), warningList, parts.noWarnings);

    return el("div.overview", {}, hero, parts.outages, nodes, el("div.columns", {}, topics, warnings));
  }

  figures() {
    const { memory } = this.#page;
    const { latest, totals } = memory;
    set(this.element, "data-loading", latest === null);
    if (latest === null) {
      return;
    }
    this.#showTotals(latest, totals);
    this.#showNodes(latest, memory.ghosts);
    this.#showTopics(latest);
    this.#showOutages();
    this.#showWarnings();
    document.title = `${count(latest.n_presences)} present · herenow`;
  }

  tick() {
    if (this.#page.memory.latest !== null) {
      this.#showOutages();
      this.#showWarnings();
    }
  }

  #showTotals(latest, totals) {
    const parts = this.#parts;
    say(parts.present, count(latest.n_presences));
    parts.presentSpark.show(totals.presences, count);
    say(parts.where, `in ${counted(latest.n_topics, "topic")}, on ${counted(latest.nodes.filter(({ state }) => state !== "down").length, "node")}`);
    const show = (name, text, history, write = short) => {
      parts[name].value.show(text);
      parts[name].spark.show(history, write);
    };
    show("sockets", count(totals.sockets.now), totals.sockets, count);
    const flow = new History();
    flow.values = totals.joins.values.map((joins, at) => (joins === null ? null : joins + totals.leaves.values[at]));
    show("flow", latest.joins === null ? NONE : latest.joins + latest.leaves === 0 ? "0/s" : `+${short(latest.joins)} −${short(latest.leaves)}/s`, flow);
    show("in", perSecond(totals.in.now), totals.in);
    show("out", perSecond(totals.out.now), totals.out);
    show("bytes", bytes(totals.bytes.now ?? NaN), totals.bytes, bytes);
    show("lag", totals.lag.now === 0 ? "none" : counted(totals.lag.now, "write"), totals.lag, count);
    set(parts.lag.value.element, "data-tone", totals.lag.now > 0 ? "warn" : null);
  }

  #showNodes(latest, ghosts) {
    const parts = this.#parts;
    const gone = [...ghosts.values()].map(({ node, leftAt }) => ({ ...node, state: "left", since_ms: Date.now() - leftAt, figures: null, rates: null }));
    const rank = ({ state, self }) => (ORDER.includes(state) ? ORDER.indexOf(state) : ORDER.length + (self ? 0 : 1));
    // By name, so that the dashboards of all nodes look alike.
    const all = [...latest.nodes, ...gone].sort((one, other) => one.node.localeCompare(other.node, "en", { numeric: true }));
    // Of many, those that need a look come first.
    if (all.length > MAX_NODES) {
      all.sort((one, other) => rank(one) - rank(other));
    }
    const shown = this.#showsAllNodes ? all : all.slice(0, MAX_NODES);
    this.#nodes.show(shown, ({ node }) => node);
    const n_ready = latest.nodes.filter(({ state }) => state === "ready").length;
    say(parts.nodesTitle, latest.nodes.length === 1 ? "" : n_ready === latest.nodes.length ? `all ${n_ready} ready` : `${n_ready} of ${latest.nodes.length} ready`);
    parts.moreNodes.hidden = shown.length === all.length;
    say(parts.moreNodes, `Show ${counted(all.length - shown.length, "more node")}`);
    parts.refused.replaceChildren(...latest.refused.map(({ node, why }) => el("li", {}, el("b", {}, node), ` is not let in: ${why}`)));
  }

  #showTopics(latest) {
    const parts = this.#parts;
    const largest = latest.topics[0]?.[1] ?? 1;
    this.#topics.show(latest.topics.map(([topic, n]) => ({ topic, n, share: n / largest })), ({ topic }) => topic);
    parts.noTopics.hidden = latest.topics.length > 0;
    const n_others = latest.n_topics - latest.topics.length;
    say(parts.topicsTally, latest.n_topics > 0 ? count(latest.n_topics) : "");
    parts.moreTopics.hidden = n_others <= 0;
    say(parts.moreTopics, `${counted(n_others, "smaller topic")} ${n_others === 1 ? "is" : "are"} found by the search.`);
  }

  #showOutages() {
    const missing = this.#page.memory.outages();
    this.#outages.show(missing, ({ id }) => id);
    this.#parts.outages.hidden = missing.length === 0;
  }

  #showWarnings() {
    const told = this.#page.memory.warnings();
    this.#warnings.show(told, ({ kind }) => kind);
    this.#parts.noWarnings.hidden = told.length > 0;
  }
}

/** A number with its unit beside it, smaller: what follows the last digit, and the letter of thousands. */
function measure() {
  const number = el("span", {}, NONE);
  const unit = el("small", {});
  return {
    element: el("b", {}, number, unit),
    show(text) {
      const [, digits, rest] = /^(.*\d[kM]?)?(.*)$/u.exec(text);
      say(number, digits ?? rest);
      say(unit, digits ? rest.trim() : "");
    },
  };
}

function perSecond(n) {
  return n === null ? NONE : `${short(n)}/s`;
}

function nodeCard(memory) {
  const name = el("h3", {});
  const state = el("p.node-state", {});
  const sockets = el("b", {});
  const spark = new Spark("Messages out");
  const facts = Object.fromEntries(["Presences", "In", "Out", "Written", "Lag", "Up"].map((label) => [label, el("dd", {})]));
  const list = el("dl.node-facts", {}, ...Object.entries(facts).map(([label, value]) => el("div", {}, el("dt", {}, label), value)));
  const element = el("li.node", {}, el("header", {}, el("i", { "aria-hidden": "true" }), name, state), el("p.node-sockets", {}, sockets, el("span", {}, "connections")), spark.element, list);
  return {
    element,
    update(node) {
      const { figures, rates } = node;
      set(element, "data-state", node.state);
      set(element, "data-self", node.self);
      say(name, node.node);
      const isGone = node.state === "down" || node.state === "left";
      say(state, `${STATES[node.state] ?? node.state}${isGone ? ` ${node.state === "down" ? "for" : ""} ${node.since_ms < 1000 ? "a moment" : lasted(node.since_ms)}${node.state === "left" ? " ago" : ""}` : ""}`.replaceAll("  ", " "));
      say(sockets, figures ? count(figures.n_sockets) : NONE);
      spark.show(memory.nodes.get(node.node) ?? new History(), short);
      say(facts.Presences, count(figures?.n_presences ?? node.n_presences));
      say(facts.In, perSecond(rates?.messages_in ?? null));
      say(facts.Out, perSecond(rates?.frames_out ?? null));
      say(facts.Written, bytes(rates?.bytes_out ?? NaN));
      say(facts.Lag, figures ? (figures.n_lag === 0 ? "none" : count(figures.n_lag)) : NONE);
      set(facts.Lag, "data-tone", figures?.n_lag > 0 ? "warn" : null);
      say(facts.Up, figures ? lasted(figures.uptime_ms) : NONE);
      set(element, "title", figures ? `herenow ${figures.version}, ${counted(figures.n_channels, "channel")} joined, ${counted(figures.n_peers_up, "other node")} seen${figures.n_peers_down > 0 ? `, ${figures.n_peers_down} of them missed` : ""}` : null);
    },
  };
}

function topicRow(memory) {
  const name = el("a.topic-name", {});
  const change = el("span.topic-change", {});
  const n = el("b.topic-count", {});
  const spark = new Spark("Presences");
  const element = el("li.topic", {}, name, spark.element, change, n);
  return {
    element,
    update({ topic, n: present, share }) {
      say(name, topic);
      set(name, "href", `#/topic/${encodeURIComponent(topic)}`);
      say(n, count(present));
      const history = memory.topics.get(topic) ?? new History();
      spark.show(history, count);
      const grown = present - (history.ago(60) ?? present);
      say(change, grown === 0 ? "" : grown > 0 ? `+${count(grown)}` : `−${count(-grown)}`);
      set(change, "title", grown === 0 ? null : "in the last minute");
      element.style.setProperty("--share", share.toFixed(4));
    },
  };
}

function outageRow() {
  const what = el("b", {});
  const when = el("span.warning-when", {});
  const meaning = el("p.warning-meaning", {});
  const nodes = el("span.warning-nodes", {});
  const why = el("p.warning-fields", {});
  const element = el("li.warning", { "data-error": true }, el("p.warning-head", {}, el("i", { "aria-hidden": "true" }), what, when), meaning, el("div.warning-foot", {}, nodes, why));
  return {
    element,
    update(outage) {
      say(what, outageTitle(outage));
      say(when, `for ${lasted(Date.now() - outage.since)}`);
      say(meaning, DEGRADED[outage.part] ?? "");
      meaning.hidden = !(outage.part in DEGRADED);
      showTags(nodes, outage.nodes);
      say(why, outage.why);
    },
  };
}

/** Names nodes beside what they tell, the first few of them. */
function showTags(element, names) {
  const joined = names.join(" ");
  if (element.dataset.names !== joined) {
    element.dataset.names = joined;
    element.replaceChildren(...names.slice(0, MAX_TAGS).map((node) => el("span.tag", {}, node)), names.length > MAX_TAGS ? `+${names.length - MAX_TAGS}` : "");
  }
}

function warningRow() {
  const what = el("b", {});
  const meaning = el("p.warning-meaning", {});
  const when = el("span.warning-when", {});
  const n = el("span.warning-count", {});
  const fields = el("p.warning-fields", {});
  const nodes = el("span.warning-nodes", {});
  const element = el("li.warning", {}, el("p.warning-head", {}, el("i", { "aria-hidden": "true" }), what, n, when), meaning, el("div.warning-foot", {}, nodes, fields));
  return {
    element,
    update(warning) {
      set(element, "data-error", warning.is_error);
      say(what, sentence(warning.what).replace(/\.$/u, ""));
      say(meaning, MEANINGS[warning.what] ?? "");
      meaning.hidden = !(warning.what in MEANINGS);
      say(when, ago(Date.now() - warning.at));
      say(n, warning.n > 1 ? `×${count(warning.n)}` : "");
      n.hidden = warning.n <= 1;
      showTags(nodes, warning.nodes);
      const told = warning.fields.map(([name, value]) => `${name} ${value}`).join(" · ");
      say(fields, told);
    },
  };
}
