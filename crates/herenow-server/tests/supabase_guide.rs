//! docs/supabase.md, run: its commands by a real shell, with openssl and curl. Its programs are run
//! by the end-to-end tests.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/tokens.rs"]
mod tokens;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use herenow_pubsub::conformance::reserve_port;
use serde_json::json;

use self::rig::{Frame, Rig};
use self::tokens::{SECRET, claims, hs256};

const GUIDE: &str = include_str!("../../../docs/supabase.md");
/// Where the guide's server listens.
const ADDRESS: &str = "127.0.0.1:4000";

/// The block of commands in the guide that has this in it.
fn block(part: &str) -> &'static str {
    let blocks = GUIDE.split("\n```").skip(1).step_by(2);
    let mut blocks = blocks.filter_map(|block| block.split_once('\n'));
    let found = blocks.find(|(language, code)| *language == "sh" && code.contains(part));
    found.unwrap().1
}

/// Ends the guide's server, which its shell has left behind.
struct Left(String);

impl Drop for Left {
    fn drop(&mut self) {
        let _gone = Command::new("kill").args(["-9", &self.0]).status();
    }
}

/// What curl said each of its requests was answered with.
fn statuses(printed: &str) -> Vec<&str> {
    let heads = printed.lines().filter(|line| line.starts_with("HTTP/"));
    heads.filter_map(|line| line.split(' ').nth(1)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn srv_1164_the_broadcasts_of_the_supabase_guide_arrive() {
    let rig = Rig::with(&[("jwt.secret", SECRET)]).await;
    let token = hs256(&claims("42", json!({})));
    let path = format!("/realtime/v1/websocket?apikey={token}&vsn=2.0.0");
    let mut ada = rig.open(&path, &[]).await.unwrap();
    let join = ada.join("realtime:room:1", json!({ "config": {} })).await;
    assert_eq!(join.0, "ok", "{}", join.1);
    let commands = block("curl").replace(ADDRESS, &rig.address.to_string());
    assert_eq!(commands.matches("curl ").count(), 2);
    let ran = Command::new("sh")
        .args(["-c", &commands])
        .env("TOKEN", &token)
        .output();
    let printed = String::from_utf8(ran.unwrap().stdout).unwrap();
    assert_eq!(statuses(&printed), ["202", "202"], "{printed}");
    let heard = ada.event("broadcast").await;
    assert_eq!(
        (&heard["event"], &heard["payload"]["text"]),
        (&json!("note"), &json!("hello from curl"))
    );
    // What came without an envelope goes out as it came, in a frame of bytes.
    let Frame::Binary(frame) = ada.frame().await else {
        panic!("the second is a frame of bytes")
    };
    let end = br#"note{"text": "hello again"}"#;
    assert!(frame.ends_with(end), "{frame:?}");
    rig.stop().await;
}

#[test]
fn srv_1165_the_server_of_the_supabase_guide_takes_the_token_that_it_makes() {
    let program = Path::new(env!("CARGO_BIN_EXE_herenow")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let address = format!("127.0.0.1:{}", reserve_port());
    let start = block("openssl");
    assert!(start.contains("herenow serve &") && start.contains("herenow token "));
    let script = format!("set -e\n{start}\necho $!");
    let mut shell = Command::new("sh")
        .args(["-c", &script])
        .env("PATH", path)
        .env("HERENOW_LISTEN", &address)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(shell.stdout.take().unwrap()).lines();
    let [token, process] = &lines.take(2).map(Result::unwrap).collect::<Vec<_>>()[..] else {
        panic!("a token and a process are printed")
    };
    let _left = Left(process.clone());
    assert!(shell.wait().unwrap().success());
    let commands = block("curl").replace(ADDRESS, &address);
    let began = std::time::Instant::now();
    loop {
        let ran = Command::new("sh")
            .args(["-c", &commands])
            .env("TOKEN", token)
            .output();
        let printed = String::from_utf8(ran.unwrap().stdout).unwrap();
        let found = statuses(&printed);
        if found == ["202", "202"] {
            return;
        }
        // It may not listen yet, or only since the first of the two.
        let is_early = found.iter().all(|status| *status == "202");
        assert!(
            is_early && began.elapsed() < Duration::from_secs(30),
            "{printed}"
        );
    }
}
