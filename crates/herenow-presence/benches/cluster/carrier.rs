//! [`Counted`]: an adapter that counts the bytes it carries.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use herenow_pubsub::{Adapter, AdapterError, Closing, MemoryAdapter, Receiver};

/// Carries what another adapter does, and counts it. Two nodes: a broadcast reaches one.
pub(crate) struct Counted {
    inner: Arc<MemoryAdapter>,
    n_bytes: AtomicU64,
}

impl Counted {
    pub(crate) fn new(inner: Arc<MemoryAdapter>) -> Arc<Self> {
        let n_bytes = AtomicU64::new(0);
        Arc::new(Self { inner, n_bytes })
    }

    /// Returns the bytes handed over so far.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: &Bytes) {
        self.n_bytes
            .fetch_add(bytes.len() as u64, Ordering::Relaxed);
    }
}

impl Adapter for Counted {
    fn node_name(&self) -> &str {
        self.inner.node_name()
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        self.inner.start(receiver);
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.count(&bytes);
        self.inner.broadcast(subject, bytes)
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.count(&bytes);
        self.inner.send(node, subject, bytes)
    }

    fn close(&self) -> Closing<'_> {
        self.inner.close()
    }
}
