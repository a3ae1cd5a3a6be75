//! Who is where, as JSON for the page: pages of a topic, what happens in it, the places of a key.

use herenow_presence::{Entry, Event, Presence, PresenceMeta};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::events::reason_word;

/// Keys of one page.
pub(super) const PAGE: usize = 100;
/// Presences of one key that are shown, and topics of one user.
const MAX_METAS: usize = 16;
const MAX_PLACES: usize = 100;
/// The largest meta that is shown, and the largest fields that `fetch` added.
const MAX_JSON_BYTES: usize = 2_048;

/// One presence: a device of somebody.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    #[serde(rename = "ref")]
    meta_ref: String,
    node: String,
    /// Null if it is too large to be shown.
    meta: Option<Box<RawValue>>,
    meta_bytes: usize,
}

/// One key of a topic.
#[derive(Debug, Serialize)]
pub(super) struct Person {
    key: String,
    devices: Vec<Device>,
    /// All of them, also those that are not shown.
    n_devices: usize,
    /// What `fetch` added.
    fields: Option<Box<RawValue>>,
}

/// Some of those who are in a topic.
#[derive(Debug, Serialize)]
pub(super) struct People {
    n_presences: usize,
    n_keys: usize,
    people: Vec<Person>,
    /// The key after which the next page begins, if there is one.
    next: Option<String>,
}

/// One thing that happened in a topic.
#[derive(Debug, Serialize)]
pub(super) struct Happening {
    /// `joined`, `updated` or `left`.
    what: &'static str,
    key: String,
    device: Device,
    /// The writing that an update replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    /// Whether the key came, or has gone altogether.
    whole: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// Where a key is.
#[derive(Debug, Serialize)]
pub(super) struct Places {
    places: Vec<Place>,
    has_more: bool,
}

#[derive(Debug, Serialize)]
struct Place {
    topic: String,
    devices: Vec<Device>,
    n_devices: usize,
}

impl Device {
    fn of(meta: &PresenceMeta) -> Self {
        let json = meta.json();
        let meta_bytes = json.len();
        Self {
            meta_ref: meta.meta_ref().as_str().to_owned(),
            node: meta.node().to_string(),
            meta: bounded(json),
            meta_bytes,
        }
    }

    fn some_of(entry: &Entry) -> Vec<Self> {
        let metas = entry.metas().iter().take(MAX_METAS);
        metas.map(Self::of).collect()
    }
}

impl Person {
    /// Who a key is in a topic now, without what `fetch` adds, if it is there.
    pub(super) fn now(presence: &Presence, topic: &str, key: &str) -> Option<Self> {
        presence.entry(topic, key).as_ref().map(Self::of)
    }

    fn of(entry: &Entry) -> Self {
        Self {
            key: entry.key().to_string(),
            devices: Device::some_of(entry),
            n_devices: entry.metas().len(),
            fields: entry.fields_json().and_then(bounded),
        }
    }
}

impl People {
    /// The page of a topic that begins after a key, with what `fetch` adds.
    pub(super) async fn page(presence: &Presence, topic: &str, after: Option<&str>) -> Self {
        let page = presence.page(topic, after, PAGE).await;
        let last = page.entries.last().filter(|_| page.has_more);
        Self {
            n_presences: page.n_metas,
            n_keys: page.n_keys,
            next: last.map(|entry| entry.key().to_string()),
            people: page.entries.iter().map(Person::of).collect(),
        }
    }
}

impl Happening {
    /// `None` for an event of a kind that is not known here.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let (what, meta, replaces, whole, reason) = match event {
            Event::Joined { meta, first, .. } => ("joined", meta, None, *first, None),
            Event::Updated { old, new, .. } => ("updated", new, Some(old), false, None),
            Event::Left {
                meta, last, reason, ..
            } => ("left", meta, None, *last, Some(reason_word(*reason))),
            _ => return None,
        };
        Some(Self {
            what,
            key: meta.key().to_string(),
            device: Device::of(meta),
            replaces: replaces.map(|old| old.meta_ref().as_str().to_owned()),
            whole,
            reason,
        })
    }
}

impl Places {
    /// Where a key is now, over all nodes.
    pub(super) fn of(presence: &Presence, key: &str) -> Self {
        let mut found = presence.where_is(key, None, MAX_PLACES + 1);
        let has_more = found.len() > MAX_PLACES;
        found.truncate(MAX_PLACES);
        let place = |(topic, entry): &(herenow_presence::Topic, Entry)| Place {
            topic: topic.to_string(),
            devices: Device::some_of(entry),
            n_devices: entry.metas().len(),
        };
        Self {
            places: found.iter().map(place).collect(),
            has_more,
        }
    }
}

/// JSON text that presence rendered, if it is small enough to be shown.
fn bounded(json: String) -> Option<Box<RawValue>> {
    let is_small = json.len() <= MAX_JSON_BYTES;
    is_small.then(|| RawValue::from_string(json).expect("presence renders JSON"))
}
