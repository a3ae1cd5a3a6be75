//! What each act of a plan does to the simulation.

use std::time::Duration;

use super::{Failure, Simulation};
use crate::cluster::Write;
use crate::network::NodeIndex;
use crate::schedule::Act;

/// Nodes that run at once at most.
const MAX_RUNNING: usize = 9;
/// Names that there are at most.
const MAX_NAMES: usize = 24;

impl Simulation {
    /// Does one thing of a plan; nothing if there is no node that it could be done to.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the first invariant that does not hold meanwhile.
    pub fn act(&mut self, act: &Act) -> Result<(), Failure> {
        match act {
            Act::Write { node, write } => match self.nth_running(*node) {
                Some(at) => self.write(at, write),
                None => Ok(()),
            },
            Act::Burst { node, n_owners } => match self.nth_running(*node) {
                Some(at) => self.burst(at, *n_owners),
                None => Ok(()),
            },
            Act::Storm { node, writes, gap } => match self.nth_running(*node) {
                Some(at) => self.storm(at, writes, *gap),
                None => Ok(()),
            },
            Act::Rolling { gap } => self.roll(*gap),
            Act::Calm => self.calm(),
            Act::Weather(_)
            | Act::Split { .. }
            | Act::Cut { .. }
            | Act::Mend
            | Act::Newcomer
            | Act::Restart { .. } => {
                self.change_the_whole(act);
                Ok(())
            }
            Act::Pause { node, .. }
            | Act::Crash { node, .. }
            | Act::Leave { node }
            | Act::Jump { node, .. }
            | Act::WallClock { node, .. }
            | Act::FalseAlarm { node } => {
                if let Some(at) = self.nth_running(*node) {
                    self.disturb(at, act);
                }
                Ok(())
            }
        }
    }

    fn change_the_whole(&mut self, act: &Act) {
        match act {
            Act::Weather(weather) => self.set_weather(weather.clone()),
            Act::Split { mask, both_ways } => self.split(*mask, *both_ways),
            Act::Cut { from, to } => {
                if let (Some(from), Some(to)) = (self.nth_running(*from), self.nth_running(*to)) {
                    self.cut(from, to);
                }
            }
            Act::Newcomer => {
                let n_running = self.cluster.running().count();
                let n_names = n_running + self.cluster.vacant().count();
                if n_running < MAX_RUNNING && n_names < MAX_NAMES {
                    self.add();
                }
            }
            Act::Restart { node } => {
                let vacant: Vec<NodeIndex> = self.cluster.vacant().collect();
                if !vacant.is_empty() {
                    self.restart(vacant[node % vacant.len()]);
                }
            }
            _ => self.mend(),
        }
    }

    fn disturb(&mut self, at: NodeIndex, act: &Act) {
        match act {
            Act::Pause { length, .. } => self.pause(at, *length),
            Act::Crash { hinted, .. } => self.crash(at, *hinted),
            Act::Leave { .. } => self.leave(at),
            Act::Jump { by_millis, .. } => self.jump(at, *by_millis),
            Act::WallClock { by_millis, .. } => self.set_wall_clock(at, *by_millis),
            _ => self.hint_gone(at),
        }
    }

    fn split(&mut self, mask: u16, both_ways: bool) {
        let running: Vec<NodeIndex> = self.cluster.running().map(|(at, _)| at).collect();
        let is_left = |at: &NodeIndex| mask >> (at.0 % 16) & 1 == 1;
        for left in running.iter().filter(|at| is_left(at)) {
            for right in running.iter().filter(|at| !is_left(at)) {
                self.cut(*left, *right);
                if both_ways {
                    self.cut(*right, *left);
                }
            }
        }
    }

    fn storm(&mut self, at: NodeIndex, writes: &[Write], gap: Duration) -> Result<(), Failure> {
        for write in writes {
            self.write(at, write)?;
            self.pass(gap)?;
        }
        Ok(())
    }

    fn roll(&mut self, gap: Duration) -> Result<(), Failure> {
        let running: Vec<NodeIndex> = self.cluster.running().map(|(at, _)| at).collect();
        for at in running {
            self.leave(at);
            self.pass(gap)?;
            self.restart(at);
            self.pass(gap)?;
        }
        Ok(())
    }

    fn nth_running(&self, number: usize) -> Option<NodeIndex> {
        let running: Vec<NodeIndex> = self.cluster.running().map(|(at, _)| at).collect();
        let at = number.checked_rem(running.len())?;
        running.get(at).copied()
    }
}
