//! Every target for a moment: what is kept of it, then what is made of that.
//!
//! `HERENOW_FUZZ_SECONDS` is how long each target makes inputs; 3 by default.
//! `HERENOW_FUZZ_SEED` is another run's; without it every run makes the same inputs, so that only a
//! change can break one. `cargo xtask fuzz` is for finding new ones.

use std::time::Duration;

use fuzz::{brief, target, targets};

const DEFAULT_SECONDS: u64 = 3;
const DEFAULT_SEED: u64 = 1;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

fn survives(name: &str) {
    let target = target(name).expect("a target of that name");
    let seconds = number("HERENOW_FUZZ_SECONDS").unwrap_or(DEFAULT_SECONDS);
    let seed = number("HERENOW_FUZZ_SEED").unwrap_or(DEFAULT_SEED);
    match brief::run(target, Duration::from_secs(seconds), seed) {
        Ok(summary) => println!("{name}: {summary:?}"),
        Err(broken) => panic!(
            "{name}: {}\n{}\nthe input, keep it in fuzz/regressions/{name}: {:?}",
            broken.finding.what,
            broken.origin,
            broken.input.escape_ascii().to_string()
        ),
    }
}

#[test]
fn cod_580_shard_messages_are_read_or_refused() {
    survives("shard_codec");
}

#[test]
fn cod_581_a_peer_writes_only_its_own_rows() {
    survives("shard_live");
}

#[test]
fn soc_580_frames_are_read_or_refused_in_both_formats() {
    survives("serializers");
}

#[test]
fn soc_581_bodies_are_taken_apart_within_their_limits() {
    survives("long_poll_batch");
}

#[test]
fn soc_582_a_clients_list_survives_any_server() {
    survives("presence_fold");
}

#[test]
fn cod_582_broker_frames_are_taken_apart_or_dropped() {
    survives("broker_frames");
}

#[test]
fn cod_583_seals_hold_whatever_is_damaged_or_forged() {
    survives("sealed_frames");
}

#[test]
fn cod_584_a_running_node_survives_its_peers() {
    survives("presence_frames");
}

#[test]
fn soc_583_requests_to_connect_keep_their_limits() {
    survives("connect");
}

#[test]
fn soc_584_posts_are_answered_whatever_they_hold() {
    survives("long_poll_post");
}

#[test]
fn srv_580_the_built_in_channel_survives_its_clients() {
    survives("channel");
}

#[test]
fn srv_592_tokens_are_taken_only_as_they_were_signed() {
    survives("token");
}

#[test]
fn srv_581_configurations_are_taken_or_explained() {
    survives("configuration");
}

#[test]
fn every_target_has_a_name_of_its_own_and_seeds_that_fit() {
    let names: std::collections::BTreeSet<_> = targets().iter().map(|target| target.name).collect();
    assert_eq!(names.len(), targets().len());
    for target in targets() {
        let seeds = target.seeds();
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for seed in seeds {
            assert!(
                seed.len() <= target.max_len,
                "{}: {} bytes",
                target.name,
                seed.len()
            );
        }
    }
}
