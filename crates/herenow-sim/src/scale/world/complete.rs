//! Whether nodes list who lives: waited for by their number, checked by their names.

use std::ops::Range;
use std::time::Duration;

use super::World;
use crate::scale::crowd::Sum;
use crate::scale::node::name_of;
use crate::scale::queue::nanos;

impl World {
    /// Lets time pass until these nodes list as many as live, and returns how long it took.
    pub(in crate::scale) fn complete(
        &mut self,
        nodes: Range<usize>,
        look: Duration,
        deadline: Duration,
    ) -> Result<Duration, String> {
        let began = self.now;
        let mut first = nodes.start;
        while first < nodes.end {
            if self.is_complete(first) {
                first += 1;
            } else if self.now >= began + nanos(deadline) {
                let name = name_of(first);
                return Err(format!("{name} is not complete after {deadline:?}"));
            } else {
                self.pass(look);
            }
        }
        Ok(Duration::from_nanos(self.now - began))
    }

    fn is_complete(&self, index: usize) -> bool {
        let shards = 0..usize::from(self.setup.n_shards);
        let mut shards = shards.filter_map(|at| Some((at, self.nodes[index].shard(at)?)));
        shards.all(|(at, shard)| shard.n_rows() == self.crowd.n_in_shard(at))
    }

    /// Checks that every node lists exactly who lives, of all that it carries.
    pub(in crate::scale) fn check(&self) -> Result<(), String> {
        let expected = self.crowd.sums(name_of);
        for node in &self.nodes {
            for (at, expected) in expected.iter().enumerate() {
                let Some(shard) = node.shard(at) else {
                    continue;
                };
                let listed = Sum::of_shard(shard);
                if listed != *expected {
                    let name = &node.name;
                    return Err(format!(
                        "{name} lists {listed:?} in shard {at}, not {expected:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}
