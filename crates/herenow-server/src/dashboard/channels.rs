//! The channels of the dashboard's socket: `overview`, `topic:NAME`, `user:KEY`.
//!
//! | channel | pushes | takes |
//! | --- | --- | --- |
//! | `overview` | `figures`, once a second: an [`Overview`](super::overview::Overview) | `search` `{"text"}`: topics that begin so, and the user of this key; `evict` `{"key", "topic"}`, or without a topic from all |
//! | `topic:NAME` | `state` `{"people", "next", …}` first and whenever changes were too many; `changes` `{"changes", …}` | `more` `{"after"}`: the next page; `person` `{"key"}`: `{"person"}` as it is now, or null |
//! | `user:KEY` | `places`, when they have changed | |
//!
//! What a topic or a user needs runs in a task of the channel, which ends with it: changes are
//! paced, so that a busy topic costs a push each [`PACE`], and at most [`MAX_CHANGES`] go into one.

use std::sync::Arc;
use std::time::Duration;

use herenow_channels::{
    Channel, Handle, Joined, Json, Outcome, Params, Payload, PushError, Reason, Refused, Socket,
};
use herenow_presence::{Presence, WatchEvent};
use herenow_pubsub::Payload as Outgoing;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, sleep_until};

use super::gather::{Interest, Looking};
use super::people::{Happening, People, Person, Places};
use super::shown;
use crate::api::{Api, Entrant, Problem};
use crate::config::Right;
use crate::people::Name;

pub(super) const OVERVIEW: &str = "overview";
pub(super) const FIGURES: &str = "figures";
pub(super) const TOPIC: &str = "topic:";
pub(super) const USER: &str = "user:";

/// Changes of a topic are pushed no more often.
const PACE: Duration = Duration::from_millis(150);
/// Changes of one push; if there are more, the page begins anew with who is there.
const MAX_CHANGES: usize = 200;
/// How often it is looked where a user is.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// Topics that a search finds.
const MAX_FOUND: usize = 20;

/// Who has opened the socket.
fn entrant(socket: &Socket) -> Result<Entrant, Refused> {
    let entrant = socket.assigns().get::<Entrant>().cloned();
    entrant.ok_or_else(|| Refused::reason("nobody was let in"))
}

/// Reads what the page sends.
fn read<'a, T: Deserialize<'a>>(payload: &'a Payload) -> Result<T, Outcome> {
    let read = serde_json::from_slice(payload.bytes());
    read.map_err(|error| Outcome::error(json!({ "reason": error.to_string() })))
}

/// Why something is not done, for the page; counted if it is over a limit.
fn reason<'a>(api: &Api, problem: &'a Problem) -> &'a str {
    if let Some(over) = problem.limit_over() {
        api.limits.count(over);
    }
    problem.detail()
}

fn unknown(event: &str) -> Outcome {
    Outcome::error(json!({ "reason": format!("there is no event {event:?} here") }))
}

/// The cluster at a glance.
#[derive(Debug)]
pub(super) struct OverviewChannel {
    api: Arc<Api>,
    interest: Interest,
    looking: Option<Looking>,
}

#[derive(Debug, Deserialize)]
struct Search {
    text: String,
}

#[derive(Debug, Deserialize)]
struct Evict {
    key: String,
    topic: Option<String>,
}

impl OverviewChannel {
    pub(super) fn new(api: &Arc<Api>, interest: &Interest) -> Self {
        Self {
            api: api.clone(),
            interest: interest.clone(),
            looking: None,
        }
    }

    fn search(&self, text: &str) -> Outcome {
        let presence = &self.api.presence;
        let topics = presence.topics_page(text, None, MAX_FOUND).into_iter();
        let topics: Vec<_> = topics
            .map(|topic| (topic.to_string(), presence.count(topic.as_str())))
            .collect();
        let n_topics = presence.topics_of_key(text, None, MAX_FOUND + 1).len();
        Outcome::ok(json!({
            "topics": topics,
            "user": (n_topics > 0).then(|| json!({ "key": text, "n_topics": n_topics })),
        }))
    }

    async fn evict(&self, entrant: &Entrant, evict: Evict) -> Outcome {
        if entrant.right < Right::Write {
            let (name, has) = (entrant.name.as_deref(), entrant.right.as_str());
            let name = name.unwrap_or_default();
            let reason = format!("the key {name} may {has}, this needs write");
            return Outcome::error(json!({ "reason": reason }));
        }
        let operator = entrant.name.as_deref();
        let evicted = match evict.topic {
            Some(topic) => {
                let key = evict.key;
                self.evict_from(&Name { topic, key }).await
            }
            None => self.api.evict(&evict.key).await.map(|topics| topics.len()),
        };
        match evicted {
            Ok(n_topics) => {
                tracing::info!(operator, n_topics, "user evicted from the dashboard");
                Outcome::ok(json!({ "n_topics": n_topics }))
            }
            Err(problem) => Outcome::error(json!({ "reason": reason(&self.api, &problem) })),
        }
    }

    async fn evict_from(&self, name: &Name) -> Result<usize, Problem> {
        self.api.evict_from(name).await?;
        Ok(1)
    }
}

impl Channel for OverviewChannel {
    async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
        let entrant = entrant(socket)?;
        let (looking, latest) = self.interest.look();
        self.looking = Some(looking);
        if let Some(latest) = latest {
            socket.push(FIGURES, Outgoing::Json(latest))?;
        }
        Ok(Joined::reply(shown(&self.api, &entrant)))
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match event {
            "search" => read(&payload)
                .map_or_else(|wrong| wrong, |search: Search| self.search(&search.text)),
            "evict" => match (entrant(socket), read(&payload)) {
                (Ok(entrant), Ok(evict)) => self.evict(&entrant, evict).await,
                (_, Err(wrong)) => wrong,
                (Err(_), _) => unknown(event),
            },
            _ => unknown(event),
        }
    }

    async fn terminate(&mut self, _: &mut Socket, _: &Reason) {
        self.looking = None;
    }
}

/// One topic: who is there, and what happens.
#[derive(Debug)]
pub(super) struct TopicChannel {
    api: Arc<Api>,
    topic: String,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Deserialize)]
struct More {
    after: String,
}

#[derive(Debug, Deserialize)]
struct Who {
    key: String,
}

impl TopicChannel {
    pub(super) fn new(api: &Arc<Api>) -> Self {
        Self {
            api: api.clone(),
            topic: String::new(),
            task: None,
        }
    }
}

impl Channel for TopicChannel {
    async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
        entrant(socket)?;
        socket.topic()[TOPIC.len()..].clone_into(&mut self.topic);
        let problem = self.api.check_topic(&self.topic);
        problem.map_err(|problem| Refused::reason(reason(&self.api, &problem)))?;
        let following = Following {
            presence: self.api.presence.clone(),
            topic: self.topic.clone(),
            handle: socket.handle(),
        };
        self.task = Some(tokio::spawn(following.run()));
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, _: &mut Socket, event: &str, payload: Payload) -> Outcome {
        let presence = &self.api.presence;
        match event {
            "more" => match read::<More>(&payload) {
                Ok(more) => {
                    let page = People::page(presence, &self.topic, Some(&more.after)).await;
                    Outcome::ok(Json(page))
                }
                Err(wrong) => wrong,
            },
            "person" => read(&payload).map_or_else(
                |wrong| wrong,
                |who: Who| {
                    let person = Person::now(presence, &self.topic, &who.key);
                    Outcome::ok(json!({ "person": person }))
                },
            ),
            _ => unknown(event),
        }
    }

    async fn terminate(&mut self, _: &mut Socket, _: &Reason) {
        end(self.task.take()).await;
    }
}

/// Ends a task of a channel.
async fn end(task: Option<JoinHandle<()>>) {
    let Some(task) = task else { return };
    task.abort();
    if let Err(error) = task.await
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the dashboard has failed");
    }
}

/// Tells a page what happens in a topic.
struct Following {
    presence: Presence,
    topic: String,
    handle: Handle,
}

/// What has happened and was not told yet.
#[derive(Debug, Default)]
struct Batch {
    happened: Vec<Happening>,
    /// There was more than can be told one by one.
    is_anew: bool,
}

impl Batch {
    fn take(&mut self, event: &WatchEvent) {
        match event {
            WatchEvent::Changed(event) if self.happened.len() < MAX_CHANGES => {
                self.happened.extend(Happening::of(event));
            }
            _ => self.is_anew = true,
        }
    }
}

impl Following {
    async fn run(self) {
        let mut watch = self.presence.watch(&self.topic);
        let mut due = Instant::now();
        loop {
            let mut batch = Batch::default();
            batch.take(&watch.next().await);
            loop {
                tokio::select! {
                    event = watch.next() => batch.take(&event),
                    () = sleep_until(due) => break,
                }
            }
            if self.tell(batch).await.is_err() {
                return; // The page has gone, and the channel ends, too.
            }
            due = Instant::now() + PACE;
        }
    }

    async fn tell(&self, batch: Batch) -> Result<(), PushError> {
        if batch.is_anew {
            // It may be later than the next changes, which a page can take twice.
            let page = People::page(&self.presence, &self.topic, None).await;
            return self.handle.push("state", Json(page));
        }
        let changes = json!({
            "changes": batch.happened,
            "n_presences": self.presence.count(&self.topic),
            "n_keys": self.presence.count_keys(&self.topic),
        });
        self.handle.push("changes", changes)
    }
}

/// One user: where it is.
#[derive(Debug)]
pub(super) struct UserChannel {
    api: Arc<Api>,
    task: Option<JoinHandle<()>>,
}

impl UserChannel {
    pub(super) fn new(api: &Arc<Api>) -> Self {
        Self {
            api: api.clone(),
            task: None,
        }
    }
}

impl Channel for UserChannel {
    async fn join(&mut self, socket: &mut Socket, _: Params) -> Result<Joined, Refused> {
        entrant(socket)?;
        let key = socket.topic()[USER.len()..].to_owned();
        let problem = self.api.check_key(&key);
        problem.map_err(|problem| Refused::reason(reason(&self.api, &problem)))?;
        let (presence, handle) = (self.api.presence.clone(), socket.handle());
        self.task = Some(tokio::spawn(tell_places(presence, key, handle)));
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, _: &mut Socket, event: &str, _: Payload) -> Outcome {
        unknown(event)
    }

    async fn terminate(&mut self, _: &mut Socket, _: &Reason) {
        end(self.task.take()).await;
    }
}

/// Tells a page where a key is, whenever that has changed.
async fn tell_places(presence: Presence, key: String, handle: Handle) {
    let mut looks = interval(LOOK_PERIOD);
    let mut told = String::new();
    loop {
        looks.tick().await;
        let places = serde_json::to_string(&Places::of(&presence, &key));
        let places = places.expect("places have texts for keys");
        if places == told {
            continue;
        }
        let payload = Outgoing::json(places.clone());
        if handle.push("places", payload).is_err() {
            return; // The page has gone, and the channel ends, too.
        }
        told = places;
    }
}

#[cfg(test)]
mod tests {
    use herenow_pubsub::PubSub;

    use super::*;

    #[tokio::test]
    async fn srv_796_more_changes_than_fit_into_one_push_are_told_by_the_state() {
        let presence = Presence::new(&PubSub::local());
        let mut watch = presence.watch("room:1");
        let mut batch = Batch::default();
        batch.take(&watch.next().await);
        assert!(
            batch.is_anew && batch.happened.is_empty(),
            "the state itself"
        );
        let mut batch = Batch::default();
        for n in 0..=MAX_CHANGES {
            assert!(!batch.is_anew);
            let here = presence.track_on("room:1", n.to_string(), json!({})).await;
            batch.take(&watch.next().await);
            here.unwrap().untrack().await;
            watch.next().await;
        }
        assert!(batch.is_anew);
        assert_eq!(batch.happened.len(), MAX_CHANGES);
    }
}
