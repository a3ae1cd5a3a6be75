//! [`Losses`]: how many events were lost, by why.

use crate::events::event::Loss;

/// How many events were lost, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::events) struct Losses([u64; Loss::ALL.len()]);

impl Losses {
    pub(in crate::events) fn of_all(n_events: impl FnMut(Loss) -> u64) -> Self {
        Self(Loss::ALL.map(n_events))
    }

    pub(in crate::events) fn add(&mut self, loss: Loss, n_events: u64) {
        self.0[loss as usize] += n_events;
    }

    pub(in crate::events) fn add_all(&mut self, other: &Self) {
        for loss in Loss::ALL {
            self.add(loss, other.of(loss));
        }
    }

    pub(in crate::events) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(in crate::events) fn of(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    pub(in crate::events) fn records(&self) -> Vec<String> {
        let told = Loss::ALL.into_iter().filter(|loss| self.of(*loss) > 0);
        told.map(|loss| loss.record(Some(self.of(loss)))).collect()
    }
}
