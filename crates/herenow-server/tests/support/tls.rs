//! Links between nodes under TLS, and a node whose certificate is another authority's.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::json;

use super::{Cluster, Engine, names, until};

/// What a node logs whose certificate the dialling node does not take, or the other way round.
const REFUSED: &str = "received fatal alert";

/// An authority of its own and one certificate of it, as arguments of a node.
fn authority(name: &str) -> Vec<String> {
    let process = std::process::id();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("tls-{process}-{name}"));
    fs::create_dir_all(&folder).unwrap();
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut node = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    node.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = node.signed_by(&key, &issuer).unwrap().pem();
    let key = key.serialize_pem();
    let files = [("ca", &ca_pem), ("cert", &certificate), ("key", &key)];
    let argument = |(what, content): (&str, &String)| {
        let path = folder.join(what);
        fs::write(&path, content).unwrap();
        [format!("--cluster-tls-{what}"), path.display().to_string()]
    };
    files.into_iter().flat_map(argument).collect()
}

/// Nodes whose certificates are of one authority form a cluster; one with another's is refused,
/// and the log says so, once and not for every attempt.
pub(crate) async fn a_foreign_certificate_is_refused(engine: Engine) {
    let mut cluster = Cluster::prepare(engine, &["a", "b", "c"]).await;
    cluster.scheme = "tls";
    let (own, foreign) = (authority("own"), authority("foreign"));
    for (at, files) in [(0, &own), (1, &own), (2, &foreign)] {
        let quick = ["--cluster-ready-timeout", "1s"];
        let files = files.iter().map(String::as_str);
        let arguments: Vec<&str> = quick.into_iter().chain(files).collect();
        cluster.start_node(at, &arguments);
    }
    let [a, _, c] = &cluster.places[..] else {
        panic!("there are three");
    };
    a.logs(REFUSED).await;
    for place in &cluster.places {
        place.ready().await;
    }
    c.logs("ready without all presences of the cluster").await;
    let users = [
        cluster.join(0, "a0").await,
        cluster.join(1, "b0").await,
        cluster.join(2, "c0").await,
    ];
    until(&users[..2], &names(&users[..2])).await;
    until(&users[2..], &names(&users[2..])).await;
    for (at, known) in [(0, json!(["a", "b"])), (2, json!(["c"]))] {
        let status = cluster.status(at).await;
        let nodes = status["nodes"].as_array().unwrap().iter();
        let nodes: Vec<_> = nodes.map(|node| node["node"].clone()).collect();
        assert_eq!(json!(nodes), known);
    }
    // By now it was tried several times.
    let log = cluster.places[0].log();
    let refusals = log.iter().filter(|line| line.contains(REFUSED));
    assert_eq!(refusals.count(), 1, "{log:#?}");
    let chatter = log.iter().find(|line| line.contains("INFO zenoh"));
    assert_eq!(chatter, None);
}
