//! What waits for one connection: frames for its client, messages for its channels, the order to
//! close.
//!
//! Any task may put something in; only the connection's task takes it out. Bounded in messages and
//! bytes: a connection whose reader does not keep up is told to close, it never grows. Idle, a
//! mailbox owns no heap memory but itself.

mod aside;
mod flush;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};

use herenow_protocol::{ChannelId, event};
use herenow_pubsub::{Broadcast, Once, Sink};
use parking_lot::{Mutex, MutexGuard};
use tokio::net::TcpStream;

use self::aside::{Aside, Fed};
pub(crate) use self::aside::{Feed, Taken};
pub(crate) use self::flush::{FlushBatch, FlushQueue};
use crate::config::SocketConfig;
use crate::dialect::Dialect;
use crate::frame::{Frame, FrameQueue};
use crate::info::{InfoError, InfoItem};
use crate::metrics::Metrics;
use crate::reason::CloseOrder;

/// The mailbox of one connection, shared by all that write to it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    inner: Mutex<Inner>,
    /// The connection's id: the topic it can be disconnected by.
    id: Option<Arc<str>>,
    config: Arc<SocketConfig>,
    metrics: Arc<Metrics>,
    /// Where it waits to be flushed.
    flushes: Arc<FlushQueue>,
}

#[derive(Debug, Default)]
struct Inner {
    frames: FrameQueue,
    /// Bytes of `frames`, of held frames, and of what was taken and is not written yet.
    n_bytes: usize,
    /// As `n_bytes`, in frames.
    n_frames: usize,
    /// The connection's task, when it waits.
    waker: Option<Waker>,
    /// What frames can be written to past the connection's task.
    stream: Option<Arc<TcpStream>>,
    close: Option<Box<CloseOrder>>,
    is_closed: bool,
    /// Whether the connection's task has frames of a `stream` that it has not written yet.
    is_writing: bool,
    /// Whether a batch that is to be flushed has the mailbox.
    is_marked: bool,
    cold: Option<Box<Cold>>,
}

/// What most connections do not have at any time.
#[derive(Debug, Default)]
struct Cold {
    infos: VecDeque<InfoItem>,
    /// Infos in `infos`, and those taken and not handled yet.
    n_infos: usize,
    held: Vec<(ChannelId, Vec<Frame>)>,
    aside: Vec<Aside>,
    fed: Fed,
}

/// What became of a frame.
enum Queued<'a> {
    /// It is not wanted any more.
    No,
    /// It waits for a reply.
    Held,
    /// It is to be written.
    Out(MutexGuard<'a, Inner>),
}

/// The connection takes nothing more.
#[derive(Debug)]
pub(crate) struct MailboxClosed;

impl Mailbox {
    pub(crate) fn new(
        config: Arc<SocketConfig>,
        metrics: Arc<Metrics>,
        flushes: Arc<FlushQueue>,
        id: Option<Arc<str>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            id,
            config,
            metrics,
            flushes,
        })
    }

    pub(crate) fn id(&self) -> Option<&Arc<str>> {
        self.id.as_ref()
    }

    /// Returns the messages and the bytes that wait for the reader.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.n_frames, inner.n_bytes)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn dialect(&self) -> Option<&'static dyn Dialect> {
        self.config.dialect
    }

    /// Queues a frame that belongs to no channel.
    pub(crate) fn push(&self, frame: Frame) -> Result<(), MailboxClosed> {
        let mut inner = self.inner.lock();
        self.admit(&mut inner, &frame)?;
        inner.frames.push(frame);
        Self::wake(inner);
        Ok(())
    }

    /// Queues a frame of a channel, or holds it while `is_held`, if `check` still says so.
    ///
    /// `check` runs under the mailbox's lock, so that what it decides and the order of the frames
    /// are one.
    pub(crate) fn push_for(
        &self,
        slot: ChannelId,
        is_held: &AtomicBool,
        frame: Frame,
        check: impl FnOnce() -> bool,
    ) -> Result<bool, MailboxClosed> {
        match self.try_queue(slot, is_held, frame, check)? {
            Queued::No => return Ok(false),
            Queued::Held => {}
            Queued::Out(inner) => Self::wake(inner),
        }
        Ok(true)
    }

    /// As [`Mailbox::push_for`], for one frame of many that are for idle connections: leaves the
    /// writing to the `batch`, if it can.
    pub(crate) fn push_in(
        self: &Arc<Self>,
        slot: ChannelId,
        is_held: &AtomicBool,
        frame: Frame,
        check: impl FnOnce() -> bool,
        once: &mut Once,
    ) -> Result<bool, MailboxClosed> {
        match self.try_queue(slot, is_held, frame, check)? {
            Queued::No => return Ok(false),
            Queued::Held => {}
            Queued::Out(mut inner) => match inner.mark() {
                Some(true) => {
                    drop(inner);
                    once.at_end::<FlushBatch>().add(self.clone());
                }
                Some(false) => {}
                None => Self::wake(inner),
            },
        }
        Ok(true)
    }

    /// As [`Mailbox::push_for`], for the first part of a state; the others are in `feed`, and
    /// follow as the reader takes them in, before any diff that comes from now on. So does the
    /// first, if the queue would be too long with it.
    pub(crate) fn push_state(
        &self,
        slot: ChannelId,
        is_held: &AtomicBool,
        frame: Frame,
        check: impl FnOnce() -> bool,
        mut feed: Feed,
    ) -> Result<bool, MailboxClosed> {
        let has_more = feed.has_more();
        let mut inner = self.inner.lock();
        if !check() {
            return Ok(false);
        }
        let waits = inner.n_bytes + frame.n_bytes() > self.max_with_state();
        if waits && !inner.is_closed {
            feed.first = Some(frame);
        } else {
            self.queue(&mut inner, slot, is_held, frame)?;
        }
        let (is_held, is_fed) = (is_held.load(Ordering::Relaxed), waits || has_more);
        let is_there = |cold: &Cold| cold.aside.iter().any(|aside| aside.slot == slot);
        if is_fed || inner.cold.as_deref().is_some_and(is_there) {
            let aside = inner.aside(slot, is_held);
            aside.feed = is_fed.then(|| Box::new(feed));
            aside.is_feeding = false;
        }
        if !is_held {
            Self::wake(inner);
        }
        Ok(true)
    }

    fn try_queue(
        &self,
        slot: ChannelId,
        is_held: &AtomicBool,
        frame: Frame,
        check: impl FnOnce() -> bool,
    ) -> Result<Queued<'_>, MailboxClosed> {
        let mut inner = self.inner.lock();
        if !check() {
            return Ok(Queued::No);
        }
        Ok(match self.queue(&mut inner, slot, is_held, frame)? {
            true => Queued::Out(inner),
            false => Queued::Held,
        })
    }

    /// Queues a frame of a channel, or holds it while `is_held`; tells whether it is to be written.
    fn queue(
        &self,
        inner: &mut Inner,
        slot: ChannelId,
        is_held: &AtomicBool,
        frame: Frame,
    ) -> Result<bool, MailboxClosed> {
        self.admit(inner, &frame)?;
        if !is_held.load(Ordering::Relaxed) {
            inner.frames.push(frame);
            return Ok(true);
        }
        let held = &mut inner.cold.get_or_insert_default().held;
        match held.iter_mut().find(|(of, _)| *of == slot) {
            Some((_, frames)) => frames.push(frame),
            None => held.push((slot, vec![frame])),
        }
        Ok(false)
    }

    /// Counts a frame in, or orders the connection to close if it is one too many.
    fn admit(&self, inner: &mut Inner, frame: &Frame) -> Result<(), MailboxClosed> {
        if inner.is_closed {
            return Err(MailboxClosed);
        }
        let n_bytes = inner.n_bytes + frame.n_bytes();
        let n_frames = inner.n_frames + 1;
        let fed = inner.cold.as_deref().map(|cold| &cold.fed);
        let (fed_frames, fed_bytes) = fed.map_or((0, 0), |fed| (fed.n_frames, fed.n_bytes));
        let (max_bytes, max_frames) = (
            self.config.max_queue_bytes,
            self.config.max_queue_messages.get(),
        );
        let is_too_many = n_frames - fed_frames > max_frames;
        // A single frame may be larger than the queue: it would otherwise never be sent.
        let is_single = inner.n_frames == fed_frames;
        if !is_too_many && (n_bytes - fed_bytes <= max_bytes || is_single) {
            (inner.n_bytes, inner.n_frames) = (n_bytes, n_frames);
            return Ok(());
        }
        let text = if is_too_many {
            format!("slow reader: over max_queue_messages, {max_frames}")
        } else {
            format!("slow reader: over max_queue_bytes, {max_bytes}")
        };
        self.close_slow(inner, text);
        Err(MailboxClosed)
    }

    fn close_slow(&self, inner: &mut Inner, text: String) {
        self.metrics.slow_readers.increment();
        inner.is_closed = true;
        inner.frames.discard();
        // Infos are foreign values: the connection's task drops them, not whoever holds the lock.
        if let Some(cold) = inner.cold.as_deref_mut() {
            cold.held = Vec::new();
            cold.aside = Vec::new();
        }
        inner
            .close
            .get_or_insert_with(|| Box::new(CloseOrder::slow_reader(text)));
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
    }

    /// Lets frames of a channel out that were held, in order, and holds no more.
    pub(crate) fn release(&self, slot: ChannelId, is_held: &AtomicBool) {
        let mut inner = self.inner.lock();
        is_held.store(false, Ordering::Relaxed);
        let mut aside = inner.cold.as_deref_mut().map(|cold| cold.aside.iter_mut());
        if let Some(aside) = aside
            .as_mut()
            .and_then(|aside| aside.find(|one| one.slot == slot))
        {
            aside.is_held = false;
        }
        let frames = inner.take_held(slot);
        inner.frames.extend(frames);
        Self::wake(inner);
    }

    /// Drops what was held or kept aside for a channel.
    pub(crate) fn discard(&self, slot: ChannelId) {
        let mut inner = self.inner.lock();
        if let Some(cold) = inner.cold.as_deref_mut() {
            cold.aside.retain(|aside| aside.slot != slot);
        }
        let frames = inner.take_held(slot);
        inner.n_frames -= frames.len();
        inner.n_bytes -= frames.iter().map(Frame::n_bytes).sum::<usize>();
    }

    /// Queues something for `handle_info` or `handle_out`.
    pub(crate) fn push_info(&self, item: InfoItem) -> Result<(), InfoError> {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            self.metrics.dropped_infos.increment();
            return Err(InfoError::Ended);
        }
        let max = self.config.max_infos.get();
        let cold = inner.cold.get_or_insert_default();
        if cold.n_infos >= max {
            self.metrics.dropped_infos.increment();
            return Err(InfoError::Full { max });
        }
        cold.n_infos += 1;
        cold.infos.push_back(item);
        Self::wake(inner);
        Ok(())
    }

    /// Queues what channels must not miss; one too many closes the connection.
    pub(crate) fn push_vital(&self, item: InfoItem) {
        if let Err(InfoError::Full { max }) = self.push_info(item) {
            let text = format!("slow channel: over max_infos, {max}");
            self.close_slow(&mut self.inner.lock(), text);
        }
    }

    /// Orders the connection to close; the first order counts.
    pub(crate) fn order_close(&self, order: CloseOrder) {
        let mut inner = self.inner.lock();
        inner.close.get_or_insert_with(|| Box::new(order));
        Self::wake(inner);
    }

    /// Takes nothing more in. What was queued for the client can still be taken.
    pub(crate) fn shut(&self) {
        let mut inner = self.inner.lock();
        inner.is_closed = true;
        let (cold, stream) = (inner.cold.take(), inner.stream.take());
        drop(inner);
        drop((cold, stream)); // After the lock is released: infos are foreign values.
    }

    /// Returns the order to close, once.
    pub(crate) fn take_close(&self) -> Option<CloseOrder> {
        self.inner.lock().close.take().map(|order| *order)
    }

    /// Takes all queued frames; what was taken before is written.
    pub(crate) fn take_frames(&self) -> FrameQueue {
        let mut inner = self.inner.lock();
        let held = inner.cold.as_deref().map_or(&[][..], |cold| &cold.held);
        let held = held.iter().flat_map(|(_, frames)| frames);
        let (held_frames, held_bytes) =
            held.fold((0, 0), |(n, bytes), frame| (n + 1, bytes + frame.n_bytes()));
        let frames = std::mem::take(&mut inner.frames);
        if let Some(cold) = inner.cold.as_deref_mut() {
            cold.fed.handle_take();
        }
        inner.is_writing = inner.stream.is_some() && !frames.is_empty();
        inner.n_frames = frames.len() + held_frames;
        inner.n_bytes = frames.n_bytes() + held_bytes;
        frames
    }

    /// Takes the infos; each must be given back with [`Mailbox::info_handled`].
    pub(crate) fn take_infos(&self) -> VecDeque<InfoItem> {
        let mut inner = self.inner.lock();
        inner
            .cold
            .as_deref_mut()
            .map(|cold| std::mem::take(&mut cold.infos))
            .unwrap_or_default()
    }

    /// Makes room for another info.
    pub(crate) fn info_handled(&self) {
        let mut inner = self.inner.lock();
        if let Some(cold) = inner.cold.as_deref_mut() {
            cold.n_infos = cold.n_infos.saturating_sub(1);
        }
        inner.drop_cold();
    }

    /// Waits for more: true if there is nothing to do now, and `context` will be woken.
    ///
    /// Frames do not count if the connection cannot write them anyway.
    pub(crate) fn park(&self, context: &Context<'_>, can_write: bool) -> bool {
        let mut inner = self.inner.lock();
        let has_infos = inner
            .cold
            .as_deref()
            .is_some_and(|cold| !cold.infos.is_empty());
        let has_aside = inner
            .cold
            .as_deref()
            .is_some_and(|cold| cold.aside.iter().any(|one| !one.is_held));
        let has_frames = can_write && (has_aside || !inner.frames.is_empty());
        if inner.close.is_some() || has_infos || has_frames {
            return false;
        }
        match &mut inner.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none @ None => *none = Some(context.waker().clone()),
        }
        true
    }

    /// Forgets who waits: the connection's task runs, it need not be woken by what it does itself.
    pub(crate) fn unpark(&self) {
        self.inner.lock().waker = None;
    }

    fn wake(mut inner: MutexGuard<'_, Inner>) {
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// On the topic of the connection's id.
impl Sink for Mailbox {
    fn deliver(&self, broadcast: &Broadcast, _: &mut Once) {
        if broadcast.event == event::DISCONNECT {
            self.order_close(CloseOrder::disconnected());
        }
    }
}

impl Inner {
    fn take_held(&mut self, slot: ChannelId) -> Vec<Frame> {
        let Some(cold) = self.cold.as_deref_mut() else {
            return Vec::new();
        };
        let at = cold.held.iter().position(|(of, _)| *of == slot);
        let frames = at.map(|at| cold.held.swap_remove(at).1);
        self.drop_cold();
        frames.unwrap_or_default()
    }

    fn drop_cold(&mut self) {
        let is_empty = |cold: &Cold| {
            cold.n_infos == 0
                && cold.infos.is_empty()
                && cold.held.is_empty()
                && cold.aside.is_empty()
                && cold.fed.n_frames == 0
        };
        if self.cold.as_deref().is_some_and(is_empty) {
            self.cold = None;
        }
    }
}
