//! Draining: closing the open sockets in batches when the server stops.
//!
//! Thousands of clients that lose their sockets in the same moment all come back in the same
//! moment. A drain closes them batch by batch, with close code 1012 on a WebSocket, so that they
//! reconnect one batch after the other. A long-poll session ends, and its client begins anew.

use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::auth::ConnectInfo;
use crate::mailbox::Mailbox;
use crate::reason::CloseOrder;

/// Sockets that are looked at while others wait to be opened.
const LOOK_BATCH: usize = 1_024;

/// How sockets are closed when the server stops.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DrainConfig {
    /// Sockets that are told in one go, 10,000.
    pub batch_size: NonZero<usize>,
    /// Pause between two batches, 2 seconds. It is shortened if the batches would not fit into
    /// `total` otherwise.
    pub batch_interval: Duration,
    /// Time for all batches and for the sockets to be gone, 30 seconds. Zero: nothing is drained,
    /// and sockets end with the process.
    pub total: Duration,
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self {
            batch_size: const { NonZero::new(10_000).expect("10000 is not zero") },
            batch_interval: Duration::from_secs(2),
            total: Duration::from_secs(30),
        }
    }
}

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Sockets that were told to close.
    pub n_sockets: usize,
    /// Batches in which they were told.
    pub n_batches: usize,
    /// Sockets that had not ended when the time was over.
    pub n_left: usize,
}

/// What waits for the readers of all connections of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Queued {
    /// Messages of all connections.
    pub n_messages: usize,
    /// Bytes of all connections.
    pub n_bytes: usize,
    /// Bytes of the connection for which the most wait.
    pub max_bytes: usize,
}

/// The open sockets of one mount, and the way to close them all. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Drain(Arc<Inner>);

struct Inner {
    config: DrainConfig,
    open: Mutex<Open>,
    /// Notified when the last socket ends.
    all_gone: Notify,
}

struct Open {
    sockets: Slab<Arc<Mailbox>>,
    has_begun: bool,
}

impl Drain {
    pub(crate) fn new(config: DrainConfig) -> Self {
        let open = Mutex::new(Open {
            sockets: Slab::new(),
            has_begun: false,
        });
        Self(Arc::new(Inner {
            config,
            open,
            all_gone: Notify::new(),
        }))
    }

    /// Notes an open socket, until the registration is dropped. If the drain has begun, the socket
    /// is told to close at once.
    pub(crate) fn register(&self, socket: Arc<Mailbox>) -> Registration {
        let mut open = self.0.open.lock();
        let late = open.has_begun.then(|| Arc::clone(&socket));
        let slot = open.sockets.insert(socket);
        drop(open);
        if let Some(socket) = late {
            close(&socket);
        }
        Registration {
            drain: self.clone(),
            slot,
        }
    }

    /// Lets the [`serve`](crate::serve()) that the request came through drain this mount when it
    /// stops. Any other server's sockets are drained only if the application asks for it.
    pub(crate) fn follow_server_of(&self, info: &ConnectInfo) {
        if let Some(list) = info.extension::<DrainList>() {
            list.add(self);
        }
    }

    /// Closes all sockets in batches and waits for them to end. Sockets that open from now on are
    /// closed at once. Takes no longer than [`DrainConfig::total`].
    pub(crate) async fn run(&self) -> DrainReport {
        let config = &self.0.config;
        if config.total.is_zero() {
            return DrainReport::default();
        }
        let deadline = Instant::now() + config.total;
        let sockets = self.begin();
        let n_batches = sockets.len().div_ceil(config.batch_size.get());
        let share = config.total / u32::try_from(n_batches.max(1)).unwrap_or(u32::MAX);
        let interval = config.batch_interval.min(share);
        for (n, batch) in sockets.chunks(config.batch_size.get()).enumerate() {
            if n > 0 {
                tokio::time::sleep(interval).await;
            }
            batch.iter().for_each(|socket| close(socket));
            tracing::info!(
                batch = n + 1,
                n_batches,
                n_sockets = batch.len(),
                "draining sockets"
            );
        }
        let n_sockets = sockets.len();
        drop(sockets);
        // Time over is seen in the count of what is left.
        let _ = tokio::time::timeout_at(deadline, self.all_gone()).await;
        DrainReport {
            n_sockets,
            n_batches,
            n_left: self.n_open(),
        }
    }

    fn begin(&self) -> Vec<Arc<Mailbox>> {
        let mut open = self.0.open.lock();
        open.has_begun = true;
        open.sockets
            .iter()
            .map(|(_, socket)| Arc::clone(socket))
            .collect()
    }

    async fn all_gone(&self) {
        loop {
            let gone = self.0.all_gone.notified();
            if self.n_open() == 0 {
                return;
            }
            gone.await;
        }
    }

    /// Returns what waits for the readers of all sockets. Looks at some at a time, so that sockets
    /// that open and end meanwhile do not wait for long.
    pub(crate) fn queued(&self) -> Queued {
        let mut queued = Queued::default();
        let mut at = 0;
        loop {
            let open = self.0.open.lock();
            let end = open.sockets.capacity();
            let slots = at..end.min(at + LOOK_BATCH);
            for mailbox in slots.filter_map(|slot| open.sockets.get(slot)) {
                let (n_messages, n_bytes) = mailbox.queued();
                queued.n_messages += n_messages;
                queued.n_bytes += n_bytes;
                queued.max_bytes = queued.max_bytes.max(n_bytes);
            }
            at += LOOK_BATCH;
            if at >= end {
                return queued;
            }
        }
    }

    /// Returns how many sockets are open.
    pub(crate) fn n_open(&self) -> usize {
        self.0.open.lock().sockets.len()
    }
}

/// Orders a socket to close for a restart. Ordered twice is ordered once.
fn close(socket: &Mailbox) {
    socket.order_close(CloseOrder::draining());
}

impl fmt::Debug for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drain")
            .field("n_open", &self.n_open())
            .finish_non_exhaustive()
    }
}

/// The entry of one open socket. Its task drops it last.
#[derive(Debug)]
pub(crate) struct Registration {
    drain: Drain,
    slot: usize,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut open = self.drain.0.open.lock();
        let socket = open.sockets.remove(self.slot);
        if open.sockets.is_empty() {
            self.drain.0.all_gone.notify_waiters();
        }
        drop(open);
        drop(socket); // Not under the lock: it may be the last reference.
    }
}

/// The mounts that one server drains when it stops. Travels in the extensions of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct DrainList(Arc<Mutex<Listed>>);

#[derive(Debug, Default)]
struct Listed {
    drains: Vec<Drain>,
    is_closed: bool,
}

impl DrainList {
    fn add(&self, drain: &Drain) {
        let mut listed = self.0.lock();
        if listed.is_closed {
            drop(listed);
            drain.begin().iter().for_each(|socket| close(socket));
            return;
        }
        if !listed
            .drains
            .iter()
            .any(|known| Arc::ptr_eq(&known.0, &drain.0))
        {
            listed.drains.push(drain.clone());
        }
    }

    /// Returns all that were added; a mount that comes later is closed at once.
    pub(crate) fn close(&self) -> Vec<Drain> {
        let mut listed = self.0.lock();
        listed.is_closed = true;
        std::mem::take(&mut listed.drains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SocketConfig;

    fn socket() -> Arc<Mailbox> {
        Mailbox::new(
            Arc::new(SocketConfig::default()),
            Arc::default(),
            Arc::default(),
            None,
        )
    }

    struct Mount {
        drain: Drain,
        sockets: Vec<Arc<Mailbox>>,
        registrations: Vec<Registration>,
    }

    fn mount(n: usize, config: DrainConfig) -> Mount {
        let drain = Drain::new(config);
        let sockets: Vec<Arc<Mailbox>> = (0..n).map(|_| socket()).collect();
        let registrations = sockets
            .iter()
            .map(|socket| drain.register(Arc::clone(socket)));
        Mount {
            registrations: registrations.collect(),
            sockets,
            drain,
        }
    }

    impl Mount {
        /// How many were told since the last time.
        fn n_told(&self) -> usize {
            let told = self.sockets.iter().filter_map(|socket| socket.take_close());
            told.filter(|order| *order == CloseOrder::draining())
                .count()
        }
    }

    fn config(batch_size: usize) -> DrainConfig {
        let batch_size = NonZero::new(batch_size).unwrap();
        DrainConfig {
            batch_size,
            ..DrainConfig::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn x_04_sockets_are_drained_by_the_options_of_their_mount() {
        let mut mount = mount(5, config(2));
        let started = Instant::now();
        let run = tokio::spawn({
            let drain = mount.drain.clone();
            async move { drain.run().await }
        });
        for (at, n_told) in [(1, 2), (3, 2), (5, 1)] {
            tokio::time::sleep_until(started + Duration::from_secs(at)).await;
            assert_eq!(mount.n_told(), n_told, "after {at} s");
        }
        assert!(!run.is_finished());
        mount.registrations.clear();
        let report = run.await.unwrap();
        assert_eq!(
            report,
            DrainReport {
                n_sockets: 5,
                n_batches: 3,
                n_left: 0
            }
        );
        assert_eq!(started.elapsed(), Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn x_06_a_drain_without_time_tells_nobody() {
        let mount = mount(
            3,
            DrainConfig {
                total: Duration::ZERO,
                ..DrainConfig::default()
            },
        );
        assert_eq!(mount.drain.run().await, DrainReport::default());
        assert_eq!(mount.n_told(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn soc_113_a_drain_takes_no_longer_than_its_total() {
        let mount = mount(100, config(1));
        let started = Instant::now();
        let report = mount.drain.run().await;
        assert_eq!(
            report,
            DrainReport {
                n_sockets: 100,
                n_batches: 100,
                n_left: 100
            }
        );
        assert_eq!(mount.n_told(), 100);
        assert!(
            started.elapsed() <= Duration::from_secs(30),
            "{:?}",
            started.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn soc_114_a_socket_that_opens_during_a_drain_is_told_at_once() {
        let mount = mount(0, DrainConfig::default());
        mount.drain.run().await;
        let late = socket();
        let registration = mount.drain.register(Arc::clone(&late));
        assert_eq!(late.take_close(), Some(CloseOrder::draining()));
        drop(registration);
        assert_eq!(mount.drain.n_open(), 0);
    }

    #[test]
    fn soc_115_a_server_lists_each_mount_once_and_closes_late_ones() {
        let (list, early, late) = (
            DrainList::default(),
            mount(1, config(1)),
            mount(1, config(1)),
        );
        list.add(&early.drain);
        list.add(&early.drain);
        assert_eq!(list.close().len(), 1);
        assert_eq!(early.n_told(), 0);
        list.add(&late.drain);
        assert_eq!(late.n_told(), 1);
    }
}
