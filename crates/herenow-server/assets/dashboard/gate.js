// What is shown instead of a view: the way in, and why there is none.

import { el } from "./dom.js";

/** Asks for a key of the API, or says that there is none to ask for. `problem` is what the server answered. */
export function gate(main, problem, hadKey, enter) {
  const isClosed = problem?.type?.endsWith("#api-closed") ?? false;
  // Any key may look, so who is forbidden to is refused for where the request comes from.
  const isElsewhere = problem?.type?.endsWith("#forbidden") ?? false;
  main.replaceChildren(isClosed || isElsewhere ? closed(problem, isClosed) : door(problem, hadKey, enter));
  main.querySelector("input")?.focus();
}

function door(problem, hadKey, enter) {
  const input = el("input", { id: "key", type: "password", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-help key-error", "aria-invalid": hadKey || null, placeholder: "Secret of the key", enterkeyhint: "go" });
  const error = el("p.error", { id: "key-error", role: "alert" }, hadKey ? sentence(problem?.detail ?? "the server refuses this key") : "");
  const form = el(
    "form.door",
    { onsubmit: (event) => {
      event.preventDefault();
      if (input.value.trim()) {
        enter(input.value.trim());
      }
    } },
    lock(),
    el("h2", {}, "This dashboard is for operators"),
    el("p", { id: "key-help" }, "Enter the secret of a key of the API. One that may read can look; one that may write can evict, too. It stays in this tab."),
    el("label.sr-only", { for: "key" }, "Secret of the key"),
    el("div.door-field", {}, input, el("button.button.primary", { type: "submit" }, "Open")),
    error,
  );
  return form;
}

function closed(problem, isClosed) {
  const help = isClosed
    ? [
        el("p", {}, "The server has no keys for its API, so nobody may look. Start it with one:"),
        el("pre", {}, el("code", {}, "HERENOW_API_KEYS=me:write:$(openssl rand -hex 16)")),
        el("p", {}, "and enter that secret here after reloading this page."),
      ]
    : [el("p", {}, sentence(problem.detail)), el("p", {}, "Open it on this machine by a loopback address and through no proxy, or set a key with HERENOW_API_KEYS.")];
  return el("section.door", {}, lock(), el("h2", {}, isClosed ? "The dashboard is closed" : "The dashboard does not answer here"), ...help);
}

/** Nothing is known yet. */
export function waiting(main, state) {
  const words = state === "unreachable" ? ["The server does not answer", "This page tries again by itself, every few seconds."] : ["Connecting", "Asking the nodes how they do."];
  main.replaceChildren(el("section.door.waiting", {}, el("span.pulse", { "aria-hidden": "true" }), el("h2", {}, words[0]), el("p", {}, words[1])));
}

function lock() {
  return el("span.lock", { "aria-hidden": "true" });
}

/** What the server says begins in lower case and has no full stop. */
export function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}
