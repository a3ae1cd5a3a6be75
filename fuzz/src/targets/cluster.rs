//! What carriers hand to a node: a broker's frames, sealed frames, frames of the presence link.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use herenow_core::{Incarnation, NodeHeartbeat, NodeName, Version};
use herenow_presence::{Presence, PresenceConfig};
use herenow_pubsub::sealed::{SealConfig, Sealed};
use herenow_pubsub::{Adapter, Payload, PubSub, Receiver, broker};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::carrier::{Carrier, Sent};
use crate::reader::{Reader, piece};
use crate::targets::shard;

const TOPIC: &str = "room:1";
const CLUSTER: &str = "fuzzed";

/// A frame is nothing, or sender, subject and message; and a message is a broadcast or nothing.
pub(super) fn broker(input: &[u8]) {
    let frame = Bytes::copy_from_slice(input);
    let Some(read) = broker::decode(&frame) else {
        return;
    };
    let written =
        broker::encode(read.from, read.process, read.subject, &read.bytes).expect("it was read");
    assert_eq!(written, frame, "a frame changes when it is read");
    let carrier = Carrier::new("own");
    let pubsub = PubSub::new(carrier.clone());
    let mut subscription = pubsub.subscribe(TOPIC);
    carrier
        .receiver()
        .receive(read.from, read.subject, read.bytes.clone());
    carrier
        .receiver()
        .receive(read.from, &format!("t{TOPIC}"), read.bytes);
    while let Some(received) = subscription.try_recv() {
        let received = received.expect("two are not too many");
        if let Payload::Json(text) = &received.payload {
            assert!(std::str::from_utf8(text).is_ok(), "JSON that is not UTF-8");
        }
    }
    pubsub.local_broadcast(TOPIC, "own", Payload::json("{}"));
    assert!(subscription.try_recv().is_some(), "own broadcasts are lost");
}

/// What a sealed node handed on: sender and message.
#[derive(Default)]
struct Taken(Mutex<Vec<(String, Bytes)>>);

impl Receiver for Taken {
    fn receive(&self, from: &str, _subject: &str, bytes: Bytes) {
        let mut taken = self.0.lock().expect("nothing panics under this lock");
        taken.push((from.to_owned(), bytes));
    }

    fn peer_seen(&self, _peer: &str) {}
    fn peer_gone(&self, _peer: &str) {}
}

/// A node under seal, what it sends, and what it hands on.
struct Node {
    carrier: Arc<Carrier>,
    sealed: Sealed,
    taken: Arc<Taken>,
}

impl Node {
    fn start(name: &'static str) -> Self {
        let carrier = Carrier::new(name);
        let mut config = SealConfig::new(CLUSTER);
        config.max_peers = 4;
        config
            .agreement
            .insert("n_shards".to_owned(), "64".to_owned());
        let sealed = Sealed::new(carrier.clone(), config).expect("a good configuration");
        let taken = Arc::new(Taken::default());
        sealed.start(taken.clone());
        Self {
            carrier,
            sealed,
            taken,
        }
    }

    fn hear(&self, from: &str, (to, subject, bytes): &Sent) {
        if to
            .as_deref()
            .is_none_or(|to| to == self.carrier.node_name())
        {
            self.carrier
                .receiver()
                .receive(from, subject, bytes.clone());
        }
    }
}

/// Two honest nodes and what is done to their frames: each message of one is handed on by the
/// other once at most, as it was, whatever else arrives in anybody's name.
///
/// The cluster has no secret, so that the script can forge frames of `c` that pass the tag's check.
pub(super) fn sealed(input: &[u8]) {
    let (own, peer) = (Node::start("own"), Node::start("b"));
    let mut heard = peer.carrier.take_sent();
    let mut n_told = 0_u64;
    let mut reader = Reader(input);
    while !reader.is_at_end() {
        match reader.byte() % 8 {
            0 => {
                let told = peer.sealed.broadcast("t", Bytes::from(n_told.to_string()));
                told.expect("nothing is full");
                n_told += 1;
            }
            1 => heard.iter().for_each(|sent| own.hear("b", sent)),
            2 => own
                .carrier
                .take_sent()
                .iter()
                .for_each(|sent| peer.hear("own", sent)),
            3 => damage(&own, &heard, &mut reader),
            4 => forge(&own, &mut reader),
            5 => {
                let bytes = Bytes::copy_from_slice(reader.piece());
                own.carrier.receiver().receive("d", "seal", bytes);
            }
            6 => own.carrier.receiver().peer_seen("b"),
            _ => own
                .carrier
                .receiver()
                .peer_gone(["b", "c"][usize::from(reader.byte() & 1)]),
        }
        heard.extend(peer.carrier.take_sent());
    }
    let mut seen = BTreeSet::new();
    for (from, bytes) in own.taken.0.lock().expect("no panic").iter() {
        if from == "b" {
            let text = std::str::from_utf8(bytes).expect("numbers");
            let number: u64 = text.parse().expect("a number that was sent");
            assert!(number < n_told, "a message that was never sent");
            assert!(seen.insert(number), "a message was handed on twice");
        }
    }
    assert!(own.sealed.refused().len() <= 256);
}

/// Delivers a frame with a byte changed, cut, or in another's name.
fn damage(own: &Node, heard: &[Sent], reader: &mut Reader<'_>) {
    let (pick, at, with) = (reader.byte(), reader.byte(), reader.byte());
    let Some((to, subject, bytes)) = heard.get(usize::from(pick)) else {
        return;
    };
    let mut changed = bytes.to_vec();
    if let Some(byte) = changed.get_mut(usize::from(at)) {
        *byte ^= with;
    }
    if with == 0 {
        changed.truncate(at.into());
    }
    let name = if at == u8::MAX { "e" } else { "b" };
    own.hear(name, &(to.clone(), subject.clone(), changed.into()));
}

/// Delivers a frame of `c` whose tag is right.
fn forge(own: &Node, reader: &mut Reader<'_>) {
    let (kind, version) = (reader.byte() % 7, reader.byte());
    let version = if version == 0 { 1 } else { version };
    let (life, counter) = (reader.number(), reader.number());
    let subject = ["seal", "t"][usize::from(kind) & 1];
    let body = reader.piece();
    let hash = Sha256::digest(CLUSTER.as_bytes());
    let mut frame = vec![0xB5, version, kind, 0];
    frame.extend_from_slice(&hash[..4]);
    frame.extend_from_slice(&life.to_be_bytes());
    frame.extend_from_slice(&counter.to_be_bytes());
    let to = if matches!(kind, 2 | 4 | 5) { "own" } else { "" };
    let mut tag = hmac(&key());
    tag.update(&frame);
    for text in ["c", to, subject] {
        tag.update(&(text.len() as u64).to_be_bytes());
        tag.update(text.as_bytes());
    }
    tag.update(body);
    frame.extend_from_slice(&tag.finalize().into_bytes()[..16]);
    frame.extend_from_slice(body);
    own.carrier.receiver().receive("c", subject, frame.into());
}

/// The key of a cluster without a secret.
fn key() -> Vec<u8> {
    let mut key = hmac(&[]);
    key.update(b"herenow cluster frames\0");
    key.update(CLUSTER.as_bytes());
    key.finalize().into_bytes().to_vec()
}

fn hmac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// A running node: whatever its peers say, whoever is here on this node still is.
pub(super) fn presence(input: &[u8]) {
    on_paused_clock(async {
        let carrier = Carrier::new("own");
        let pubsub = PubSub::new(carrier.clone());
        let mut config = PresenceConfig::default();
        config.n_shards = NonZero::new(1).expect("one is not zero");
        config.shard.max_peer_rows = 64;
        let presence = Presence::builder(&pubsub).config(config).start();
        let presence = presence.expect("the limits fit together");
        let own = presence
            .track_on(TOPIC, "own", json!({ "mine": true }))
            .await;
        let own = own.expect("nobody else is here");
        let before = json!(presence.list(TOPIC).await);
        let mine = &before["own"]["metas"][0];
        let mut subscription = pubsub.subscribe(TOPIC);
        let mut reader = Reader(input);
        while !reader.is_at_end() {
            let from = ["a", "b", "own", ""][usize::from(reader.byte() & 3)];
            let bytes = Bytes::copy_from_slice(reader.piece());
            carrier.receiver().receive(from, "lpresence", bytes);
            if reader.byte() & 1 == 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                while subscription.try_recv().is_some() {}
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let here = json!(presence.list(TOPIC).await);
        let metas = here["own"]["metas"].as_array().expect("own is here");
        let is_mine = |meta: &&serde_json::Value| *meta == mine;
        assert_eq!(metas.iter().filter(is_mine).count(), 1, "{here}");
        assert_eq!(
            presence.count_keys(TOPIC),
            here.as_object().map_or(0, |keys| keys.len())
        );
        drop(own);
        presence.shutdown().await;
    });
}

/// Runs on a runtime of its own whose clock jumps when there is nothing to do.
pub(super) fn on_paused_clock(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime
        .expect("a runtime without IO needs nothing")
        .block_on(work);
}

pub(super) fn seeds_of_broker() -> Vec<Vec<u8>> {
    let message = [&[1, 0, 0, 4][..], b"said{\"a\":1}"].concat();
    let frame = broker::encode("a", 7, "troom:1", &message).expect("short");
    let binary = broker::encode("b", 8, "lpresence", &[1, 1, 0, 0, 9]).expect("short");
    vec![frame.to_vec(), binary.to_vec()]
}

pub(super) fn seeds_of_sealed() -> Vec<Vec<u8>> {
    let meet = [6, 2, 1, 0, 1, 2, 1];
    let forged = |kind: u8, body: &[u8]| {
        let head = [4, kind, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 1];
        [&head[..], &piece(body)].concat()
    };
    let greeting = [&[7; 16][..], b"n_shards=64\n"].concat();
    let talk = [&meet[..], &[0, 1, 2, 1, 0, 0, 1, 1]].concat();
    let damaged = [
        &talk[..],
        &[3, 2, 30, 1, 3, 1, 40, 0, 3, 0, 255, 1, 7, 0, 1],
    ]
    .concat();
    let strangers = [
        forged(3, b""),
        forged(4, &greeting),
        forged(5, &greeting),
        forged(1, b"x"),
    ];
    let all = [&talk[..], &strangers.concat(), &[5, 0, 2, 0xB5, 1]].concat();
    vec![talk, damaged, strangers.concat(), all]
}

pub(super) fn seeds_of_presence() -> Vec<Vec<u8>> {
    let frame = |kind: u8, body: &[u8]| [&[kind, 0, 1, 0, 0][..], body].concat();
    let step = |from: u8, frame: &[u8]| [&[from][..], &piece(frame), &[1]].concat();
    let heartbeat = |version: u64| NodeHeartbeat {
        node: NodeName::new("a").expect("short"),
        incarnation: Incarnation(1),
        versions: vec![Version(version)],
    };
    let beats = [
        step(0, &frame(2, &heartbeat(0).encode())),
        step(0, &frame(2, &heartbeat(9).encode())),
    ];
    let said = shard::seeds_of_codec();
    let said: Vec<_> = said.iter().map(|body| step(0, &frame(1, body))).collect();
    vec![
        beats.concat(),
        said.concat(),
        [beats.concat(), said.concat()].concat(),
    ]
}
