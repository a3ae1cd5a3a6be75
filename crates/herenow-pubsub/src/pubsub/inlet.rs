//! [`Inlet`]: what comes from other nodes, to the topics' subscribers and to the links.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::{Inner, wire};
use crate::adapter::Receiver;

/// What the adapter hands arrivals to. Weak: the adapter must not keep the system alive.
pub(super) struct Inlet {
    pub(super) inner: Weak<Inner>,
}

impl Receiver for Inlet {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        if from == &*inner.node_name {
            return inner.malformed(from, bytes.len()); // Of another process that has this name.
        }
        inner.counters.n_received.fetch_add(1, Ordering::Relaxed);
        match wire::classify(subject) {
            Some(wire::Subject::Topic(topic)) => match wire::decode(&bytes) {
                Some((event, payload)) => inner.dispatch(None, topic, event, payload),
                None => inner.malformed(from, bytes.len()),
            },
            Some(wire::Subject::Link(name)) => {
                let receiver = inner.links.read().get(name).cloned();
                match receiver {
                    Some(receiver) => receiver.receive(from, name, bytes),
                    None => {
                        inner.counters.n_unclaimed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
            None => inner.malformed(from, bytes.len()),
        }
    }

    fn peer_seen(&self, peer: &str) {
        if let Some(inner) = self.inner.upgrade() {
            for receiver in inner.receivers() {
                receiver.peer_seen(peer);
            }
        }
    }

    fn peer_gone(&self, peer: &str) {
        if let Some(inner) = self.inner.upgrade() {
            for receiver in inner.receivers() {
                receiver.peer_gone(peer);
            }
        }
    }
}

impl Inner {
    fn receivers(&self) -> Vec<Arc<dyn Receiver>> {
        self.links.read().values().cloned().collect()
    }

    fn malformed(&self, from: &str, frame_bytes: usize) {
        self.counters.n_malformed.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(peer = from, frame_bytes, "dropped a malformed message");
    }
}
