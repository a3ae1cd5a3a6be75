//! Presence through channels: each client gets a state and then exactly the diffs after it.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "wire/support.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod support;

use std::collections::BTreeMap;
use std::num::NonZero;
use std::time::Duration;

use axum::Router;
use herenow_channels::testing::TestClient;
use herenow_channels::{
    Channel, Connected, Handle, Joined, Outcome, Params, Payload, Reason, Refused, Socket,
    SocketConfig, Sockets,
};
use herenow_presence::{Event, Presence, PresenceConfig, WatchEvent};
use herenow_protocol::ServerMessage;
use herenow_pubsub::PubSub;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use self::support::{Client, soon, start, start_app, until};

/// The example that every Phoenix user knows: track on join, then push the state.
struct Room {
    presence: Presence,
}

impl Channel for Room {
    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        if let Some(user) = params.optional::<String>("user_id")? {
            self.presence
                .track(socket, &user, json!({ "online_at": "now" }))
                .await?;
        }
        socket.push("presence_state", self.presence.list(socket.topic()).await)?;
        if params.optional::<bool>("refuse")? == Some(true) {
            return Err(Refused::reason("no"));
        }
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match event {
            "panic" => panic!("as the test wants"),
            "update" => {
                let key: String = payload.deserialize().unwrap();
                let updated = self
                    .presence
                    .update(socket, &key, json!({ "busy": true }))
                    .await;
                Outcome::ok(json!(updated.unwrap().as_str()))
            }
            "stop" => Outcome::stop(Reason::Normal),
            _ => Outcome::ok(()),
        }
    }
}

fn sockets(config: SocketConfig) -> (Sockets, Presence) {
    let pubsub = PubSub::local();
    let presence = Presence::new(&pubsub);
    let room = presence.clone();
    let sockets = Sockets::new(&pubsub)
        .config(config)
        .channel("room:*", move || Room {
            presence: room.clone(),
        });
    (sockets, presence)
}

/// A client's list, by ref, which fails on anything that comes twice or for nothing.
#[derive(Default, Debug)]
struct Exact {
    has_state: bool,
    keys: BTreeMap<String, String>,
}

impl Exact {
    fn apply(&mut self, event: &str, payload: &Value) {
        match event {
            "presence_state" => {
                assert!(!self.has_state, "one state only");
                self.has_state = true;
                self.join(payload);
            }
            "presence_diff" => {
                assert!(self.has_state, "a diff before the state: {payload}");
                self.join(&payload["joins"]);
                for (key, meta_ref) in refs(&payload["leaves"]) {
                    assert_eq!(self.keys.remove(&meta_ref), Some(key), "a leave of nobody");
                }
            }
            _ => {}
        }
    }

    fn join(&mut self, entries: &Value) {
        for (key, meta_ref) in refs(entries) {
            assert_eq!(
                self.keys.insert(meta_ref, key),
                None,
                "a join that was there"
            );
        }
    }

    fn list(&self) -> Vec<&str> {
        let mut keys: Vec<_> = self.keys.values().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }
}

fn refs(entries: &Value) -> Vec<(String, String)> {
    let mut refs = Vec::new();
    for (key, entry) in entries.as_object().into_iter().flatten() {
        for meta in entry["metas"].as_array().unwrap() {
            refs.push((key.clone(), meta["phx_ref"].as_str().unwrap().to_owned()));
        }
    }
    refs
}

/// Takes messages until the client's list has `n` entries.
async fn follow(client: &mut TestClient, exact: &mut Exact, n: usize) {
    while !exact.has_state || exact.keys.len() != n {
        follow_one(client, exact).await;
    }
}

async fn follow_one(client: &mut TestClient, exact: &mut Exact) {
    match client.next().await.expect("the connection stays open") {
        ServerMessage::Push { event, payload, .. }
        | ServerMessage::Broadcast { event, payload, .. } => {
            exact.apply(&event, &payload.deserialize().unwrap());
        }
        _ => {}
    }
}

#[tokio::test]
async fn soc_50_a_join_is_its_reply_then_the_state_then_diffs() {
    let (sockets, _presence) = sockets(SocketConfig::default());
    let url = start(sockets).await;
    let mut ada = Client::v2(&url).await;
    ada.join("room:1", json!({ "user_id": "ada" })).await;
    let state = ada.event("room:1", "presence_state").await;
    assert_eq!(state["ada"]["metas"][0]["online_at"], "now");
    ada.assert_silent().await;
    let mut bob = Client::v2(&url).await;
    bob.join("room:1", json!({ "user_id": "bob" })).await;
    assert_eq!(
        bob.event("room:1", "presence_state")
            .await
            .as_object()
            .unwrap()
            .len(),
        2
    );
    let diff = ada.event("room:1", "presence_diff").await;
    assert_eq!(diff["leaves"], json!({}));
    assert_eq!(
        diff["joins"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["bob"]
    );
    bob.send(("11", "2"), "room:1", "phx_leave", json!({}))
        .await;
    let diff = ada.event("room:1", "presence_diff").await;
    assert_eq!(
        diff["leaves"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["bob"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn soc_51_in_a_storm_each_client_gets_one_state_and_each_change_once() {
    const N: usize = 150;
    let (sockets, presence) = sockets(SocketConfig::default());
    let clients = (0..N).map(|n| {
        let mut client = TestClient::open(&sockets, Connected::anonymous());
        tokio::spawn(async move {
            client
                .join("room:1", json!({ "user_id": format!("user {n:03}") }))
                .await
                .unwrap();
            let mut exact = Exact::default();
            follow(&mut client, &mut exact, N).await;
            (client, exact)
        })
    });
    let mut joined = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        joined.push(soon(client).await.unwrap());
    }
    assert_eq!(presence.count("room:1"), N);
    // Every third goes, in a different way each; the others see exactly them go.
    let mut stayed = Vec::new();
    for (n, (mut client, exact)) in joined.into_iter().enumerate() {
        match n % 9 {
            0 => client.close().await,
            3 => drop(client.push("room:1", "panic", json!({})).await),
            6 => drop(client.leave("room:1").await),
            _ => stayed.push((client, exact)),
        }
    }
    let n_stayed = stayed.len();
    for (client, exact) in &mut stayed {
        soon(follow(client, exact, n_stayed)).await;
        assert_eq!(exact.list().len(), n_stayed);
    }
    assert_eq!(presence.count("room:1"), n_stayed);
}

#[tokio::test]
async fn soc_52_presences_leave_with_their_channel_and_with_its_reason() {
    use herenow_presence::LeaveReason;
    let (sockets, presence) = sockets(SocketConfig::default());
    let mut watch = presence.watch("room:1");
    // It lists when it is first asked: a join and a leave before that would be none of its events.
    assert!(matches!(watch.next().await, WatchEvent::State(_)));
    for (how, expected) in [
        ("leave", LeaveReason::Left),
        ("stop", LeaveReason::Left),
        ("panic", LeaveReason::Closed),
        ("close", LeaveReason::Closed),
    ] {
        let mut client = TestClient::open(&sockets, Connected::anonymous());
        client
            .join("room:1", json!({ "user_id": "ada" }))
            .await
            .unwrap();
        let client = match how {
            "leave" => {
                client.leave("room:1").await;
                Some(client)
            }
            "close" => {
                client.close().await;
                None
            }
            event => {
                client.push("room:1", event, json!({})).await;
                Some(client)
            }
        };
        let left = soon(async {
            loop {
                if let WatchEvent::Changed(Event::Left { reason, .. }) = watch.next().await {
                    return reason;
                }
            }
        })
        .await;
        assert_eq!(left, expected, "{how}");
        drop(client);
    }
}

#[tokio::test]
async fn soc_53_a_refused_join_leaves_nothing_tracked_and_nothing_pushed() {
    let (sockets, presence) = sockets(SocketConfig::default());
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    let refused = client
        .join("room:1", json!({ "user_id": "ada", "refuse": true }))
        .await;
    assert_eq!(refused, Err(json!({ "reason": "no" })));
    until(|| presence.count("room:1") == 0).await;
    client.assert_silent().await;
}

#[tokio::test]
async fn soc_54_an_update_reaches_all_as_one_diff() {
    let (sockets, _presence) = sockets(SocketConfig::default());
    let mut ada = TestClient::open(&sockets, Connected::anonymous());
    ada.join("room:1", json!({ "user_id": "ada" }))
        .await
        .unwrap();
    ada.event("room:1", "presence_state").await;
    let (_, meta_ref) = ada.call("room:1", "update", json!("ada")).await;
    let diff = ada.event("room:1", "presence_diff").await;
    assert_eq!(diff["joins"]["ada"]["metas"][0]["phx_ref"], meta_ref);
    assert_eq!(diff["joins"]["ada"]["metas"][0]["busy"], true);
    assert_eq!(
        diff["joins"]["ada"]["metas"][0]["phx_ref_prev"],
        diff["leaves"]["ada"]["metas"][0]["phx_ref"]
    );
}

#[tokio::test]
async fn soc_55_diffs_fold_for_a_slow_reader_that_then_has_the_right_list() {
    let mut config = SocketConfig::default();
    config.fold_queue_bytes = 100_000;
    config.max_queue_messages = NonZero::new(1_000).unwrap();
    let (sockets, presence) = sockets(config);
    let handle = sockets.clone();
    let address = start_app(Router::new().nest("/socket", sockets.into_router())).await;
    let mut stream = slow_observer(address).await;
    // Fill the reader's window and more with something that is not folded.
    let pad = "x".repeat(50_000);
    let mut n_pads = 0;
    while handle.metrics().folded_diffs.value() == 0 {
        handle
            .broadcast("room:1", "pad", json!({ "pad": pad }))
            .unwrap();
        let here = presence
            .track_on("room:1", "ghost", json!({}))
            .await
            .unwrap();
        here.untrack().await;
        presence.flush().await;
        n_pads += 1;
        assert!(n_pads < 500, "the reader never fell behind");
    }
    // More diffs than its queue could hold.
    let mut heres = Vec::new();
    for n in 0..1_500 {
        let here = presence
            .track_on("room:1", format!("k{}", n % 300), json!({}))
            .await
            .unwrap();
        heres.push(here);
        if heres.len() > 300 {
            drop(heres.remove(0));
        }
    }
    presence.flush().await;
    let expected = presence.list("room:1").await.n_metas();
    let mut exact = Exact::default();
    soon(async {
        while exact.keys.len() != expected || !exact.has_state || n_pads > 0 {
            let message = read_text(&mut stream).await;
            let event = message[3].as_str().unwrap();
            n_pads -= usize::from(event == "pad");
            exact.apply(event, &message[4]);
        }
    })
    .await;
    assert_eq!(handle.metrics().slow_readers.value(), 0);
    assert!(handle.metrics().folded_diffs.value() > 1_000);
}

async fn slow_observer(address: std::net::SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n\
        connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        response.push(stream.read_u8().await.unwrap());
    }
    let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    let mut frame = vec![0x81, 0x80 | join.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(join.as_bytes());
    stream.write_all(&frame).await.unwrap();
    assert_eq!(soon(read_text(&mut stream)).await[3], "phx_reply");
    stream
}

/// Reads one text frame of the server.
async fn read_text(stream: &mut TcpStream) -> Value {
    assert_eq!(stream.read_u8().await.unwrap(), 0x81, "a text frame");
    let len = match stream.read_u8().await.unwrap() {
        126 => usize::from(stream.read_u16().await.unwrap()),
        127 => stream.read_u64().await.unwrap() as usize,
        len => usize::from(len),
    };
    let mut text = vec![0; len];
    stream.read_exact(&mut text).await.unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test(start_paused = true)]
async fn soc_56_a_state_pushed_after_diffs_does_not_trim_what_the_client_must_still_apply() {
    struct Late(Presence);
    impl Channel for Late {
        async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
            Ok(Joined::empty())
        }
        async fn handle_in(&mut self, socket: &mut Socket, _: &str, _: Payload) -> Outcome {
            let state = self.0.list(socket.topic()).await;
            socket.push("presence_state", state).unwrap();
            Outcome::ok(())
        }
    }
    let pubsub = PubSub::local();
    let presence = Presence::new(&pubsub);
    let late = presence.clone();
    let sockets = Sockets::new(&pubsub).channel("room:*", move || Late(late.clone()));
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    client.join("room:1", json!({})).await.unwrap();
    let ada = presence.track_on("room:1", "ada", json!({})).await.unwrap();
    presence.flush().await;
    client.event("room:1", "presence_diff").await;
    client.call("room:1", "state", json!({})).await;
    let state = client.event("room:1", "presence_state").await;
    assert_eq!(state.as_object().unwrap().len(), 1);
    drop(ada);
    presence.flush().await;
    let diff = client.event("room:1", "presence_diff").await;
    assert_eq!(diff["leaves"].as_object().unwrap().len(), 1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn soc_404_a_join_and_a_leave_do_not_cancel_across_a_state_between_them() {
    struct Late(Presence);
    impl Channel for Late {
        async fn join(&mut self, _: &mut Socket, _: Params) -> Result<Joined, Refused> {
            Ok(Joined::empty())
        }
        async fn handle_in(&mut self, socket: &mut Socket, event: &str, _: Payload) -> Outcome {
            let state = self.0.list(socket.topic()).await;
            socket.push(event, state).unwrap();
            Outcome::ok(())
        }
    }
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.window.free_subscribers = 0;
    config.window.per_subscriber = Duration::from_millis(200);
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let late = presence.clone();
    let sockets = Sockets::new(&pubsub).channel("room:*", move || Late(late.clone()));
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    client.join("room:1", json!({})).await.unwrap();
    let _bob = presence.track_on("room:1", "bob", json!({})).await.unwrap();
    presence.flush().await;
    client.event("room:1", "presence_diff").await;
    for event in ["presence_state", "my_state"] {
        let ada = presence.track_on("room:1", "ada", json!({})).await.unwrap();
        client.call("room:1", event, json!({})).await;
        let state = client.event("room:1", event).await;
        assert_eq!(state.as_object().unwrap().len(), 2);
        drop(ada);
        until(|| presence.count("room:1") == 1).await;
        presence.flush().await;
        // The join that is in the state already, and then the leave.
        let diff = client.event("room:1", "presence_diff").await;
        assert_eq!(
            diff["joins"].as_object().unwrap().len(),
            1,
            "{event}: {diff}"
        );
        let diff = client.event("room:1", "presence_diff").await;
        assert_eq!(
            diff["leaves"].as_object().unwrap().len(),
            1,
            "{event}: {diff}"
        );
    }
}

#[tokio::test]
async fn soc_407_a_handle_of_a_refused_join_sends_nothing_and_keeps_nothing() {
    struct Refusing(mpsc::UnboundedSender<Handle>);
    impl Channel for Refusing {
        async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
            self.0.send(socket.handle()).unwrap();
            Err(Refused::reason("no"))
        }
    }
    let (give, mut handles) = mpsc::unbounded_channel();
    let mut config = SocketConfig::default();
    config.max_queue_messages = NonZero::new(10).unwrap();
    let sockets = Sockets::new(&PubSub::local())
        .config(config)
        .channel("room:*", move || Refusing(give.clone()));
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    assert!(client.join("room:1", json!({})).await.is_err());
    let handle = handles.recv().await.unwrap();
    for n in 0..20 {
        assert!(handle.push("tick", json!({ "n": n })).is_err());
    }
    client.assert_silent().await;
    assert_eq!(sockets.metrics().slow_readers.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn soc_585_what_cancels_within_a_window_is_no_diff_to_anybody() {
    let pubsub = PubSub::local();
    let mut config = PresenceConfig::default();
    config.window.free_subscribers = 0;
    config.window.per_subscriber = Duration::from_millis(200);
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let room = presence.clone();
    let sockets = Sockets::new(&pubsub).channel("room:*", move || Room {
        presence: room.clone(),
    });
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    client.join("room:1", json!({})).await.unwrap();
    client.event("room:1", "presence_state").await;
    for _ in 0..3 {
        drop(presence.track_on("room:1", "ada", json!({})).await.unwrap());
        until(|| presence.count("room:1") == 0).await;
        presence.flush().await;
        client.assert_silent().await;
    }
    let _bob = presence.track_on("room:1", "bob", json!({})).await.unwrap();
    let diff = client.event("room:1", "presence_diff").await;
    assert!(diff["joins"]["bob"].is_object(), "{diff}");
}

/// Sockets whose lists are large from 2,000 bytes on, in parts of 1,000.
fn large_sockets(config: SocketConfig) -> (Sockets, Presence) {
    let pubsub = PubSub::local();
    let mut presence = PresenceConfig::default();
    presence.big_room.parts_from_bytes = 2_000;
    presence.big_room.part_bytes = NonZero::new(1_000).unwrap();
    let presence = Presence::builder(&pubsub).config(presence).start().unwrap();
    let room = presence.clone();
    let sockets = Sockets::new(&pubsub)
        .config(config)
        .channel("room:*", move || Room {
            presence: room.clone(),
        });
    (sockets, presence)
}

#[tokio::test(start_paused = true)]
async fn soc_540_a_large_state_comes_in_parts_and_then_exactly_the_diffs_after_it() {
    let (sockets, presence) = large_sockets(SocketConfig::default());
    let mut crowd = std::collections::VecDeque::new();
    let mut clients = Vec::new();
    for n in 0..400 {
        let here = presence.track_on("room:1", format!("user-{n}"), json!({}));
        crowd.push_back(here.await.unwrap());
        if n > 200 {
            crowd.pop_front();
        }
        if n % 20 == 0 {
            let mut client = TestClient::open(&sockets, Connected::anonymous());
            let user = json!({ "user_id": format!("client-{n}") });
            client.join("room:1", user).await.unwrap();
            clients.push(client);
        }
    }
    presence.flush().await;
    let list = presence.list("room:1").await;
    let list = refs(&serde_json::from_slice(&list.json()).unwrap());
    for mut client in clients {
        let mut exact = Exact::default();
        follow(&mut client, &mut exact, list.len()).await;
        let expected = list
            .iter()
            .map(|(key, meta_ref)| (meta_ref.clone(), key.clone()));
        while exact.keys != expected.clone().collect() {
            follow_one(&mut client, &mut exact).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn soc_541_a_state_larger_than_the_queue_never_closes_its_reader() {
    let mut config = SocketConfig::default();
    config.max_queue_bytes = 2_048;
    config.fold_queue_bytes = 1_024;
    let (sockets, presence) = large_sockets(config);
    let mut crowd = Vec::new();
    for n in 0..500 {
        let here = presence.track_on("room:1", format!("user-{n}"), json!({}));
        crowd.push(here.await.unwrap());
    }
    presence.flush().await;
    let mut client = TestClient::open(&sockets, Connected::anonymous());
    client.join("room:1", json!({})).await.unwrap();
    let mut exact = Exact::default();
    follow(&mut client, &mut exact, 500).await;
    assert_eq!(sockets.metrics().slow_readers.value(), 0);
}

#[tokio::test(start_paused = true)]
async fn soc_700_a_join_finishes_however_small_the_queue_is_beside_the_parts_of_the_state() {
    // As large as a part, as large as nothing, and a list in one part that is larger than the
    // queue.
    for (n_users, fold_queue_bytes) in [(500, 1_024), (500, 0), (30, 1_024), (30, 0)] {
        let mut config = SocketConfig::default();
        config.max_queue_bytes = 1_024;
        config.fold_queue_bytes = fold_queue_bytes;
        let (sockets, presence) = large_sockets(config);
        let mut crowd = Vec::new();
        for n in 0..n_users {
            let here = presence.track_on("room:1", format!("user-{n}"), json!({}));
            crowd.push(here.await.unwrap());
        }
        presence.flush().await;
        let mut client = TestClient::open(&sockets, Connected::anonymous());
        let ada = json!({ "user_id": "ada" });
        client.join("room:1", ada).await.unwrap();
        let mut exact = Exact::default();
        follow(&mut client, &mut exact, n_users + 1).await;
        crowd.truncate(n_users / 2);
        follow(&mut client, &mut exact, n_users / 2 + 1).await;
        assert_eq!(client.call("room:1", "any", json!({})).await.0, "ok");
        assert_eq!(sockets.metrics().slow_readers.value(), 0);
    }
}

#[tokio::test]
async fn soc_701_large_states_of_many_channels_at_once_never_close_their_reader() {
    const N_ROOMS: usize = 40;
    const N_USERS: usize = 100;
    let mut config = SocketConfig::default();
    config.max_queue_bytes = 16 << 10;
    config.fold_queue_bytes = 8 << 10;
    let (sockets, presence) = large_sockets(config);
    let mut crowd = Vec::new();
    for room in 0..N_ROOMS {
        for n in 0..N_USERS {
            let topic = format!("room:{room}");
            let here = presence.track_on(&topic, format!("user-{n}"), json!({}));
            crowd.push(here.await.unwrap());
        }
    }
    presence.flush().await;
    let mut client = Client::v2(&start(sockets.clone()).await).await;
    for room in 0..N_ROOMS {
        let join_ref = room.to_string();
        let (topic, refs) = (format!("room:{room}"), (&*join_ref, &*join_ref));
        client.send(refs, &topic, "phx_join", json!({})).await;
    }
    let mut lists: BTreeMap<String, Exact> = BTreeMap::new();
    let is_all = |list: &Exact| list.keys.len() == N_USERS;
    while lists.len() < N_ROOMS || !lists.values().all(is_all) {
        let message = client.next().await;
        let list = lists.entry(message.topic).or_default();
        list.apply(&message.event, &message.payload);
    }
    assert_eq!(sockets.metrics().slow_readers.value(), 0);
}
