// Who this tab is: names, the ids behind them, the room in the address.
//
// A name has one id per browser. So the same name in two tabs is one person with two devices, and another
// name is another person. The name itself belongs to the tab: a reload keeps it, a new tab asks again.

const NAME_LIMIT = 32;
const ROOM_LIMIT = 40;
const REMEMBERED_NAMES = 24;
const FIRST = ["Amber", "Brave", "Calm", "Clever", "Curious", "Gentle", "Happy", "Lucky", "Merry", "Nimble", "Quiet", "Sunny", "Swift", "Witty"];
const SECOND = ["Badger", "Beaver", "Falcon", "Ferret", "Finch", "Fox", "Hare", "Heron", "Lynx", "Marten", "Otter", "Owl", "Robin", "Wren"];

/** The name without surrounding or repeated blanks, cut to what a seat can show. */
export function cleanName(text) {
  return clip(plain(text).trim().replace(/\s+/gu, " "), NAME_LIMIT);
}

/** What somebody else sent, if it is a text or a number; else nothing. An object may not even have a `toString`. */
export function plain(value) {
  return typeof value === "string" ? value : typeof value === "number" ? String(value) : "";
}

/** At most `limit` characters of a text, whole code points only. */
export function clip(text, limit) {
  return Array.from(plain(text)).slice(0, limit).join("");
}

/** One or two letters for an avatar: "Ada Lovelace" is AL. */
export function initials(name) {
  const words = cleanName(name).split(" ").filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => Array.from(word)[0]) : Array.from(words[0] ?? "?").slice(0, 2);
  return letters.join("").toUpperCase();
}

/** A hue in degrees, always the same for the same id. */
export function hue(id) {
  let hash = 2166136261;
  for (const unit of String(id)) {
    hash = Math.imul(hash ^ unit.codePointAt(0), 16777619);
  }
  // The golden angle keeps neighbouring hashes from looking alike.
  return Math.round(((hash >>> 0) * 137.508) % 360);
}

/** The room an address names: "#Lobby" is "lobby". Without a usable one, the lobby. */
export function roomFromHash(hash) {
  return cleanRoom(decode(hash.replace(/^#/u, ""))) || "lobby";
}

/** A room name of lower-case letters, digits and dashes. */
export function cleanRoom(text) {
  return clip(String(text).trim().replace(/^#/u, "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/gu, ""), ROOM_LIMIT);
}

/** A friendly name that is not `except`. */
export function suggestName(except) {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  let name = except;
  while (name === except) {
    name = `${pick(FIRST)} ${pick(SECOND)}`;
  }
  return name;
}

/** What a browser remembers. `lasting` outlives the tab, `tab` a reload; either may be refused by the browser. */
export class Memory {
  #unused = newId();

  constructor(lasting, tab) {
    this.lasting = lasting;
    this.tab = tab;
  }

  /** The id behind a name, or the one it will get when it is remembered. */
  idOf(name) {
    return this.#names().find((entry) => sameName(entry.name, name))?.id ?? this.#unused;
  }

  /** Keeps the name and its id, as the latest used, and returns the id. */
  remember(name) {
    const id = this.idOf(name);
    const others = this.#names().filter((entry) => entry.id !== id);
    this.#write(this.lasting, "herenow.names", JSON.stringify([{ name, id }, ...others].slice(0, REMEMBERED_NAMES)));
    if (id === this.#unused) {
      this.#unused = newId();
    }
    return id;
  }

  /** The name used last in this browser, whichever tab it was. */
  lastName() {
    return this.#names()[0]?.name ?? null;
  }

  /** Whether this browser has used the name before. */
  knows(name) {
    return this.#names().some((entry) => sameName(entry.name, name));
  }

  get tabName() {
    return this.#read(this.tab, "herenow.name");
  }

  set tabName(name) {
    this.#write(this.tab, "herenow.name", name);
  }

  #names() {
    try {
      const names = JSON.parse(this.#read(this.lasting, "herenow.names") ?? "[]");
      return names.filter((entry) => typeof entry?.name === "string" && typeof entry?.id === "string");
    } catch {
      return [];
    }
  }

  #read(storage, key) {
    try {
      return storage?.getItem(key) ?? null;
    } catch {
      return null;
    }
  }

  #write(storage, key, value) {
    try {
      if (value === null) {
        storage?.removeItem(key);
      } else {
        storage?.setItem(key, value);
      }
    } catch {
      // A browser that stores nothing still has a working page; it only forgets.
    }
  }
}

/** A short random id; it tells tabs and people apart and proves nothing. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(36).padStart(2, "0")).join("").slice(0, 12);
}

function sameName(one, other) {
  return cleanName(one).toLowerCase() === cleanName(other).toLowerCase();
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
