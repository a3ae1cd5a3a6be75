//! The program `herenow`: arguments, logging, and one call.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use herenow_server::cli::{self, Command};
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::{self, TokenRequest};
use herenow_server::{host, logging, print, run, signals, watch};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let _flushed_last = logging::Flush::default();
    // Variables that are not text cannot be ours.
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let command = cli::parse(std::env::args_os(), environment).unwrap_or_else(|help| help.exit());
    let ended = match command {
        Command::Serve(sources) => serve(&sources),
        Command::Token(sources, request) => token(&sources, &request),
        Command::Print(what) => runtime()
            .and_then(|tokio| Ok(tokio.block_on(print::run(&what, &mut std::io::stdout()))?)),
        Command::Watch(options) => {
            runtime().and_then(|tokio| Ok(tokio.block_on(watch::run(options))?))
        }
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            logging::say(&format!("herenow: {}", in_words(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error's words, and those of its causes that add something.
fn in_words(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

fn serve(sources: &Sources) -> anyhow::Result<()> {
    let runtime = runtime()?;
    // Before anything else, so that no signal is missed, and none ends what is about to start.
    let stop = runtime.block_on(async { signals::stop() });
    let stop = stop.context("cannot listen to signals")?;
    let mut config = ServerConfig::load(sources)?;
    let traces = logging::start(&config)?;
    let served = runtime.block_on(async {
        let listener = match host::listener(config.listen)? {
            Some(listener) => listener,
            None => run::listen(config.listen)?,
        };
        // Who may be believed depends on it, also where the service manager chose it.
        config.listen = listener
            .local_addr()
            .context("the listener has no address")?;
        Ok(run::serve(config, listener, stop).await?)
    });
    traces.finish();
    served
}

fn token(sources: &Sources, request: &TokenRequest) -> anyhow::Result<()> {
    let token = identity::issue(&ServerConfig::load(sources)?, request)?;
    Ok(writeln!(std::io::stdout(), "{token}")?)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .enable_all()
        .build()
        .context("cannot start the runtime")
}
