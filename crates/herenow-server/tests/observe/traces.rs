//! Traces, as a collector of OpenTelemetry gets them over HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::traces::Traces;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tracing_subscriber::layer::SubscriberExt as _;

use super::rig::Rig;

/// Spans by name, each with its attributes.
type Spans = Arc<Mutex<Vec<(String, BTreeMap<String, String>)>>>;

/// Takes in what an exporter sends.
fn collect(spans: &Spans, headers: &HeaderMap, body: Bytes) -> StatusCode {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    for of_resource in request.resource_spans {
        let resource = of_resource.resource.unwrap();
        let name = resource.attributes.iter().find(|a| a.key == "service.name");
        let name = name.unwrap().value.clone().unwrap().value;
        assert_eq!(name, Some(Attribute::StringValue("herenow".to_owned())));
        for span in of_resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            let attributes = span.attributes.into_iter().map(|attribute| {
                let value = match attribute.value.unwrap().value.unwrap() {
                    Attribute::StringValue(text) => text,
                    Attribute::IntValue(n) => n.to_string(),
                    Attribute::BoolValue(is) => is.to_string(),
                    other => format!("{other:?}"),
                };
                (attribute.key, value)
            });
            spans.lock().push((span.name, attributes.collect()));
        }
    }
    StatusCode::OK
}

#[tokio::test]
async fn srv_864_a_collector_gets_spans_of_handshakes_joins_and_requests() {
    let spans = Spans::default();
    let taking = spans.clone();
    let take =
        move |headers: HeaderMap, body: Bytes| async move { collect(&taking, &headers, body) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap());
    let collector = Router::new().route("/v1/traces", post(take));
    let collector = tokio::spawn(async move { axum::serve(listener, collector).await });
    let flag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let sources = Sources {
        flags: vec![
            flag("otel.endpoint", &endpoint),
            flag("otel.sample_percent", "100"),
        ],
        ..Sources::default()
    };
    let config = ServerConfig::load(&sources).unwrap().observe.traces;
    // Its client of HTTP is one that blocks, which must not be made inside tokio.
    let started = thread::spawn(move || Traces::start(&config).unwrap());
    let (traces, layer) = started.join().unwrap();
    let subscriber = tracing_subscriber::registry().with(layer);
    let listening = tracing::subscriber::set_default(subscriber);
    let rig = Rig::start().await;
    let ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    assert_eq!(rig.get("/api/topics/room:1").await.status, 200);
    drop(ada);
    rig.stop().await;
    drop(listening);
    // Blocks until the collector has answered, which is served on this thread.
    tokio::task::spawn_blocking(|| traces.finish())
        .await
        .unwrap();
    let spans = spans.lock();
    let find = |name: &str| {
        let span = spans.iter().find(|(of, _)| of == name);
        &span
            .unwrap_or_else(|| panic!("{name} is not among {spans:?}"))
            .1
    };
    assert_eq!(find("handshake")["transport"], "websocket");
    assert_eq!(find("handshake")["status"], "101");
    assert_eq!(find("join")["is_joined"], "true");
    let request = find("api_request");
    assert_eq!(request["route"], "/api/topics/{topic}");
    assert_eq!((&*request["method"], &*request["status"]), ("GET", "200"));
    // Nothing of whom or what they are about.
    let shown = format!("{spans:?}");
    assert!(
        !shown.contains("room:1") && !shown.contains("ada"),
        "{shown}"
    );
    collector.abort();
}
