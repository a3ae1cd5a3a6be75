//! The rules of a connection, message by message.

#[path = "support/frames.rs"]
mod common;

use common::{encoded, json, message, text};
use herenow_protocol::{
    Action, ChannelId, CloseCode, JoinLimit, JoinOutcome, JoinRefCheck, JoinRequest, Message,
    Serializer, ServerMessage, SocketConfig, SocketState,
};

type Refs<'a> = (Option<&'a str>, Option<&'a str>);

/// A connection that speaks V2 and has a route for every topic that begins with `room:`.
#[derive(Default)]
struct Socket {
    state: SocketState,
    config: SocketConfig,
}

impl Socket {
    fn with_check(check: JoinRefCheck) -> Self {
        let mut socket = Self::default();
        socket.config.join_ref_check = check;
        socket
    }

    fn handle(&mut self, message: Message) -> Action {
        self.state
            .handle_message(&self.config, message, |topic| topic.starts_with("room:"))
    }

    fn send(&mut self, refs: Refs<'_>, topic: &str, event: &str) -> Action {
        self.handle(message(refs, topic, event, json("{}")))
    }

    fn request(&mut self, refs: Refs<'_>, topic: &str) -> JoinRequest {
        match self.send(refs, topic, "phx_join") {
            Action::Join(request) => request,
            action => panic!("{action:?}"),
        }
    }

    fn join(&mut self, refs: Refs<'_>, topic: &str) -> ChannelId {
        let slot = self.request(refs, topic).slot;
        self.state
            .on_joined(slot, JoinOutcome::Joined(json("{}")))
            .expect("was joining");
        slot
    }

    fn settle(&mut self, slot: ChannelId, outcome: JoinOutcome) -> Vec<String> {
        let settled = self.state.on_joined(slot, outcome).expect("was joining");
        [Some(settled.reply), settled.replaced]
            .iter()
            .flatten()
            .map(v2)
            .collect()
    }
}

fn v2(message: &ServerMessage) -> String {
    encoded(Serializer::V2, message)
}

fn answer(action: Action) -> String {
    match action {
        Action::Reply(reply) => v2(&reply),
        action => panic!("{action:?}"),
    }
}

fn is_delivered(action: &Action) -> bool {
    match action {
        Action::Deliver(_) | Action::Leave(_) => true,
        Action::IgnoreStale { .. } => false,
        Action::Reply(_) | Action::Refuse { .. } | Action::Join(_) | Action::Hold { .. } => {
            panic!("{action:?}")
        }
    }
}

#[test]
fn heartbeats_are_answered_without_join_ref() {
    let mut socket = Socket::default();
    let answered = answer(socket.send((Some("1"), Some("1")), "phoenix", "heartbeat"));
    assert_eq!(answered, text("v2_heartbeat_reply"));
    let answered = answer(socket.send((None, Some("1")), "phoenix", "other"));
    assert!(answered.contains("unmatched topic"), "{answered}");
}

#[test]
fn events_and_joins_without_a_channel_are_unmatched() {
    let mut socket = Socket::default();
    let answered = answer(socket.send((Some("1"), Some("1")), "room:a", "e"));
    assert_eq!(answered, text("v2_unmatched_reply"));
    let answered = answer(socket.send((Some("1"), Some("1")), "other", "phx_join"));
    assert!(
        answered.starts_with(r#"[null,"1","other","phx_reply""#),
        "{answered}"
    );
    assert_eq!(socket.state.n_channels(), 0);
}

#[test]
fn a_topic_that_is_no_string_is_unmatched_and_echoed() {
    let frame = bytes::Bytes::from_static(br#"["1",2,{"a":1},"phx_join",{}]"#);
    let message = Serializer::V2.decode_text(&frame).unwrap();
    let answered = answer(Socket::default().handle(message));
    assert_eq!(
        answered,
        r#"[null,2,{"a":1},"phx_reply",{"response":{"reason":"unmatched topic"},"status":"error"}]"#
    );
}

#[test]
fn leaving_what_is_not_joined_is_ok() {
    let mut socket = Socket::default();
    let answered = answer(socket.send((Some("1"), Some("5")), "room:a", "phx_leave"));
    assert_eq!(answered, text("v2_leave_reply"));
}

#[test]
fn a_join_is_settled_by_its_outcome() {
    let mut socket = Socket::default();
    let slot = socket.request((Some("1"), Some("1")), "room:a").slot;
    let sent = socket.settle(slot, JoinOutcome::Joined(json("{}")));
    assert_eq!(sent, [text("v2_join_reply")]);
    assert_eq!(socket.state.n_channels(), 1);

    let slot = socket.request((Some("2"), Some("2")), "room:b").slot;
    let sent = socket.settle(slot, JoinOutcome::Refused(json(r#"{"reason":"no"}"#)));
    let refused = r#"["2","2","room:b","phx_reply",{"response":{"reason":"no"},"status":"error"}]"#;
    assert_eq!(sent, [refused]);

    let slot = socket.request((Some("3"), Some("3")), "room:c").slot;
    let sent = socket.settle(slot, JoinOutcome::Crashed);
    assert!(sent[0].contains(r#"{"reason":"join crashed"}"#), "{sent:?}");
    assert_eq!(socket.state.n_channels(), 1);
    assert_eq!(socket.state.on_joined(slot, JoinOutcome::Crashed), None);
}

#[test]
fn a_channel_without_join_ref_uses_the_joins_ref_for_itself() {
    let mut socket = Socket::default();
    let request = socket.request((None, Some("7")), "room:a");
    assert_eq!(request.join_ref, Some("7".into()));
    socket.settle(request.slot, JoinOutcome::Joined(json("{}")));
    assert_eq!(socket.state.join_ref(request.slot), Some(&"7".into()));
    let crash = socket.state.on_channel_crashed(request.slot).unwrap();
    assert_eq!(
        v2(&crash),
        r#"[null,null,"room:a","phx_error",{"reason":"channel_crash"}]"#
    );
}

#[test]
fn a_leave_is_answered_and_then_closed() {
    let mut socket = Socket::default();
    let slot = socket.join((Some("1"), Some("1")), "room:a");
    let Action::Leave(leave) = socket.send((Some("1"), Some("5")), "room:a", "phx_leave") else {
        panic!("leaves")
    };
    assert_eq!(leave.slot, slot);
    let sent = socket.state.on_left(slot, leave.message_ref).unwrap();
    assert_eq!(
        sent.each_ref().map(v2),
        [text("v2_leave_reply"), text("v2_close")]
    );
    assert_eq!(socket.state.on_left(slot, None), None);
    assert_eq!(socket.state.n_channels(), 0);
}

#[test]
fn a_channels_end_is_a_close_or_an_error() {
    let mut socket = Socket::default();
    let slot = socket.join((Some("1"), Some("1")), "room:a");
    assert_eq!(
        v2(&socket.state.on_channel_closed(slot).unwrap()),
        text("v2_close")
    );
    assert_eq!(socket.state.on_channel_closed(slot), None);
    let slot = socket.join((Some("1"), Some("1")), "room:a");
    assert_eq!(
        v2(&socket.state.on_channel_crashed(slot).unwrap()),
        text("v2_error")
    );
    assert_eq!(socket.state.on_channel_crashed(slot), None);
}

#[test]
fn a_duplicate_join_is_answered_before_the_old_close() {
    for outcome in [
        JoinOutcome::Joined(json("{}")),
        JoinOutcome::Refused(json("{}")),
    ] {
        let mut socket = Socket::default();
        let old = socket.join((Some("1"), Some("1")), "room:a");
        let request = socket.request((Some("2"), Some("2")), "room:a");
        assert_eq!(request.replaces, Some(old));
        assert_eq!(socket.state.on_channel_closed(old), None);
        let sent = socket.settle(request.slot, outcome);
        assert!(
            sent[0].starts_with(r#"["2","2","room:a","phx_reply""#),
            "{sent:?}"
        );
        assert_eq!(sent[1], text("v2_close"));
        assert_eq!(sent.len(), 2);
    }
}

#[test]
fn messages_of_an_earlier_join_are_ignored() {
    let mut socket = Socket::default();
    socket.join((Some("1"), Some("1")), "room:a");
    let slot = socket.join((Some("2"), Some("2")), "room:a");
    let action = socket.send((Some("1"), Some("3")), "room:a", "e");
    assert_eq!(action, Action::IgnoreStale { slot });
    let action = socket.send((Some("1"), Some("3")), "room:a", "phx_leave");
    assert_eq!(action, Action::IgnoreStale { slot });
    assert!(is_delivered(&socket.send((None, Some("3")), "room:a", "e")));
    // A number is not the string that looks like it.
    let frame = bytes::Bytes::from_static(br#"[2,"3","room:a","e",{}]"#);
    let message = Serializer::V2.decode_text(&frame).unwrap();
    assert!(!is_delivered(&socket.handle(message)));
}

#[test]
fn how_strict_join_refs_are_is_configured() {
    use JoinRefCheck::{
        EitherMissing, IncomingMissing, LeavesOnly, LeavesUnlessMissing, Never, RecordedMissing,
    };
    let all: &[JoinRefCheck] = &[
        EitherMissing,
        IncomingMissing,
        RecordedMissing,
        LeavesOnly,
        LeavesUnlessMissing,
        Never,
    ];
    // Recorded, incoming; then who accepts an event, and who a leave.
    let cases: [(Refs<'_>, &[JoinRefCheck], &[JoinRefCheck]); 4] = [
        ((Some("1"), Some("1")), all, all),
        (
            (Some("1"), Some("2")),
            &[LeavesOnly, LeavesUnlessMissing, Never],
            &[Never],
        ),
        (
            (Some("1"), None),
            &[
                EitherMissing,
                IncomingMissing,
                LeavesOnly,
                LeavesUnlessMissing,
                Never,
            ],
            &[EitherMissing, IncomingMissing, LeavesUnlessMissing, Never],
        ),
        (
            (None, Some("1")),
            &[
                EitherMissing,
                RecordedMissing,
                LeavesOnly,
                LeavesUnlessMissing,
                Never,
            ],
            &[
                EitherMissing,
                RecordedMissing,
                LeavesOnly,
                LeavesUnlessMissing,
                Never,
            ],
        ),
    ];
    for &check in all {
        for ((recorded, incoming), events, leaves) in cases {
            let mut socket = Socket::with_check(check);
            socket.join((recorded, Some("9")), "room:a");
            let action = socket.send((incoming, Some("5")), "room:a", "e");
            assert_eq!(
                is_delivered(&action),
                events.contains(&check),
                "{check:?} {action:?}"
            );
            let action = socket.send((incoming, Some("6")), "room:a", "phx_leave");
            assert_eq!(
                is_delivered(&action),
                leaves.contains(&check),
                "{check:?} {action:?}"
            );
        }
    }
}

#[test]
fn a_socket_has_at_most_so_many_channels() {
    let mut socket = Socket::default();
    socket.config.max_channels = 2;
    let slot = socket.join((Some("1"), Some("1")), "room:1");
    socket.request((Some("2"), Some("2")), "room:2");
    let join = message((Some("3"), Some("3")), "room:3", "phx_join", json("{}"));
    assert_eq!(
        socket.handle(join.clone()),
        Action::Refuse {
            limit: JoinLimit::Channels,
            reason: "too many channels joined, the limit is 2 (socket.max_channels)".into(),
            message: join,
        }
    );
    socket.state.on_channel_closed(slot);
    socket.join((Some("3"), Some("3")), "room:3");
}

#[test]
fn a_topic_has_at_most_so_many_bytes() {
    let mut socket = Socket::default();
    socket.config.max_topic_bytes = 8;
    let join = message((None, Some("3")), "room:1234", "phx_join", json("{}"));
    assert_eq!(
        socket.handle(join.clone()),
        Action::Refuse {
            limit: JoinLimit::TopicBytes,
            reason: "topic is 9 bytes, the limit is 8 (socket.max_topic_bytes)".into(),
            message: join,
        }
    );
}

#[test]
fn only_the_topic_that_is_joining_waits() {
    let mut socket = Socket::default();
    let slot = socket.request((Some("1"), Some("1")), "room:a").slot;
    let held = message((Some("1"), Some("2")), "room:a", "e", json("{}"));
    assert_eq!(
        socket.handle(held.clone()),
        Action::Hold {
            slot,
            message: held.clone()
        }
    );
    answer(socket.send((None, Some("3")), "phoenix", "heartbeat"));
    socket.join((Some("4"), Some("4")), "room:b");
    socket.settle(slot, JoinOutcome::Joined(json("{}")));
    assert!(is_delivered(&socket.handle(held)));
}

#[test]
fn channels_are_found_by_slot_after_others_have_gone() {
    let mut socket = Socket::default();
    let slots: Vec<_> = (0..5)
        .map(|nth| socket.join((None, Some("1")), &format!("room:{nth}")))
        .collect();
    socket.state.on_channel_closed(slots[1]);
    socket.state.on_channel_closed(slots[3]);
    assert_eq!(socket.state.topic(slots[4]).unwrap(), "room:4");
    assert_eq!(socket.state.topic(slots[3]), None);
    let left: Vec<_> = socket.state.channels().map(|(slot, _)| slot).collect();
    assert_eq!(left, [slots[0], slots[2], slots[4]]);
}

#[test]
fn a_clients_close_is_answered_with_1000_or_1002() {
    for code in [1000, 1003, 1007, 1011, 3000, 4999] {
        assert_eq!(
            CloseCode::answer_to(Some(CloseCode(code))),
            CloseCode::NORMAL
        );
    }
    for code in [0, 999, 1004, 1005, 1006, 1012, 2999] {
        assert_eq!(
            CloseCode::answer_to(Some(CloseCode(code))),
            CloseCode::PROTOCOL_ERROR
        );
    }
    assert_eq!(CloseCode::answer_to(None), CloseCode::NORMAL);
}

#[test]
fn a_channel_costs_little_memory() {
    assert!(
        size_of::<SocketState>() <= 32,
        "{}",
        size_of::<SocketState>()
    );
    assert!(size_of::<Action>() <= 256, "{}", size_of::<Action>());
}
