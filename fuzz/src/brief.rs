//! The engine of every build: replays what is kept, then mutates it for a while.
//!
//! It does not look at coverage, so it finds little that is new by itself; what libFuzzer found
//! and `fuzz/corpus` keeps is where it starts from.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use oorandom::Rand64;

use crate::mutate::mutated;
use crate::target::{Finding, Target};

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Inputs that are kept: seeds, corpus, regressions.
    pub n_kept: usize,
    /// Inputs that were made.
    pub n_made: u64,
}

/// An input that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// What it broke.
    pub finding: Finding,
    /// The input.
    pub input: Vec<u8>,
    /// Where it comes from: a file, a seed, or the number that repeats the run.
    pub origin: String,
}

/// Returns the folder of a target's inputs: `kind` is `corpus` or `regressions`.
pub fn folder(kind: &str, target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(kind)
        .join(target.name)
}

/// Checks all that is kept of a target, then inputs made of it until `time` is over.
///
/// The same `seed` makes the same inputs, as many as there is time for.
///
/// # Errors
///
/// The first input that breaks a promise.
pub fn run(target: &Target, time: Duration, seed: u64) -> Result<Summary, Box<Broken>> {
    let kept = kept(target);
    for (origin, input) in &kept {
        check(target, input, origin)?;
    }
    let origin = format!("made from seed {seed}");
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut random = Rand64::new(seed.into());
    let mut n_made = 0;
    let until = Instant::now() + time;
    while Instant::now() < until {
        check(
            target,
            &mutated(&mut random, &inputs, target.max_len),
            &origin,
        )?;
        n_made += 1;
    }
    let n_kept = inputs.len();
    Ok(Summary { n_kept, n_made })
}

/// Writes a target's seeds as files, for an engine that starts from files.
///
/// # Errors
///
/// What the file system said.
pub fn write_seeds(target: &Target, folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for (n, seed) in target.seeds().iter().enumerate() {
        fs::write(folder.join(format!("seed-{n}")), seed)?;
    }
    Ok(())
}

fn check(target: &Target, input: &[u8], origin: &str) -> Result<(), Box<Broken>> {
    target.check(input).map_err(|finding| {
        Box::new(Broken {
            finding,
            input: input.to_vec(),
            origin: origin.to_owned(),
        })
    })
}

/// Everything that is kept of a target, with where it comes from; never empty.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let seeds = target.seeds().into_iter().enumerate();
    let mut kept: Vec<_> = seeds.map(|(n, seed)| (format!("seed {n}"), seed)).collect();
    for kind in ["regressions", "corpus"] {
        let folder = folder(kind, target);
        // A target of which nothing is kept yet has no folder.
        let files = fs::read_dir(&folder).into_iter().flatten();
        let paths: BTreeSet<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
        for path in paths {
            let input = fs::read(&path).expect("a file of the repository can be read");
            kept.push((path.display().to_string(), input));
        }
    }
    kept.push(("nothing".to_owned(), Vec::new()));
    kept
}
