//! [`Named`]: limits on what a client or a backend says, of which its channel or the API takes care;
//! counted with all others.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use herenow_presence::{MetaError, NameError, TrackError, UpdateError};

/// A limit on what a client or a backend says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    TopicPayload,
    TopicMeta,
    SupabasePayload,
    SupabaseBatch,
    SupabaseChanges,
    MessageRate,
    Meta,
    Topic,
    Key,
    MetasPerKey,
    SocketTopic,
    ApiBody,
    ApiBodyTimeout,
    ApiPage,
    ApiBatch,
    ApiLeases,
    ApiMinLease,
    ApiMaxLease,
    EventStreams,
    // These are no settings, but constants.
    Event,
    PubSubTopic,
    ListPage,
    Commands,
}

impl Named {
    const ALL: [Self; 23] = [
        Self::TopicPayload,
        Self::TopicMeta,
        Self::SupabasePayload,
        Self::SupabaseBatch,
        Self::SupabaseChanges,
        Self::MessageRate,
        Self::Meta,
        Self::Topic,
        Self::Key,
        Self::MetasPerKey,
        Self::SocketTopic,
        Self::ApiBody,
        Self::ApiBodyTimeout,
        Self::ApiPage,
        Self::ApiBatch,
        Self::ApiLeases,
        Self::ApiMinLease,
        Self::ApiMaxLease,
        Self::EventStreams,
        Self::Event,
        Self::PubSubTopic,
        Self::ListPage,
        Self::Commands,
    ];

    /// The limit that a presence is over, if that is why it was not tracked.
    pub(crate) fn of_track(error: &TrackError) -> Option<Self> {
        match error {
            TrackError::Meta(error) => Self::of_meta(error),
            TrackError::Name(error) => Self::of_name(error),
            TrackError::TooManyMetas { .. } => Some(Self::MetasPerKey),
            _ => None,
        }
    }

    /// The limit that a presence is over, if that is why it was not updated.
    pub(crate) fn of_update(error: &UpdateError) -> Option<Self> {
        match error {
            UpdateError::Meta(error) => Self::of_meta(error),
            UpdateError::Name(error) => Self::of_name(error),
            _ => None,
        }
    }

    /// The limit that a meta is over, if that is what is wrong with it.
    pub(crate) fn of_meta(error: &MetaError) -> Option<Self> {
        matches!(error, MetaError::TooLarge { .. }).then_some(Self::Meta)
    }

    /// The limit that a name is over, if that is what is wrong with it.
    pub(crate) fn of_name(error: &NameError) -> Option<Self> {
        match error {
            NameError::TooLong { field: "topic", .. } => Some(Self::Topic),
            NameError::TooLong { .. } => Some(Self::Key),
            _ => None,
        }
    }
}

/// The setting, as errors and metrics have it.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TopicPayload => "topics.max_payload_bytes",
            Self::TopicMeta => "topics.max_meta_bytes",
            Self::SupabasePayload => "supabase.max_payload_bytes",
            Self::SupabaseBatch => "supabase.max_batch",
            Self::SupabaseChanges => "supabase.max_postgres_changes",
            Self::MessageRate => "socket.message_rate",
            Self::Meta => "presence.max_meta_bytes",
            Self::Topic => "presence.max_topic_bytes",
            Self::Key => "presence.max_key_bytes",
            Self::MetasPerKey => "presence.max_metas_per_key",
            Self::SocketTopic => "socket.max_topic_bytes",
            Self::ApiBody => "api.max_body_bytes",
            Self::ApiBodyTimeout => "api.body_timeout",
            Self::ApiPage => "api.max_page",
            Self::ApiBatch => "api.max_batch",
            Self::ApiLeases => "api.max_leases",
            Self::ApiMinLease => "api.min_lease",
            Self::ApiMaxLease => "api.max_lease",
            Self::EventStreams => "events.max_streams",
            Self::Event => "event name, fixed",
            Self::PubSubTopic => "topic name, fixed",
            Self::ListPage => "presence:list, fixed",
            Self::Commands => "requests of backends, fixed",
        })
    }
}

/// How much was refused for being over each.
#[derive(Debug, Default)]
pub(super) struct Refusals([AtomicU64; Named::ALL.len()]);

impl Refusals {
    pub(super) fn count(&self, limit: Named) {
        self.0[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Named, u64)> {
        let counts = self.0.iter().map(|n| n.load(Ordering::Relaxed));
        Named::ALL.into_iter().zip(counts)
    }
}
