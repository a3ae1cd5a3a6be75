//! A whole server from the accept on, and its clients.
//!
//! Streams are in memory, there is one thread, and the clock moves only when nothing is left to do:
//! so what the server does, and in which order, is the same in each run. All that a client does
//! while the server is counted is to hand over bytes that it had prepared.

mod client;
mod wire;

use std::future::{pending, ready};
use std::time::Duration;

use herenow_channels::{Rate, serve_through};
use herenow_presence::Presence;
use herenow_pubsub::PubSub;
use herenow_server::config::{Secret, ServerConfig};
use herenow_server::identity::{Authority, TokenRequest, issue};
use herenow_server::run;
use tokio::runtime::Runtime;

use self::client::Client;
use self::wire::Backlog;

/// Longer than the server waits with anything that it tells.
const A_WHILE: Duration = Duration::from_secs(2);

/// What a server does besides its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    /// Nothing: every limit is off, and clients are who they say they are.
    None,
    /// The default limits.
    Limits,
    /// The default limits, and each client has a token (HS256).
    LimitsAndTokens,
}

/// A server, and all its clients.
pub struct Crowd {
    runtime: Runtime,
    backlog: Backlog,
    clients: Vec<Client>,
    per_topic: usize,
    n_messages: usize,
}

impl Crowd {
    /// Returns users who are about to come, so many to a room.
    pub fn at_the_door(extras: Extras, n_users: usize, per_room: usize) -> Self {
        let mut crowd = Self::new(extras);
        for n in 0..n_users {
            crowd.add(extras, n, &format!("room:{}", n / per_room), 0);
        }
        crowd.per_topic = per_room;
        crowd
    }

    /// Returns listeners of one topic, all joined, of whom the first is about to say so much.
    pub fn before_a_speech(extras: Extras, n_listeners: usize, n_messages: usize) -> Self {
        let mut crowd = Self::new(extras);
        for n in 0..n_listeners {
            crowd.add(extras, n, "bench:1", if n == 0 { n_messages } else { 0 });
        }
        crowd.n_messages = n_messages;
        crowd.come();
        crowd
    }

    fn new(extras: Extras) -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build();
        let (runtime, backlog) = (runtime.expect("the system has timers"), Backlog::default());
        runtime.block_on(async { start(&config(extras), backlog.clone()) });
        let crowd = Self {
            runtime,
            backlog,
            clients: Vec::new(),
            per_topic: 0,
            n_messages: 0,
        };
        crowd.serve();
        crowd
    }

    fn add(&mut self, extras: Extras, n: usize, topic: &str, n_messages: usize) {
        let user = user_id(n);
        let token = (extras == Extras::LimitsAndTokens).then(|| token(&config(extras), &user));
        let client = Client::new(token.as_deref(), topic, &user, n_messages);
        self.clients.push(client);
    }

    /// Has all connect, and then join, and waits until they have been told everything.
    pub fn come(&mut self) {
        self.backlog.connect(self.clients.iter().map(Client::end));
        self.speak();
        self.speak();
    }

    /// Has all say what is next, and the server do what there is to do.
    pub fn speak(&mut self) {
        self.clients.iter_mut().for_each(Client::speak);
        self.serve();
    }

    fn serve(&self) {
        self.runtime
            .block_on(async { tokio::time::sleep(A_WHILE).await });
    }

    /// Compares the list of every tenth client with who is in its room.
    ///
    /// # Panics
    ///
    /// If one is wrong.
    pub fn check_lists(&self) {
        for (n, client) in self.clients.iter().enumerate().step_by(10) {
            let first = n - n % self.per_topic;
            let users = first..self.clients.len().min(first + self.per_topic);
            let mut expected: Vec<String> = users.map(user_id).collect();
            expected.sort_unstable();
            assert_eq!(client.list(), expected, "the list of client {n}");
        }
    }

    /// Compares what each client was told with what was said.
    ///
    /// # Panics
    ///
    /// If it is not the same.
    pub fn check_speech(&self) {
        for client in &self.clients {
            assert_eq!(client.count("said"), self.n_messages);
        }
    }
}

/// Starts a server, whose tasks end with the runtime.
fn start(config: &ServerConfig, backlog: Backlog) {
    let pubsub = PubSub::local();
    let presence = Presence::builder(&pubsub).config(config.presence.clone());
    let presence = presence.start().expect("the default configuration");
    let authority = match config.jwt.has_keys() {
        true => Authority::start(config).expect("a secret is a key"),
        false => Authority::dev(),
    };
    let sockets = run::sockets(config, &pubsub, &presence, authority);
    let sockets = sockets.expect("the default configuration");
    let app = sockets.try_into_router_at("/socket");
    let app = app.expect("the default configuration");
    let shake = |end| ready(Ok(end));
    tokio::spawn(serve_through(
        backlog,
        app,
        config.http.clone(),
        shake,
        pending(),
    ));
}

fn config(extras: Extras) -> ServerConfig {
    let mut config = ServerConfig::default();
    match extras {
        Extras::None => {
            let none = Rate::new(0, 1);
            (config.socket.message_rate, config.socket.join_rate) = (none, none);
            config.limits.handshake_rate = none;
            (
                config.limits.sockets_per_address,
                config.limits.sockets_per_user,
            ) = (0, 0);
        }
        Extras::Limits => {}
        Extras::LimitsAndTokens => {
            config.jwt.secret = Some(Secret::new("a secret for counting, long enough"));
        }
    }
    config
}

fn token(config: &ServerConfig, user: &str) -> String {
    let mut request = TokenRequest::default();
    request.sub = Some(user.to_owned());
    issue(config, &request).expect("there is a secret")
}

fn user_id(n: usize) -> String {
    format!("user-{n}")
}
