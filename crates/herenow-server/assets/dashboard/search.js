// The field in the bar: a user by key, topics by how they begin.

import { el, set } from "./dom.js";
import { counted } from "./format.js";

const WAIT_MS = 120;
const MAX_SHOWN = 8;

export class Search {
  #form;
  #input;
  #list;
  #link;
  #timer = null;
  #at = -1;
  #asked = "";
  /** The text that the list is for. */
  #found = null;

  constructor(form, link) {
    this.#form = form;
    this.#link = link;
    this.#input = form.querySelector("input");
    this.#list = form.querySelector("ul");
    this.#input.addEventListener("input", () => this.#typed());
    this.#input.addEventListener("focus", () => this.#typed());
    this.#input.addEventListener("keydown", (event) => this.#pressed(event));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#go();
    });
    form.addEventListener("focusout", (event) => {
      if (!form.contains(event.relatedTarget)) {
        this.#hide();
      }
    });
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  close() {
    this.#input.value = "";
    this.#hide();
  }

  #typed() {
    clearTimeout(this.#timer);
    const text = this.#input.value.trim();
    if (!text) {
      this.#hide();
      return;
    }
    this.#timer = setTimeout(() => this.#look(text), WAIT_MS);
  }

  async #look(text) {
    this.#asked = text;
    const isWanted = () => this.#asked === text && document.activeElement === this.#input;
    try {
      const found = await this.#link.push("search", { text });
      if (isWanted()) {
        this.#show(text, found);
      }
    } catch (error) {
      if (isWanted()) {
        this.#rows(null, [el("li.found-none", { role: "presentation" }, error.message)]);
      }
    }
  }

  #show(text, { topics, user }) {
    const rows = topics.slice(0, MAX_SHOWN).map(([topic, n]) => row("topic", topic, `topic, ${counted(n, "presence")}`));
    if (user) {
      rows.unshift(row("user", text, `user, in ${counted(user.n_topics, "topic")}`));
    } else {
      rows.push(row("user", text, "user, not here now"));
    }
    if (topics.length > MAX_SHOWN) {
      rows.push(el("li.found-none", { role: "presentation" }, "and more topics that begin so"));
    } else if (topics.length === 0) {
      rows.push(el("li.found-none", { role: "presentation" }, `No topic with somebody in it begins with “${text}”`));
    }
    this.#rows(text, rows);
    this.#select(0);
  }

  #rows(text, rows) {
    rows.forEach((one, at) => {
      one.id = `found-${at}`;
      // A click would take the focus from the field first, and close the list.
      one.addEventListener("pointerdown", (event) => event.preventDefault());
      one.addEventListener("click", () => this.#follow(one));
    });
    this.#list.replaceChildren(...rows);
    this.#list.hidden = false;
    set(this.#input, "aria-expanded", "true");
    this.#at = -1;
    this.#found = text;
  }

  #hide() {
    clearTimeout(this.#timer);
    this.#asked = "";
    this.#found = null;
    this.#list.hidden = true;
    set(this.#input, "aria-expanded", "false");
    set(this.#input, "aria-activedescendant", null);
  }

  get #options() {
    return [...this.#list.querySelectorAll('[role="option"]')];
  }

  #select(at) {
    const options = this.#options;
    this.#at = options.length === 0 ? -1 : (at + options.length) % options.length;
    options.forEach((one, index) => set(one, "aria-selected", index === this.#at ? "true" : "false"));
    set(this.#input, "aria-activedescendant", options[this.#at]?.id);
    options[this.#at]?.scrollIntoView({ block: "nearest" });
  }

  #pressed(event) {
    if (event.key === "Escape") {
      if (this.#list.hidden) {
        this.#input.blur();
      }
      this.close();
    } else if ((event.key === "ArrowDown" || event.key === "ArrowUp") && !this.#list.hidden) {
      event.preventDefault();
      this.#select(this.#at + (event.key === "ArrowDown" ? 1 : -1));
    }
  }

  /** Goes where the list says, if it is for what the field has; else that is looked up first. */
  async #go() {
    const text = this.#input.value.trim();
    if (text && this.#found !== text) {
      clearTimeout(this.#timer);
      await this.#look(text);
    }
    // Meanwhile the field may have got another text, or have been left.
    if (this.#found === text && this.#input.value.trim() === text) {
      this.#follow(this.#options[this.#at]);
    }
  }

  #follow(row) {
    if (row?.dataset.href) {
      location.hash = row.dataset.href;
      this.close();
    }
  }
}

function row(kind, name, words) {
  return el("li", { role: "option", "aria-selected": "false", "data-href": `#/${kind}/${encodeURIComponent(name)}` }, el("span.found-name", {}, name), el("span.found-words", {}, words));
}
