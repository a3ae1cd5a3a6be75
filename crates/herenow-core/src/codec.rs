//! Messages to bytes and back: one version byte, then CBOR.
//!
//! A message is an array whose first item is its kind. Numbers that grow (versions) are written as
//! differences, and a delta's topics once, so a row costs little more than its key and meta.
//! Items that follow the known ones in a message's array are ignored, so that later versions can
//! add some without a new version byte.
//!
//! Decoding trusts nothing: lengths are checked against what is there before memory is taken, texts
//! and metas have the limits of their types, and what does not fit together is an error. A row's
//! replica is not in the bytes: it is the sender's, so a peer can only speak of its own rows. The
//! one exception is what it holds, which is in no table.

mod held;

use std::sync::Arc;

use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use roaring::RoaringTreemap;

use crate::delta::{Delta, Gone, Pruning};
use crate::diff::{LeaveReason, REASON_BITS};
use crate::ids::{IdError, Incarnation, Key, NodeName, OwnerId, ReplicaId, ShardIndex, Topic};
use crate::message::{NodeHeartbeat, ShardMessage};
use crate::row::{Meta, NewRow, Replica, Row, Version};

/// The largest message in bytes that is decoded.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
/// The version byte of this format.
const FORMAT: u8 = 1;
/// The fewest bytes that a row takes: six items.
const MIN_ROW_BYTES: usize = 6;

const KIND_DELTA: u8 = 0;
const KIND_REQUEST: u8 = 1;
const KIND_TRANSFER: u8 = 2;
const KIND_BYE: u8 = 3;
const KIND_HEARTBEAT: u8 = 4;
const KIND_HELD: u8 = 5;
const GONE_EXACTLY: u8 = 0;
const GONE_ALL_BUT: u8 = 1;

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// There are none.
    #[error("the message is empty")]
    Empty,
    /// There are too many.
    #[error("the message is {len} bytes, the limit is {max}")]
    TooLarge {
        /// The message's length in bytes.
        len: usize,
        /// [`MAX_MESSAGE_BYTES`].
        max: usize,
    },
    /// They are of another version of this format.
    #[error("the message is of format {got}, this node speaks {known}")]
    Format {
        /// The version byte.
        got: u8,
        /// The version that this node speaks.
        known: u8,
    },
    /// The message is of no known kind.
    #[error("a message of kind {kind} was not expected")]
    Kind {
        /// The kind.
        kind: u8,
    },
    /// They are no well-formed CBOR, or not of the expected types.
    #[error("the message is malformed")]
    Malformed(#[from] minicbor::decode::Error),
    /// A name is over its limit.
    #[error("the message names something that cannot be")]
    Name(#[from] IdError),
    /// What the message says does not fit together.
    #[error("the message contradicts itself: {what}")]
    Contradiction {
        /// What does not fit.
        what: &'static str,
    },
}

impl ShardMessage {
    /// Returns the message as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(64);
        match self {
            Self::Delta { incarnation, delta } => {
                out.array(3).u8(KIND_DELTA).u64(incarnation.0).delta(delta);
            }
            Self::Request {
                incarnation,
                owner,
                seen,
                pruned,
                pruning,
            } => {
                let n_more = if pruning.is_some() { 2 } else { 0 };
                out.array(5 + n_more).u8(KIND_REQUEST).u64(incarnation.0);
                out.u64(owner.0).u64(seen.0).u64(pruned.0);
                if let Some(pruning) = pruning {
                    out.u64(pruning.to.0).u64(pruning.as_of.0);
                }
            }
            Self::Transfer { incarnation, delta } => {
                out.array(3)
                    .u8(KIND_TRANSFER)
                    .u64(incarnation.0)
                    .delta(delta);
            }
            Self::Held { incarnation, rows } => {
                out.array(3).u8(KIND_HELD).u64(incarnation.0);
                held::encode(&mut out, rows);
            }
            Self::Bye { incarnation } => {
                out.array(2).u8(KIND_BYE).u64(incarnation.0);
            }
        }
        out.finish()
    }

    /// Reads a message that node `from` sent to shard `shard`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; never panics, and takes no more memory than a few times the bytes.
    pub fn decode(bytes: &[u8], from: &NodeName, shard: ShardIndex) -> Result<Self, DecodeError> {
        let mut decoder = open(bytes)?;
        let n_items = items(&mut decoder, 2)?;
        let kind = decoder.u8()?;
        let incarnation = Incarnation(decoder.u64()?);
        let replica = || {
            Replica::new(ReplicaId {
                node: from.clone(),
                incarnation,
                shard,
            })
        };
        match (kind, n_items) {
            (KIND_DELTA, 3..) => Ok(Self::Delta {
                incarnation,
                delta: decode_delta(&mut decoder, &replica())?,
            }),
            (KIND_TRANSFER, 3..) => Ok(Self::Transfer {
                incarnation,
                delta: decode_delta(&mut decoder, &replica())?,
            }),
            (KIND_REQUEST, 5..) => Ok(Self::Request {
                incarnation,
                owner: Incarnation(decoder.u64()?),
                seen: Version(decoder.u64()?),
                pruned: Version(decoder.u64()?),
                pruning: match n_items {
                    7.. => Some(Pruning {
                        to: Version(decoder.u64()?),
                        as_of: Version(decoder.u64()?),
                    }),
                    _ => None,
                },
            }),
            (KIND_HELD, 3..) => Ok(Self::Held {
                incarnation,
                rows: held::decode(&mut decoder, shard)?,
            }),
            (KIND_BYE, _) => Ok(Self::Bye { incarnation }),
            (kind, _) => Err(DecodeError::Kind { kind }),
        }
    }
}

impl NodeHeartbeat {
    /// Returns the heartbeat as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(64 + 4 * self.versions.len());
        out.array(4).u8(KIND_HEARTBEAT).text(self.node.as_str());
        out.u64(self.incarnation.0).array(self.versions.len());
        for version in &self.versions {
            out.u64(version.0);
        }
        out.finish()
    }

    /// Reads a heartbeat.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = open(bytes)?;
        items(&mut decoder, 4)?;
        let kind = decoder.u8()?;
        if kind != KIND_HEARTBEAT {
            return Err(DecodeError::Kind { kind });
        }
        let node = NodeName::new(decoder.str()?)?;
        let incarnation = Incarnation(decoder.u64()?);
        let n_versions = items(&mut decoder, 0)?;
        let mut versions = Vec::with_capacity(n_versions.min(remaining(&decoder)));
        for _ in 0..n_versions {
            versions.push(Version(decoder.u64()?));
        }
        Ok(Self {
            node,
            incarnation,
            versions,
        })
    }
}

/// Writes CBOR into memory, which cannot fail.
struct Writer(Encoder<Vec<u8>>);

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.push(FORMAT);
        Self(Encoder::new(bytes))
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_writer()
    }

    fn array(&mut self, len: usize) -> &mut Self {
        self.0.array(len as u64).expect(CANNOT_FAIL);
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.0.u8(value).expect(CANNOT_FAIL);
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.u64(value).expect(CANNOT_FAIL);
        self
    }

    fn text(&mut self, value: &str) -> &mut Self {
        self.0.str(value).expect(CANNOT_FAIL);
        self
    }

    fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.0.bytes(value).expect(CANNOT_FAIL);
        self
    }

    fn delta(&mut self, delta: &Delta) {
        let is_piece = delta.is_cut() || delta.after > Version::ZERO;
        let n_more = if is_piece { 2 } else { 0 };
        self.array(7 + n_more).u64(delta.from.0);
        self.u64(delta.to.0 - delta.from.0).u64(delta.base.0);
        self.u64(delta.as_of.0 - delta.to.0);
        let (topics, topic_of_row) = name_topics(&delta.rows);
        self.array(topics.len());
        for topic in topics {
            self.text(topic.as_str());
        }
        self.array(delta.rows.len() * 6);
        let mut before = delta.from;
        for (row, topic) in delta.rows.iter().zip(topic_of_row) {
            self.u64(topic).u64(row.version().0 - before.0);
            self.u64(row.owner().0).text(row.key().as_str());
            self.text(row.meta().as_str());
            let back = row.prev().map_or(0, |prev| row.version().0 - prev.0);
            self.u64(back);
            before = row.version();
        }
        self.gone(&delta.gone);
        if is_piece {
            self.u64(delta.after.0).u64(delta.until.0);
        }
    }

    fn gone(&mut self, gone: &Gone) {
        match gone {
            Gone::Exactly(rows) => {
                self.array(2).u8(GONE_EXACTLY).array(rows.len());
                let mut before = 0;
                for (version, reason) in rows {
                    let step = (version.0 - before) << REASON_BITS;
                    self.u64(step | u64::from(reason.code()));
                    before = version.0;
                }
            }
            Gone::AllBut(alive) => {
                let mut bytes = Vec::with_capacity(alive.serialized_size());
                alive.serialize_into(&mut bytes).expect(CANNOT_FAIL);
                self.array(2).u8(GONE_ALL_BUT).bytes(&bytes);
            }
        }
    }
}

const CANNOT_FAIL: &str = "writing to memory does not fail";

/// Returns the different topics of the rows, and the number of each row's topic among them.
fn name_topics(rows: &[Arc<Row>]) -> (Vec<&Topic>, Vec<u64>) {
    let mut topics = Vec::new();
    let mut numbers = hashbrown::HashMap::<_, u64, foldhash::fast::FixedState>::default();
    let numbered = rows.iter().map(|row| {
        *numbers.entry(row.topic().as_str()).or_insert_with(|| {
            topics.push(row.topic());
            topics.len() as u64 - 1
        })
    });
    let numbered = numbered.collect();
    (topics, numbered)
}

fn open(bytes: &[u8]) -> Result<Decoder<'_>, DecodeError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(DecodeError::TooLarge {
            len: bytes.len(),
            max: MAX_MESSAGE_BYTES,
        });
    }
    match bytes.split_first() {
        None => Err(DecodeError::Empty),
        Some((&FORMAT, rest)) => Ok(Decoder::new(rest)),
        Some((&got, _)) => Err(DecodeError::Format { got, known: FORMAT }),
    }
}

fn remaining(decoder: &Decoder<'_>) -> usize {
    decoder.input().len() - decoder.position()
}

/// Reads an array's head and returns its length, at least `least` and at most the bytes there are.
fn items(decoder: &mut Decoder<'_>, least: usize) -> Result<usize, DecodeError> {
    let len = decoder.array()?.unwrap_or(0);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len < least || len > remaining(decoder) {
        return Err(DecodeError::Contradiction {
            what: "an array has an impossible length",
        });
    }
    Ok(len)
}

fn plus(base: u64, more: u64) -> Result<Version, DecodeError> {
    let sum = base.checked_add(more);
    let what = "a version is too large";
    sum.map(Version).ok_or(DecodeError::Contradiction { what })
}

fn decode_delta(decoder: &mut Decoder<'_>, replica: &Arc<Replica>) -> Result<Delta, DecodeError> {
    let n_items = items(decoder, 7)?;
    let from = Version(decoder.u64()?);
    let to = plus(from.0, decoder.u64()?)?;
    let base = Version(decoder.u64()?);
    let as_of = plus(to.0, decoder.u64()?)?;
    let n_topics = items(decoder, 0)?;
    if n_topics > remaining(decoder) / (1 + MIN_ROW_BYTES) {
        let what = "there are more topics than rows";
        return Err(DecodeError::Contradiction { what });
    }
    let mut topics = Vec::with_capacity(n_topics);
    for _ in 0..n_topics {
        topics.push(Topic::new(decoder.str()?)?);
    }
    let rows = decode_rows(decoder, from, &topics, replica)?;
    let gone = decode_gone(decoder)?;
    let (after, until) = match n_items {
        9.. => (Version(decoder.u64()?), Version(decoder.u64()?)),
        _ => (Version::ZERO, from),
    };
    for _ in 9..n_items {
        decoder.skip()?;
    }
    let delta = Delta {
        from,
        to,
        base,
        as_of,
        rows,
        gone,
        after,
        until,
    };
    if !delta.is_well_formed() {
        return Err(DecodeError::Contradiction {
            what: "a delta's versions are out of order",
        });
    }
    Ok(delta)
}

fn decode_rows(
    decoder: &mut Decoder<'_>,
    from: Version,
    topics: &[Topic],
    replica: &Arc<Replica>,
) -> Result<Vec<Arc<Row>>, DecodeError> {
    let n_rows = items(decoder, 0)? / MIN_ROW_BYTES;
    let mut rows = Vec::with_capacity(n_rows);
    let mut before = from;
    for _ in 0..n_rows {
        let topic = usize::try_from(decoder.u64()?).unwrap_or(usize::MAX);
        let what = "a row names a topic that is not there";
        let topic = topics
            .get(topic)
            .ok_or(DecodeError::Contradiction { what })?;
        let version = plus(before.0, decoder.u64()?)?;
        let owner = OwnerId(decoder.u64()?);
        let key = Key::new(decoder.str()?)?;
        let meta = Meta::new(decoder.str()?)?;
        let prev = match decoder.u64()? {
            0 => Version::ZERO,
            back => Version(
                version
                    .0
                    .checked_sub(back)
                    .ok_or(DecodeError::Contradiction {
                        what: "a row replaced one that cannot have been",
                    })?,
            ),
        };
        before = version;
        let new = NewRow {
            topic: topic.clone(),
            key,
            meta,
            owner,
        };
        rows.push(Arc::new(Row::new(Arc::clone(replica), version, prev, new)));
    }
    Ok(rows)
}

fn decode_gone(decoder: &mut Decoder<'_>) -> Result<Gone, DecodeError> {
    items(decoder, 2)?;
    match decoder.u8()? {
        GONE_EXACTLY => {
            let n_rows = items(decoder, 0)?;
            let mut rows = Vec::with_capacity(n_rows);
            let mut before = 0;
            for _ in 0..n_rows {
                let word = decoder.u64()?;
                let version = plus(before, word >> REASON_BITS)?;
                before = version.0;
                rows.push((version, reason_in(word)?));
            }
            Ok(Gone::Exactly(rows))
        }
        GONE_ALL_BUT if decoder.datatype()? == Type::Bytes => {
            let what = "a set of versions is malformed";
            let alive = RoaringTreemap::deserialize_from(decoder.bytes()?);
            let alive = alive.map_err(|_| DecodeError::Contradiction { what })?;
            Ok(Gone::AllBut(alive))
        }
        kind => Err(DecodeError::Kind { kind }),
    }
}

fn reason_in(word: u64) -> Result<LeaveReason, DecodeError> {
    let code = u8::try_from(word & ((1 << REASON_BITS) - 1)).ok();
    let what = "a row left for no known reason";
    let reason = code.and_then(LeaveReason::from_code);
    reason.ok_or(DecodeError::Contradiction { what })
}
