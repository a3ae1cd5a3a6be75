//! The door to the sockets: who is sent away before the handshake, and when to come back.
//!
//! A server that stops lets nobody in: its client would only be sent away again. One that joins a
//! cluster in which topics have a grace lets nobody in before it knows who is here: a client that
//! comes back from another node, or from before a restart, compares what it is told with what it
//! knew, and would take everybody for gone who is not known yet. How many may be on their way in at
//! the same time is the business of the sockets themselves.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use herenow_channels::{NoNewcomers, come_back_later};

use crate::config::ServerConfig;
use crate::health::Ready;

/// Knows whether to let a client in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    ready: Ready,
    /// Whether it is closed until the server knows who is here.
    waits: bool,
}

impl Door {
    pub(crate) fn new(config: &ServerConfig, ready: &Ready) -> Self {
        let mut topics = config.topics.iter();
        Self {
            ready: ready.clone(),
            waits: topics.any(|topic| !topic.grace.period.is_zero()),
        }
    }

    /// Why nobody new is let in now.
    fn closed(&self) -> Option<&'static str> {
        if self.ready.is_draining() {
            Some("draining\n")
        } else if self.waits && !self.ready.is_ready() {
            Some("joining the cluster\n")
        } else {
            None
        }
    }
}

/// Tells the sockets whether somebody new is let in. Whom they know already they let through: the
/// client of a long-poll session is told of a drain by its session, and gets what was queued for it
/// before.
pub(crate) async fn tell(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    if let Some(why) = door.closed() {
        request.extensions_mut().insert(NoNewcomers(why));
    }
    next.run(request).await
}

/// Lets a request through to what is no socket, or answers 503 with `retry-after`.
pub(crate) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    match door.closed() {
        Some(why) => come_back_later(why),
        None => next.run(request).await,
    }
}
