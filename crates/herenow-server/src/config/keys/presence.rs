//! Keys of presences: `[presence]`.

use std::time::Duration;

use super::{DAY, GIB, MAX_WINDOW, at_least_one, narrowed};
use crate::config::ServerConfig;
use crate::config::kind::{Key, Kind};

/// Keys of `[presence]`.
pub(super) static PRESENCE_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "presence.n_shards",
        help: "parts that all topics are spread over, each with tasks of its own",
        kind: Kind::Count {
            min: 1,
            max: 1024,
            get: |config| config.presence.n_shards.get().into(),
            set: |config, count| config.presence.n_shards = narrowed(at_least_one(count)),
        },
    },
    Key {
        name: "presence.max_topic_bytes",
        help: "longest topic that can have presences",
        kind: Kind::Size {
            min: 1,
            max: 1024,
            get: |config| config.presence.max_topic_bytes,
            set: |config, bytes| config.presence.max_topic_bytes = bytes,
        },
    },
    Key {
        name: "presence.max_key_bytes",
        help: "longest key, which is the user_id of a client",
        kind: Kind::Size {
            min: 1,
            max: 1024,
            get: |config| config.presence.max_key_bytes,
            set: |config, bytes| config.presence.max_key_bytes = bytes,
        },
    },
    Key {
        name: "presence.max_meta_bytes",
        help: "largest meta, as JSON",
        kind: Kind::Size {
            min: 2,
            max: 65_536,
            get: |config| config.presence.max_meta_bytes,
            set: |config, bytes| config.presence.max_meta_bytes = bytes,
        },
    },
    Key {
        name: "presence.max_metas_per_key",
        help: "most presences under one key of one topic, such as tabs of one user",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.presence.max_metas_per_key,
            set: |config, count| config.presence.max_metas_per_key = count,
        },
    },
    Key {
        name: "presence.max_queued",
        help: "writes that may wait for one shard; more wait for room, up to write_deadline",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000,
            get: |config| config.presence.max_queued.get() as usize,
            set: |config, count| config.presence.max_queued = narrowed(at_least_one(count)),
        },
    },
    Key {
        name: "presence.write_deadline",
        help: "time that a write may take before its client gets an error",
        kind: Kind::Duration {
            min: Duration::from_millis(1),
            max: DAY,
            get: |config| config.presence.write_deadline,
            set: |config, time| config.presence.write_deadline = time,
        },
    },
    Key {
        name: "presence.window_free_subscribers",
        help: "up to this many subscribers of a topic, every diff leaves at once",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
            get: |config| config.presence.window.free_subscribers,
            set: |config, count| config.presence.window.free_subscribers = count,
        },
    },
    Key {
        name: "presence.window_per_subscriber",
        help: "above that, a diff waits this long for each subscriber to be sent with others as one",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: MAX_WINDOW,
            get: |config| config.presence.window.per_subscriber,
            set: |config, time| config.presence.window.per_subscriber = time,
        },
    },
    Key {
        name: "presence.window_max",
        help: "but never longer than this",
        kind: Kind::Duration {
            min: Duration::ZERO,
            max: MAX_WINDOW,
            get: |config| config.presence.window.max,
            set: |config, time| config.presence.window.max = time,
        },
    },
    Key {
        name: "presence.max_held",
        help: "users that one shard may still show though their connection ended; more are gone at once",
        kind: Kind::Count {
            min: 0,
            max: 100_000_000,
            get: |config| config.presence.shard.max_held,
            set: |config, count| config.presence.shard.max_held = count,
        },
    },
    Key {
        name: "presence.max_pending_changes",
        help: "changes of one topic that may wait for a window; more end it early",
        kind: Kind::Count {
            min: 1,
            max: 100_000_000,
            get: |config| config.presence.max_pending_changes,
            set: |config, count| config.presence.max_pending_changes = count,
        },
    },
    Key {
        name: "presence.parts_from_bytes",
        help: "bytes of JSON from which the list of a topic is sent in parts: presence_state, and presence_diffs after it",
        kind: Kind::Size {
            min: 1,
            max: GIB,
            get: |config| config.presence.big_room.parts_from_bytes,
            set: |config, bytes| config.presence.big_room.parts_from_bytes = bytes,
        },
    },
    Key {
        name: "presence.part_bytes",
        help: "size from which such a part is full",
        kind: Kind::Size {
            min: 1_024,
            max: GIB,
            get: |config| config.presence.big_room.part_bytes.get(),
            set: |config, bytes| config.presence.big_room.part_bytes = at_least_one(bytes),
        },
    },
    Key {
        name: "presence.summary_from",
        help: "presences of a topic from which clients that asked for modes get a count and a sample",
        kind: Kind::Count {
            min: 1,
            max: 1_000_000_000,
            get: |config| config.presence.big_room.summary_from,
            set: |config, count| config.presence.big_room.summary_from = count,
        },
    },
    Key {
        name: "presence.summary_until",
        help: "presences below which they get the list again; at most summary_from",
        kind: Kind::Count {
            min: 0,
            max: 1_000_000_000,
            get: |config| config.presence.big_room.summary_until,
            set: |config, count| config.presence.big_room.summary_until = count,
        },
    },
    Key {
        name: "presence.count_interval",
        help: "least time between two such counts",
        kind: Kind::Duration {
            min: Duration::from_millis(10),
            max: DAY,
            get: |config| config.presence.big_room.count_interval,
            set: |config, time| config.presence.big_room.count_interval = time,
        },
    },
    Key {
        name: "presence.max_sample",
        help: "users in such a sample at most",
        kind: Kind::Count {
            min: 0,
            max: 1_000,
            get: |config| config.presence.big_room.max_sample,
            set: |config, count| config.presence.big_room.max_sample = count,
        },
    },
];
