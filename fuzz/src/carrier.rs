//! An adapter that carries nothing by itself: what is sent is kept, and what arrives is handed in.

use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use herenow_pubsub::{Adapter, AdapterError, Closing, Receiver};

/// A message that a node sent: to one, or to all, with its subject.
pub(crate) type Sent = (Option<String>, String, Bytes);

/// The adapter of one node.
pub(crate) struct Carrier {
    name: &'static str,
    receiver: OnceLock<Arc<dyn Receiver>>,
    sent: Mutex<Vec<Sent>>,
}

impl Carrier {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            name,
            receiver: OnceLock::new(),
            sent: Mutex::default(),
        })
    }

    /// Where arrivals go; the node has been started.
    pub(crate) fn receiver(&self) -> &dyn Receiver {
        &**self.receiver.get().expect("a PubSub starts its adapter")
    }

    /// What was sent since this was last asked.
    pub(crate) fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().expect("nothing panics under this lock"))
    }

    fn keep(&self, to: Option<&str>, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        let mut sent = self.sent.lock().expect("nothing panics under this lock");
        sent.push((to.map(str::to_owned), subject.to_owned(), bytes));
        Ok(())
    }
}

impl Adapter for Carrier {
    fn node_name(&self) -> &str {
        self.name
    }

    fn start(&self, receiver: Arc<dyn Receiver>) {
        let is_first = self.receiver.set(receiver).is_ok();
        assert!(is_first, "an adapter is started once");
    }

    fn broadcast(&self, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.keep(None, subject, bytes)
    }

    fn send(&self, node: &str, subject: &str, bytes: Bytes) -> Result<(), AdapterError> {
        self.keep(Some(node), subject, bytes)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(std::future::ready(()))
    }
}
