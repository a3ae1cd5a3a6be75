//! The arguments of `herenow token`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, value_parser};

use crate::config;
use crate::identity::TokenRequest;

/// The command and its help.
pub(super) fn command() -> clap::Command {
    let list = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .value_delimiter(',')
            .action(ArgAction::Append)
            .help(help)
    };
    clap::Command::new("token")
        .about("Print a token for trying, signed with the server's secret (HS256)")
        .after_help(
            "The secret, audience and issuer are the server's: HERENOW_JWT_SECRET, or the file of \
             --config.\n\nExamples:\n  herenow token --sub 42 --topics 'room:*'\n  \
             herenow token --topics room:1 --rights observe --ttl 5m\n  \
             herenow watch -p token=$(herenow token --rights observe) room:lobby",
        )
        .args([
            Arg::new(super::CONFIG)
                .long(super::CONFIG)
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("Read the configuration from this TOML file [env: HERENOW_CONFIG]"),
            Arg::new("sub")
                .long("sub")
                .value_name("USER")
                .help("The user; without one the token's holder can observe, not be present"),
            list(
                "topics",
                "LIST",
                "Topics, or beginnings of topics with * at their ends [default: all]",
            ),
            list(
                "rights",
                "LIST",
                "Some of join (observe and present), observe, present, broadcast, list, count [default: all]",
            ),
            Arg::new("ttl")
                .long("ttl")
                .value_name("DURATION")
                .value_parser(duration)
                .default_value("1h")
                .help("How long the token is valid"),
        ])
}

/// What is asked for.
pub(super) fn request(matches: &ArgMatches) -> TokenRequest {
    let list = |name: &str| {
        let values = matches.get_many::<String>(name);
        values.map_or_else(Vec::new, |values| values.cloned().collect())
    };
    let mut request = TokenRequest {
        sub: matches.get_one::<String>("sub").cloned(),
        topics: list("topics"),
        rights: list("rights"),
        ..TokenRequest::default()
    };
    if let Some(ttl) = matches.get_one::<Duration>("ttl") {
        request.ttl = *ttl;
    }
    request
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .filter(|ttl| *ttl >= Duration::from_secs(1))
        .ok_or_else(|| "it must be a duration of 1 s or more, such as 30s, 5m, 1h or 7d".to_owned())
}
