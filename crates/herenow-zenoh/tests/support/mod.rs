//! Nodes for the tests: in this process, and in child processes that can be killed and frozen.
#![allow(clippy::unwrap_used, dead_code)]

use std::collections::BTreeSet;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use herenow_pubsub::conformance::reserve_port;
use herenow_pubsub::{Adapter, Receiver};
use herenow_zenoh::{ZenohAdapter, ZenohConfig};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long to wait for what must come: a busy machine is no failure.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Returns an address that nobody listens on.
pub(crate) fn free_address(scheme: &str) -> String {
    format!("{scheme}/127.0.0.1:{}", reserve_port())
}

/// Returns the settings of a node that listens on a free port and knows `peers`.
pub(crate) fn config(cluster: &str, node: &str, peers: &[&str]) -> ZenohConfig {
    let mut config = ZenohConfig::default();
    config.cluster = cluster.into();
    config.node = node.into();
    config.listen = vec![free_address("tcp")];
    config.peers = peers.iter().map(|&peer| peer.to_owned()).collect();
    config
}

/// What a node got: (sender, subject, message), and the reports of peers in their order.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<(String, String, Bytes)>,
    pub(crate) reports: Vec<(String, Report)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Report {
    Seen,
    Gone,
}

impl Seen {
    pub(crate) fn senders(&self) -> BTreeSet<&str> {
        self.messages.iter().map(|(from, ..)| &**from).collect()
    }

    pub(crate) fn last_report(&self, peer: &str) -> Option<Report> {
        let mut reports = self.reports.iter().rev();
        reports
            .find(|(node, _)| node == peer)
            .map(|(_, report)| *report)
    }
}

#[derive(Default)]
struct Recorder {
    seen: Mutex<Seen>,
    changed: Notify,
}

impl Receiver for Recorder {
    fn receive(&self, from: &str, subject: &str, bytes: Bytes) {
        let message = (from.to_owned(), subject.to_owned(), bytes);
        self.seen.lock().messages.push(message);
        self.changed.notify_one();
    }

    fn peer_seen(&self, peer: &str) {
        self.seen
            .lock()
            .reports
            .push((peer.to_owned(), Report::Seen));
        self.changed.notify_one();
    }

    fn peer_gone(&self, peer: &str) {
        self.seen
            .lock()
            .reports
            .push((peer.to_owned(), Report::Gone));
        self.changed.notify_one();
    }
}

/// A started node.
pub(crate) struct Node {
    pub(crate) adapter: Arc<ZenohAdapter>,
    pub(crate) address: String,
    recorder: Arc<Recorder>,
}

impl Node {
    pub(crate) async fn start(config: &ZenohConfig) -> Self {
        let adapter = ZenohAdapter::open(config).await.unwrap();
        let recorder = Arc::new(Recorder::default());
        adapter.start(recorder.clone());
        Self {
            adapter,
            address: config.listen[0].clone(),
            recorder,
        }
    }

    /// Waits until what the node got is as it should be.
    pub(crate) async fn wait_for(&self, what: &str, is_met: impl Fn(&Seen) -> bool) {
        let waited = timeout(DEADLINE, async {
            while !is_met(&self.recorder.seen.lock()) {
                self.recorder.changed.notified().await;
            }
        });
        if waited.await.is_err() {
            let seen = self.recorder.seen.lock();
            panic!(
                "{:?} waited in vain for {what}: {} messages, {:?}",
                self.adapter,
                seen.messages.len(),
                seen.reports
            );
        }
    }

    /// Broadcasts `subject` again and again until `is_met`: what is sent too early is lost.
    pub(crate) async fn broadcast_until(
        &self,
        subject: &str,
        what: &str,
        is_met: impl Fn(&Seen) -> bool,
    ) {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let probing = async {
            while !self.has(&is_met) {
                tick.tick().await;
                // A full queue is no failure here: a frozen peer may hold up what is sent.
                let _ = self.adapter.broadcast(subject, Bytes::new());
            }
        };
        let probed = timeout(DEADLINE, probing).await.is_ok();
        assert!(probed, "{:?} waited in vain for {what}", self.adapter);
    }

    pub(crate) fn has(&self, is_met: impl Fn(&Seen) -> bool) -> bool {
        is_met(&self.recorder.seen.lock())
    }

    pub(crate) fn forget(&self) {
        *self.recorder.seen.lock() = Seen::default();
    }
}

/// What a child answers to a broadcast [`PING`], directly.
pub(crate) const PONG: &str = "pong";
pub(crate) const PING: &str = "ping";

/// A node in a process of its own, which answers each [`PING`] with a [`PONG`]. Killed on drop.
pub(crate) struct ChildNode(Child);

const CHILD_VARIABLE: &str = "HERENOW_ZENOH_CHILD";

impl ChildNode {
    /// Starts this test program again, to run nothing but its test `child_node`.
    pub(crate) fn spawn(config: &ZenohConfig) -> Self {
        let words = [
            &[
                config.cluster.clone(),
                config.node.clone(),
                config.listen[0].clone(),
            ],
            &config.peers[..],
        ]
        .concat();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_node", "--nocapture"])
            .env(CHILD_VARIABLE, words.join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// As SIGKILL: no good-bye.
    pub(crate) fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for ChildNode {
    fn drop(&mut self) {
        // It may be over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Answers pings.
struct Answering(Mutex<Option<Arc<ZenohAdapter>>>);

impl Receiver for Answering {
    fn receive(&self, from: &str, subject: &str, _: Bytes) {
        if subject == PING
            && let Some(adapter) = &*self.0.lock()
        {
            // A full queue is an answer lost, like any.
            let _ = adapter.send(from, PONG, Bytes::new());
        }
    }

    fn peer_seen(&self, _: &str) {}

    fn peer_gone(&self, _: &str) {}
}

/// The body of the test `child_node`: a node, if this process is a child, until its parent ends.
pub(crate) async fn run_child() {
    let Ok(words) = std::env::var(CHILD_VARIABLE) else {
        return;
    };
    let words: Vec<&str> = words.split(' ').collect();
    let mut config = config(words[0], words[1], &words[3..]);
    config.listen = vec![words[2].to_owned()];
    let adapter = ZenohAdapter::open(&config).await.unwrap();
    adapter.start(Arc::new(Answering(Mutex::new(Some(adapter.clone())))));
    let parent = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    let _ = parent.await;
}
