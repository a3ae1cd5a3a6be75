//! Temporary.
#![allow(missing_docs, missing_debug_implementations, dead_code)]
use bytes::Bytes;
use std::sync::Arc;
#[derive(Debug)]
pub struct Owner;
#[derive(Debug, Clone, Copy)]
pub enum LeaveReason {
    Left,
    Closed,
}
impl Owner {
    pub fn new() -> Self {
        Self
    }
    pub fn end_with(&self, _: LeaveReason) {}
}
pub trait Holder {
    fn owner(&self) -> &Owner;
    fn topic(&self) -> &str;
}
#[derive(Debug, Clone)]
pub struct Presences(Arc<Bytes>);
impl Presences {
    pub fn topic(&self) -> &str {
        ""
    }
    pub fn version(&self) -> u64 {
        0
    }
    pub fn json(&self) -> Bytes {
        Bytes::clone(&self.0)
    }
}
impl herenow_pubsub::LocalPayload for Presences {
    fn json(&self) -> Bytes {
        Bytes::clone(&self.0)
    }
}
#[derive(Debug)]
pub struct PresenceDiff;
impl PresenceDiff {
    pub fn from(&self) -> u64 {
        0
    }
    pub fn to(&self) -> u64 {
        0
    }
    pub fn json(&self) -> Bytes {
        Bytes::new()
    }
    pub fn json_since(&self, _: u64) -> Option<Bytes> {
        None
    }
    pub fn fold(_: &[Arc<PresenceDiff>]) -> Arc<PresenceDiff> {
        Arc::new(Self)
    }
}
impl herenow_pubsub::LocalPayload for PresenceDiff {
    fn json(&self) -> Bytes {
        Bytes::new()
    }
}
