//! Starting channels, calling them, and what their answers do.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use herenow_protocol::{ChannelId, JoinOutcome, JoinRequest, MessageRef, Payload, Serializer};
use herenow_pubsub::{Payload as Outgoing, Sink, client_text};
use tokio::time::Instant;
use tracing::Span;
use tracing::field::Empty;

use super::super::slot::{Joining, Slot, Stage, Task, Work};
use super::Session;
use crate::channel::{Answer, Call, Done, Flow, Outcome, Params, Reply, Socket, Then};
use crate::lane::{Lane, PushError};
use crate::payload::wire_payload;
use crate::reason::Reason;

impl Session {
    /// Makes the channel of a join and starts it, after the one that it replaces has ended.
    pub(super) fn start_join(&mut self, context: &mut Context<'_>, request: JoinRequest) {
        let JoinRequest {
            slot: id,
            topic,
            join_ref,
            payload,
            replaces,
        } = request;
        let route = self.shared.router.find(&topic);
        let route = route.expect("the protocol's state joins only topics that are routed");
        let room = match self.mailbox.dialect() {
            Some(dialect) => dialect.room(&topic, &payload),
            None => Cow::Borrowed(topic.as_str()),
        };
        let lane = Arc::new(Lane::new(
            self.mailbox.clone(),
            self.serializer,
            id,
            self.shared.pubsub.intern(&room),
            join_ref,
            route.intercept(),
        ));
        let mut assigns = self.assigns.clone();
        assigns.merge(route.assigns());
        let socket = Socket::new(lane.clone(), self.shared.pubsub.clone(), assigns);
        let channel = catch_unwind(AssertUnwindSafe(|| route.make(socket)));
        let work = channel.map_or(Work::Gone, Work::Idle);
        let is_made = matches!(work, Work::Idle(_));
        let replaces = replaces.and_then(|old| self.replace(context, old));
        if let Some(replaced) = &replaces {
            lane.succeed(&replaced.lane);
        }
        let joining = Joining {
            began: Instant::now(),
            span: tracing::debug_span!("join", is_joined = Empty),
            replaces,
            held: Vec::new(),
            _arrival: Some(self.shared.arrivals.begin()),
        };
        let mut slot = Slot::new(lane, work, Stage::Joining(Box::new(joining)));
        slot.push(Task::Call(Call::Join(Params::new(payload))));
        self.slots.reserve_exact(1);
        self.slots.push(slot);
        if is_made {
            self.pump(context, id);
        } else {
            self.settle(id, JoinOutcome::Crashed);
        }
    }

    /// Puts a task at the end of a channel's queue, and runs it if the channel is free.
    pub(super) fn enqueue(&mut self, context: &mut Context<'_>, id: ChannelId, task: Task) {
        let at = self.find(id);
        let slot = at.map(|at| &mut self.slots[at]);
        match slot.filter(|slot| !matches!(slot.stage, Stage::Ending { .. })) {
            Some(slot) => {
                slot.push(task);
                self.pump(context, id);
            }
            // A channel that ends gets nothing more.
            None => {
                if let Task::CountedCall(_) = task {
                    self.mailbox.info_handled();
                }
            }
        }
    }

    /// Polls every channel that is busy.
    pub(super) fn pump_all(&mut self, context: &mut Context<'_>) {
        let mut at = 0;
        while let Some(slot) = self.slots.get_mut(at) {
            let id = slot.id;
            if slot.is_busy() {
                self.poll_replaced(context, id);
                self.pump(context, id);
            }
            at = self.slots.partition_point(|slot| slot.id <= id);
        }
    }

    /// Runs a channel until it waits for something or has nothing to do.
    pub(super) fn pump(&mut self, context: &mut Context<'_>, id: ChannelId) {
        while let Some(at) = self.find(id) {
            let slot = &mut self.slots[at];
            if let Work::Running(future) = &mut slot.work {
                // What the join does, such as looking up fields, belongs to its trace.
                let in_span = slot.stage.span().map(Span::enter);
                let polled = future.as_mut().poll(context);
                drop(in_span);
                match polled {
                    Poll::Ready(done) => self.on_done(context, at, done),
                    Poll::Pending => return,
                }
                continue;
            }
            match slot.next_task(&self.mailbox) {
                Some(Task::Call(call) | Task::CountedCall(call)) => self.begin(at, call),
                Some(Task::Leave(message_ref)) => self.leave(id, message_ref),
                None => return,
            }
        }
    }

    fn begin(&mut self, at: usize, call: Call) {
        let slot = &mut self.slots[at];
        let Some(mut channel) = slot.take_idle() else {
            return;
        };
        match &call {
            Call::Join(_) => {
                let sink: Arc<dyn Sink> = slot.lane.clone();
                let attachment = self
                    .shared
                    .pubsub
                    .attach_shared(slot.lane.topic().clone(), sink);
                channel.socket().set_subscriber(attachment.id());
                slot.attachment = Some(attachment);
            }
            Call::Terminate { .. } => {
                channel.socket().unsubscribe_all();
                if let Stage::Ending { is_ended, .. } = &mut slot.stage {
                    *is_ended = true;
                }
            }
            Call::In { .. } | Call::Out(_) | Call::Info(_) => {}
        }
        slot.work = Work::Running(channel.call(call));
    }

    fn on_done(&mut self, context: &mut Context<'_>, at: usize, done: Done) {
        let slot = &mut self.slots[at];
        let id = slot.id;
        slot.work = Work::Idle(done.channel);
        match done.answer {
            Answer::Joined(joined) => {
                let outcome = join_outcome(self.serializer, joined);
                self.settle(id, outcome);
            }
            Answer::Handled {
                outcome,
                message_ref,
            } => self.on_outcome(at, outcome, message_ref.as_ref()),
            Answer::Flow(Flow::Continue) => {}
            Answer::Flow(Flow::Stop(reason)) => self.begin_end(id, reason),
            Answer::Terminated => self.finish(context, id),
            Answer::Panicked => self.on_panic(context, at),
        }
    }

    fn on_outcome(&mut self, at: usize, outcome: Outcome, message_ref: Option<&MessageRef>) {
        let Outcome { reply, then } = outcome;
        let id = self.slots[at].id;
        let is_answered = reply.is_none_or(|reply| self.reply(at, reply, message_ref));
        match then {
            _ if !is_answered => self.begin_end(id, Reason::Crashed),
            Then::Stop(reason) => self.begin_end(id, reason),
            Then::Continue => {}
        }
    }

    /// Sends a reply; false if it cannot be written, which is the channel's fault.
    fn reply(&self, at: usize, reply: Reply, message_ref: Option<&MessageRef>) -> bool {
        let lane = &self.slots[at].lane;
        let sent = match reply.payload {
            Ok(payload) => lane.reply(message_ref, &reply.status, &payload),
            Err(error) => Err(error.into()),
        };
        match sent {
            Ok(()) | Err(PushError::Closed) => true,
            Err(error @ (PushError::Json(_) | PushError::Encode(_))) => {
                tracing::error!(topic = %client_text(lane.topic()), %error, "reply not encodable");
                false
            }
        }
    }

    fn on_panic(&mut self, context: &mut Context<'_>, at: usize) {
        let slot = &self.slots[at];
        let id = slot.id;
        self.shared.metrics.crashes.increment();
        tracing::error!(topic = %client_text(slot.lane.topic()), "channel panicked");
        match slot.stage {
            Stage::Joining(_) => self.settle(id, JoinOutcome::Crashed),
            Stage::Open => self.begin_end(id, Reason::Crashed),
            Stage::Ending {
                is_ended: false, ..
            } => {}
            Stage::Ending { is_ended: true, .. } => self.finish(context, id),
        }
    }

    /// Tells the client how its join went, then lets out what had to wait for that.
    pub(super) fn settle(&mut self, id: ChannelId, outcome: JoinOutcome) {
        let Some(at) = self.find(id) else { return };
        let is_joined = matches!(outcome, JoinOutcome::Joined(_));
        let stage = std::mem::replace(&mut self.slots[at].stage, Stage::Open);
        let joining = match stage {
            Stage::Joining(joining) => Some(*joining),
            Stage::Open | Stage::Ending { .. } => None,
        };
        let settled = self.state.on_joined(id, outcome);
        if let Some(settled) = &settled {
            self.send(&settled.reply);
        }
        let (replaces, held) = joining.map_or((None, Vec::new()), |joining| {
            let metrics = &self.shared.metrics;
            metrics.join_times.observe(joining.began.elapsed());
            joining.span.record("is_joined", is_joined);
            (joining.replaces, joining.held)
        });
        if let Some(replaced) = replaces {
            replaced.lane.release();
        }
        if let Some(close) = settled.and_then(|settled| settled.replaced) {
            self.send(&close);
        }
        self.replay.extend(held);
        let topic = client_text(self.slots[at].lane.topic());
        if is_joined {
            tracing::debug!(%topic, "joined");
            self.shared.metrics.joins.increment();
            self.shared.metrics.channels.increment();
            self.slots[at].lane.release();
        } else {
            tracing::debug!(%topic, "join refused");
            self.shared.metrics.refused_joins.increment();
            let slot = self.slots.remove(at);
            slot.lane.refuse();
        }
    }
}

/// Turns what `join` answered into what the protocol's state takes.
fn join_outcome(
    serializer: Serializer,
    joined: Result<crate::channel::Joined, crate::channel::Refused>,
) -> JoinOutcome {
    let checked = |payload: Result<Outgoing, serde_json::Error>| -> Option<Payload> {
        let payload = wire_payload(&payload.ok()?);
        let is_binary = matches!(payload, Payload::Binary(_));
        (!is_binary || serializer == Serializer::V2).then_some(payload)
    };
    let outcome = match joined {
        Ok(joined) => checked(joined.0).map(JoinOutcome::Joined),
        Err(refused) => checked(refused.0).map(JoinOutcome::Refused),
    };
    outcome.unwrap_or(JoinOutcome::Crashed)
}
