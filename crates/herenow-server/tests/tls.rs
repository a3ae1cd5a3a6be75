//! TLS in the server: all that is served, a certificate that is renewed, and what is refused.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/log.rs"]
mod log;
#[path = "support/rig.rs"]
mod rig;

use std::fs;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use herenow_pubsub::conformance::reserve_port;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::run;
use herenow_server::watch::{self, Output, WatchError, WatchOptions};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use self::certificates::{Authority, Secure, shown};
use self::log::Log;
use self::rig::{Rig, within};

/// A server with a certificate of the authority, and other keys set.
async fn server(authority: &Authority, more: &[(&str, &str)]) -> Rig {
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let files = [("tls.cert", cert.as_str()), ("tls.key", key.as_str())];
    Rig::with(&[&files, more].concat()).await
}

/// A WebSocket under TLS that has joined `room:tls`.
async fn joined(stream: Secure, user: &str) -> WebSocketStream<Secure> {
    let params = json!({ "user_id": user });
    joined_at(stream, "/socket/websocket", "room:tls", params).await
}

/// A WebSocket under TLS that has joined a topic of a path.
async fn joined_at(
    stream: Secure,
    path: &str,
    topic: &str,
    params: Value,
) -> WebSocketStream<Secure> {
    let url = format!("wss://127.0.0.1{path}?vsn=2.0.0");
    let (mut socket, _) = within(tokio_tungstenite::client_async(url, stream))
        .await
        .unwrap();
    let join = json!(["1", "1", topic, "phx_join", params]);
    socket.send(Message::text(join.to_string())).await.unwrap();
    let reply = next(&mut socket, "phx_reply").await;
    assert_eq!(reply["status"], "ok", "{reply}");
    socket
}

/// The payload of the next message with this event.
async fn next(socket: &mut WebSocketStream<Secure>, event: &str) -> Value {
    loop {
        let message = within(socket.next()).await.unwrap().unwrap();
        let mut message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        if message[3] == event {
            return message[4].take();
        }
    }
}

async fn push(socket: &mut WebSocketStream<Secure>, event: &str, payload: Value) {
    let push = json!(["1", "2", "room:tls", event, payload]);
    socket.send(Message::text(push.to_string())).await.unwrap();
}

/// Makes one request, and returns all of the answer.
async fn get(mut stream: Secure, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    // An error if the server left without a word.
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

/// Reads until the end, whatever kind of end it is.
async fn ended(mut stream: impl AsyncRead + Unpin) {
    let mut bytes = Vec::new();
    let _end = within(stream.read_to_end(&mut bytes)).await;
}

#[tokio::test]
async fn srv_900_websocket_long_poll_and_api_work_under_tls() {
    let authority = Authority::new("srv-900");
    let leaf = authority.install();
    let rig = server(&authority, &[]).await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert_eq!(shown(&stream), leaf.der);
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut ada = joined(stream, "ada").await;
    let stream = authority.connect(rig.address).await.unwrap();
    let mut bob = joined(stream, "bob").await;
    let diff = next(&mut ada, "presence_diff").await;
    assert!(diff["joins"]["bob"].is_object(), "{diff}");
    push(&mut bob, "said", json!({ "text": "hello" })).await;
    assert_eq!(next(&mut ada, "said").await["text"], "hello");
    let stream = authority.connect(rig.address).await.unwrap();
    let poll = get(stream, "/socket/longpoll?vsn=2.0.0").await;
    assert!(
        poll.contains("\"status\":410") && poll.contains("\"token\""),
        "{poll}"
    );
    let stream = authority.connect(rig.address).await.unwrap();
    let topics = get(stream, "/api/topics").await;
    assert!(topics.starts_with("HTTP/1.1 200"), "{topics}");
    assert!(topics.contains("room:tls"), "{topics}");
    let stream = authority.connect(rig.address).await.unwrap();
    let metrics = get(stream, "/metrics").await;
    let counted = metrics.contains("herenow_tls_handshakes_total{result=\"ok\"} 5\n");
    assert!(counted, "{metrics}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_901_large_messages_pass_in_both_directions_under_tls() {
    let authority = Authority::new("srv-901");
    authority.install();
    let rig = server(&authority, &[]).await;
    let mut ada = joined(authority.connect(rig.address).await.unwrap(), "ada").await;
    let mut bob = joined(authority.connect(rig.address).await.unwrap(), "bob").await;
    // Together more than what the kernel takes at once, and each more than one record of TLS.
    for n in 0..8 {
        let text = format!("{n}").repeat(900_000);
        push(&mut ada, "large", json!({ "text": text })).await;
    }
    for n in 0..8 {
        let text = next(&mut bob, "large").await;
        assert_eq!(
            text["text"].as_str().unwrap(),
            format!("{n}").repeat(900_000)
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_902_a_new_certificate_is_used_without_a_restart_and_open_connections_stay() {
    let authority = Authority::new("srv-902");
    let old = authority.install();
    let rig = server(&authority, &[("tls.reload_interval", "20ms")]).await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert_eq!(shown(&stream), old.der);
    let mut ada = joined(stream, "ada").await;
    let new = authority.install();
    let stream = within(async {
        loop {
            let stream = authority.connect(rig.address).await.unwrap();
            if shown(&stream) == new.der {
                return stream;
            }
        }
    });
    let mut bob = joined(stream.await, "bob").await;
    push(&mut bob, "said", json!({ "text": "new" })).await;
    assert_eq!(next(&mut ada, "said").await["text"], "new");
    push(&mut ada, "answered", json!({ "text": "old" })).await;
    assert_eq!(next(&mut bob, "answered").await["text"], "old");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1161_a_certificate_that_is_over_or_yet_to_begin_does_not_take_the_place_of_a_good_one()
{
    let authority = Authority::new("srv-1161");
    let good = authority.install();
    let (log, _guard) = Log::start();
    let rig = server(&authority, &[("tls.reload_interval", "20ms")]).await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert_eq!(shown(&stream), good.der);
    for (from, to, problem) in [
        (
            2001,
            2002,
            "the certificate expired at 2002-01-01T00:00:00Z",
        ),
        (
            3001,
            3002,
            "the certificate is not valid before 3001-01-01T00:00:00Z",
        ),
    ] {
        authority.install_for(from, to);
        log.until("the TLS certificate stays as it was").await;
        log.until(problem).await;
        let stream = authority.connect(rig.address).await.unwrap();
        assert_eq!(shown(&stream), good.der, "the old one stays");
    }
    let new = authority.install();
    log.until("TLS certificate reloaded").await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert_eq!(shown(&stream), new.der);
    let metrics = get(stream, "/metrics").await;
    let failed = metrics
        .lines()
        .find(|line| line.starts_with("herenow_tls_reloads_total{result=\"failed\"}"));
    let n_failed: f64 = failed.unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
    assert!(n_failed >= 2.0, "{n_failed}");
    rig.stop().await;
    // At the start there is no better one: it is said, and taken.
    let expired = authority.install_for(2001, 2002);
    let rig = server(&authority, &[]).await;
    log.until("TLS certificate loaded out of its time").await;
    assert!(
        authority.connect(rig.address).await.is_err(),
        "clients refuse {}",
        expired.pem
    );
    rig.stop().await;
}

/// The value of a metric without labels.
async fn metric(authority: &Authority, rig: &Rig, name: &str) -> f64 {
    let stream = authority.connect(rig.address).await.unwrap();
    let metrics = get(stream, "/metrics").await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// Waits until as much is degraded; returns it.
async fn degraded(operator: &mut WebSocketStream<Secure>, n: usize) -> Vec<Value> {
    loop {
        let told = next(operator, "figures").await;
        let outages = told["nodes"][0]["figures"]["outages"].as_array();
        if let Some(outages) = outages.filter(|outages| outages.len() == n) {
            return outages.clone();
        }
    }
}

#[tokio::test]
async fn srv_1701_a_certificate_that_is_not_taken_is_degraded_until_one_is() {
    const ENDS: &str = "herenow_tls_certificate_not_after_seconds ";
    const FAILING: &str = "herenow_tls_reload_failing ";
    let authority = Authority::new("srv-1701");
    authority.install_for(2020, 2100);
    let rig = server(&authority, &[("tls.reload_interval", "20ms")]).await;
    let stream = authority.connect(rig.address).await.unwrap();
    let path = "/dashboard/socket/websocket";
    let mut operator = joined_at(stream, path, "overview", json!({})).await;
    degraded(&mut operator, 0).await;
    assert_eq!(metric(&authority, &rig, ENDS).await, 4_102_444_800.0);
    assert_eq!(metric(&authority, &rig, FAILING).await, 0.0);

    fs::write(authority.path("key.pem"), "nothing").unwrap();
    let found = degraded(&mut operator, 1).await;
    assert_eq!(
        (&found[0]["part"], &found[0]["name"]),
        (&json!("certificate"), &json!("tls.cert"))
    );
    let why = found[0]["why"].as_str().unwrap();
    assert!(why.ends_with("it has no private key in PEM"), "{why}");
    assert_eq!(metric(&authority, &rig, ENDS).await, 4_102_444_800.0);
    assert_eq!(metric(&authority, &rig, FAILING).await, 1.0);

    authority.install_for(2020, 2101);
    degraded(&mut operator, 0).await;
    assert_eq!(metric(&authority, &rig, ENDS).await, 4_133_980_800.0);
    assert_eq!(metric(&authority, &rig, FAILING).await, 0.0);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1783_files_that_cannot_be_read_are_tried_again_and_logged_once() {
    const FAILED: &str = "herenow_tls_reloads_total{result=\"failed\"} ";
    let authority = Authority::new("srv-1783");
    authority.install();
    let (log, _guard) = Log::start();
    let rig = server(&authority, &[("tls.reload_interval", "20ms")]).await;
    log.until("TLS certificate loaded").await;
    let key = authority.path("key.pem");
    // Root can read a file whatever its rights, and a directory not.
    fs::remove_file(&key).unwrap();
    fs::create_dir(&key).unwrap();
    log.until("Is a directory").await;
    let n_failed = metric(&authority, &rig, FAILED).await;
    within(async { while metric(&authority, &rig, FAILED).await < n_failed + 3.0 {} }).await;
    assert_eq!(log.text().matches("Is a directory").count(), 1);
    fs::remove_dir(&key).unwrap();
    let new = authority.install();
    log.until("TLS certificate reloaded").await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert_eq!(shown(&stream), new.der);
    rig.stop().await;
}

#[tokio::test]
async fn srv_904_what_is_no_certificate_is_refused_at_the_start_with_its_file() {
    let authority = Authority::new("srv-904");
    let (leaf, other) = (authority.leaf(), authority.leaf());
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let start = async |files: Option<(&str, &str)>| {
        match files {
            Some((certificate, private)) => {
                fs::write(&cert, certificate).unwrap();
                fs::write(&key, private).unwrap();
            }
            None => fs::remove_file(&key).unwrap(),
        }
        let flags = [("tls.cert", &cert), ("tls.key", &key)];
        let flags = flags.map(|(name, path)| (name.to_owned(), path.clone()));
        let sources = Sources {
            flags: flags.to_vec(),
            ..Sources::default()
        };
        let config = ServerConfig::load(&sources).unwrap();
        let listener = run::listen(([127, 0, 0, 1], 0).into()).unwrap();
        let started = run::serve(config, listener, async {}).await;
        started.map_err(|error| error.to_string())
    };
    assert_eq!(start(Some((&leaf.pem, &leaf.key))).await, Ok(()));
    assert_eq!(
        start(Some(("nothing", &leaf.key))).await.unwrap_err(),
        format!("tls.cert {cert}: it has no certificate in PEM")
    );
    assert_eq!(
        start(Some((&leaf.pem, "nothing"))).await.unwrap_err(),
        format!("tls.key {key}: it has no private key in PEM")
    );
    let pkcs8 = leaf.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let openssl = leaf.key.replace(
        "PRIVATE KEY-----\n",
        "PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n",
    );
    for encrypted in [pkcs8, openssl] {
        let said = start(Some((&leaf.pem, &encrypted))).await.unwrap_err();
        let expected = format!("tls.key {key}: the private key is encrypted");
        assert!(said.starts_with(&expected), "{said}");
    }
    assert_eq!(
        start(Some((&leaf.pem, &other.key))).await.unwrap_err(),
        format!("tls.key {key}: it is not the key of the certificate in {cert}")
    );
    let cut = leaf.pem.replacen("MII", "MIA", 1);
    let error = start(Some((&cut, &leaf.key))).await.unwrap_err();
    assert!(error.starts_with(&format!("tls.cert {cert}: ")), "{error}");
    let error = start(None).await.unwrap_err();
    let expected = format!("cannot read tls.key {key}: No such file");
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn srv_905_a_certificate_needs_its_key_and_a_key_its_certificate() {
    let error = |key: &str| {
        let flags = vec![(key.to_owned(), "/x.pem".to_owned())];
        let sources = Sources {
            flags,
            ..Sources::default()
        };
        ServerConfig::load(&sources).unwrap_err().to_string()
    };
    assert_eq!(error("tls.cert"), "flag --tls-cert: tls.key is missing");
    assert_eq!(error("tls.key"), "flag --tls-key: tls.cert is missing");
}

#[tokio::test]
async fn srv_906_the_oldest_version_of_tls_can_be_chosen() {
    let authority = Authority::new("srv-906");
    authority.install();
    let rig = server(&authority, &[]).await;
    for version in [&TLS12, &TLS13] {
        let stream = authority.connect_by(rig.address, &[version]).await.unwrap();
        let protocol = stream.get_ref().1.protocol_version();
        assert_eq!(protocol, Some(version.version));
    }
    rig.stop().await;
    let rig = server(&authority, &[("tls.min_version", "1.3")]).await;
    authority.connect_by(rig.address, &[&TLS13]).await.unwrap();
    let error = authority
        .connect_by(rig.address, &[&TLS12])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_907_who_does_not_finish_the_handshake_is_closed_and_counts_as_one() {
    let authority = Authority::new("srv-907");
    authority.install();
    let limits = [("http.header_timeout", "3s"), ("http.max_handshakes", "1")];
    let rig = server(&authority, &limits).await;
    let silent = TcpStream::connect(rig.address).await.unwrap();
    // There is room for one: this is answered only when that one is gone.
    let stream = authority.connect(rig.address).await.unwrap();
    ended(silent).await;
    // With its handshake done, it still has to send a request.
    ended(stream).await;
    let stream = authority.connect(rig.address).await.unwrap();
    assert!(get(stream, "/healthz").await.ends_with("ok\n"));
    let stream = authority.connect(rig.address).await.unwrap();
    let metrics = get(stream, "/metrics").await;
    let counted = metrics.contains("herenow_tls_handshakes_total{result=\"failed\"} 1\n");
    assert!(counted, "{metrics}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_908_plain_http_is_not_answered_where_tls_is_spoken() {
    let authority = Authority::new("srv-908");
    authority.install();
    let rig = server(&authority, &[]).await;
    let mut plain = TcpStream::connect(rig.address).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    plain.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let _end = within(plain.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(!answer.contains("HTTP/"), "{answer}");
    let stream = authority.connect(rig.address).await.unwrap();
    assert!(get(stream, "/healthz").await.ends_with("ok\n"));
    rig.stop().await;
}

#[tokio::test]
async fn srv_909_stopping_closes_sockets_under_tls_in_order() {
    let authority = Authority::new("srv-909");
    authority.install();
    let mut rig = server(&authority, &[]).await;
    let mut ada = joined(authority.connect(rig.address).await.unwrap(), "ada").await;
    rig.ask_to_stop();
    let close = loop {
        match within(ada.next()).await.unwrap().unwrap() {
            Message::Close(close) => break close.unwrap(),
            Message::Text(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(u16::from(close.code), 1012);
    // The close is answered, and the server says good-bye in TLS too.
    let end = within(ada.next()).await;
    assert!(end.is_none(), "{end:?}");
    let address: SocketAddr = rig.address;
    rig.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn srv_910_the_apis_own_listener_speaks_tls_too() {
    let authority = Authority::new("srv-910");
    authority.install();
    let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
    let rig = server(&authority, &[("api.listen", &address.to_string())]).await;
    let stream = authority.connect(rig.address).await.unwrap();
    let missing = get(stream, "/api/topics").await;
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain
        .write_all(b"GET /api/topics HTTP/1.1\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _end = within(plain.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/"));
    rig.stop().await;
}

#[tokio::test]
async fn srv_911_watch_follows_a_topic_under_tls_of_an_authority_that_it_is_given() {
    let authority = Authority::new("srv-911");
    authority.install();
    let rig = server(&authority, &[]).await;
    let _ada = joined(authority.connect(rig.address).await.unwrap(), "ada").await;
    let url = format!("wss://{}", rig.address);
    let follow = async |ca: Option<String>| {
        let mut options = WatchOptions::new(&url, "room:tls");
        options.output = Output::Json;
        options.ca = ca;
        let mut lines = Vec::new();
        let write = |line: &str| {
            lines.push(line.to_owned());
            match line.contains("\"key\":\"ada\"") {
                true => Err(std::io::ErrorKind::BrokenPipe.into()),
                false => Ok(()),
            }
        };
        let ended = within(watch::follow(&options, jiff::tz::TimeZone::UTC, write)).await;
        (ended.unwrap_err(), lines)
    };
    let (ended, lines) = follow(Some(authority.path("ca.pem"))).await;
    assert!(
        matches!(ended, WatchError::Write(_)),
        "{ended:?}: {lines:?}"
    );
    // This machine does not trust the authority, or may have none at all that it trusts.
    let (ended, lines) = follow(None).await;
    let is_refused = matches!(ended, WatchError::Connect(_) | WatchError::Tls { .. });
    assert!(is_refused && lines.is_empty(), "{ended:?}: {lines:?}");
    // And a key is no authority.
    let (ended, _) = follow(Some(authority.path("key.pem"))).await;
    assert!(matches!(ended, WatchError::Tls { .. }), "{ended:?}");
    rig.stop().await;
}
