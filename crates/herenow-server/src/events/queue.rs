//! [`Queue`]: what waits for one webhook, and what of it may be sent now.
//!
//! Events wait in lanes, one for each topic that has any. A lane is *ready*, or *out*: then events
//! of it are in a batch that is under way, and no other batch gets any of it until that one has
//! ended. So the events of a topic arrive in order, and topics do not wait for each other, but for
//! the batches that may be under way at once.
//!
//! A batch leaves at once if the one before is a while ago or as many events wait as fit into it;
//! otherwise a little later, so that many small ones become one.
//!
//! Bounded in events and bytes, those under way included. What comes when it is full is lost, which
//! is counted, logged once until there is room again, and told to the receiver with what it gets
//! next.

mod batch;
mod losses;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use herenow_presence::Topic;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::batch::n_bytes;
pub(super) use self::batch::{Batch, Item, Part};
use self::losses::Losses;
use super::event::{Filter, Loss, Record};
use crate::config::WebhookConfig;

/// After how many failures in a row, and when, a receiver is asked again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Again {
    pub(super) n_failed: usize,
    pub(super) at: Instant,
}

/// What a queue has for its courier.
#[derive(Debug)]
pub(super) enum Next {
    /// A batch.
    Batch(Batch),
    /// A batch at this time, or earlier if it is full then.
    At(Instant),
    /// Nothing until something comes.
    Nothing,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Queue {
    filter: Filter,
    config: Arc<WebhookConfig>,
    /// What the log calls the receiver.
    name: String,
    state: Mutex<State>,
    pub(super) wake: Notify,
    closing: Notify,
    n_delivered: AtomicU64,
    /// By why.
    n_lost: [AtomicU64; Loss::ALL.len()],
}

/// What a queue holds and has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueStats {
    /// Events that wait or are under way, and their bytes.
    pub(super) n_held: usize,
    pub(super) held_bytes: usize,
    pub(super) n_delivered: u64,
    pub(super) lost: Losses,
}

#[derive(Debug)]
struct State {
    lanes: HashMap<Topic, Lane>,
    /// Topics of lanes that are ready, those first that waited longest.
    ready: VecDeque<Topic>,
    /// Events in them.
    n_ready: usize,
    /// Events that wait or are under way, and their bytes.
    n_held: usize,
    held_bytes: usize,
    losses: Losses,
    /// Whether a batch is under way that only tells of losses.
    are_losses_out: bool,
    /// When the next one may be, if the last thing that the receiver did was to fail.
    again: Option<Again>,
    /// Whether the queue is losing events for want of room.
    is_full: bool,
    /// When a batch may leave that is not full.
    next_small: Instant,
    is_closed: bool,
}

#[derive(Debug, Default)]
struct Lane {
    items: VecDeque<Item>,
    is_out: bool,
}

impl Queue {
    pub(super) fn new(name: String, filter: Filter, config: Arc<WebhookConfig>) -> Self {
        Self {
            filter,
            config,
            name,
            state: Mutex::new(State {
                lanes: HashMap::new(),
                ready: VecDeque::new(),
                n_ready: 0,
                n_held: 0,
                held_bytes: 0,
                losses: Losses::default(),
                are_losses_out: false,
                again: None,
                is_full: false,
                next_small: Instant::now(),
                is_closed: false,
            }),
            wake: Notify::new(),
            closing: Notify::new(),
            n_delivered: AtomicU64::new(0),
            n_lost: Default::default(),
        }
    }

    /// Adds an event, if the receiver wants it. `id` is unique, `seq` counts those of the topic.
    pub(super) fn push(&self, record: &Record, id: &str, seq: u64) {
        if !self.filter.wants(record.kind, &record.topic) {
            return;
        }
        let mut json = Vec::with_capacity(record.n_bytes());
        record.write(id, seq, &mut json);
        let mut state = self.state.lock();
        let has_room = state.n_held < self.config.max_queued
            && state.held_bytes + json.len() <= self.config.max_queued_bytes;
        if state.is_closed {
            return;
        }
        if !has_room {
            self.count_lost(Loss::QueueFull, 1);
            state.losses.add(Loss::QueueFull, 1);
            if !std::mem::replace(&mut state.is_full, true) {
                let (n_events, n_bytes) = (state.n_held, state.held_bytes);
                let webhook = &self.name;
                tracing::warn!(
                    webhook,
                    n_events,
                    n_bytes,
                    "webhook queue full: losing events"
                );
            }
            return;
        }
        state.n_held += 1;
        state.held_bytes += json.len();
        let item = Item {
            json: json.into(),
            came: Instant::now(),
        };
        let was_idle = state.n_ready == 0;
        let State {
            lanes,
            ready,
            n_ready,
            ..
        } = &mut *state;
        let lane = lanes.entry(record.topic.clone()).or_default();
        lane.items.push_back(item);
        if !lane.is_out {
            *n_ready += 1;
            if lane.items.len() == 1 {
                ready.push_back(record.topic.clone());
            }
        }
        if was_idle || *n_ready == self.config.max_batch {
            self.wake.notify_one();
        }
    }

    /// Takes note that events did not even come here.
    pub(super) fn lose(&self, loss: Loss, n_events: usize) {
        let n_events = n_events as u64;
        self.count_lost(loss, n_events);
        self.state.lock().losses.add(loss, n_events);
        self.wake.notify_one();
    }

    /// Returns what is to be sent now.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut state = self.state.lock();
        if state.ready.is_empty() {
            return state.losses_alone(&self.config, now);
        }
        let is_small = state.n_ready < self.config.max_batch;
        if is_small && now < state.next_small && !state.is_closed {
            return Next::At(state.next_small);
        }
        if is_small {
            state.next_small = now + self.config.max_delay;
        }
        let (parts, n_old) = state.fill(&self.config, now);
        state.losses.add(Loss::TooOld, n_old);
        if n_old > 0 {
            self.count_lost(Loss::TooOld, n_old);
            let (webhook, reason) = (&self.name, Loss::TooOld.word());
            tracing::warn!(
                webhook,
                n_events = n_old,
                reason,
                "events for a webhook lost"
            );
        }
        self.note_room(&mut state);
        if parts.is_empty() {
            return state.losses_alone(&self.config, now);
        }
        Next::Batch(Batch {
            parts,
            losses: std::mem::take(&mut state.losses),
            n_failed: 0,
        })
    }

    /// Takes back the second half of a batch that holds several topics, as if it had not been
    /// taken.
    pub(super) fn take_back_half(&self, batch: &mut Batch) {
        let half = batch.parts.len().div_ceil(2);
        let mut state = self.state.lock();
        for part in batch.parts.drain(half..).rev() {
            let lane = state.lanes.entry(part.topic.clone()).or_default();
            let mut items = part.items;
            items.append(&mut lane.items);
            lane.items = items;
            lane.is_out = false;
            state.n_ready += state.lanes[&part.topic].items.len();
            state.ready.push_front(part.topic);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Gives up those events of a batch that are too old; what is left of it tells so. Returns how
    /// many they are.
    pub(super) fn drop_old(&self, batch: &mut Batch, now: Instant) -> usize {
        let mut state = self.state.lock();
        let mut n_old = 0;
        for part in std::mem::take(&mut batch.parts) {
            let is_young = |item: &Item| now.duration_since(item.came) < self.config.max_age;
            let (young, old): (VecDeque<_>, VecDeque<_>) =
                part.items.into_iter().partition(is_young);
            let topic = part.topic;
            n_old += old.len();
            state.n_held -= old.len();
            state.held_bytes -= n_bytes(&old);
            match young.is_empty() {
                true => state.let_in(topic),
                false => batch.parts.push(Part {
                    topic,
                    items: young,
                }),
            }
        }
        self.count_lost(Loss::TooOld, n_old as u64);
        batch.losses.add(Loss::TooOld, n_old as u64);
        self.note_room(&mut state);
        drop(state);
        self.wake.notify_one();
        n_old
    }

    /// Takes note that the receiver has a batch.
    pub(super) fn on_delivered(&self, batch: Batch) {
        let n_events = batch.n_events();
        self.n_delivered
            .fetch_add(n_events as u64, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.again = None;
        state.are_losses_out &= !batch.parts.is_empty();
        drop(state);
        self.release(batch);
    }

    /// Takes note that a batch is given up; what was lost before is told later, and alone not
    /// before it is time to ask the receiver again.
    pub(super) fn on_lost(&self, loss: Loss, batch: Batch, again: Again) {
        let n_events = batch.n_events() as u64;
        self.count_lost(loss, n_events);
        let mut losses = batch.losses;
        losses.add(loss, n_events);
        let mut state = self.state.lock();
        state.losses.add_all(&losses);
        state.again = Some(again);
        drop(state);
        self.release(batch);
    }

    /// Takes losses back that were not told.
    pub(super) fn on_untold(&self, batch: &Batch, again: Again) {
        let mut state = self.state.lock();
        state.losses.add_all(&batch.losses);
        state.are_losses_out = false;
        state.again = Some(again);
        drop(state);
        self.wake.notify_one();
    }

    fn release(&self, batch: Batch) {
        let mut state = self.state.lock();
        for part in batch.parts {
            state.n_held -= part.items.len();
            state.held_bytes -= n_bytes(&part.items);
            state.let_in(part.topic);
        }
        self.note_room(&mut state);
        drop(state);
        self.wake.notify_one();
    }

    fn note_room(&self, state: &mut State) {
        let has_room = state.n_held <= self.config.max_queued / 2
            && state.held_bytes <= self.config.max_queued_bytes / 2;
        if state.is_full && has_room {
            state.is_full = false;
            tracing::info!(webhook = self.name, "webhook queue has room again");
        }
    }

    /// Takes nothing any more, and has what waits sent without delay.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.again = None;
        drop(state);
        self.wake.notify_one();
        self.closing.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        let closing = self.closing.notified(); // It hears of what happens from here on.
        if !self.is_closed() {
            closing.await;
        }
    }

    /// Returns whether it is closed and nothing waits.
    pub(super) fn is_finished(&self) -> bool {
        let state = self.state.lock();
        state.is_closed && state.n_held == 0 && state.losses.is_empty()
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the events that wait or are under way.
    pub(super) fn n_held(&self) -> usize {
        self.state.lock().n_held
    }

    pub(super) fn stats(&self) -> QueueStats {
        let state = self.state.lock();
        QueueStats {
            n_held: state.n_held,
            held_bytes: state.held_bytes,
            n_delivered: self.n_delivered.load(Ordering::Relaxed),
            lost: Losses::of_all(|loss| self.n_lost[loss as usize].load(Ordering::Relaxed)),
        }
    }

    fn count_lost(&self, loss: Loss, n_events: u64) {
        self.n_lost[loss as usize].fetch_add(n_events, Ordering::Relaxed);
    }
}

impl State {
    /// Makes a lane ready that is out no more, if anything waits in it.
    fn let_in(&mut self, topic: Topic) {
        let Some(lane) = self.lanes.get_mut(&topic) else {
            return;
        };
        lane.is_out = false;
        let n_waiting = lane.items.len();
        if n_waiting == 0 {
            self.lanes.remove(&topic);
        } else {
            self.n_ready += n_waiting;
            self.ready.push_back(topic);
        }
    }

    /// Losses that no events go with.
    fn losses_alone(&mut self, config: &WebhookConfig, now: Instant) -> Next {
        if self.losses.is_empty() || self.are_losses_out {
            return Next::Nothing;
        }
        let due = self.again.map_or(now, |again| again.at);
        let due = match self.is_closed {
            true => due,
            false => due.max(self.next_small),
        };
        if now < due {
            return Next::At(due);
        }
        self.next_small = now + config.max_delay;
        self.are_losses_out = true;
        Next::Batch(Batch {
            parts: Vec::new(),
            losses: std::mem::take(&mut self.losses),
            n_failed: self.again.map_or(0, |again| again.n_failed),
        })
    }

    /// Takes as many events out of ready lanes as fit into a batch, and drops those that are too
    /// old.
    fn fill(&mut self, config: &WebhookConfig, now: Instant) -> (Vec<Part>, u64) {
        let mut parts = Vec::new();
        let (mut n_items, mut n_bytes, mut n_old) = (0, 0, 0);
        while n_items < config.max_batch
            && let Some(topic) = self.ready.pop_front()
        {
            let lane = self.lanes.get_mut(&topic).expect("a ready lane is there");
            self.n_ready -= lane.items.len();
            let mut items = VecDeque::new();
            while let Some(item) = lane.items.front() {
                let is_old = now.duration_since(item.came) > config.max_age;
                let fits = n_items < config.max_batch
                    && (n_items == 0 || n_bytes + item.json.len() <= config.max_batch_bytes);
                if !is_old && !fits {
                    break;
                }
                let item = lane.items.pop_front().expect("it was just looked at");
                if is_old {
                    n_old += 1;
                    self.n_held -= 1;
                    self.held_bytes -= item.json.len();
                } else {
                    n_items += 1;
                    n_bytes += item.json.len();
                    items.push_back(item);
                }
            }
            if !items.is_empty() {
                lane.is_out = true;
                parts.push(Part { topic, items });
            } else if lane.items.is_empty() {
                self.lanes.remove(&topic); // All of it was too old.
            } else {
                self.n_ready += lane.items.len();
                self.ready.push_front(topic); // It is to begin the next batch.
                break;
            }
        }
        (parts, n_old)
    }
}

#[cfg(test)]
mod tests;
