//! [`Outbox`]: what waits to be handed to the broker.

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroUsize;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::adapter::AdapterError;

/// A frame on its way to the broker.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The node it is for; `None` for all.
    pub to: Option<Box<str>>,
    /// The encoded frame.
    pub frame: Bytes,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing")
            .field("to", &self.to)
            .field("frame_bytes", &self.frame.len())
            .finish()
    }
}

/// A queue with many writers, who never wait, and one reader. When full it refuses.
#[derive(Debug)]
pub struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
    max_messages: NonZeroUsize,
    max_bytes: NonZeroUsize,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Outgoing>,
    n_bytes: usize,
    is_closed: bool,
}

impl Outbox {
    /// Returns an empty queue that holds so many messages, and so many bytes, at most.
    ///
    /// One message always fits an empty queue, however large.
    pub fn new(max_messages: NonZeroUsize, max_bytes: NonZeroUsize) -> Self {
        Self {
            waiting: Mutex::default(),
            wake: Notify::new(),
            max_messages,
            max_bytes,
        }
    }

    /// Queues a frame.
    ///
    /// # Errors
    ///
    /// - [`AdapterError::Closed`] after [`close`](Self::close).
    /// - [`AdapterError::Full`] if as many messages wait as may.
    /// - [`AdapterError::Engine`] if more bytes would wait than may.
    pub fn push(&self, outgoing: Outgoing) -> Result<(), AdapterError> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(AdapterError::Closed);
        }
        if waiting.frames.len() >= self.max_messages.get() {
            let max = self.max_messages.get();
            return Err(AdapterError::Full { max });
        }
        let n_bytes = waiting.n_bytes + outgoing.frame.len();
        if n_bytes > self.max_bytes.get() && !waiting.frames.is_empty() {
            let max = self.max_bytes;
            return Err(AdapterError::Engine {
                reason: format!(
                    "the outgoing queue would hold {n_bytes} bytes, the limit is {max}"
                ),
            });
        }
        waiting.n_bytes = n_bytes;
        waiting.frames.push_back(outgoing);
        drop(waiting);
        self.wake.notify_one();
        Ok(())
    }

    /// Waits until there is something to take (true), or is closed and empty (false).
    ///
    /// For one reader at a time. Cancel-safe.
    pub async fn ready(&self) -> bool {
        loop {
            {
                let waiting = self.waiting.lock();
                if !waiting.frames.is_empty() {
                    return true;
                }
                if waiting.is_closed {
                    return false;
                }
            }
            self.wake.notified().await;
        }
    }

    /// Takes the next frames in order: `max_messages` and `max_bytes` at most, one at least if any
    /// waits.
    pub fn take(&self, max_messages: usize, max_bytes: usize) -> Vec<Outgoing> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        let mut n_bytes = 0;
        while taken.len() < max_messages {
            let Some(next) = waiting.frames.front() else {
                break;
            };
            if !taken.is_empty() && n_bytes + next.frame.len() > max_bytes {
                break;
            }
            n_bytes += next.frame.len();
            taken.extend(waiting.frames.pop_front());
        }
        waiting.n_bytes -= n_bytes;
        taken
    }

    /// Refuses what comes from now on; what waits can still be taken. Idempotent.
    pub fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.wake.notify_one();
    }

    /// Returns whether [`close`](Self::close) was called.
    pub fn is_closed(&self) -> bool {
        self.waiting.lock().is_closed
    }

    /// Drops what waits and returns how many messages that were.
    pub fn clear(&self) -> usize {
        let mut waiting = self.waiting.lock();
        waiting.n_bytes = 0;
        std::mem::take(&mut waiting.frames).len()
    }

    /// Returns how many messages wait.
    pub fn n_messages(&self) -> usize {
        self.waiting.lock().frames.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(max_messages: usize, max_bytes: usize) -> Outbox {
        Outbox::new(
            NonZeroUsize::new(max_messages).unwrap(),
            NonZeroUsize::new(max_bytes).unwrap(),
        )
    }

    fn frame(bytes: &'static [u8]) -> Outgoing {
        Outgoing {
            to: None,
            frame: Bytes::from_static(bytes),
        }
    }

    #[test]
    fn refuses_over_either_limit_until_something_is_taken() {
        let outbox = outbox(2, 10);
        outbox
            .push(frame(b"1234567890ab"))
            .expect("an empty queue takes any message");
        let refused = outbox.push(frame(b"1")).unwrap_err();
        assert!(
            refused
                .to_string()
                .ends_with("hold 13 bytes, the limit is 10")
        );
        assert_eq!(outbox.take(9, 1).len(), 1, "one at least");
        outbox.push(frame(b"1")).unwrap();
        outbox.push(frame(b"2")).unwrap();
        assert_eq!(outbox.push(frame(b"3")), Err(AdapterError::Full { max: 2 }));
        assert_eq!(outbox.take(9, 1), [frame(b"1")]);
        assert_eq!(outbox.take(9, 9), [frame(b"2")]);
        assert_eq!(outbox.n_messages(), 0);
    }

    #[tokio::test]
    async fn closed_is_drained_and_then_over() {
        let outbox = outbox(2, 10);
        outbox.push(frame(b"1")).unwrap();
        outbox.close();
        assert_eq!(outbox.push(frame(b"2")), Err(AdapterError::Closed));
        assert!(outbox.ready().await);
        assert_eq!(outbox.take(1, 1).len(), 1);
        assert!(!outbox.ready().await);
    }
}
