//! Who is linked to whom: by certificate, through others, and never twice.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use herenow_pubsub::Adapter;
use herenow_zenoh::{Discovery, OpenError, Tls, ZenohAdapter, ZenohConfig};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use support::{Node, config, free_address};

/// An authority of its own, and one certificate of it for 127.0.0.1.
fn authority(name: &str) -> Tls {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("zenoh-{name}"));
    fs::create_dir_all(&directory).unwrap();
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
    let write = |file: &str, content: &str| {
        let path: &Path = &directory.join(file);
        fs::write(path, content).unwrap();
        path.to_owned()
    };
    Tls {
        ca: write("ca.pem", &ca_pem),
        certificate: write("node.pem", &certificate),
        private_key: write("node.key", &key.serialize_pem()),
        verify_names: true,
    }
}

fn with_tls(node: &str, peers: &[&str], tls: &Tls) -> ZenohConfig {
    let mut config = config("tls", node, peers);
    config.listen = vec![free_address("tls")];
    config.tls = Some(tls.clone());
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_220_zenoh_only_certificates_of_the_cluster_are_let_in() {
    let (ours, theirs) = (authority("ours"), authority("theirs"));
    let a = Node::start(&with_tls("a", &[], &ours)).await;
    // One with a certificate of another authority, which trusts ours; one without any.
    let mut mixed = theirs.clone();
    mixed.ca.clone_from(&ours.ca);
    let foreign = Node::start(&with_tls("foreign", &[&a.address], &mixed)).await;
    let clear_address = a.address.replace("tls/", "tcp/");
    let clear = Node::start(&config("tls", "clear", &[&clear_address])).await;
    // And one that a would dial, whose certificate a does not trust.
    let b = Node::start(&with_tls("b", &[&a.address, &foreign.address], &ours)).await;

    b.wait_for("a", |seen| seen.last_report("a").is_some())
        .await;
    for stranger in [&foreign, &clear] {
        stranger.adapter.broadcast("s", Bytes::new()).unwrap();
        stranger.adapter.send("a", "s", Bytes::new()).unwrap();
    }
    // Long enough for several attempts of theirs: fifty messages there and back.
    for n in 0..50 {
        b.adapter.send("a", "ping", Bytes::new()).unwrap();
        a.wait_for("b", |seen| seen.messages.len() == n + 1).await;
        a.adapter.send("b", "pong", Bytes::new()).unwrap();
        b.wait_for("a", |seen| seen.messages.len() == n + 1).await;
    }
    for node in [&a, &b] {
        assert!(node.has(|seen| seen.senders().len() == 1 && seen.reports.len() == 1));
        assert_eq!(node.adapter.stats().n_peers, 1);
    }
    for stranger in [&foreign, &clear] {
        assert!(stranger.has(|seen| seen.messages.is_empty() && seen.reports.is_empty()));
        assert_eq!(stranger.adapter.stats().n_peers, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_221_zenoh_unreadable_certificates_are_an_error() {
    let mut tls = authority("unreadable");
    tls.certificate = "/nowhere/node.pem".into();
    let error = ZenohAdapter::open(&with_tls("a", &[], &tls))
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Engine { .. }), "{error}");
}

/// Returns the ports that connections of this machine lead to, once per connection and end.
fn connections() -> Vec<(u16, u16)> {
    let port =
        |address: &str| u16::from_str_radix(address.rsplit_once(':').unwrap().1, 16).unwrap();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().skip(1);
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    const ESTABLISHED: &str = "01";
    let established = fields.filter(|fields| fields[3] == ESTABLISHED);
    established
        .map(|fields| (port(fields[1]), port(fields[2])))
        .collect()
}

fn n_links(nodes: &[Node]) -> usize {
    let port = |node: &Node| {
        node.address
            .rsplit_once(':')
            .unwrap()
            .1
            .parse::<u16>()
            .unwrap()
    };
    let ports: BTreeSet<u16> = nodes.iter().map(port).collect();
    let is_ours = |(own, _): &&(u16, u16)| ports.contains(own);
    connections().iter().filter(is_ours).count()
}

async fn full_mesh(nodes: &[Node]) {
    for node in nodes {
        node.wait_for("all others", |seen| seen.reports.len() == nodes.len() - 1)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_222_zenoh_one_common_peer_makes_a_full_mesh_of_single_links() {
    let mut nodes = vec![Node::start(&config("mesh", "0", &[])).await];
    for n in 1..6 {
        let seed = nodes[0].address.clone();
        nodes.push(Node::start(&config("mesh", &n.to_string(), &[&seed])).await);
    }
    full_mesh(&nodes).await;
    assert_eq!(n_links(&nodes), 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_223_zenoh_nodes_that_all_list_each_other_hear_once_and_in_order() {
    let addresses: Vec<String> = (0..4).map(|_| free_address("tcp")).collect();
    let mut opening = Vec::new();
    for (n, address) in addresses.iter().enumerate() {
        let peers: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let mut config = config("listed", &n.to_string(), &peers);
        config.listen = vec![address.clone()];
        opening.push(tokio::spawn(async move { Node::start(&config).await }));
    }
    let mut nodes = Vec::new();
    for node in opening {
        nodes.push(node.await.unwrap());
    }
    full_mesh(&nodes).await;
    // Each pair has one link or two; what is sent goes over one of them.
    assert!((6..=12).contains(&n_links(&nodes)));
    for n in 0..500u16 {
        let message = Bytes::from(n.to_be_bytes().to_vec());
        nodes[0].adapter.broadcast("s", message).unwrap();
    }
    nodes[0].adapter.broadcast("end", Bytes::new()).unwrap();
    for node in &nodes[1..] {
        node.wait_for("the end", |seen| {
            seen.messages.iter().any(|(_, subject, _)| subject == "end")
        })
        .await;
        assert!(node.has(|seen| {
            let got = seen.messages.iter().map(|(.., bytes)| bytes);
            seen.messages.len() == 501 && got.take(500).is_sorted()
        }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_224_zenoh_discovery_needs_no_address() {
    let discovering = |node: &str, port: u16| {
        let mut config = config("found", node, &[]);
        config.discovery = Discovery::Multicast {
            group: ([224, 0, 0, 224], port).into(),
            interface: "lo".into(),
        };
        config
    };
    // A port of its own, so that other tests of this machine are not found.
    let port: u16 = free_address("tcp")
        .rsplit_once(':')
        .unwrap()
        .1
        .parse()
        .unwrap();
    let a = Node::start(&discovering("a", port)).await;
    let b = Node::start(&discovering("b", port)).await;
    a.wait_for("b", |seen| seen.last_report("b").is_some())
        .await;
    b.wait_for("a", |seen| seen.last_report("a").is_some())
        .await;
}
