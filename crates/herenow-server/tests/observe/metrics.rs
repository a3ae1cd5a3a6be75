//! `/metrics`: that the numbers are what happened, and that what reads them can.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use herenow_pubsub::conformance::reserve_port;
use serde_json::json;

use super::rig::Rig;
use super::{scrape, until_metric};

const READ: &str = "ask:read:rrrrrrrrrrrrrrrr";

#[tokio::test]
async fn srv_845_the_metrics_say_what_happened() {
    let rig = Rig::start().await;
    let nothing = scrape(&rig).await;
    assert_eq!(nothing["herenow_connects_total"], 0.0);
    assert_eq!(nothing["herenow_ready"], 1.0);
    let mut ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    let bob = rig
        .connect("&user_id=bob")
        .await
        .joined("room:1", json!({}))
        .await;
    ada.ok("room:1", "said", json!({ "text": "hello" })).await;
    let (status, _) = ada.join("nowhere", json!({})).await;
    assert_eq!(status, "error");
    assert_eq!(rig.get("/api/topics").await.status, 200);
    assert_eq!(rig.get("/api/topics?limit=0").await.status, 400);
    until_metric(&rig, "herenow_presence_joins_total", |n| n == 2.0).await;
    let seen = scrape(&rig).await;
    for (name, value) in [
        ("herenow_connections", 2.0),
        ("herenow_connects_total", 2.0),
        ("herenow_channels", 2.0),
        ("herenow_joins_total", 2.0),
        ("herenow_joins_refused_total", 1.0),
        ("herenow_messages_received_total", 4.0),
        ("herenow_handshake_seconds_count", 2.0),
        ("herenow_handshake_seconds_bucket{le=\"+Inf\"}", 2.0),
        ("herenow_join_seconds_count", 2.0),
        ("herenow_presences", 2.0),
        ("herenow_topics", 1.0),
        ("herenow_presences_tracked_total", 2.0),
        ("herenow_peers{state=\"up\"}", 0.0),
        (
            "herenow_api_requests_total{method=\"GET\",route=\"/api/topics\",status=\"2xx\"}",
            1.0,
        ),
        (
            "herenow_api_requests_total{method=\"GET\",route=\"/api/topics\",status=\"4xx\"}",
            1.0,
        ),
        ("herenow_api_request_seconds_count", 2.0),
    ] {
        assert_eq!(seen.get(name), Some(&value), "{name}");
    }
    for name in [
        "herenow_received_bytes_total",
        "herenow_sent_bytes_total",
        "herenow_messages_sent_total",
        "herenow_writes_total",
        "herenow_diffs_total",
        "herenow_broadcast_dispatch_seconds_count",
        "herenow_join_seconds_sum",
        "herenow_process_resident_memory_bytes",
        "herenow_uptime_seconds",
    ] {
        assert!(seen[name] > 0.0, "{name}");
    }
    drop((ada, bob));
    until_metric(&rig, "herenow_connections", |n| n == 0.0).await;
    until_metric(&rig, "herenow_presence_leaves_total", |n| n == 2.0).await;
    rig.stop().await;
}

#[tokio::test]
async fn srv_846_the_document_has_every_metric_and_no_other() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = herenow_server::metrics::document();
    if std::env::var_os("HERENOW_WRITE_DOCS").is_some() {
        std::fs::write(path, &document).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == document,
        "docs/metrics.md is not what the code says; HERENOW_WRITE_DOCS=1 writes it anew"
    );
    let rig = Rig::start().await;
    let exposed = exposed(&rig.get("/metrics").await.body);
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<_> = rows
        .map(|row| row.split_once('`').unwrap().0.to_owned())
        .collect();
    assert_eq!(exposed, documented);
    rig.stop().await;
}

/// The names of the metrics in a text of Prometheus.
pub(super) fn exposed(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

/// Runs promtool on `input`; whether it is content, and all that it says.
fn promtool(arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is in Debian's package prometheus; `cargo xtask test` installs it");
    let mut stdin = promtool.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    let ran = promtool.wait_with_output().unwrap();
    let said = [ran.stdout, ran.stderr].concat();
    (
        ran.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test]
async fn srv_848_prometheus_reads_both_formats() {
    let rig = Rig::start().await;
    let _ada = rig
        .connect("&user_id=ada")
        .await
        .joined("room:1", json!({}))
        .await;
    assert_eq!(rig.get("/api/topics").await.status, 200);
    let plain = rig.get("/metrics").await;
    assert_eq!(
        plain.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    assert_eq!(plain.header("cache-control"), Some("no-store"));
    let (is_fine, said) = promtool(&["check", "metrics"], plain.body.as_bytes());
    assert!(is_fine && said.is_empty(), "{said}");
    // As Prometheus itself asks.
    let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3\r\n";
    let open = rig.http("GET", "/metrics", accept, "").await;
    assert_eq!(
        open.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    // Prometheus' own parser of it is in the tool that imports old samples, which have times.
    let mut n_samples = 0;
    let with_time = |line: &str| {
        let is_sample = !line.starts_with('#');
        n_samples += usize::from(is_sample);
        format!("{line}{}\n", if is_sample { " 1700000000.000" } else { "" })
    };
    let text: String = open.body.lines().map(with_time).collect();
    let to = std::env::temp_dir().join(format!("herenow-observe-{}", std::process::id()));
    std::fs::create_dir_all(&to).unwrap();
    let source = to.join("metrics.txt");
    std::fs::write(&source, text).unwrap();
    let (source, blocks) = (source.to_str().unwrap(), to.join("blocks"));
    let import = [
        "tsdb",
        "create-blocks-from",
        "openmetrics",
        source,
        blocks.to_str().unwrap(),
    ];
    let (is_fine, said) = promtool(&import, b"");
    std::fs::remove_dir_all(&to).unwrap();
    let is_complete = said
        .split_whitespace()
        .any(|word| word == n_samples.to_string());
    assert!(
        is_fine && is_complete && n_samples > 100,
        "{n_samples}: {said}"
    );
    assert!(open.body.contains("# UNIT herenow_join_seconds seconds\n"));
    assert!(open.body.ends_with("# EOF\n"));
    rig.stop().await;
}

#[tokio::test]
async fn srv_849_a_scrape_needs_the_right_to_read_unless_metrics_are_open() {
    let rig = Rig::with(&[("api.keys", READ)]).await;
    assert_eq!(rig.get("/metrics").await.status, 401);
    let key = "authorization: Bearer rrrrrrrrrrrrrrrr\r\n";
    assert_eq!(rig.http("GET", "/metrics", key, "").await.status, 200);
    rig.stop().await;
    let rig = Rig::with(&[("api.keys", READ), ("metrics.open", "true")]).await;
    assert_eq!(rig.get("/metrics").await.status, 200);
    assert_eq!(rig.get("/api/topics").await.status, 401);
    rig.stop().await;
    let address = SocketAddr::from(([127, 0, 0, 1], reserve_port()));
    let mut rig = Rig::with(&[("api.listen", &address.to_string())]).await;
    assert_eq!(rig.get("/metrics").await.status, 404);
    rig.address = address;
    assert_eq!(
        rig.get("/metrics").await.status,
        200,
        "it is where the API is"
    );
    rig.stop().await;
}
