//! What leaves a queue and when, on paused time.

use super::*;

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
