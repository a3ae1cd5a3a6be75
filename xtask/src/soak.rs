//! `cargo xtask soak`: a long run of a cluster under all that goes wrong, with its memory drawn.

use anyhow::Result;

use crate::shell;

/// Builds the nodes as they are released and runs them; the arguments are the run's own.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let mut command = shell::cargo(&[
        "bench",
        "--locked",
        "--profile",
        "release",
        "--package",
        "herenow-server",
        "--bench",
        "soak",
        "--",
        "--folder",
    ]);
    command.arg(shell::root().join("docs/plots"));
    shell::run(command.args(arguments))
}
