//! RFC 6455 at `/echo/websocket`: the transport of the channels with a bare echo behind it.
//!
//! The cases are those that the Autobahn suite judges (sections 1 to 7, 9 and 10, without
//! compression), in our own words; `cargo xtask autobahn` runs the suite itself where it is
//! installed. Frames are written and read by hand: a library would not let us break the rules.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/frames.rs"]
mod frames;

use self::frames::{Peer, Seen, bytes_of, close, masked, text_of};
use self::rig::Rig;

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_DATA: u16 = 1007;
const TOO_BIG: u16 = 1009;

async fn server() -> Rig {
    Rig::with(&[("ws_echo", "true")]).await
}

/// Opens a connection, sends `bytes` in pieces of `piece` bytes, and returns all that is answered
/// after a close of ours, or until the server closes.
async fn answers(rig: &Rig, bytes: &[u8], piece: usize) -> Vec<Seen> {
    let mut peer = Peer::open(rig.address).await;
    let all = [bytes, &masked(FIN | CLOSE, &close(1000, ""))].concat();
    for piece in all.chunks(piece) {
        peer.write(piece).await;
    }
    peer.read_to_end().await
}

/// What a server answers that found nothing wrong: `echoes`, and the close.
fn fine(echoes: impl IntoIterator<Item = Seen>) -> Vec<Seen> {
    let close = Seen::Close(Some(1000));
    echoes.into_iter().chain([close]).collect()
}

/// Asserts that the server closes with `code`, after it has echoed what came before.
async fn assert_refused(rig: &Rig, what: &str, bytes: &[u8], echoes: &[Seen], code: u16) {
    let seen = answers(rig, bytes, usize::MAX).await;
    let expected: Vec<_> = echoes
        .iter()
        .cloned()
        .chain([Seen::Close(Some(code))])
        .collect();
    assert_eq!(seen, expected, "{what}");
}

/// The ways in which a stream of bytes reaches the server.
const PIECES: [usize; 3] = [usize::MAX, 997, 1];

#[tokio::test]
async fn srv_582_messages_of_every_length_come_back_as_they_were() {
    let rig = server().await;
    for len in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
        let (text, bytes) = (text_of(len), bytes_of(len));
        for piece in [usize::MAX, 997] {
            let sent = [
                masked(FIN | TEXT, text.as_bytes()),
                masked(FIN | BINARY, &bytes),
            ]
            .concat();
            let seen = answers(&rig, &sent, piece).await;
            let echoes = [Seen::Text(text.clone()), Seen::Binary(bytes.clone())];
            assert_eq!(seen, fine(echoes), "{len} bytes in pieces of {piece}");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_583_pings_are_answered_in_order_and_pongs_are_not() {
    let rig = server().await;
    for payload in [&b""[..], b"Hello", &[0, 0xff, 0xfe, 0x80], &[0xfe; 125]] {
        for piece in PIECES {
            let seen = answers(&rig, &masked(FIN | PING, payload), piece).await;
            assert_eq!(seen, fine([Seen::Pong(payload.to_vec())]), "{payload:?}");
        }
    }
    assert_refused(
        &rig,
        "126 bytes",
        &masked(FIN | PING, &[0xfe; 126]),
        &[],
        PROTOCOL_ERROR,
    )
    .await;
    for pong in [&b""[..], b"unasked"] {
        let sent = [masked(FIN | PONG, pong), masked(FIN | PING, b"x")].concat();
        let seen = answers(&rig, &sent, usize::MAX).await;
        assert_eq!(seen, fine([Seen::Pong(b"x".to_vec())]));
    }
    for piece in PIECES {
        let pings: Vec<u8> = (0..10)
            .flat_map(|n| masked(FIN | PING, &[b'0' + n]))
            .collect();
        let pongs = (0..10).map(|n| Seen::Pong(vec![b'0' + n]));
        assert_eq!(answers(&rig, &pings, piece).await, fine(pongs));
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_584_reserved_bits_and_opcodes_are_refused_after_what_came_before() {
    let rig = server().await;
    let hello = masked(FIN | TEXT, b"Hello");
    let echo = [Seen::Text("Hello".to_owned())];
    for bits in 1..8_u8 {
        for opcode in [TEXT, BINARY, PING, CLOSE, CONTINUATION] {
            let bad = masked(FIN | bits << 4 | opcode, b"");
            let what = format!("reserved bits {bits:03b} of opcode {opcode}");
            assert_refused(&rig, &what, &bad, &[], PROTOCOL_ERROR).await;
            let after = [&hello[..], &bad].concat();
            assert_refused(&rig, &what, &after, &echo, PROTOCOL_ERROR).await;
        }
    }
    for opcode in (3..8).chain(11..16) {
        for payload in [&b""[..], b"payload"] {
            let bad = masked(FIN | opcode, payload);
            let what = format!("opcode {opcode}");
            assert_refused(&rig, &what, &bad, &[], PROTOCOL_ERROR).await;
            let after = [&hello[..], &bad, &masked(FIN | PING, b"")].concat();
            assert_refused(&rig, &what, &after, &echo, PROTOCOL_ERROR).await;
        }
    }
    rig.stop().await;
}

/// What is sent, and what comes back besides the close.
type Exchange = (&'static str, Vec<Vec<u8>>, Vec<Seen>);

fn one() -> Vec<u8> {
    masked(TEXT, b"fragment1")
}

fn middle() -> Vec<u8> {
    masked(CONTINUATION, b"fragment2")
}

fn last() -> Vec<u8> {
    masked(FIN | CONTINUATION, b"fragment3")
}

fn ping() -> Vec<u8> {
    masked(FIN | PING, b"between")
}

fn fragmented() -> Vec<Exchange> {
    let nothing = |first: u8| masked(first, b"");
    let whole = |text: &str| Seen::Text(text.to_owned());
    let pong = Seen::Pong(b"between".to_vec());
    let of_two = whole("fragment1fragment3");
    let of_three = whole("fragment1fragment2fragment3");
    vec![
        ("two", vec![one(), last()], vec![of_two.clone()]),
        (
            "a ping between",
            vec![one(), ping(), last()],
            vec![pong.clone(), of_two.clone()],
        ),
        (
            "pings and pongs between all",
            vec![
                one(),
                ping(),
                middle(),
                masked(FIN | PONG, b"no"),
                ping(),
                last(),
            ],
            vec![pong.clone(), pong, of_three.clone()],
        ),
        (
            "nothing in any",
            vec![
                nothing(TEXT),
                nothing(CONTINUATION),
                nothing(FIN | CONTINUATION),
            ],
            vec![whole("")],
        ),
        (
            "nothing but in the middle",
            vec![
                nothing(BINARY),
                masked(CONTINUATION, b"m"),
                nothing(FIN | CONTINUATION),
            ],
            vec![Seen::Binary(b"m".to_vec())],
        ),
        (
            "two messages",
            vec![one(), last(), one(), middle(), last()],
            vec![of_two, of_three],
        ),
    ]
}

#[tokio::test]
async fn srv_585_fragments_are_put_together_and_control_frames_go_between() {
    let rig = server().await;
    for (what, sent, echoes) in fragmented() {
        for piece in PIECES {
            let seen = answers(&rig, &sent.concat(), piece).await;
            assert_eq!(seen, fine(echoes.clone()), "{what} in pieces of {piece}");
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_585_fragments_in_a_wrong_order_are_refused() {
    let rig = server().await;
    let begin = |opcode: u8| masked(opcode, b"new");
    let closing = masked(CLOSE, &close(1000, ""));
    let bad: [(&str, Vec<Vec<u8>>); 8] = [
        ("a ping in fragments", vec![begin(PING), last()]),
        ("a pong in fragments", vec![begin(PONG), last()]),
        ("a close in fragments", vec![closing, last()]),
        ("a last one of nothing", vec![last()]),
        ("a middle one of nothing", vec![middle(), begin(FIN | TEXT)]),
        (
            "a whole message inside another",
            vec![one(), begin(FIN | TEXT)],
        ),
        ("a beginning inside another", vec![one(), begin(TEXT)]),
        (
            "a binary beginning inside another",
            vec![one(), begin(BINARY), last()],
        ),
    ];
    for (what, sent) in bad {
        assert_refused(&rig, what, &sent.concat(), &[], PROTOCOL_ERROR).await;
    }
    rig.stop().await;
}

/// Texts whose bytes lie at the edges of what UTF-8 can say.
const GOOD_TEXTS: [&str; 14] = [
    "",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "κόσμε",
    "\u{0}",
    "\u{80}",
    "\u{800}",
    "\u{10000}",
    "\u{7f}",
    "\u{7ff}",
    "\u{ffff}",
    "\u{10ffff}",
    "\u{d7ff}\u{e000}\u{fffd}",
    "\u{fffe}\u{1ffff}\u{2fffe}\u{10fffe}",
    "\u{feff}bom \u{200d} 👩‍👩‍👧 \u{202e}",
];

/// Bytes that no text has: each alone, and after a text.
const BAD_BYTES: [&[u8]; 38] = [
    b"\x80",
    b"\xbf",
    b"\x80\xbf\x80",
    b"\xc0",
    b"\xc1",
    b"\xf5",
    b"\xf8",
    b"\xfc",
    b"\xfe",
    b"\xff",
    b"\xc0\x80",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xe0\x80\x80",
    b"\xe0\x80\xaf",
    b"\xe0\x9f\xbf",
    b"\xf0\x80\x80\x80",
    b"\xf0\x80\x80\xaf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf8\x80\x80\x80\xaf",
    b"\xfc\x80\x80\x80\x80\xaf",
    b"\xf8\x87\xbf\xbf\xbf",
    b"\xfc\x83\xbf\xbf\xbf\xbf",
    b"\xed\xa0\x80",
    b"\xed\xad\xbf",
    b"\xed\xae\x80",
    b"\xed\xaf\xbf",
    b"\xed\xb0\x80",
    b"\xed\xbe\x80",
    b"\xed\xbf\xbf",
    b"\xed\xa0\x80\xed\xb0\x80",
    b"\xed\xaf\xbf\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf7\xbf\xbf\xbf",
    b"\xfe\xfe\xff\xff",
    b"\xce\xce",
    b"\xe2\x82 ",
    b"\xf0\x9f\x98 ",
];

#[tokio::test]
async fn srv_586_texts_are_utf_8_however_they_are_cut() {
    let rig = server().await;
    for text in GOOD_TEXTS {
        let bytes = text.as_bytes();
        let seen = answers(&rig, &masked(FIN | TEXT, bytes), 1).await;
        assert_eq!(seen, fine([Seen::Text(text.to_owned())]), "{text:?}");
        // Cut into frames of one byte, also inside of characters.
        let mut sent = masked(TEXT, b"");
        sent.extend(bytes.iter().flat_map(|byte| masked(CONTINUATION, &[*byte])));
        sent.extend(masked(FIN | CONTINUATION, b""));
        let seen = answers(&rig, &sent, usize::MAX).await;
        assert_eq!(
            seen,
            fine([Seen::Text(text.to_owned())]),
            "{text:?} in fragments"
        );
    }
    for bad in BAD_BYTES {
        let after = [b"Hello-\xc2\xb5", bad].concat();
        for bytes in [bad, &after, &[bad, b"edited"].concat()] {
            let whole = masked(FIN | TEXT, bytes);
            assert_refused(&rig, &format!("{bytes:x?}"), &whole, &[], INVALID_DATA).await;
        }
        let (first, rest) = after.split_at(7);
        let cut = [masked(TEXT, first), masked(FIN | CONTINUATION, rest)].concat();
        assert_refused(
            &rig,
            &format!("{after:x?} in fragments"),
            &cut,
            &[],
            INVALID_DATA,
        )
        .await;
        let seen = answers(&rig, &masked(FIN | BINARY, bad), usize::MAX).await;
        assert_eq!(
            seen,
            fine([Seen::Binary(bad.to_vec())]),
            "bytes may be anything"
        );
    }
    for text in ["é", "€", "😀"] {
        for end in 1..text.len() {
            let cut = &text.as_bytes()[..end];
            let sent = masked(FIN | TEXT, cut);
            assert_refused(
                &rig,
                "a character without its end",
                &sent,
                &[],
                INVALID_DATA,
            )
            .await;
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_587_close_frames_are_answered_once_and_nothing_after_them() {
    let rig = server().await;
    let hello = masked(FIN | TEXT, b"Hello");
    let echo = [Seen::Text("Hello".to_owned())];
    let end = masked(FIN | CLOSE, b"");
    assert_refused(&rig, "no code", &end, &[], 1000).await;
    let longest = "x".repeat(123);
    for reason in ["", "Hello World!", "κόσμε", &longest] {
        let sent = masked(FIN | CLOSE, &close(1000, reason));
        assert_refused(&rig, reason, &sent, &[], 1000).await;
    }
    for after in [
        hello.clone(),
        masked(FIN | PING, b"x"),
        end.clone(),
        masked(FIN | CONTINUATION, b"x"),
    ] {
        let sent = [&hello[..], &end, &after].concat();
        assert_refused(&rig, "something after a close", &sent, &echo, 1000).await;
    }
    let started = [
        masked(TEXT, b"begun"),
        end.clone(),
        masked(FIN | CONTINUATION, b"done"),
    ]
    .concat();
    assert_refused(&rig, "a close between fragments", &started, &[], 1000).await;
    let large = [
        masked(FIN | TEXT, text_of(256 << 10).as_bytes()),
        hello,
        end,
    ]
    .concat();
    let echoes = [Seen::Text(text_of(256 << 10)), echo[0].clone()];
    assert_refused(
        &rig,
        "a close behind a large message",
        &large,
        &echoes,
        1000,
    )
    .await;

    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        let sent = masked(FIN | CLOSE, &close(code, ""));
        assert_refused(&rig, &format!("code {code}"), &sent, &[], 1000).await;
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999] {
        for reason in ["", "because"] {
            let sent = masked(FIN | CLOSE, &close(code, reason));
            assert_refused(&rig, &format!("code {code}"), &sent, &[], PROTOCOL_ERROR).await;
        }
    }
    assert_refused(
        &rig,
        "half a code",
        &masked(FIN | CLOSE, b"\x03"),
        &[],
        PROTOCOL_ERROR,
    )
    .await;
    let long = masked(FIN | CLOSE, &close(1000, &"x".repeat(124)));
    assert_refused(&rig, "a reason of 124 bytes", &long, &[], PROTOCOL_ERROR).await;
    let bad = masked(FIN | CLOSE, b"\x03\xe8\xce\xba\xe1\xbd\xb9\xcf\xff");
    assert_refused(&rig, "a reason that is no text", &bad, &[], INVALID_DATA).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_588_large_messages_come_back_whole_in_any_fragments() {
    let rig = server().await;
    for (opcode, len, fragment) in [
        (TEXT, 64 << 10, 64),
        (BINARY, 64 << 10, 64),
        (TEXT, 65_536, 1_300),
        (TEXT, 256 << 10, 256),
        (BINARY, 256 << 10, 256),
        (TEXT, 1 << 20, 1 << 10),
        (BINARY, 1 << 20, 4 << 10),
        (TEXT, 1 << 20, 1 << 20),
        (BINARY, 4 << 20, 64 << 10),
        (BINARY, 16 << 20, 16 << 20),
    ] {
        let payload = text_of(len);
        let mut peer = Peer::open(rig.address).await;
        peer.write(&in_fragments(opcode, payload.as_bytes(), fragment))
            .await;
        let echo = match opcode {
            TEXT => Seen::Text(payload),
            _ => Seen::Binary(payload.into_bytes()),
        };
        let is_echoed = peer.read().await == Some(echo);
        assert!(is_echoed, "{len} bytes in fragments of {fragment}");
    }
    for piece in [64, 1_024] {
        let text = text_of(64 << 10);
        let seen = answers(&rig, &masked(FIN | TEXT, text.as_bytes()), piece).await;
        assert_eq!(seen, fine([Seen::Text(text)]), "in pieces of {piece}");
    }
    rig.stop().await;
}

fn in_fragments(opcode: u8, payload: &[u8], fragment: usize) -> Vec<u8> {
    let n = payload.len().div_ceil(fragment);
    let frames = payload.chunks(fragment).enumerate().flat_map(|(at, part)| {
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let fin = if at + 1 == n { FIN } else { 0 };
        masked(fin | opcode, part)
    });
    frames.collect()
}

#[tokio::test]
async fn srv_589_a_thousand_small_messages_come_back_in_order() {
    let rig = server().await;
    for len in [0, 16, 64, 256, 1_024] {
        let mut peer = Peer::open(rig.address).await;
        for n in 0..1_000_u16 {
            let mut payload = bytes_of(len);
            payload.splice(..len.min(2), n.to_be_bytes().into_iter().take(len));
            peer.write(&masked(FIN | BINARY, &payload)).await;
            assert_eq!(
                peer.read().await,
                Some(Seen::Binary(payload)),
                "{n} of {len} bytes"
            );
        }
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_590_what_is_unmasked_or_too_large_is_refused() {
    let rig = server().await;
    assert_refused(&rig, "unmasked text", b"\x81\x02hi", &[], PROTOCOL_ERROR).await;
    assert_refused(&rig, "unmasked close", b"\x88\x00", &[], PROTOCOL_ERROR).await;
    let limit = 16_u64 << 20;
    for (what, len) in [
        ("a byte too large", limit + 1),
        ("huge", 1 << 40),
        ("the largest", i64::MAX as u64),
    ] {
        let head = [&[FIN | BINARY, 0xff][..], &len.to_be_bytes(), &[0; 4]].concat();
        assert_refused(&rig, what, &head, &[], TOO_BIG).await;
    }
    let mut sum = masked(BINARY, &vec![7; 10 << 20]);
    sum.extend(masked(FIN | CONTINUATION, &vec![7; 7 << 20]));
    assert_refused(&rig, "too large in sum", &sum, &[], TOO_BIG).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_591_without_the_key_there_is_no_echo() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/echo/websocket").await.status, 404);
    rig.stop().await;
}
