//! Keys of the Supabase Realtime dialect: `[supabase]`.

use super::GIB;
use crate::config::kind::{Key, Kind};
use crate::config::supabase::KEYS_FORM;
use crate::config::{PublishableKey, ServerConfig};

/// Keys of `[supabase]`.
pub(super) static SUPABASE_KEYS: &[Key<ServerConfig>] = &[
    Key {
        name: "supabase.enabled",
        help: "whether clients of Supabase Realtime are served at /realtime/v1",
        kind: Kind::Switch {
            get: |config| Some(config.supabase.enabled),
            set: |config, on| config.supabase.enabled = on,
        },
    },
    Key {
        name: "supabase.publishable_keys",
        help: "keys that are no tokens, such as `sb_publishable_…`: whoever has one may use public channels, and be present there by a key of the server's choice",
        kind: Kind::Secrets {
            form: KEYS_FORM,
            wrong: PublishableKey::wrong,
            set: |config, texts| {
                config.supabase.publishable_keys = texts
                    .iter()
                    .filter_map(|text| PublishableKey::parse(text))
                    .collect();
            },
        },
    },
    Key {
        name: "supabase.presence_enabled",
        help: "whether a join that says nothing of presence wants to know who is here; one that names a key does in any case",
        kind: Kind::Switch {
            get: |config| Some(config.supabase.presence_enabled),
            set: |config, on| config.supabase.presence_enabled = on,
        },
    },
    Key {
        name: "supabase.trust_presence_key",
        help: "whether clients choose the keys of their presences (presence.key), as with Supabase; without it, the key is the token's sub",
        kind: Kind::Switch {
            get: |config| Some(config.supabase.trust_presence_key),
            set: |config, on| config.supabase.trust_presence_key = on,
        },
    },
    Key {
        name: "supabase.private_only",
        help: "whether public channels are refused",
        kind: Kind::Switch {
            get: |config| Some(config.supabase.private_only),
            set: |config, on| config.supabase.private_only = on,
        },
    },
    Key {
        name: "supabase.max_payload_bytes",
        help: "largest broadcast of a client of Supabase Realtime",
        kind: Kind::Size {
            min: 2,
            max: GIB,
            get: |config| config.supabase.max_payload_bytes,
            set: |config, bytes| config.supabase.max_payload_bytes = bytes,
        },
    },
    Key {
        name: "supabase.max_batch",
        help: "most messages of one request that broadcasts over HTTP; all of them can be for one room, so keep it well below socket.max_queue_messages",
        kind: Kind::Count {
            min: 1,
            max: 10_000,
            get: |config| config.supabase.max_batch,
            set: |config, count| config.supabase.max_batch = count,
        },
    },
    Key {
        name: "supabase.max_postgres_changes",
        help: "most entries of postgres_changes in a join, which are repeated in its reply; a join with more is refused",
        kind: Kind::Count {
            min: 1,
            max: 10_000,
            get: |config| config.supabase.max_postgres_changes,
            set: |config, count| config.supabase.max_postgres_changes = count,
        },
    },
];
