//! [`Node`]: the host of one shard in one life, as a driver on a real node would be.

use std::collections::VecDeque;
use std::time::Duration;

use herenow_core::{
    Change, Incarnation, LeaveReason, MonoTime, NodeHeartbeat, NodeName, Output, PeerEvent,
    ReplicaId, Shard, ShardConfig, ShardIndex, ShardMessage,
};

use super::{Outcome, Write};
use crate::network::{Frame, NodeIndex, Parcel};

/// The only shard that is simulated: shards know nothing of each other.
pub(crate) const SHARD: ShardIndex = ShardIndex(0);
/// A heartbeat out of turn, for a peer that came up, comes after this part of the period.
const EARLY_PART: u32 = 100;
/// Time between two slices of a sweep, so that other things happen in between.
const SWEEP_PAUSE: Duration = Duration::from_millis(3);

/// A node's monotonic clock, which may be set nevertheless.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    /// How far ahead of virtual time it is, in nanoseconds.
    ahead: i128,
}

impl Clock {
    pub(super) fn new(ahead: Duration) -> Self {
        let ahead = i128::try_from(ahead.as_nanos()).unwrap_or(0);
        Self { ahead }
    }

    /// Sets the clock forward, or back if `by_millis` is negative.
    pub(super) fn jump(&mut self, by_millis: i64) {
        self.ahead += i128::from(by_millis) * 1_000_000;
    }

    fn shows(&self, now: Duration) -> MonoTime {
        let nanos = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX / 2) + self.ahead;
        let nanos = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
        MonoTime::since_origin(Duration::from_nanos(nanos))
    }

    /// Returns when in virtual time the clock will show this; `None` for never.
    fn when(&self, shown: MonoTime) -> Option<Duration> {
        if shown == MonoTime::MAX {
            return None;
        }
        let nanos = i128::try_from(shown.elapsed().as_nanos()).unwrap_or(i128::MAX) - self.ahead;
        let nanos = u64::try_from(nanos.max(0)).unwrap_or(u64::MAX);
        Some(Duration::from_nanos(nanos))
    }
}

/// What waits in a node's inbox.
#[derive(Debug)]
enum Input {
    Message(NodeName, ShardMessage),
    Heartbeat(NodeHeartbeat),
    Gone(NodeName),
}

/// A node that runs.
#[derive(Debug)]
pub struct Node {
    shard: Shard,
    clock: Clock,
    /// The latest time that the shard was told, and what the clock showed at the last step.
    told: MonoTime,
    shown: MonoTime,
    inbox: VecDeque<Input>,
    heartbeat_period: Duration,
    next_beat: Duration,
    early_beat: Option<Duration>,
    next_sweep: Option<Duration>,
    wake_at: Option<Duration>,
    paused_until: Option<Duration>,
    /// Whether, when both are due, messages come before deadlines.
    messages_first: bool,
}

/// What a node did in one step.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// Whom it heard, in this order.
    pub(crate) heard: Vec<(NodeName, Incarnation)>,
    /// Which lives told it that they end.
    pub(crate) goodbyes: Vec<(NodeName, Incarnation)>,
    /// What it told its local readers.
    pub(crate) changes: Vec<Change>,
    pub(crate) events: Vec<(NodeName, PeerEvent)>,
    /// How many versions the deltas spanned that it took in.
    pub(crate) span: u64,
    /// How many of them were pieces of a list of what is gone.
    pub(crate) n_cut: u64,
    pub(crate) outgoing: Vec<(Option<NodeName>, Frame)>,
}

impl Node {
    pub(super) fn new(
        config: &ShardConfig,
        id: ReplicaId,
        now: Duration,
        clock: Clock,
        messages_first: bool,
    ) -> Self {
        let local = clock.shows(now);
        let shard = Shard::new(config, id, local);
        Self {
            shard: shard.expect("plans are made of settings that fit together"),
            clock,
            told: local,
            shown: local,
            inbox: VecDeque::new(),
            heartbeat_period: config.heartbeat_period,
            next_beat: now,
            early_beat: None,
            next_sweep: None,
            wake_at: None,
            paused_until: None,
            messages_first,
        }
    }

    /// Returns the shard.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// Returns what the clock showed at the last step.
    pub(crate) fn shown(&self) -> MonoTime {
        self.shown
    }

    /// Returns the time as the shard takes it: one that is set back stands still there.
    pub(crate) fn time(&self) -> MonoTime {
        self.told.max(self.shown)
    }

    pub(super) fn clock_mut(&mut self) -> &mut Clock {
        &mut self.clock
    }

    /// Returns how long it takes until the clock shows what it has shown before it was set back.
    pub(super) fn clock_lag(&self, now: Duration) -> Duration {
        self.told.duration_since(self.clock.shows(now))
    }

    /// Returns when it does something next. It does something for ever: it beats.
    pub(super) fn due(&self) -> Duration {
        let timer = self.clock.when(self.shard.poll_timeout());
        let timers = [timer, self.wake_at, self.early_beat, self.next_sweep];
        let next = timers
            .into_iter()
            .flatten()
            .fold(self.next_beat, Duration::min);
        next.max(self.paused_until.unwrap_or_default())
    }

    /// Wakes the node at a time, unless it wakes before.
    pub(super) fn wake(&mut self, at: Duration) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn pause(&mut self, until: Duration) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    pub(super) fn resume(&mut self) {
        self.paused_until = None;
    }

    pub(super) fn is_paused(&self, now: Duration) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// Puts a frame of node `from` into the inbox.
    pub(super) fn receive(&mut self, from: &NodeName, frame: &Frame) {
        self.inbox.push_back(match frame {
            Frame::Shard(bytes) => {
                let message = ShardMessage::decode(bytes, from, SHARD);
                Input::Message(
                    from.clone(),
                    message.expect("what one shard says another can read"),
                )
            }
            Frame::Heartbeat(bytes) => {
                let heartbeat = NodeHeartbeat::decode(bytes);
                Input::Heartbeat(heartbeat.expect("what one node says another can read"))
            }
            Frame::Gone(node) => Input::Gone(node.clone()),
        });
    }

    /// Lets the node do all that is due.
    pub(super) fn step(&mut self, now: Duration) -> Step {
        let mut step = Step::default();
        self.paused_until = None;
        self.wake_at = None;
        let local = self.clock.shows(now);
        self.shown = local;
        if self.messages_first {
            self.take_inbox(local, &mut step);
        }
        if self.shard.poll_timeout() <= local {
            self.tell(local);
            self.shard.handle_timeout(local);
        }
        if self.next_sweep.is_some_and(|at| at <= now) {
            self.tell(local);
            self.shard.handle_sweep(local);
            self.next_sweep = None;
        }
        self.take_inbox(local, &mut step);
        if self.shard.is_sweeping() {
            self.next_sweep = self.next_sweep.or(Some(now + SWEEP_PAUSE));
        }
        self.drain(now, &mut step);
        let is_early = self.early_beat.is_some_and(|at| at <= now);
        if is_early || self.next_beat <= now {
            step.outgoing.push((None, self.heartbeat()));
        }
        if is_early {
            self.early_beat = None;
        }
        if self.next_beat <= now {
            self.next_beat = now + self.heartbeat_period;
        }
        step
    }

    /// Says good-bye and returns the last that it has to say.
    pub(super) fn leave(&mut self, now: Duration) -> Step {
        let mut step = Step::default();
        let local = self.clock.shows(now);
        self.shard.handle_shutdown(local);
        self.drain(now, &mut step);
        step
    }

    pub(super) fn write(&mut self, now: Duration, write: &Write) -> Outcome {
        let local = self.clock.shows(now);
        self.tell(local);
        let shard = &mut self.shard;
        match write.clone() {
            Write::Track {
                owner,
                topic,
                key,
                meta,
            } => match shard.handle_track(local, owner, topic, key, meta) {
                Ok(row) => Outcome::Wrote(row.version()),
                Err(_) => Outcome::Refused,
            },
            Write::Update {
                owner,
                topic,
                key,
                meta,
            } => match shard.handle_update(local, owner, &topic, &key, meta) {
                Ok(row) => Outcome::Wrote(row.version()),
                Err(_) => Outcome::Refused,
            },
            Write::Untrack { owner, topic, key } => {
                let reason = LeaveReason::Left;
                match shard.handle_untrack(local, owner, &topic, &key, reason) {
                    true => Outcome::Wrote(shard.version()),
                    false => Outcome::Refused,
                }
            }
            Write::OwnerEnd { owner } => {
                Outcome::Ended(shard.handle_owner_end(local, owner, LeaveReason::Closed))
            }
        }
    }

    fn tell(&mut self, local: MonoTime) {
        self.told = self.told.max(local);
    }

    fn take_inbox(&mut self, local: MonoTime, step: &mut Step) {
        while let Some(input) = self.inbox.pop_front() {
            self.tell(local);
            match input {
                Input::Message(from, message) => {
                    let (incarnation, span) = incarnation_and_span(&message);
                    step.n_cut += u64::from(is_cut(&message));
                    step.heard.push((from.clone(), incarnation));
                    if matches!(message, ShardMessage::Bye { .. }) {
                        step.goodbyes.push((from.clone(), incarnation));
                    }
                    step.span += span;
                    self.shard.handle_message(local, &from, message);
                }
                Input::Heartbeat(heartbeat) => {
                    let (node, incarnation) = (heartbeat.node.clone(), heartbeat.incarnation);
                    step.heard.push((node.clone(), incarnation));
                    let announced = heartbeat.version_of(SHARD);
                    let announced = announced.expect("a heartbeat speaks of every shard");
                    self.shard
                        .handle_heartbeat(local, &node, incarnation, announced);
                }
                Input::Gone(node) => self.shard.handle_peer_gone(local, &node),
            }
        }
    }

    fn drain(&mut self, now: Duration, step: &mut Step) {
        while let Some(output) = self.shard.poll_output() {
            match output {
                Output::Diff(diff) => step.changes.extend(diff.changes),
                Output::Broadcast(message) => {
                    step.outgoing
                        .push((None, Frame::Shard(message.encode().into())));
                }
                Output::Send { to, message } => {
                    step.outgoing
                        .push((Some(to), Frame::Shard(message.encode().into())));
                }
                Output::Peer { node, event, .. } => {
                    if event == PeerEvent::Up {
                        let soon = now + self.heartbeat_period / EARLY_PART;
                        self.early_beat = Some(self.early_beat.unwrap_or(soon));
                    }
                    step.events.push((node, event));
                }
            }
        }
    }

    fn heartbeat(&self) -> Frame {
        let id = self.shard.id();
        let heartbeat = NodeHeartbeat {
            node: id.node.clone(),
            incarnation: id.incarnation,
            versions: vec![self.shard.announced()],
        };
        Frame::Heartbeat(heartbeat.encode().into())
    }
}

fn incarnation_and_span(message: &ShardMessage) -> (Incarnation, u64) {
    match message {
        ShardMessage::Delta { incarnation, delta }
        | ShardMessage::Transfer { incarnation, delta } => {
            (*incarnation, delta.as_of().0 - delta.from().0)
        }
        ShardMessage::Request { incarnation, .. }
        | ShardMessage::Held { incarnation, .. }
        | ShardMessage::Bye { incarnation } => (*incarnation, 0),
    }
}

fn is_cut(message: &ShardMessage) -> bool {
    match message {
        ShardMessage::Delta { delta, .. } | ShardMessage::Transfer { delta, .. } => delta.is_cut(),
        ShardMessage::Request { .. } | ShardMessage::Held { .. } | ShardMessage::Bye { .. } => {
            false
        }
    }
}

/// Addresses what a node has to say: a name to one, none to all others.
pub(super) fn address(
    from: NodeIndex,
    to: Option<&NodeName>,
    names: &[NodeName],
    frame: &Frame,
) -> Vec<Parcel> {
    let places = names.iter().enumerate();
    let meant = places.filter(|(place, name)| *place != from.0 && to.is_none_or(|to| to == *name));
    let parcels = meant.map(|(place, _)| Parcel {
        from,
        to: NodeIndex(place),
        frame: frame.clone(),
    });
    parcels.collect()
}
