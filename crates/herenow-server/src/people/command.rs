//! [`Command`]: what the task that owns the leases is asked to do.

use std::time::Duration;

use herenow_pubsub::AdapterError;
use tokio::sync::oneshot;

use super::link::End;
use super::{Change, Held, Name, PeopleError};

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    /// To begin a lease, or to renew the one that is held.
    Hold(Write),
    /// To renew one that is held.
    Renew(Write),
    End {
        name: Name,
        answer: oneshot::Sender<Result<bool, PeopleError>>,
    },
    /// To say which other node has claimed a lease last.
    Claimant {
        name: Name,
        answer: oneshot::Sender<Option<String>>,
    },
    /// Here and on all other nodes.
    EndAll {
        end: End,
        answer: oneshot::Sender<Result<(), AdapterError>>,
    },
    Close,
}

/// A lease that is asked for.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) name: Name,
    pub(super) change: Change,
    pub(super) lease: Option<Duration>,
    pub(super) answer: oneshot::Sender<Result<Held, PeopleError>>,
}
