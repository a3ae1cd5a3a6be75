//! Checks at the edges: any text, any size, any number.

use bytes::Bytes;
use tokio::time::timeout;

use super::Harness;
use super::recorder::nodes;
use crate::adapter::AdapterError;

/// PUB-100: a subject is any text of up to 2 KiB and arrives as it was sent.
pub async fn subjects_of_any_text_arrive_as_sent(harness: &dyn Harness) {
    let nodes = nodes(harness, "subjects", &["a", "b"]).await;
    let long = "long/".repeat(409) + "end";
    let subjects = [
        "",
        ".",
        "a.b",
        "a..b",
        "*",
        "a.>",
        ">",
        " a b ",
        "tab\tline\r\nnul\0",
        "/",
        "//a/",
        "a/**",
        "$*",
        "#?",
        "%2E",
        "grüße/\u{1f44b}",
        "{\"json\":1}",
        "herenow.x.all",
        &long,
    ];
    for (n, subject) in subjects.iter().enumerate() {
        let bytes = Bytes::from(vec![n.to_le_bytes()[0]]);
        let adapter = &nodes[0].adapter;
        adapter.broadcast(subject, bytes.clone()).expect("accepted");
        adapter.send("b", subject, bytes).expect("accepted");
    }
    nodes[1]
        .wait_for(harness, "all subjects twice", |seen| {
            seen.messages.len() >= 2 * subjects.len()
        })
        .await;
    for (n, subject) in subjects.iter().enumerate() {
        let got = nodes[1].messages();
        let n_right = got.iter().filter(|message| {
            message.subject == *subject && message.bytes[..] == n.to_le_bytes()[..1]
        });
        assert_eq!(n_right.count(), 2, "broadcast and send on {subject:?}");
    }
}

/// PUB-101: cluster and node names are any text; a message reaches the node named, and no other.
pub async fn names_of_any_text_work(harness: &dyn Harness) {
    let names = ["a", "a.b", "a b", "A", "*", ">", "a/b", "a%2Eb", "grüße:1"];
    let nodes = nodes(harness, "odd.*/cluster >", &names).await;
    for name in names {
        let bytes = Bytes::copy_from_slice(name.as_bytes());
        let other = nodes.iter().find(|node| node.name != name).expect("nine");
        other.adapter.send(name, "s", bytes).expect("accepted");
    }
    for node in &nodes {
        node.wait_for(harness, "its message", |seen| !seen.messages.is_empty())
            .await;
    }
    // What went astray would have come before this.
    nodes[0]
        .adapter
        .broadcast("end", Bytes::new())
        .expect("accepted");
    for node in &nodes[1..] {
        node.wait_for(harness, "the end", |seen| {
            seen.messages.iter().any(|message| message.subject == "end")
        })
        .await;
    }
    for node in &nodes {
        let got = node.messages();
        let got: Vec<_> = got
            .iter()
            .filter(|message| message.subject != "end")
            .collect();
        assert_eq!(got.len(), 1, "node {} got {got:?}", node.name);
        assert_eq!(got[0].bytes, node.name.as_bytes());
    }
}

/// PUB-102: messages of 0 bytes to 1 MiB arrive whole and in order; one that the engine does not
/// carry is refused with a limit that it exceeds.
pub async fn messages_of_every_size_arrive_or_are_refused(harness: &dyn Harness) {
    let nodes = nodes(harness, "sizes", &["a", "b"]).await;
    let mut sent = Vec::new();
    for len in [
        0, 1, 127, 128, 4_095, 65_535, 65_536, 131_072, 1_000_000, 1_048_576, 0,
    ] {
        let bytes: Bytes = (0..len).map(|n: usize| n.to_le_bytes()[0] ^ 0x5a).collect();
        match nodes[0].adapter.broadcast("s", bytes.clone()) {
            Ok(()) => sent.push(bytes),
            Err(AdapterError::TooLarge { len, max }) => {
                assert!(len > max, "{len} is not over {max}")
            }
            Err(error) => panic!("{len} bytes refused for another reason: {error}"),
        }
    }
    nodes[1]
        .wait_for(harness, "all that was accepted", |seen| {
            seen.messages.len() >= sent.len()
        })
        .await;
    let got = nodes[1].messages();
    assert!(
        got.iter().map(|message| &message.bytes).eq(&sent),
        "whole and in order"
    );
}

/// PUB-103: what one task sends to one node by name arrives in order while nothing is lost.
pub async fn messages_to_one_node_keep_their_order(harness: &dyn Harness) {
    let nodes = nodes(harness, "order of sends", &["a", "b"]).await;
    for n in 0..500u32 {
        let bytes = Bytes::copy_from_slice(&n.to_be_bytes());
        nodes[0].adapter.send("b", "s", bytes).expect("accepted");
    }
    nodes[1]
        .wait_for(harness, "500 messages", |seen| seen.messages.len() >= 500)
        .await;
    let got = nodes[1].messages();
    let sent = (0..500u32).map(|n| n.to_be_bytes());
    assert!(
        got.iter().map(|message| &message.bytes[..]).eq(sent),
        "in order"
    );
}

/// PUB-104: of a burst that fills the queue, all that was accepted before `close` arrives.
pub async fn close_loses_nothing_of_a_burst(harness: &dyn Harness) {
    let nodes = nodes(harness, "burst", &["a", "b"]).await;
    let mut n_accepted = 0;
    for n in 0..10_000u32 {
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.resize(1_024, 0);
        match nodes[0].adapter.broadcast("s", bytes.into()) {
            Ok(()) => n_accepted += 1,
            Err(AdapterError::Full { .. } | AdapterError::Engine { .. }) => {}
            Err(error) => panic!("refused for another reason: {error}"),
        }
    }
    timeout(harness.deadline(), nodes[0].adapter.close())
        .await
        .expect("close ends in time");
    nodes[1]
        .wait_for(harness, "all that was accepted", |seen| {
            seen.messages.len() >= n_accepted
        })
        .await;
    assert_eq!(nodes[1].messages().len(), n_accepted, "none twice");
}
