//! `cargo xtask ci`: every check that is not a test.

use anyhow::{Result, bail};

use crate::{conformance, imports, layers, length, logs, shell, tools};

/// A check: what it looks at, and how.
type Check = (&'static str, fn() -> Result<()>);

const CHECKS: [Check; 10] = [
    ("format", format),
    ("lints", lints),
    ("docs", docs),
    ("import order", imports::run),
    ("dependencies between crates", layers::run),
    ("file length", length::run),
    ("privacy of logs", logs::run),
    ("scenarios", conformance::check),
    ("unused dependencies", unused_dependencies),
    ("licences and sources", licences),
];

/// Runs every check, also after one has failed, and fails if any did.
pub(crate) fn run() -> Result<()> {
    tools::ensure_checkers()?;
    let failed = failures();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs every check and returns the names of those that failed.
pub(crate) fn failures() -> Vec<&'static str> {
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        println!("\n==> check: {name}");
        if let Err(error) = check() {
            println!("error: {error:#}");
            failed.push(name);
        }
    }
    failed
}

fn format() -> Result<()> {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "--deny=warnings",
    ]))
}

fn docs() -> Result<()> {
    let mut command = shell::cargo(&[
        "doc",
        "--locked",
        "--workspace",
        "--all-features",
        "--no-deps",
    ]);
    shell::run(command.env("RUSTDOCFLAGS", "--deny=warnings"))
}

fn unused_dependencies() -> Result<()> {
    shell::run(&mut shell::cargo(&["machete"]))
}

/// Advisories are left out: looking them up clones a repository, and a check of one commit must
/// not change its verdict overnight.
fn licences() -> Result<()> {
    shell::run(&mut shell::cargo(&[
        "deny",
        "--locked",
        "--all-features",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}
