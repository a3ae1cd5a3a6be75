//! Bugs put into `herenow-core` on purpose: the simulator must catch each within a hundred seeds,
//! and a rare one within as many as are said beside it.
//!
//! The shards and the simulator are copied to a temporary workspace, one mutant at a time is
//! written into the copy, and the simulator is built and run there. A mutant is a text and its
//! replacement; a text that is not found exactly once is an error, so that a mutant cannot quietly
//! become none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Seeds in which a mutant must be caught.
const N_SEEDS: &str = "100";
/// The crates that are copied.
const CRATES: [&str; 2] = ["herenow-core", "herenow-sim"];

/// One bug.
struct Mutant {
    name: &'static str,
    /// A file of `herenow-core/src`.
    file: &'static str,
    text: &'static str,
    replacement: &'static str,
    /// Seeds in which it must be caught: [`N_SEEDS`], unless what it breaks is too rare.
    n_seeds: &'static str,
}

const MUTANTS: [Mutant; 14] = [
    Mutant {
        name: "the overlap of two deltas is ignored",
        file: "table.rs",
        text: "self.take_overlapped(delta.from, &delta.rows[..n_known], &mut left);",
        replacement: "",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a chunk's base is not checked",
        file: "delta.rs",
        text: "delta.from > self.seen || delta.base > self.pruned",
        replacement: "delta.from > self.seen",
        n_seeds: "200",
    },
    Mutant {
        name: "removals told exactly are ignored",
        file: "table.rs",
        text: "let taken = rows.iter().map(",
        replacement: "let taken = rows.iter().take(0).map(",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a table never takes back how far it is pruned",
        file: "delta.rs",
        text: "pruned: as_of,",
        replacement: "pruned: as_of.max(self.pruned),",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a chunk counts as the whole answer",
        file: "delta.rs",
        text: "seen: delta.to,",
        replacement: "seen: delta.as_of,",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "the pieces of a list count as if made at once",
        file: "delta.rs",
        text: "as_of = as_of.min(before.as_of);",
        replacement: "let _ = before;",
        n_seeds: "700",
    },
    Mutant {
        name: "an update does not end the row it replaces",
        file: "shard/writes.rs",
        text: "self.history.note(new.version(), ended, Cause::Updated);",
        replacement: "",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "buried lives are forgotten",
        file: "liveness.rs",
        text: "lives.is_some_and(|lives| lives.contains(&incarnation))",
        replacement: "lives.is_some_and(|lives| lives.is_empty())",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "nothing is asked for after a gap",
        file: "shard/replication.rs",
        text: "if !is_waiting {",
        replacement: "if !is_waiting && false {",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a replica that is down is not hidden",
        file: "shard/replication.rs",
        text: "self.peers.fallen_silent(self.now, self.config.down_period)",
        replacement: "self.peers.fallen_silent(self.now, self.config.permdown_period)",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "peers that come and go put off the search for silent ones",
        file: "shard/replication.rs",
        text: "if self.peers.is_empty() {\n            self.next_check = MonoTime::MAX;\n        }",
        replacement: "self.schedule_check();",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a delta walks the whole table",
        file: "table.rs",
        text: "self.take_overlapped(delta.from,",
        replacement: "self.take_overlapped(Version::ZERO.min(delta.from),",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a grace lasts twice as long as it says",
        file: "readers.rs",
        text: "now + grace.period, end.reason()",
        replacement: "now + grace.period * 2, end.reason()",
        n_seeds: N_SEEDS,
    },
    Mutant {
        name: "a disconnect has no grace",
        file: "grace.rs",
        text: "Self::Told(LeaveReason::Closed) | Self::Bye => true,",
        replacement: "Self::Told(LeaveReason::Closed) | Self::Bye => false,",
        n_seeds: N_SEEDS,
    },
];

/// Tries every mutant, after none; fails unless none is caught and each mutant is.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::copy(&shell::root())?;
    println!("==> mutants: in {}", workspace.folder.display());
    match workspace.catching_seed(N_SEEDS)? {
        None => println!("{:>14}  (no mutant)", "nothing caught"),
        Some(line) => bail!("the simulator fails without a mutant: {line}"),
    }
    let mut n_missed = 0;
    for mutant in &MUTANTS {
        let caught = workspace.try_mutant(mutant)?;
        n_missed += usize::from(caught.is_none());
        let (seed, by) = match &caught {
            Some(line) => split(line),
            None => ("not caught".to_owned(), String::new()),
        };
        println!("{seed:>14}  {}{by}", mutant.name);
    }
    if n_missed > 0 {
        bail!("{n_missed} mutants were not caught");
    }
    Ok(())
}

/// Splits `seed 7 failed: at 3s, n1: tables: …` into the seed and the invariant.
fn split(line: &str) -> (String, String) {
    let (seed, rest) = line.split_once(" failed: ").unwrap_or((line, ""));
    let invariant = rest.split(": ").nth(1).unwrap_or("panic");
    (seed.to_owned(), format!("  ({invariant})"))
}

/// A copy of the crates that are needed, removed at the end.
struct Workspace {
    folder: PathBuf,
}

impl Workspace {
    fn copy(root: &Path) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("herenow-mutants-{}", std::process::id()));
        let workspace = Self { folder };
        for name in CRATES {
            let place = Path::new("crates").join(name);
            copy_folder(&root.join(&place), &workspace.folder.join(&place))?;
        }
        for name in ["Cargo.lock", "rust-toolchain.toml"] {
            if root.join(name).is_file() {
                fs::copy(root.join(name), workspace.folder.join(name))?;
            }
        }
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members = format!(
            "members = {:?}",
            CRATES.map(|name| format!("crates/{name}"))
        );
        let lines = manifest.lines().map(|line| match line {
            line if line.starts_with("members = ") => members.as_str(),
            line => line,
        });
        let manifest = lines.collect::<Vec<_>>().join("\n");
        fs::write(workspace.folder.join("Cargo.toml"), manifest)?;
        Ok(workspace)
    }

    /// Builds and runs what is there now; returns the line of the seed that failed, if one did.
    fn catching_seed(&self, n_seeds: &str) -> Result<Option<String>> {
        let mut build = self.cargo(&["build", "--release", "--package", "herenow-sim"]);
        let built = build
            .stderr(Stdio::piped())
            .output()
            .context("cannot start cargo")?;
        if !built.status.success() {
            bail!(
                "it does not build:\n{}",
                String::from_utf8_lossy(&built.stderr)
            );
        }
        let program = self.folder.join("target/release/sim");
        let mut sim = Command::new(program);
        let run = sim
            .args(["--seeds", n_seeds])
            .output()
            .context("cannot start the simulator")?;
        let text = String::from_utf8_lossy(&run.stdout);
        let line = text.lines().find(|line| line.contains(" failed: "));
        match (run.status.success(), line) {
            (true, _) => Ok(None),
            (false, Some(line)) => Ok(Some(line.to_owned())),
            (false, None) => bail!("the simulator ended without a word: {}", run.status),
        }
    }

    fn try_mutant(&self, mutant: &Mutant) -> Result<Option<String>> {
        let Mutant {
            name,
            file,
            text,
            replacement,
            n_seeds,
        } = mutant;
        let path = self.folder.join("crates/herenow-core/src").join(file);
        let original = fs::read_to_string(&path)?;
        let n_found = original.matches(text).count();
        if n_found != 1 {
            bail!("{file} has the text of the mutant \"{name}\" {n_found} times, not once: {text}");
        }
        fs::write(&path, original.replacen(text, replacement, 1))?;
        let caught = self
            .catching_seed(n_seeds)
            .with_context(|| format!("mutant \"{name}\""));
        fs::write(&path, original)?;
        caught
    }

    /// A cargo command that builds quickly rather than well, in a folder of its own.
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = shell::cargo(arguments);
        command
            .current_dir(&self.folder)
            .env("CARGO_TARGET_DIR", self.folder.join("target"))
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        // What is left in a temporary folder harms nobody.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let entries = fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
