//! `GET /metrics`: what this node has counted, as Prometheus reads it.
//!
//! Nothing is counted here. The crates count into plain atomics of their own, and a scrape reads
//! them: `Snapshot` holds what one scrape saw, the `catalog` says what of it is which metric, and
//! the library writes it, as OpenMetrics for who asks for that and else as Prometheus' own text.
//! docs/metrics.md is made from the catalog.
//!
//! Labels have few values, known beforehand: never a topic, a user, an address or a name of a node.
//! Who may scrape is who may read the API, unless `metrics.open` lets everybody.

mod process;
mod snapshot;
mod catalog;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{self, Registry};

use self::catalog::{Metric, Read, Unit, metrics};
use self::snapshot::Snapshot;
pub(crate) use self::snapshot::Source;
use crate::config::Right;

/// What all names begin with.
const PREFIX: &str = "herenow";
const OPEN_METRICS: &str = "application/openmetrics-text";

/// The route of the metrics, behind the keys of the API.
pub(crate) fn router(source: Source) -> Router {
    let handler = source.api.access.guard(Right::Read, get(scrape));
    route(source, handler)
}

/// The route of the metrics, open to everybody.
pub(crate) fn open_router(source: Source) -> Router {
    route(source, get(scrape))
}

fn route(source: Source, handler: MethodRouter<Arc<Source>>) -> Router {
    Router::new()
        .route("/metrics", handler)
        .with_state(Arc::new(source))
}

/// The catalog as docs/metrics.md has it.
pub fn document() -> String {
    let mut document = String::from(INTRODUCTION);
    for (title, metrics) in metrics() {
        document += &format!(
            "\n## {title}\n\n| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n"
        );
        for metric in metrics {
            let labels: Vec<String> = metric.labels().iter().map(|l| format!("`{l}`")).collect();
            document += &format!(
                "| `{}` | {} | {} | {} |\n",
                metric.full_name(),
                metric.kind(),
                labels.join(", "),
                metric.help
            );
        }
    }
    document
}

const INTRODUCTION: &str = "\
# Metrics

What `GET /metrics` answers. The list is made from the code; a test fails when they differ, and \
writes it anew with `HERENOW_WRITE_DOCS=1 cargo nextest run -p herenow-server srv_846`.

With `api.keys`, a scrape needs a key with the right `read`; with `metrics.open = true` it needs \
none. With `api.listen`, the metrics are there and not on the main listener. A job for Prometheus:

```yaml
scrape_configs:
  - job_name: herenow
    authorization: { credentials_file: /etc/prometheus/herenow.key }
    static_configs: [{ targets: [\"10.0.0.5:4000\", \"10.0.0.6:4000\"] }]
```

Counters begin at zero with the process. Histograms have buckets of powers of two from 4 µs to \
8.4 s. No label is ever a topic, a user, an address, or the name of a node. \
[monitoring.md](monitoring.md) says what to watch and what each alarm means.
";

async fn scrape(State(source): State<Arc<Source>>, headers: HeaderMap) -> Response {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(source.look().await));
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let is_open_metrics = accepted.is_some_and(|accepted| accepted.contains(OPEN_METRICS));
    let mut body = String::new();
    let (content_type, written) = if is_open_metrics {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        (content_type, text::encode(&mut body, &registry))
    } else {
        let content_type = "text/plain; version=0.0.4; charset=utf-8";
        (content_type, prometheus_text::encode(&mut body, &registry))
    };
    written.expect("a String takes all that is written to it");
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for metric in metrics().into_iter().flat_map(|(_, metrics)| metrics) {
            let unit = metric.unit.map(Unit::named);
            let kind = metric.metric_type();
            let family =
                encoder.encode_descriptor(metric.name, metric.help, unit.as_ref(), kind)?;
            metric.encode(self, family)?;
        }
        Ok(())
    }
}

impl Metric {
    fn full_name(&self) -> String {
        let unit = self.unit.map(Unit::named);
        let unit = unit.as_ref().map(registry::Unit::as_str);
        let is_counter = matches!(self.metric_type(), MetricType::Counter);
        let total = is_counter.then_some("total");
        let parts = [Some(PREFIX), Some(self.name), unit, total];
        parts.into_iter().flatten().collect::<Vec<_>>().join("_")
    }

    fn metric_type(&self) -> MetricType {
        match self.read {
            Read::Counter(_) | Read::Time(_) | Read::Counters(..) => MetricType::Counter,
            Read::Gauge(_) | Read::MaybeGauge(_) | Read::Gauges(..) => MetricType::Gauge,
            Read::Histogram(_) => MetricType::Histogram,
        }
    }

    fn kind(&self) -> &'static str {
        match self.metric_type() {
            MetricType::Counter => "counter",
            MetricType::Histogram => "histogram",
            _ => "gauge",
        }
    }

    fn labels(&self) -> &'static [&'static str] {
        match self.read {
            Read::Counters(labels, _) | Read::Gauges(labels, _) => labels,
            Read::Counter(_)
            | Read::Time(_)
            | Read::Gauge(_)
            | Read::MaybeGauge(_)
            | Read::Histogram(_) => &[],
        }
    }

    fn encode(&self, snapshot: &Snapshot, mut to: MetricEncoder<'_>) -> fmt::Result {
        let counter = |mut to: MetricEncoder<'_>, value: u64| {
            to.encode_counter::<NoLabelSet, _, f64>(&value, None)
        };
        let with = |labels: &[&'static str], values: Vec<String>| -> Vec<(&'static str, String)> {
            labels.iter().copied().zip(values).collect()
        };
        match self.read {
            Read::Counter(read) => counter(to, read(snapshot)),
            Read::Time(read) => to.encode_counter::<NoLabelSet, _, f64>(&read(snapshot), None),
            Read::Gauge(read) => to.encode_gauge(&read(snapshot)),
            Read::MaybeGauge(read) => match read(snapshot) {
                Some(value) => to.encode_gauge(&value),
                None => Ok(()),
            },
            Read::Counters(labels, read) => {
                for (values, value) in read(snapshot) {
                    counter(to.encode_family(&with(labels, values))?, value)?;
                }
                Ok(())
            }
            Read::Gauges(labels, read) => {
                for (values, value) in read(snapshot) {
                    let labels = with(labels, values);
                    to.encode_family(&labels)?.encode_gauge(&value)?;
                }
                Ok(())
            }
            Read::Histogram(read) => {
                let counts = read(snapshot);
                let buckets: Vec<(f64, u64)> = counts
                    .buckets()
                    .map(|(bound, n)| (bound.map_or(f64::INFINITY, |bound| bound.as_secs_f64()), n))
                    .collect();
                let (sum, count) = (counts.sum().as_secs_f64(), counts.count());
                to.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }
}
