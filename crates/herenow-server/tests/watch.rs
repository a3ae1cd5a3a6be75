//! `herenow watch` against a running server: as a library with lines in hand, and as a program.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;

use herenow_pubsub::conformance::reserve_port;
use herenow_server::watch::{self, Output, WatchError, WatchOptions};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use self::rig::{Rig, within};

/// A watch of `room:1` whose lines are objects.
struct Watch {
    lines: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<Result<(), WatchError>>,
}

impl Watch {
    fn start(url: &str) -> Self {
        let mut options = WatchOptions::new(url, "room:1");
        options.output = Output::Json;
        let (sender, lines) = mpsc::unbounded_channel();
        let write = move |line: &str| {
            sender
                .send(line.to_owned())
                .map_err(|_| io::ErrorKind::BrokenPipe.into())
        };
        let task =
            tokio::spawn(
                async move { watch::follow(&options, jiff::tz::TimeZone::UTC, write).await },
            );
        Self { lines, task }
    }

    /// The next line: its event, key and meta count.
    async fn next(&mut self) -> (String, Value) {
        let line = within(self.lines.recv()).await.expect("it goes on");
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(object["topic"], "room:1");
        (object["event"].as_str().unwrap().to_owned(), object)
    }

    async fn expect(&mut self, event: &str, fields: Value) -> Value {
        let (what, object) = self.next().await;
        assert_eq!(what, event, "{object}");
        for (field, value) in fields.as_object().unwrap() {
            assert_eq!(&object[field], value, "{field} of {object}");
        }
        object
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn srv_65_watch_shows_who_is_here_and_then_what_happens() {
    let rig = Rig::start().await;
    let payload = json!({ "user_id": "ada", "meta": { "name": "Ada L." } });
    let mut ada = rig.connect("").await.joined("room:1", payload).await;
    let mut watch = Watch::start(&rig.url());
    watch.expect("connected", json!({ "count": 1 })).await;
    watch
        .expect(
            "here",
            json!({ "key": "ada", "name": "Ada L.", "metas": 1 }),
        )
        .await;

    let bob = rig
        .connect("")
        .await
        .joined("room:1", json!({ "user_id": "bob" }))
        .await;
    watch
        .expect("joined", json!({ "key": "bob", "name": "bob", "metas": 1 }))
        .await;
    ada.ok("room:1", "status", json!({ "status": "away" }))
        .await;
    let updated = watch
        .expect("updated", json!({ "key": "ada", "metas": 1 }))
        .await;
    assert_eq!(updated["meta"]["status"], "away");
    assert_eq!(updated["before"].get("status"), None);
    drop(bob);
    watch
        .expect("left", json!({ "key": "bob", "metas": 0 }))
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_66_watch_outlives_the_server() {
    // A port that nobody else gets meanwhile.
    let address = (Ipv4Addr::LOCALHOST, reserve_port()).into();
    let rig = Rig::at(address).await;
    let mut watch = Watch::start(&rig.url());
    watch.expect("connected", json!({ "count": 0 })).await;
    rig.stop().await;
    watch.expect("disconnected", json!({})).await;
    let rig = Rig::at(address).await;
    let _ada = rig
        .connect("")
        .await
        .joined("room:1", json!({ "user_id": "ada" }))
        .await;
    let back = watch.expect("connected", json!({})).await;
    if back["count"] == 1 {
        watch.expect("joined", json!({ "key": "ada" })).await;
    } else {
        watch
            .expect("joined", json!({ "key": "ada", "metas": 1 }))
            .await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_1808_who_is_refused_for_want_of_a_token_is_told_why_and_how_to_give_one() {
    let secret = "0123456789abcdef0123456789abcdef";
    let rig = Rig::with(&[("jwt.secret", secret)]).await;
    for (params, word) in [
        (vec![], "token_missing"),
        (vec![("token".to_owned(), "x".to_owned())], "token_invalid"),
    ] {
        let mut options = WatchOptions::new(rig.url(), "room:1");
        options.params = params;
        let ended = within(watch::follow(&options, jiff::tz::TimeZone::UTC, |_| Ok(()))).await;
        let error = ended.unwrap_err();
        assert!(matches!(error, WatchError::Token(_)), "{error:?}");
        let expected = format!(
            "/socket/websocket answered 401 and not with a WebSocket; it says: {word}; give it a \
             token with --param token=…, such as `herenow token` makes"
        );
        assert!(error.to_string().ends_with(&expected), "{error}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_67_watch_fails_clearly() {
    let rig = Rig::start().await;
    let url = rig.url();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
        command.arg("watch").args(arguments);
        tokio::task::spawn_blocking(move || {
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            String::from_utf8(output.stderr).unwrap()
        })
    };
    let stderr = within(run(&[&url, "lobby"])).await.unwrap();
    assert_eq!(
        stderr,
        "herenow: nothing to watch: joining \"lobby\" was refused: unmatched topic\n"
    );
    let stderr = within(run(&["http:///x", "room:1"])).await.unwrap();
    assert!(stderr.contains("is not the URL of a socket"), "{stderr}");
    rig.stop().await;
    let stderr = within(run(&[&url])).await.unwrap();
    assert!(
        stderr.contains("cannot connect to ws://127.0.0.1:"),
        "{stderr}"
    );
    assert!(stderr.contains("refused"), "{stderr}");
}
