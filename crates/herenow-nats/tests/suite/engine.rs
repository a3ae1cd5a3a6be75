//! What the shared tests need to know about NATS.

pub(crate) use herenow_nats::{NatsAdapter as BrokerAdapter, NatsConfig as BrokerConfig};

use crate::broker::Broker;

/// The server, and the package that has it.
pub(crate) const PROGRAM: &str = "nats-server";
pub(crate) const SCHEME: &str = "nats";
pub(crate) const USER: Option<&str> = Some("me");
/// The server lets [`USER`] in by the password `se@cret`.
pub(crate) const WITH_PASSWORD: &[&str] = &["--user", "me", "--pass", "se@cret"];

pub(crate) fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    ["--addr", "127.0.0.1", "--port", &port]
        .map(str::to_owned)
        .into()
}

/// Asks for a certificate of the authority `ca`.
pub(crate) async fn broker_with_tls(certificate: &str, key: &str, ca: &str) -> Broker {
    let server = ["--tls", "--tlscert", certificate, "--tlskey", key];
    let clients = ["--tlsverify", "--tlscacert", ca];
    Broker::started_with(&[&server[..], &clients].concat()).await
}

/// Says `texts` to all nodes, as somebody who is none.
pub(crate) async fn publish(url: &str, texts: &[&'static str]) {
    let client = async_nats::connect(url).await.unwrap();
    for &text in texts {
        client
            .publish("herenow.herenow.all", text.into())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
}
