//! [`Queue`]: many writers that never wait, one thread that does; bounded by number and by bytes.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A bounded queue towards one thread.
pub(super) struct Queue<T> {
    max_items: usize,
    max_bytes: usize,
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    n_bytes: usize,
    is_closed: bool,
}

/// Why an item was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(max_items: usize, max_bytes: usize) -> Self {
        Self {
            max_items,
            max_bytes,
            state: Mutex::new(State {
                items: VecDeque::new(),
                n_bytes: 0,
                is_closed: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// Queues an item of `n_bytes`, or refuses it at once. Into an empty queue any item goes.
    pub(super) fn push(&self, item: T, n_bytes: usize) -> Result<(), Refused> {
        self.push_within(self.max_items, self.max_bytes, item, n_bytes)
    }

    /// Queues an item that is small, rare, and worth more than a message: twice the room.
    pub(super) fn push_signal(&self, item: T) -> Result<(), Refused> {
        self.push_within(self.max_items.saturating_mul(2), usize::MAX, item, 0)
    }

    fn push_within(
        &self,
        max_items: usize,
        max_bytes: usize,
        item: T,
        n_bytes: usize,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        let has_room = state.items.len() < max_items
            && state.n_bytes.saturating_add(n_bytes) <= max_bytes
            || state.items.is_empty();
        if !has_room {
            return Err(Refused::Full);
        }
        state.n_bytes += n_bytes;
        state.items.push_back((item, n_bytes));
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for the next item; `None` once the queue is closed and empty.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some((item, n_bytes)) = state.items.pop_front() {
                state.n_bytes -= n_bytes;
                return Some(item);
            }
            if state.is_closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Refuses everything from now on; what is queued is still handed out.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.changed.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_by_number_and_by_bytes() {
        let queue = Queue::new(2, 10);
        assert_eq!(queue.push(1, 100), Ok(()), "into an empty queue");
        assert_eq!(queue.push(2, 0), Err(Refused::Full));
        assert_eq!(queue.pop(), Some(1));
        assert_eq!(queue.push(3, 5), Ok(()));
        assert_eq!(queue.push(4, 6), Err(Refused::Full));
        assert_eq!(queue.push(5, 5), Ok(()));
        assert_eq!(queue.push(6, 0), Err(Refused::Full));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn signals_have_more_room_and_an_end() {
        let queue = Queue::new(2, 10);
        for n in 0..2 {
            queue.push(n, 5).unwrap();
        }
        for n in 2..4 {
            assert_eq!(queue.push_signal(n), Ok(()));
        }
        assert_eq!(queue.push_signal(4), Err(Refused::Full));
    }

    #[test]
    fn closed_it_hands_out_the_rest() {
        let queue = Queue::new(8, 8);
        queue.push("kept", 1).unwrap();
        queue.close();
        assert_eq!(queue.push("late", 1), Err(Refused::Closed));
        assert_eq!(queue.push_signal("late"), Err(Refused::Closed));
        assert_eq!(queue.pop(), Some("kept"));
        assert_eq!(queue.pop(), None);
    }
}
