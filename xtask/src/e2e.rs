//! `cargo xtask e2e`: the stock clients and a browser, driven against our server.
//!
//! The tests are in `e2e/` and find the program, the browser, and a Python that has the packages of
//! `e2e/python/requirements.txt` through `HERENOW_BIN`, `CHROMIUM` and `PYTHON`. A run that skips a
//! test, or has none, has failed.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::tally::Tally;
use crate::{shell, tools};

/// Installs what is missing, runs the tests and fails unless all of them passed.
pub(crate) fn run() -> Result<()> {
    tools::ensure_e2e()?;
    let tally = tests()?;
    println!("\n{tally}");
    if !tally.is_clean() {
        bail!("the end-to-end tests did not all pass");
    }
    Ok(())
}

/// Runs the tests, with everything in place, and counts them.
pub(crate) fn tests() -> Result<Tally> {
    // The same features as the tests have, so that nothing is compiled twice.
    shell::run(&mut shell::cargo(&[
        "build",
        "--locked",
        "--workspace",
        "--all-features",
        "--bins",
    ]))?;
    let target = target_folder()?;
    let program = target.join("debug").join("herenow");
    if !program.is_file() {
        bail!("{} was not built", program.display());
    }
    let browser = tools::browser().context("no Chromium found")?;
    let npm = |arguments: &[&str]| {
        let mut command = shell::command("npm", arguments);
        command.current_dir(shell::root().join("e2e"));
        command
    };
    let requirements = shell::root().join("e2e/python/requirements.txt");
    let python = tools::ensure_python(&target.join("e2e-python"), &requirements)?;
    shell::run(&mut npm(&["ci", "--no-audit", "--no-fund"]))?;
    let mut command = npm(&["test"]);
    command
        .env("HERENOW_BIN", &program)
        .env("CHROMIUM", browser)
        .env("PYTHON", python);
    let kept = shell::run_and_keep(&mut command)?;
    let mut tally = Tally::from_node(&kept.text).context("the end-to-end tests did not run")?;
    if !kept.success && tally.failed == 0 {
        tally.failed = 1;
    }
    Ok(tally)
}

/// Returns where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let arguments = ["metadata", "--format-version", "1", "--no-deps"];
    let text = shell::output(&mut shell::cargo(&arguments))?;
    let metadata: Metadata = serde_json::from_str(&text).context("cannot read cargo metadata")?;
    Ok(metadata.target_directory)
}
