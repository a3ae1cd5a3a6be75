// The stage: a seat for everybody who is here, and the pointers that move over it.

import { clip, hue, initials, plain } from "./identity.js";
import { counted } from "./people.js";

const SEATS = 48;
const POINTER_LINGERS_MS = 6000;
const BUBBLE_LINGERS_MS = 4500;
const BUBBLE_LIMIT = 80;
const POINTERS = 64;
const STATUS_WORDS = { online: "online", away: "away", typing: "typing" };

export class Stage {
  #list;
  #cursors;
  #onWave;
  #seats = new Map();
  #pointers = new Map();
  #more = element("li", "seat more");
  #ghost = element("li", "seat ghost");

  constructor(list, cursors, onWave) {
    this.#list = list;
    this.#cursors = cursors;
    this.#onWave = onWave;
    this.#ghost.append(element("span", "avatar"), element("span", "seat-name"));
  }

  /** The empty seat that waits for whoever types this name at the door; `null` takes it away. */
  await(who) {
    if (who === null) {
      this.#ghost.remove();
      return;
    }
    fillAvatar(this.#ghost.firstElementChild, who.id, who.name || "?");
    this.#ghost.lastElementChild.textContent = "Your seat";
    this.#list.append(this.#ghost);
  }

  /** Shows these people; `me` is this tab's id or null, `tab` this tab's own mark. */
  render(people, me, tab) {
    const shown = seatOrder(people, me).slice(0, SEATS);
    const ids = new Set(shown.map((one) => one.id));
    for (const [id, seat] of this.#seats) {
      if (!ids.has(id)) {
        this.#seats.delete(id);
        leave(seat.root);
      }
    }
    for (const [index, who] of shown.entries()) {
      const seat = this.#seats.get(who.id) ?? this.#newSeat(who);
      fillSeat(seat, who, { me, tab });
      this.#place(seat.root, index);
    }
    this.#list.dataset.size = shown.length > 12 ? "many" : shown.length > 4 ? "some" : "few";
    this.#showRest(people.size - shown.length);
    this.#dropPointersOf(people);
  }

  /** A few words over somebody's head, for a moment. */
  bubble(id, words) {
    const seat = this.#seats.get(id);
    if (seat) {
      const text = element("span");
      text.textContent = clip(words, BUBBLE_LIMIT);
      seat.bubble.replaceChildren(text);
      seat.bubble.hidden = false;
      clearTimeout(seat.bubbleTimer);
      seat.bubbleTimer = setTimeout(() => (seat.bubble.hidden = true), BUBBLE_LINGERS_MS);
    }
  }

  /** Somebody is waved at: their avatar wobbles. */
  wobble(id) {
    const avatar = this.#seats.get(id)?.avatar;
    avatar?.classList.remove("wobble");
    requestAnimationFrame(() => avatar?.classList.add("wobble"));
  }

  /** Moves somebody's pointer. `x` and `y` are parts of the stage from 0 to 1; without them it goes. */
  point({ tab, id, name, x, y }) {
    const key = plain(tab);
    if (!Number.isFinite(x) || !Number.isFinite(y)) {
      this.#dropPointer(key);
      return;
    }
    const pointer = this.#pointers.get(key) ?? this.#newPointer(key, plain(id), clip(name, 32));
    if (pointer) {
      pointer.root.style.setProperty("--x", String(Math.min(1, Math.max(0, x))));
      pointer.root.style.setProperty("--y", String(Math.min(1, Math.max(0, y))));
      clearTimeout(pointer.timer);
      pointer.timer = setTimeout(() => this.#dropPointer(key), POINTER_LINGERS_MS);
    }
  }

  #newSeat(who) {
    const root = element("li", "seat");
    const button = element("button", "seat-button");
    button.type = "button";
    button.addEventListener("click", () => this.#onWave(who.id));
    const avatar = element("span", "avatar");
    const typing = element("span", "seat-typing");
    typing.append(element("i"), element("i"), element("i"));
    button.append(avatar, typing);
    const [bubble, name, you, note, devices] = ["bubble", "seat-name", "seat-you", "seat-note", "seat-devices"].map((kind) => element("span", kind));
    bubble.hidden = true;
    you.textContent = "you";
    root.append(bubble, button, you, name, note, devices);
    root.style.setProperty("--hue", String(hue(who.id)));
    const seat = { root, button, avatar, bubble, name, note, devices, bubbleTimer: null };
    this.#seats.set(who.id, seat);
    return seat;
  }

  #place(root, index) {
    const there = [...this.#list.children].filter((child) => !child.matches(".leaving, .ghost, .more"));
    if (there[index] !== root) {
      this.#list.insertBefore(root, there[index] ?? this.#list.querySelector(".ghost, .more"));
    }
  }

  #showRest(count) {
    if (count > 0) {
      this.#more.textContent = `and ${count} more`;
      this.#list.append(this.#more);
    } else {
      this.#more.remove();
    }
  }

  #newPointer(key, id, name) {
    if (this.#pointers.size >= POINTERS) {
      return null;
    }
    const root = element("div", "cursor");
    const label = element("span", "cursor-name");
    label.textContent = name;
    root.append(arrow(), label);
    root.style.setProperty("--hue", String(hue(id)));
    this.#cursors.append(root);
    const pointer = { root, id, timer: null };
    this.#pointers.set(key, pointer);
    return pointer;
  }

  #dropPointer(key) {
    const pointer = this.#pointers.get(key);
    if (pointer) {
      clearTimeout(pointer.timer);
      pointer.root.remove();
      this.#pointers.delete(key);
    }
  }

  #dropPointersOf(people) {
    for (const [key, pointer] of this.#pointers) {
      const devices = people.get(pointer.id)?.devices ?? [];
      if (!devices.some((device) => device.tab === key)) {
        this.#dropPointer(key);
      }
    }
  }
}

/** Fills an avatar with somebody's letters and colour. */
export function fillAvatar(avatar, id, name) {
  avatar.textContent = initials(name);
  avatar.style.setProperty("--hue", String(hue(id)));
}

export function element(tag, className) {
  const made = document.createElement(tag);
  if (className) {
    made.className = className;
  }
  return made;
}

function seatOrder(people, me) {
  const all = [...people.values()];
  return [...all.filter((one) => one.id === me), ...all.filter((one) => one.id !== me)];
}

function fillSeat(seat, who, { me, tab }) {
  const mine = who.id === me;
  seat.root.dataset.status = who.status;
  seat.root.dataset.id = who.id;
  seat.root.dataset.devices = String(who.devices.length);
  seat.root.classList.toggle("mine", mine);
  seat.avatar.textContent = initials(who.name);
  seat.name.textContent = who.name;
  seat.note.textContent = who.note;
  seat.note.hidden = !who.note;
  seat.button.disabled = me === null;
  const words = [who.name + (mine ? ", you" : ""), STATUS_WORDS[who.status], counted(who.devices.length, "device"), who.note].filter(Boolean);
  seat.button.setAttribute("aria-label", me === null ? words.join(", ") : `${words.join(", ")}. Wave`);
  seat.button.title = me === null ? "" : `Wave at ${mine ? "yourself" : who.name}`;
  fillDevices(seat.devices, who.devices, tab);
}

function fillDevices(root, devices, tab) {
  root.setAttribute("aria-hidden", "true");
  const icons = devices.slice(0, 6).map((device) => {
    const icon = element("span", `device ${device.kind}`);
    icon.dataset.status = device.status;
    icon.classList.toggle("this-tab", device.tab === tab);
    icon.title = `${device.kind === "phone" ? "Phone" : "Desktop"}, ${device.status}${device.tab === tab ? ", this tab" : ""}`;
    return icon;
  });
  const words = element("span", "device-count");
  words.textContent = counted(devices.length, "device");
  root.replaceChildren(...icons, words);
}

function leave(root) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    root.remove();
    return;
  }
  root.classList.add("leaving");
  root.addEventListener("animationend", (event) => event.target === root && root.remove());
  // A hidden tab runs no animation and so never ends one.
  setTimeout(() => root.remove(), 600);
}

function arrow() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M3 2.2 16.6 9.3c.8.4.7 1.5-.1 1.8l-5.2 1.6-2.7 4.8c-.4.8-1.6.6-1.8-.2L2 3.2c-.1-.7.4-1.2 1-1Z");
  svg.append(path);
  return svg;
}
