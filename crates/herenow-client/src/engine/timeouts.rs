//! What is due.

use tokio::time::Instant;

use super::entry::Phase;
use super::{Engine, Heartbeat, Output, Pending, PendingKind};
use crate::error::{JoinError, PushError};
use crate::event::ErrorReason;

impl Engine {
    /// When [`Engine::handle_timeout`] has to be called at the latest; `None`: nothing is planned.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = match self.heartbeat {
            Heartbeat::Off => None,
            Heartbeat::Due(at) | Heartbeat::Sent { deadline: at, .. } => Some(at),
        };
        let of_channels = self.channels.iter().flat_map(|entry| {
            let waiting = entry.waiting.iter().map(|waiting| waiting.deadline);
            let first = entry.first.as_ref().map(|first| first.deadline);
            waiting.chain(first).chain(entry.rejoin_at)
        });
        self.pending
            .values()
            .map(|pending| pending.deadline)
            .chain(of_channels)
            .chain(heartbeat)
            .chain(self.connect_at)
            .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.connect_at.is_some_and(|at| at <= now) {
            self.connect_at = None;
            self.outputs.push_back(Output::Connect);
        }
        self.on_heartbeat_time(now);
        self.expire_first_joins(now);
        self.expire_pending(now);
        for at in 0..self.channels.len() {
            self.expire_waiting(now, at);
            if self.channels[at].rejoin_at.is_some_and(|due| due <= now) {
                self.start_join(now, at);
            }
        }
    }

    fn on_heartbeat_time(&mut self, now: Instant) {
        match self.heartbeat {
            Heartbeat::Due(at) if at <= now => {
                let reference = self.send_heartbeat();
                let deadline = now + self.config.heartbeat;
                self.heartbeat = Heartbeat::Sent {
                    reference,
                    deadline,
                };
            }
            Heartbeat::Sent { deadline, .. } if deadline <= now => {
                self.heartbeat = Heartbeat::Off;
                self.handle_closed(now, &ErrorReason::HeartbeatTimeout);
                self.outputs.push_back(Output::GiveUp);
            }
            Heartbeat::Off | Heartbeat::Due(_) | Heartbeat::Sent { .. } => {}
        }
    }

    fn expire_first_joins(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.channels.len() {
            let entry = &mut self.channels[at];
            let Some(first) = entry.first.take_if(|first| first.deadline <= now) else {
                at += 1;
                continue;
            };
            let (topic, after) = (entry.topic.clone(), entry.timeout);
            let _ = first.done.send(Err(JoinError::Timeout { topic, after }));
            if self.is_connected && self.channels[at].phase == Phase::Joining {
                self.send_leave(at);
            }
            self.remove(at);
        }
    }

    fn expire_pending(&mut self, now: Instant) {
        let expired: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.deadline <= now)
            .map(|(reference, _)| *reference)
            .collect();
        for reference in expired {
            let Some(Pending { channel, kind, .. }) = self.pending.remove(&reference) else {
                continue;
            };
            match (kind, channel) {
                (
                    PendingKind::Push {
                        event,
                        timeout,
                        done,
                    },
                    _,
                ) => {
                    let _ = done.send(Err(PushError::Timeout {
                        event,
                        after: timeout,
                    }));
                }
                (PendingKind::Join, Some(channel)) => {
                    if let Some(at) = self.find(channel) {
                        self.on_rejoin_timeout(now, at);
                    }
                }
                (PendingKind::Leave(_), Some(channel)) => self.on_left(channel),
                (PendingKind::Join | PendingKind::Leave(_), None)
                | (PendingKind::Ping { .. }, _) => {}
            }
        }
    }

    /// The server may still be at it; it is told to stop before the next try.
    fn on_rejoin_timeout(&mut self, now: Instant, at: usize) {
        if self.channels[at].phase != Phase::Joining {
            return;
        }
        self.send_leave(at);
        self.channels[at].fail(ErrorReason::JoinTimeout);
        self.plan_rejoin(now, at);
    }

    /// A push that ran out of time before it could be sent is not sent.
    fn expire_waiting(&mut self, now: Instant, at: usize) {
        let waiting = std::mem::take(&mut self.channels[at].waiting);
        for waiting in waiting {
            if waiting.deadline <= now {
                let (event, after) = (waiting.event, waiting.timeout);
                let _ = waiting.done.send(Err(PushError::Timeout { event, after }));
            } else {
                self.channels[at].waiting.push_back(waiting);
            }
        }
    }
}
