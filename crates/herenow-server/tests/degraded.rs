//! What a server does without when something outside is down, and what it shows of that.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/log.rs"]
mod log;
#[path = "support/rig.rs"]
mod rig;

use std::process::{Child, Command, Stdio};

use herenow_pubsub::conformance::reserve_port;
use serde_json::{Value, json};

use self::hooks::{Mood, Receiver, flags};
use self::log::Log;
use self::rig::{Client, PATIENCE, Rig, put};

const DASHBOARD: &str = "/dashboard/socket/websocket?vsn=2.0.0";

/// Waits until the node's outages fit, and returns them as part, name and why.
async fn outages(operator: &mut Client, fits: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    loop {
        let told = operator.event("figures").await;
        let Some(outages) = told["nodes"][0]["figures"]["outages"].as_array() else {
            continue;
        };
        if fits(outages) {
            return outages.clone();
        }
    }
}

/// What `GET /api/node` says of the first webhook, when it fits.
async fn until_webhook(rig: &Rig, fits: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let webhook = rig.get("/api/node").await.json()["events"]["webhooks"][0].clone();
            if fits(&webhook) {
                return webhook;
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap()
}

#[tokio::test]
async fn srv_1290_a_receiver_that_does_not_answer_has_refused_nothing_and_loses_nothing() {
    let receiver = Receiver::start(Mood::HangsUp).await;
    let more = [("webhook.max_attempts", "2"), ("webhook.timeout", "100ms")];
    let rig = Rig::with(&flags(&receiver.url(), &more)).await;
    put(&rig, "room:1", "ada", "0").await;
    // Neither does a proxy that answers for one which is down, nor one that has too much to do.
    for mood in [
        Mood::HangsUp,
        Mood::Stalls,
        Mood::Refuses(502),
        Mood::Refuses(503),
        Mood::Refuses(504),
        Mood::Refuses(429),
    ] {
        receiver.become_(mood);
        let n_before = receiver.requests().len();
        let five_more = |requests: &[hooks::Request]| requests.len() >= n_before + 5;
        receiver.until("five more attempts", five_more).await;
    }
    receiver.become_(Mood::Takes);
    let events = receiver.taken(2).await;
    assert!(events.iter().all(|event| event["event"] != "lost"));
    let shown = until_webhook(&rig, |webhook| webhook["n_waiting"] == 0).await;
    assert_eq!(
        (&shown["n_delivered"], &shown["n_lost"]),
        (&json!(2), &json!(0))
    );
    // Who says no is asked no more than that.
    receiver.become_(Mood::Refuses(400));
    put(&rig, "room:1", "ada", "1").await;
    until_webhook(&rig, |webhook| webhook["n_lost"] == 1).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1291_the_log_calls_webhooks_as_the_metrics_do_and_says_nothing_of_no_events() {
    let (log, _guard) = Log::start();
    let (first, second) = (
        Receiver::start(Mood::Refuses(400)).await,
        Receiver::start(Mood::Takes).await,
    );
    let urls = format!("{},{}", first.url(), second.url());
    let more = [
        ("webhook.max_attempts", "2"),
        ("webhook.drain_timeout", "50ms"),
    ];
    let rig = Rig::with(&flags(&urls, &more)).await;
    put(&rig, "room:1", "ada", "0").await;
    log.until("events for a webhook lost").await;
    // Then only the record of the loss is left to be refused, and it is, for more than one batch.
    let n_before = first.requests().len();
    first
        .until("attempts to tell it", |requests| {
            requests.len() >= n_before + 6
        })
        .await;
    rig.stop().await;
    let text = log.text();
    let of = |phrase: &str| {
        let lines = text.lines().filter(|line| line.contains(phrase));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let telling = of("telling a webhook of events");
    assert!(telling[0].contains("webhook=\"1\""), "{telling:?}");
    assert!(telling[1].contains("webhook=\"2\""), "{telling:?}");
    let failing = of("webhook fails");
    assert!(failing[0].contains("webhook=\"1\""), "{failing:?}");
    assert!(!text.contains("n_events=0"), "{text}");
}

#[tokio::test]
async fn srv_1293_what_is_down_is_in_the_dashboard_until_it_is_back() {
    let receiver = Receiver::start(Mood::Refuses(503)).await;
    let (keys, fields) = (reserve_port(), reserve_port());
    let jwks = format!("http://127.0.0.1:{keys}/hidden-path?k=hidden-query");
    let fields = format!("http://127.0.0.1:{fields}/hidden-path");
    let more = [
        ("jwt.jwks_url", jwks.as_str()),
        ("fetch.url", &fields),
        ("api.keys", "ops:admin:aaaaaaaaaaaaaaaa"),
    ];
    let rig = Rig::with(&flags(&receiver.url(), &more)).await;
    let key = "x-api-key: aaaaaaaaaaaaaaaa\r\ncontent-type: application/json\r\n";
    let path = "/api/topics/room:1/presences/ada";
    assert_eq!(rig.http("PUT", path, key, "{}").await.status, 201);
    // Somebody who lists it asks for the fields.
    let list = "/api/topics/room:1/presences";
    assert_eq!(rig.http("GET", list, key, "").await.status, 200);

    let mut operator = rig
        .open(DASHBOARD, &[("x-api-key", "aaaaaaaaaaaaaaaa")])
        .await
        .unwrap();
    assert_eq!(operator.join("overview", json!({})).await.0, "ok");
    let found = outages(&mut operator, |outages| outages.len() == 3).await;
    let shown: Vec<(&Value, &Value)> = found.iter().map(|o| (&o["part"], &o["name"])).collect();
    let expected = [
        ("keys", "jwt.jwks_url"),
        ("fields", "fetch.url"),
        ("webhook", "1"),
    ];
    let expected = expected.map(|(part, name)| (json!(part), json!(name)));
    let expected: Vec<(&Value, &Value)> =
        expected.iter().map(|(part, name)| (part, name)).collect();
    assert_eq!(shown, expected);
    for outage in &found {
        assert!(outage["for_ms"].is_u64() && outage["why"] != "", "{outage}");
        assert!(!outage.to_string().contains("hidden"), "{outage}");
    }
    assert_eq!(found[2]["why"], "the answer is 503 Service Unavailable");
    receiver.become_(Mood::Takes);
    let left = outages(&mut operator, |outages| outages.len() == 2).await;
    assert!(left.iter().all(|outage| outage["part"] != "webhook"));
    rig.stop().await;
}

/// A broker of a cluster as a process of its own, which ends with the test.
struct Broker(Child);

impl Broker {
    fn start(program: &str, arguments: &[&str], port: u16) -> Self {
        let mut command = Command::new(program);
        let quiet = command.args(arguments).arg(port.to_string());
        let quiet = quiet.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// Waits until the node's outages are so many, and returns them.
async fn until_outages(rig: &Rig, n: usize) -> Vec<Value> {
    let waiting = async {
        loop {
            let node = rig.get("/api/node").await.json();
            let outages = node["outages"].as_array().unwrap();
            if outages.len() == n {
                return outages.clone();
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap()
}

/// A cluster whose broker is not there, then there, then gone.
async fn a_broker_that_is_away_is_shown(engine: &str, program: &str, arguments: &[&str]) {
    let port = reserve_port();
    let key = format!("cluster.{engine}_url");
    let url = format!("{engine}://127.0.0.1:{port}");
    let rig = Rig::with(&[
        ("cluster.engine", engine),
        ("cluster.node", "n1"),
        ("cluster.ready_timeout", "100ms"),
        (&key, &url),
    ])
    .await;
    let is_away = |outage: &Value| {
        assert_eq!(outage["part"], "engine");
        assert_eq!(outage["name"], json!(key));
        assert!(outage["for_ms"].is_u64() && outage["why"] != "", "{outage}");
    };
    is_away(&until_outages(&rig, 1).await[0]);
    let broker = Broker::start(program, arguments, port);
    until_outages(&rig, 0).await;
    drop(broker);
    is_away(&until_outages(&rig, 1).await[0]);

    let mut operator = rig.open(DASHBOARD, &[]).await.unwrap();
    assert_eq!(operator.join("overview", json!({})).await.0, "ok");
    let shown = outages(&mut operator, |outages| outages.len() == 1).await;
    is_away(&shown[0]);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1821_a_broker_of_nats_that_is_away_is_shown_until_it_is_there() {
    a_broker_that_is_away_is_shown("nats", "nats-server", &["-a", "127.0.0.1", "-p"]).await;
}

#[tokio::test]
async fn srv_1821_a_broker_of_redis_that_is_away_is_shown_until_it_is_there() {
    let arguments = ["--bind", "127.0.0.1", "--save", "", "--port"];
    a_broker_that_is_away_is_shown("redis", "redis-server", &arguments).await;
}

/// A node of zenoh on this machine.
async fn node(name: &str, cluster: &str, port: u16, peer: Option<&str>) -> Rig {
    let listen = format!("tcp/127.0.0.1:{port}");
    let mut flags = vec![
        ("cluster.engine", "zenoh"),
        ("cluster.node", name),
        ("cluster.name", cluster),
        ("cluster.listen", &listen),
        ("cluster.ready_timeout", "100ms"),
    ];
    flags.extend(peer.map(|peer| ("cluster.peers", peer)));
    Rig::with(&flags).await
}

/// Waits until those that are given by address and not reached are these, each with why.
async fn until_unreached(rig: &Rig, expected: &[(&str, &str)]) {
    let expected = expected.iter().map(|(peer, why)| (json!(peer), json!(why)));
    let expected: Vec<(Value, Value)> = expected.collect();
    let waiting = async {
        loop {
            let told = rig.get("/api/cluster").await.json();
            let unreached = told["unreached"].as_array().unwrap().iter();
            let unreached = unreached.map(|one| (one["peer"].clone(), one["why"].clone()));
            if unreached.eq(expected.iter().cloned()) {
                return;
            }
        }
    };
    tokio::time::timeout(3 * PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn srv_1824_a_peer_given_by_address_that_is_not_reached_is_shown_everywhere() {
    let (log, _guard) = Log::start();
    let (own, other) = (reserve_port(), reserve_port());
    let peer = format!("tcp/127.0.0.1:{other}");
    let rig = node("a", "herenow", own, Some(&peer)).await;
    log.until("ready without all presences").await;
    let text = log.text();
    let mut lines = text.lines();
    let line = lines.find(|line| line.contains("ready without all presences"));
    assert!(line.unwrap().contains(&peer), "{line:?}");

    until_unreached(&rig, &[(&peer, "there is no connection to it")]).await;
    let outage = until_outages(&rig, 1).await.remove(0);
    assert_eq!(
        (&outage["part"], &outage["name"]),
        (&json!("peer"), &json!(peer))
    );
    let metrics = async || rig.get("/metrics").await.body;
    let text = metrics().await;
    assert!(text.contains("\nherenow_peers_unreached 1.0\n"), "{text}");

    let stranger = node("b", "another", other, None).await;
    let why = "who answers there is no node of this cluster.name";
    until_unreached(&rig, &[(&peer, why)]).await;
    stranger.stop().await;
    let node = node("b", "herenow", other, None).await;
    until_unreached(&rig, &[]).await;
    until_outages(&rig, 0).await;
    let text = metrics().await;
    assert!(text.contains("\nherenow_peers_unreached 0.0\n"), "{text}");
    node.stop().await;
    until_unreached(&rig, &[(&peer, "there is no connection to it")]).await;
    rig.stop().await;
}
