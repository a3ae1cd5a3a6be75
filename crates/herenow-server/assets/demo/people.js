// From presences to people. A presence is one device of somebody; a person is all presences of one key.
// Everything in a meta was said by some other client, so nothing here trusts its shape.

import { cleanName, clip, plain } from "./identity.js";

const NOTE_LIMIT = 48;
/** The liveliest device decides how a person is shown. */
const LIVELINESS = { typing: 3, online: 2, away: 1 };

/** One entry of a presence list as a person. */
export function person(id, entry) {
  const metas = Array.isArray(entry?.metas) ? entry.metas : [];
  const devices = metas.map(device);
  const latest = metas.at(-1) ?? {};
  return {
    id: String(id),
    name: cleanName(latest.name) || cleanName(entry?.name) || cleanName(id) || "Somebody",
    note: metas.map((meta) => text(meta?.note)).findLast(Boolean) ?? "",
    status: devices.map((one) => one.status).reduce(livelier, "away"),
    since: Math.min(...metas.map((meta) => Number(plain(meta?.online_at) || NaN)).filter(Number.isFinite)),
    devices,
  };
}

/** Those who are here, by id, the longest present first. */
export function people(presence) {
  const all = presence.list((id, entry) => person(id, entry));
  const since = (one) => (Number.isFinite(one.since) ? one.since : Infinity);
  all.sort((one, other) => since(one) - since(other) || (one.id < other.id ? -1 : 1));
  return new Map(all.map((one) => [one.id, one]));
}

/** What happened between two moments: arrived, left, device opened, device closed, status. */
export function changes(before, after) {
  const found = [];
  for (const [id, now] of after) {
    const then = before.get(id);
    if (!then) {
      found.push({ what: "arrived", who: now });
    } else if (now.devices.length > then.devices.length) {
      found.push({ what: "opened", who: now });
    } else if (now.devices.length < then.devices.length) {
      found.push({ what: "closed", who: now });
    } else if (settled(now.status) !== settled(then.status)) {
      found.push({ what: settled(now.status), who: now });
    }
  }
  for (const [id, then] of before) {
    if (!after.has(id)) {
      found.push({ what: "left", who: then });
    }
  }
  return found;
}

/** "1 device", "2 devices". */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function device(meta) {
  const kind = ["phone", "desktop"].includes(meta?.device) ? meta.device : "desktop";
  const status = Object.hasOwn(LIVELINESS, plain(meta?.status)) ? meta.status : "online";
  return { ref: plain(meta?.phx_ref), tab: text(meta?.tab), kind, status };
}

function livelier(one, other) {
  return LIVELINESS[other] > LIVELINESS[one] ? other : one;
}

// Typing is too short a thing to be news.
function settled(status) {
  return status === "typing" ? "online" : status;
}

function text(value) {
  return typeof value === "string" ? clip(value.trim(), NOTE_LIMIT) : "";
}
