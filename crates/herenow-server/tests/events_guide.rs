//! docs/events.md, run: its receiver by Node.js, its stream by curl, against a real server.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/rig.rs"]
mod rig;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

use self::hooks::{SECRET, flags, meta};
use self::rig::Rig;

const GUIDE: &str = include_str!("../../../docs/events.md");
const PATIENCE: Duration = Duration::from_secs(30);

/// The first block of the guide in this language that has this in it.
fn block(language: &str, part: &str) -> &'static str {
    let blocks = GUIDE.split("\n```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.split_once('\n'));
    let found = blocks.find(|(its, code)| *its == language && code.contains(part));
    found.unwrap().1
}

/// A process whose lines can be read. Dropping it ends it.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _test_ended = sender.send(line);
            }
        });
        Self { child, lines }
    }

    async fn line(&self) -> String {
        // The thread of the test is the server's too: it must not block.
        let waiting = async {
            loop {
                match self.lines.try_recv() {
                    Ok(line) => return line,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.unwrap()
    }
}

async fn put(rig: &Rig, key: &str) {
    let path = format!("/api/topics/room:1/presences/{key}");
    let headers = "content-type: application/json\r\nx-api-key: guide-guide-guide\r\n";
    let put = rig.http("PUT", &path, headers, &meta("phone")).await;
    assert_eq!(put.status, 201, "{}", put.body);
}

#[tokio::test]
async fn srv_701_the_receiver_of_the_guide_verifies_what_a_server_sends() {
    let mut node = Command::new("node");
    node.args(["--input-type=module", "-"])
        .stdin(Stdio::piped());
    node.env("HERENOW_WEBHOOK_SECRET", SECRET).env("PORT", "0");
    let mut receiver = Running::start(&mut node);
    let code = block("js", "createServer");
    receiver
        .child
        .stdin
        .take()
        .unwrap()
        .write_all(code.as_bytes())
        .unwrap();
    let said = receiver.line().await;
    let port = said.strip_prefix("listening on ").unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let rig = Rig::with(&flags(
        &url,
        &[("api.keys", "guide:write:guide-guide-guide")],
    ))
    .await;
    put(&rig, "ada").await;
    assert_eq!(receiver.line().await, "topic_occupied room:1 ");
    assert_eq!(receiver.line().await, "joined room:1 ada");

    // What is not signed, signed with another secret, or signed long ago, is refused.
    let node = block("json", "topic_occupied").to_owned();
    let forged = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
    let client = reqwest::Client::new();
    for signature in [None, Some(forged), Some("v1,"), Some("nonsense")] {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let mut request = client
            .post(&url)
            .header("webhook-id", "x")
            .body(node.clone());
        request = request.header("webhook-timestamp", now.unwrap().as_secs());
        if let Some(signature) = signature {
            request = request.header("webhook-signature", signature);
        }
        assert_eq!(request.send().await.unwrap().status(), 401, "{signature:?}");
    }
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let old = ring::hmac::sign(&key, format!("x.1000.{node}").as_bytes());
    let old = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, old);
    let request = client.post(&url).header("webhook-id", "x").body(node);
    let request = request.header("webhook-timestamp", 1000);
    let request = request.header("webhook-signature", format!("v1,{old}"));
    assert_eq!(request.send().await.unwrap().status(), 401);
    rig.stop().await;
}

#[tokio::test]
async fn srv_702_the_stream_of_the_guide_is_read_by_its_command() {
    let keys = "guide:write:guide-guide-guide";
    let rig = Rig::with(&[("api.keys", keys)]).await;
    let command = block("sh", "curl").replace("--max-time 2", "--max-time 60");
    let exports = format!("HERENOW=http://{} API_KEY=guide-guide-guide\n", rig.address);
    let mut shell = Command::new("sh");
    // Curl takes the place of the shell, so that ending one ends both.
    shell.args(["-c", &format!("{exports}exec {command}")]);
    let reader = Running::start(&mut shell);
    let shown = block("text", "retry:");
    assert_eq!(reader.line().await, "retry: 2000");
    assert!(reader.line().await.starts_with("id: "));
    assert_eq!(reader.line().await, "");
    put(&rig, "bob").await;
    let mut shown = shown.lines().skip(3);
    let mut line = reader.line().await;
    while line != "event: joined" {
        line = reader.line().await;
    }
    let data = reader.line().await;
    let read = |line: &str| serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap());
    let (found, shown) = (read(&data).unwrap(), read(shown.nth(2).unwrap()).unwrap());
    assert_eq!(
        found.as_object().unwrap().keys().collect::<Vec<_>>(),
        shown.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    drop(reader);
    rig.stop().await;
}
