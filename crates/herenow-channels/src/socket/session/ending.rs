//! How channels end, and in which order their clients are told.
//!
//! | end | what the client sees |
//! | --- | --- |
//! | it leaves | reply, `phx_close`, what `terminate` pushes |
//! | the channel stops as it should | its reply, `phx_close`, what `terminate` pushes |
//! | a panic, or a stop for another reason | what `terminate` pushes, `phx_error` |
//! | it joins again | the new reply, what the old one's `terminate` pushed, the old `phx_close`, what the new one pushed |
//! | the connection ends | the close frame |

use std::task::{Context, Poll};

use herenow_protocol::{ChannelId, MessageRef};
use herenow_pubsub::client_text;

use super::super::slot::{Replaced, Stage, Task, Work};
use super::Session;
use crate::channel::Call;
use crate::reason::Reason;

impl Session {
    /// Lets a channel go whose client has asked for it.
    pub(super) fn leave(&mut self, id: ChannelId, message_ref: Option<MessageRef>) {
        for message in self.state.on_left(id, message_ref).into_iter().flatten() {
            self.send(&message);
        }
        self.begin_end(id, Reason::Left);
    }

    /// Takes a channel off its topic, forgets what waits for it, and has it terminate next.
    pub(super) fn begin_end(&mut self, id: ChannelId, reason: Reason) {
        let Some(at) = self.find(id) else { return };
        let slot = &mut self.slots[at];
        if let Stage::Ending { .. } = slot.stage {
            return;
        }
        self.shared.metrics.channels.decrement();
        let told = match &reason {
            Reason::Unauthorized(text) => self.state.on_channel_unauthorized(id, text),
            _ => None,
        };
        let slot = &mut self.slots[at];
        let is_crash = !reason.is_graceful() && told.is_none();
        slot.attachment = None;
        slot.clear_queue(&self.mailbox);
        slot.stage = Stage::Ending {
            is_crash,
            is_ended: false,
        };
        let timeout = self.shared.config.terminate_timeout;
        slot.push(Task::Call(Call::Terminate { reason, timeout }));
        let told = told.or_else(|| (!is_crash).then(|| self.state.on_channel_closed(id))?);
        if let Some(told) = told {
            self.send(&told);
        }
    }

    /// Removes a channel that has terminated; its presences leave with it.
    pub(super) fn finish(&mut self, context: &mut Context<'_>, id: ChannelId) {
        let Some(at) = self.find(id) else { return };
        let slot = self.slots.remove(at);
        if let Stage::Ending { is_crash: true, .. } = slot.stage
            && let Some(error) = self.state.on_channel_crashed(id)
        {
            self.send(&error);
        }
        drop(slot);
        if self.slots.is_empty() {
            self.slots = Vec::new();
        }
        self.start_replacement(context, id);
    }

    /// Ends a channel whose topic is joined again; what it still pushes is held.
    pub(super) fn replace(&mut self, context: &mut Context<'_>, id: ChannelId) -> Option<Replaced> {
        let lane = self.slots[self.find(id)?].lane.clone();
        lane.hold();
        self.begin_end(id, Reason::DuplicateJoin);
        self.pump(context, id);
        let timeout = self.shared.config.terminate_timeout;
        let is_there = self.find(id).is_some();
        let deadline = is_there.then(|| Box::pin(tokio::time::sleep(timeout)));
        tracing::debug!(topic = %client_text(lane.topic()), "duplicate join");
        Some(Replaced { lane, deadline })
    }

    /// Drops a replaced channel that takes too long, so that its successor can start.
    pub(super) fn poll_replaced(&mut self, context: &mut Context<'_>, id: ChannelId) {
        let Some(at) = self.find(id) else { return };
        let Stage::Joining(joining) = &mut self.slots[at].stage else {
            return;
        };
        let Some(replaced) = &mut joining.replaces else {
            return;
        };
        let Some(deadline) = &mut replaced.deadline else {
            return;
        };
        if deadline.as_mut().poll(context).is_ready() {
            let old = replaced.lane.slot();
            tracing::warn!(topic = %client_text(replaced.lane.topic()), "replaced channel cut off");
            self.finish(context, old);
        }
    }

    /// Starts the join that waited for the end of `old`.
    fn start_replacement(&mut self, context: &mut Context<'_>, old: ChannelId) {
        let waiting = self
            .slots
            .iter_mut()
            .find_map(|slot| match &mut slot.stage {
                Stage::Joining(joining) => {
                    let replaced = joining.replaces.as_mut();
                    let replaced = replaced.filter(|replaced| replaced.lane.slot() == old)?;
                    replaced.deadline = None;
                    Some(slot.id)
                }
                Stage::Open | Stage::Ending { .. } => None,
            });
        if let Some(id) = waiting {
            self.pump(context, id);
        }
    }

    /// Begins the end of the connection: nothing more goes in or out, all channels terminate.
    pub(crate) fn end(&mut self, context: &mut Context<'_>, reason: &Reason) {
        self.id_attachment = None;
        self.mailbox.shut();
        // A join that is not settled has nobody left to tell.
        self.slots
            .retain(|slot| !matches!(slot.stage, Stage::Joining(_)));
        let ids: Vec<_> = self.slots.iter().map(|slot| slot.id).collect();
        for id in ids {
            self.begin_end(id, reason.clone());
            self.pump(context, id);
        }
    }

    /// Waits until all channels have terminated.
    pub(crate) fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.pump_all(context);
        if self.slots.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Drops all channels, whatever they do.
    pub(crate) fn abort(&mut self) {
        for slot in self.slots.drain(..) {
            if let Stage::Open = slot.stage {
                self.shared.metrics.channels.decrement();
            }
            drop::<Work>(slot.work);
        }
    }
}
