//! What leaves a queue and when, on paused time.

use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::logging::Warnings;

const SECOND: Duration = Duration::from_secs(1);

fn queue() -> Queue {
    Queue::new(
        "1".to_owned(),
        Filter::all(),
        WebhookConfig::default().into(),
    )
}

fn push(queue: &Queue, topic: &str) {
    queue.push(&Record::for_tests(topic), "a-1", 1);
}

/// What is to be sent once nothing else delays it, or `None` if nothing is.
async fn batch(queue: &Queue) -> Option<Batch> {
    tokio::time::advance(queue.config.max_delay).await;
    match queue.next(Instant::now()) {
        Next::Batch(batch) => Some(batch),
        Next::At(_) | Next::Nothing => None,
    }
}

/// The events of a batch, those that are lost with their reason and number.
fn told(batch: &Batch) -> Vec<String> {
    let body: serde_json::Value = serde_json::from_slice(&batch.body("a")).unwrap();
    let word = |event: &serde_json::Value| match event["event"].as_str().unwrap() {
        "lost" => format!("lost {} {}", event["reason"], event["n_events"]),
        _ => event["topic"].as_str().unwrap().to_owned(),
    };
    body["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(word)
        .collect()
}

fn again(n_failed: usize, after: Duration) -> Again {
    let at = Instant::now() + after;
    Again { n_failed, at }
}

#[tokio::test(start_paused = true)]
async fn srv_1683_losses_go_with_the_next_events_and_alone_one_at_a_time_after_their_wait() {
    let queue = queue();
    push(&queue, "room:1");
    let refused = batch(&queue).await.unwrap();
    queue.on_lost(Loss::Refused, refused, again(3, 4 * SECOND));
    assert!(batch(&queue).await.is_none(), "the receiver is left alone");
    push(&queue, "room:2");
    let refused = batch(&queue).await.unwrap();
    assert_eq!(told(&refused), [r#"lost "refused" 1"#, "room:2"]);
    queue.on_lost(Loss::Refused, refused, again(3, 4 * SECOND));

    tokio::time::advance(4 * SECOND).await;
    let alone = batch(&queue).await.unwrap();
    assert_eq!(told(&alone), [r#"lost "refused" 2"#]);
    assert_eq!(alone.n_failed, 3, "its wait goes on from there");
    queue.lose(Loss::Missed, 5);
    assert!(batch(&queue).await.is_none(), "one is under way");
    queue.on_untold(&alone, again(4, 8 * SECOND));
    assert!(batch(&queue).await.is_none());
    push(&queue, "room:3");
    let both = batch(&queue).await.unwrap();
    let expected = [r#"lost "refused" 2"#, r#"lost "missed" 5"#, "room:3"];
    assert_eq!(told(&both), expected);
    queue.on_delivered(both);
    assert!(batch(&queue).await.is_none(), "all is told");
    assert_eq!(queue.n_held(), 0);
}

#[tokio::test(start_paused = true)]
async fn srv_1683_a_queue_that_is_closed_tells_of_losses_at_once_and_in_no_hurry_after_that() {
    let queue = queue();
    push(&queue, "room:1");
    let refused = batch(&queue).await.unwrap();
    queue.on_lost(Loss::Refused, refused, again(3, 60 * SECOND));
    queue.close();
    let alone = batch(&queue).await.unwrap();
    queue.on_untold(&alone, again(1, SECOND));
    assert!(!queue.is_finished(), "they are not lost themselves");
    assert!(batch(&queue).await.is_none());
    tokio::time::advance(SECOND).await;
    let alone = batch(&queue).await.unwrap();
    assert_eq!(told(&alone), [r#"lost "refused" 1"#]);
    queue.on_delivered(alone);
    assert!(queue.is_finished());
}

#[tokio::test(start_paused = true)]
async fn srv_1748_a_queue_that_is_full_by_bytes_says_so_once_until_half_of_it_is_free() {
    let warnings = Warnings::default();
    let layer = tracing_subscriber::registry().with(warnings.layer());
    let _guard = tracing::subscriber::set_default(layer);
    let config = WebhookConfig {
        max_batch: 1,
        max_queued_bytes: 10_000,
        ..WebhookConfig::default()
    };
    let queue = Queue::new("1".to_owned(), Filter::all(), config.into());
    let n_warnings = || {
        warnings
            .latest(9, Duration::MAX)
            .iter()
            .map(|one| one.n)
            .sum::<u64>()
    };
    let fill = || {
        let n_lost = queue.stats().lost.of(Loss::QueueFull);
        while queue.stats().lost.of(Loss::QueueFull) == n_lost {
            push(&queue, "room:1");
        }
    };
    fill();
    for _ in 0..10 {
        let delivered = batch(&queue).await.unwrap();
        queue.on_delivered(delivered);
        fill();
    }
    assert_eq!(n_warnings(), 1);
    while queue.stats().held_bytes > 5_000 {
        let delivered = batch(&queue).await.unwrap();
        queue.on_delivered(delivered);
    }
    fill();
    assert_eq!(n_warnings(), 2, "there was room in between");
}

#[tokio::test(start_paused = true)]
async fn srv_1743_only_what_is_too_old_is_taken_out_of_a_batch_and_its_topics_go_on_in_order() {
    let config = WebhookConfig {
        max_age: 3 * SECOND,
        max_batch: 3,
        ..WebhookConfig::default()
    };
    let queue = Queue::new("1".to_owned(), Filter::all(), config.into());
    let push = |topic, id| queue.push(&Record::for_tests(topic), id, 1);
    let ids = |batch: &Batch| -> Vec<String> {
        let body: serde_json::Value = serde_json::from_slice(&batch.body("a")).unwrap();
        let events = body["events"].as_array().unwrap().iter();
        events
            .filter_map(|event| Some(event["id"].as_str()?.to_owned()))
            .collect()
    };
    push("old", "1");
    push("room", "2");
    tokio::time::advance(2 * SECOND).await;
    push("room", "3");
    let mut first = batch(&queue).await.unwrap();
    push("room", "4");
    push("old", "5");
    assert_eq!(ids(&first), ["1", "2", "3"]);
    tokio::time::advance(SECOND).await;
    assert_eq!(queue.drop_old(&mut first, Instant::now()), 2);
    assert_eq!(ids(&first), ["3"]);
    assert_eq!(told(&first), [r#"lost "too_old" 2"#, "room"]);
    assert_eq!(
        (queue.n_held(), queue.stats().lost.of(Loss::TooOld)),
        (3, 2)
    );
    let second = batch(&queue).await.unwrap();
    assert_eq!(ids(&second), ["5"], "nobody holds its topic any more");
    queue.on_delivered(first);
    let third = batch(&queue).await.unwrap();
    assert_eq!(ids(&third), ["4"]);
    queue.on_delivered(second);
    queue.on_delivered(third);
    assert_eq!((queue.n_held(), queue.stats().held_bytes), (0, 0));
}
