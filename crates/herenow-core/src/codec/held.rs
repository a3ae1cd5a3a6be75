//! Rows that a node holds though they have ended: each with its replica, since they are anyone's.

use std::sync::Arc;
use std::time::Duration;

use minicbor::Decoder;

use super::{DecodeError, Writer, items};
use crate::ids::{Incarnation, Key, NodeName, OwnerId, ReplicaId, ShardIndex, Topic};
use crate::row::{Meta, NewRow, Replica, Row, Version};

/// The items of a row.
const N_ITEMS: usize = 9;

/// Writes them, with the milliseconds that each has left.
pub(super) fn encode(out: &mut Writer, rows: &[(Arc<Row>, Duration)]) {
    out.array(rows.len() * N_ITEMS);
    for (row, left) in rows {
        let (id, prev) = (row.replica(), row.prev_or_zero());
        out.text(id.node.as_str()).u64(id.incarnation.0);
        out.u64(row.version().0).u64(prev.0).u64(row.owner().0);
        out.text(row.topic().as_str()).text(row.key().as_str());
        out.text(row.meta().as_str());
        out.u64(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
    }
}

/// Reads them: of whatever replica, since who holds a row vouches only for having shown it.
pub(super) fn decode(
    decoder: &mut Decoder<'_>,
    shard: ShardIndex,
) -> Result<Vec<(Arc<Row>, Duration)>, DecodeError> {
    let n_rows = items(decoder, 0)? / N_ITEMS;
    let mut rows: Vec<(Arc<Row>, Duration)> = Vec::with_capacity(n_rows);
    let mut last: Option<Arc<Replica>> = None;
    for _ in 0..n_rows {
        let id = ReplicaId {
            node: NodeName::new(decoder.str()?)?,
            incarnation: Incarnation(decoder.u64()?),
            shard,
        };
        let replica = match last.take() {
            Some(last) if last.id == id => last,
            Some(_) | None => Replica::new(id),
        };
        let (version, prev) = (Version(decoder.u64()?), Version(decoder.u64()?));
        if version == Version::ZERO || version > Version::MAX || prev >= version {
            let what = "a row has an impossible version";
            return Err(DecodeError::Contradiction { what });
        }
        let new = NewRow {
            owner: OwnerId(decoder.u64()?),
            topic: Topic::new(decoder.str()?)?,
            key: Key::new(decoder.str()?)?,
            meta: Meta::new(decoder.str()?)?,
        };
        let left = Duration::from_millis(decoder.u64()?);
        rows.push((
            Arc::new(Row::new(replica.clone(), version, prev, new)),
            left,
        ));
        last = Some(replica);
    }
    Ok(rows)
}
