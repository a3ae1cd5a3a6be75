//! The dashboard at `/`: the cluster, its topics and its people, live, for an operator.
//!
//! The page is static and holds nothing; all that it shows comes over a socket of its own,
//! `/dashboard/socket`, which the stock `phoenix` client of the page opens with a key of the API as
//! its auth token: in a header, never in a URL. Looking needs the right to read, evicting the right
//! to write, as for the API. A browser is not told why a handshake was refused, so the page asks
//! `/dashboard/access` first, with the key in a header, too.
//!
//! ```text
//!  page ── key ──▶ /dashboard/access            what the key may do, or why it is refused
//!  page ══ socket ══▶ channel "overview"  ◀── figures, once a second ── gatherer (one task)
//!                     channel "topic:…"   ◀── watch of the topic, paced     │ asks the other nodes
//!                     channel "user:…"    ◀── where the key is, if changed  ▼ over the link "dashboard"
//!                                                                    their gatherers answer
//! ```
//!
//! The gatherer owns what is known of all nodes. It works only while an overview is open on this
//! node: then it asks the others once a second, and they answer each time with their own figures;
//! who is not asked does nothing, and nothing is kept for later. So every node's dashboard shows
//! all nodes, and nobody has to be told when it is closed. Rates are made from two answers.
//!
//! The sockets of the dashboard are a mount of their own on a [`PubSub`] of this node alone, so
//! that no client and no backend can reach its topics, and operators are not counted as clients. It
//! is where the API is: on `api.listen`, if that is set.

mod figures;
mod link;
mod overview;
mod gather;
mod people;
mod channels;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::get;
use herenow_channels::{
    CheckOrigin, ConnectInfo, ConnectRefused, Connected, DrainConfig, SocketConfig, Sockets,
    SocketsError, TrustedProxies,
};
use herenow_pubsub::{LinkError, PubSub, client_text};
use serde_json::{Value, json};

use self::channels::{OverviewChannel, TopicChannel, UserChannel};
use self::gather::Gatherer;
use crate::api::{Api, Entrant, Problem, answer};
use crate::assets::file;

/// All that the page may do: load its own files and talk to its own server; and no text can ever
/// become markup or code.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";
/// The client library of the page, which the demo has as well.
const CLIENT: &str = "demo/vendor/phoenix.mjs";
/// How long the open dashboards may take to hang up when the server stops.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The dashboard of this node.
#[derive(Debug)]
pub(crate) struct Dashboard {
    api: Arc<Api>,
    sockets: Sockets,
    gatherer: Gatherer,
}

impl Dashboard {
    /// Starts the gatherer, and makes the sockets with the limits of `config`, whose pages may come
    /// through `proxies`.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if this node has a dashboard already.
    pub(crate) fn start(
        api: &Arc<Api>,
        config: &SocketConfig,
        proxies: TrustedProxies,
    ) -> Result<Self, LinkError> {
        let local = PubSub::local();
        let gatherer = Gatherer::start(api, &local)?;
        let mut config = config.clone();
        // The channels check the topic and the key that are asked for, and name their limits.
        config.max_topic_bytes = config.max_message_bytes;
        let mut drain = DrainConfig::default();
        drain.total = DRAIN_TIME;
        let (for_overview, for_topic, for_user) = (api.clone(), api.clone(), api.clone());
        let interest = gatherer.interest();
        let entry = api.clone();
        let sockets = Sockets::new(&local)
            .config(config)
            .drain_config(drain)
            .check_origin(CheckOrigin::same_host())
            .trusted_proxies(proxies)
            .connect(move |info| std::future::ready(let_in(&entry, &info)))
            .channel(channels::OVERVIEW, move || {
                OverviewChannel::new(&for_overview, &interest)
            })
            .channel(&format!("{}*", channels::TOPIC), move || {
                TopicChannel::new(&for_topic)
            })
            .channel(&format!("{}*", channels::USER), move || {
                UserChannel::new(&for_user)
            });
        Ok(Self {
            api: api.clone(),
            sockets,
            gatherer,
        })
    }

    /// Routes of the page, its files and its socket.
    ///
    /// # Errors
    ///
    /// [`SocketsError`] if the limits contradict each other.
    pub(crate) fn router(&self) -> Result<Router, SocketsError> {
        let access = Router::new()
            .route("/dashboard/access", get(access))
            .with_state(self.api.clone());
        Ok(Router::new()
            .merge(
                self.sockets
                    .clone()
                    .try_into_router_at("/dashboard/socket")?,
            )
            .route("/", page("dashboard/index.html"))
            .route("/dashboard/phoenix.mjs", page(CLIENT))
            .route(
                "/dashboard/{file}",
                get(async |Path(name): Path<String>, headers: HeaderMap| {
                    file(&format!("dashboard/{name}"), POLICY, &headers)
                }),
            )
            .merge(access))
    }

    /// Hangs up on the open dashboards, and ends the gatherer.
    pub(crate) async fn close(&self) {
        self.sockets.drain().await;
        self.gatherer.close().await;
    }
}

fn page(path: &'static str) -> axum::routing::MethodRouter {
    get(async move |headers: HeaderMap| file(path, POLICY, &headers))
}

/// `GET /dashboard/access`: what the key in the request's header may do.
async fn access(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    let entrant = api.access.enter(&headers, None)?;
    Ok(answer(&shown(&api, &entrant)))
}

/// Decides on a handshake by the key that is its auth token.
fn let_in(api: &Api, info: &ConnectInfo) -> Result<Connected, ConnectRefused> {
    match api.access.enter(info.headers(), info.auth_token()) {
        Ok(entrant) => Ok(Connected::anonymous().assign(entrant)),
        Err(problem) => {
            tracing::debug!(reason = %client_text(problem.detail()), "dashboard refused");
            Err(ConnectRefused::response(problem))
        }
    }
}

/// Who an operator is to the server, and which node it talks to.
fn shown(api: &Api, entrant: &Entrant) -> Value {
    json!({
        "key": entrant.name,
        "right": entrant.right.as_str(),
        "node": api.presence.pubsub().node_name(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}
