//! What readers get of what is kept, on paused time.

use std::slice;

use tracing_subscriber::layer::SubscriberExt as _;

use super::*;
use crate::logging::Warnings;

fn journal(max_kept: usize) -> Arc<Journal> {
    let config = EventsConfig {
        max_kept,
        ..EventsConfig::default()
    };
    Journal::new(&config, Arc::default())
}

fn push(journal: &Journal, topic: &str) {
    journal.push(slice::from_ref(&(Record::for_tests(topic), 1)));
}

fn text(frame: Option<Bytes>) -> String {
    String::from_utf8(frame.unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn srv_694_a_reader_that_falls_behind_is_told_so_counted_and_ended() {
    let journal = journal(3);
    let mut reader = journal.listen(Filter::all(), None, None).unwrap();
    let greeting = format!("retry: 2000\nid: {}\n\n", journal.id(0));
    assert_eq!(text(reader.next().await), greeting);
    for _ in 0..3 {
        push(&journal, "room:1");
    }
    assert_eq!(
        text(reader.next().await).matches("topic_occupied").count(),
        6
    );
    for _ in 0..5 {
        push(&journal, "room:1");
    }
    let last = text(reader.next().await);
    assert!(last.starts_with("event: closed\n"), "{last}");
    assert!(
        last.contains("too_slow") && last.contains("\"n_behind\":2"),
        "{last}"
    );
    assert!(reader.next().await.is_none());
    let shown = journal.show();
    assert_eq!(
        (&shown["n_too_slow"], &shown["n_open"]),
        (&json!(1), &json!(0))
    );
}

#[tokio::test(start_paused = true)]
async fn srv_1749_an_event_that_is_larger_than_what_is_kept_reaches_all_who_read() {
    let warnings = Warnings::default();
    let layer = tracing_subscriber::registry().with(warnings.layer());
    let _guard = tracing::subscriber::set_default(layer);
    let config = EventsConfig {
        max_kept_bytes: 1024,
        ..EventsConfig::default()
    };
    let journal = Journal::new(&config, Arc::default());
    let large = "large".repeat(200);
    let quiet = Filter::all().of_topic("quiet".to_owned());
    let mut quiet = journal.listen(quiet, None, None).unwrap();
    let mut reader = journal.listen(Filter::all(), None, None).unwrap();
    let _greetings = (quiet.next().await, reader.next().await);
    for topic in ["quiet", &large] {
        push(&journal, topic);
    }
    assert!(text(quiet.next().await).contains("\"topic\":\"quiet\""));
    let both = text(reader.next().await);
    assert!(both.contains("\"topic\":\"quiet\"") && both.contains(&large));
    assert!(text(quiet.next().await).starts_with(": still here"));
    for _ in 0..2 {
        push(&journal, &large);
        assert!(text(reader.next().await).contains(&large));
        assert!(journal.stats().n_kept <= 2);
    }
    assert_eq!(journal.stats().n_slow, 0);

    // Who does not read is behind all the same, and the log says by which limit.
    for _ in 0..3 {
        push(&journal, &large);
    }
    assert!(text(reader.next().await).contains("too_slow"));
    let logged = warnings.latest(9, Duration::MAX);
    let fields = [("limit", "events.max_kept_bytes"), ("max", "1024")];
    for (name, value) in fields.map(|(name, value)| (name.to_owned(), value.to_owned())) {
        assert!(logged[0].fields.contains(&(name, value)), "{logged:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn srv_697_events_are_kept_while_somebody_listens_and_a_minute_longer() {
    let journal = journal(10);
    let is_on = journal.is_on.clone();
    let is_kept = || is_on.load(Ordering::Relaxed) && journal.round().is_some();
    assert!(!is_kept());
    push(&journal, "room:1");
    let task = tokio::spawn(journal.clone().run());
    let mut reader = journal.listen(Filter::all(), None, None).unwrap();
    assert!(is_kept());
    let _greeting = reader.next().await;
    push(&journal, "room:1");
    let heard = text(reader.next().await);
    let id = heard.lines().next().unwrap().strip_prefix("id: ").unwrap();
    let resume = Resume::parse(id).unwrap();
    drop(reader);
    tokio::time::sleep(KEEP_TIME / 2).await;
    assert!(is_kept());
    tokio::time::sleep(KEEP_TIME).await;
    assert!(!is_kept());
    // Nothing says how much has happened since, but that something may have.
    let mut reader = journal.listen(Filter::all(), Some(&resume), None).unwrap();
    let greeting = text(reader.next().await);
    assert!(
        greeting.contains("not_kept") && greeting.contains("\"n_events\":null"),
        "{greeting}"
    );
    assert_eq!(journal.stats().n_not_kept, 0);
    push(&journal, "room:1");
    let mut again = journal.listen(Filter::all(), Some(&resume), None).unwrap();
    assert!(text(again.next().await).contains("\"n_events\":null"));
    assert_eq!(text(again.next().await), text(reader.next().await));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn srv_1713_a_reader_of_one_topic_is_kept_and_knows_where_it_is_while_others_are_busy() {
    let journal = journal(5);
    let quiet = || Filter::all().of_topic("quiet".to_owned());
    let mut reader = journal.listen(quiet(), None, None).unwrap();
    let _greeting = reader.next().await;
    let began = Instant::now();
    let pushing = tokio::spawn({
        let journal = journal.clone();
        async move {
            for _ in 0..100 {
                push(&journal, "busy");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    });
    let comment = text(reader.next().await);
    assert_eq!(began.elapsed().as_secs(), 15);
    pushing.abort();
    let id = comment.strip_prefix(": still here\nid: ").unwrap().trim();
    // More than the journal keeps was for others: nothing that it asked for is lost.
    let resume = Resume::parse(id).unwrap();
    assert!(resume.number > 10, "{id}");
    drop(reader);
    push(&journal, "quiet");
    let mut reader = journal.listen(quiet(), Some(&resume), None).unwrap();
    assert_eq!(
        text(reader.next().await),
        format!("retry: 2000\nid: {id}\n\n")
    );
    assert!(text(reader.next().await).contains("\"topic\":\"quiet\""));
    assert_eq!(journal.stats().n_not_kept, 0);
}

#[tokio::test]
async fn srv_1682_who_comes_while_the_server_stops_is_told_so() {
    let journal = journal(10);
    journal.close();
    let late = journal.listen(Filter::all(), None, None);
    assert_eq!(late.unwrap_err().to_string(), "the server is stopping");
    assert_eq!(journal.stats().n_refused, 0, "the limit has refused nobody");
}
