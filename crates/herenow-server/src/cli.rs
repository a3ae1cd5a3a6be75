//! Arguments of the program: a flag for every key of the configuration, made from the same table.

mod configuration;
mod token;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, value_parser};
use clap_complete::Shell;

use crate::config::{self, Key, ServerConfig, Sources, TopicConfig};
use crate::identity::TokenRequest;
use crate::watch::{Colour, Output, WatchOptions};

/// Flags that the short help shows; the others are in `--help`.
const COMMON: [&str; 6] = [
    "listen",
    "dev",
    "log.level",
    "cluster.engine",
    "cluster.node",
    "cluster.peers",
];

const CONFIG: &str = "config";

/// What the program is asked to do.
#[derive(Debug)]
pub enum Command {
    /// Run the server with the configuration of these sources.
    Serve(Sources),
    /// Print a token, with the secret of the configuration of these sources.
    Token(Sources, TokenRequest),
    /// Show who is on a topic.
    Watch(WatchOptions),
    /// Print something and end.
    Print(Print),
}

/// What the program is asked to print.
#[derive(Debug)]
pub enum Print {
    /// What is wrong with the configuration of these sources.
    Check(Sources),
    /// The configuration of these sources.
    Show(Sources),
    /// The reference of all keys.
    Reference,
    /// Completions for a shell.
    Completions(Shell),
    /// The manual page of the command at this path, of the program if it is empty.
    Manual(Vec<String>),
}

/// Reads the arguments, the program's name first; `environment` becomes part of the sources.
///
/// # Errors
///
/// What clap has to say, which includes help and version.
pub fn parse(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Command, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    match matches.subcommand() {
        Some(("watch", matches)) => watch_options(matches).map(Command::Watch),
        Some(("token", matches)) => {
            let sources = file_and_environment(matches, environment);
            Ok(Command::Token(sources, token::request(matches)))
        }
        Some(("config", matches)) => Ok(Command::Print(match configuration::request(matches) {
            ("check", matches) => Print::Check(sources(matches, environment)),
            ("show", matches) => Print::Show(sources(matches, environment)),
            _ => Print::Reference,
        })),
        Some(("completions", matches)) => {
            let shell = matches.get_one::<Shell>("shell").expect("clap asks for it");
            Ok(Command::Print(Print::Completions(*shell)))
        }
        Some(("man", matches)) => {
            let path = matches.get_many::<String>("command").unwrap_or_default();
            Ok(Command::Print(Print::Manual(path.cloned().collect())))
        }
        Some((_, matches)) => Ok(Command::Serve(sources(matches, environment))),
        None => unreachable!("clap asks for a command"),
    }
}

/// The program's arguments, also for what is generated from them.
pub fn command() -> clap::Command {
    clap::Command::new("herenow")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Who is here, right now: presence and channels for clients of Phoenix channels")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve())
        .subcommand(token::command())
        .subcommand(watch())
        .subcommand(configuration::command(arguments))
        .subcommand(
            clap::Command::new("completions")
                .about("Print completions for a shell")
                .after_help("Example:\n  source <(herenow completions bash)")
                .arg(
                    Arg::new("shell")
                        .value_name("SHELL")
                        .required(true)
                        .value_parser(value_parser!(Shell)),
                ),
        )
        .subcommand(
            clap::Command::new("man")
                .about("Print the manual page of the program, or of one of its commands")
                .after_help("Example:\n  herenow man serve | man -l -")
                .arg(Arg::new("command").value_name("COMMAND").num_args(0..)),
        )
}

fn serve() -> clap::Command {
    clap::Command::new("serve")
        .about("Run the server; without arguments on 127.0.0.1:4000, for this machine only")
        .after_help(
            "Every key of the configuration file is a flag and an environment variable too: --help \
             lists them all. A flag goes over the environment, that over the file.",
        )
        .after_long_help(entry_keys())
        .args(arguments())
}

/// The arguments that say what the configuration is: its file, and a flag for every key.
fn arguments() -> Vec<Arg> {
    let file = Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("Read the configuration from this TOML file [env: HERENOW_CONFIG]");
    let list = |name: &'static str, help: &'static str| {
        let arg = Arg::new(name).long(name).value_name("LIST").help(help);
        arg.help_heading("Keys at the top of the file")
            .hide_short_help(true)
    };
    let topics = list(
        config::TOPICS,
        "What is done on which topics, as a TOML list such as \
         '[{ pattern = \"room:*\", presence = true, broadcast = true }]' [env: HERENOW_TOPICS]",
    );
    let webhooks = list(
        config::WEBHOOKS,
        "Webhooks with filters of their own, as a TOML list such as \
         '[{ url = \"https://example.com/joins\", events = [\"joined\"] }]' [env: HERENOW_WEBHOOKS]",
    );
    let default = ServerConfig::default();
    let flags = config::keys().map(|key| flag(key, &default));
    let lists = [topics, webhooks];
    [file].into_iter().chain(flags).chain(lists).collect()
}

/// The keys of entries of `topics` and `webhooks`, which are no flags of their own.
fn entry_keys() -> String {
    let default = TopicConfig::new("");
    let mut text =
        "Keys of an entry of [[topics]], of which the first that matches holds:".to_owned();
    for key in config::TOPIC_KEYS {
        let known = key.show_default(&default);
        // The windows are the general ones as long as the entry has none.
        let known = known.filter(|known| !known.is_empty() && !key.name.starts_with("window_"));
        let known = known.map_or_else(String::new, |known| format!(" [default: {known}]"));
        let (name, value, help) = (key.name, key.value_name(), sentence(key.help));
        text += &format!("\n      {name} = <{value}>\n          {help}{known}\n");
    }
    text += "\nKeys of an entry of [[webhooks]], a receiver of events:\n";
    for key in config::TARGET_KEYS {
        let (name, value, help) = (key.name, key.value_name(), sentence(key.help));
        text += &format!("\n      {name} = <{value}>\n          {help}\n");
    }
    text + "\nEvery key is a flag and an environment variable too. A flag goes over the environment, \
            that over the file."
}

fn sentence(help: &str) -> String {
    let mut help = help.to_owned();
    if let Some(first) = help.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    help
}

/// The flag of one key.
fn flag(key: &'static Key<ServerConfig>, default: &ServerConfig) -> Arg {
    let variable = config::variable_name(key.name);
    let known = key.show_default(default);
    let default = known.map_or_else(String::new, |default| format!(" [default: {default}]"));
    let mut help = sentence(key.help);
    if !key.words().is_empty() {
        help += &format!(" [possible values: {}]", key.words().join(", "));
    }
    let flag = config::flag_name(key.name);
    let heading = match key.name.split_once('.') {
        Some((section, _)) => format!("Keys of [{section}]"),
        None => "Keys at the top of the file".to_owned(),
    };
    let arg = Arg::new(key.name)
        .long(flag.trim_start_matches('-').to_owned())
        .value_name(key.value_name())
        .help(format!("{help} [env: {variable}]{default}"))
        .help_heading(heading)
        .hide_short_help(!COMMON.contains(&key.name))
        .allow_hyphen_values(true)
        .action(match config::is_list(key) {
            true => ArgAction::Append,
            false => ArgAction::Set,
        });
    match config::is_switch(key) {
        true => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        false => arg,
    }
}

fn sources(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Sources {
    let names = config::keys()
        .map(|key| key.name)
        .chain([config::TOPICS, config::WEBHOOKS]);
    let given = names.filter_map(|name| {
        let values = matches.get_many::<String>(name)?;
        let values: Vec<&str> = values.map(String::as_str).collect();
        Some((name.to_owned(), values.join(",")))
    });
    Sources {
        flags: given.collect(),
        ..file_and_environment(matches, environment)
    }
}

/// The sources of a command that has no flags for keys.
fn file_and_environment(
    matches: &ArgMatches,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Sources {
    let mut environment: Vec<_> = environment.into_iter().collect();
    // The system gives variables in no order; errors should come in one.
    environment.sort();
    Sources {
        file: matches.get_one::<PathBuf>(CONFIG).cloned(),
        environment,
        flags: Vec::new(),
    }
}

fn watch() -> clap::Command {
    clap::Command::new("watch")
        .about("Show who is on a topic, live: who is here, then who joins, changes and leaves")
        .after_help(
            "On a terminal the lines are for people, in colour; in a pipe they are JSON objects.\n\n\
             Examples:\n  herenow watch\n  herenow watch room:42\n  \
             herenow watch ws://10.0.0.7:4000 room:42 | jq .name",
        )
        .args([
            Arg::new("first").value_name("URL").default_value(WatchOptions::DEFAULT_URL).help(
                "The server; with or without the path of its socket, which is /socket otherwise",
            ),
            Arg::new("second")
                .value_name("TOPIC")
                .default_value(WatchOptions::DEFAULT_TOPIC)
                .help("The topic to watch"),
            Arg::new("param")
                .long("param")
                .short('p')
                .value_name("NAME=VALUE")
                .value_parser(parameter)
                .action(ArgAction::Append)
                .help("A parameter of the socket and of the join; can be repeated"),
            Arg::new("ca")
                .long("ca")
                .value_name("FILE")
                .help("For wss://, trust the authorities in this PEM file instead of this machine's"),
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Write JSON lines on a terminal too"),
            Arg::new("text")
                .long("text")
                .action(ArgAction::SetTrue)
                .conflicts_with("json")
                .help("Write lines for people in a pipe too"),
            Arg::new("color")
                .long("color")
                .alias("colour")
                .value_name("WHEN")
                .value_parser(["auto", "always", "never"])
                .default_value("auto")
                .help("Colour the lines for people; auto: on a terminal, unless NO_COLOR is set"),
        ])
}

fn watch_options(matches: &ArgMatches) -> Result<WatchOptions, clap::Error> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let (mut url, mut topic) = (text("first"), text("second"));
    let is_address = url.parse::<SocketAddr>().is_ok() || url.starts_with("localhost:");
    if is_address {
        let hint = format!("`{url}` is the address of a server: write ws://{url}");
        return Err(command().error(ErrorKind::ValueValidation, hint));
    }
    // `herenow watch room:42` means the topic: a URL has a scheme.
    let is_alone = matches.value_source("second") == Some(ValueSource::DefaultValue);
    if is_alone && !url.contains("://") {
        topic = std::mem::replace(&mut url, WatchOptions::DEFAULT_URL.to_owned());
    }
    let mut options = WatchOptions::new(url, topic);
    let params = matches.get_many::<(String, String)>("param");
    options.params = params
        .map(|params| params.cloned().collect())
        .unwrap_or_default();
    options.ca = matches.get_one::<String>("ca").cloned();
    options.output = match (matches.get_flag("json"), matches.get_flag("text")) {
        (true, _) => Output::Json,
        (false, true) => Output::Text,
        (false, false) => Output::ByTerminal,
    };
    options.colour = match text("color").as_str() {
        "always" => Colour::Always,
        "never" => Colour::Never,
        _ => Colour::ByTerminal,
    };
    Ok(options)
}

fn parameter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("it must be a name and a value, such as token=abc".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> Result<Command, clap::Error> {
        parse(line.split(' ').map(OsString::from), [])
    }

    fn serve_config(line: &str) -> ServerConfig {
        match run(line).unwrap() {
            Command::Serve(sources) => ServerConfig::load(&sources).unwrap(),
            Command::Watch(_) | Command::Token(..) | Command::Print(_) => {
                panic!("this is no serve")
            }
        }
    }

    fn watched(line: &str) -> (String, String) {
        match run(line).unwrap() {
            Command::Watch(options) => (options.url, options.topic),
            Command::Serve(_) | Command::Token(..) | Command::Print(_) => {
                panic!("this is no watch")
            }
        }
    }

    #[test]
    fn the_arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn srv_12_every_key_is_a_flag() {
        let config = serve_config("herenow serve --listen [::1]:1 --socket-max-channels 7 --dev");
        assert_eq!(config.listen.to_string(), "[::1]:1");
        assert_eq!(config.socket.max_channels.get(), 7);
        assert_eq!(config.dev, Some(true));
        assert_eq!(serve_config("herenow serve --dev=false").dev, Some(false));
        for key in config::keys() {
            let flag = config::flag_name(key.name);
            let arguments = [format!("{flag}=x")];
            let line = ["herenow", "serve"]
                .map(str::to_owned)
                .into_iter()
                .chain(arguments);
            assert!(parse(line.map(OsString::from), []).is_ok(), "{flag}");
        }
    }

    #[test]
    fn srv_301_help_lists_every_key_of_topics_and_every_word() {
        let help = run("herenow serve --help").unwrap_err().to_string();
        for key in config::TOPIC_KEYS {
            assert!(
                help.contains(&format!("\n      {} = <", key.name)),
                "{help}"
            );
        }
        for word in config::keys().flat_map(Key::words) {
            assert!(help.contains(word), "{word}");
        }
    }

    #[test]
    fn srv_12_an_unknown_flag_is_an_error_that_names_a_likely_one() {
        let error = run("herenow serve --listn 127.0.0.1:1")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--listn") && error.contains("--listen"),
            "{error}"
        );
    }

    #[test]
    fn srv_620_token_takes_lists_and_a_duration() {
        let line =
            "herenow token --sub 42 --topics room:*,lobby --rights list --rights count --ttl 5m";
        let Command::Token(_, request) = run(line).unwrap() else {
            panic!("this is no token")
        };
        assert_eq!(request.sub.as_deref(), Some("42"));
        assert_eq!(request.topics, ["room:*", "lobby"]);
        assert_eq!(request.rights, ["list", "count"]);
        assert_eq!(request.ttl.as_secs(), 300);
        let error = run("herenow token --ttl 300").unwrap_err().to_string();
        assert!(error.contains("30s, 5m, 1h or 7d"), "{error}");
    }

    #[test]
    fn srv_64_watch_needs_neither_url_nor_topic() {
        let url = WatchOptions::DEFAULT_URL.to_owned();
        assert_eq!(
            watched("herenow watch"),
            (url.clone(), "room:lobby".to_owned())
        );
        assert_eq!(watched("herenow watch room:x"), (url, "room:x".to_owned()));
        let both = ("ws://h:1".to_owned(), "a".to_owned());
        assert_eq!(watched("herenow watch ws://h:1 a"), both);
        for address in ["127.0.0.1:4000", "[::1]:4000", "localhost:4000"] {
            for line in [
                format!("herenow watch {address}"),
                format!("herenow watch {address} a"),
            ] {
                let error = run(&line).unwrap_err().to_string();
                assert!(error.contains(&format!("ws://{address}")), "{error}");
            }
        }
    }
}
