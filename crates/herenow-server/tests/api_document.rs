//! The document of the API, held against the server: each route is called, and each answer is what
//! the document says.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;

use std::collections::BTreeSet;

use serde_json::{Value, json};

use self::rig::{Answer, Rig};

/// Operation, path, body, and the status to be answered; in this order, the last one stops the
/// node.
const CALLS: &[(&str, &str, &str, u16)] = &[
    ("topics", "/api/topics?prefix=room:&limit=10", "", 200),
    ("topics", "/api/topics?limit=0", "", 400),
    ("count", "/api/topics/room:1", "", 200),
    ("count", "/api/topics/room:1?x=1", "", 400),
    (
        "counts",
        "/api/counts",
        r#"{"topics":["room:1","none"]}"#,
        200,
    ),
    ("counts", "/api/counts", r#"{"topics":7}"#, 400),
    ("presences", "/api/topics/room:1/presences", "", 200),
    (
        "presences",
        "/api/topics/room:1/presences?bare=true&limit=1",
        "",
        200,
    ),
    ("presence", "/api/topics/room:1/presences/ada", "", 200),
    ("presence", "/api/topics/room:1/presences/nobody", "", 404),
    (
        "hold",
        "/api/topics/room:1/presences/cleo",
        r#"{"meta":{"device":"tv"}}"#,
        201,
    ),
    (
        "hold",
        "/api/topics/room:1/presences/cleo",
        r#"{"lease_seconds":30}"#,
        200,
    ),
    (
        "hold",
        "/api/topics/room:1/presences/cleo",
        r#"{"lease_seconds":1}"#,
        400,
    ),
    (
        "patch",
        "/api/topics/room:1/presences/cleo",
        r#"{"meta":{"status":"away"}}"#,
        200,
    ),
    ("patch", "/api/topics/room:1/presences/nobody", r#"{}"#, 404),
    ("end", "/api/topics/room:1/presences/cleo", "", 204),
    ("end", "/api/topics/room:1/presences/cleo", "", 404),
    (
        "broadcast",
        "/api/topics/room:1/broadcast",
        r#"{"event":"hi","payload":{"x":1}}"#,
        202,
    ),
    (
        "broadcast",
        "/api/topics/room:1/broadcast",
        r#"{"event":"phx_join"}"#,
        400,
    ),
    ("where_is", "/api/keys/ada", "", 200),
    (
        "where_are",
        "/api/where",
        r#"{"keys":["ada","nobody"]}"#,
        200,
    ),
    ("forget_fields", "/api/fields?key=ada", "", 202),
    ("forget_fields", "/api/fields?topic=room:1", "", 202),
    ("forget_fields", "/api/fields", "", 202),
    ("forget_fields", "/api/fields?key=", "", 400),
    ("forget_fields", "/api/fields?key=ada&topic=room:1", "", 400),
    ("forget_fields", "/api/fields?keys=ada", "", 400),
    ("node", "/api/node", "", 200),
    ("cluster", "/api/cluster", "", 200),
    ("events", "/api/events?prefix=room:&events=joined", "", 200),
    ("events", "/api/events?topic=a&prefix=b", "", 400),
    ("index", "/api", "", 200),
    ("openapi", "/api/openapi.json", "", 200),
    ("evict_from", "/api/keys/ada/topics/room:1", "", 202),
    ("evict", "/api/keys/ada", "", 202),
    ("drain", "/api/drain", "", 202),
];

struct Document(Value);

impl Document {
    /// The operation, with its method and its path.
    fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
        })
    }

    /// Follows a reference, if this is one.
    fn at<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => self.0.pointer(&reference[1..]).unwrap(),
            None => value,
        }
    }

    /// Checks an answer against what the document says of the operation.
    fn check(&self, operation: &Value, answer: &Answer) {
        let id = &operation["operationId"];
        let response = &operation["responses"][answer.status.to_string()];
        assert!(
            response.is_object(),
            "{id} answered {}: {}",
            answer.status,
            answer.body
        );
        let response = self.at(response);
        let Some(content) = response["content"].as_object() else {
            return assert_eq!(answer.body, "", "{id} has no body");
        };
        let media = answer.header("content-type").unwrap();
        let schema = &content
            .get(media)
            .unwrap_or_else(|| panic!("{id}: {media}"))["schema"];
        if media == "text/event-stream" {
            return assert_eq!(schema["type"], "string"); // Its data is checked where it is told.
        }
        // The schema stands in the document, so that its references are found.
        let mut whole = self.0.clone();
        whole["$ref"] = schema["$ref"].clone();
        if whole["$ref"].is_null() {
            whole = schema.clone();
        }
        let validator = jsonschema::draft202012::new(&whole).unwrap();
        let body = answer.json();
        let errors: Vec<String> = validator
            .iter_errors(&body)
            .map(|e| e.to_string())
            .collect();
        assert_eq!(errors, [""; 0], "{id}: {body}");
    }
}

async fn call(rig: &Rig, method: &str, path: &str, key: &str, body: &str) -> Answer {
    let method = method.to_uppercase();
    let headers = match body {
        "" => format!("x-api-key: {key}\r\n"),
        _ => format!("x-api-key: {key}\r\ncontent-type: application/json\r\n"),
    };
    match path.starts_with("/api/events") {
        true => rig.head(&method, path, &headers).await,
        false => rig.http(&method, path, &headers, body).await,
    }
}

#[tokio::test]
async fn srv_660_every_route_of_the_document_answers_as_it_says() {
    let keys = "ask:read:rrrrrrrrrrrrrrrr,ops:admin:aaaaaaaaaaaaaaaa";
    let rig = Rig::with(&[("api.keys", keys)]).await;
    let ada = json!({ "user_id": "ada" });
    let _ada = rig.connect("").await.joined("room:1", ada).await;
    let document = Document(rig.get("/api/openapi.json").await.json());
    assert_eq!(document.0["openapi"], "3.1.0");
    let mut called = BTreeSet::new();
    for (id, path, body, status) in CALLS {
        let mut operations = document.operations();
        let found = operations.find(|(_, _, operation)| operation["operationId"] == **id);
        let (method, _, operation) = found.unwrap();
        if operation["security"].is_null() {
            for (key, status) in [("", 401), ("unknown-unknown-unknown", 401)] {
                let refused = call(&rig, method, path, key, body).await;
                assert_eq!(refused.status, status, "{id}");
                document.check(operation, &refused);
            }
            let may_read = operation["description"]
                .as_str()
                .unwrap()
                .contains("`read`");
            if !may_read {
                let refused = call(&rig, method, path, "rrrrrrrrrrrrrrrr", body).await;
                assert_eq!(refused.status, 403, "{id}");
                document.check(operation, &refused);
            }
        }
        let answer = call(&rig, method, path, "aaaaaaaaaaaaaaaa", body).await;
        assert_eq!(answer.status, *status, "{id}: {}", answer.body);
        document.check(operation, &answer);
        called.insert(*id);
    }
    let all = document
        .operations()
        .map(|(_, _, operation)| operation["operationId"].as_str());
    assert_eq!(called, all.map(Option::unwrap).collect());
    rig.ended().await;
}
