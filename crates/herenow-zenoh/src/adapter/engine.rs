//! The thread that owns the zenoh session: opens it, publishes what is queued, closes it.
//!
//! A publication blocks its thread while a peer does not read, and zenoh refuses to be waited for
//! inside some runtimes. So everything that may block happens on this thread, which belongs to no
//! runtime, and nobody else holds the session.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use zenoh::bytes::ZBytes;
use zenoh::config::{Locator, WhatAmI};
use zenoh::internal::runtime::{Runtime, RuntimeBuilder, ZRuntime};
use zenoh::liveliness::LivelinessToken;
use zenoh::pubsub::Publisher;
use zenoh::qos::CongestionControl;
use zenoh::sample::{Locality, Sample, SampleKind};
use zenoh::session::{LinkEvent, TransportEvent};
use zenoh::{Config, Session, Wait};

use super::inbox;
use super::redial::{self, LostLink};
use super::shared::{Arrival, Command, Shared};

/// Opens a session, says so, and serves the queue until it is closed and empty.
pub(super) fn run(
    config: Config,
    shared: &Arc<Shared>,
    opened: oneshot::Sender<Result<(), zenoh::Error>>,
) {
    let (session, runtime) = match open(config) {
        Ok(open) => open,
        Err(error) => {
            // Whoever asked may have gone away: then nobody misses the answer.
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_ok()
        && let Err(error) = serve(&session, &runtime, shared)
    {
        tracing::error!(%error, "the engine ended");
    }
    // The session does not own its runtime, since it did not make it.
    for closed in [session.close().wait(), runtime.close().wait()] {
        if let Err(error) = closed {
            tracing::warn!(%error, "the engine did not close cleanly");
        }
    }
}

/// What `zenoh::open` does, step by step, to keep the runtime: it is what can dial a peer again.
fn open(config: Config) -> Result<(Session, Runtime), zenoh::Error> {
    ZRuntime::Application.block_in_place(async {
        let mut runtime = RuntimeBuilder::new(config).build().await?;
        let session = zenoh::session::init(runtime.clone().into()).await?;
        if let Err(error) = runtime.start().await {
            // Some of the listeners may be open.
            session.close().await?;
            runtime.close().await?;
            return Err(error);
        }
        Ok((session, runtime))
    })
}

/// Serves the queue; whatever was declared is undeclared at the end.
fn serve(session: &Session, runtime: &Runtime, shared: &Arc<Shared>) -> Result<(), zenoh::Error> {
    let (lost, lost_links) = mpsc::channel(redial::MAX_LINKS);
    watch_links(session, runtime, shared, lost)?;
    let redialing =
        ZRuntime::Application.spawn(redial::run(runtime.clone(), shared.clone(), lost_links));
    let publisher = session
        .declare_publisher(shared.names.all())
        .congestion_control(CongestionControl::Block)
        .allowed_destination(Locality::Remote)
        .wait()?;
    let mut token = None;
    while let Some(command) = shared.outgoing.pop() {
        match command {
            Command::Start(receiver) => {
                inbox::spawn(receiver, shared)?;
                token = Some(listen(session, shared)?);
            }
            Command::Broadcast { head, bytes } => {
                shared.count_published(publish(&publisher, head, bytes));
            }
            Command::Send { node, head, bytes } => {
                shared.count_published(send(session, shared.names.direct(&node), head, bytes));
            }
        }
    }
    redialing.abort();
    if let Some(token) = token {
        token.undeclare().wait()?;
    }
    publisher.undeclare().wait()
}

fn publish(publisher: &Publisher<'_>, head: Vec<u8>, bytes: Bytes) -> Result<(), zenoh::Error> {
    publisher.put(frame(head, bytes)).wait()
}

fn send(session: &Session, key: String, head: Vec<u8>, bytes: Bytes) -> Result<(), zenoh::Error> {
    session
        .put(key, frame(head, bytes))
        .congestion_control(CongestionControl::Block)
        .allowed_destination(Locality::Remote)
        .wait()
}

/// Puts both together without copying the message.
fn frame(head: Vec<u8>, bytes: Bytes) -> ZBytes {
    let mut writer = ZBytes::writer();
    writer.append(head.into());
    writer.append(bytes.into());
    writer.finish()
}

/// Declares what this node hears, and then that it is there: who sees it can talk to it.
fn listen(session: &Session, shared: &Arc<Shared>) -> Result<LivelinessToken, zenoh::Error> {
    for key in [shared.names.all(), shared.names.direct(&shared.node)] {
        let shared = shared.clone();
        session
            .declare_subscriber(key)
            .callback(move |sample| on_sample(&shared, &sample))
            .allowed_origin(Locality::Remote)
            .background()
            .wait()?;
    }
    let own = session.zid().to_string();
    let token = shared.names.token(&shared.node, &own);
    let seen_by = shared.clone();
    session
        .liveliness()
        .declare_subscriber(shared.names.tokens())
        .history(true)
        .callback(move |sample| on_token(&seen_by, &own, &sample))
        .background()
        .wait()?;
    session.liveliness().declare_token(token).wait()
}

/// Runs on zenoh's threads: copies and queues, never waits.
fn on_sample(shared: &Shared, sample: &Sample) {
    let frame = Bytes::from(sample.payload().to_bytes().into_owned());
    let n_bytes = frame.len();
    shared.counters.n_received.fetch_add(1, Ordering::Relaxed);
    if shared
        .incoming
        .push(Arrival::Frame(frame), n_bytes)
        .is_err()
    {
        shared.counters.n_overrun.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs on zenoh's threads.
fn on_token(shared: &Shared, own: &str, sample: &Sample) {
    let Some((node, instance)) = shared.names.parse_token(sample.key_expr().as_str()) else {
        shared.counters.n_malformed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if instance == own {
        return;
    }
    let is_put = matches!(sample.kind(), SampleKind::Put);
    if node == shared.node {
        if is_put {
            // It may be the last life of this node, which is not yet found to be over.
            tracing::debug!(node, instance, "another process has the name of this node");
        }
        return;
    }
    // Held until it is queued, so that the queue has the order of the table.
    let mut peers = shared.peers.lock();
    let arrival = if is_put {
        let is_news = peers.on_seen(&node, &instance);
        is_news.then_some(Arrival::PeerSeen(node))
    } else {
        let is_last = peers.on_gone(&node, &instance);
        is_last.then_some(Arrival::PeerGone(node))
    };
    if let Some(arrival) = arrival
        && shared.incoming.push_signal(arrival).is_err()
    {
        shared.counters.n_overrun.fetch_add(1, Ordering::Relaxed);
    }
}

/// Keeps the table of links, and reports the peers whose link is lost to `lost`, if this node had
/// dialled: it does not know the address of the others.
fn watch_links(
    session: &Session,
    runtime: &Runtime,
    shared: &Arc<Shared>,
    lost: mpsc::Sender<LostLink>,
) -> Result<(), zenoh::Error> {
    let own_ports: Vec<String> = runtime.get_locators().iter().filter_map(port).collect();
    let (of_links, of_transports) = (shared.clone(), shared.clone());
    let on_link = move |event: LinkEvent| {
        let link = event.link();
        let is_dialled = port(link.src()).is_some_and(|port| !own_ports.contains(&port));
        if matches!(event.kind(), SampleKind::Put) && is_dialled {
            let mut links = of_links.links.lock();
            links.on_dialled(*link.zid(), link.dst().clone());
        }
    };
    // A link that this node closes itself is not reported as such, but its transport is.
    let on_transport = move |event: TransportEvent| {
        let peer = *event.transport().zid();
        let mut links = of_transports.links.lock();
        if matches!(event.kind(), SampleKind::Put) {
            if event.transport().whatami() == WhatAmI::Router {
                links.on_router(peer);
            }
        } else if let Some(address) = links.on_lost(&peer) {
            tracing::debug!(peer = %peer, address = %address, "lost a link");
            if lost.try_send(LostLink { peer, address }).is_err() {
                tracing::warn!(peer = %peer, "too many links lost at once, one is not dialled again");
            }
        }
    };
    let info = session.info();
    info.transport_events_listener()
        .history(true)
        .callback(on_transport)
        .background()
        .wait()?;
    info.link_events_listener()
        .history(true)
        .callback(on_link)
        .background()
        .wait()
}

fn port(locator: &Locator) -> Option<String> {
    let (_, port) = locator.address().as_str().rsplit_once(':')?;
    Some(port.to_owned())
}
