// One user: in which topics, on which devices, from which nodes; now, and as it changes.

import { Keyed, el, say, set } from "./dom.js";
import { counted } from "./format.js";
import { deviceList, nameOf } from "./people.js";

export class UserView {
  #page;
  #key;
  #channel = null;
  #parts = {};
  #list;
  #places = null;

  constructor(page, key) {
    this.#page = page;
    this.#key = key;
    this.title = `${key} · herenow`;
    this.element = this.#make();
  }

  show() {
    this.#channel = this.#page.link.open(`user:${this.#key}`, {
      places: (places) => this.#show(places),
      refused: (reason) => say(this.#parts.lead, `This user cannot be looked for: ${reason}.`),
    });
  }

  close() {
    this.#channel?.close();
  }

  #make() {
    const parts = this.#parts;
    parts.name = el("h2.view-title", {}, this.#key);
    parts.lead = el("p.lead", {}, "Looking…");
    parts.evict = el("button.button.danger", { type: "button", hidden: true, onclick: () => this.#page.ask.evict(this.#key, undefined, () => this.#page.announce(`${this.#key} is evicted from everywhere`)) }, "Evict from everywhere");
    const list = el("ul.places", { "aria-label": "Topics" });
    this.#list = new Keyed(list, (place) => placeRow(this.#page, this.#key, place));
    parts.empty = el("p.empty", { hidden: true }, "This user is in no topic, on no node. Keys are compared letter by letter. As soon as the user comes, it is shown here.");
    parts.more = el("p.note", { hidden: true }, "The first 100 topics are shown.");
    return el(
      "div.user-view",
      {},
      el("nav.crumbs", { "aria-label": "Where you are" }, el("a", { href: "#/" }, "Overview"), el("span", { "aria-hidden": "true" }, "/"), el("span", {}, "User")),
      el("header.view-head", {}, el("div", {}, parts.name, parts.lead), parts.evict),
      el("section.card", { "aria-label": "Where this user is" }, list, parts.empty, parts.more),
    );
  }

  #show({ places, has_more: hasMore }) {
    const parts = this.#parts;
    const before = this.#places;
    this.#places = places;
    const n_devices = places.reduce((sum, place) => sum + place.n_devices, 0);
    const nodes = new Set(places.flatMap(({ devices }) => devices.map(({ node }) => node)));
    const words = places.length === 0 ? "Not here at the moment" : `In ${counted(places.length, "topic")}${hasMore ? " and more" : ""}, with ${counted(n_devices, "presence")} from ${counted(nodes.size, "node")}`;
    say(parts.lead, words);
    const named = nameOf({ fields: null, devices: places.flatMap(({ devices }) => devices) });
    say(parts.name, named === null || named === this.#key ? this.#key : `${named} · ${this.#key}`);
    parts.empty.hidden = places.length > 0;
    parts.more.hidden = !hasMore;
    parts.evict.hidden = !this.#page.mayEvict() || places.length === 0;
    this.#list.show(places, ({ topic }) => topic);
    if (before !== null) {
      this.#page.announce(`${this.#key}: ${words}`);
    }
  }

  tick() {
    if (this.#places !== null) {
      this.#list.show(this.#places, ({ topic }) => topic);
    }
  }
}

function placeRow(page, key, place) {
  const { topic } = place;
  const name = el("a.person-name", {});
  const devices = deviceList(key, nameOf({ fields: null, devices: place.devices }));
  const evict = page.mayEvict() ? el("button.quiet.evict", { type: "button", onclick: () => page.ask.evict(key, topic, () => page.announce(`${key} is evicted from ${topic}`)) }, "Evict") : null;
  const element = el("li.person", {}, el("div.person-head", {}, name, evict), ...devices.elements);
  return {
    element,
    update(now) {
      say(name, topic);
      set(name, "href", `#/topic/${encodeURIComponent(topic)}`);
      if (evict) {
        set(evict, "aria-label", `Evict ${key} from ${topic}`);
      }
      devices.update(now);
    },
  };
}
