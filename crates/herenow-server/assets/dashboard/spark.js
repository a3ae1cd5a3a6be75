// The last minutes of a number: a ring of values, and the line that shows them.

import { set, svg } from "./dom.js";

/** One value a second. */
export const N_VALUES = 150;
const [WIDTH, HEIGHT] = [N_VALUES - 1, 28];

export class History {
  values = [];

  add(value) {
    this.values.push(Number.isFinite(value) ? value : null);
    this.values.splice(0, Math.max(0, this.values.length - N_VALUES));
  }

  get now() {
    return this.values.at(-1) ?? null;
  }

  /** The value so many seconds ago, or the oldest. */
  ago(seconds) {
    return this.values.at(-1 - seconds) ?? this.values.find((value) => value !== null) ?? null;
  }
}

/** A line without axes, scaled to what it shows; `floor` keeps small wobbles of a large number small. */
export class Spark {
  #line = svg("path", { class: "spark-line" });
  #area = svg("path", { class: "spark-area" });
  #name;

  constructor(name) {
    this.#name = name;
    this.element = svg("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: nothing yet` }, this.#area, this.#line);
  }

  show(history, write) {
    const known = history.values.filter((value) => value !== null);
    const [low, high] = [Math.min(...known), Math.max(...known)];
    // From zero, unless the number is large and steady: then what changes is what is of interest.
    const base = low > 0.6 * high ? Math.max(0, low - Math.max((high - low) * 0.5, high * 0.02)) : 0;
    const range = Math.max(high - base, 1e-9);
    const y = (value) => (high <= 0 ? HEIGHT - 1 : HEIGHT - 1 - ((value - base) / range) * (HEIGHT - 4));
    const begin = N_VALUES - history.values.length;
    const points = history.values.map((value, at) => (value === null ? null : `${begin + at} ${y(value).toFixed(2)}`)).filter(Boolean);
    const line = points.length > 1 ? `M${points.join("L")}` : "";
    const [first, last] = [points[0], points.at(-1)].map((point) => point?.split(" ")[0]);
    this.#line.setAttribute("d", line);
    this.#area.setAttribute("d", line && `${line}L${last} ${HEIGHT}L${first} ${HEIGHT}Z`);
    set(this.element, "aria-label", known.length > 0 ? `${this.#name}, last minutes: from ${write(low)} to ${write(high)}, now ${write(known.at(-1))}` : `${this.#name}: nothing yet`);
  }
}
