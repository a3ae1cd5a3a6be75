//! Who stands in the door: proxies that say less than they should, and clients that do not send
//! or do not read what they began.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::hooks::Listener;
use super::rig::{PATIENCE, Rig, put};
use super::until_metric;

const PROXY: (&str, &str) = ("http.trusted_proxies", "127.0.0.0/8");
const HANDSHAKE: &[u8] = b"GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n\
    connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn of(limit: &str) -> String {
    format!("herenow_limit_refusals_total{{limit=\"{limit}\"}}")
}

/// Asks for a WebSocket with these headers, as they are; the connection and the status.
async fn handshake(rig: &Rig, headers: &[u8]) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let request = [HANDSHAKE, headers, b"\r\n"].concat();
    stream.write_all(&request).await.unwrap();
    let mut status = [0; 12];
    let read = stream.read_exact(&mut status);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    let status = String::from_utf8(status[9..].to_vec()).unwrap();
    (stream, status)
}

#[tokio::test]
async fn srv_1766_what_a_client_writes_does_not_hide_what_its_proxy_adds() {
    let rig = Rig::with(&[PROXY, ("limits.sockets_per_address", "1")]).await;
    for (header, n_let_in) in [
        (&b"x-forwarded-for: \xff, 203.0.113.7\r\n"[..], 1),
        // Not even the proxy says who it is: all of them are one, and not this machine.
        (b"x-forwarded-for: \xff\r\n", 1),
        (b"", 3),
    ] {
        let mut held = Vec::new();
        for n in 0..3 {
            let (stream, status) = handshake(&rig, header).await;
            let expected = if n < n_let_in { "101" } else { "429" };
            assert_eq!(status, expected, "{header:?}, {n}");
            held.push(stream);
        }
    }
    let refused = of("limits.sockets_per_address");
    assert_eq!(until_metric(&rig, &refused, |n| n > 0.0).await, 4.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1769_answers_that_nobody_reads_are_cut_and_counted() {
    let rig = Rig::with(&[("http.write_timeout", "100ms")]).await;
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        let request = "GET /dashboard/phoenix.mjs HTTP/1.1\r\nhost: localhost\r\n\r\n";
        // The server reads no more than it answers, so that not all of it may be taken.
        let requests = request.repeat(400);
        let written = stream.try_write(requests.as_bytes());
        assert!(written.is_ok_and(|n_bytes| n_bytes > 0));
        stream.flush().await.unwrap();
        unread.push(stream);
    }
    let cut = of("http.write_timeout");
    assert_eq!(until_metric(&rig, &cut, |n| n >= 3.0).await, 3.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1770_what_has_nothing_to_write_is_not_cut_for_not_being_read() {
    let flags = [("http.write_timeout", "100ms"), ("longpoll.window", "1s")];
    let rig = Rig::with(&flags).await;
    let mut listener = Listener::open(rig.address, "?topic=room:1&events=joined", "").await;
    let mut socket = rig.connect("&user_id=ada").await;
    let path = "/socket/longpoll?vsn=2.0.0";
    let session = rig.get(path).await.json();
    let token = session["token"].as_str().unwrap();
    // A poll waits ten times as long as a write may.
    let headers = format!("x-phoenix-longpoll-token: {token}\r\n");
    let polled = rig.http("GET", path, &headers, "").await;
    assert_eq!(polled.json()["status"], 204);
    let (status, _) = socket.join("room:1", json!({})).await;
    assert_eq!(status, "ok");
    put(&rig, "room:1", "bob", "x").await;
    let heard = listener.heard(2).await;
    assert_eq!(heard[1], "joined room:1 bob first tracked");
    let cut = of("http.write_timeout");
    assert_eq!(until_metric(&rig, &cut, |_| true).await, 0.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1771_a_connection_closed_for_a_newcomer_is_counted_by_its_limit() {
    let flags = [
        ("http.max_handshakes", "32"),
        ("http.crowded_timeout", "100ms"),
        ("http.header_timeout", "1h"),
    ];
    let rig = Rig::with(&flags).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(TcpStream::connect(rig.address).await.unwrap());
    }
    let displaced = of("http.max_handshakes");
    assert!(until_metric(&rig, &displaced, |n| n > 0.0).await >= 32.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1773_a_body_that_is_not_sent_in_time_is_told_its_limit_and_counted() {
    let rig = Rig::with(&[("longpoll.body_timeout", "100ms")]).await;
    let path = "/socket/longpoll?vsn=2.0.0";
    let session = rig.get(path).await.json();
    let token = session["token"].as_str().unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         x-phoenix-longpoll-token: {token}\r\ncontent-length: 9\r\n\r\n["
    );
    let answer = rig.raw(&request).await;
    // The stock client looks for a status in the body, and takes all but 200 for an error.
    let reason = "the body took longer than 100ms to be sent (longpoll.body_timeout)";
    let told = json!({ "status": 400, "reason": reason });
    assert_eq!((answer.status, answer.json()), (400, told));
    let late = of("longpoll.body_timeout");
    assert_eq!(until_metric(&rig, &late, |n| n > 0.0).await, 1.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1778_a_message_that_does_not_end_is_counted_by_its_limit() {
    let rig = Rig::with(&[("socket.message_timeout", "100ms")]).await;
    let (mut stream, status) = handshake(&rig, b"").await;
    assert_eq!(status, "101");
    // The first frame of a message, masked with zeros, and no other.
    stream.write_all(b"\x01\x81\0\0\0\0[").await.unwrap();
    let late = of("socket.message_timeout");
    assert_eq!(until_metric(&rig, &late, |n| n > 0.0).await, 1.0);
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&answer);
    assert!(
        text.ends_with("to be sent (socket.message_timeout)"),
        "{text}"
    );
    rig.stop().await;
}
