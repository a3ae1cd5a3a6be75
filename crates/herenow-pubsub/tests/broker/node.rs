//! [`Node`] and [`Inbox`]: a started adapter, and what it got.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::broker::BrokerStats;
use herenow_pubsub::{Adapter, AdapterError, Receiver};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use super::DEADLINE;
use crate::engine::BrokerAdapter;

/// A started adapter and what it got.
pub(crate) struct Node {
    pub(crate) adapter: Arc<BrokerAdapter>,
    pub(crate) inbox: Arc<Inbox>,
}

impl Node {
    pub(super) fn started(adapter: Arc<BrokerAdapter>) -> Self {
        let inbox = Arc::new(Inbox::default());
        adapter.start(inbox.clone());
        Self { adapter, inbox }
    }

    pub(crate) fn stats(&self) -> BrokerStats {
        self.adapter.stats()
    }

    pub(crate) fn say(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.adapter.broadcast("s", bytes).unwrap();
    }

    /// Broadcasts again and again until `to` hears it: the only way to know that it listens.
    pub(crate) async fn say_until_heard(&self, text: &str, to: &Self) {
        let trying = timeout(DEADLINE, async {
            while !to.inbox.has(text) {
                let _ = self
                    .adapter
                    .broadcast("s", Bytes::copy_from_slice(text.as_bytes()));
                sleep(Duration::from_millis(10)).await;
            }
        });
        trying.await.unwrap_or_else(|_| {
            panic!("{text:?} never came; {:?}; {:?}", self.adapter, to.adapter)
        });
    }

    /// Waits for the counters to be as wanted.
    pub(crate) async fn until(&self, what: &str, is_met: impl Fn(&BrokerStats) -> bool) {
        let waiting = timeout(DEADLINE, async {
            while !is_met(&self.stats()) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        waiting
            .await
            .unwrap_or_else(|_| panic!("waited in vain for {what}: {:?}", self.stats()));
    }

    /// Asserts that a message of one byte more than the largest is refused with its size and the
    /// limit, and the largest sent. The node has a name of one letter.
    pub(crate) async fn is_bounded_to(&self, max: usize) {
        // One byte each: version, length of the name, name, subject; two: length of the subject;
        // eight: the number of the process.
        let largest = max - 14;
        let broadcast = |len| self.adapter.broadcast("s", Bytes::from(vec![0; len]));
        let len = max + 1;
        assert_eq!(
            broadcast(largest + 1),
            Err(AdapterError::TooLarge { len, max })
        );
        broadcast(largest).unwrap();
        self.until("the largest sent", |stats| stats.n_sent == 1)
            .await;
        assert_eq!(self.stats().n_refused, 1);
    }
}

/// Writes down what arrives, and can be made to hold up who brings it.
#[derive(Default)]
pub(crate) struct Inbox {
    texts: Mutex<Vec<String>>,
    changed: Notify,
    is_held_up: Mutex<bool>,
    let_go: Condvar,
}

impl Inbox {
    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.lock().clone()
    }

    pub(crate) fn has(&self, text: &str) -> bool {
        self.texts.lock().iter().any(|known| known == text)
    }

    pub(crate) async fn wait_for(&self, text: &str) {
        let waiting = timeout(DEADLINE, async {
            while !self.has(text) {
                self.changed.notified().await;
            }
        });
        waiting
            .await
            .unwrap_or_else(|_| panic!("{text:?} never came, but {:?}", self.texts()));
    }

    /// Whoever brings a message waits inside the receiver, until [`let_go`](Self::let_go).
    pub(crate) fn hold_up(&self) {
        *self.is_held_up.lock() = true;
    }

    pub(crate) fn let_go(&self) {
        *self.is_held_up.lock() = false;
        self.let_go.notify_all();
    }
}

impl Receiver for Inbox {
    fn receive(&self, _from: &str, _subject: &str, bytes: Bytes) {
        let mut is_held_up = self.is_held_up.lock();
        if *is_held_up {
            // As if it were another process: what else is to run on this thread runs elsewhere.
            block_in_place(|| {
                self.let_go
                    .wait_while_for(&mut is_held_up, |held| *held, DEADLINE);
            });
        }
        drop(is_held_up);
        self.texts
            .lock()
            .push(String::from_utf8_lossy(&bytes).into_owned());
        self.changed.notify_one();
    }

    fn peer_seen(&self, _peer: &str) {}

    fn peer_gone(&self, _peer: &str) {}
}
