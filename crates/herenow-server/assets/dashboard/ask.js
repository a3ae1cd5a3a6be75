// The one question of the page: whether somebody is really to be evicted.

import { say } from "./dom.js";
import { sentence } from "./gate.js";

const $ = (id) => document.getElementById(id);

export class Ask {
  #link;
  #wish = null;

  constructor(link) {
    this.#link = link;
    $("ask-yes").addEventListener("click", () => this.#evict());
  }

  /** Asks, and evicts `key` from `topic`, or from everywhere without one. `done` is called after it was. */
  evict(key, topic, done) {
    this.#wish = { key, topic, done };
    say($("ask-title"), topic === undefined ? `Evict ${key} from everywhere?` : `Evict ${key} from ${topic}?`);
    say($("ask-text"), topic === undefined ? "All topics are left on all nodes, and all connections of this user are closed. Who has a valid token may come back." : "The topic is left on all nodes; other topics stay. Clients do not come back by themselves, but may.");
    $("ask-error").hidden = true;
    $("ask-yes").disabled = false;
    $("ask").showModal();
  }

  async #evict() {
    const wish = this.#wish;
    const { key, topic, done } = wish;
    // Who cancels meanwhile may have asked for another.
    const isAsked = () => this.#wish === wish;
    $("ask-yes").disabled = true;
    try {
      await this.#link.push("evict", topic === undefined ? { key } : { key, topic });
      if (isAsked()) {
        $("ask").close();
      }
      done();
    } catch (error) {
      if (!isAsked()) {
        return;
      }
      say($("ask-error"), sentence(error.message.replace(/\.$/u, "")));
      $("ask-error").hidden = false;
      $("ask-yes").disabled = false;
    }
  }
}
