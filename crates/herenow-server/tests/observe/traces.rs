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
use tokio::task::JoinHandle;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;

use super::hooks::{Mood, Receiver, Request, flags, meta};
use super::rig::Rig;

/// A span as it came.
#[derive(Debug, Clone)]
struct Span {
    name: String,
    id: Vec<u8>,
    parent: Vec<u8>,
    attributes: BTreeMap<String, String>,
}

const JSON: &str = "content-type: application/json\r\n";

type Spans = Arc<Mutex<Vec<Span>>>;

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
            spans.lock().push(Span {
                name: span.name,
                id: span.span_id,
                parent: span.parent_span_id,
                attributes: attributes.collect(),
            });
        }
    }
    StatusCode::OK
}

/// A collector, traces that are sent to it, and what listens for them on this thread.
struct Tracing {
    spans: Spans,
    collector: JoinHandle<std::io::Result<()>>,
    traces: Traces,
    listening: DefaultGuard,
}

impl Tracing {
    async fn start() -> Self {
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
        Self {
            spans,
            collector,
            traces,
            listening,
        }
    }

    /// Everything that was sent, now that all is over.
    async fn finish(self) -> Vec<Span> {
        drop(self.listening);
        // Blocks until the collector has answered, which is served on this thread.
        tokio::task::spawn_blocking(|| self.traces.finish())
            .await
            .unwrap();
        self.collector.abort();
        self.spans.lock().clone()
    }
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let span = spans.iter().find(|span| span.name == name);
    span.unwrap_or_else(|| panic!("{name} is not among {spans:?}"))
}

#[tokio::test]
async fn srv_864_a_collector_gets_spans_of_handshakes_joins_and_requests() {
    let tracing = Tracing::start().await;
    let rig = Rig::start().await;
    let ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    assert_eq!(rig.get("/api/topics/room:1").await.status, 200);
    drop(ada);
    rig.stop().await;
    let spans = tracing.finish().await;
    let of = |name: &str| &find(&spans, name).attributes;
    assert_eq!(of("handshake")["transport"], "websocket");
    assert_eq!(of("handshake")["status"], "101");
    assert_eq!(of("join")["is_joined"], "true");
    let request = of("api_request");
    assert_eq!(request["route"], "/api/topics/{topic}");
    assert_eq!((&*request["method"], &*request["status"]), ("GET", "200"));
    // Nothing of whom or what they are about.
    let shown = format!("{spans:?}");
    assert!(
        !shown.contains("room:1") && !shown.contains("ada"),
        "{shown}"
    );
}

#[tokio::test]
async fn srv_1156_a_batch_for_a_webhook_is_a_span_with_one_for_each_attempt() {
    let tracing = Tracing::start().await;
    let receiver = Receiver::start(Mood::Refuses(503)).await;
    let rig = Rig::with(&flags(&receiver.url(), &[])).await;
    let path = "/api/topics/room:1/presences/ada";
    let put = rig.http("PUT", path, JSON, &meta("x")).await;
    assert_eq!(put.status, 201);
    let failed = |requests: &[Request]| !requests.is_empty();
    receiver.until("a failure", failed).await;
    receiver.become_(Mood::Takes);
    receiver.taken(2).await;
    rig.stop().await;
    let spans = tracing.finish().await;
    let batch = find(&spans, "webhook");
    assert_eq!(batch.attributes["webhook"], "1");
    assert_eq!(batch.attributes["is_delivered"], "true");
    let requests = spans.iter().filter(|span| span.name == "webhook_request");
    let its: Vec<&Span> = requests.filter(|span| span.parent == batch.id).collect();
    assert_eq!(its[0].attributes["status"], "503");
    assert_eq!(its.last().unwrap().attributes["status"], "204");
    assert_eq!(batch.attributes["n_attempts"], its.len().to_string());
    let shown = format!("{spans:?}");
    assert!(
        !shown.contains("room:1") && !shown.contains("ada"),
        "{shown}"
    );
}

#[tokio::test]
async fn srv_1157_a_look_up_that_a_join_waits_for_is_below_it() {
    let tracing = Tracing::start().await;
    let answer = || async { axum::Json(json!({ "ada": { "name": "Ada" } })) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/fields", listener.local_addr().unwrap());
    let app = Router::new().route("/fields", post(answer));
    let application = tokio::spawn(async move { axum::serve(listener, app).await });
    let rig = Rig::with(&[("fetch.url", &url)]).await;
    let ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    drop(ada);
    rig.stop().await;
    let spans = tracing.finish().await;
    let join = find(&spans, "join");
    let below = |span: &&Span| span.name == "fetch" && span.parent == join.id;
    assert!(spans.iter().any(|span| below(&span)), "{spans:?}");
    application.abort();
}
