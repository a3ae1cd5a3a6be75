// One topic: who is here, on which devices, since when, from which node; and who comes and goes.

import { Keyed, el, say, set } from "./dom.js";
import { count, counted, inOrder } from "./format.js";
import { cameAt, deviceList, happening, nameOf } from "./people.js";
import { History, Spark } from "./spark.js";

const MAX_EVENTS = 100;
/** Changes that are spoken one by one; more at once are summed up. */
const MAX_SPOKEN = 2;
/** Somebody of whom fewer devices are known is asked for again, if there are more. The server tells of 16. */
const LOW = 8;

export class TopicView {
  #page;
  #topic;
  #channel = null;
  #people = new Map();
  /** Who is asked for again, with a token of the latest question. */
  #asked = new Map();
  #next = null;
  /** What has happened since a page was asked for that is not here yet. */
  #meanwhile = [];
  #counts = null;
  #history = new History();
  #parts = {};
  #list;
  #order = "latest";

  constructor(page, topic) {
    this.#page = page;
    this.#topic = topic;
    this.title = `${topic} · herenow`;
    this.element = this.#make();
  }

  show() {
    this.#channel = this.#page.link.open(`topic:${this.#topic}`, {
      state: (state) => this.#begin(state),
      changes: (changes) => this.#change(changes),
      refused: (reason) => this.#refused(reason),
    });
  }

  close() {
    this.#channel?.close();
  }

  #make() {
    const parts = this.#parts;
    parts.counts = el("p.lead", {}, "Asking who is here…");
    parts.spark = new Spark("Presences");
    const list = el("ul.people", { "aria-label": "Who is here" });
    this.#list = new Keyed(list, (person) => personRow(this.#page, this.#topic, person));
    parts.empty = el("p.empty", { hidden: true }, "Nobody is here at the moment. Whoever joins is shown at once.");
    parts.more = el("button.quiet.more", { type: "button", hidden: true, onclick: () => this.#more() }, "Show more");
    const orders = [["latest", "Latest first"], ["longest", "Longest first"], ["key", "By key"]];
    parts.order = el("select", { "aria-label": "Order", onchange: ({ target }) => {
      this.#order = target.value;
      this.#render();
    } }, ...orders.map(([value, words]) => el("option", { value }, words)));
    parts.events = el("ol.events", { "aria-label": "Comings and goings, the latest first", tabindex: "0" });
    parts.noEvents = el("p.empty", {}, "Joins and leaves appear here as they happen.");
    return el(
      "div.topic-view",
      {},
      el("nav.crumbs", { "aria-label": "Where you are" }, el("a", { href: "#/" }, "Overview"), el("span", { "aria-hidden": "true" }, "/"), el("span", {}, "Topic")),
      el("header.view-head", {}, el("div", {}, el("h2.view-title", {}, this.#topic), parts.counts), parts.spark.element),
      el(
        "div.columns",
        {},
        el("section.card.wide", { "aria-labelledby": "people-title" }, el("header.card-head", {}, el("h2", { id: "people-title" }, "Who is here"), parts.order), list, parts.empty, parts.more),
        el("section.card", { "aria-labelledby": "events-title" }, el("h2", { id: "events-title" }, "Comings and goings"), parts.events, parts.noEvents),
      ),
    );
  }

  #begin(state) {
    this.#people = new Map(state.people.map((person) => [person.key, person]));
    this.#asked.clear();
    this.#next = state.next;
    this.#counted(state);
    this.#render();
  }

  #change({ changes, ...counts }) {
    const now = new Date();
    for (const change of changes) {
      this.#apply(change, now.getTime());
    }
    if (this.#parts.more.disabled) {
      this.#meanwhile.push(...changes);
    }
    for (const key of new Set(changes.map((change) => change.key))) {
      this.#complete(key);
    }
    this.#parts.events.prepend(...changes.map((change) => happening(change, now)).reverse());
    while (this.#parts.events.childElementCount > MAX_EVENTS) {
      this.#parts.events.lastElementChild.remove();
    }
    this.#counted(counts);
    this.#render();
    this.#announce(changes);
  }

  /** Takes a change in; one that is in already changes nothing, as far as all devices of the key are known. */
  #apply({ what, key, device, replaces, whole }, now) {
    const person = this.#people.get(key);
    const known = person?.devices ?? [];
    const n_hidden = person ? person.n_devices - known.length : 0;
    const isIt = ({ ref }) => ref === device.ref || ref === replaces;
    const before = known.find(isIt);
    // What is not among those that are known is one of the others; a device that joins is none of them.
    const n_others = what === "joined" || before ? n_hidden : Math.max(0, n_hidden - 1);
    if (what === "left") {
      const devices = known.filter((one) => !isIt(one));
      if (whole && devices.length === 0) {
        this.#people.delete(key);
      } else if (person) {
        this.#people.set(key, { ...person, devices, n_devices: devices.length + n_others });
      }
      return;
    }
    // Of a topic that is not here whole, only those within the pages that are.
    if (!person && this.#next !== null && inOrder(key, this.#next) > 0) {
      return;
    }
    const taken = { ...device, sawAt: before ? before.sawAt : now };
    const devices = before ? known.map((one) => (one === before ? taken : one)) : [...known, taken];
    this.#people.set(key, { key, fields: null, ...person, devices, n_devices: devices.length + n_others });
  }

  /** Asks for somebody again of whom too few devices are known. What has changed meanwhile makes the answer old. */
  async #complete(key) {
    this.#asked.delete(key);
    const { devices, n_devices } = this.#people.get(key) ?? {};
    if (!devices || devices.length >= LOW || (devices.length === n_devices && n_devices > 0)) {
      return;
    }
    const question = {};
    this.#asked.set(key, question);
    try {
      const { person } = await this.#channel.push("person", { key });
      if (this.#asked.get(key) === question) {
        this.#asked.delete(key);
        this.#take(key, person);
        this.#render();
      }
    } catch {
      // The next change of this key asks again.
    }
  }

  /** Takes in who somebody is now. The answer is without what was fetched, and without when the page saw them come. */
  #take(key, person) {
    const { fields, devices: known } = this.#people.get(key);
    if (person === null) {
      this.#people.delete(key);
      return;
    }
    const devices = person.devices.map((device) => ({ ...device, sawAt: known.find(({ ref }) => ref === device.ref)?.sawAt }));
    this.#people.set(key, { ...person, fields, devices });
  }

  async #more() {
    this.#parts.more.disabled = true;
    this.#meanwhile = [];
    try {
      const page = await this.#channel.push("more", { after: this.#next });
      for (const person of page.people) {
        this.#people.set(person.key, person);
      }
      this.#next = page.next;
      // The page can be older than what has happened since it was asked for.
      for (const change of this.#meanwhile) {
        this.#apply(change, Date.now());
      }
      this.#render();
    } catch (error) {
      this.#page.announce(error.message);
    }
    this.#parts.more.disabled = false;
  }

  #counted(counts) {
    this.#counts = counts;
    const { n_keys: people, n_presences: devices } = counts;
    say(this.#parts.counts, people === 0 ? "Nobody is here" : `${counted(people, "person", "people")} here, on ${counted(devices, "device")}`);
    document.title = `${count(people)} in ${this.#topic} · herenow`;
  }

  /** Until the state has come, who is here is not known, and nothing is said of it. */
  #render() {
    if (this.#counts === null) {
      return;
    }
    const people = [...this.#people.values()];
    const came = ({ devices }) => Math.min(...devices.map((device) => cameAt(device) ?? 0));
    const byKey = (one, other) => inOrder(one.key, other.key);
    const orders = { latest: (one, other) => came(other) - came(one) || byKey(one, other), longest: (one, other) => came(one) - came(other) || byKey(one, other), key: byKey };
    people.sort(orders[this.#order]);
    this.#list.show(people, ({ key }) => key);
    this.#parts.empty.hidden = people.length > 0;
    this.#parts.more.hidden = this.#next === null;
    const n_more = this.#counts.n_keys - people.length;
    say(this.#parts.more, n_more > 0 ? `Show more of ${counted(n_more, "other")}` : "Show more");
    this.#parts.noEvents.hidden = this.#parts.events.childElementCount > 0;
    set(this.#parts.events, "hidden", this.#parts.events.childElementCount === 0);
  }

  #announce(changes) {
    const told = changes.filter(({ what, whole }) => what !== "updated" && whole);
    if (told.length > MAX_SPOKEN) {
      this.#page.announce(`${told.length} comings and goings, ${counted(this.#counts.n_keys, "person", "people")} here`);
    } else {
      told.forEach(({ what, key }) => this.#page.announce(`${key} ${what}`));
    }
  }

  #refused(reason) {
    say(this.#parts.counts, `This topic cannot be opened: ${reason}.`);
    this.#parts.noEvents.hidden = true;
  }

  /** Once a second: the sparkline goes on, and times get older. */
  tick() {
    if (this.#counts !== null) {
      this.#history.add(this.#counts.n_presences);
      this.#parts.spark.show(this.#history, count);
      this.#render();
    }
  }
}

function personRow(page, topic, person) {
  const name = el("a.person-name", {});
  const key = el("span.person-key", {});
  const devices = deviceList(person.key, nameOf(person));
  const evict = page.mayEvict() ? el("button.quiet.evict", { type: "button", onclick: () => page.ask.evict(person.key, topic, () => page.announce(`${person.key} is evicted`)) }, "Evict") : null;
  const element = el("li.person", {}, el("div.person-head", {}, name, key, evict), ...devices.elements);
  return {
    element,
    update(now) {
      const named = nameOf(now);
      say(name, named ?? now.key);
      set(name, "href", `#/user/${encodeURIComponent(now.key)}`);
      say(key, named === null || named === now.key ? "" : now.key);
      if (evict) {
        set(evict, "aria-label", `Evict ${now.key} from ${topic}`);
      }
      devices.update(now);
    },
  };
}
