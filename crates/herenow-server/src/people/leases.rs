//! [`Leases`]: the task that owns them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use herenow_presence::{Here, LeaveReason, Presence};
use herenow_pubsub::Link;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::link::{Message, Stamp};
use super::{Change, Held, Name, PeopleError, Stats};

/// The field with the time at which a user came, as the built-in channel writes it.
const ONLINE_AT: &str = "online_at";

/// How long a lease that another node has now is kept, for its presence to be seen here before.
const MOVING_TIME: Duration = Duration::from_millis(100);

/// What the task is asked to do.
#[derive(Debug)]
pub(super) enum Command {
    Hold {
        name: Name,
        change: Change,
        lease: Option<Duration>,
        may_begin: bool,
        answer: oneshot::Sender<Result<Held, PeopleError>>,
    },
    End {
        name: Name,
        answer: oneshot::Sender<bool>,
    },
    Heard(Message),
    Close,
}

/// All leases of this node.
pub(super) struct Leases {
    presence: Presence,
    link: Arc<Link>,
    max_leases: usize,
    stats: Arc<Stats>,
    held: HashMap<Name, Lease>,
    /// By when they end; numbers tell those of one moment apart.
    ends: BTreeMap<(Instant, u64), Name>,
    n_ends: u64,
}

struct Lease {
    /// Dropping it is the leave.
    here: Here,
    meta: Map<String, Value>,
    phx_ref: String,
    lease: Duration,
    ends: (Instant, u64),
    stamp: Stamp,
    /// Whether another node has it now, and this one waits to see it there.
    is_moved: bool,
}

impl Leases {
    pub(super) fn new(
        presence: Presence,
        link: Arc<Link>,
        max_leases: usize,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            presence,
            link,
            max_leases,
            stats,
            held: HashMap::new(),
            ends: BTreeMap::new(),
            n_ends: 0,
        }
    }

    pub(super) async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut messages: mpsc::Receiver<Message>,
    ) {
        loop {
            let next = self.ends.first_key_value().map(|((at, _), _)| *at);
            let due = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Close) | None => return,
                    Some(command) => self.handle(command).await,
                },
                Some(message) = messages.recv() => self.on_message(message).await,
                () = due => self.expire(),
            }
            self.stats
                .n_leases
                .store(self.held.len() as u64, Ordering::Relaxed);
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Hold {
                name,
                change,
                lease,
                may_begin,
                answer,
            } => {
                let held = match self.held.contains_key(&name) {
                    true => self.renew(&name, change, lease).await,
                    false if may_begin => self.begin(name, change, lease).await,
                    false => Err(PeopleError::NotHeld),
                };
                let _gone = answer.send(held);
            }
            Command::End { name, answer } => {
                let was_held = self.end(&name).await;
                let _gone = answer.send(was_held);
            }
            Command::Heard(message) => self.on_message(message).await,
            Command::Close => {}
        }
    }

    async fn begin(
        &mut self,
        name: Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        if self.held.len() >= self.max_leases {
            let max = self.max_leases;
            tracing::warn!(max, "a presence of a backend refused: api.max_leases");
            return Err(PeopleError::Full { max });
        }
        let (lease, mut meta) = (lease.unwrap_or_default(), changed(Map::new(), change));
        let now = Value::String(unix_time().as_secs().to_string());
        meta.entry(ONLINE_AT).or_insert(now);
        let here = self
            .presence
            .track_on(&name.topic, &name.key, &meta)
            .await?;
        here.end_with(LeaveReason::Closed);
        let stamp = self.claim(&name);
        let phx_ref = here.meta_ref().to_string();
        let ends = self.next_end(&name, lease);
        let held = Held {
            is_new: true,
            phx_ref: phx_ref.clone(),
            lease,
        };
        self.held.insert(
            name,
            Lease {
                here,
                meta,
                phx_ref,
                lease,
                ends,
                stamp,
                is_moved: false,
            },
        );
        Ok(held)
    }

    async fn renew(
        &mut self,
        name: &Name,
        change: Change,
        lease: Option<Duration>,
    ) -> Result<Held, PeopleError> {
        let held = self.held.get_mut(name).ok_or(PeopleError::NotHeld)?;
        let meta = changed(held.meta.clone(), change);
        if meta != held.meta {
            held.phx_ref = held.here.update(&meta).await?.to_string();
            held.meta = meta;
        }
        held.lease = lease.unwrap_or(held.lease);
        let answer = Held {
            is_new: false,
            phx_ref: held.phx_ref.clone(),
            lease: held.lease,
        };
        let is_moved = std::mem::take(&mut held.is_moved);
        self.ends_in(name, answer.lease);
        if is_moved {
            let stamp = self.claim(name);
            self.held.get_mut(name).ok_or(PeopleError::NotHeld)?.stamp = stamp;
        }
        Ok(answer)
    }

    /// Tells the other nodes that this one has the lease.
    fn claim(&self, name: &Name) -> Stamp {
        let stamp = Stamp {
            unix_nanos: u64::try_from(unix_time().as_nanos()).unwrap_or(u64::MAX),
            node: self.presence.pubsub().node_name().to_owned(),
        };
        let moved = Message::Moved {
            name: name.clone(),
            stamp: stamp.clone(),
        };
        // Not told, the others keep theirs until it runs out.
        let _refused = self.link.broadcast(moved.encode());
        stamp
    }

    fn next_end(&mut self, name: &Name, lease: Duration) -> (Instant, u64) {
        self.n_ends += 1;
        let ends = (Instant::now() + lease, self.n_ends);
        self.ends.insert(ends, name.clone());
        ends
    }

    /// Sets when a lease that is held ends.
    fn ends_in(&mut self, name: &Name, time: Duration) {
        let ends = self.next_end(name, time);
        if let Some(held) = self.held.get_mut(name) {
            let before = std::mem::replace(&mut held.ends, ends);
            self.ends.remove(&before);
        }
    }

    fn take(&mut self, name: &Name) -> Option<Lease> {
        let lease = self.held.remove(name)?;
        self.ends.remove(&lease.ends);
        Some(lease)
    }

    async fn end(&mut self, name: &Name) -> bool {
        match self.take(name) {
            Some(lease) => {
                lease.here.untrack().await;
                true
            }
            None => false,
        }
    }

    /// Lets a user go who is only held back from this node's readers.
    async fn end_grace(&self, name: &Name, reason: LeaveReason) {
        self.presence
            .end_grace(&name.topic, &name.key, reason)
            .await;
    }

    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.ends.first_entry()
            && entry.key().0 <= now
        {
            let name = entry.remove();
            // Its drop is the leave, with the reason `closed`.
            let is_moved = self.held.remove(&name).is_some_and(|lease| lease.is_moved);
            let (counter, what) = match is_moved {
                true => (&self.stats.n_moved, "a lease moved to another node"),
                false => (&self.stats.n_expired, "a lease ran out"),
            };
            counter.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(topic = name.topic, key = name.key, "{what}");
        }
    }

    async fn on_message(&mut self, message: Message) {
        match message {
            Message::Moved { name, stamp } => {
                if let Some(held) = self.held.get_mut(&name)
                    && held.stamp < stamp
                {
                    // The message can be faster than the presence that it is about.
                    held.is_moved = true;
                    self.ends_in(&name, MOVING_TIME);
                }
            }
            Message::End(name) => {
                self.end(&name).await;
                self.end_grace(&name, LeaveReason::Left).await;
            }
            Message::Evict { key, topic } => {
                self.stats.n_evicted.fetch_add(1, Ordering::Relaxed);
                let is_meant = |name: &&Name| {
                    name.key == key && topic.as_ref().is_none_or(|topic| name.topic == *topic)
                };
                let meant: Vec<Name> = self.held.keys().filter(is_meant).cloned().collect();
                for name in meant {
                    if let Some(lease) = self.take(&name) {
                        lease.here.end_with(LeaveReason::Evicted);
                    }
                }
                let topics = match topic {
                    Some(topic) => vec![topic],
                    None => {
                        let topics = self.presence.topics_of_key(&key, None, usize::MAX);
                        topics.iter().map(ToString::to_string).collect()
                    }
                };
                for topic in topics {
                    let name = Name {
                        topic,
                        key: key.clone(),
                    };
                    self.end_grace(&name, LeaveReason::Evicted).await;
                }
            }
        }
    }
}

/// The meta after a change. The time at which the user came stays, unless the backend sets it.
fn changed(mut meta: Map<String, Value>, change: Change) -> Map<String, Value> {
    match change {
        Change::Keep => {}
        Change::Set(mut new) => {
            if let Some(online_at) = meta.remove(ONLINE_AT) {
                new.entry(ONLINE_AT).or_insert(online_at);
            }
            meta = new;
        }
        Change::Merge(patch) => {
            for (field, value) in patch {
                if value.is_null() {
                    meta.remove(&field);
                } else {
                    meta.insert(field, value);
                }
            }
        }
    }
    meta
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
