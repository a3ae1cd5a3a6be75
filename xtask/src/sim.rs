//! `cargo xtask sim`: runs seeds of the simulator, as fast as the machine goes; with `--mutants`,
//! shows that it finds bugs that are put in on purpose.

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
    let mut command = shell::cargo(&[
        "run",
        "--locked",
        "--release",
        "--package",
        "herenow-sim",
        "--bin",
        "sim",
        "--",
    ]);
    shell::run(command.args(arguments))
}
