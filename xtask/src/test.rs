//! `cargo xtask test`: installs what is missing, then runs every check and every test.

use anyhow::{Result, bail};

use crate::tally::Tally;
use crate::{ci, e2e, shell, tools};

/// A kind of test, and what runs and counts it.
type Runner = (&'static str, fn() -> Result<Tally>);

const RUNNERS: [Runner; 3] = [
    ("unit and integration tests", nextest),
    ("examples in the docs", doctests),
    ("end-to-end tests", e2e::tests),
];

/// Runs all of it, also after something has failed, closes with one line that counts the tests,
/// and fails unless every check passed, every kind of test ran, and none failed or was skipped.
pub(crate) fn run() -> Result<()> {
    tools::ensure_checkers()?;
    tools::ensure_nextest()?;
    tools::ensure_e2e()?;
    let mut failed = ci::failures();
    let mut total = Tally::default();
    for (name, runner) in RUNNERS {
        println!("\n==> test: {name}");
        let tally = runner().unwrap_or_else(|error| {
            println!("error: {error:#}");
            Tally::default()
        });
        println!("{name}: {tally}");
        total += tally;
        if !tally.is_clean() {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        println!("\nfailed: {}", failed.join(", "));
    }
    println!("\n{total}");
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

fn nextest() -> Result<Tally> {
    let kept = shell::run_and_keep(&mut shell::cargo(&[
        "nextest",
        "run",
        "--locked",
        "--workspace",
        "--all-features",
        "--profile",
        "ci",
    ]))?;
    count(kept.success, Tally::from_nextest(&kept.text))
}

fn doctests() -> Result<Tally> {
    let kept = shell::run_and_keep(&mut shell::cargo(&[
        "test",
        "--locked",
        "--workspace",
        "--all-features",
        "--doc",
        "--no-fail-fast",
    ]))?;
    count(kept.success, Tally::from_libtest(&kept.text))
}

/// Believes a runner's counts, except where it failed and counted no failure.
fn count(success: bool, tally: Option<Tally>) -> Result<Tally> {
    match tally {
        Some(tally) if success || tally.failed > 0 => Ok(tally),
        Some(tally) => Ok(Tally { failed: 1, ..tally }),
        None => bail!("no test ran"),
    }
}
