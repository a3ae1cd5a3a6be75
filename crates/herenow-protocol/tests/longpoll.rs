//! Long-poll sessions: buffer, waiting poll, window, inactivity, batches, answers.

use std::time::Duration;

use bytes::Bytes;
use herenow_protocol::{
    BatchError, BufferError, Encoded, FrameKind, LongPollConfig, LongPollSession, PollAnswer,
    PollStep, split_batch,
};

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn config() -> LongPollConfig {
    let mut config = LongPollConfig::default();
    config.window = at(200);
    config
}

fn session() -> LongPollSession {
    LongPollSession::new(&config(), at(0))
}

fn messages(texts: &[&'static str]) -> PollAnswer {
    PollAnswer::Messages(
        texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect(),
    )
}

fn wait(step: PollStep) -> (herenow_protocol::PollId, Duration) {
    match step {
        PollStep::Wait { poll, until } => (poll, until),
        PollStep::Answer(answer) => panic!("answered with {answer:?}"),
    }
}

#[test]
fn a_poll_gets_all_that_has_waited() {
    let mut session = session();
    session.handle_frame(Encoded::text("a")).unwrap();
    session.handle_frame(Encoded::text("b")).unwrap();
    assert_eq!(session.poll_answer(), None);
    assert_eq!(
        session.handle_poll(at(1)),
        PollStep::Answer(messages(&["a", "b"]))
    );
    assert_eq!(session.n_buffered(), 0);
}

#[test]
fn a_waiting_poll_is_answered_by_the_next_frames() {
    let mut session = session();
    let (poll, until) = wait(session.handle_poll(at(10)));
    assert_eq!(until, at(210));
    assert_eq!(session.poll_answer(), None);
    session.handle_frame(Encoded::text("a")).unwrap();
    assert_eq!(session.poll_answer(), Some((poll, messages(&["a"]))));
    session.handle_frame(Encoded::text("b")).unwrap();
    assert_eq!(session.poll_answer(), None);
}

#[test]
fn the_end_of_the_window_keeps_later_frames_for_the_next_poll() {
    let mut session = session();
    let (poll, until) = wait(session.handle_poll(at(0)));
    assert_eq!(session.handle_window_end(poll), PollAnswer::Empty);
    session.handle_frame(Encoded::text("a")).unwrap();
    assert_eq!(session.poll_answer(), None);
    assert_eq!(
        session.handle_poll(until),
        PollStep::Answer(messages(&["a"]))
    );
}

#[test]
fn only_the_latest_poll_is_woken() {
    let mut session = session();
    let (old, _) = wait(session.handle_poll(at(0)));
    let (new, _) = wait(session.handle_poll(at(1)));
    assert_eq!(session.handle_window_end(old), PollAnswer::Empty);
    session.handle_frame(Encoded::text("a")).unwrap();
    assert_eq!(session.poll_answer(), Some((new, messages(&["a"]))));
}

#[test]
fn a_session_that_nobody_polls_is_over_after_one_and_a_half_windows() {
    let mut session = session();
    assert_eq!(session.poll_timeout(), at(300));
    wait(session.handle_poll(at(250)));
    assert!(!session.handle_timeout(at(299)));
    assert!(!session.handle_timeout(at(300)));
    assert_eq!(session.poll_timeout(), at(600));
    // A clock that runs backwards changes nothing.
    assert!(!session.handle_timeout(at(100)));
    assert!(session.handle_timeout(at(600)));
}

#[test]
fn the_buffer_is_bounded_in_frames_and_bytes() {
    let mut config = config();
    config.max_buffered_frames = 2;
    config.max_buffered_bytes = 10;
    let mut session = LongPollSession::new(&config, at(0));
    session.handle_frame(Encoded::text("12345678")).unwrap();
    let error = session.handle_frame(Encoded::text("123")).unwrap_err();
    assert_eq!(error, BufferError::TooManyBytes { len: 11, max: 10 });
    session.handle_frame(Encoded::text("12")).unwrap();
    let error = session.handle_frame(Encoded::text("")).unwrap_err();
    assert_eq!(error, BufferError::TooManyFrames { max: 2 });
    session.handle_poll(at(1));
    session.handle_frame(Encoded::text("1234567890")).unwrap();
}

#[test]
fn soc_301_a_binary_frame_is_lost_alone_be_it_text_or_not() {
    let mut session = session();
    for frame in [&b"\x02\xff"[..], b"\x02a"] {
        let error = session.handle_frame(Encoded::binary(frame)).unwrap_err();
        assert_eq!(error, BufferError::Binary { len: 2 });
    }
    session.handle_frame(Encoded::text("text")).unwrap();
    assert_eq!(
        session.handle_poll(at(1)),
        PollStep::Answer(messages(&["text"]))
    );
}

#[test]
fn answers_are_json_with_a_status() {
    let body = |answer: PollAnswer| String::from_utf8(answer.to_json("T").to_vec()).unwrap();
    assert_eq!(
        body(messages(&[r#"["1","2"]"#, "é\n"])),
        r#"{"status":200,"token":"T","messages":["[\"1\",\"2\"]","é\n"]}"#
    );
    assert_eq!(
        body(PollAnswer::Empty),
        r#"{"status":204,"token":"T","messages":[]}"#
    );
    assert_eq!(
        body(PollAnswer::NewSession),
        r#"{"status":410,"token":"T","messages":[]}"#
    );
    assert_eq!(body(PollAnswer::Gone), r#"{"status":410}"#);
    assert_eq!(body(PollAnswer::Forbidden), r#"{"status":403}"#);
    assert_eq!(body(PollAnswer::Accepted), r#"{"status":200}"#);
    assert_eq!(body(PollAnswer::TimedOut), r#"{"status":408}"#);
}

#[test]
fn a_batch_is_lines_of_text_and_base64_and_empty_ones_are_nothing() {
    let body = Bytes::from_static(b"\r\n[1]\r\nAAEC\n[2]\n\n[3]\n");
    let frames: Vec<_> = split_batch(&config(), &body)
        .map(|part| part.unwrap())
        .map(|f| (f.kind, f.bytes))
        .collect();
    let text = |text: &'static str| (FrameKind::Text, Bytes::from_static(text.as_bytes()));
    let binary = |bytes: &'static [u8]| (FrameKind::Binary, Bytes::from_static(bytes));
    assert_eq!(
        frames,
        [
            text("[1]"),
            binary(b"\x00\x01\x02"),
            text("[2]"),
            text("[3]")
        ]
    );
}

#[test]
fn a_batch_has_at_most_a_hundred_parts() {
    let lines: Vec<String> = (0..101).map(|nth| format!("[{nth}]")).collect();
    let body = Bytes::from(lines.join("\n"));
    let frames: Vec<_> = split_batch(&config(), &body)
        .map(|part| part.unwrap())
        .collect();
    assert_eq!((frames.len(), &frames[99].bytes[..]), (100, &b"[99]"[..]));
}

#[test]
fn parts_of_a_batch_are_checked_one_by_one() {
    let mut config = config();
    config.max_base64_chars = 8;
    let body = Bytes::from_static(b"AAAA\n{\"topic\":1}\nAAAAAAAAAAAA\nAAA\n[1]");
    let mut parts = split_batch(&config, &body);
    assert!(parts.next().unwrap().is_ok());
    let error = parts.next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a binary part is 11 base64 characters, the limit is 8"
    );
    assert!(matches!(
        parts.next(),
        Some(Err(BatchError::TooLong { len: 12, max: 8 }))
    ));
    assert!(matches!(parts.next(), Some(Err(BatchError::Base64(_)))));
    assert!(parts.next().unwrap().is_ok());
    assert!(parts.next().is_none());
}
