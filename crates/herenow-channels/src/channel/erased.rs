//! Channels of any type, as a connection's task keeps them.
//!
//! A call moves the channel into a future and gives it back with the answer, so that nothing
//! borrows from anything while a callback waits, and an idle channel is one allocation.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures_util::FutureExt;
use herenow_protocol::{MessageRef, Payload};
use herenow_pubsub::{Broadcast, client_text};
use smol_str::SmolStr;

use super::Channel;
use super::outcome::{Flow, Joined, Outcome, Refused};
use super::params::Params;
use super::socket::Socket;
use crate::info::Info;
use crate::reason::Reason;

/// One callback to run.
#[derive(Debug)]
pub(crate) enum Call {
    Join(Params),
    In {
        event: SmolStr,
        payload: Payload,
        message_ref: Option<MessageRef>,
    },
    Out(Broadcast),
    Info(Info),
    Terminate {
        reason: Reason,
        timeout: Duration,
    },
}

/// What a callback answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Joined(Result<Joined, Refused>),
    Handled {
        outcome: Outcome,
        message_ref: Option<MessageRef>,
    },
    Flow(Flow),
    Terminated,
    Panicked,
}

/// A finished call: the channel is idle again.
pub(crate) struct Done {
    pub(crate) channel: Box<dyn AnyChannel>,
    pub(crate) answer: Answer,
}

/// A call that waits for something.
pub(crate) type Running = Pin<Box<dyn Future<Output = Done> + Send>>;

/// The `dyn` twin of [`Channel`], with its socket.
pub(crate) trait AnyChannel: Send {
    /// Starts a callback; nothing runs before the first poll.
    fn call(self: Box<Self>, call: Call) -> Running;

    /// The channel's socket.
    fn socket(&mut self) -> &mut Socket;
}

impl fmt::Debug for dyn AnyChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyChannel")
    }
}

/// Joins a channel and its socket.
pub(crate) fn new_channel<C: Channel>(channel: C, socket: Socket) -> Box<dyn AnyChannel> {
    Box::new(Core { channel, socket })
}

struct Core<C> {
    channel: C,
    socket: Socket,
}

impl<C: Channel> AnyChannel for Core<C> {
    fn call(self: Box<Self>, call: Call) -> Running {
        match call {
            Call::Join(params) => self.join(params),
            Call::In {
                event,
                payload,
                message_ref,
            } => self.handle_in(event, payload, message_ref),
            Call::Out(broadcast) => self.handle_out(broadcast),
            Call::Info(info) => self.handle_info(info),
            Call::Terminate { reason, timeout } => self.terminate(reason, timeout),
        }
    }

    fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl<C: Channel> Core<C> {
    fn join(mut self: Box<Self>, params: Params) -> Running {
        Box::pin(async move {
            let Self { channel, socket } = &mut *self;
            let joined = caught(async { channel.join(socket, params).await }).await;
            let is_accepted = matches!(joined, Some(Ok(_)));
            if is_accepted {
                self.socket.set_joined();
            }
            let answer = joined.map_or(Answer::Panicked, Answer::Joined);
            Done {
                channel: self,
                answer,
            }
        })
    }

    fn handle_in(
        mut self: Box<Self>,
        event: SmolStr,
        payload: Payload,
        message_ref: Option<MessageRef>,
    ) -> Running {
        self.socket.set_message_ref(message_ref.clone());
        Box::pin(async move {
            let Self { channel, socket } = &mut *self;
            let outcome = caught(async { channel.handle_in(socket, &event, payload).await }).await;
            self.socket.set_message_ref(None);
            let answer = outcome.map_or(Answer::Panicked, |outcome| Answer::Handled {
                outcome,
                message_ref,
            });
            Done {
                channel: self,
                answer,
            }
        })
    }

    fn handle_out(mut self: Box<Self>, broadcast: Broadcast) -> Running {
        Box::pin(async move {
            let Self { channel, socket } = &mut *self;
            let flow = caught(async { channel.handle_out(socket, broadcast).await }).await;
            Done {
                channel: self,
                answer: flow.map_or(Answer::Panicked, Answer::Flow),
            }
        })
    }

    fn handle_info(mut self: Box<Self>, info: Info) -> Running {
        Box::pin(async move {
            let Self { channel, socket } = &mut *self;
            let flow = caught(async { channel.handle_info(socket, info).await }).await;
            Done {
                channel: self,
                answer: flow.map_or(Answer::Panicked, Answer::Flow),
            }
        })
    }

    fn terminate(mut self: Box<Self>, reason: Reason, timeout: Duration) -> Running {
        Box::pin(async move {
            let Self { channel, socket } = &mut *self;
            let end = caught(async { channel.terminate(socket, &reason).await });
            if tokio::time::timeout(timeout, end).await.is_err() {
                tracing::warn!(topic = %client_text(socket.topic()), "terminate cut off");
            }
            self.socket.end_owner(&reason);
            Done {
                channel: self,
                answer: Answer::Terminated,
            }
        })
    }
}

/// Runs a callback; `None` if it panicked, also when its future was made.
async fn caught<T>(callback: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(callback).catch_unwind().await.ok()
}
