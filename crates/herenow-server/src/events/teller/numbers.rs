//! [`Numbers`]: by which the receiver of events sees that none is missing.

use std::collections::HashMap;

use herenow_presence::Topic;

/// Numbers of events. Those of a topic ascend by one as long as somebody is in it; whoever comes
/// after that begins above all numbers that there were.
#[derive(Default)]
pub(super) struct Numbers {
    n_told: u64,
    topics: HashMap<Topic, u64>,
}

/// The numbers of the first of some events: among all of the node, and among those of the topic.
pub(super) struct First {
    pub(super) n_told: u64,
    pub(super) seq: u64,
}

impl Numbers {
    /// Takes the numbers of the next events of a topic.
    pub(super) fn take(&mut self, topic: &Topic, n_events: usize) -> First {
        let n_events = n_events as u64;
        let n_told = self.n_told + 1;
        if n_events == 0 {
            return First { n_told, seq: 0 };
        }
        self.n_told += n_events;
        let seq = match self.topics.get_mut(topic) {
            Some(last) => {
                *last += n_events;
                *last + 1 - n_events
            }
            None => {
                // No topic can have got further than all of them together.
                self.topics.insert(topic.clone(), self.n_told);
                n_told
            }
        };
        First { n_told, seq }
    }

    /// Forgets a topic, which nobody is in any more.
    pub(super) fn forget(&mut self, topic: &Topic) {
        self.topics.remove(topic);
    }

    #[cfg(test)]
    pub(super) fn n_topics(&self) -> usize {
        self.topics.len()
    }

    /// Forgets all topics.
    pub(super) fn forget_all(&mut self) {
        self.topics.clear();
    }
}
