//! [`Broadcast`] and its [`Payload`]; [`Sink`], what it is delivered to; [`Once`], the cache that
//! lets a thousand sinks share one encoding.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use smol_str::SmolStr;

/// One event on a topic, as subscribers get it. Cloning shares the payload.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Broadcast {
    /// The topic it was made on.
    pub topic: Arc<str>,
    /// The name of the event, such as `presence_diff`.
    pub event: SmolStr,
    /// What it carries.
    pub payload: Payload,
}

impl Broadcast {
    /// Returns a broadcast of these parts, for tests of a [`Sink`].
    pub fn new(topic: impl Into<Arc<str>>, event: &str, payload: Payload) -> Self {
        Self {
            topic: topic.into(),
            event: SmolStr::new(event),
            payload,
        }
    }
}

/// What a [`Broadcast`] carries. `Debug` prints lengths, never contents.
#[derive(Clone)]
pub enum Payload {
    /// One JSON value as valid UTF-8 text. Whoever makes it vouches for that.
    Json(Bytes),
    /// Any bytes; clients get them as a binary frame.
    Binary(Bytes),
    /// A value of this process. Other nodes get its JSON.
    Local(Arc<dyn LocalPayload>),
}

impl Payload {
    /// Returns a JSON payload of text that is valid JSON already.
    pub fn json(text: impl Into<Bytes>) -> Self {
        Self::Json(text.into())
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(bytes) => write!(f, "Json({} bytes)", bytes.len()),
            Self::Binary(bytes) => write!(f, "Binary({} bytes)", bytes.len()),
            Self::Local(value) => write!(f, "Local({value:?})"),
        }
    }
}

/// A payload that stays in this process, so that a sink which knows its type can look inside.
pub trait LocalPayload: Any + fmt::Debug + Send + Sync {
    /// Returns the value as JSON text; implementations render once and share.
    fn json(&self) -> Bytes;
}

impl dyn LocalPayload {
    /// Returns the value as a `T` if it is one.
    pub fn downcast_ref<T: LocalPayload>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

impl dyn LocalPayload {
    /// Returns the value as an `Arc<T>` if it is one.
    pub fn downcast_arc<T: LocalPayload>(self: Arc<Self>) -> Option<Arc<T>> {
        (self as Arc<dyn Any + Send + Sync>).downcast().ok()
    }
}

/// Names one subscription or attachment of this process; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub(crate) u64);

impl fmt::Display for SubscriberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What broadcasts of a topic are delivered to.
pub trait Sink: Send + Sync {
    /// Takes one broadcast; `once` is shared by all sinks of this dispatch.
    ///
    /// Runs in the broadcasting task or on the adapter's thread, outside every lock of the
    /// registry, so it may subscribe and unsubscribe. It must return soon and must not panic: a
    /// panic goes to the broadcaster, and the sinks after this one miss the broadcast.
    fn deliver(&self, broadcast: &Broadcast, once: &mut Once);
}

/// What the sinks of one dispatch share: what they have encoded so far, by slot, and one value that
/// is dropped when all of them had the broadcast, or those whose turn it was.
///
/// A slot is any number that the sinks agree on, such as one per serializer. There are few, so they
/// are searched in order.
#[derive(Default)]
pub struct Once {
    slots: SmallVec<[(u128, Bytes); 2]>,
    at_end: Option<Box<dyn Any + Send>>,
}

impl Once {
    /// Returns an empty cache, for tests of a [`Sink`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what `slot` holds, or else fills it by `encode`.
    ///
    /// # Errors
    ///
    /// What `encode` returned; the slot stays empty, so the next sink tries again.
    #[inline]
    pub fn get_or_encode<E>(
        &mut self,
        slot: u128,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        match self.slots.iter().find(|(taken, _)| *taken == slot) {
            Some((_, bytes)) => Ok(bytes.clone()),
            None => self.encode(slot, encode),
        }
    }

    /// Fills a slot. Apart, since all sinks of a dispatch but the first have no use for it.
    #[inline(never)]
    fn encode<E>(
        &mut self,
        slot: u128,
        encode: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        let bytes = encode()?;
        self.slots.push((slot, bytes.clone()));
        Ok(bytes)
    }

    /// Returns a value of this dispatch that is dropped when the last sink had the broadcast, so
    /// that sinks of one kind can put off to its `Drop` what is cheaper done for all of them.
    ///
    /// There is one such value: asked for another type, the one before is dropped at once.
    pub fn at_end<T: Default + Send + 'static>(&mut self) -> &mut T {
        let at_end = self.at_end.take().and_then(|value| value.downcast().ok());
        let value: Box<T> = at_end.unwrap_or_default();
        let value = self.at_end.insert(value).downcast_mut();
        value.expect("a value of this type was just put there")
    }

    /// Drops the value that was put off, and keeps what is encoded: the other sinks follow later.
    pub(crate) fn end_turn(&mut self) {
        self.at_end = None;
    }
}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once")
            .field("slots", &self.slots)
            .field("has_end", &self.at_end.is_some())
            .finish()
    }
}
