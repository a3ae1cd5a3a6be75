//! `[cluster]`: its keys in every source, and how each wrong combination reads.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use herenow_server::cli::{self, Command};
use herenow_server::config::{ConfigError, Engine, Origin, ServerConfig};

/// Reads arguments and an environment as the program does.
fn load(arguments: &str, environment: &[(&str, &str)]) -> Result<ServerConfig, String> {
    let line = format!("herenow serve {arguments}");
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let arguments = line.split_whitespace().map(OsString::from);
    match cli::parse(arguments, environment).unwrap() {
        Command::Serve(sources) => {
            ServerConfig::load(&sources).map_err(|errors| errors.to_string())
        }
        Command::Watch(_) | Command::Token(..) | Command::Print(_) => panic!("this is no serve"),
    }
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("herenow-{}-{name}", std::process::id()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn srv_530_a_cluster_is_configured_by_flag_environment_and_file() {
    let alone = load("", &[]).unwrap().cluster;
    assert_eq!((alone.engine, alone.node), (None, None));

    let flags = "--cluster zenoh --node a --cluster-listen tcp/127.0.0.1:7001 \
                 --peers tcp/127.0.0.1:7002 --peers tcp/127.0.0.1:7003,tcp/[::1]:7004 \
                 --cluster-heartbeat-period 100ms --cluster-down-period 300ms";
    let config = load(
        flags,
        &[("HERENOW_NODE", "b"), ("HERENOW_CLUSTER_NAME", "blue")],
    )
    .unwrap();
    let cluster = config.cluster;
    assert_eq!(cluster.engine, Some(Engine::Zenoh));
    assert_eq!(
        cluster.node.as_deref(),
        Some("a"),
        "a flag goes over the environment"
    );
    assert_eq!(cluster.name, "blue");
    assert_eq!(cluster.listen, ["tcp/127.0.0.1:7001"]);
    assert_eq!(
        cluster.peers,
        ["tcp/127.0.0.1:7002", "tcp/127.0.0.1:7003", "tcp/[::1]:7004"]
    );
    assert_eq!(
        config.presence.shard.down_period,
        Duration::from_millis(300)
    );

    let text =
        "[cluster]\nengine = \"zenoh\"\npeers = [\"tcp/a.example:7447\"]\nready_timeout = \"1s\"\n";
    let path = file("srv-530.toml", text);
    let cluster = load(&format!("--config {}", path.display()), &[])
        .unwrap()
        .cluster;
    assert_eq!(cluster.peers, ["tcp/a.example:7447"]);
    assert_eq!(cluster.ready_timeout, Duration::from_secs(1));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn srv_531_every_wrong_combination_names_key_and_value() {
    let cases = [
        (
            "--peers tcp/127.0.0.1:7002",
            "flag --peers: cluster.peers is tcp/127.0.0.1:7002, but cluster.engine is none \
             (default): it is a setting of --cluster zenoh",
        ),
        (
            "--cluster zenoh --nats-url nats://me:hush@h:4222",
            "flag --nats-url: cluster.nats_url is nats://h:4222, but cluster.engine is zenoh \
             (flag --cluster): it is a setting of --cluster nats",
        ),
        (
            "--cluster zenoh --redis-url redis://h",
            "flag --redis-url: cluster.redis_url is redis://h, but cluster.engine is zenoh (flag \
             --cluster): it is a setting of --cluster redis",
        ),
        (
            "--node a",
            "flag --node: cluster.node is a, but cluster.engine is none (default): it needs an \
             engine, such as --cluster zenoh",
        ),
        (
            "--cluster-secret 0123456789abcdef",
            "flag --cluster-secret: cluster.secret is set, but cluster.engine is none (default): \
             it needs an engine, such as --cluster zenoh",
        ),
        (
            "--cluster zenoh --cluster-down-period 1s",
            "flag --cluster-down-period: cluster.down_period is 1s, but cluster.heartbeat_period \
             is 1s (default): down_period must be at least three times heartbeat_period",
        ),
        (
            "--cluster zenoh --cluster-permdown-period 4s",
            "flag --cluster-permdown-period: cluster.permdown_period is 4s, but \
             cluster.down_period is 5s (default): permdown_period must be longer than down_period",
        ),
        (
            "--cluster zenoh --cluster-tls-cert c.pem --cluster-tls-ca ca.pem",
            "flag --cluster-tls-cert: cluster.tls_key is missing",
        ),
        (
            "--cluster zenoh --peers 10.0.0.2:7447",
            "flag --peers: cluster.peers is \"10.0.0.2:7447\", it must be a list of \
             addresses such as \"tcp/10.0.0.2:7447,tcp/10.0.0.3:7447\", each tcp/HOST:PORT or, with \
             cluster.tls_cert, tls/HOST:PORT",
        ),
        (
            "--cluster zenoh --cluster-secret short",
            "flag --cluster-secret: cluster.secret is 5 bytes long, it must be at least 16 bytes",
        ),
        (
            "--cluster gossip",
            "flag --cluster: cluster.engine is \"gossip\", it must be \"none\" or \"zenoh\" or \
             \"nats\" or \"redis\"",
        ),
    ];
    for (arguments, expected) in cases {
        assert_eq!(load(arguments, &[]).unwrap_err(), expected, "{arguments}");
    }
}

#[test]
fn srv_1700_addresses_of_a_cluster_are_a_list_and_said_to_be_one() {
    for (key, such_as) in [
        ("listen", "[\"tcp/10.0.0.1:7447\", \"tcp/[fd00::1]:7447\"]"),
        ("peers", "[\"tcp/10.0.0.2:7447\", \"tcp/10.0.0.3:7447\"]"),
    ] {
        let text = format!("[cluster]\nengine = \"zenoh\"\n{key} = \"tcp/127.0.0.1:7700\"\n");
        let path = file(&format!("srv-1700-{key}.toml"), &text);
        let error = load(&format!("--config {}", path.display()), &[]).unwrap_err();
        let expected = format!(
            "{} line 3: cluster.{key} is \"tcp/127.0.0.1:7700\", it must be a list of addresses \
             such as {such_as}, each tcp/HOST:PORT or, with cluster.tls_cert, tls/HOST:PORT",
            path.display()
        );
        assert_eq!(error, expected);
        std::fs::remove_file(path).unwrap();
    }
    let reference = include_str!("../../../docs/configuration.md");
    let mut rows = reference.lines();
    let listen = rows.find(|row| row.contains("tcp/10.0.0.1:7447")).unwrap();
    assert!(
        listen.contains("| `[\"tcp/127.0.0.1:7447\"]` |"),
        "{listen}"
    );
}

#[test]
fn srv_532_the_secret_comes_from_the_environment_or_a_file_and_is_never_shown() {
    let secret = "a secret that nobody is shown";
    let in_environment = [("HERENOW_CLUSTER_SECRET", secret)];
    let config = load("--cluster zenoh", &in_environment).unwrap();
    let shown = format!("{config:?}");
    assert!(
        !shown.contains(secret) && shown.contains("Secret(29 bytes)"),
        "{shown}"
    );

    let path = file("srv-532.secret", &format!("{secret}\n"));
    let flag = format!("--cluster zenoh --cluster-secret-file {}", path.display());
    let shown = format!("{:?}", load(&flag, &[]).unwrap());
    assert!(
        shown.contains("Secret(29 bytes)"),
        "without the line break: {shown}"
    );
    let error = load(&flag, &in_environment).unwrap_err();
    assert!(
        error.contains("cluster.secret is set, but cluster.secret_file is")
            && !error.contains(secret),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = load(&flag, &[]).unwrap_err();
    assert!(error.contains("cannot read cluster.secret_file"), "{error}");
}

#[test]
fn srv_533_an_engine_that_is_not_built_in_is_named_with_those_that_are() {
    let error = ConfigError::EngineNotBuilt {
        origin: Origin::Flag("--cluster".to_owned()),
        engine: Engine::Redis,
        built: "zenoh".to_owned(),
    };
    let expected = "flag --cluster: cluster.engine is redis, but this program was built without it \
                    (it has: zenoh); build it with --features redis";
    assert_eq!(error.to_string(), expected);
    // And as the program says it, if it was built so.
    let loaded = load("--cluster redis", &[]);
    assert_eq!(loaded.is_ok(), Engine::Redis.is_built());
}
