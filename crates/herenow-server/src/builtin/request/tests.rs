//! What is asked for, and what is refused.

use bytes::Bytes;
use serde_json::json;

use super::*;

const MAX_META: usize = 100;

fn json(value: &Value) -> Payload {
    Payload::Json(value.to_string().into())
}

fn meta(value: Value) -> Meta {
    serde_json::from_value(value).unwrap()
}

fn read(event: &str, payload: &Payload) -> Result<Request, Refusal> {
    super::read(event, payload, MAX_META)
}

fn reason(event: &str, payload: &Value) -> String {
    read(event, &json(payload)).unwrap_err().to_string()
}

fn user(payload: Value) -> Result<Option<String>, String> {
    let payload = json(&payload);
    let fields = JoinFields::read(&payload).unwrap();
    fields.user().map_err(|refusal| refusal.to_string())
}

#[test]
fn srv_20_the_user_is_the_joins_or_the_sockets_or_nobody() {
    let some = |user: &str| Ok(Some(user.to_owned()));
    assert_eq!(user(json!({ "user_id": "a" })), some("a"));
    assert_eq!(user(json!({ "user_id": 42 })), some("42"));
    assert_eq!(user(json!({ "user_id": null })), Ok(None));
    assert_eq!(user(json!({})), Ok(None));
    assert_eq!(
        user(json!({ "user_id": "" })).unwrap_err(),
        "user_id is empty"
    );
    assert_eq!(
        user(json!({ "user_id": [1] })).unwrap_err(),
        "user_id is a list, it must be a text"
    );
}

#[test]
fn srv_21_an_update_replaces_or_merges() {
    let read = |value| read("presence:update", &json(&value)).unwrap();
    assert_eq!(
        read(json!({ "meta": { "a": 1 } })),
        Request::Replace(meta(json!({ "a": 1 })))
    );
    assert_eq!(
        read(json!({ "patch": { "a": 1 } })),
        Request::Patch(meta(json!({ "a": 1 })))
    );
    for (payload, expected) in [
        (
            json!({}),
            "presence:update must have meta, which replaces, or patch, which is merged",
        ),
        (
            json!({ "meta": {}, "patch": {} }),
            "presence:update has meta and patch, it must have one of them",
        ),
        (
            json!({ "meta": 3 }),
            "meta is a number, it must be an object",
        ),
        (
            json!({ "patch": null }),
            "patch is null, it must be an object",
        ),
        (json!([]), "the payload is a list, it must be an object"),
    ] {
        assert_eq!(reason("presence:update", &payload), expected);
    }
}

#[test]
fn srv_22_a_patch_merges_and_null_removes_and_online_at_stays() {
    let mut whole = stamped(meta(json!({ "a": 1, "b": 2 })), 77);
    merge(
        &mut whole,
        meta(json!({ "a": null, "c": { "d": 1 }, "online_at": "0" })),
    );
    assert_eq!(
        whole,
        meta(json!({ "b": 2, "c": { "d": 1 }, "online_at": "77" }))
    );
    replace(&mut whole, meta(json!({ "e": 5, "online_at": "0" })));
    assert_eq!(whole, meta(json!({ "e": 5, "online_at": "77" })));
}

#[test]
fn srv_1757_a_meta_is_measured_before_it_is_read_whatever_else_is_sent_with_it() {
    let wide = format!("{{ {}\"a\" : 1 }}", " ".repeat(1_000));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_META - 7));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let beside = vec!["{}"; 1_000].join(",");
    let payload = |field: &str, meta: &str| {
        let text = format!("{{\"x\":[{beside}],\"{field}\":{meta}}}");
        Payload::from_json_text(text.into()).unwrap()
    };
    for (event, field, what) in [
        ("presence:track", "meta", "the meta"),
        ("presence:update", "meta", "the meta"),
        ("presence:update", "patch", "the patch"),
    ] {
        let read = |meta: &str| {
            let read = read(event, &payload(field, meta));
            read.map_err(|refusal| refusal.to_string())
        };
        assert!(read(&wide).is_ok(), "white space is not stored");
        let over = format!("{what} is 101 bytes, the limit is 100 (topics.max_meta_bytes)");
        assert_eq!(read(&long), Err(over));
        let refused = read(&deep).unwrap_err();
        let start = format!("{field} cannot be read: recursion limit exceeded");
        assert!(refused.starts_with(&start), "{refused}");
    }
    let payload = payload("meta", &long);
    let over = JoinFields::read(&payload).unwrap().meta(MAX_META);
    assert!(matches!(over, Err(Refusal::TooLong { len: 101, .. })));
    let status = json(&json!({ "status": "x".repeat(100) }));
    let over = read("status", &status).unwrap_err().to_string();
    let text = "the status is 113 bytes, the limit is 100 (topics.max_meta_bytes)";
    assert_eq!(over, text);
}

#[test]
fn srv_23_status_is_a_patch_of_one_field() {
    let status = read("status", &json(&json!({ "status": "away", "x": 1 }))).unwrap();
    assert_eq!(status, Request::Patch(meta(json!({ "status": "away" }))));
    assert!(reason("status", &json!({})).contains("{\"status\": \"away\"}"));
}

#[test]
fn srv_24_reserved_names_are_refused_with_their_name() {
    for event in [
        "phx_x",
        "phx_reply",
        "presence_diff",
        "presence:",
        "presence:foo",
    ] {
        let reason = reason(event, &json!({}));
        assert!(
            reason.starts_with(&format!("the event name {event} is reserved")),
            "{reason}"
        );
    }
    for event in ["phx", "presence", "my_presence_diff", "phy_x", ""] {
        assert_eq!(
            read(event, &json(&json!({}))).unwrap(),
            Request::Broadcast,
            "{event}"
        );
    }
}

#[test]
fn srv_980_a_page_has_a_limit_and_perhaps_a_cursor() {
    let read = |value| read("presence:list", &json(&value));
    assert_eq!(read(json!({})), Ok(Request::List));
    let (after, max) = (Some("ada".to_owned()), 1_000);
    let page = Request::Page { after, max };
    assert_eq!(read(json!({ "after": "ada", "limit": 1000 })), Ok(page));
    let refused = |value: Value| read(value).unwrap_err().to_string();
    let text = "presence:list has limit 1001, the limit is 1000 (presence:list, fixed)";
    assert_eq!(refused(json!({ "limit": 1001 })), text);
    for limit in [json!(0), json!(1.5), json!("9"), json!(-1)] {
        let text =
            format!("presence:list has limit {limit}, it must be a whole number from 1 to 1000");
        assert_eq!(refused(json!({ "limit": limit })), text);
    }
    let text = "presence:list has after without limit: a whole list has no pages";
    assert_eq!(refused(json!({ "after": "ada" })), text);
    let text = "after is a number, it must be a text";
    assert_eq!(refused(json!({ "after": 3, "limit": 1 })), text);
}

#[test]
fn srv_25_a_broadcast_is_an_object_or_binary() {
    assert_eq!(
        read("x", &Payload::Binary(Bytes::new())).unwrap(),
        Request::Broadcast
    );
    assert_eq!(
        reason("x", &json!([1])),
        "a broadcast's payload is a list, it must be an object"
    );
    assert_eq!(read("echo", &json(&json!([1]))).unwrap(), Request::Echo);
}
