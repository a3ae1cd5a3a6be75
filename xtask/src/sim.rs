//! `cargo xtask sim`: runs seeds of the simulator, as fast as the machine goes; with `--mutants`,
//! shows that it finds bugs that are put in on purpose; with `--scale`, measures large clusters.

mod mutants;

use anyhow::Result;

use crate::shell;

/// Builds the simulator with optimizations and hands it the arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let [only] = arguments
        && only == "--mutants"
    {
        return mutants::run();
    }
    match arguments {
        [first, rest @ ..] if first == "--scale" => run_binary("scale", rest),
        all => run_binary("sim", all),
    }
}

fn run_binary(name: &str, arguments: &[String]) -> Result<()> {
    let mut command = shell::cargo(&[
        "run",
        "--locked",
        "--release",
        "--package",
        "herenow-sim",
        "--bin",
        name,
        "--",
    ]);
    shell::run(command.args(arguments))
}
