// The page: a door with a name on it, a stage with the people behind it, and what they say and do.

import { Memory, cleanName, cleanRoom, newId, plain, roomFromHash, suggestName } from "./identity.js";
import { changes, counted } from "./people.js";
import { Chat, Log, Wire } from "./feed.js";
import { Stage, fillAvatar } from "./stage.js";
import { Room } from "./room.js";

const TYPING_LASTS_MS = 2500;
const NOTE_WAITS_MS = 600;
const POINTER_STEP = 0.03;

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const memory = new Memory(storage("localStorage"), storage("sessionStorage"));
const chat = new Chat($("messages"));
const log = new Log($("events"));
const wire = new Wire($("frames"), () => $("wire").open);
const stage = new Stage($("seats"), $("cursors"), wave);

/** Marks this tab among the devices of one person. */
const tab = newId();
const state = {
  room: roomFromHash(location.hash),
  me: null, // { id, name } once joined
  people: new Map(),
  fresh: true, // the next list is the first of this room
  link: "connecting",
  chosen: "online",
  typing: null,
  announced: [],
};

const room = new Room("/socket", { longPoll: query.get("transport") === "longpoll" }, {
  link: showLink,
  people: showPeople,
  heard,
  frame: (direction, message, data) => wire.frame(direction, message, data),
});

/* Coming in and going out */

function enter() {
  state.fresh = true;
  const meta = state.me && { name: state.me.name, status: liveStatus(), note: $("note").value.trim() || undefined, device: deviceKind(), tab };
  room.enter(state.room, state.me && { id: state.me.id, meta });
}

function join(name) {
  memory.tabName = name;
  state.me = { id: memory.remember(name), name };
  state.chosen = "online";
  document.querySelector('[name="status"][value="online"]').checked = true;
  showMe();
  enter();
}

function leave() {
  memory.tabName = null;
  state.me = null;
  $("note").value = "";
  showMe();
  enter();
}

function showMe() {
  const joined = state.me !== null;
  const closed = state.link === "token";
  $("door").hidden = joined || closed;
  $("me").hidden = !joined || closed;
  $("text").disabled = !joined || closed;
  $("send").disabled = !joined || closed;
  $("text").placeholder = joined ? `Say something in #${state.room}` : "Join to say something";
  document.body.classList.toggle("joined", joined);
  if (joined) {
    stage.await(null);
    fillAvatar($("me-avatar"), state.me.id, state.me.name);
    $("me-name").textContent = state.me.name;
  }
  showRoom();
}

function showRoom() {
  $("room").value = state.room;
  for (const link of document.querySelectorAll("[data-open]")) {
    link.href = `/demo${link.dataset.open === "someone" ? "?new" : ""}#${state.room}`;
  }
}

/** The door says what a name will mean before it is used. */
function showDoor() {
  const name = cleanName($("name").value);
  fillAvatar($("door-avatar"), name ? memory.idOf(name) : "?", name || "?");
  stage.await(state.me ? null : { id: name ? memory.idOf(name) : "?", name });
  const here = name && memory.knows(name);
  $("door-hint").textContent = here
    ? `Same name, same person: if ${name} is here in another tab, this becomes one more device.`
    : "Open this page in two tabs. Another name is another person.";
}

/* What the room says */

function showLink(link, words) {
  if (link !== state.link) {
    const note = { live: "Connected", reconnecting: "Connection lost", refused: words, token: words }[link];
    if (note) {
      log.note(link, note);
    }
  }
  state.link = link;
  $("link").dataset.state = link;
  $("link-text").textContent = link === "token" ? "Refused" : words;
  $("link-how").textContent = link === "live" ? `over ${room.transport}` : "";
  document.body.dataset.link = link;
  if (link === "token") {
    $("stage-title").textContent = "Nobody is let in";
    $("stage-sub").textContent = words;
    stage.await(null);
    announce(words);
    showMe();
  }
  if (link === "reconnecting" && state.people.size > 0) {
    $("stage-sub").textContent = "were here a moment ago. Looking for the server";
  }
}

function showPeople(now) {
  const before = state.people;
  state.people = now;
  const first = state.fresh;
  state.fresh = false;
  stage.render(now, state.me?.id ?? null, tab);
  showCounts();
  if (first) {
    if (state.me) {
      log.note("room", `You are in #${state.room}`);
    }
    return;
  }
  for (const change of changes(before, now)) {
    announce(log.change(change, change.who.id === state.me?.id));
  }
}

function showCounts() {
  if (state.link === "token") {
    return;
  }
  const count = state.people.size;
  const devices = [...state.people.values()].reduce((sum, one) => sum + one.devices.length, 0);
  $("stage-title").textContent = count === 0 ? "Nobody is here yet" : count === 1 ? "One person is here" : `${count} people are here`;
  $("stage-sub").textContent = count === 0 ? `Be the first in #${state.room}` : `in #${state.room}, on ${counted(devices, "device")}`;
  const mine = state.people.get(state.me?.id);
  $("me-devices").textContent = mine ? ` on ${counted(mine.devices.length, "device")}` : "";
  $("lonely").hidden = !(state.me && count === 1 && devices === 1);
  const typists = [...state.people.values()].filter((one) => one.status === "typing" && one.id !== state.me?.id);
  $("typing").textContent = typists.length === 0 ? "" : typists.length === 1 ? `${typists[0].name} is typing` : `${typists.length} people are typing`;
  document.title = `${count ? `(${count}) ` : ""}#${state.room} · herenow`;
}

function heard(event, payload) {
  const id = plain(payload.id);
  const name = state.people.get(id)?.name ?? cleanName(payload.name);
  if (event === "chat" && typeof payload.text === "string") {
    chat.add({ id, name, text: payload.text, mine: id === state.me?.id });
    stage.bubble(id, payload.text);
  } else if (event === "cursor" && payload.tab !== tab) {
    stage.point({ ...payload, name });
  } else if (event === "wave") {
    const to = plain(payload.to);
    stage.wobble(to);
    stage.bubble(id, `waves at ${to === id ? "themselves" : to === state.me?.id ? "you" : state.people.get(to)?.name ?? "somebody"}`);
    if (to === state.me?.id && to !== id) {
      announce(`${name} waves at you`);
    }
  }
}

/** Spoken by screen readers, what happens within a moment in one sentence. */
function announce(words) {
  state.announced.push(words);
  if (state.announced.length === 1) {
    setTimeout(() => {
      const said = state.announced.splice(0);
      $("announce").textContent = `${said.slice(-4).join(". ")}. ${$("stage-title").textContent}`;
    }, 400);
  }
}

/* What this tab says */

function wave(to) {
  if (state.me) {
    room.say("wave", { id: state.me.id, name: state.me.name, to });
  }
}

function liveStatus() {
  if (document.visibilityState === "hidden" || state.chosen === "away") {
    return "away";
  }
  return state.typing === null ? "online" : "typing";
}

function typed() {
  clearTimeout(state.typing);
  state.typing = $("text").value ? setTimeout(stopTyping, TYPING_LASTS_MS) : null;
  room.status(liveStatus());
}

function stopTyping() {
  clearTimeout(state.typing);
  state.typing = null;
  room.status(liveStatus());
}

function point(x, y) {
  if (state.me) {
    room.point({ id: state.me.id, name: state.me.name, tab, x: round(x), y: round(y) });
  }
}

function deviceKind() {
  return matchMedia("(max-width: 700px)").matches || matchMedia("(pointer: coarse)").matches ? "phone" : "desktop";
}

/* Events of the page */

$("door-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = cleanName($("name").value);
  if (name) {
    join(name);
    // On a phone the message field would bring up the keyboard, over the people one came to see.
    $(deviceKind() === "phone" ? "stage" : "text").focus({ preventScroll: true });
  }
});
$("name").addEventListener("input", showDoor);
$("dice").addEventListener("click", () => {
  $("name").value = suggestName($("name").value);
  showDoor();
});
$("leave").addEventListener("click", () => {
  leave();
  $("name").focus();
});
$("someone").addEventListener("click", () => {
  $("name").value = suggestName(state.me?.name);
  leave();
  showDoor();
  $("name").select();
});
$("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = cleanRoom($("room").value) || "lobby";
  showRoom();
});
addEventListener("hashchange", () => {
  const next = roomFromHash(location.hash);
  if (next !== state.room) {
    state.room = next;
    state.people = new Map();
    stage.render(state.people, state.me?.id ?? null, tab);
    showCounts();
    showMe();
    enter();
  }
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text && state.me) {
    room.say("chat", { id: state.me.id, name: state.me.name, text });
    $("text").value = "";
    stopTyping();
  }
});
$("text").addEventListener("input", typed);
for (const radio of document.querySelectorAll('[name="status"]')) {
  radio.addEventListener("change", () => {
    state.chosen = radio.value;
    room.status(liveStatus());
  });
}
document.addEventListener("visibilitychange", () => room.status(liveStatus()));

let noteTimer = null;
const sendNote = () => {
  clearTimeout(noteTimer);
  room.patch({ note: $("note").value.trim() });
};
$("note").addEventListener("input", () => {
  clearTimeout(noteTimer);
  noteTimer = setTimeout(sendNote, NOTE_WAITS_MS);
});
$("note-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sendNote();
});

$("stage").addEventListener("pointermove", (event) => {
  const box = $("stage").getBoundingClientRect();
  point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
});
$("stage").addEventListener("pointerleave", () => point(null, null));
const keyPointer = { x: 0.5, y: 0.5 };
$("stage").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (step && event.target === $("stage")) {
    event.preventDefault();
    keyPointer.x = Math.min(1, Math.max(0, keyPointer.x + step[0] * POINTER_STEP));
    keyPointer.y = Math.min(1, Math.max(0, keyPointer.y + step[1] * POINTER_STEP));
    point(keyPointer.x, keyPointer.y);
  }
});

/* Start */

function start() {
  const asNew = query.has("new");
  $("name").value = (asNew ? null : memory.lastName()) ?? suggestName(memory.lastName());
  showDoor();
  if (memory.tabName && cleanName(memory.tabName)) {
    join(cleanName(memory.tabName));
  } else {
    showMe();
    enter();
    $("name").select();
  }
}

function storage(kind) {
  try {
    return window[kind];
  } catch {
    return null;
  }
}

function round(part) {
  return part === null ? null : Math.round(part * 1000) / 1000;
}

start();
