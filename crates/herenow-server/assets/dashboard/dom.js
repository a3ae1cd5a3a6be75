// Making and changing elements. Text is always text: nothing here reads markup.

/** Makes an element: `el("a.name", { href: "#/" }, "text", child, null)`. */
export function el(what, properties = {}, ...children) {
  const [tag, ...classes] = what.split(".");
  const made = document.createElement(tag);
  made.classList.add(...classes);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) {
      made.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** The same for SVG. */
export function svg(tag, properties = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(properties)) {
    made.setAttribute(name, String(value));
  }
  made.append(...children);
  return made;
}

/** Sets a text, and touches nothing if it is the same. */
export function say(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Sets or removes an attribute. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * A list whose entries keep their elements, so that focus, selection and scrolling stay while it changes.
 * `make(item)` returns `{ element, update(item), close?() }`.
 */
export class Keyed {
  #parent;
  #make;
  #known = new Map();

  constructor(parent, make) {
    this.#parent = parent;
    this.#make = make;
  }

  show(items, keyOf) {
    const before = this.#known;
    this.#known = new Map();
    for (const item of items) {
      const key = keyOf(item);
      const entry = before.get(key) ?? this.#make(item);
      before.delete(key);
      entry.update(item);
      this.#known.set(key, entry);
    }
    // First, so that nothing that stays is moved only because something above it goes: it would lose the focus.
    for (const gone of before.values()) {
      gone.element.remove();
      gone.close?.();
    }
    let at = this.#parent.firstElementChild;
    for (const entry of this.#known.values()) {
      if (entry.element === at) {
        at = at.nextElementSibling;
      } else {
        this.#parent.insertBefore(entry.element, at);
      }
    }
  }
}
