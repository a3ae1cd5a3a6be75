//! The arguments of `herenow config`.

use clap::ArgMatches;

/// The command, whose parts that read the configuration take `arguments`: those of `serve`.
pub(super) fn command(arguments: impl Fn() -> Vec<clap::Arg>) -> clap::Command {
    let reading = |name: &'static str, about: &'static str| {
        clap::Command::new(name)
            .about(about)
            .after_help(
                "Takes every flag of `herenow serve`, and reads the same file and environment.",
            )
            .args(arguments().into_iter().map(|argument| {
                let is_file = argument.get_id() == super::CONFIG;
                argument.hide(!is_file)
            }))
    };
    clap::Command::new("config")
        .about("Check or show the configuration, or print the reference of its keys")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(reading(
            "check",
            "Say all that is wrong with the configuration; exits with 1 if something is",
        ))
        .subcommand(reading(
            "show",
            "Print the configuration that holds, with the source of each value; secrets as set",
        ))
        .subcommand(
            clap::Command::new("reference").about("Print the reference of all keys, as Markdown"),
        )
}

/// What is asked for, and the arguments of it.
pub(super) fn request(matches: &ArgMatches) -> (&str, &ArgMatches) {
    matches.subcommand().expect("clap asks for a command")
}
