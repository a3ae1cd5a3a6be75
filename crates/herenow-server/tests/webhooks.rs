//! Webhooks, against a real receiver that answers, stalls, refuses, hangs up and comes back.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/hooks.rs"]
mod hooks;
#[path = "support/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use herenow_server::config::{ServerConfig, Sources};
use serde_json::{Value, json};

use self::hooks::{Mood, Receiver, Request, all_words, flags, words};
use self::rig::{Rig, end, put};

async fn start(receiver: &Receiver, more: &[(&str, &str)]) -> Rig {
    Rig::with(&flags(&receiver.url(), more)).await
}

/// What `GET /api/node` says of the webhook.
async fn shown(rig: &Rig) -> Value {
    rig.get("/api/node").await.json()["events"]["webhooks"][0].clone()
}

/// How many events were told to be lost, and why.
fn losses(events: &[Value]) -> Vec<(Value, Value)> {
    let losses = events.iter().filter(|event| event["event"] == "lost");
    let counted = losses.map(|loss| (loss["n_events"].clone(), loss["reason"].clone()));
    counted.collect()
}

/// Waits until the node says so of its webhook.
async fn until_shown(rig: &Rig, is_so: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let shown = shown(rig).await;
            if is_so(&shown) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(10)).await; // Nobody is told when it changes.
        }
    };
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, waiting).await.unwrap()
}

/// The devices that a topic's events name, in the order in which they were taken.
fn devices<'a>(events: &'a [Value], topic: &str) -> Vec<&'a str> {
    let its = events.iter().filter(|event| event["topic"] == topic);
    its.filter_map(|event| event["meta"]["device"].as_str())
        .collect()
}

#[tokio::test]
async fn srv_684_a_webhook_hears_of_all_that_happens_in_order_and_why() {
    let receiver = Receiver::start(Mood::Takes).await;
    let rig = start(&receiver, &[]).await;
    let user = json!({ "user_id": "ada", "meta": { "device": "laptop" } });
    let mut laptop = rig.connect("").await.joined("room:1", user.clone()).await;
    let _phone = rig.connect("").await.joined("room:1", user).await;
    let patch = json!({ "patch": { "device": "desk" } });
    laptop.ok("room:1", "presence:update", patch).await;
    laptop.ok("room:1", "phx_leave", json!({})).await;
    let gone = rig.http("DELETE", "/api/keys/ada", "", "").await;
    assert_eq!(gone.status, 202);

    let events = receiver.taken(7).await;
    let expected = [
        "topic_occupied room:1 tracked",
        "joined room:1 ada first tracked",
        "joined room:1 ada one tracked",
        "updated room:1 ada updated",
        "left room:1 ada one left",
        "left room:1 ada last evicted",
        "topic_vacated room:1 evicted",
    ];
    assert_eq!(all_words(&events), expected);
    let seqs: Vec<u64> = events.iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3, 4, 5, 6, 7]);
    let ids: BTreeSet<&str> = events.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 7);
    let counts: Vec<&Value> = events.iter().map(|event| &event["n_presences"]).collect();
    assert_eq!(json!(counts), json!([1, 1, 2, 2, 1, 0, 0]));
    assert!(events.iter().all(|event| event["node"] == "local"));
    let times: Vec<&str> = events.iter().map(|e| e["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && times[0].len() == "2026-11-28T12:00:00.123Z".len());
    let updated = &events[3];
    assert_eq!(
        (&updated["meta"]["device"], &updated["before"]["device"]),
        (&json!("desk"), &json!("laptop"))
    );
    assert_eq!(
        updated["meta"]["phx_ref_prev"],
        updated["before"]["phx_ref"]
    );
    let mut document = rig.get("/api/openapi.json").await.json();
    document["$ref"] = json!("#/components/schemas/Events");
    let validator = jsonschema::draft202012::new(&document).unwrap();
    for request in receiver.requests() {
        assert_eq!(request.body["node"], "local");
        assert!(validator.is_valid(&request.body), "{}", request.body);
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_685_what_fails_is_tried_again_under_its_number_and_nothing_is_lost_or_out_of_order() {
    let receiver = Receiver::start(Mood::Refuses(500)).await;
    let rig = start(&receiver, &[("webhook.timeout", "3s")]).await;
    put(&rig, "room:1", "ada", "0").await;
    let failed = receiver
        .until("two attempts", |requests| requests.len() >= 2)
        .await;
    assert_eq!(failed[0].id, failed[1].id, "the same batch");
    assert_eq!(failed[0].body, failed[1].body);
    let moods = [
        Mood::HangsUp,
        Mood::Stalls,
        Mood::Refuses(429),
        Mood::Refuses(404),
    ];
    for (n_sent, mood) in (1..).zip(moods) {
        receiver.become_(mood);
        let n_requests = receiver.requests().len();
        for topic in ["room:1", "room:2"] {
            put(&rig, topic, "ada", &format!("{n_sent}")).await;
        }
        let two_more = |requests: &[Request]| requests.len() >= n_requests + 2;
        receiver.until("two more attempts", two_more).await;
        assert_eq!(receiver.events(), [json!(null); 0]);
    }
    assert_eq!(shown(&rig).await["is_failing"], json!(true));
    receiver.become_(Mood::Takes);
    let events = receiver.taken(11).await;
    assert_eq!(devices(&events, "room:1"), ["0", "1", "2", "3", "4"]);
    assert_eq!(devices(&events, "room:2"), ["1", "2", "3", "4"]);
    let shown = until_shown(&rig, |shown| shown["n_waiting"] == 0).await;
    assert_eq!(
        (
            &shown["n_delivered"],
            &shown["n_lost"],
            &shown["is_failing"]
        ),
        (&json!(11), &json!(0), &json!(false))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_686_a_topic_that_is_refused_keeps_no_other_waiting_and_is_given_up() {
    let receiver = Receiver::start(Mood::Refuses(503)).await;
    let more = [
        ("webhook.max_attempts", "8"),
        ("webhook.concurrency", "2"),
        ("webhook.max_delay", "50ms"),
    ];
    let rig = start(&receiver, &more).await;
    let topics = ["room:1", "room:2", "room:bad", "room:3", "room:4"];
    for topic in topics {
        put(&rig, topic, "ada", "x").await;
    }
    receiver
        .until("a failure", |requests| !requests.is_empty())
        .await;
    receiver.become_(Mood::RefusesTopic("room:bad"));
    let good = |requests: &[Request]| {
        let taken = requests.iter().filter(|request| request.is_taken);
        taken
            .flat_map(Request::events)
            .filter(|event| event["event"] == "joined")
            .count()
            == 4
    };
    receiver.until("the other topics", good).await;
    let told = |requests: &[Request]| {
        let taken = requests.iter().filter(|request| request.is_taken);
        taken
            .flat_map(Request::events)
            .any(|event| event["event"] == "lost")
    };
    receiver.until("that two are lost", told).await;
    let events = receiver.events();
    assert_eq!(losses(&events), [(json!(2), json!("refused"))]);
    assert_eq!(shown(&rig).await["n_lost"], json!(2));
    put(&rig, "room:1", "bob", "y").await;
    let bob = |requests: &[Request]| {
        let events = requests.iter().flat_map(Request::events);
        events.into_iter().any(|event| event["key"] == "bob")
    };
    receiver.until("what comes after", bob).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_687_a_topic_that_stalls_takes_one_of_the_requests_and_no_more() {
    let receiver = Receiver::start(Mood::StallsTopic("room:slow")).await;
    let rig = start(&receiver, &[("webhook.concurrency", "2")]).await;
    put(&rig, "room:slow", "ada", "0").await;
    receiver
        .until("it stalls", |requests| requests.len() == 1)
        .await;
    for n in 1..=20 {
        put(&rig, "room:slow", "ada", &n.to_string()).await;
        put(&rig, "room:1", "ada", &n.to_string()).await;
    }
    let events = receiver.taken(21).await;
    let expected: Vec<String> = (1..=20).map(|n| n.to_string()).collect();
    assert_eq!(devices(&events, "room:1"), expected);
    let n_slow = receiver
        .requests()
        .iter()
        .filter(|r| r.has_topic("room:slow"))
        .count();
    assert_eq!(n_slow, 1, "its own events wait");
    receiver.become_(Mood::Takes);
    let events = receiver.taken(43).await;
    assert_eq!(devices(&events, "room:slow").len(), 21);
    assert!(
        devices(&events, "room:slow")
            .iter()
            .map(|n| n.parse::<u32>().unwrap())
            .is_sorted()
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_688_what_does_not_fit_is_lost_counted_and_told() {
    let receiver = Receiver::start(Mood::HangsUp).await;
    let rig = start(&receiver, &[("webhook.max_queued", "10")]).await;
    for n in 0..29 {
        put(&rig, "room:1", "ada", &n.to_string()).await;
    }
    let full = until_shown(&rig, |shown| shown["n_lost"] == 20).await;
    assert_eq!(
        (&full["n_waiting"], &full["limit"]),
        (&json!(10), &json!(10))
    );
    receiver.become_(Mood::Takes);
    let events = receiver.taken(11).await;
    assert_eq!(losses(&events), [(json!(20), json!("queue_full"))]);
    let expected: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    assert_eq!(devices(&events, "room:1"), expected, "those that fitted");
    until_shown(&rig, |shown| shown["n_waiting"] == 0).await;
    put(&rig, "room:1", "ada", "29").await;
    let seqs = receiver.taken(12).await;
    let seqs: Vec<u64> = seqs.iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert_eq!(seqs.last(), Some(&31), "the gap shows in the numbers too");
    rig.stop().await;
}

#[tokio::test]
async fn srv_689_an_event_that_is_too_old_is_lost_and_told() {
    let receiver = Receiver::start(Mood::HangsUp).await;
    let rig = start(&receiver, &[("webhook.max_age", "200ms")]).await;
    put(&rig, "room:1", "ada", "0").await;
    until_shown(&rig, |shown| shown["n_lost"] == 2).await;
    receiver.become_(Mood::Takes);
    let events = receiver.taken(1).await;
    assert_eq!(
        (
            &events[0]["event"],
            &events[0]["reason"],
            &events[0]["n_events"]
        ),
        (&json!("lost"), &json!("too_old"), &json!(2))
    );
    rig.stop().await;
}

#[tokio::test]
async fn srv_1743_an_event_is_not_lost_because_older_ones_wait_beside_it() {
    let receiver = Receiver::start(Mood::HangsUp).await;
    let more = [("webhook.max_age", "3s"), ("webhook.concurrency", "1")];
    let rig = start(&receiver, &more).await;
    put(&rig, "room:1", "ada", "0").await;
    receiver
        .until("some failures", |requests| requests.len() >= 5)
        .await;
    put(&rig, "room:1", "bob", "1").await;
    // A second or two later, when the first ones are still under way.
    receiver
        .until("many failures", |requests| requests.len() >= 20)
        .await;
    put(&rig, "room:1", "cyd", "2").await;
    let old = until_shown(&rig, |shown| shown["n_lost"].as_u64() >= Some(3)).await;
    assert_eq!((&old["n_lost"], &old["n_waiting"]), (&json!(3), &json!(1)));
    receiver.become_(Mood::Takes);
    let events = receiver.taken(2).await;
    assert_eq!(devices(&events, "room:1"), ["2"]);
    let n_lost: u64 = events
        .iter()
        .filter_map(|event| event["n_events"].as_u64())
        .sum();
    assert_eq!(n_lost, 3, "{events:?}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_1747_what_is_refused_stands_alone_before_it_is_given_up() {
    for max_attempts in ["1", "3"] {
        let receiver = Receiver::start(Mood::Refuses(503)).await;
        let more = [
            ("webhook.max_attempts", max_attempts),
            ("webhook.concurrency", "1"),
            ("webhook.max_delay", "50ms"),
            ("webhook.events", "joined"),
        ];
        let rig = start(&receiver, &more).await;
        put(&rig, "room:0", "ada", "x").await;
        receiver
            .until("a failure", |requests| !requests.is_empty())
            .await;
        put(&rig, "room:bad", "ada", "x").await;
        for n in 1..39 {
            put(&rig, &format!("room:{n}"), "ada", "x").await;
        }
        receiver.become_(Mood::RefusesTopic("room:bad"));
        let told = |requests: &[Request]| {
            let events = requests.iter().filter(|request| request.is_taken);
            let n_lost = |event: &Value| event["n_events"].as_u64();
            events
                .flat_map(Request::events)
                .any(|event| n_lost(event).is_some())
        };
        receiver.until("that one is lost", told).await;
        until_shown(&rig, |shown| shown["n_waiting"] == 0).await;
        let events = receiver.events();
        assert_eq!(losses(&events), [(json!(1), json!("refused"))]);
        let n_joined = events.iter().filter(|event| event["event"] == "joined");
        assert_eq!(n_joined.count(), 39);
        let alone = receiver.requests().into_iter().filter(|request| {
            !request.is_taken && request.has_topic("room:bad") && request.events().len() == 1
        });
        assert_eq!(alone.count().to_string(), max_attempts);
        rig.stop().await;
    }
}

#[tokio::test]
async fn srv_1684_what_was_refused_is_told_at_the_head_of_the_next_request_and_of_no_other() {
    let receiver = Receiver::start(Mood::Refuses(500)).await;
    let slow = [
        ("webhook.urls", &*receiver.url()),
        ("webhook.secret", hooks::SECRET),
        ("webhook.min_backoff", "200ms"),
        ("webhook.max_attempts", "3"),
    ];
    let rig = Rig::with(&slow).await;
    put(&rig, "room:2", "ada", "x").await;
    until_shown(&rig, |shown| shown["n_lost"] == 2).await;
    // The loss waits for as long as its events would have, and these are there before.
    receiver.become_(Mood::Takes);
    put(&rig, "room:3", "cy", "x").await;
    let events = receiver.taken(3).await;
    assert_eq!(events[0]["event"], "lost", "{events:?}");
    assert_eq!(losses(&events), [(json!(2), json!("refused"))]);
    end(&rig, "room:3", "cy").await;
    let events = receiver.taken(5).await;
    assert_eq!(losses(&events).len(), 1, "it is told once: {events:?}");
    rig.stop().await;
}

#[tokio::test]
async fn srv_690_a_webhook_hears_of_its_topics_and_its_events_only() {
    let (receiver, other) = (
        Receiver::start(Mood::Takes).await,
        Receiver::start(Mood::HangsUp).await,
    );
    let urls = format!("{},{}", receiver.url(), other.url());
    let more = [
        ("webhook.topics", "room:1,lobby:*"),
        ("webhook.events", "joined,topic_vacated"),
        ("webhook.drain_timeout", "100ms"),
        ("topics", r#"[{ pattern = "*", presence = true }]"#),
    ];
    let rig = Rig::with(&flags(&urls, &more)).await;
    for topic in ["room:2", "room:11", "lobby:9", "room:1"] {
        put(&rig, topic, "ada", "x").await;
        end(&rig, topic, "ada").await;
    }
    let events = receiver.taken(4).await;
    let of = |topic: &str| {
        let its = events.iter().filter(|event| event["topic"] == topic);
        its.map(words).collect::<Vec<_>>()
    };
    for topic in ["lobby:9", "room:1"] {
        let expected = [
            format!("joined {topic} ada first tracked"),
            format!("topic_vacated {topic} left"),
        ];
        assert_eq!(of(topic), expected);
    }
    assert_eq!(
        events.len(),
        4,
        "one webhook that is down is nothing to another"
    );
    other
        .until("it is asked too", |requests| !requests.is_empty())
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_1154_webhooks_have_filters_names_and_secrets_of_their_own() {
    let [general, calls, joins] = [
        Receiver::start(Mood::Takes).await,
        Receiver::start(Mood::HangsUp).await,
        Receiver::with_secret(Mood::Takes, "another secret of this test").await,
    ];
    let webhooks = format!(
        "[{{ name = \"calls\", url = \"{}\", topics = [\"call:*\"] }}, \
          {{ url = \"{}\", events = [\"joined\"], secret = \"another secret of this test\" }}]",
        calls.url(),
        joins.url(),
    );
    let more = [
        ("webhook.events", "joined,left"),
        ("webhooks", webhooks.as_str()),
        ("webhook.drain_timeout", "100ms"),
        ("topics", r#"[{ pattern = "*", presence = true }]"#),
    ];
    let rig = Rig::with(&flags(&general.url(), &more)).await;
    for topic in ["room:1", "call:1"] {
        put(&rig, topic, "ada", "x").await;
        end(&rig, topic, "ada").await;
    }
    let of = |mut told: Vec<String>| {
        told.sort();
        told
    };
    let [joined, left] = ["joined {} ada first tracked", "left {} ada last left"]
        .map(|words| ["call:1", "room:1"].map(|topic| words.replace("{}", topic)));
    let all = [joined.clone(), left.clone()].concat();
    assert_eq!(of(all_words(&general.taken(4).await)), all);
    assert_eq!(of(all_words(&joins.taken(2).await)), joined);
    calls.become_(Mood::Takes);
    let expected = [joined[0].clone(), left[0].clone()];
    assert_eq!(all_words(&calls.taken(2).await), expected);
    let node = rig.get("/api/node").await.json();
    let shown = node["events"]["webhooks"].as_array().unwrap();
    let names: Vec<&Value> = shown.iter().map(|webhook| &webhook["name"]).collect();
    assert_eq!(json!(names), json!(["1", "calls", "3"]));
    let metrics = rig.get("/metrics").await.body;
    for name in ["1", "calls", "3"] {
        let sample = format!("herenow_webhook_events_delivered_total{{webhook=\"{name}\"}} ");
        assert!(metrics.contains(&sample), "{sample}");
    }
    rig.stop().await;
}

#[test]
fn srv_1155_what_is_wrong_with_a_webhook_of_the_list_is_named_with_its_place() {
    let file = "[[webhooks]]\nname = \"a\"\n\
                [[webhooks]]\nurl = \"https://example.com/hidden-path\"\nevent = [\"joined\"]\n\
                [[webhooks]]\nurl = \"http://example.com/hidden-path\"\nname = \"a\"\n\
                secret = \"whsec_this is no base64!\"\n\
                [[webhooks]]\nurl = \"https://example.com\"\nname = \"1\"\n\
                secret_file = \"/nowhere\"\n";
    let error = ServerConfig::parse(file, std::path::Path::new("my.toml")).unwrap_err();
    let error = error.to_string();
    let lines: Vec<&str> = error.lines().skip(1).collect();
    let expected = [
        "my.toml line 1: webhooks[0].url is missing",
        "my.toml line 5: there is no key `webhooks[1].event`, did you mean `events`?",
        "my.toml line 6: webhooks[2].name is \"a\", but webhooks[0].name is the same (my.toml line \
         1): by their names they are told apart",
        "my.toml line 12: webhooks[3].name is \"1\", it must be a small letter, then small letters, \
         digits, - and _, 32 at most",
        "my.toml line 1: webhooks[0].secret, or webhook.secret for all, is missing",
        "my.toml line 1: webhooks[1].secret, or webhook.secret for all, is missing",
        "my.toml line 1: webhooks[2].secret is something else, it must be at least 16 bytes, as \
         they stand or as base64 behind whsec_",
        "my.toml line 1: webhooks[2].url is http://example.com/…, but webhook.allow_http is false \
         (default): what comes over plain HTTP can be read on the way; use https",
        "my.toml line 1: cannot read webhooks[3].secret_file /nowhere: No such file or directory \
         (os error 2)",
    ];
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.trim_start_matches("  - "))
        .collect();
    assert_eq!(lines, expected);
    assert!(
        !error.contains("hidden-path") && !error.contains("base64!"),
        "{error}"
    );
}

#[tokio::test]
async fn srv_691_a_server_that_stops_delivers_what_waits_and_who_leaves_by_it() {
    let receiver = Receiver::start(Mood::Refuses(500)).await;
    let mut rig = start(&receiver, &[("webhook.max_backoff", "50ms")]).await;
    let user = json!({ "user_id": "ada" });
    let _ada = rig.connect("").await.joined("room:1", user).await;
    put(&rig, "room:1", "bob", "x").await;
    receiver
        .until("a failure", |requests| !requests.is_empty())
        .await;
    rig.ask_to_stop();
    receiver.become_(Mood::Takes);
    rig.ended().await;
    let told = all_words(&receiver.events());
    let mut n_of_each: BTreeMap<&str, u32> = BTreeMap::new();
    for words in &told {
        *n_of_each.entry(words).or_default() += 1;
    }
    assert_eq!(told.len(), 6, "{told:?}");
    assert_eq!(told.last().unwrap(), "topic_vacated room:1 closed");
    assert_eq!(n_of_each["left room:1 ada last closed"], 1);
    assert_eq!(n_of_each["left room:1 bob last closed"], 1);
}

#[tokio::test]
async fn srv_1796_a_server_that_stops_tries_at_once_what_waits_for_its_next_attempt() {
    let receiver = Receiver::start(Mood::Refuses(503)).await;
    let more = [
        ("webhook.min_backoff", "1m"),
        ("webhook.max_backoff", "1m"),
        ("webhook.drain_timeout", "20s"),
    ];
    let mut rig = start(&receiver, &more).await;
    put(&rig, "room:1", "ada", "x").await;
    until_shown(&rig, |shown| shown["n_failures"] == 1).await;
    receiver.become_(Mood::Takes);
    rig.ask_to_stop();
    rig.ended().await;
    let told = all_words(&receiver.events());
    assert_eq!(
        told[..2],
        [
            "topic_occupied room:1 tracked",
            "joined room:1 ada first tracked"
        ]
    );
    assert_eq!(told.last().unwrap(), "topic_vacated room:1 closed");
}

#[tokio::test]
async fn srv_1798_an_answer_that_does_not_end_keeps_nothing_waiting() {
    let receiver = Receiver::start(Mood::TakesWithoutEnd).await;
    let more = [
        ("webhook.concurrency", "1"),
        ("webhook.timeout", "2m"), // Longer than anything may take here.
    ];
    let rig = start(&receiver, &more).await;
    for (n, topic) in (1..).zip(["room:1", "room:2", "room:3"]) {
        put(&rig, topic, "ada", "x").await;
        receiver.taken(2 * n).await;
    }
    let shown = until_shown(&rig, |shown| shown["n_delivered"] == 6).await;
    assert_eq!(
        (&shown["is_failing"], &shown["n_failures"]),
        (&json!(false), &json!(0))
    );
    rig.stop().await;
}

#[test]
fn srv_700_wrong_settings_of_webhooks_are_named_and_secrets_never_shown() {
    let secret = "a secret that nobody is shown";
    let load = |flags: &[(&str, &str)]| {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let sources = Sources {
            flags: flags.iter().map(owned).collect(),
            ..Sources::default()
        };
        ServerConfig::load(&sources).map_err(|errors| errors.to_string())
    };
    let url = ("webhook.urls", "https://example.com/hooks/hidden-path");
    let good = load(&[url, ("webhook.secret", secret)]).unwrap();
    assert!(!format!("{good:?}").contains(secret));
    let cases: [(&[(&str, &str)], &str); 10] = [
        (
            &[url],
            "webhook.secret (or webhook.secret_file), with which requests are signed, is missing",
        ),
        (
            &[("webhook.urls", "example.com")],
            "webhook.urls is no URL, it must be a list of URLs",
        ),
        (
            &[("webhook.urls", "ftp://example.com")],
            "webhook.urls is \"ftp://example.com\"",
        ),
        (&[("webhook.urls", "https://")], "webhook.urls is no URL"),
        (
            &[
                ("webhook.urls", "http://example.com/hidden-path"),
                ("webhook.secret", secret),
            ],
            "webhook.urls is http://example.com/…, but webhook.allow_http is false",
        ),
        (
            &[url, ("webhook.secret", "too short")],
            "webhook.secret is 9 bytes long, it must be at least 16 bytes",
        ),
        (
            &[url, ("webhook.secret", "whsec_this is no base64!")],
            "webhook.secret is something else, it must be",
        ),
        (
            &[url, ("webhook.secret_file", "/nowhere")],
            "cannot read webhook.secret_file /nowhere",
        ),
        (
            &[("webhook.min_backoff", "2s"), ("webhook.max_backoff", "1s")],
            "webhook.min_backoff is 2s, but webhook.max_backoff is 1s",
        ),
        (
            &[("webhook.events", "joined,moved")],
            "webhook.events is \"moved\" in entry 2, it must be a list of events",
        ),
    ];
    for (flags, expected) in cases {
        let error = load(flags).unwrap_err();
        assert!(error.contains(expected), "{expected}\n{error}");
        for hidden in [secret, "hidden-path", "too short", "this is no base64"] {
            assert!(!error.contains(hidden), "{error}");
        }
    }
}
