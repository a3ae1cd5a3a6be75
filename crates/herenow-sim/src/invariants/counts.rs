//! Counts are the lengths of what is listed, and a topic without members is no topic.
//!
//! Why: counts are kept apart from the lists, in constant time, and shown to people as they are.
//! Source: `Shard::count`, `Shard::topics`, `Shard::n_rows`.

use super::{View, Violation};

pub(super) fn check(view: View<'_>) -> Result<(), Violation> {
    let shard = view.node.shard();
    let mut n_rows = 0;
    for (topic, n_members) in shard.topics() {
        let length = shard.rows_of_topic(topic).count();
        if n_members != length || shard.count(topic) != length || length == 0 {
            let what = format!("{topic} has {length} rows, the count is {n_members}");
            return Err(Violation::new("counts", what));
        }
        n_rows += length;
    }
    if n_rows != shard.n_rows() {
        let what = format!("{n_rows} rows are listed, the count is {}", shard.n_rows());
        return Err(Violation::new("counts", what));
    }
    Ok(())
}
