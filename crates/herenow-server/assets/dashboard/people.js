// People and their devices, as the topic's and the user's view show them.

import { Keyed, el, say, set } from "./dom.js";
import { ago, clock, count, counted, lasted, since } from "./format.js";

/** Shown apart, or ours: not as one of the meta's fields. */
const NOT_FIELDS = new Set(["phx_ref", "phx_ref_prev", "online_at"]);
const MAX_FIELDS = 8;
const MAX_VALUE = 60;

/** A name for people, if the meta or what was fetched has one; else null. */
export function nameOf(person) {
  const named = [person.fields, ...person.devices.map(({ meta }) => meta)].map((one) => one?.name);
  return named.find((name) => typeof name === "string" && name.trim() !== "")?.trim().slice(0, 80) ?? null;
}

/** What a page may know of when a device came: its own word, or that this page saw it come. */
export function cameAt(device) {
  return since(device.meta) ?? device.sawAt ?? null;
}

/** The devices of one key, as many as the server tells of. */
export function deviceList(owner, name) {
  const lines = el("ul.devices", { "aria-label": `Devices of ${owner}` });
  const more = el("p.note", {});
  const list = new Keyed(lines, () => deviceLine(name));
  return {
    elements: [lines, more],
    update({ devices, n_devices: n }) {
      list.show(devices, ({ ref }) => ref);
      more.hidden = n <= devices.length;
      say(more, `and ${counted(n - devices.length, "more device")}`);
    },
  };
}

/** One device: where from, since when, and its meta field by field. */
function deviceLine(name) {
  const node = el("span.tag", {});
  const when = el("span.device-since", {});
  const meta = el("span.device-meta", {});
  const element = el("li.device", {}, node, when, meta);
  let shown = null;
  return {
    element,
    update(device) {
      say(node, device.node);
      set(node, "title", "the node that this device is connected to");
      const at = cameAt(device);
      const elapsed = at === null ? null : Date.now() - at;
      say(when, elapsed === null ? "since an unknown time" : `for ${elapsed < 1000 ? "a moment" : lasted(elapsed)}`);
      set(when, "title", at === null ? null : new Date(at).toLocaleString());
      if (shown !== device.ref) {
        shown = device.ref;
        meta.replaceChildren(...fields(device, name));
      }
    },
  };
}

/** `known` is the name that stands above already. */
function fields({ meta, meta_bytes: size }, known) {
  if (meta === null) {
    return [el("span.field", {}, `a meta of ${count(size)} bytes`)];
  }
  const told = Object.entries(meta).filter(([name, value]) => !NOT_FIELDS.has(name) && !(name === "name" && value === known));
  const shown = told.slice(0, MAX_FIELDS).map(([name, value]) => {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    const cut = text.length > MAX_VALUE ? `${text.slice(0, MAX_VALUE)}…` : text;
    return el("span.field", { title: text.length > MAX_VALUE ? text : null }, el("i", {}, name), " ", cut);
  });
  return told.length > MAX_FIELDS ? [...shown, el("span.field", {}, `and ${told.length - MAX_FIELDS} more`)] : shown;
}

/** The line about one thing that happened. */
export function happening(change, at) {
  const { what, key, whole, reason, device } = change;
  const words = {
    joined: whole ? "joined" : "joined again",
    updated: "changed",
    left: `${whole ? "left" : "left with one device"}${{ closed: ", connection closed", node_down: ", node not heard of", evicted: ", evicted" }[reason] ?? ""}`,
  }[what];
  return el("li.event", { "data-what": what }, el("i", { "aria-hidden": "true" }), el("span", {}, el("a", { href: `#/user/${encodeURIComponent(key)}` }, key), ` ${words}`), el("span.tag", {}, device.node), el("time", { datetime: at.toISOString(), title: ago(Date.now() - at) }, clock(at)));
}

