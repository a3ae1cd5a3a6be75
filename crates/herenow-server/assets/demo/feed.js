// The three lists beside the stage: messages, comings and goings, frames. Bounded, and text only.

import { clip, hue } from "./identity.js";
import { counted } from "./people.js";
import { element } from "./stage.js";

const LINES = 100;
const FRAMES = 40;
const FRAME_LIMIT = 600;
const MESSAGE_LIMIT = 400;

export class Chat {
  #list;

  constructor(list) {
    this.#list = list;
  }

  /** Adds a message; stays at the end unless the reader has scrolled up. */
  add({ id, name, text, mine }) {
    this.#list.querySelector(".empty")?.remove();
    const atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < 40;
    const line = element("li", mine ? "message mine" : "message");
    line.style.setProperty("--hue", String(hue(id)));
    const who = element("span", "message-who");
    const words = element("span", "message-text");
    who.textContent = clip(name, 32);
    words.textContent = clip(text, MESSAGE_LIMIT);
    line.append(who, words, clock());
    // Several messages of one person in a row share one name.
    line.classList.toggle("same", this.#list.lastElementChild?.dataset.id === id);
    line.dataset.id = id;
    this.#list.append(line);
    trim(this.#list, "firstElementChild", LINES);
    if (atEnd || mine) {
      this.#list.scrollTop = this.#list.scrollHeight;
    }
  }
}

export class Log {
  #list;

  constructor(list) {
    this.#list = list;
  }

  /** Adds what happened to somebody and returns it as a sentence. */
  change({ what, who }, mine) {
    const name = mine ? "You" : who.name;
    const words = {
      arrived: "arrived",
      left: "left",
      opened: `opened device number ${who.devices.length}`,
      closed: `closed a device, ${counted(who.devices.length, "device")} left`,
      away: mine ? "are away" : "is away",
      online: mine ? "are back" : "is back",
    }[what];
    this.#add(what, hue(who.id), name, words);
    return `${name} ${words}`;
  }

  /** Adds a line about the connection or the room itself. */
  note(what, words) {
    this.#add(what, null, "", words);
  }

  #add(what, itsHue, name, words) {
    const line = element("li", "event");
    line.dataset.what = what;
    if (itsHue !== null) {
      line.style.setProperty("--hue", String(itsHue));
    }
    const who = element("strong");
    who.textContent = name;
    const did = element("span");
    did.append(who, name ? ` ${words}` : words);
    line.append(element("i", "event-mark"), did, clock());
    this.#list.prepend(line);
    trim(this.#list, "lastElementChild", LINES);
  }
}

export class Wire {
  #list;
  #shown;

  /** `shown()` tells whether anybody looks: a hidden list costs nothing. */
  constructor(list, shown) {
    this.#list = list;
    this.#shown = shown;
  }

  frame(direction, message, data) {
    if (!this.#shown()) {
      return;
    }
    const line = element("li", `frame ${direction}`);
    const head = element("b");
    head.textContent = `${direction === "sent" ? "↑" : "↓"} ${message.trim()}`;
    const body = element("code");
    body.textContent = clip(JSON.stringify(data) ?? "", FRAME_LIMIT);
    line.append(head, body);
    this.#list.prepend(line);
    trim(this.#list, "lastElementChild", FRAMES);
  }
}

function trim(list, end, limit) {
  while (list.childElementCount > limit) {
    list[end].remove();
  }
}

function clock() {
  const time = element("time");
  const now = new Date();
  time.dateTime = now.toISOString();
  time.textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return time;
}
