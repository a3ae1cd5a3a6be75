//! The parts of a running server, started in the order in which they need each other.
//!
//! [`Parts`] owns them from then on: what is served borrows or clones out of it, and stopping,
//! which is [`shutdown`](super::shutdown), goes through it. Nothing is served here yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use herenow_channels::{CheckOrigin, OriginError, Sockets, TrustedProxies};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::{RunError, listen_by};
use crate::api::{Access, Api};
use crate::builtin::{BuiltIn, Rules};
use crate::cluster::Cluster;
use crate::config::{Mode, Origins, ServerConfig};
use crate::dashboard::Dashboard;
use crate::events::Events;
use crate::fetch::Fields;
use crate::health::Ready;
use crate::identity::{Authority, AuthorityError};
use crate::limits::Limits;
use crate::people::People;
use crate::supabase;
use crate::tls::TlsStatus;

/// What a server consists of, besides its listeners and its certificate.
pub(super) struct Parts {
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) presence: Presence,
    pub(super) authority: Authority,
    pub(super) limits: Limits,
    pub(super) sockets: Sockets,
    /// The front for clients of Supabase, if they are served.
    pub(super) dialect: Option<Sockets>,
    pub(super) api: Arc<Api>,
    pub(super) dashboard: Dashboard,
    pub(super) ready: Ready,
    /// For how long clients are still served when the server is not ready any more.
    pub(super) drain_delay: Duration,
    /// The API's own listener, if it has one, until it is served.
    pub(super) api_listener: Option<TcpListener>,
}

impl Parts {
    /// Starts all of them. `listener` is the main one.
    pub(super) async fn start(
        config: &ServerConfig,
        mode: Mode,
        listener: &TcpListener,
        tls: Arc<TlsStatus>,
    ) -> Result<Self, RunError> {
        let cluster = Cluster::join(config).await?.map(Arc::new);
        let of_cluster = cluster.as_ref().map(|cluster| cluster.pubsub.clone());
        let pubsub = of_cluster.unwrap_or_else(PubSub::local);
        let fields = Fields::new(config)?;
        fields.check().await?;
        let ready = Ready::new();
        let (presence, events) = presence(config, &pubsub, &ready, &fields)?;
        let authority = authority(config, mode)?;
        let limits = Limits::new(config.limits.clone());
        let sockets = limited_sockets(config, &pubsub, &presence, authority.clone(), &limits)?;
        let dialect = dialect(config, &sockets, &presence, &authority, &limits)?;
        let api_listener = api_listener(config)?;
        let api = Arc::new(Api {
            access: access(config, api_listener.as_ref().unwrap_or(listener)),
            authority: authority.clone(),
            people: People::start(&presence, config.api.max_leases)?,
            fields,
            presence: presence.clone(),
            cluster: cluster.clone(),
            ready: ready.clone(),
            config: config.api.clone(),
            max_topic_bytes: config.socket.max_topic_bytes,
            limits: limits.clone(),
            sockets: sockets.clone(),
            events,
            tls,
            stop: Notify::new(),
            started: Instant::now(),
        });
        let proxies = TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?;
        let dashboard = Dashboard::start(&api, &config.socket, proxies)?;
        Ok(Self {
            cluster,
            presence,
            authority,
            limits,
            sockets,
            dialect,
            api,
            dashboard,
            ready,
            drain_delay: config.drain_delay,
            api_listener,
        })
    }
}

fn authority(config: &ServerConfig, mode: Mode) -> Result<Authority, AuthorityError> {
    match mode.is_dev() {
        true => Ok(Authority::dev()),
        false => Authority::start(config),
    }
}

/// The API's own listener, if it has one.
fn api_listener(config: &ServerConfig) -> Result<Option<TcpListener>, RunError> {
    match config.api.listen {
        Some(address) => Ok(Some(listen_by(address, "--api-listen")?)),
        None => Ok(None),
    }
}

/// Starts presence, and what tells the application of it.
fn presence(
    config: &ServerConfig,
    pubsub: &PubSub,
    ready: &Ready,
    fields: &Fields,
) -> Result<(Presence, Events), RunError> {
    let events = Events::start(config, pubsub.node_name(), ready)?;
    let mut settings = presence_config(config);
    let mut builder = Presence::builder(pubsub).handle_bare_metas(events.hook(), events.is_on());
    // Without a source, diffs need not take the way through look-ups.
    if fields.is_some() {
        Fields::configure(&config.fetch, &mut settings);
        builder = builder.fetch(fields.clone());
    }
    let presence = builder.config(settings).start()?;
    fields.attach(&presence)?;
    events.attach(&presence);
    Ok((presence, events))
}

pub(super) fn presence_config(config: &ServerConfig) -> herenow_presence::PresenceConfig {
    let mut presence = config.presence.clone();
    let general = presence.window;
    let windows = config
        .topics
        .iter()
        .map(|t| (t.pattern.clone(), t.window.over(general)));
    presence.windows = windows.collect();
    let graces = config.topics.iter().map(|t| (t.pattern.clone(), t.grace));
    presence.shard.graces = graces.collect();
    let big_rooms = config
        .topics
        .iter()
        .map(|t| (t.pattern.clone(), t.size.over(&presence.big_room)));
    presence.big_rooms = big_rooms.collect();
    presence
}

/// Makes the front for sockets with the built-in channels that the configuration names.
///
/// # Errors
///
/// [`RunError`] if an origin, a limit or a pattern of the configuration is none.
pub fn sockets(
    config: &ServerConfig,
    pubsub: &PubSub,
    presence: &Presence,
    authority: Authority,
) -> Result<Sockets, RunError> {
    let limits = Limits::new(config.limits.clone());
    limited_sockets(config, pubsub, presence, authority, &limits)
}

pub(super) fn limited_sockets(
    config: &ServerConfig,
    pubsub: &PubSub,
    presence: &Presence,
    authority: Authority,
    limits: &Limits,
) -> Result<Sockets, RunError> {
    let (limits, of_channels) = (limits.clone(), limits.clone());
    let proxies = TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?;
    let mut sockets = Sockets::new(pubsub)
        .config(config.socket.clone())
        .drain_config(config.drain.clone())
        .check_origin(check_origin(&config.check_origin)?)
        .trusted_proxies(proxies)
        .long_poll(config.longpoll.clone())
        .admit(limits.door())
        .connect(move |info| {
            let (authority, limits) = (authority.clone(), limits.clone());
            async move {
                let permit = limits.permit(&info);
                permit.enter(authority.connect(&info).await?)
            }
        });
    for topic in &config.topics {
        let rules = Arc::new(Rules {
            topic: topic.clone(),
            presence: presence.clone(),
            limits: of_channels.clone(),
        });
        sockets = sockets.channel(&topic.pattern, move || BuiltIn::new(&rules));
    }
    Ok(sockets)
}

/// Makes the front for sockets of Supabase's clients, if they are served.
pub(super) fn dialect(
    config: &ServerConfig,
    first: &Sockets,
    presence: &Presence,
    authority: &Authority,
    limits: &Limits,
) -> Result<Option<Sockets>, RunError> {
    if !config.supabase.enabled {
        return Ok(None);
    }
    let proxies = TrustedProxies::new(&config.proxies.trusted, config.proxies.header)?;
    let sockets = supabase::sockets(config, presence, authority, limits)
        .count_into(first.metrics())
        .check_origin(check_origin(&config.check_origin)?)
        .trusted_proxies(proxies);
    Ok(Some(sockets))
}

pub(super) fn check_origin(origins: &Origins) -> Result<CheckOrigin, OriginError> {
    match origins {
        Origins::SameHost => Ok(CheckOrigin::same_host()),
        Origins::Any => Ok(CheckOrigin::off()),
        Origins::List(list) => CheckOrigin::list(list),
    }
}

/// Who may use the API: without keys, whoever reaches it on loopback in dev mode.
fn access(config: &ServerConfig, listener: &TcpListener) -> Access {
    let is_dev = config.mode().is_ok_and(Mode::is_dev);
    let keys = config.api.keys.clone();
    let access = match is_dev && is_loopback(listener) {
        true => Access::by_keys_if_any(keys),
        false => Access::by_keys(keys),
    };
    let address = config.api.listen.and(listener.local_addr().ok());
    access.announce(address);
    access
}

pub(super) fn is_loopback(listener: &TcpListener) -> bool {
    let address = listener.local_addr();
    address.is_ok_and(|address| address.ip().is_loopback())
}
