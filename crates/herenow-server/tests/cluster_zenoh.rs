//! Three real processes, connected by zenoh.

#[path = "support/cluster.rs"]
mod cluster;

use self::cluster::{Cut, Engine};

#[tokio::test]
async fn srv_520_zenoh_joins_are_seen_everywhere() {
    cluster::joins_are_seen_everywhere(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_521_zenoh_a_killed_node_takes_its_users_and_can_come_back() {
    cluster::a_killed_node_takes_its_users_and_can_come_back(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_522_zenoh_a_frozen_node_is_hidden_and_returns() {
    cluster::a_frozen_node_is_hidden_and_returns(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_1730_zenoh_a_frozen_node_is_told_whom_it_is_to_evict() {
    cluster::a_frozen_node_is_told_whom_it_is_to_evict(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_1785_zenoh_a_frozen_node_is_told_which_lease_is_to_end() {
    cluster::a_frozen_node_is_told_which_lease_is_to_end(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_523_zenoh_a_graceful_stop_is_seen_at_once() {
    cluster::a_graceful_stop_is_seen_at_once(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_524_zenoh_a_rolling_restart_loses_nobody() {
    cluster::a_rolling_restart_loses_nobody(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_525_zenoh_strangers_are_refused_and_told() {
    cluster::strangers_are_refused_and_told(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_540_zenoh_a_cut_both_ways_heals() {
    cluster::a_cut_heals(Engine::Zenoh, Cut::BothWays).await;
}

#[tokio::test]
async fn srv_541_zenoh_a_node_that_is_not_heard_is_hidden_and_returns() {
    cluster::a_cut_heals(Engine::Zenoh, Cut::Outward).await;
}

#[tokio::test]
async fn srv_542_zenoh_a_node_that_hears_nobody_is_hidden_and_returns() {
    cluster::a_cut_heals(Engine::Zenoh, Cut::Inward).await;
}

#[tokio::test]
async fn srv_543_zenoh_a_cut_between_two_leaves_the_third() {
    cluster::a_cut_between_two_leaves_the_third(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_544_zenoh_a_stopping_node_shows_whom_it_serves() {
    cluster::a_stopping_node_shows_whom_it_serves(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_546_zenoh_a_name_that_is_taken_is_told() {
    cluster::a_name_that_is_taken_is_told(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_547_zenoh_a_foreign_certificate_is_refused() {
    cluster::tls::a_foreign_certificate_is_refused(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_960_zenoh_a_rolling_restart_with_grace_is_not_seen() {
    cluster::a_rolling_restart_with_grace_is_not_seen(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_963_zenoh_a_killed_node_with_grace_is_not_seen() {
    cluster::a_killed_node_with_grace_is_not_seen(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_698_zenoh_each_event_is_told_by_one_node() {
    cluster::each_event_is_told_by_one_node(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_699_zenoh_a_node_that_returns_is_told_by_who_told_that_it_was_gone() {
    cluster::a_node_that_returns_is_told_by_who_told_that_it_was_gone(Engine::Zenoh).await;
}

#[tokio::test]
async fn srv_1755_zenoh_a_newcomer_waits_for_who_is_slow() {
    cluster::a_newcomer_waits_for_who_is_slow(Engine::Zenoh).await;
}
