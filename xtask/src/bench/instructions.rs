//! `cargo xtask bench instructions`: counts the instructions of the hot paths, and compares them
//! with the counts that the repository keeps.
//!
//! Valgrind counts, so a busy machine changes nothing. What does change counts without a change of
//! ours is another compiler, another allocator, or a processor that has other instructions: then
//! take the counts of the commit before as well.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use crate::shell;

/// By how much a count may grow before the chore fails, in percent: maps whose hashes differ from
/// run to run move some by less than one.
const MAX_GROWTH_PERCENT: f64 = 5.0;
/// Says that the counts are to be kept as those that others are compared with.
const WRITE: &str = "--write";

const HEAD: &str = "\
# Instructions of each hot path, as `cargo xtask bench instructions --write` counted them.
# A change that is meant to cost more or less writes them anew, in the same commit.
";

/// Instructions by the name of what was done.
type Counts = BTreeMap<String, u64>;

/// Counts all, or what has one of these words in its name, and fails if a count has grown.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    ensure_tools()?;
    let (is_writing, words): (Vec<&str>, Vec<&str>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|word| *word == WRITE);
    let is_writing = !is_writing.is_empty();
    if is_writing && !words.is_empty() {
        bail!("{WRITE} keeps all counts: it goes without other words");
    }
    let bench = ["bench", "--locked", "--profile", "release", "--package"];
    let mut command = shell::cargo(&bench);
    command.args(["instructions", "--bench", "counts", "--"]);
    command.arg("--output-format=json");
    let printed = shell::output(&mut command)?;
    let mut counts = Counts::new();
    for line in printed.lines().filter(|line| line.starts_with('{')) {
        let (name, count) = read(line)?;
        if words.is_empty() || words.iter().any(|word| name.contains(word)) {
            counts.insert(name, count);
        }
    }
    if counts.is_empty() {
        bail!("nothing was counted");
    }
    if is_writing {
        return write(&counts);
    }
    let mut kept = kept()?;
    kept.retain(|name, _| words.is_empty() || words.iter().any(|word| name.contains(word)));
    judge(&counts, &kept)
}

/// Fails, and says what to install, if a tool is missing.
fn ensure_tools() -> Result<()> {
    if shell::find("valgrind").is_none() {
        bail!("valgrind is missing; Debian and Ubuntu: apt-get install valgrind");
    }
    if shell::find("gungraun-runner").is_none() {
        let version = version_of("gungraun")?;
        bail!(
            "gungraun-runner is missing: cargo install --locked gungraun-runner --version {version}"
        );
    }
    Ok(())
}

/// Returns the version of a package that `Cargo.lock` names.
fn version_of(package: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Package>,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        version: String,
    }
    let path = shell::root().join("Cargo.lock");
    let text = std::fs::read_to_string(&path)?;
    let lock: Lock = toml::from_str(&text)?;
    let mut packages = lock.package.into_iter();
    let found = packages.find(|locked| locked.name == package);
    let found = found.with_context(|| format!("Cargo.lock does not name {package}"))?;
    Ok(found.version)
}

/// Reads one line of gungraun's output: what was done, such as `wire::decode_text::v2`, and its
/// instructions.
fn read(line: &str) -> Result<(String, u64)> {
    let summary: Value = serde_json::from_str(line)?;
    let path = summary["module_path"].as_str().unwrap_or_default();
    let path = path.split_once("::").map_or(path, |(_, path)| path);
    let id = summary["id"].as_str().unwrap_or_default();
    let count = summary.pointer("/profiles/0/data/total/metrics/Ir/values/new");
    let count = count.and_then(Value::as_u64);
    let count = count.with_context(|| format!("{path} has no count of instructions"))?;
    Ok((format!("{path}::{id}"), count))
}

fn path() -> PathBuf {
    shell::root().join("instructions/baseline.toml")
}

fn kept() -> Result<Counts> {
    let path = path();
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!(
            "no counts are kept in {}; {WRITE} keeps them",
            path.display()
        )
    })?;
    Ok(toml::from_str(&text)?)
}

fn write(counts: &Counts) -> Result<()> {
    let mut text = HEAD.to_owned();
    for (name, count) in counts {
        println!("{name:44} {count:>12}");
        text += &format!("\"{name}\" = {count}\n");
    }
    std::fs::write(path(), text)?;
    println!("{} counts are kept", counts.len());
    Ok(())
}

/// Prints each count with its change, and fails if one has grown too much, is new or is gone.
fn judge(counts: &Counts, kept: &Counts) -> Result<()> {
    let mut n_wrong = 0;
    for (name, count) in counts {
        let Some(before) = kept.get(name) else {
            println!("{name:44} {count:>12}   not kept yet");
            n_wrong += 1;
            continue;
        };
        let change = percent(*before, *count);
        let has_grown = change > MAX_GROWTH_PERCENT;
        let mark = if has_grown { "  has grown" } else { "" };
        println!("{name:44} {count:>12}  {change:+7.2} %{mark}");
        n_wrong += usize::from(has_grown);
    }
    for name in kept.keys().filter(|name| !counts.contains_key(*name)) {
        println!("{name:44} is kept but was not counted");
        n_wrong += 1;
    }
    if n_wrong > 0 {
        bail!(
            "{n_wrong} counts are not as kept; if that is meant: cargo xtask bench instructions {WRITE}"
        );
    }
    println!("instructions: no count has grown by more than {MAX_GROWTH_PERCENT} %");
    Ok(())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a percentage of instructions is never that exact"
)]
fn percent(before: u64, now: u64) -> f64 {
    (now as f64 - before as f64) * 100.0 / before as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counts: &[(&str, u64)]) -> Counts {
        let counts = counts.iter();
        counts.map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[test]
    fn a_count_may_shrink_but_not_grow_by_more_than_the_limit() {
        let kept = counts(&[("a::b", 1000)]);
        assert!(judge(&counts(&[("a::b", 1050)]), &kept).is_ok());
        assert!(judge(&counts(&[("a::b", 500)]), &kept).is_ok());
        assert!(judge(&counts(&[("a::b", 1051)]), &kept).is_err());
    }

    #[test]
    fn a_count_that_is_new_or_gone_is_told() {
        let (one, two) = (counts(&[("a", 1)]), counts(&[("a", 1), ("b", 1)]));
        assert!(judge(&two, &one).is_err());
        assert!(judge(&one, &two).is_err());
    }

    #[test]
    fn a_summary_has_a_name_and_a_count() {
        let line = r#"{"module_path": "counts::wire::decode_text", "id": "v2", "profiles":
            [{"data": {"total": {"metrics": {"Ir": {"values": {"new": 7, "old": 8}}}}}}]}"#;
        let (name, count) = read(line).unwrap();
        assert_eq!((name.as_str(), count), ("wire::decode_text::v2", 7));
        assert!(read("{}").is_err(), "a line without a count");
    }

    #[test]
    fn the_runner_has_the_version_of_the_library() {
        assert!(version_of("gungraun").is_ok());
        assert!(version_of("no such package").is_err());
    }
}
