//! Our settings in zenoh's words.

use std::path::Path;

use serde_json::{Value, json};
use zenoh::Config;

use crate::config::{Discovery, Tls, ZenohConfig};

/// How long zenoh waits before it dials a peer again that was given by address, in milliseconds:
/// first, at most, and the growth between. A cut that ends is to be over within about a second.
const REDIAL: (u64, u64, f64) = (200, 1000, 2.0);

/// How long opening waits for the first links, in milliseconds: those of a local network are up by
/// then, and a node that is alone, or that knows one peer in two ways, does not wait for long.
const OPENING: u64 = 150;

/// How long a link may be silent before it is closed, in milliseconds; four signs are sent in it.
///
/// A cut network shows by this alone, and only a link that is closed is dialled again.
const LEASE: u64 = 5000;

/// Returns zenoh's configuration; what it does not know it says by itself.
pub(super) fn zenoh_config(config: &ZenohConfig) -> Result<Config, zenoh::Error> {
    let mut settings = vec![
        ("mode", json!("peer")),
        ("listen/endpoints", json!(config.listen)),
        ("connect/endpoints", json!(config.peers)),
        (
            "connect/retry",
            json!({
                "period_init_ms": REDIAL.0,
                "period_max_ms": REDIAL.1,
                "period_increase_factor": REDIAL.2,
            }),
        ),
        // Also where a peer was found through others: a link in the clear is never an alternative.
        ("transport/link/protocols", json!([config.scheme()])),
        ("scouting/gossip/enabled", json!(true)),
        // Of two nodes that learn of each other at once, one dials: else both links are kept.
        ("scouting/gossip/autoconnect_strategy", one_dials()),
        ("scouting/multicast/autoconnect_strategy", one_dials()),
        (
            "transport/link/tx/queue/congestion_control/block/wait_before_close",
            json!(u64::try_from(config.max_stall.as_micros()).unwrap_or(u64::MAX)),
        ),
        ("scouting/delay", json!(OPENING)),
        ("transport/link/tx/lease", json!(LEASE)),
        // A message that is over our limit is dropped by its receiver, whoever sent it.
        (
            "transport/link/rx/max_message_size",
            json!(config.max_message_bytes.get().saturating_add(FRAMING_BYTES)),
        ),
    ];
    settings.extend(discovery(&config.discovery));
    settings.extend(config.tls.iter().flat_map(tls));
    let mut zenoh = Config::default();
    for (key, value) in settings {
        zenoh.insert_json5(key, &value.to_string())?;
    }
    Ok(zenoh)
}

/// What our head and zenoh's add to a message, with room to spare.
const FRAMING_BYTES: usize = 64 * 1024;

fn one_dials() -> Value {
    json!({ "peer": { "to_router": "always", "to_peer": "greater-zid" } })
}

fn discovery(discovery: &Discovery) -> Vec<(&'static str, Value)> {
    match discovery {
        Discovery::Off => vec![("scouting/multicast/enabled", json!(false))],
        Discovery::Multicast { group, interface } => vec![
            ("scouting/multicast/enabled", json!(true)),
            ("scouting/multicast/address", json!(group.to_string())),
            ("scouting/multicast/interface", json!(interface)),
        ],
    }
}

fn tls(tls: &Tls) -> Vec<(&'static str, Value)> {
    let path = |path: &Path| json!(path.to_string_lossy());
    vec![
        ("transport/link/tls/root_ca_certificate", path(&tls.ca)),
        ("transport/link/tls/enable_mtls", json!(true)),
        (
            "transport/link/tls/listen_certificate",
            path(&tls.certificate),
        ),
        (
            "transport/link/tls/listen_private_key",
            path(&tls.private_key),
        ),
        (
            "transport/link/tls/connect_certificate",
            path(&tls.certificate),
        ),
        (
            "transport/link/tls/connect_private_key",
            path(&tls.private_key),
        ),
        (
            "transport/link/tls/verify_name_on_connect",
            json!(tls.verify_names),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zenoh_knows_every_setting() {
        let mut config = ZenohConfig {
            peers: vec!["tcp/10.0.0.2:7447".into()],
            ..ZenohConfig::default()
        };
        zenoh_config(&config).unwrap();
        config.discovery = Discovery::Multicast {
            group: "224.0.0.224:7446".parse().unwrap(),
            interface: "auto".into(),
        };
        config.tls = Some(Tls {
            ca: "a \"quoted\" path/ca.pem".into(),
            certificate: "node.pem".into(),
            private_key: "node.key".into(),
            verify_names: true,
        });
        let zenoh = zenoh_config(&config).unwrap().to_string();
        for part in [
            r#""mode":"peer""#,
            r#""protocols":["tls"]"#,
            r#""enable_mtls":true"#,
            r#""wait_before_close":500000"#,
            r#"a \"quoted\" path/ca.pem"#,
        ] {
            assert!(zenoh.contains(part), "{part} in {zenoh}");
        }
    }
}
