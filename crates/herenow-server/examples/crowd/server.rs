//! The server, with one thread of its own.

use std::collections::BTreeSet;
use std::future::{pending, ready};
use std::ops::Range;
use std::time::Duration;

use herenow_channels::{Listener, serve_through};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use herenow_server::config::ServerConfig;
use herenow_server::identity::Authority;
use herenow_server::run;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;

use super::client::{Client, is_joined_by};
use super::line::Way;
use super::meter::{cpu_of, until};
use super::wire::Backlog;

/// Connections that are made, or join, at the same time where time is not measured.
pub(crate) const WAVE: usize = 1_000;
/// What its thread is called.
pub(crate) const THREAD: &str = "crowd-server";

/// A server, and the way to it. Dropped, it crashes.
pub(crate) struct Server {
    runtime: Option<Runtime>,
    presence: Presence,
    way: Way,
}

/// The default configuration, but clients that send no heartbeats may stay.
pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.socket.idle_timeout = Duration::from_secs(3_600);
    config
}

/// Returns a runtime of one thread.
pub(crate) fn runtime() -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let builder = builder.worker_threads(1).thread_name(THREAD);
    builder.enable_all().build()
}

/// Returns the CPU time of all servers so far that are still there.
pub(crate) fn cpu() -> Duration {
    cpu_of(THREAD)
}

/// Returns the CPU time since there was `before` of it. That of a server that has ended meanwhile is
/// not counted any more, so it may be none.
pub(crate) fn cpu_since(before: Duration) -> Duration {
    cpu().saturating_sub(before)
}

/// Waits until no server has anything to do, and returns the CPU time of all.
pub(crate) fn settled_cpu() -> Duration {
    let (mut before, mut n_same) = (cpu(), 0);
    until("rest", || {
        let now = cpu();
        n_same = if std::mem::replace(&mut before, now) == now {
            n_same + 1
        } else {
            0
        };
        n_same == 50 // Of looks that are 200 us apart: longer than anything waits before it is told.
    });
    before
}

impl Server {
    /// Starts one to which streams in memory lead.
    pub(crate) fn start(config: &ServerConfig) -> anyhow::Result<Self> {
        let backlog = Backlog::default();
        let way = Way::Memory(backlog.clone());
        Self::start_on(runtime()?, backlog, way, config)
    }

    /// Starts one that listens on a port of this machine.
    pub(crate) fn start_tcp(config: &ServerConfig) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let guard = runtime.enter();
        let listener = herenow_channels::listen(([127, 0, 0, 1], 0).into())?;
        drop(guard);
        let way = Way::Tcp(listener.local_addr()?);
        Self::start_on(runtime, listener, way, config)
    }

    fn start_on(
        runtime: Runtime,
        listener: impl Listener<Stream: AsyncRead + AsyncWrite + Unpin> + 'static,
        way: Way,
        config: &ServerConfig,
    ) -> anyhow::Result<Self> {
        let guard = runtime.enter();
        let pubsub = PubSub::local();
        let presence = Presence::builder(&pubsub).config(config.presence.clone());
        let presence = presence.start()?;
        let authority = match config.jwt.has_keys() {
            true => Authority::start(config)?,
            false => Authority::dev(),
        };
        let sockets = run::sockets(config, &pubsub, &presence, authority)?;
        let app = sockets.try_into_router_at("/socket")?;
        let http = config.http.clone();
        let handshake = |end| ready(Ok(end));
        runtime.spawn(serve_through(listener, app, http, handshake, pending()));
        drop(guard);
        Ok(Self {
            runtime: Some(runtime),
            presence,
            way,
        })
    }

    pub(crate) fn way(&self) -> &Way {
        &self.way
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.way, None)
    }

    /// Connects some and has each join, with what `join` sends, and waits until all are let in.
    /// Meanwhile `visit` gets each user's texts.
    pub(crate) fn join_wave(
        &self,
        users: Range<usize>,
        join: impl Fn(&Client, usize),
        mut visit: impl FnMut(usize, &str),
    ) -> Vec<Client> {
        let mut wave = self.connect_wave(users.len());
        for (client, user) in wave.iter().zip(users.clone()) {
            join(client, user);
        }
        let mut n_joined = 0;
        let mut read = |wave: &mut [Client]| {
            for (client, user) in wave.iter_mut().zip(users.clone()) {
                client.read(|text| {
                    n_joined += usize::from(is_joined_by(text));
                    visit(user, text);
                });
            }
            n_joined
        };
        until("joins", || read(&mut wave) == users.len());
        self.flush();
        read(&mut wave);
        wave
    }

    /// Connects some, and waits for their handshakes.
    pub(crate) fn connect_wave(&self, n: usize) -> Vec<Client> {
        let mut wave: Vec<_> = (0..n).map(|_| self.connect()).collect();
        until("handshakes", || {
            wave.iter_mut().for_each(|client| client.read(|_| {}));
            wave.iter().all(Client::is_open)
        });
        wave
    }

    /// Waits until all that was tracked is told to those who were there.
    pub(crate) fn flush(&self) {
        self.runtime().block_on(self.presence.flush());
    }

    /// Who is in a topic, as the server has it.
    pub(crate) fn keys(&self, topic: &str) -> BTreeSet<String> {
        let presences = self.runtime().block_on(self.presence.list(topic));
        presences.keys().iter().map(ToString::to_string).collect()
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(10));
        }
    }
}
