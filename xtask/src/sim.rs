//! `cargo xtask sim`: runs seeds of the simulator, as fast as the machine goes.

use anyhow::Result;

use crate::shell;

/// Builds the simulator with optimizations and hands it the arguments.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
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
