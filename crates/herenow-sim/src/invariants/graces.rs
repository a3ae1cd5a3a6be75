//! In a topic with grace nobody is told that a key is gone before its grace is over, unless it left
//! or was made to; and nobody is shown for longer.
//!
//! Whether a key is here is taken from the tables of the nodes that are up, not from what the shard
//! says is held. That those tables are right is the business of other invariants.
//!
//! Why: a restart must not look like a crowd that leaves and comes, and a grace must not make
//! ghosts. Source: the header of `grace.rs` in `herenow-core`.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::time::Duration;

use herenow_core::{
    Change, Key, LeaveReason, MonoTime, NodeName, PeerStatus, Shard, Topic, Version, first_match,
};

use super::{View, Violation};
use crate::cluster::NodeStep;
use crate::network::NodeIndex;

/// How much later than due a step may come, since a node does not wake at once.
const WAKING: Duration = Duration::from_millis(5);

type Place = (Topic, Key);

/// What a reader was told of a key.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// When it was last known to be here; `None` if it never was, and is only held.
    last_here: Option<MonoTime>,
    /// When it was found to be gone, if it is.
    gone_since: Option<MonoTime>,
}

/// What a node has shown, and what it knew when that was last looked at.
#[derive(Debug, Default)]
struct Reader {
    told: BTreeMap<Place, Told>,
    looked_at: Option<(Version, u64)>,
    was_sweeping: bool,
    /// How many rows had been held until then, since the beginning.
    n_held: u64,
}

#[derive(Debug, Default)]
pub(super) struct Graces {
    readers: BTreeMap<NodeIndex, Reader>,
}

impl Graces {
    pub(super) fn begin(&mut self, index: NodeIndex) {
        self.readers.remove(&index);
    }

    pub(super) fn check(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        if view.cluster.config().graces.is_empty() {
            return Ok(());
        }
        let shard = view.node.shard();
        let reader = self.readers.entry(view.index).or_default();
        let progress = Some((shard.version(), shard.stats().n_applied));
        let is_news = reader.looked_at != progress
            || shard.is_sweeping()
            || !step.changes.is_empty()
            || !step.events.is_empty();
        if is_news {
            reader.looked_at = progress.filter(|_| !shard.is_sweeping());
            reader.look(view, step)?;
        }
        if shard.is_sweeping() {
            return Ok(());
        }
        let mut told = reader.told.iter();
        told.try_for_each(|(place, known)| check_shown(view, place, *known))
    }
}

impl Reader {
    fn look(&mut self, view: View<'_>, step: &NodeStep) -> Result<(), Violation> {
        let (shard, now) = (view.node.shard(), view.node.time());
        let (shown, living) = (shown(shard), living(shard));
        let gone = self
            .told
            .extract_if(.., |place, _| !shown.contains_key(&(&place.0, &place.1)));
        for (place, known) in gone.collect::<Vec<_>>() {
            check_told(view, &place, known, step)?;
        }
        let joined: BTreeSet<_> = step.changes.iter().filter_map(place_of_join).collect();
        let n_held = mem::replace(&mut self.n_held, shard.stats().n_held);
        let is_held_anew = shard.stats().n_held > n_held;
        let was_sweeping = mem::replace(&mut self.was_sweeping, shard.is_sweeping());
        for (place, node) in shown {
            let owned = (place.0.clone(), place.1.clone());
            let known = self.told.entry(owned).or_insert(Told {
                last_here: None,
                gone_since: None,
            });
            if shard.is_sweeping() && known.gone_since.is_some() {
                known.gone_since = Some(now); // It may be on its way back, or not: soon it shows.
            } else if living.contains(&place) {
                known.last_here = Some(now);
                known.gone_since = None;
            } else if known.gone_since.is_none()
                || was_sweeping
                || joined.contains(&place)
                || is_held_anew && step.heard.iter().any(|(heard, _)| heard == node)
            {
                // The last: a node that was silent was heard, and with it that this has ended. A
                // sweep holds a row when it comes to it, which a stop of the node may put off.
                known.gone_since = Some(now);
            }
        }
        Ok(())
    }
}

/// Checks that a reader that was told that a key is gone was not told too early.
fn check_told(
    view: View<'_>,
    place: &Place,
    known: Told,
    step: &NodeStep,
) -> Result<(), Violation> {
    let (period, on_node_down) = grace_of(view, &place.0);
    let mut reasons = step.changes.iter().filter_map(|change| match change {
        Change::Left { row, reason, .. } if row.topic() == &place.0 && row.key() == &place.1 => {
            Some(*reason)
        }
        Change::Left { .. } | Change::Joined(_) | Change::Updated { .. } => None,
    });
    let has_grace = match reasons.next_back() {
        Some(LeaveReason::Closed) => true,
        Some(LeaveReason::NodeDown) => on_node_down,
        Some(LeaveReason::Left | LeaveReason::Evicted) | None => false,
    };
    let Some(last_here) = known.last_here.filter(|_| has_grace) else {
        return Ok(());
    };
    let now = view.node.time();
    if now < last_here + period {
        let after = now.duration_since(last_here);
        let what = format!("{place:?} was told as gone after {after:?}, its grace is {period:?}");
        return Err(Violation::new("graces", what));
    }
    Ok(())
}

/// Checks that a key that is gone is not shown for too long.
fn check_shown(view: View<'_>, place: &Place, known: Told) -> Result<(), Violation> {
    let Some(since) = known.gone_since else {
        return Ok(());
    };
    let (period, _) = grace_of(view, &place.0);
    let (now, has_more) = (view.node.time(), view.node.shard().poll_timeout());
    if now > since + period + WAKING && has_more > now {
        let shown = now.duration_since(since);
        let what = format!("{place:?} is gone and shown for {shown:?}, its grace is {period:?}");
        return Err(Violation::new("graces", what));
    }
    Ok(())
}

fn grace_of(view: View<'_>, topic: &Topic) -> (Duration, bool) {
    let found = first_match(&view.cluster.config().graces, topic.as_str());
    found.map_or((Duration::ZERO, false), |grace| {
        (grace.period, grace.on_node_down)
    })
}

/// The keys that are visible, and the node that one of the rows of each is of.
fn shown(shard: &Shard) -> BTreeMap<(&Topic, &Key), &NodeName> {
    let topics = shard.topics().map(|(topic, _)| topic);
    let rows = topics.flat_map(|topic| shard.rows_of_topic(topic));
    rows.map(|row| ((row.topic(), row.key()), &row.replica().node))
        .collect()
}

/// The keys of all rows in the tables of nodes that are up.
fn living(shard: &Shard) -> BTreeSet<(&Topic, &Key)> {
    let up = shard.peers().filter(|peer| peer.status == PeerStatus::Up);
    let up: Vec<_> = up.map(|peer| peer.node).collect();
    let rows = up.iter().flat_map(|node| shard.rows_of_peer(node));
    let rows = rows.chain(shard.own_rows());
    rows.map(|row| (row.topic(), row.key())).collect()
}

fn place_of_join(change: &Change) -> Option<(&Topic, &Key)> {
    match change {
        Change::Joined(row) => Some((row.topic(), row.key())),
        Change::Updated { .. } | Change::Left { .. } => None,
    }
}
