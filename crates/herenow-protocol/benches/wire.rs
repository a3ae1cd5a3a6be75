//! How long a message takes to read and to write, and a presence list to fold.
#![allow(missing_docs, reason = "criterion's macros make items without docs")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use herenow_protocol::{
    Action, JoinOutcome, Payload, PresenceDiff, PresenceState, Serializer, SocketConfig,
    SocketState,
};

/// 200 bytes, as a chat or cursor message has.
fn push() -> Bytes {
    let head = r#"["12","345","room:lobby","new_msg",{"user":{"id":42,"name":"Ada"},"text":""#;
    let text = "x".repeat(200 - head.len() - 4);
    Bytes::from(format!(r#"{head}{text}"}}]"#))
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    let text = push();
    group.bench_function("v2 text push of 200 bytes", |bencher| {
        bencher.iter(|| Serializer::V2.decode_text(black_box(&text)).is_ok());
    });
    let message = Serializer::V2.decode_text(&text).expect("decodes");
    let v1 = Serializer::V1
        .encode_client(&message)
        .expect("encodes")
        .bytes;
    group.bench_function("v1 push", |bencher| {
        bencher.iter(|| Serializer::V1.decode_text(black_box(&v1)).is_ok());
    });
    let mut binary = message.clone();
    binary.payload = Payload::Binary(Bytes::from(vec![7; 160]));
    let binary = Serializer::V2
        .encode_client(&binary)
        .expect("encodes")
        .bytes;
    group.bench_function("v2 binary push of 200 bytes", |bencher| {
        bencher.iter(|| Serializer::V2.decode_binary(black_box(&binary)).is_ok());
    });
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    let payload = Serializer::V2
        .decode_text(&push())
        .expect("decodes")
        .payload;
    for serializer in [Serializer::V1, Serializer::V2] {
        group.bench_function(format!("{serializer:?} broadcast"), |bencher| {
            bencher.iter(|| {
                serializer
                    .encode_broadcast(black_box("room:lobby"), "new_msg", &payload)
                    .is_ok()
            });
        });
    }
    group.finish();
}

fn socket(criterion: &mut Criterion) {
    let config = SocketConfig::default();
    let mut state = SocketState::new();
    let decoded = Serializer::V2.decode_text(&push()).expect("decodes");
    let mut join = decoded.clone();
    (join.event, join.message_ref) = ("phx_join".into(), Some("12".into()));
    let Action::Join(request) = state.handle_message(&config, join, |_| true) else {
        unreachable!("the topic is routed and not joined")
    };
    state
        .on_joined(request.slot, JoinOutcome::Joined(Payload::empty()))
        .expect("was joining");
    criterion.bench_function("route a push to its channel", |bencher| {
        bencher.iter(|| state.handle_message(&config, black_box(decoded.clone()), |_| true));
    });
}

fn fold(criterion: &mut Criterion) {
    let entries: Vec<String> = (0..1000)
        .map(|n| {
            format!(r#""user-{n}":{{"metas":[{{"online_at":"1700000000","phx_ref":"{n}"}}]}}"#)
        })
        .collect();
    let text = format!("{{{}}}", entries.join(","));
    let payload = Payload::from_json_text(text.into()).expect("JSON");
    let mut group = criterion.benchmark_group("fold");
    group.bench_function("state of 1,000", |bencher| {
        bencher.iter(|| {
            let mut state = PresenceState::default();
            let new = PresenceState::from_payload(black_box(&payload)).expect("a state");
            state.sync_state(&new, &mut |_| {});
            state.len()
        });
    });
    let mut state = PresenceState::from_payload(&payload).expect("a state");
    let diff = br#"{"joins":{"user-7":{"metas":[{"phx_ref":"b","phx_ref_prev":"7"}]}},"leaves":{"user-7":{"metas":[{"phx_ref":"7"}]}}}"#;
    let diff = Payload::Json(Bytes::from_static(diff));
    group.bench_function("diff of 1 into 1,000", |bencher| {
        bencher.iter(|| {
            let diff = PresenceDiff::from_payload(black_box(&diff)).expect("a diff");
            state.sync_diff(&diff, &mut |_| {});
        });
    });
    group.finish();
}

criterion_group!(benches, decode, encode, socket, fold);
criterion_main!(benches);
