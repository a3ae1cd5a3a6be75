//! [`Outage`]: something outside that the server does without at the moment.
//!
//! Presence goes on without its webhooks, its sources of fields, the endpoint of its keys and a new
//! certificate; and without the other nodes, each with its own users. What is degraded meanwhile is a state and no event: it holds until it is over,
//! however long ago it was warned of. Who keeps it is the part that needs what is missing; here is
//! only its form, for the dashboards of all nodes and for `GET /api/node`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// What the server does without, since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outage {
    pub(crate) part: Part,
    /// Which of its kind: the name of a webhook, or the key of the configuration.
    pub(crate) name: String,
    /// What the last attempt came to. It has no URL in it.
    pub(crate) why: String,
    pub(crate) for_ms: u64,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// A receiver of events.
    Webhook,
    /// A source of fields.
    Fields,
    /// The endpoint of the keys that tokens are checked by.
    Keys,
    /// A certificate that should have taken the place of the one that is used.
    Certificate,
    /// The broker that the other nodes are reached by.
    Engine,
    /// A node that was given by address.
    Peer,
    /// Something that only nodes of a newer version know of.
    #[serde(other)]
    Other,
}

/// Since when something fails, and what it said last.
#[derive(Debug)]
pub(crate) struct Failing {
    since: Instant,
    why: String,
}

impl Failing {
    /// Takes note of a failure, which is the first or one more. Returns whether it is the first.
    pub(crate) fn note(failing: &mut Option<Self>, why: &str) -> bool {
        let since = failing.as_ref().map(|failing| failing.since);
        *failing = Some(Self {
            since: since.unwrap_or_else(Instant::now),
            why: why.to_owned(),
        });
        since.is_none()
    }

    /// How it is shown.
    pub(crate) fn outage(&self, part: Part, name: &str) -> Outage {
        Outage::new(part, name, &self.why, self.since.elapsed())
    }
}

impl Outage {
    pub(crate) fn new(part: Part, name: &str, why: &str, elapsed: Duration) -> Self {
        Self {
            part,
            name: name.to_owned(),
            why: why.to_owned(),
            for_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn srv_1292_an_outage_lasts_from_its_first_failure_and_says_what_the_last_one_was() {
        let mut failing = None;
        assert!(Failing::note(&mut failing, "connection refused"));
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(!Failing::note(&mut failing, "the answer is 503"));
        let outage = failing.unwrap().outage(Part::Webhook, "calls");
        assert_eq!(
            outage,
            Outage::new(
                Part::Webhook,
                "calls",
                "the answer is 503",
                Duration::from_secs(3_600)
            )
        );
        let newer = r#"{"part": "mail", "name": "a", "why": "b", "for_ms": 1}"#;
        let newer: Outage = serde_json::from_str(newer).unwrap();
        assert_eq!(newer.part, Part::Other);
    }
}
