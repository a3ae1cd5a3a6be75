//! Traces for OpenTelemetry, to where `otel.endpoint` says.
//!
//! Spans are made all over our crates, at the level `debug`: of handshakes, joins, look-ups,
//! deliveries to webhooks and requests to the API. While nobody asks for them, each is one
//! comparison. This module asks for them and sends a part over OTLP; a collector that is away costs
//! the spans and nothing else.
//!
//! Only a program that was built with the feature `otel` can.

use std::fmt;

use tracing_subscriber::Registry;
use tracing_subscriber::layer::Layer;

use crate::config::TraceConfig;

/// What hears the spans.
pub type SpanLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The program cannot.
    #[error(
        "otel.endpoint is {endpoint:?}, but this program was built without traces; build it with \
         --features otel"
    )]
    NotBuilt {
        /// What was configured.
        endpoint: String,
    },
    /// The way to the collector cannot be made.
    #[error("otel.endpoint is {endpoint:?}: {reason}")]
    Exporter {
        /// What was configured.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
}

/// The traces under way. To be finished outside of tokio.
#[derive(Default)]
pub struct Traces(Option<otlp::Sender>);

impl Traces {
    /// Begins to send traces, if `config` asks for it. Not to be called inside tokio.
    ///
    /// # Errors
    ///
    /// [`TraceError`]
    pub fn start(config: &TraceConfig) -> Result<(Self, Option<SpanLayer>), TraceError> {
        let Some(endpoint) = &config.endpoint else {
            return Ok((Self::default(), None));
        };
        let (sender, layer) = otlp::start(endpoint, config.sample_percent)?;
        Ok((Self(Some(sender)), Some(layer)))
    }

    /// Sends what is left, for five seconds at most.
    pub fn finish(self) {
        if let Some(sender) = self.0 {
            sender.finish();
        }
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.0.is_some()).finish()
    }
}

#[cfg(feature = "otel")]
mod otlp {
    use std::time::Duration;

    use opentelemetry::KeyValue;
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::Layer as _;

    use super::{SpanLayer, TraceError};
    use crate::config::shown_url;

    /// How long the collector may take.
    const TIMEOUT: Duration = Duration::from_secs(5);

    pub(super) struct Sender(SdkTracerProvider);

    pub(super) fn start(
        endpoint: &str,
        sample_percent: usize,
    ) -> Result<(Sender, SpanLayer), TraceError> {
        // For https; it may be there already.
        let _is_there = rustls::crypto::ring::default_provider().install_default();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(TIMEOUT)
            .build();
        let exporter = exporter.map_err(|error| TraceError::Exporter {
            endpoint: shown_url(endpoint),
            reason: error.to_string(),
        })?;
        let ratio = sample_percent as f64 / 100.0;
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name("herenow");
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource.with_attribute(version).build())
            .build();
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("herenow"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(|metadata| {
                metadata.is_span() && metadata.target().starts_with("herenow")
            }));
        Ok((Sender(provider), Box::new(layer)))
    }

    impl Sender {
        pub(super) fn finish(self) {
            if let Err(error) = self.0.shutdown_with_timeout(TIMEOUT) {
                tracing::warn!(%error, "traces were lost at the end");
            }
        }
    }
}

/// What stands for it in a program without the feature.
#[cfg(not(feature = "otel"))]
mod otlp {
    use super::{SpanLayer, TraceError};
    use crate::config::shown_url;

    pub(super) enum Sender {}

    pub(super) fn start(
        endpoint: &str,
        _sample_percent: usize,
    ) -> Result<(Sender, SpanLayer), TraceError> {
        Err(TraceError::NotBuilt {
            endpoint: shown_url(endpoint),
        })
    }

    impl Sender {
        pub(super) fn finish(self) {
            match self {}
        }
    }
}
