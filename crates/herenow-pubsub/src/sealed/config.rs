//! [`SealConfig`]: the secret, and what nodes must agree on, with its form on the wire.

use std::collections::BTreeMap;
use std::fmt;

/// The version of the cluster protocol that this code speaks.
pub const CLUSTER_PROTOCOL_VERSION: u8 = 1;
/// The shortest secret in bytes.
const MIN_SECRET_BYTES: usize = 16;
/// The most bytes that an agreement may have, keys and values with two bytes for each pair.
const MAX_AGREEMENT_BYTES: usize = 4096;

/// What nodes must have in common to hear each other.
#[derive(Clone)]
#[non_exhaustive]
pub struct SealConfig {
    /// The cluster's name.
    pub cluster: String,
    /// The secret that all nodes of the cluster have, of 16 bytes or more; `None` keeps no one out.
    pub secret: Option<Vec<u8>>,
    /// Settings that nodes must agree on, as key and value: `("presence.n_shards", "64")`. Lines
    /// of up to 4 KiB in all.
    pub agreement: BTreeMap<String, String>,
    /// Peers known at once; those beyond are refused. Default 1,024.
    pub max_peers: usize,
    /// The version of the cluster protocol to speak; for tests. Default
    /// [`CLUSTER_PROTOCOL_VERSION`].
    pub version: u8,
}

/// Why a [`SealConfig`] was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The secret is too short to be one.
    #[error("the cluster secret is {len} bytes, it must be at least {min}")]
    ShortSecret {
        /// Its length in bytes.
        len: usize,
        /// The least.
        min: usize,
    },
    /// The agreement is too large, or a key or value has a line break, or a key an `=`.
    #[error("the agreement is {len} bytes or has a line break, it must be lines of at most {max}")]
    Agreement {
        /// Its length in bytes.
        len: usize,
        /// The most.
        max: usize,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {reason}")]
    NoRandom {
        /// What the system said.
        reason: String,
    },
}

impl SealConfig {
    /// A configuration of this cluster without a secret and without anything to agree on.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            secret: None,
            agreement: BTreeMap::new(),
            max_peers: 1024,
            version: CLUSTER_PROTOCOL_VERSION,
        }
    }

    /// Checks all of it.
    pub(super) fn validate(&self) -> Result<(), SealError> {
        if let Some(secret) = &self.secret
            && secret.len() < MIN_SECRET_BYTES
        {
            let (len, min) = (secret.len(), MIN_SECRET_BYTES);
            return Err(SealError::ShortSecret { len, min });
        }
        let text = write_agreement(&self.agreement);
        if text.len() > MAX_AGREEMENT_BYTES
            || read_agreement(text.as_bytes()) != Some(self.agreement.clone())
        {
            let (len, max) = (text.len(), MAX_AGREEMENT_BYTES);
            return Err(SealError::Agreement { len, max });
        }
        Ok(())
    }
}

impl fmt::Debug for SealConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealConfig")
            .field("cluster", &self.cluster)
            .field("secret_bytes", &self.secret.as_ref().map(Vec::len))
            .field("agreement", &self.agreement)
            .finish_non_exhaustive()
    }
}

pub(super) fn write_agreement(agreement: &BTreeMap<String, String>) -> String {
    let lines = agreement
        .iter()
        .map(|(key, value)| format!("{key}={value}\n"));
    lines.collect()
}

pub(super) fn read_agreement(bytes: &[u8]) -> Option<BTreeMap<String, String>> {
    if bytes.len() > MAX_AGREEMENT_BYTES {
        return None;
    }
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    };
    let text = std::str::from_utf8(bytes).ok()?;
    text.lines().map(pair).collect()
}
