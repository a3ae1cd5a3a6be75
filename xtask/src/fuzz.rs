//! `cargo xtask fuzz`: long runs of the targets in `fuzz/` under libFuzzer, guided by coverage.
//!
//! The brief run that needs nothing is a test like any other; this is for a night, or for a
//! decoder that has just been changed. It needs a C++ compiler, and no other tool: the flags that
//! make the compiler count coverage work on stable.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// What makes the compiler instrument: edges, comparisons, and how deep the stack was.
const COVERAGE: [&str; 9] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
];

/// What is checked: ours and the language's own assertions, without waiting for whole-program
/// optimization.
const PROFILE: [(&str, &str); 4] = [
    ("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true"),
    ("CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS", "true"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only"),
];

/// Limits that libFuzzer keeps; the targets have their own, which are tighter.
const LIMITS: [&str; 3] = ["-max_len=8192", "-timeout=20", "-rss_limit_mb=3000"];

/// Inputs of one target that are kept in the repository: every test run replays them.
const MAX_KEPT: usize = 120;

/// How to run the targets.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Keeps the inputs that reach something new: makes `fuzz/corpus` anew, as small as it can be.
    #[arg(long)]
    keep: bool,
    /// Which targets; all without any.
    targets: Vec<String>,
}

/// Runs each target, one after the other, and fails at the first finding.
pub(crate) fn run(options: &Options) -> Result<()> {
    let known = names()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!(
            "no target is named {unknown}; there are {}",
            known.join(", ")
        );
    }
    let chosen = known
        .iter()
        .filter(|name| options.targets.is_empty() || options.targets.contains(name));
    if let Some(name) = known.first() {
        // Only builds: a fault of the build is not one of a target.
        shell::run(guided(name)?.arg("-help=1")).context("the instrumented build failed")?;
    }
    for name in chosen {
        explore(name, options.seconds)?;
        if options.keep {
            keep(name)?;
        }
    }
    Ok(())
}

/// The targets' names, as their declarations have them.
fn names() -> Result<Vec<String>> {
    let path = shell::root().join("fuzz/src/targets.rs");
    let text = crate::sources::read(&path)?;
    let names = text.lines().filter_map(|line| {
        let quoted = line.trim().strip_prefix("name: \"")?;
        Some(quoted.strip_suffix("\",")?.to_owned())
    });
    Ok(names.collect())
}

fn explore(name: &str, seconds: u64) -> Result<()> {
    let findings = folder("findings", name)?;
    let mut command = guided(name)?;
    command.args(LIMITS);
    command.arg(format!("-max_total_time={seconds}"));
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.args(["-print_final_stats=1", "-verbosity=1"]);
    // What it finds goes to the first.
    for kind in ["grown", "corpus", "regressions", "seeds"] {
        command.arg(folder(kind, name)?);
    }
    shell::run(&mut command).with_context(|| {
        format!(
            "{name} broke a promise: the input is in {}; mend it, and keep the input in \
             fuzz/regressions/{name} under a name that says what was wrong",
            findings.display()
        )
    })
}

fn keep(name: &str) -> Result<()> {
    let corpus = folder("corpus", name)?;
    let merged = folder("merged", name)?;
    fs::remove_dir_all(&merged)?;
    fs::create_dir_all(&merged)?;
    let mut command = guided(name)?;
    command
        .args(LIMITS)
        .args(["-merge=1", "-set_cover_merge=1"])
        .arg(&merged);
    for kind in ["corpus", "grown"] {
        command.arg(folder(kind, name)?);
    }
    shell::run(&mut command)?;
    fs::remove_dir_all(&corpus)?;
    fs::rename(&merged, &corpus)?;
    println!("{name}: {} inputs kept", thin_out(&corpus)?);
    Ok(())
}

/// Takes inputs away until [`MAX_KEPT`] are left, of every size some; returns how many are left.
fn thin_out(corpus: &Path) -> Result<usize> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(corpus)? {
        let entry = entry?;
        inputs.push((entry.metadata()?.len(), entry.path()));
    }
    inputs.sort();
    let n = inputs.len();
    let is_kept = |at: usize| n <= MAX_KEPT || (at * MAX_KEPT) % n < MAX_KEPT;
    for (_, path) in (0..n).filter(|at| !is_kept(*at)).map(|at| &inputs[at]) {
        fs::remove_file(path)?;
    }
    Ok(n.min(MAX_KEPT))
}

/// The command that runs a target's instrumented build, which it makes if need be.
fn guided(name: &str) -> Result<Command> {
    let host = host()?;
    let mut command = shell::cargo(&[
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "fuzz",
        "--bin",
        "guided",
    ]);
    // For a named machine, so that what runs while building is not instrumented.
    command.args(["--target", &host, "--"]);
    command.env("RUSTFLAGS", COVERAGE.join(" "));
    command.envs(PROFILE);
    command.env("HERENOW_FUZZ_TARGET", name);
    command.env("HERENOW_FUZZ_SEEDS", folder("seeds", name)?);
    Ok(command)
}

fn host() -> Result<String> {
    let text = shell::output(&mut shell::command("rustc", &["--version", "--verbose"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host
        .context("rustc does not say what machine this is")?
        .to_owned())
}

/// A target's folder of this kind, made if it is not there.
fn folder(kind: &str, name: &str) -> Result<PathBuf> {
    let fuzz: &Path = &shell::root().join("fuzz");
    let is_ours = matches!(kind, "corpus" | "regressions");
    let above = if is_ours {
        fuzz.to_owned()
    } else {
        fuzz.join("explored")
    };
    let folder = above.join(kind).join(name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
