//! Counts the instructions of the hot paths: `cargo xtask bench instructions`.
//!
//! Each function is the hot path alone; what it works on is made before it and dropped after it,
//! uncounted.

#![allow(missing_docs, reason = "gungraun's macros make items without docs")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use gungraun::Callgrind;
use gungraun::prelude::*;
use herenow_core::ShardMessage;
use herenow_presence::PresenceDiff;
use herenow_protocol::{JoinRef, Message, MessageRef, Payload, Serializer};
use instructions::{
    Crowd, Extras, Gate, Listeners, Pair, Room, Rows, binary_push, diff, extracted, payload, push,
    rows,
};

const V1: Serializer = Serializer::V1;
const V2: Serializer = Serializer::V2;

#[library_benchmark]
#[bench::n1(rows(10_000, 1))]
#[bench::n100(rows(10_000, 100))]
fn track(mut rows: Rows) -> Rows {
    rows.track();
    rows
}

#[library_benchmark]
#[bench::n100(rows(10_000, 100).again())]
fn update(mut rows: Rows) -> Rows {
    rows.update();
    rows
}

fn pair(n_joins: usize) -> (Pair, ShardMessage) {
    let pair = Pair::new(10_000, n_joins);
    let delta = pair.decode();
    (pair, delta)
}

#[library_benchmark]
#[bench::n1(pair(1))]
#[bench::n10(pair(10))]
#[bench::n100(pair(100))]
fn apply(mut work: (Pair, ShardMessage)) -> Pair {
    work.0.apply(work.1);
    work.0
}

#[library_benchmark]
#[bench::n100(Pair::new(10_000, 100))]
fn decode_delta(pair: Pair) -> (Pair, ShardMessage) {
    let delta = pair.decode();
    (pair, delta)
}

#[library_benchmark]
#[bench::n10000(rows(10_000, 0))]
fn extract(mut rows: Rows) -> Rows {
    black_box(extracted(&mut rows.shard));
    rows
}

#[library_benchmark]
#[bench::n100(rows(10_000, 0))]
fn list(rows: Rows) -> Rows {
    black_box(rows.list());
    rows
}

library_benchmark_group!(
    name = shard,
    benchmarks = [track, update, apply, decode_delta, extract, list]
);

#[library_benchmark]
#[bench::v1(V1, push(V1))]
#[bench::v2(V2, push(V2))]
fn decode_text(serializer: Serializer, frame: Bytes) -> (Bytes, Message) {
    let message = serializer.decode_text(black_box(&frame));
    (frame, message.expect("a client's push"))
}

#[library_benchmark]
#[bench::v2(binary_push())]
fn decode_binary(frame: Bytes) -> (Bytes, Message) {
    let message = V2.decode_binary(black_box(&frame));
    (frame, message.expect("a client's push"))
}

#[library_benchmark]
#[bench::v1(V1, payload())]
#[bench::v2(V2, payload())]
fn encode_broadcast(serializer: Serializer, payload: Payload) -> (Payload, Bytes) {
    let encoded = serializer.encode_broadcast(black_box("room:lobby"), "new_msg", &payload);
    (payload, encoded.expect("short names").bytes)
}

#[library_benchmark]
#[bench::v1(V1, payload())]
#[bench::v2(V2, payload())]
fn encode_reply(serializer: Serializer, payload: Payload) -> (Payload, Bytes) {
    let (join_ref, message_ref) = (JoinRef::from("12"), MessageRef::from("345"));
    let (refs, topic) = ((Some(&join_ref), Some(&message_ref)), "room:lobby");
    let encoded = serializer.encode_reply(refs.0, refs.1, black_box(topic), "ok", &payload);
    (payload, encoded.expect("short names").bytes)
}

library_benchmark_group!(
    name = wire,
    benchmarks = [decode_text, decode_binary, encode_broadcast, encode_reply]
);

#[library_benchmark]
#[bench::n1(diff(1))]
fn encode_diff(diff: Arc<PresenceDiff>) -> (Arc<PresenceDiff>, Bytes) {
    let payload = Payload::Json(diff.json());
    let encoded = V2.encode_broadcast(black_box("room:1"), "presence_diff", &payload);
    (diff, encoded.expect("short names").bytes)
}

#[library_benchmark]
#[bench::unchanged_100(Room::new(100).listed())]
#[bench::unchanged_10000(Room::new(10_000).listed())]
#[bench::changed_100(Room::new(100).listed().changed())]
#[bench::changed_10000(Room::new(10_000).listed().changed())]
fn list_room(room: Room) -> (Room, Bytes) {
    let list = room.list();
    (room, list)
}

library_benchmark_group!(name = presence, benchmarks = [encode_diff, list_room]);

fn all_got_message(mut listeners: Listeners) {
    listeners.all_got("new_msg");
}

fn all_got_diff(mut listeners: Listeners) {
    listeners.all_got("presence_diff");
}

fn message() -> herenow_pubsub::Payload {
    herenow_pubsub::Payload::json(r#"{"text":"hello"}"#)
}

#[library_benchmark]
#[bench::n1(args = (Listeners::new(1), message()), teardown = all_got_message)]
#[bench::n100(args = (Listeners::new(100), message()), teardown = all_got_message)]
fn dispatch(listeners: Listeners, payload: herenow_pubsub::Payload) -> Listeners {
    listeners.dispatch("new_msg", payload);
    listeners
}

#[library_benchmark]
#[bench::n100(args = (Listeners::new(100), diff(1)), teardown = all_got_diff)]
fn dispatch_diff(listeners: Listeners, diff: Arc<PresenceDiff>) -> Listeners {
    listeners.dispatch_diff(diff);
    listeners
}

library_benchmark_group!(name = fan_out, benchmarks = [dispatch, dispatch_diff]);

#[library_benchmark]
#[bench::good(Gate::with_good())]
#[bench::forged(Gate::with_forged())]
fn check_token(gate: Gate) -> (Gate, bool) {
    let is_in = gate.check();
    (gate, is_in)
}

library_benchmark_group!(name = token, benchmarks = [check_token]);

fn one_room(extras: Extras) -> Crowd {
    Crowd::at_the_door(extras, 500, 500)
}

fn rooms_of_50(extras: Extras) -> Crowd {
    Crowd::at_the_door(extras, 500, 50)
}

fn speech_to_500(extras: Extras) -> Crowd {
    Crowd::before_a_speech(extras, 500, 20)
}

fn all_have_lists(crowd: Crowd) {
    crowd.check_lists();
}

fn all_heard(crowd: Crowd) {
    crowd.check_speech();
}

#[library_benchmark]
#[bench::bare(args = (one_room(Extras::None)), teardown = all_have_lists)]
#[bench::limits(args = (one_room(Extras::Limits)), teardown = all_have_lists)]
#[bench::tokens(args = (one_room(Extras::LimitsAndTokens)), teardown = all_have_lists)]
fn storm(mut crowd: Crowd) -> Crowd {
    crowd.come();
    crowd
}

#[library_benchmark]
#[bench::bare(args = (rooms_of_50(Extras::None)), teardown = all_have_lists)]
#[bench::limits(args = (rooms_of_50(Extras::Limits)), teardown = all_have_lists)]
#[bench::tokens(args = (rooms_of_50(Extras::LimitsAndTokens)), teardown = all_have_lists)]
fn storm_by_50(mut crowd: Crowd) -> Crowd {
    crowd.come();
    crowd
}

#[library_benchmark]
#[bench::bare(args = (speech_to_500(Extras::None)), teardown = all_heard)]
#[bench::limits(args = (speech_to_500(Extras::Limits)), teardown = all_heard)]
#[bench::tokens(args = (speech_to_500(Extras::LimitsAndTokens)), teardown = all_heard)]
fn speech(mut crowd: Crowd) -> Crowd {
    crowd.speak();
    crowd
}

library_benchmark_group!(name = server, benchmarks = [storm, storm_by_50, speech]);

// Caches are not simulated: they would make it slower, and only instructions are compared.
main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"]));
    library_benchmark_groups = shard, wire, presence, fan_out, token, server
);
