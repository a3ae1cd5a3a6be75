//! Area J: the client-side fold tells the same story as the reference's JavaScript client.
#![allow(
    clippy::unwrap_used,
    reason = "the helpers of these tests are tests too"
)]

#[path = "support/frames.rs"]
mod common;

use common::json;
use herenow_protocol::{
    Change, Entry, FoldError, Folded, JoinRef, Payload, PresenceDiff, PresenceFold, PresenceState,
};

const STATE: &str = r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]},"u2":{"metas":[{"id":2,"phx_ref":"2"}]},"u3":{"metas":[{"id":3,"phx_ref":"3"}]}}"#;
const JOINS: &str = r#"{"u1":{"metas":[{"id":1,"phx_ref":"1.2"}]}}"#;
const LEAVES: &str = r#"{"u2":{"metas":[{"id":2,"phx_ref":"2"}]}}"#;

fn payload(text: &str) -> Payload {
    Payload::from_json_text(text.to_owned().into()).unwrap()
}

fn state(text: &str) -> PresenceState {
    PresenceState::from_payload(&payload(text)).unwrap()
}

fn diff(joins: &str, leaves: &str) -> PresenceDiff {
    PresenceDiff {
        joins: state(joins),
        leaves: state(leaves),
    }
}

fn to_json(state: &PresenceState) -> String {
    serde_json::to_string(state).unwrap()
}

fn refs(entry: &Entry) -> String {
    entry
        .metas()
        .iter()
        .map(|meta| meta.phx_ref())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A change as `+key [before] joined` or `-key [after] left`, refs only.
fn told(change: Change<'_>) -> String {
    match change {
        Change::Joined {
            key,
            current,
            joined,
        } => {
            let current = current.map_or("none".into(), |entry| format!("[{}]", refs(entry)));
            format!("+{key} {current} {}", refs(joined))
        }
        Change::Left {
            key, current, left, ..
        } => {
            format!("-{key} [{}] {}", refs(current), refs(left))
        }
    }
}

fn sync_state(state: &mut PresenceState, new: &PresenceState) -> Vec<String> {
    let mut story = Vec::new();
    state.sync_state(new, &mut |change| story.push(told(change)));
    story
}

fn sync_diff(state: &mut PresenceState, diff: &PresenceDiff) -> Vec<String> {
    let mut story = Vec::new();
    state.sync_diff(diff, &mut |change| story.push(told(change)));
    story
}

/// A fold of one channel, with what it told.
struct Client {
    fold: PresenceFold,
    join_ref: JoinRef,
    story: Vec<String>,
}

impl Client {
    fn new() -> Self {
        Self {
            fold: PresenceFold::new(),
            join_ref: "1".into(),
            story: Vec::new(),
        }
    }

    fn receive(&mut self, event: &str, text: &str) -> Folded {
        let story = &mut self.story;
        let observe = &mut |change: Change<'_>| story.push(told(change));
        self.fold
            .handle_event(&self.join_ref, event, &payload(text), observe)
            .unwrap()
    }

    fn receive_diff(&mut self, joins: &str, leaves: &str) -> Folded {
        self.receive(
            "presence_diff",
            &format!(r#"{{"joins":{joins},"leaves":{leaves}}}"#),
        )
    }

    fn ids(&self) -> Vec<u32> {
        let entries = self.fold.state().list();
        entries
            .map(|(_, entry)| entry.metas()[0].field("id").unwrap())
            .collect()
    }
}

#[test]
fn j_01_syncing_a_state_into_an_empty_one_gives_the_state() {
    let before = PresenceState::default();
    let new = state(r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]}}"#);
    let mut synced = before.clone();
    sync_state(&mut synced, &new);
    assert_eq!(synced, new);
    assert!(before.is_empty());
}

#[test]
fn j_02_syncing_tells_new_keys_as_joins_and_missing_ones_as_leaves() {
    let mut synced = state(r#"{"u4":{"metas":[{"id":4,"phx_ref":"4"}]}}"#);
    let story = sync_state(&mut synced, &state(STATE));
    assert_eq!(
        story,
        ["+u1 none 1", "+u2 none 2", "+u3 none 3", "-u4 [] 4"]
    );
    assert_eq!(to_json(&synced), STATE);
}

#[test]
fn j_03_syncing_tells_only_the_metas_that_joined() {
    let new = r#"{"u3":{"metas":[{"id":3,"phx_ref":"3"},{"id":3,"phx_ref":"3.new"}]}}"#;
    let mut synced = state(r#"{"u3":{"metas":[{"id":3,"phx_ref":"3"}]}}"#);
    assert_eq!(sync_state(&mut synced, &state(new)), ["+u3 [3] 3.new"]);
    assert_eq!(to_json(&synced), new);
}

#[test]
fn j_04_a_diff_into_an_empty_state_gives_its_joins() {
    let mut synced = PresenceState::default();
    sync_diff(&mut synced, &diff(JOINS, "{}"));
    assert_eq!(to_json(&synced), JOINS);
}

#[test]
fn j_05_a_diff_adds_metas_at_the_end_and_removes_empty_keys() {
    let mut synced = state(STATE);
    sync_diff(&mut synced, &diff(JOINS, LEAVES));
    assert_eq!(
        to_json(&synced),
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"},{"id":1,"phx_ref":"1.2"}]},"u3":{"metas":[{"id":3,"phx_ref":"3"}]}}"#
    );
}

#[test]
fn j_06_a_leave_removes_only_its_meta() {
    let mut synced = state(r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"},{"id":1,"phx_ref":"1.2"}]}}"#);
    let story = sync_diff(
        &mut synced,
        &diff("{}", r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]}}"#),
    );
    assert_eq!(story, ["-u1 [1.2] 1"]);
    assert_eq!(
        to_json(&synced),
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1.2"}]}}"#
    );
}

#[test]
fn j_07_keys_are_data_when_a_state_is_synced() {
    let odd = r#"{"__proto__":{"metas":[{"id":1,"phx_ref":"1"}]},"constructor":{"metas":[{"id":2,"phx_ref":"2"}]},"hasOwnProperty":{"metas":[{"id":3,"phx_ref":"3"}]}}"#;
    let mut client = Client::new();
    assert_eq!(client.receive("presence_state", odd), Folded::Synced);
    assert_eq!(
        std::mem::take(&mut client.story),
        [
            "+__proto__ none 1",
            "+constructor none 2",
            "+hasOwnProperty none 3"
        ]
    );
    assert_eq!(client.ids(), [1, 2, 3]);
    client.receive("presence_state", "{}");
    assert_eq!(
        client.story,
        [
            "-__proto__ [] 1",
            "-constructor [] 2",
            "-hasOwnProperty [] 3"
        ]
    );
    assert!(client.fold.state().is_empty());
}

#[test]
fn j_08_keys_are_data_when_a_diff_is_synced() {
    let proto = r#"{"__proto__":{"metas":[{"id":1,"phx_ref":"1"}]}}"#;
    let mut synced = PresenceState::default();
    assert_eq!(
        sync_diff(&mut synced, &diff(proto, "{}")),
        ["+__proto__ none 1"]
    );
    assert_eq!(to_json(&synced), proto);
    assert_eq!(
        sync_diff(&mut synced, &diff("{}", proto)),
        ["-__proto__ [] 1"]
    );
    assert!(synced.is_empty());
}

#[test]
fn j_09_list_gives_every_entry() {
    let listed = state(STATE);
    let keys: Vec<_> = listed
        .list()
        .map(|(key, entry)| (key, entry.metas().len()))
        .collect();
    assert_eq!(keys, [("u1", 1), ("u2", 1), ("u3", 1)]);
}

#[test]
fn j_10_list_can_be_mapped_to_the_first_meta() {
    let listed =
        state(r#"{"u1":{"metas":[{"id":1,"phx_ref":"1.first"},{"id":1,"phx_ref":"1.second"}]}}"#);
    let first: Vec<_> = listed
        .list()
        .map(|(_, entry)| entry.metas()[0].phx_ref())
        .collect();
    assert_eq!(first, ["1.first"]);
}

#[test]
fn j_11_a_state_then_a_diff() {
    let mut client = Client::new();
    client.receive(
        "presence_state",
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]},"u2":{"metas":[{"id":2,"phx_ref":"2"}]}}"#,
    );
    assert_eq!(client.ids(), [1, 2]);
    client.receive_diff("{}", r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]}}"#);
    assert_eq!(client.ids(), [2]);
}

#[test]
fn j_12_diffs_before_the_state_wait_for_it() {
    let mut client = Client::new();
    assert_eq!(client.receive_diff("{}", LEAVES), Folded::Pending);
    assert_eq!((client.ids(), client.fold.n_pending()), (vec![], 1));
    client.receive(
        "presence_state",
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]},"u2":{"metas":[{"id":2,"phx_ref":"2"}]}}"#,
    );
    assert_eq!(client.story, ["+u1 none 1", "+u2 none 2", "-u2 [] 2"]);
    assert_eq!((client.ids(), client.fold.n_pending()), (vec![1], 0));
}

#[test]
fn j_13_a_rejoin_makes_diffs_wait_again() {
    let mut client = Client::new();
    client.receive(
        "presence_state",
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]}}"#,
    );
    client.join_ref = "2".into();
    assert!(client.fold.is_pending(&client.join_ref));
    client.receive_diff("{}", r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]}}"#);
    assert_eq!(client.ids(), [1]);
    client.receive(
        "presence_state",
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]},"u3":{"metas":[{"id":3,"phx_ref":"3"}]}}"#,
    );
    assert_eq!(client.ids(), [3]);
    assert!(!client.fold.is_pending(&client.join_ref));
}

#[test]
fn j_14_events_may_have_other_names() {
    let mut fold = PresenceFold::with_events("the_state", "the_diff");
    let mut receive = |event, text| {
        fold.handle_event(&"1".into(), event, &payload(text), &mut |_| {})
            .unwrap()
    };
    assert_eq!(receive("presence_state", STATE), Folded::Other);
    assert_eq!(receive("the_state", STATE), Folded::Synced);
    let diff = format!(r#"{{"joins":{{}},"leaves":{LEAVES}}}"#);
    assert_eq!(receive("the_diff", &diff), Folded::Synced);
    assert_eq!(fold.state().len(), 2);
}

#[test]
fn j_15_an_update_is_one_join_with_the_old_entry_as_current() {
    let mut client = Client::new();
    client.receive(
        "presence_state",
        r#"{"u1":{"metas":[{"id":1,"phx_ref":"1"}]},"u2":{"metas":[{"name":"chris","phx_ref":"2"}]}}"#,
    );
    client.story.clear();
    client.receive_diff(
        r#"{"u2":{"metas":[{"name":"chris.2","phx_ref":"2.2","phx_ref_prev":"2"}]}}"#,
        r#"{"u2":{"metas":[{"name":"chris","phx_ref":"2"}]}}"#,
    );
    assert_eq!(client.story, ["+u2 [2] 2.2", "-u2 [2.2] 2"]);
    let metas = client.fold.state().get("u2").unwrap().metas();
    assert_eq!(metas.len(), 1);
    assert_eq!(metas[0].phx_ref_prev(), Some("2"));
    assert_eq!(metas[0].field::<String>("name").as_deref(), Some("chris.2"));
}

#[test]
fn j_16_every_state_and_applied_diff_is_synced_once_and_a_waiting_one_is_not() {
    let mut client = Client::new();
    assert_eq!(client.receive_diff(JOINS, "{}"), Folded::Pending);
    assert_eq!(client.receive("presence_state", STATE), Folded::Synced);
    assert_eq!(client.receive_diff(JOINS, "{}"), Folded::Synced);
    assert_eq!(client.receive("other", "{}"), Folded::Other);
}

#[test]
fn j_17_nobody_has_to_observe() {
    let mut synced = PresenceState::default();
    synced.sync_state(&state(STATE), &mut |_| {});
    synced.sync_diff(&diff(JOINS, LEAVES), &mut |_| {});
    assert_eq!(synced.len(), 2);
}

#[test]
fn a_join_told_twice_is_there_once() {
    let mut synced = state(STATE);
    sync_diff(&mut synced, &diff(JOINS, "{}"));
    let story = sync_diff(&mut synced, &diff(JOINS, "{}"));
    assert_eq!(story, ["+u1 [1 1.2] 1.2"]);
    assert_eq!(refs(synced.get("u1").unwrap()), "1 1.2");
}

#[test]
fn a_leave_of_an_unknown_ref_is_told_if_the_key_is_there() {
    let mut synced = state(STATE);
    let unknown = r#"{"u1":{"metas":[{"phx_ref":"x"}]},"u9":{"metas":[{"phx_ref":"y"}]}}"#;
    assert_eq!(sync_diff(&mut synced, &diff("{}", unknown)), ["-u1 [1] x"]);
    assert_eq!(to_json(&synced), STATE);
}

#[test]
fn fields_beside_the_metas_are_taken_over_where_a_meta_joined() {
    let mut synced = state(r#"{"u":{"metas":[{"phx_ref":"1"}],"name":"old"}}"#);
    sync_state(
        &mut synced,
        &state(r#"{"u":{"metas":[{"phx_ref":"1"}],"name":"new"}}"#),
    );
    let name = |synced: &PresenceState| synced.get("u").unwrap().field::<String>("name").unwrap();
    assert_eq!(name(&synced), "old");
    let grown = r#"{"u":{"metas":[{"phx_ref":"1"},{"phx_ref":"2"}],"name":"new"}}"#;
    sync_state(&mut synced, &state(grown));
    assert_eq!(
        (name(&synced), refs(synced.get("u").unwrap())),
        ("new".into(), "1 2".into())
    );
}

#[test]
fn keys_come_in_the_order_of_a_javascript_object() {
    let mut synced = PresenceState::default();
    let metas = r#"{"metas":[{"phx_ref":"1"}]}"#;
    let keys = [
        "b",
        "10",
        "01",
        "9",
        "a",
        "4294967295",
        "4294967294",
        "0",
        "-1",
        "+2",
    ];
    for key in keys {
        sync_diff(&mut synced, &diff(&format!(r#"{{"{key}":{metas}}}"#), "{}"));
    }
    let order: Vec<_> = synced.list().map(|(key, _)| key).collect();
    assert_eq!(
        order,
        [
            "0",
            "9",
            "10",
            "4294967294",
            "b",
            "01",
            "a",
            "4294967295",
            "-1",
            "+2"
        ]
    );
    // A key that comes back goes to the end.
    sync_diff(&mut synced, &diff("{}", &format!(r#"{{"b":{metas}}}"#)));
    sync_diff(&mut synced, &diff(&format!(r#"{{"b":{metas}}}"#), "{}"));
    assert_eq!(synced.list().last().unwrap().0, "b");
}

#[test]
fn malformed_messages_change_nothing() {
    let mut fold = PresenceFold::new();
    let mut receive = |event, payload| {
        fold.handle_event(&"1".into(), event, &payload, &mut |_| {
            panic!("nothing to tell")
        })
    };
    for text in [
        "[]",
        "1",
        r#"{"u1":{}}"#,
        r#"{"u1":{"metas":1}}"#,
        r#"{"u1":{"metas":[1]}}"#,
    ] {
        assert!(receive("presence_state", json(text)).is_err(), "{text}");
    }
    assert!(matches!(
        receive("presence_diff", Payload::Binary("x".into())),
        Err(FoldError::Payload(_))
    ));
    assert!(fold.state().is_empty());
}
