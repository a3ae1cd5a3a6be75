//! The published suite, each check against a `redis-server` of its own.
#![allow(clippy::unwrap_used)]

mod support;

use herenow_pubsub::conformance;

use support::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn pub_01_broadcast_reaches_every_other_node() {
    conformance::broadcast_reaches_every_other_node(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_02_broadcast_is_not_echoed() {
    conformance::broadcast_is_not_echoed(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_03_send_reaches_one_node() {
    conformance::send_reaches_one_node(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_04_send_to_an_unknown_node_vanishes() {
    conformance::send_to_an_unknown_node_vanishes(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_05_messages_of_one_sender_keep_their_order() {
    conformance::messages_of_one_sender_keep_their_order(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_06_large_and_empty_messages_arrive_whole() {
    conformance::large_and_empty_messages_arrive_whole(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_07_clusters_do_not_hear_each_other() {
    conformance::clusters_do_not_hear_each_other(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_08_close_loses_nothing_accepted() {
    conformance::close_loses_nothing_accepted(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_09_a_closed_adapter_refuses() {
    conformance::a_closed_adapter_refuses(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_10_a_name_can_come_back() {
    conformance::a_name_can_come_back(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_100_subjects_of_any_text_arrive_as_sent() {
    conformance::subjects_of_any_text_arrive_as_sent(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_101_names_of_any_text_work() {
    conformance::names_of_any_text_work(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_102_messages_of_every_size_arrive_or_are_refused() {
    conformance::messages_of_every_size_arrive_or_are_refused(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_103_messages_to_one_node_keep_their_order() {
    conformance::messages_to_one_node_keep_their_order(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_104_close_loses_nothing_of_a_burst() {
    conformance::close_loses_nothing_of_a_burst(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_105_an_outage_heals_by_itself() {
    conformance::an_outage_heals_by_itself(&Broker::started().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pub_106_publishing_never_blocks_in_an_outage() {
    conformance::publishing_never_blocks_in_an_outage(&Broker::started().await).await;
}
