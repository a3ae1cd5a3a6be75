//! The suite that every [`Adapter`] must pass, as one function per row of the PUB area.
//!
//! An adapter's tests implement [`Harness`] and make a test of each function by
//! [`adapter_suite!`](crate::adapter_suite) and
//! [`adapter_outage_suite!`](crate::adapter_outage_suite), or call all of them by [`check_all`]. A check that fails
//! panics with what it waited for.

mod recorder;
mod limits;
mod outage;
mod port;
mod process;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use crate::adapter::{Adapter, AdapterError};

pub use limits::{
    close_loses_nothing_of_a_burst, messages_of_every_size_arrive_or_are_refused,
    messages_to_one_node_keep_their_order, names_of_any_text_work,
    subjects_of_any_text_arrive_as_sent,
};
pub use outage::{an_outage_heals_by_itself, publishing_never_blocks_in_an_outage};
pub use port::reserve_port;
pub use process::BrokerProcess;

use recorder::{Node, connect, message, nodes};

/// What the suite needs to know about an engine.
pub trait Harness: Send + Sync {
    /// Returns a new adapter, not yet started, for `node` of the cluster `cluster`.
    ///
    /// Clusters of different names must not hear each other; each check uses names of its own.
    fn adapter<'a>(&'a self, cluster: &'a str, node: &'a str) -> Step<'a, Arc<dyn Adapter>>;

    /// Returns how long to wait for what must come.
    fn deadline(&self) -> Duration;

    /// Returns whether the engine promises to report peers that come, and go by `close`.
    fn reports_peers(&self) -> bool;

    /// Begins an outage: nodes of `cluster` do not hear each other until
    /// [`end_outage`](Self::end_outage). Returns false where none can be made, and ends such
    /// checks.
    fn begin_outage<'a>(&'a self, cluster: &'a str) -> Step<'a, bool> {
        let _ = cluster;
        Box::pin(async { false })
    }

    /// Ends the outage that [`begin_outage`](Self::begin_outage) began.
    fn end_outage<'a>(&'a self, cluster: &'a str) -> Step<'a, ()> {
        let _ = cluster;
        Box::pin(async {})
    }
}

/// What a [`Harness`] does in its own time.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes a test of each check that needs no outage: `adapter_suite!(#[tokio::test] Broker::started().await)`, where the
/// [`Harness`] is made anew in each test, which may await.
#[macro_export]
macro_rules! adapter_suite {
    (#[$test:meta] $harness:expr) => {
        #[$test]
        async fn pub_01_broadcast_reaches_every_other_node() {
            $crate::conformance::broadcast_reaches_every_other_node(&$harness).await;
        }

        #[$test]
        async fn pub_02_broadcast_is_not_echoed() {
            $crate::conformance::broadcast_is_not_echoed(&$harness).await;
        }

        #[$test]
        async fn pub_03_send_reaches_one_node() {
            $crate::conformance::send_reaches_one_node(&$harness).await;
        }

        #[$test]
        async fn pub_04_send_to_an_unknown_node_vanishes() {
            $crate::conformance::send_to_an_unknown_node_vanishes(&$harness).await;
        }

        #[$test]
        async fn pub_05_messages_of_one_sender_keep_their_order() {
            $crate::conformance::messages_of_one_sender_keep_their_order(&$harness).await;
        }

        #[$test]
        async fn pub_06_large_and_empty_messages_arrive_whole() {
            $crate::conformance::large_and_empty_messages_arrive_whole(&$harness).await;
        }

        #[$test]
        async fn pub_07_clusters_do_not_hear_each_other() {
            $crate::conformance::clusters_do_not_hear_each_other(&$harness).await;
        }

        #[$test]
        async fn pub_08_close_loses_nothing_accepted() {
            $crate::conformance::close_loses_nothing_accepted(&$harness).await;
        }

        #[$test]
        async fn pub_09_a_closed_adapter_refuses() {
            $crate::conformance::a_closed_adapter_refuses(&$harness).await;
        }

        #[$test]
        async fn pub_10_a_name_can_come_back() {
            $crate::conformance::a_name_can_come_back(&$harness).await;
        }

        #[$test]
        async fn pub_11_peers_are_reported() {
            $crate::conformance::peers_are_reported(&$harness).await;
        }

        #[$test]
        async fn pub_100_subjects_of_any_text_arrive_as_sent() {
            $crate::conformance::subjects_of_any_text_arrive_as_sent(&$harness).await;
        }

        #[$test]
        async fn pub_101_names_of_any_text_work() {
            $crate::conformance::names_of_any_text_work(&$harness).await;
        }

        #[$test]
        async fn pub_102_messages_of_every_size_arrive_or_are_refused() {
            $crate::conformance::messages_of_every_size_arrive_or_are_refused(&$harness).await;
        }

        #[$test]
        async fn pub_103_messages_to_one_node_keep_their_order() {
            $crate::conformance::messages_to_one_node_keep_their_order(&$harness).await;
        }

        #[$test]
        async fn pub_104_close_loses_nothing_of_a_burst() {
            $crate::conformance::close_loses_nothing_of_a_burst(&$harness).await;
        }
    };
}

/// The rest of [`adapter_suite!`](crate::adapter_suite), of engines whose harness can make an outage.
#[macro_export]
macro_rules! adapter_outage_suite {
    (#[$test:meta] $harness:expr) => {
        #[$test]
        async fn pub_105_an_outage_heals_by_itself() {
            $crate::conformance::an_outage_heals_by_itself(&$harness).await;
        }

        #[$test]
        async fn pub_106_publishing_never_blocks_in_an_outage() {
            $crate::conformance::publishing_never_blocks_in_an_outage(&$harness).await;
        }
    };
}

/// Runs every check, one after the other.
pub async fn check_all(harness: &dyn Harness) {
    broadcast_reaches_every_other_node(harness).await;
    broadcast_is_not_echoed(harness).await;
    send_reaches_one_node(harness).await;
    send_to_an_unknown_node_vanishes(harness).await;
    messages_of_one_sender_keep_their_order(harness).await;
    large_and_empty_messages_arrive_whole(harness).await;
    clusters_do_not_hear_each_other(harness).await;
    close_loses_nothing_accepted(harness).await;
    a_closed_adapter_refuses(harness).await;
    a_name_can_come_back(harness).await;
    peers_are_reported(harness).await;
    subjects_of_any_text_arrive_as_sent(harness).await;
    names_of_any_text_work(harness).await;
    messages_of_every_size_arrive_or_are_refused(harness).await;
    messages_to_one_node_keep_their_order(harness).await;
    close_loses_nothing_of_a_burst(harness).await;
    an_outage_heals_by_itself(harness).await;
    publishing_never_blocks_in_an_outage(harness).await;
}

/// PUB-1: a broadcast reaches every other node once, with its sender and subject.
pub async fn broadcast_reaches_every_other_node(harness: &dyn Harness) {
    let nodes = nodes(harness, "reach", &["a", "b", "c"]).await;
    nodes[0]
        .adapter
        .broadcast("subject/1", Bytes::from_static(b"hi"))
        .expect("accepted");
    for node in &nodes[1..] {
        node.wait_for(harness, "the broadcast", |seen| !seen.messages.is_empty())
            .await;
        assert_eq!(node.messages(), [message("a", "subject/1", b"hi")]);
    }
}

/// PUB-2: a node never gets its own broadcasts.
pub async fn broadcast_is_not_echoed(harness: &dyn Harness) {
    let nodes = nodes(harness, "echo", &["a", "b"]).await;
    nodes[0]
        .adapter
        .broadcast("s", Bytes::from_static(b"one"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the broadcast", |seen| !seen.messages.is_empty())
        .await;
    // What b answers comes after any echo would have.
    nodes[1]
        .adapter
        .broadcast("s", Bytes::from_static(b"two"))
        .expect("accepted");
    nodes[0]
        .wait_for(harness, "the answer", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[0].messages(), [message("b", "s", b"two")]);
}

/// PUB-3: a message to one node reaches that node and no other.
pub async fn send_reaches_one_node(harness: &dyn Harness) {
    let nodes = nodes(harness, "send", &["a", "b", "c"]).await;
    nodes[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"for b"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    nodes[0]
        .adapter
        .send("c", "s", Bytes::from_static(b"for c"))
        .expect("accepted");
    nodes[2]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[1].messages(), [message("a", "s", b"for b")]);
    assert_eq!(nodes[2].messages(), [message("a", "s", b"for c")]);
}

/// PUB-4: a message to a node that nobody knows is accepted and vanishes.
pub async fn send_to_an_unknown_node_vanishes(harness: &dyn Harness) {
    let nodes = nodes(harness, "unknown", &["a", "b"]).await;
    nodes[0]
        .adapter
        .send("nobody", "s", Bytes::from_static(b"lost"))
        .expect("accepted");
    nodes[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"kept"))
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(nodes[1].messages(), [message("a", "s", b"kept")]);
}

/// PUB-5: what one task sends to one node arrives in order while nothing is lost.
pub async fn messages_of_one_sender_keep_their_order(harness: &dyn Harness) {
    let nodes = nodes(harness, "order", &["a", "b"]).await;
    let sent: Vec<Bytes> = (0..200u32)
        .map(|n| Bytes::from(n.to_be_bytes().to_vec()))
        .collect();
    for bytes in &sent {
        nodes[0]
            .adapter
            .broadcast("s", bytes.clone())
            .expect("accepted");
    }
    nodes[1]
        .wait_for(harness, "200 messages", |seen| seen.messages.len() >= 200)
        .await;
    let got: Vec<Bytes> = nodes[1]
        .messages()
        .into_iter()
        .map(|message| message.bytes)
        .collect();
    assert_eq!(got, sent);
}

/// PUB-6: messages of 0 bytes and of 512 KiB arrive whole, or the large one is refused as too
/// large.
pub async fn large_and_empty_messages_arrive_whole(harness: &dyn Harness) {
    let nodes = nodes(harness, "large", &["a", "b"]).await;
    let large: Bytes = (0..512 * 1024).map(|n: u32| n.to_le_bytes()[0]).collect();
    nodes[0]
        .adapter
        .broadcast("s", Bytes::new())
        .expect("accepted");
    nodes[1]
        .wait_for(harness, "the empty message", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    match nodes[0].adapter.broadcast("s", large.clone()) {
        Ok(()) => {
            nodes[1]
                .wait_for(harness, "the large message", |seen| seen.messages.len() > 1)
                .await;
            assert_eq!(nodes[1].messages()[1].bytes, large);
        }
        Err(AdapterError::TooLarge { .. }) => {}
        Err(error) => panic!("refused for another reason: {error}"),
    }
    assert!(nodes[1].messages()[0].bytes.is_empty());
}

/// PUB-7: two clusters on one engine do not hear each other, not even with equal node names.
pub async fn clusters_do_not_hear_each_other(harness: &dyn Harness) {
    let one = nodes(harness, "one", &["a", "b"]).await;
    let two = nodes(harness, "two", &["a", "b"]).await;
    one[0]
        .adapter
        .broadcast("s", Bytes::from_static(b"one"))
        .expect("accepted");
    two[0]
        .adapter
        .send("b", "s", Bytes::from_static(b"two"))
        .expect("accepted");
    one[1]
        .wait_for(harness, "the message of one", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    two[1]
        .wait_for(harness, "the message of two", |seen| {
            !seen.messages.is_empty()
        })
        .await;
    assert_eq!(one[1].messages(), [message("a", "s", b"one")]);
    assert_eq!(two[1].messages(), [message("a", "s", b"two")]);
}

/// PUB-8: what was accepted before `close` was called arrives.
pub async fn close_loses_nothing_accepted(harness: &dyn Harness) {
    let nodes = nodes(harness, "close", &["a", "b"]).await;
    for n in 0..50u8 {
        nodes[0]
            .adapter
            .broadcast("s", Bytes::from(vec![n]))
            .expect("accepted");
    }
    timeout(harness.deadline(), nodes[0].adapter.close())
        .await
        .expect("close ends in time");
    nodes[1]
        .wait_for(harness, "50 messages", |seen| seen.messages.len() >= 50)
        .await;
}

/// PUB-9: a closed adapter refuses, and closing it again does nothing.
pub async fn a_closed_adapter_refuses(harness: &dyn Harness) {
    let nodes = nodes(harness, "closed", &["a", "b"]).await;
    nodes[0].adapter.close().await;
    nodes[0].adapter.close().await;
    let refused = nodes[0].adapter.broadcast("s", Bytes::new());
    assert_eq!(refused, Err(AdapterError::Closed));
    assert_eq!(
        nodes[0].adapter.send("b", "s", Bytes::new()),
        Err(AdapterError::Closed)
    );
}

/// PUB-10: after `close` a new adapter of the same name takes part like any other.
pub async fn a_name_can_come_back(harness: &dyn Harness) {
    let before = nodes(harness, "again", &["a", "b"]).await;
    before[0].adapter.close().await;
    let again = Node::start(harness, "again", "a").await;
    connect(harness, &[&again, &before[1]]).await;
    before[1]
        .adapter
        .send("a", "s", Bytes::from_static(b"welcome"))
        .expect("accepted");
    again
        .wait_for(harness, "the message", |seen| !seen.messages.is_empty())
        .await;
    assert_eq!(again.messages(), [message("b", "s", b"welcome")]);
}

/// PUB-11: an engine that promises it reports peers that come and that close.
pub async fn peers_are_reported(harness: &dyn Harness) {
    if !harness.reports_peers() {
        return;
    }
    let nodes = nodes(harness, "peers", &["a", "b"]).await;
    nodes[0]
        .wait_for(harness, "b seen", |seen| seen.peers_seen.contains("b"))
        .await;
    nodes[1]
        .wait_for(harness, "a seen", |seen| seen.peers_seen.contains("a"))
        .await;
    nodes[1].adapter.close().await;
    nodes[0]
        .wait_for(harness, "b gone", |seen| seen.peers_gone.contains("b"))
        .await;
}
