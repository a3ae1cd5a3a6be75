// Numbers and times as people read them.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** What is shown where nothing is known. */
export const NONE = "–";

/** `12,408`. */
export function count(n) {
  return Number.isFinite(n) ? whole.format(n) : NONE;
}

/** `0`, `0.4`, `12`, `9,800`, `31.4k`, `2.4M`. */
export function short(n) {
  if (!Number.isFinite(n)) {
    return NONE;
  }
  if (n >= 999_500) {
    return `${tenth.format(n / 1e6)}M`;
  }
  if (n >= 9_999.5) {
    return `${tenth.format(n / 1e3)}k`;
  }
  return n === 0 || n >= 10 || Number.isInteger(n) ? whole.format(n) : tenth.format(n);
}

/** `840 B/s`, `3.1 MB/s`. */
export function bytes(n) {
  if (!Number.isFinite(n)) {
    return NONE;
  }
  const units = ["B", "kB", "MB", "GB"];
  let value = n;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? whole.format(value) : tenth.format(value)} ${units[unit]}/s`;
}

/** `1 device`, `2 devices`. */
export function counted(n, noun, plural = `${noun}s`) {
  return `${count(n)} ${n === 1 ? noun : plural}`;
}

/** How long: `4 s`, `12 min`, `3 h 20 min`, `5 d 2 h`. */
export function lasted(ms) {
  if (!Number.isFinite(ms)) {
    return NONE;
  }
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [days, hours, minutes] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60];
  if (days > 0) {
    return hours > 0 ? `${days} d ${hours} h` : `${days} d`;
  }
  if (hours > 0) {
    return minutes > 0 ? `${hours} h ${minutes} min` : `${hours} h`;
  }
  return minutes > 0 ? `${minutes} min` : `${seconds} s`;
}

/** `just now`, `12 s ago`. */
export function ago(ms) {
  return ms < 1500 ? "just now" : `${lasted(ms)} ago`;
}

/** `14:03:07`. */
export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

/** When a presence began, by the `online_at` of its meta: Unix seconds. Null if that is no time. */
export function since(meta) {
  const seconds = Number(typeof meta?.online_at === "object" ? NaN : meta?.online_at);
  return seconds > 0 && seconds < 1e11 ? seconds * 1000 : null;
}

/** Compares names as the server orders them, by code points: `<` puts what is beyond U+FFFF before U+E000. */
export function inOrder(one, other) {
  const end = Math.min(one.length, other.length);
  for (let at = 0; at < end; at += 1) {
    const [unit, otherUnit] = [one.charCodeAt(at), other.charCodeAt(at)];
    if (unit !== otherUnit) {
      return ranked(unit) - ranked(otherUnit);
    }
  }
  return one.length - other.length;
}

/** The halves of characters beyond U+FFFF, after all whole ones. */
function ranked(unit) {
  return unit >= 0xd800 && unit < 0xe000 ? unit + 0x10000 : unit;
}
