//! The configuration: one TOML file, each value overridable by environment variable and by flag.
//!
//! | source | form | example |
//! | --- | --- | --- |
//! | flag | `--` and the key, with `-` for `.` and `_` | `--socket-idle-timeout 30s` |
//! | environment | `HERENOW_` and the key in capitals, with `_` for `.` | `HERENOW_SOCKET_IDLE_TIMEOUT=30s` |
//! | file | TOML, named by `--config` or `HERENOW_CONFIG` | `[socket]` `idle_timeout = "30s"` |
//! | default | [`ServerConfig::default`] | |
//!
//! The first source in this order that has a value wins. Durations and sizes carry their unit
//! (`50us`, `250ms`, `30s`, `5m`, `2h`, `1d`; `64KiB`, `10MB`); a bare number is a size in bytes
//! and never a duration. Topics are a list of tables, `[[topics]]`, tried from the top, and so are
//! webhooks with filters, `[[webhooks]]`; in the environment and as a flag they are the same list
//! as TOML: `HERENOW_TOPICS='[{ pattern = "room:*" }]'`.
//!
//! Everything wrong is reported at once, each error with the key, the value, where it came from
//! and what it must be: unknown keys and variables, wrong types, values outside their limits.

mod error;
mod units;
mod url;
mod kind;
mod api;
mod big_room;
mod cluster;
mod jwt;
mod fetch;
mod supabase;
mod webhook;
mod limits;
mod tls;
mod names;
mod keys;
mod load;
mod show;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use herenow_channels::{DrainConfig, LongPollConfig, ServeConfig, SocketConfig};
use herenow_presence::{Grace, PresenceConfig, Window};

pub(crate) use api::digest;
pub use api::{ApiConfig, ApiKey, Right};
pub use big_room::{BigRoomConfig, WhenBig};
pub use cluster::{ClusterConfig, Discovery, Engine, TlsFiles};
pub use error::{ConfigError, ConfigErrors, Conflict, Origin};
pub(crate) use fetch::FieldsFrom;
pub use fetch::{FetchConfig, TopicFetch};
pub use jwt::JwtConfig;
pub(crate) use jwt::is_plain_and_remote;
pub(crate) use keys::{TARGET_KEYS, TOPIC_KEYS, keys};
pub(crate) use kind::{Key, is_list, is_switch};
pub use limits::{LimitsConfig, ObserveConfig, ProxyConfig, TraceConfig};
pub use load::{Loaded, Sources};
pub(crate) use load::{TOPICS, WEBHOOKS};
pub(crate) use names::{flag_name, variable_name};
pub(crate) use show::{reference, show};
pub use supabase::{PublishableKey, SupabaseConfig};
pub use tls::{TlsConfig, TlsVersion};
pub(crate) use units::parse_duration;
pub(crate) use url::known as shown_url;
pub(crate) use webhook::{EVENT_WORDS, Receiver, signing_key};
pub use webhook::{EventsConfig, WebhookConfig, WebhookTarget};

/// Everything about a server that can be configured.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where to listen, 127.0.0.1:4000.
    pub listen: SocketAddr,
    /// Whether clients are trusted to say who they are; `None`, the default, decides by
    /// [`ServerConfig::mode`].
    pub dev: Option<bool>,
    /// How clients' tokens are checked; they are if there is a key.
    pub jwt: JwtConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Whether listeners speak TLS, no.
    pub tls: TlsConfig,
    /// Limits of connections before they are sockets.
    pub http: ServeConfig,
    /// Which proxies are believed to say who their clients are.
    pub proxies: ProxyConfig,
    /// What one address and one user may have.
    pub limits: LimitsConfig,
    /// What is shown of the server.
    pub observe: ObserveConfig,
    /// Whether the demo page is served, and `/` leads there where the dashboard is not, yes.
    pub demo: bool,
    /// How sockets are closed when the server stops.
    pub drain: DrainConfig,
    /// How long the server says that it is not ready, before it closes sockets, 0 s.
    pub drain_delay: Duration,
    /// Which pages of browsers may connect, those of the server's own host.
    pub check_origin: Origins,
    /// Limits of each connection.
    pub socket: SocketConfig,
    /// Limits of long polling.
    pub longpoll: LongPollConfig,
    /// Whether there is a bare echo of frames at `/echo/websocket`, false. For suites that judge
    /// WebSockets; messages up to 16 MiB.
    pub ws_echo: bool,
    /// Limits of presences.
    pub presence: PresenceConfig,
    /// Where fields of presences come from, nowhere.
    pub fetch: FetchConfig,
    /// What connects this node to others, nothing.
    pub cluster: ClusterConfig,
    /// The HTTP API below `/api`.
    pub api: ApiConfig,
    /// The Supabase Realtime dialect at `/realtime/v1`.
    pub supabase: SupabaseConfig,
    /// Who is told of events, and the limits of telling.
    pub webhook: WebhookConfig,
    /// Webhooks that hear of some topics or some kinds of events only, none.
    pub webhooks: Vec<WebhookTarget>,
    /// The stream of events.
    pub events: EventsConfig,
    /// What is done on which topics, the first match from the front: `room:*` with presence and
    /// broadcast, `bench:*` with broadcast only.
    pub topics: Vec<TopicConfig>,
}

/// What is done on the topics of one pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicConfig {
    /// A topic, or the beginning of one and `*`.
    pub pattern: String,
    /// Whether joining tracks the user and members see who is here, false.
    pub presence: bool,
    /// Whether events of clients are broadcast to the topic, false.
    pub broadcast: bool,
    /// Largest meta that a client may have, as JSON, 4 KiB.
    pub max_meta_bytes: usize,
    /// Largest payload that a client may broadcast, 1 MiB.
    pub max_payload_bytes: usize,
    /// How long presence diffs wait to be sent as one; what is left open is as in
    /// [`ServerConfig::presence`].
    pub window: WindowConfig,
    /// Where fields of presences come from; what is left open is as in [`ServerConfig::fetch`].
    pub fetch: TopicFetch,
    /// For how long a disconnect that was not a leave is held back, not at all.
    pub grace: Grace,
    /// What clients that did not ask for modes get where very many are present, the list.
    pub big_room: WhenBig,
    /// From which size on, and how; what is left open is as in [`ServerConfig::presence`].
    pub size: BigRoomConfig,
}

/// What [`herenow_presence::Window`] is to be on the topics of one pattern.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WindowConfig {
    /// Up to this many subscribers every diff leaves at once.
    pub free_subscribers: Option<usize>,
    /// Above that a diff waits this long for each subscriber.
    pub per_subscriber: Option<Duration>,
    /// And never longer than this.
    pub max: Option<Duration>,
}

/// What is logged, and how.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LogConfig {
    /// A level, or directives as `tracing_subscriber`'s `EnvFilter` takes them, `info`.
    pub level: String,
    /// For people or for machines, pretty.
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One line of text for people, in colour on a terminal.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Which pages of browsers may open a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Those of the host that the request asks for; all names of the loopback are one host.
    SameHost,
    /// Those of any host.
    Any,
    /// Those of the origins listed, such as `https://example.com` or `//*.example.com`.
    List(Vec<String>),
}

/// Text that must not be shown: its `Debug` prints a length.
#[derive(Clone)]
pub struct Secret(String);

/// How the server knows who its clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It believes what they say, because the configuration says `dev = true`.
    DevAsked,
    /// It believes what they say, because it listens on loopback only and has no key for tokens.
    DevLoopback,
    /// By their tokens.
    Tokens,
}

impl ServerConfig {
    /// Tells how clients are identified: by their tokens, or in dev mode by what they say.
    ///
    /// Dev mode is what `dev` says; left open, it is on if the server listens on loopback and has
    /// no key for tokens.
    ///
    /// # Errors
    ///
    /// [`ConfigError::NoIdentity`] outside dev mode without a key.
    pub fn mode(&self) -> Result<Mode, ConfigError> {
        match self.dev {
            Some(true) => Ok(Mode::DevAsked),
            Some(false) | None if self.jwt.has_keys() => Ok(Mode::Tokens),
            None if self.listen.ip().is_loopback() => Ok(Mode::DevLoopback),
            dev @ (Some(false) | None) => Err(ConfigError::NoIdentity {
                listen: self.listen,
                dev,
            }),
        }
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        let mut room = TopicConfig::new("room:*");
        room.presence = true;
        room.broadcast = true;
        let mut bench = TopicConfig::new("bench:*");
        bench.broadcast = true;
        Self {
            listen: (Ipv4Addr::LOCALHOST, 4000).into(),
            dev: None,
            jwt: JwtConfig::default(),
            log: LogConfig {
                level: "info".to_owned(),
                format: LogFormat::Pretty,
            },
            tls: TlsConfig::default(),
            http: ServeConfig::default(),
            proxies: ProxyConfig::default(),
            limits: LimitsConfig::default(),
            observe: ObserveConfig::default(),
            demo: true,
            drain: DrainConfig::default(),
            drain_delay: Duration::ZERO,
            check_origin: Origins::SameHost,
            socket: SocketConfig::default(),
            longpoll: LongPollConfig::default(),
            ws_echo: false,
            presence: PresenceConfig::default(),
            fetch: FetchConfig::default(),
            cluster: ClusterConfig::default(),
            api: ApiConfig::default(),
            supabase: SupabaseConfig::default(),
            webhook: WebhookConfig::default(),
            webhooks: Vec::new(),
            events: EventsConfig::default(),
            topics: vec![room, bench],
        }
    }
}

impl TopicConfig {
    /// Topics of `pattern` without presence and broadcast: to be joined, and no more.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            presence: false,
            broadcast: false,
            max_meta_bytes: 4 << 10,
            max_payload_bytes: 1 << 20,
            window: WindowConfig::default(),
            fetch: TopicFetch::default(),
            grace: Grace::default(),
            big_room: WhenBig::List,
            size: BigRoomConfig::default(),
        }
    }
}

impl WindowConfig {
    /// The window where `general` is the one of all topics.
    pub(crate) fn over(&self, general: Window) -> Window {
        let mut window = general;
        window.free_subscribers = self.free_subscribers.unwrap_or(window.free_subscribers);
        window.per_subscriber = self.per_subscriber.unwrap_or(window.per_subscriber);
        window.max = self.max.unwrap_or(window.max);
        window
    }
}

impl LogFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pretty => "pretty",
            Self::Json => "json",
        }
    }

    fn from_word(word: &str) -> Self {
        if word == "json" {
            Self::Json
        } else {
            Self::Pretty
        }
    }
}

impl Secret {
    /// Takes `text` out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for what needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

impl fmt::Display for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameHost => f.write_str("true"),
            Self::Any => f.write_str("false"),
            Self::List(list) => write!(f, "{list:?}"),
        }
    }
}

impl Mode {
    /// Whether clients are believed to be who they say they are.
    pub fn is_dev(self) -> bool {
        match self {
            Self::DevAsked | Self::DevLoopback => true,
            Self::Tokens => false,
        }
    }

    /// Why clients are trusted, for the log.
    pub fn reason(self) -> &'static str {
        match self {
            Self::DevAsked => "dev is set",
            Self::DevLoopback => "listening on loopback only and no secret is set",
            Self::Tokens => "a key for tokens is set",
        }
    }
}

/// Tells whether `text` is what [`LogConfig::level`] takes.
///
/// The filter itself would take any word for the name of a module, so that a level with a typing
/// error would silence the log.
fn is_log_filter(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |part: &str| LEVELS.contains(&part.trim()) || part.contains('=');
    text.split(',').all(is_known) && text.parse::<tracing_subscriber::EnvFilter>().is_ok()
}
