// What the page remembers of what it was told: the last minutes of each number, and nodes that have gone.

import { History } from "./spark.js";

/** How long a node that said good-bye is still shown. */
const GHOST_MS = 5 * 60_000;
const TOTALS = ["presences", "sockets", "joins", "leaves", "in", "out", "bytes", "lag"];

export class Memory {
  /** The figures as they came, and when. */
  latest = null;
  at = 0;
  totals = Object.fromEntries(TOTALS.map((name) => [name, new History()]));
  /** By name: `{ out: History }`. */
  nodes = new Map();
  topics = new Map();
  /** Nodes that are not in the cluster any more, by name: `{ node, leftAt }`. */
  ghosts = new Map();
  #warned = null;
  #degraded = null;

  clear() {
    Object.assign(this, new Memory());
    this.#warned = null;
    this.#degraded = null;
  }

  /** Takes figures in; returns what is news, in words. */
  take(figures) {
    const news = this.#nodeNews(figures);
    this.latest = figures;
    this.at = Date.now();
    for (const [name, value] of Object.entries(totals(figures))) {
      this.totals[name].add(value);
    }
    follow(this.nodes, figures.nodes, ({ node }) => node, ({ rates }) => rates?.frames_out);
    follow(this.topics, figures.topics, ([topic]) => topic, ([, n]) => n);
    return [...news, ...this.#outageNews(), ...this.#warningNews(figures)];
  }

  /** All kinds of warnings, the latest first: each with its nodes, how often, and when by this page's clock. */
  warnings() {
    const kinds = new Map();
    for (const { node, figures } of this.latest?.nodes ?? []) {
      for (const warning of figures?.warnings ?? []) {
        const reason = warning.fields.find(([name]) => name === "reason")?.[1] ?? "";
        const kind = `${warning.what} ${reason}`;
        const at = this.at - warning.last_ms_ago;
        const known = kinds.get(kind);
        const [latest, n, nodes] = [known && known.at > at ? known : { ...warning, at }, (known?.n ?? 0) + warning.n, [...(known?.nodes ?? []), node]];
        kinds.set(kind, { ...latest, kind, n, nodes });
      }
    }
    return [...kinds.values()].sort((one, other) => other.at - one.at || (one.kind < other.kind ? -1 : 1));
  }

  /** All that nodes do without at the moment: each with its nodes, since when by this page's clock, and what the latest said. */
  outages() {
    const missing = new Map();
    for (const { node, figures } of this.latest?.nodes ?? []) {
      for (const outage of figures?.outages ?? []) {
        const id = `${outage.part} ${outage.name}`;
        const known = missing.get(id);
        const since = Math.min(known?.since ?? Infinity, this.at - outage.for_ms);
        missing.set(id, { ...outage, id, since, nodes: [...(known?.nodes ?? []), node] });
      }
    }
    return [...missing.values()].sort((one, other) => one.since - other.since || (one.id < other.id ? -1 : 1));
  }

  #outageNews() {
    const now = new Map(this.outages().map((outage) => [outage.id, outageTitle(outage)]));
    const before = this.#degraded;
    this.#degraded = now;
    if (before === null) {
      return [];
    }
    const begun = [...now].filter(([id]) => !before.has(id)).map(([, title]) => title);
    const ended = [...before].filter(([id]) => !now.has(id)).map(([, title]) => `Over: ${title}`);
    return [...begun, ...ended];
  }

  #nodeNews(figures) {
    if (this.latest === null) {
      return [];
    }
    const news = [];
    const before = new Map(this.latest.nodes.map((node) => [node.node, node]));
    for (const node of figures.nodes) {
      const then = before.get(node.node);
      before.delete(node.node);
      this.ghosts.delete(node.node);
      if (!then) {
        news.push(`Node ${node.node} has joined`);
      } else if (then.state !== node.state && node.state === "down") {
        news.push(`Node ${node.node} is not heard of any more`);
      } else if (then.state === "down" && node.state !== "down") {
        news.push(`Node ${node.node} is back`);
      } else if (then.state !== node.state && node.state === "draining") {
        news.push(`Node ${node.node} is draining`);
      }
    }
    for (const [name, node] of before) {
      // One that was silent for very long is forgotten; one that was there until now has said so.
      if (node.state === "down") {
        news.push(`Node ${name} is forgotten`);
        continue;
      }
      this.ghosts.set(name, { node, leftAt: Date.now() });
      news.push(`Node ${name} has said good-bye`);
    }
    for (const [name, { leftAt }] of this.ghosts) {
      if (Date.now() - leftAt > GHOST_MS) {
        this.ghosts.delete(name);
      }
    }
    return news;
  }

  #warningNews(figures) {
    const kinds = figures.nodes.flatMap(({ node, figures: own }) => (own?.warnings ?? []).map(({ what }) => `${what} on node ${node}`));
    const news = this.#warned === null ? [] : kinds.filter((kind) => !this.#warned.has(kind)).map((kind) => `Warning: ${kind}`);
    this.#warned = new Set([...(this.#warned ?? []), ...kinds]);
    return [...new Set(news)];
  }
}

/** What is missing, in a few words. */
export function outageTitle({ part, name }) {
  switch (part) {
    case "webhook":
      return `Webhook ${name} takes no events`;
    case "fields":
      return `Fields of ${name} are not fetched`;
    case "keys":
      return "Keys of tokens are not fetched";
    case "certificate":
      return "A new certificate of TLS is not taken";
    case "engine":
      return `No connection to ${name === "cluster.redis_url" ? "Redis" : "NATS"}`;
    case "peer":
      return `Peer ${name} is not reached`;
    default:
      return `${name} is missing`;
  }
}

function totals(figures) {
  const sum = (of) => figures.nodes.reduce((total, node) => total + (of(node) ?? 0), 0);
  const hasRates = figures.nodes.some(({ rates }) => rates);
  return {
    presences: figures.n_presences,
    sockets: sum(({ figures: own }) => own?.n_sockets),
    joins: figures.joins,
    leaves: figures.leaves,
    in: hasRates ? sum(({ rates }) => rates?.messages_in) : null,
    out: hasRates ? sum(({ rates }) => rates?.frames_out) : null,
    bytes: hasRates ? sum(({ rates }) => rates?.bytes_out) : null,
    lag: sum(({ figures: own }) => own?.n_lag),
  };
}

/** Adds a value to the history of each that is there, and drops those of the others. */
function follow(histories, items, keyOf, valueOf) {
  const there = new Set();
  for (const item of items) {
    const key = keyOf(item);
    there.add(key);
    if (!histories.has(key)) {
      histories.set(key, new History());
    }
    histories.get(key).add(valueOf(item));
  }
  for (const key of histories.keys()) {
    if (!there.has(key)) {
      histories.delete(key);
    }
  }
}
