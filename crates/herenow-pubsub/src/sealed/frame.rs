//! What a sealed frame looks like, and how it is made and checked. No state but a counter.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | `0xB5`, which no unsealed message of ours begins with |
//! | 1 | version of the cluster protocol |
//! | 1 | kind: broadcast, direct, knock, hello, answer |
//! | 1 | 1 if the sender has a secret, 0 if not |
//! | 4 | the beginning of a hash of the cluster's name |
//! | 8 | the sender's life: a number drawn at its start, in the order of starts |
//! | 8 | counter of the sender's frames in this life, from 1 |
//! | 16 | tag: HMAC-SHA256, cut, over the above, sender, receiver (of direct frames), subject, body |
//! | … | body |

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;

const MAGIC: u8 = 0xB5;
const TAG_AT: usize = 24;
/// What sealing adds to a message, in bytes.
pub(super) const HEAD_BYTES: usize = 40;

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message to all.
    Broadcast,
    /// A message to one node; its name is under the tag.
    Direct,
    /// To all: somebody has started.
    Knock,
    /// To one: prove that you live, and here is what I take for agreed.
    Hello,
    /// To one: the proof, and what I take for agreed.
    Answer,
}

/// A frame that passed.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) kind: Kind,
    pub(super) life: u64,
    pub(super) counter: u64,
    pub(super) body: Bytes,
}

/// Makes and checks the frames of one node in one life.
pub(super) struct Sealer {
    mac: Hmac<Sha256>,
    is_keyed: bool,
    cluster: [u8; 4],
    version: u8,
    life: u64,
    counter: AtomicU64,
}

impl Kind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Broadcast => 1,
            Self::Direct => 2,
            Self::Knock => 3,
            Self::Hello => 4,
            Self::Answer => 5,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Broadcast),
            2 => Some(Self::Direct),
            3 => Some(Self::Knock),
            4 => Some(Self::Hello),
            5 => Some(Self::Answer),
            _ => None,
        }
    }

    fn is_for_one(self) -> bool {
        match self {
            Self::Direct | Self::Hello | Self::Answer => true,
            Self::Broadcast | Self::Knock => false,
        }
    }
}

impl Sealer {
    pub(super) fn new(secret: Option<&[u8]>, cluster: &str, version: u8, life: u64) -> Self {
        // Without a secret the tag still tells damage and other clusters, and keeps no one out.
        let mut key = mac(secret.unwrap_or_default());
        key.update(b"herenow cluster frames\0");
        key.update(cluster.as_bytes());
        let key = key.finalize().into_bytes();
        let hash = Sha256::digest(cluster.as_bytes());
        Self {
            mac: mac(&key),
            is_keyed: secret.is_some(),
            cluster: [hash[0], hash[1], hash[2], hash[3]],
            version,
            life,
            counter: AtomicU64::new(1),
        }
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    /// Makes the frame of a message from `from` to `to`, which is not looked at if it is for all.
    pub(super) fn seal(
        &self,
        kind: Kind,
        from: &str,
        to: &str,
        subject: &str,
        body: &[u8],
    ) -> Bytes {
        let mut frame = BytesMut::with_capacity(HEAD_BYTES + body.len());
        frame.put_slice(&[MAGIC, self.version, kind.to_byte(), self.is_keyed.into()]);
        frame.put_slice(&self.cluster);
        frame.put_u64(self.life);
        frame.put_u64(self.counter.fetch_add(1, Ordering::Relaxed));
        let tag = self
            .tag(kind, &frame, from, to, subject, body)
            .finalize()
            .into_bytes();
        frame.put_slice(&tag[..HEAD_BYTES - TAG_AT]);
        frame.put_slice(body);
        frame.freeze()
    }

    /// Checks a frame that `from` is said to have sent to this node, `to`.
    pub(super) fn open(
        &self,
        from: &str,
        to: &str,
        subject: &str,
        frame: &Bytes,
    ) -> Result<Opened, Refusal> {
        let head = frame.first_chunk::<HEAD_BYTES>();
        let head = head
            .filter(|head| head[0] == MAGIC)
            .ok_or(Refusal::NotSealed)?;
        if head[1] != self.version {
            let (theirs, ours) = (head[1], self.version);
            return Err(Refusal::OtherVersion { theirs, ours });
        }
        if head[4..8] != self.cluster {
            return Err(Refusal::OtherCluster);
        }
        match (head[3] != 0, self.is_keyed) {
            (false, true) => return Err(Refusal::NoSecretThere),
            (true, false) => return Err(Refusal::NoSecretHere),
            (true, true) | (false, false) => {}
        }
        let kind = Kind::from_byte(head[2]).ok_or(Refusal::Malformed)?;
        let body = frame.slice(HEAD_BYTES..);
        self.tag(kind, &head[..TAG_AT], from, to, subject, &body)
            .verify_truncated_left(&head[TAG_AT..])
            .map_err(|_| Refusal::WrongTag)?;
        let number = |at: usize| {
            let bytes = head[at..].first_chunk::<8>();
            u64::from_be_bytes(*bytes.expect("the head is longer"))
        };
        Ok(Opened {
            kind,
            life: number(8),
            counter: number(16),
            body,
        })
    }

    fn tag(
        &self,
        kind: Kind,
        head: &[u8],
        from: &str,
        to: &str,
        subject: &str,
        body: &[u8],
    ) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(head);
        // With lengths, so that no two triples read the same.
        for text in [from, if kind.is_for_one() { to } else { "" }, subject] {
            mac.update(&(text.len() as u64).to_be_bytes());
            mac.update(text.as_bytes());
        }
        mac.update(body);
        mac
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}
