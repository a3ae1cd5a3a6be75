//! [`Journal`]: the latest events that this node saw, for those who listen to `GET /api/events`.
//!
//! One ring, bounded in events and bytes, and for each [`Reader`] its place in it. The latest event
//! is kept whatever its size until another one comes, so nobody is behind without time to read it.
//! A reader takes what came since; one that comes back says where it was, and goes on there if that
//! is still kept. It knows where it is also when nothing was for it: the greeting and each comment
//! that keeps the connection say so. A reader that falls out of the ring is closed, with a reason:
//! when it reads, by the last thing it gets; when it does not read at all, by ending its connection
//! a few seconds later. Both are counted.
//!
//! Events are kept while somebody listens, and for a while after that, so that a listener may come
//! back. Otherwise nothing is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use herenow_channels::HangUp;
use herenow_presence::Topic;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, interval, timeout_at};

use super::event::{Filter, Kind, Loss, Record};
use crate::clock;
use crate::config::EventsConfig;

/// How long events are kept when nobody listens any more.
const KEEP_TIME: Duration = Duration::from_secs(60);
/// How long a reader that has fallen behind may take to read that it has, before it is hung up on.
const GRACE: Duration = Duration::from_secs(5);
/// How often it is looked for both.
const LOOK_PERIOD: Duration = Duration::from_secs(1);
/// What a reader takes in one go, about.
const CHUNK_BYTES: usize = 64 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Journal {
    config: EventsConfig,
    /// Whether somebody is to be told of events; without webhooks, that is who listens.
    is_on: Arc<AtomicBool>,
    has_webhooks: bool,
    /// What the ids of this life's events begin with.
    life: String,
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
    n_opened: AtomicU64,
    n_slow: AtomicU64,
    n_refused: AtomicU64,
    n_sent: AtomicU64,
    n_too_slow: AtomicU64,
    n_not_kept: AtomicU64,
}

/// What listeners have got, and what they have not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamStats {
    /// Those who listen.
    pub(crate) n_open: usize,
    pub(crate) n_opened: u64,
    /// Those that were closed for being too slow.
    pub(crate) n_slow: u64,
    pub(crate) n_refused: u64,
    /// Events that are kept.
    pub(crate) n_kept: usize,
    /// Events, counted for each who got it.
    pub(crate) n_sent: u64,
    /// Events that readers who were closed had not read.
    pub(crate) n_too_slow: u64,
    /// Events that were not kept until a reader came back.
    pub(crate) n_not_kept: u64,
}

#[derive(Debug, Default)]
struct Ring {
    /// Which time of being kept this is; 0 if it never was.
    round: u64,
    is_kept: bool,
    is_closed: bool,
    /// The number of the next event. Numbers never repeat, nor does a round begin where one ended.
    next: u64,
    /// The number that this round began with. Nobody counted what happened before it.
    began: u64,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    /// What made room for the latest event the last time, if ever.
    limit: Option<Limit>,
    readers: HashMap<u64, Place>,
    /// Since when nobody listens.
    idle_since: Option<Instant>,
}

/// A setting that bounds what is kept.
#[derive(Debug, Clone, Copy)]
struct Limit {
    name: &'static str,
    max: usize,
}

/// An event as readers get it.
#[derive(Debug)]
struct Kept {
    /// What filters look at; a notice of a loss is for all.
    what: Option<(Kind, Topic)>,
    frame: Bytes,
}

/// Where a reader is.
#[derive(Debug)]
struct Place {
    /// The number of the next event that it has not got.
    next: u64,
    hang_up: Option<HangUp>,
    /// Since when it is known to have fallen behind.
    behind_since: Option<Instant>,
}

/// One who listens. Dropping it is the end.
#[derive(Debug)]
pub(crate) struct Reader {
    journal: Arc<Journal>,
    id: u64,
    filter: Filter,
    changed: watch::Receiver<()>,
    /// What it gets before anything else.
    greeting: Option<Bytes>,
    is_ended: bool,
}

/// Where a listener was: the id of the last event it got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resume {
    life: String,
    number: u64,
}

/// Why somebody may not listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("{max} streams of events are open, which is the limit (events.max_streams)")]
    Full { max: usize },
    #[error("the server is stopping")]
    Closed,
}

impl Resume {
    /// Reads an id; `None` if it is none of an event.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        let (life, number) = id.rsplit_once('-')?;
        let (life, number) = (life.to_owned(), number.parse().ok()?);
        Some(Self { life, number })
    }
}

impl Journal {
    pub(super) fn new(config: &EventsConfig, is_on: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            config: config.clone(),
            has_webhooks: is_on.load(Ordering::Relaxed),
            is_on,
            life: clock::life(),
            ring: Mutex::default(),
            changed: watch::Sender::new(()),
            n_opened: AtomicU64::new(0),
            n_slow: AtomicU64::new(0),
            n_refused: AtomicU64::new(0),
            n_sent: AtomicU64::new(0),
            n_too_slow: AtomicU64::new(0),
            n_not_kept: AtomicU64::new(0),
        })
    }

    /// Returns which round of keeping this is, if events are kept now.
    pub(super) fn round(&self) -> Option<u64> {
        let ring = self.ring.lock();
        ring.is_kept.then_some(ring.round)
    }

    /// Adds events, each with its number among those of its topic.
    pub(super) fn push(&self, records: &[(Record, u64)]) {
        let mut ring = self.ring.lock();
        if !ring.is_kept {
            return;
        }
        for (record, seq) in records {
            let id = self.id(ring.next);
            let mut frame = Vec::with_capacity(record.n_bytes() + 64);
            let head = format!("id: {id}\nevent: {}\ndata: ", record.kind.word());
            frame.extend_from_slice(head.as_bytes());
            record.write(&id, *seq, &mut frame);
            frame.extend_from_slice(b"\n\n");
            let what = Some((record.kind, record.topic.clone()));
            let frame = frame.into();
            ring.keep(Kept { what, frame }, &self.config);
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Tells all who listen that events did not even come here.
    pub(super) fn lose(&self, n_events: usize) {
        let mut ring = self.ring.lock();
        if ring.is_kept {
            let frame = lost(Loss::Missed, Some(n_events as u64)).into();
            ring.keep(Kept { what: None, frame }, &self.config);
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Lets somebody listen; `hang_up` ends the connection.
    ///
    /// # Errors
    ///
    /// [`ListenError::Full`] if too many do, [`ListenError::Closed`] if the server stops.
    pub(crate) fn listen(
        self: &Arc<Self>,
        filter: Filter,
        resume: Option<&Resume>,
        hang_up: Option<HangUp>,
    ) -> Result<Reader, ListenError> {
        let mut ring = self.ring.lock();
        if ring.is_closed {
            return Err(ListenError::Closed);
        }
        let max = self.config.max_streams;
        if ring.readers.len() >= max {
            self.n_refused.fetch_add(1, Ordering::Relaxed);
            return Err(ListenError::Full { max });
        }
        if !ring.is_kept {
            ring.is_kept = true;
            ring.round += 1;
            ring.next += 1;
            ring.began = ring.next;
            self.is_on.store(true, Ordering::Relaxed);
        }
        ring.idle_since = None;
        let (next, missed) = self.place(&ring, resume);
        let missed = missed.unwrap_or_default();
        let greeting = format!("retry: 2000\nid: {}\n\n{missed}", self.id(next - 1));
        let id = self.n_opened.fetch_add(1, Ordering::Relaxed);
        let place = Place {
            next,
            hang_up,
            behind_since: None,
        };
        ring.readers.insert(id, place);
        Ok(Reader {
            journal: self.clone(),
            id,
            filter,
            changed: self.changed.subscribe(),
            greeting: Some(greeting.into()),
            is_ended: false,
        })
    }

    /// Finds where a reader begins: its next number, and what it is told of what it has missed.
    fn place(&self, ring: &Ring, resume: Option<&Resume>) -> (u64, Option<String>) {
        let Some(resume) = resume else {
            return (ring.next, None);
        };
        if resume.life != self.life {
            return (ring.next, Some(lost(Loss::NotKept, None)));
        }
        let (wanted, first) = (resume.number.saturating_add(1), ring.first());
        let next = wanted.clamp(first, ring.next);
        if wanted < ring.began {
            return (next, Some(lost(Loss::NotKept, None)));
        }
        let n_events = first.saturating_sub(wanted);
        if n_events == 0 {
            return (next, None);
        }
        self.n_not_kept.fetch_add(n_events, Ordering::Relaxed);
        (next, Some(lost(Loss::NotKept, Some(n_events))))
    }

    /// The id of the event with a number.
    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.life)
    }

    /// Looks after readers that have fallen behind, and after the ring when nobody listens; for
    /// ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut ticks = interval(LOOK_PERIOD);
        loop {
            ticks.tick().await;
            self.look(Instant::now());
        }
    }

    fn look(&self, now: Instant) {
        let mut ring = self.ring.lock();
        let (first, limit) = (ring.first(), ring.limit);
        let is_hopeless = |_: &u64, place: &mut Place| {
            if place.next >= first {
                return false;
            }
            now.duration_since(*place.behind_since.get_or_insert(now)) >= GRACE
        };
        for (_, place) in ring.readers.extract_if(is_hopeless) {
            self.count_slow(first - place.next, limit);
            if let Some(hang_up) = place.hang_up {
                hang_up.now();
            }
        }
        if ring.is_kept && ring.readers.is_empty() {
            let idle_since = *ring.idle_since.get_or_insert(now);
            if now.duration_since(idle_since) >= KEEP_TIME {
                ring.forget();
                self.is_on.store(self.has_webhooks, Ordering::Relaxed);
            }
        }
    }

    /// Ends all streams, and lets nobody listen any more.
    pub(super) fn close(&self) {
        self.ring.lock().is_closed = true;
        self.changed.send_replace(());
    }

    fn count_slow(&self, n_behind: u64, limit: Option<Limit>) {
        self.n_slow.fetch_add(1, Ordering::Relaxed);
        self.n_too_slow.fetch_add(n_behind, Ordering::Relaxed);
        let (limit, max) = limit.map(|limit| (limit.name, limit.max)).unzip();
        tracing::warn!(
            n_behind,
            limit,
            max,
            "closing a stream of events: its reader is too slow"
        );
    }

    pub(super) fn stats(&self) -> StreamStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let ring = self.ring.lock();
        StreamStats {
            n_open: ring.readers.len(),
            n_opened: read(&self.n_opened),
            n_slow: read(&self.n_slow),
            n_refused: read(&self.n_refused),
            n_kept: ring.kept.len(),
            n_sent: read(&self.n_sent),
            n_too_slow: read(&self.n_too_slow),
            n_not_kept: read(&self.n_not_kept),
        }
    }

    pub(super) fn show(&self) -> Value {
        let stats = self.stats();
        json!({
            "n_open": stats.n_open,
            "limit": self.config.max_streams,
            "n_opened": stats.n_opened,
            "n_too_slow": stats.n_slow,
            "n_refused": stats.n_refused,
            "n_kept": stats.n_kept,
        })
    }
}

impl Ring {
    /// The number of the oldest event that is kept, or of the next one.
    fn first(&self) -> u64 {
        self.next - self.kept.len() as u64
    }

    fn keep(&mut self, kept: Kept, config: &EventsConfig) {
        let latest_bytes = kept.frame.len();
        self.kept_bytes += latest_bytes;
        self.kept.push_back(kept);
        self.next += 1;
        while let Some(limit) = self.exceeded(latest_bytes, config)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.kept_bytes -= oldest.frame.len();
            self.limit = Some(limit);
        }
    }

    /// The limit that is exceeded; it is not by the latest event alone.
    fn exceeded(&self, latest_bytes: usize, config: &EventsConfig) -> Option<Limit> {
        let limit = |name, max| Some(Limit { name, max });
        if self.kept.len() > config.max_kept {
            limit("events.max_kept", config.max_kept)
        } else if self.kept_bytes - latest_bytes > config.max_kept_bytes {
            limit("events.max_kept_bytes", config.max_kept_bytes)
        } else {
            None
        }
    }

    fn forget(&mut self) {
        self.is_kept = false;
        self.kept = VecDeque::new();
        self.kept_bytes = 0;
    }
}

impl Reader {
    /// Returns what comes next, or after a while without anything a comment that keeps the
    /// connection; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        if self.is_ended {
            return None;
        }
        let due = Instant::now() + self.journal.config.keep_alive;
        loop {
            self.changed.mark_unchanged();
            if let Some(chunk) = self.read() {
                return Some(chunk);
            }
            // What changes may be for others only, and without an end.
            let changed = timeout_at(due, self.changed.changed()).await;
            if changed.is_err() || Instant::now() >= due {
                return Some(self.still_here());
            }
        }
    }

    /// A comment, with the id of the last event that it has read, or read past.
    fn still_here(&self) -> Bytes {
        let ring = self.journal.ring.lock();
        let place = ring.readers.get(&self.id);
        let at = place.map(|place| format!("id: {}\n", self.journal.id(place.next - 1)));
        let at = at.unwrap_or_default();
        format!(": still here\n{at}\n").into()
    }

    /// Takes what there is now.
    fn read(&mut self) -> Option<Bytes> {
        let mut ring = self.journal.ring.lock();
        let ring = &mut *ring;
        let (first, is_closed, limit) = (ring.first(), ring.is_closed, ring.limit);
        let Some(place) = ring.readers.get_mut(&self.id) else {
            self.is_ended = true; // It was hung up on, and is read all the same.
            return Some(closed("too_slow", None));
        };
        if place.next < first {
            let n_events = first - place.next;
            ring.readers.remove(&self.id);
            self.journal.count_slow(n_events, limit);
            self.is_ended = true;
            return Some(closed("too_slow", Some(n_events)));
        }
        let (mut chunk, mut n_events) = (Vec::new(), 0);
        let skipped = usize::try_from(place.next - first).unwrap_or(usize::MAX);
        for kept in ring.kept.iter().skip(skipped) {
            if chunk.len() >= CHUNK_BYTES {
                break;
            }
            place.next += 1;
            let is_wanted = |(kind, topic): &(Kind, Topic)| self.filter.wants(*kind, topic);
            if kept.what.as_ref().is_none_or(is_wanted) {
                chunk.extend_from_slice(&kept.frame);
                n_events += u64::from(kept.what.is_some());
            }
        }
        self.journal.n_sent.fetch_add(n_events, Ordering::Relaxed);
        if chunk.is_empty() && is_closed {
            self.is_ended = true;
            return Some(closed("stopping", None));
        }
        (!chunk.is_empty()).then(|| chunk.into())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut ring = self.journal.ring.lock();
        ring.readers.remove(&self.id);
        if ring.readers.is_empty() {
            ring.idle_since.get_or_insert_with(Instant::now);
        }
    }
}

/// The frame that says that events are not told.
fn lost(loss: Loss, n_events: Option<u64>) -> String {
    format!("event: lost\ndata: {}\n\n", loss.record(n_events))
}

/// The frame that says why the stream ends.
fn closed(reason: &str, n_behind: Option<u64>) -> Bytes {
    let data = json!({ "event": "closed", "reason": reason, "n_behind": n_behind });
    format!("event: closed\ndata: {data}\n\n").into()
}

#[cfg(test)]
mod tests;
