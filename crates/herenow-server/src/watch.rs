//! `herenow watch`: who is on a topic, live, in a terminal or a pipe.

mod dial;
mod view;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use herenow_client::{
    Client, ClientConfig, ConnectError, Dial, ErrorReason, JoinError, Meta, Presence,
    PresenceEvent, TcpDial,
};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use self::dial::WatchDial;
use self::view::{Format, Person, Sight, View};

/// What to watch, and how to show it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatchOptions {
    /// The server, with or without the path of its socket.
    pub url: String,
    /// The topic.
    pub topic: String,
    /// Parameters, sent with the connection and with the join.
    pub params: Vec<(String, String)>,
    /// PEM file of authorities that a `wss` server's certificate must be of; `None`: those that
    /// this machine trusts.
    pub ca: Option<String>,
    /// What is written.
    pub output: Output,
    /// Whether lines for people are in colour.
    pub colour: Colour,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Lines for people on a terminal, JSON lines elsewhere.
    ByTerminal,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Whether lines for people are in colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    ByTerminal,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl WatchOptions {
    /// Where `herenow serve` listens without configuration.
    pub const DEFAULT_URL: &str = "ws://127.0.0.1:4000";

    /// The room of the demo page.
    pub const DEFAULT_TOPIC: &str = "room:lobby";

    /// Watches `topic` at `url`, written by what standard output is.
    pub fn new(url: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            topic: topic.into(),
            params: Vec::new(),
            ca: None,
            output: Output::ByTerminal,
            colour: Colour::ByTerminal,
        }
    }
}

/// Why watching ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// TLS cannot be spoken: the file of authorities holds none, say.
    #[error("cannot prepare TLS{}", .ca.as_deref().map_or_else(String::new, |ca| format!(" with --ca {ca}")))]
    Tls {
        /// The file of authorities.
        ca: Option<String>,
        /// What is wrong.
        source: io::Error,
    },
    /// There is no connection to begin with.
    #[error("nothing to watch")]
    Connect(#[source] ConnectError),
    /// The server lets nobody in without a token, or not with this one.
    #[error(
        "nothing to watch: {0}; give it a token with --param token=…, such as `herenow token` makes"
    )]
    Token(ConnectError),
    /// The topic cannot be joined.
    #[error("nothing to watch")]
    Join(#[from] JoinError),
    /// The server ended the channel for good.
    #[error("the server closed {topic}")]
    Closed {
        /// The topic.
        topic: String,
    },
    /// What was seen could not be written.
    #[error("cannot write")]
    Write(#[source] io::Error),
}

impl From<ConnectError> for WatchError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Status { status: 401, .. } => Self::Token(error),
            error => Self::Connect(error),
        }
    }
}

/// Shows who is on a topic on standard output, until interrupted or the output is closed.
///
/// A connection that is lost later is made again, which a line says; then who is here is told anew.
///
/// # Errors
///
/// [`WatchError`] if the server cannot be reached or does not let us in, or ends the channel.
pub async fn run(options: WatchOptions) -> Result<(), WatchError> {
    let write = |line: &str| {
        let mut out = io::stdout().lock();
        out.write_all(line.as_bytes())?;
        out.flush()
    };
    tokio::select! {
        ended = follow(&options, TimeZone::system(), write) => match ended {
            // The reader of the pipe has seen enough.
            Err(WatchError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            ended => ended,
        },
        _interrupted = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Follows a topic and gives each line to `write`, until that fails or the server ends it.
///
/// # Errors
///
/// As [`run`]; an error of `write` ends it too.
pub async fn follow(
    options: &WatchOptions,
    zone: TimeZone,
    mut write: impl FnMut(&str) -> io::Result<()>,
) -> Result<(), WatchError> {
    let mut config = ClientConfig::default();
    config.params = options.params.clone();
    let client = Client::connect_with(&options.url, config, dial(options)?).await?;
    let params = options
        .params
        .iter()
        .cloned()
        .map(|(name, value)| (name, Value::String(value)));
    let params: Map<String, Value> = params.collect();
    let presence = client
        .channel(&options.topic, &params)
        .join()
        .await?
        .into_presence();
    let view = View::new(options.format(), &options.topic, &options.url, zone);
    let mut follower = Follower {
        presence,
        state: State::New,
    };
    while let Some(event) = follower.presence.next().await {
        for line in follower.lines(&view, Timestamp::now(), event) {
            write(&line).map_err(WatchError::Write)?;
        }
    }
    Err(WatchError::Closed {
        topic: options.topic.clone(),
    })
}

/// What connects: bare TCP, unless the URL asks for TLS, which this machine may not be able to
/// speak, for want of authorities that it trusts.
fn dial(options: &WatchOptions) -> Result<Arc<dyn Dial>, WatchError> {
    let is_tls = ["wss://", "https://"]
        .iter()
        .any(|s| options.url.starts_with(s));
    if !is_tls {
        return Ok(Arc::new(TcpDial));
    }
    let ca = options.ca.clone();
    match WatchDial::new(ca.as_deref()) {
        Ok(dial) => Ok(Arc::new(dial)),
        Err(source) => Err(WatchError::Tls { ca, source }),
    }
}

/// A followed topic, and what its watchers have been told.
struct Follower {
    presence: Presence,
    state: State,
}

enum State {
    /// Nothing yet: the first state is told as who is here.
    New,
    /// All that the list says.
    Told,
    /// That the connection is lost; what changed meanwhile waits for the line that says it is back.
    Lost(Vec<PresenceEvent>),
}

impl Follower {
    fn lines(&mut self, view: &View, now: Timestamp, event: PresenceEvent) -> Vec<String> {
        match (&mut self.state, event) {
            (State::New, PresenceEvent::Synced) => {
                self.state = State::Told;
                let connected = Sight::Connected {
                    n_keys: self.presence.list().len(),
                };
                let mut lines = vec![view.line(now, &connected)];
                lines.extend(self.everyone(view, now));
                lines
            }
            (State::Lost(waiting), PresenceEvent::Synced) => {
                let waiting = std::mem::take(waiting);
                self.state = State::Told;
                let connected = Sight::Connected {
                    n_keys: self.presence.list().len(),
                };
                let mut lines = vec![view.line(now, &connected)];
                lines.extend(
                    waiting
                        .iter()
                        .filter_map(|event| self.change(view, now, event)),
                );
                lines
            }
            (State::New | State::Told, PresenceEvent::Errored(reason)) => {
                if matches!(self.state, State::Told) {
                    self.state = State::Lost(Vec::new());
                }
                vec![view.line(
                    now,
                    &Sight::Disconnected {
                        reason: &explain(&reason),
                    },
                )]
            }
            (State::Told, event) => self.change(view, now, &event).into_iter().collect(),
            (State::Lost(waiting), event) => {
                if is_change(&event) {
                    waiting.push(event);
                }
                Vec::new()
            }
            (State::New, _) => Vec::new(),
        }
    }

    /// A line for every meta of everyone here.
    fn everyone(&self, view: &View, now: Timestamp) -> Vec<String> {
        let mut lines = Vec::new();
        for (key, entry) in self.presence.list().list() {
            let name: Option<String> = entry.field("name");
            let who = Person {
                key,
                name: name.as_deref(),
            };
            let n_metas = entry.metas().len();
            for meta in entry.metas() {
                let meta = &value(meta);
                lines.push(view.line(now, &Sight::Here { who, meta, n_metas }));
            }
        }
        lines
    }

    /// The line of one change; `None` for what is not about presence.
    fn change(&self, view: &View, now: Timestamp, event: &PresenceEvent) -> Option<String> {
        let (PresenceEvent::Joined { key, .. }
        | PresenceEvent::Updated { key, .. }
        | PresenceEvent::Left { key, .. }) = event
        else {
            return None;
        };
        let entry = self.presence.list().get(key);
        let name: Option<String> = entry.and_then(|entry| entry.field("name"));
        let who = Person {
            key,
            name: name.as_deref(),
        };
        let n_metas = entry.map_or(0, |entry| entry.metas().len());
        match event {
            PresenceEvent::Joined { meta, .. } => {
                let meta = &value(meta);
                Some(view.line(now, &Sight::Joined { who, meta, n_metas }))
            }
            PresenceEvent::Updated { old, new, .. } => {
                let (before, after) = (Some(&value(old)), &value(new));
                Some(view.line(
                    now,
                    &Sight::Updated {
                        who,
                        before,
                        after,
                        n_metas,
                    },
                ))
            }
            PresenceEvent::Left { meta, .. } => {
                let meta = &value(meta);
                Some(view.line(now, &Sight::Left { who, meta, n_metas }))
            }
            _ => None,
        }
    }
}

fn is_change(event: &PresenceEvent) -> bool {
    matches!(
        event,
        PresenceEvent::Joined { .. } | PresenceEvent::Updated { .. } | PresenceEvent::Left { .. }
    )
}

impl WatchOptions {
    /// What lines look like, by what was asked and where they go.
    fn format(&self) -> Format {
        let is_terminal = io::stdout().is_terminal();
        let is_json = match self.output {
            Output::ByTerminal => !is_terminal,
            Output::Text => false,
            Output::Json => true,
        };
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_coloured = match self.colour {
            Colour::ByTerminal => is_terminal && !no_color,
            Colour::Always => true,
            Colour::Never => false,
        };
        match (is_json, is_coloured) {
            (true, _) => Format::Json,
            (false, true) => Format::Colour,
            (false, false) => Format::Plain,
        }
    }
}

/// A meta's fields.
fn value(meta: &Meta) -> Value {
    serde_json::from_str(meta.json()).unwrap_or_default()
}

fn explain(reason: &ErrorReason) -> String {
    match reason {
        ErrorReason::ConnectionLost => "the connection was closed".to_owned(),
        ErrorReason::HeartbeatTimeout => "the server did not answer a heartbeat".to_owned(),
        ErrorReason::Crashed(_) => "the server's channel crashed".to_owned(),
        ErrorReason::JoinTimeout => "joining again was not answered".to_owned(),
        ErrorReason::Refused(response) => format!("joining again was refused: {response:?}"),
        _ => "unknown".to_owned(),
    }
}
