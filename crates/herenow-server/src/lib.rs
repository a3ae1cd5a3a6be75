//! The program `herenow` as a library, so that tests can run it in their own process.
//!
//! [`run::serve`] is the server, [`watch::run`] the terminal view; [`config`] and [`cli`] say how
//! they are told what to do. The dashboard at `/` is described in docs/dashboard.md.
//!
//! # Features
//!
//! - `zenoh` (on by default), `nats`, `redis`: clusters over these engines.
//! - `sql`: `fetch` out of PostgreSQL and SQLite. Off by default because SQLite is C code that
//!   takes a minute to build.
//! - `otel`: traces over OTLP, see [`traces`].
//! - `jemalloc`: the program's memory comes from jemalloc, which gives more of it back when
//!   connections close. Off by default because building it needs `make`.

pub mod config;

mod clock;

mod links;

mod raw;

pub mod traces;

pub mod logging;

mod outage;

pub mod identity;

mod people;

mod fetch;

mod limits;

mod builtin;

mod assets;

mod demo;

mod echo;

mod health;

mod door;

pub mod tls;

pub mod signals;

pub mod host;

pub mod cluster;

mod events;

mod api;

mod supabase;

pub mod metrics;

mod dashboard;

pub mod run;

pub mod watch;

pub mod cli;

pub mod print;
