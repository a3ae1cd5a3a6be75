//! What the shared tests need to know about Redis.

use herenow_pubsub::conformance::BrokerProcess;
pub(crate) use herenow_redis::{RedisAdapter as BrokerAdapter, RedisConfig as BrokerConfig};

use crate::broker::Broker;

/// The server, and the package that has it.
pub(crate) const PROGRAM: &str = "redis-server";
pub(crate) const SCHEME: &str = "redis";
/// The default user's password is enough.
pub(crate) const USER: Option<&str> = None;
/// The server lets [`USER`] in by the password `se@cret`.
pub(crate) const WITH_PASSWORD: &[&str] = &["--requirepass", "se@cret"];

pub(crate) fn arguments(port: u16) -> Vec<String> {
    let port = port.to_string();
    let address = ["--bind", "127.0.0.1", "--port", &port];
    let nothing_kept = ["--save", "", "--appendonly", "no"];
    [address, nothing_kept]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

fn tls_arguments(port: u16) -> Vec<String> {
    let mut arguments = arguments(0);
    arguments.extend(["--tls-port".into(), port.to_string()]);
    arguments
}

/// Speaks TLS only, and asks for a certificate of the authority `ca`.
pub(crate) async fn broker_with_tls(certificate: &str, key: &str, ca: &str) -> Broker {
    let server = ["--tls-cert-file", certificate, "--tls-key-file", key];
    let clients = ["--tls-ca-cert-file", ca, "--tls-replication", "no"];
    let more = [server, clients].concat();
    BrokerProcess::started(PROGRAM, PROGRAM, tls_arguments, &more)
        .await
        .into()
}

/// Says `texts` to all nodes, as somebody who is none.
pub(crate) async fn publish(url: &str, texts: &[&'static str]) {
    let client = redis::Client::open(url).unwrap();
    let mut client = client.get_multiplexed_async_connection().await.unwrap();
    for text in texts {
        let mut command = redis::cmd("PUBLISH");
        command.arg("herenow:herenow:all").arg(text);
        command.exec_async(&mut client).await.unwrap();
    }
}
