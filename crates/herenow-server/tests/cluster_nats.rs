//! Three real processes, connected by NATS.

#[path = "support/cluster.rs"]
mod cluster;

use self::cluster::{Cut, Engine};

#[tokio::test]
async fn srv_520_nats_joins_are_seen_everywhere() {
    cluster::joins_are_seen_everywhere(Engine::Nats).await;
}

#[tokio::test]
async fn srv_521_nats_a_killed_node_takes_its_users_and_can_come_back() {
    cluster::a_killed_node_takes_its_users_and_can_come_back(Engine::Nats).await;
}

#[tokio::test]
async fn srv_522_nats_a_frozen_node_is_hidden_and_returns() {
    cluster::a_frozen_node_is_hidden_and_returns(Engine::Nats).await;
}

#[tokio::test]
async fn srv_523_nats_a_graceful_stop_is_seen_at_once() {
    cluster::a_graceful_stop_is_seen_at_once(Engine::Nats).await;
}

#[tokio::test]
async fn srv_524_nats_a_rolling_restart_loses_nobody() {
    cluster::a_rolling_restart_loses_nobody(Engine::Nats).await;
}

#[tokio::test]
async fn srv_525_nats_strangers_are_refused_and_told() {
    cluster::strangers_are_refused_and_told(Engine::Nats).await;
}

#[tokio::test]
async fn srv_526_nats_a_restarted_broker_is_a_partition_that_heals() {
    cluster::a_restarted_broker_is_a_partition_that_heals(Engine::Nats).await;
}

#[tokio::test]
async fn srv_540_nats_a_cut_both_ways_heals() {
    cluster::a_cut_heals(Engine::Nats, Cut::BothWays).await;
}

#[tokio::test]
async fn srv_541_nats_a_node_that_is_not_heard_is_hidden_and_returns() {
    cluster::a_cut_heals(Engine::Nats, Cut::Outward).await;
}

#[tokio::test]
async fn srv_542_nats_a_node_that_hears_nobody_is_hidden_and_returns() {
    cluster::a_cut_heals(Engine::Nats, Cut::Inward).await;
}

#[tokio::test]
async fn srv_544_nats_a_stopping_node_shows_whom_it_serves() {
    cluster::a_stopping_node_shows_whom_it_serves(Engine::Nats).await;
}

#[tokio::test]
async fn srv_546_nats_a_name_that_is_taken_is_told() {
    cluster::a_name_that_is_taken_is_told(Engine::Nats).await;
}

#[tokio::test]
async fn srv_961_nats_a_rolling_restart_with_grace_is_not_seen() {
    cluster::a_rolling_restart_with_grace_is_not_seen(Engine::Nats).await;
}

#[tokio::test]
async fn srv_698_nats_each_event_is_told_by_one_node() {
    cluster::each_event_is_told_by_one_node(Engine::Nats).await;
}

#[tokio::test]
async fn srv_699_nats_a_node_that_returns_is_told_by_who_told_that_it_was_gone() {
    cluster::a_node_that_returns_is_told_by_who_told_that_it_was_gone(Engine::Nats).await;
}

#[tokio::test]
async fn srv_1755_nats_a_newcomer_waits_for_who_is_slow() {
    cluster::a_newcomer_waits_for_who_is_slow(Engine::Nats).await;
}
