//! What a lane holds for a reader who is behind, and in which order it goes out.

use std::num::NonZero;
use std::sync::atomic::AtomicBool;
use std::task::{Context, Wake, Waker};

use herenow_presence::Presence;
use herenow_protocol::{JoinRef, Payload, PresenceFold, Serializer};
use herenow_pubsub::{PubSub, Sink};
use parking_lot::Mutex;
use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::mailbox::Mailbox;

/// Collects the diffs of a topic, to be delivered when the test wants.
#[derive(Default)]
struct Diffs(Mutex<Vec<Broadcast>>);

impl Sink for Diffs {
    fn deliver(&self, broadcast: &Broadcast, _: &mut Once) {
        self.0.lock().push(broadcast.clone());
    }
}

fn held_lane() -> Lane {
    let mailbox = Mailbox::new(Arc::default(), Arc::default(), Arc::default(), None);
    let mut state = herenow_protocol::SocketState::new();
    let join = herenow_protocol::Message {
        join_ref: Some("1".into()),
        message_ref: Some("1".into()),
        topic: "room:1".into(),
        event: event::JOIN.into(),
        payload: Payload::empty(),
    };
    let action = state.handle_message(&Default::default(), join, |_| true);
    let herenow_protocol::Action::Join(request) = action else {
        panic!("{action:?}")
    };
    let topic = Arc::from("room:1");
    Lane::new(mailbox, Serializer::V2, request.slot, topic, None, &[])
}

fn frames(lane: &Lane) -> Vec<String> {
    let frames = lane.mailbox.take_frames();
    let texts = frames.iter().map(|frame| frame.to_encoded().unwrap());
    texts
        .map(|text| String::from_utf8(text.bytes.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn soc_402_a_diff_does_not_overtake_one_that_is_being_delivered() {
    let (pubsub, diffs) = (PubSub::local(), Arc::new(Diffs::default()));
    let presence = Presence::new(&pubsub);
    let _attachment = pubsub.attach("room:1", diffs.clone());
    let ada = presence.track_on("room:1", "ada", ()).await;
    assert!(ada.is_err(), "a meta is an object");
    let ada = presence
        .track_on("room:1", "ada", serde_json::json!({}))
        .await
        .unwrap();
    presence.flush().await;
    ada.untrack().await;
    presence.flush().await;
    let diffs = std::mem::take(&mut *diffs.0.lock());
    let [join, leave] = &diffs[..] else {
        panic!("{diffs:?}")
    };
    let lane = held_lane();
    lane.deliver(join, &mut Once::new());
    lane.release();
    let (_, taken) = lane.mailbox.take_aside().unwrap();
    // The connection's task has taken the join out; the leave comes before it is delivered.
    lane.deliver(leave, &mut Once::new());
    assert!(frames(&lane).is_empty(), "the leave waits for the join");
    lane.deliver_aside(taken);
    while let Some((_, taken)) = lane.mailbox.take_aside() {
        lane.deliver_aside(taken);
    }
    let texts = frames(&lane);
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(texts[0].contains(r#""joins":{"ada""#), "{texts:?}");
    assert!(texts[1].contains(r#""leaves":{"ada""#), "{texts:?}");
    assert!(lane.mailbox.take_aside().is_none());
}

/// The diff of a join, and a state that has it.
async fn join_and_state() -> (Broadcast, Presences) {
    let (pubsub, diffs) = (PubSub::local(), Arc::new(Diffs::default()));
    let presence = Presence::new(&pubsub);
    let _attachment = pubsub.attach("room:1", diffs.clone());
    let ada = presence.track_on("room:1", "ada", serde_json::json!({}));
    let _ada = ada.await.unwrap();
    presence.flush().await;
    let join = diffs.0.lock()[0].clone();
    (join, presence.list("room:1").await)
}

#[tokio::test]
async fn soc_440_a_lane_that_follows_one_whose_client_has_diffs_trims_none() {
    let (join, state) = join_and_state().await;
    let old = held_lane();
    old.release();
    old.deliver(&join, &mut Once::new());
    let lane = held_lane();
    lane.succeed(&old);
    lane.release();
    lane.push(event::PRESENCE_STATE, state).unwrap();
    lane.deliver(&join, &mut Once::new());
    assert_eq!(frames(&lane).len(), 2);
}

#[tokio::test]
async fn soc_441_a_diff_that_the_channel_pushes_itself_is_trimmed_as_others_are() {
    let (join, state) = join_and_state().await;
    let lane = held_lane();
    lane.release();
    lane.push(event::PRESENCE_STATE, state).unwrap();
    lane.push(event::PRESENCE_DIFF, join.payload.clone())
        .unwrap();
    assert_eq!(frames(&lane).len(), 1, "the state has the join already");
    lane.push("other_event", join.payload).unwrap();
    assert_eq!(frames(&lane).len(), 1);
}

#[tokio::test]
async fn soc_403_what_waits_for_a_reader_is_bounded_by_the_presences() {
    let (pubsub, diffs) = (PubSub::local(), Arc::new(Diffs::default()));
    let presence = Presence::new(&pubsub);
    let _attachment = pubsub.attach("room:1", diffs.clone());
    let _stays = presence
        .track_on("room:1", "ada", serde_json::json!({}))
        .await
        .unwrap();
    for _ in 0..1_500 {
        let here = presence
            .track_on("room:1", "bob", serde_json::json!({}))
            .await;
        here.unwrap().untrack().await;
    }
    presence.flush().await;
    let lane = held_lane();
    for diff in &*diffs.0.lock() {
        lane.deliver(diff, &mut Once::new());
    }
    lane.release();
    let (_, taken) = lane.mailbox.take_aside().unwrap();
    let Taken::Diffs(diffs) = &taken else {
        panic!("{taken:?}")
    };
    let n_changes: usize = diffs.iter().map(|diff| diff.n_changes()).sum();
    assert!(n_changes < 2_048, "{n_changes} changes wait");
    lane.deliver_aside(taken);
    let texts = frames(&lane);
    assert!(
        texts[0].contains("ada") && !texts[0].contains("bob"),
        "{texts:?}"
    );
}

/// A topic of 300 whose list is in parts, its diffs, and who is in it.
async fn large_room() -> (Presence, Arc<Diffs>, Vec<herenow_presence::Here>) {
    let (pubsub, diffs) = (PubSub::local(), Arc::new(Diffs::default()));
    let mut config = herenow_presence::PresenceConfig::default();
    config.big_room.parts_from_bytes = 1_000;
    config.big_room.part_bytes = NonZero::new(2_000).unwrap();
    let presence = Presence::builder(&pubsub).config(config).start().unwrap();
    let mut crowd = Vec::new();
    for n in 0..300 {
        let key = format!("user-{n:03}");
        let here = presence.track_on("room:1", key, serde_json::json!({}));
        crowd.push(here.await.unwrap());
    }
    presence.flush().await;
    std::mem::forget(pubsub.attach("room:1", diffs.clone()));
    (presence, diffs, crowd)
}

/// Takes all that a lane has for its client, and folds it as the client does.
fn folded(lane: &Lane) -> (Vec<String>, usize) {
    let (mut fold, join_ref) = (PresenceFold::new(), JoinRef::from("1"));
    let mut n_states = 0;
    loop {
        let mut frames = frames(lane);
        let aside = lane.mailbox.take_aside();
        if frames.is_empty() && aside.is_none() {
            break;
        }
        if let Some((_, taken)) = aside {
            lane.deliver_aside(taken);
        }
        frames.extend(self::frames(lane));
        for text in frames {
            let (_, _, _, event, payload): (Value, Value, Value, String, Box<RawValue>) =
                serde_json::from_str(&text).unwrap();
            n_states += usize::from(event == event::PRESENCE_STATE);
            let payload = Payload::Json(payload.get().to_owned().into());
            let folded = fold.handle_event(&join_ref, &event, &payload, &mut |_| {});
            folded.unwrap();
        }
    }
    let keys = fold.state().list().map(|(key, _)| key.to_owned());
    (keys.collect(), n_states)
}

async fn keys(presence: &Presence) -> Vec<String> {
    let keys = presence.list("room:1").await.keys();
    keys.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn soc_542_a_newer_state_takes_the_place_of_one_that_is_being_sent() {
    let (presence, _diffs, mut crowd) = large_room().await;
    let lane = held_lane();
    let old = presence.list("room:1").await;
    crowd.drain(150..).for_each(drop);
    presence.flush().await;
    lane.push(event::PRESENCE_STATE, old).unwrap();
    let new = presence.list("room:1").await;
    lane.push(event::PRESENCE_STATE, new).unwrap();
    lane.release();
    assert_eq!(folded(&lane), (keys(&presence).await, 2));
}

#[tokio::test]
async fn soc_702_parts_of_a_state_do_not_follow_a_newer_state() {
    let (presence, _diffs, mut crowd) = large_room().await;
    let lane = held_lane();
    lane.push(event::PRESENCE_STATE, presence.list("room:1").await)
        .unwrap();
    lane.release();
    let _first = frames(&lane);
    // The connection's task has taken the parts out; a small list comes before it sends them.
    let (_, parts) = lane.mailbox.take_aside().unwrap();
    crowd.drain(5..).for_each(drop);
    presence.flush().await;
    lane.push(event::PRESENCE_STATE, presence.list("room:1").await)
        .unwrap();
    lane.deliver_aside(parts);
    assert_eq!(folded(&lane), (keys(&presence).await, 1));
}

#[tokio::test]
async fn soc_543_diffs_wait_for_all_parts_of_the_state_before_them() {
    let (presence, diffs, mut crowd) = large_room().await;
    let lane = held_lane();
    lane.push(event::PRESENCE_STATE, presence.list("room:1").await)
        .unwrap();
    // Those in the last parts leave: their leaves must not come before their joins.
    crowd.drain(150..).for_each(drop);
    presence.flush().await;
    for diff in std::mem::take(&mut *diffs.0.lock()) {
        lane.deliver(&diff, &mut Once::new());
    }
    lane.release();
    assert_eq!(folded(&lane), (keys(&presence).await, 1));
}

/// Whether a connection's task was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn srv_1104_a_broadcast_wakes_connections_in_their_turn_and_not_all_at_once() {
    let lanes: Vec<Lane> = (0..100).map(|_| held_lane()).collect();
    let woken: Vec<Arc<Woken>> = (0..100).map(|_| Arc::default()).collect();
    for (lane, woken) in lanes.iter().zip(&woken) {
        lane.release();
        let waker = Waker::from(woken.clone());
        let is_parked = lane.mailbox.park(&Context::from_waker(&waker), true);
        assert!(is_parked);
    }
    let n_woken = || {
        let is_woken = |woken: &&Arc<Woken>| woken.0.load(Ordering::Relaxed);
        woken.iter().filter(is_woken).count()
    };
    let mut once = Once::new();
    let news = Broadcast::new("room:1", "news", Outgoing::json("{}"));
    lanes.iter().for_each(|lane| lane.deliver(&news, &mut once));
    drop(once);
    assert_eq!(n_woken(), 0);
    tokio::task::yield_now().await;
    assert!((1..100).contains(&n_woken()), "{}", n_woken());
    while n_woken() < 100 {
        tokio::task::yield_now().await;
    }
    assert!(lanes.iter().all(|lane| frames(lane).len() == 1));
}
