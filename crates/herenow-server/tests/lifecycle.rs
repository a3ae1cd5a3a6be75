//! Starting and stopping, in this process and as a program.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use herenow_server::run;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::rig::{PATIENCE, Rig, within};

/// The program, without any configuration from this process's environment.
fn herenow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn failure(arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = herenow(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([name, &pid])
            .status()
            .unwrap()
            .success()
    );
}

/// A server as a program, and its log.
struct Program {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: String,
}

impl Program {
    /// Starts it on a free port, and waits until it says where.
    fn start(arguments: &[&str]) -> Self {
        let all = [
            &["serve", "--listen", "127.0.0.1:0", "--log-format", "json"],
            arguments,
        ]
        .concat();
        let mut child = herenow(&all).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
            let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(url) = entry["fields"]["socket"].as_str() {
                break url
                    .trim_start_matches("ws://")
                    .trim_end_matches("/socket")
                    .to_owned();
            }
        };
        Self {
            child,
            log,
            address,
        }
    }

    /// Waits for the end: its exit code, and the rest of the log.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

#[tokio::test]
async fn srv_50_a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = run::listen(address).unwrap_err().to_string();
    let expected = format!(
        "cannot listen on {address}: another program listens there already; stop it, or choose \
         another address with --listen"
    );
    assert_eq!(error, expected);
    let (code, stderr) = failure(&["serve", "--listen", &address.to_string()]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains(&expected), "{stderr}");
}

#[test]
fn srv_1828_an_address_of_the_cluster_that_is_taken_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp/{}", taken.local_addr().unwrap());
    let serve = ["serve", "--listen", "127.0.0.1:0", "--cluster", "zenoh"];
    let (code, stderr) = failure(&[&serve[..], &["--cluster-listen", &address]].concat());
    assert_eq!(code, Some(1));
    let expected = format!(
        "herenow: cluster: zenoh: cluster.listen: cannot listen on {address}: another node or \
         program listens there already; stop it, or give this node an address of its own with \
         --cluster-listen\n"
    );
    assert!(stderr.ends_with(&expected), "{stderr}");
}

#[test]
fn srv_51_the_program_refuses_a_wrong_configuration() {
    let (code, stderr) = failure(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--socket-max-channels=0",
    ]);
    assert_eq!(code, Some(1));
    let expected =
        "herenow: flag --socket-max-channels: socket.max_channels is 0, it must be at least 1\n";
    assert_eq!(stderr, expected);
    let (code, stderr) = failure(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, Some(1));
    assert!(stderr.contains("start with --dev"), "{stderr}");
    let (code, stderr) = failure(&["serve", "--bogus"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--bogus"), "{stderr}");
}

#[tokio::test]
async fn srv_52_stopping_closes_sockets_with_1012_and_refuses_new_ones() {
    let mut rig = Rig::start().await;
    let mut client = rig
        .connect("")
        .await
        .joined("room:1", json!({ "user_id": "ada" }))
        .await;
    let idle = rig.connect("").await;
    rig.ask_to_stop();
    assert_eq!(within(client.closed()).await, Some(1012));
    let mut idle = idle;
    assert_eq!(
        within(idle.closed()).await,
        Some(1012),
        "also one without a channel"
    );
    let address = rig.address;
    rig.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn srv_53_while_draining_readyz_is_false_and_healthz_true() {
    let flags = [("socket.close_timeout", "30s"), ("drain.total", "30s")];
    let mut rig = Rig::with(&flags).await;
    // A client that does not answer the close keeps the drain waiting.
    let deaf = rig.connect("").await.joined("room:1", json!({})).await;
    rig.ask_to_stop();
    let answer = within(async {
        loop {
            let answer = rig.get("/readyz").await;
            if answer.status != 200 {
                return answer;
            }
        }
    });
    let answer = answer.await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
    assert_eq!(rig.get("/healthz").await.status, 200);
    let error = rig
        .open("/socket/websocket?vsn=2.0.0", &[])
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("503"), "{error}");
    drop(deaf);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1265_while_draining_no_token_of_a_client_opens_the_door() {
    let flags = [("socket.close_timeout", "30s"), ("drain.total", "30s")];
    let mut rig = Rig::with(&flags).await;
    let deaf = rig.connect("").await.joined("room:1", json!({})).await;
    rig.ask_to_stop();
    within(async { while rig.get("/readyz").await.status == 200 {} }).await;
    // What is no session that lives is a newcomer's, whatever it has for a token.
    let long = "A".repeat(75);
    for token in [
        "",
        "&token=eyJhbGciOiJIUzI1NiJ9.e30.c2ln",
        "&token=x",
        &long,
    ] {
        let path = format!("/socket/longpoll?vsn=2.0.0{token}");
        let answer = rig.get(&path).await;
        assert_eq!((answer.status, answer.body.as_str()), (503, "draining\n"));
        assert!(answer.header("retry-after").is_some());
    }
    let header = "x-phoenix-longpoll-token: x\r\n";
    let answer = rig.http("GET", "/socket/longpoll?vsn=2.0.0", header, "");
    assert_eq!(answer.await.status, 503);
    // A path of the dialect that ends in the same word is no long poll.
    let path = "/realtime/v1/api/broadcast/room:1/events/longpoll?token=x";
    assert_eq!(rig.http("POST", path, "", "{}").await.status, 503);
    drop(deaf);
    rig.stop().await;
}

#[test]
fn srv_54_a_signal_stops_the_program_in_order() {
    for name in ["-TERM", "-INT"] {
        let program = Program::start(&[]);
        signal(&program.child, name);
        let (code, log) = program.ended();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("sockets closed"), "{log}");
    }
}

#[tokio::test]
async fn srv_55_a_second_signal_stops_the_program_at_once() {
    let arguments = ["--socket-close-timeout", "1h", "--drain-total", "1h"];
    let mut program = Program::start(&arguments);
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", program.address);
    let (_deaf, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    signal(&program.child, "-TERM");
    // For a second it is taken for the same signal again.
    let started = Instant::now();
    while program.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it does not end");
        signal(&program.child, "-TERM");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (code, log) = program.ended();
    assert_eq!(code, Some(128 + 15), "{log}");
    assert!(log.contains("stopped by a second signal"), "{log}");
}

#[tokio::test]
async fn srv_300_a_signal_that_comes_twice_stops_the_program_in_order() {
    let mut program = Program::start(&[]);
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", program.address);
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    signal(&program.child, "-TERM");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        assert_ne!(program.log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    signal(&program.child, "-TERM");
    let close = within(client.next()).await.unwrap().unwrap();
    assert!(close.is_close(), "{close}");
    // The answer is written, or already was.
    let _written = client.flush().await;
    let (code, log) = program.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn srv_56_the_log_says_where_to_go_and_whom_the_server_believes() {
    let program = Program::start(&["--dev"]);
    signal(&program.child, "-TERM");
    let (_, log) = program.ended();
    assert!(
        log.contains("clients are believed to be who they say they are"),
        "{log}"
    );
    assert!(log.contains("dev is set"), "{log}");
}

#[tokio::test]
async fn srv_1305_a_server_that_is_to_stop_is_not_ready_for_a_while_before_it_closes_sockets() {
    let mut rig = Rig::with(&[("drain.delay", "5s")]).await;
    let user = json!({ "user_id": "ada" });
    let mut ada = rig.connect("").await.joined("room:1", user).await;
    rig.ask_to_stop();
    let not_ready = async { while rig.get("/readyz").await.status != 503 {} };
    tokio::time::timeout(PATIENCE, not_ready).await.unwrap();
    // A load balancer sees it, and who asks for a socket is told when to come back.
    assert_eq!(rig.get("/healthz").await.status, 200);
    let headers = "upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let path = "/socket/websocket?vsn=2.0.0";
    let refused = rig.http("GET", path, headers, "").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").is_some());
    // Who has one is served as before, and then told to go.
    ada.ok("room:1", "echo", json!({})).await;
    assert_eq!(ada.closed().await, Some(1012));
    rig.ended().await;
}

/// Asks the program over HTTP: the body of its answer.
async fn get(program: &Program, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(&program.address)
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.to_owned()
}

/// Logs more than a pipe takes that nobody reads, and more than may wait for it, until lines are
/// dropped.
async fn log_too_much(program: &Program) {
    let url = format!("ws://{}/realtime/v1/websocket?vsn=1.0.0", program.address);
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let n_dropped = async || {
        let metrics = get(program, "/metrics").await;
        let mut lines = metrics.lines();
        lines.find_map(|l| {
            l.strip_prefix("herenow_log_lines_dropped_total ")
                .map(str::to_owned)
        })
    };
    let before = n_dropped().await.unwrap();
    while n_dropped().await.unwrap() == before {
        for _ in 0..500 {
            client.feed("malformed".into()).await.unwrap();
        }
        client.flush().await.unwrap();
    }
}

async fn exit_code(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        assert!(started.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn srv_1781_a_stderr_that_nobody_reads_holds_up_neither_the_server_nor_its_stop() {
    let mut program = Program::start(&["--dev", "--log-level=debug"]);
    within(log_too_much(&program)).await;
    assert_eq!(within(get(&program, "/healthz")).await, "ok\n");
    // Who reads again learns how many lines are missing.
    let mut line = String::new();
    while !line.contains("lines of the log dropped") {
        line.clear();
        assert_ne!(program.log.read_line(&mut line).unwrap(), 0, "it ended");
    }
    let entry: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(entry["fields"]["n_lines"].as_u64().unwrap() > 0, "{line}");
    within(log_too_much(&program)).await;
    signal(&program.child, "-TERM");
    assert_eq!(exit_code(&mut program.child).await, Some(0));
}

#[tokio::test]
async fn srv_1781_a_second_signal_ends_also_a_program_whose_stderr_nobody_reads() {
    let waits = ["--socket-close-timeout=1h", "--drain-total=1h"];
    let mut program = Program::start(&[&["--dev", "--log-level=debug"], &waits[..]].concat());
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", program.address);
    let (_deaf, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    within(log_too_much(&program)).await;
    signal(&program.child, "-TERM");
    let started = Instant::now();
    while program.child.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "it does not end");
        signal(&program.child, "-TERM");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(program.child.wait().unwrap().code(), Some(128 + 15));
}
