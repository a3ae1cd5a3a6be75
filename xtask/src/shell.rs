//! Runs other programs from the root of the repository, and says what it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), std::path::Path::to_path_buf)
}

/// Returns a command that runs in the root of the repository.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What `cargo run` tells us about ourselves is wrong for every other package, and some cargo
    // subcommands take it for a sign that they were not started by cargo.
    for (name, _) in std::env::vars_os() {
        let shown = name.to_string_lossy();
        if shown.starts_with("CARGO_PKG_") || shown.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Returns a cargo command, of the same toolchain that runs this program.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    command(&cargo, arguments)
}

/// Runs a command with our own standard streams and fails if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = announce(command);
    let start = Instant::now();
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot start `{line}`"))?;
    println!("    took {:.1} s", start.elapsed().as_secs_f32());
    if !status.success() {
        bail!("`{line}` failed: {status}");
    }
    Ok(())
}

/// What a command that was shown and kept has left.
pub(crate) struct Kept {
    /// Whether it exited with 0.
    pub(crate) success: bool,
    /// All that it printed, standard output first.
    pub(crate) text: String,
}

/// Runs a command, shows what it prints and keeps it too. A failure is the caller's to judge.
pub(crate) fn run_and_keep(command: &mut Command) -> Result<Kept> {
    let line = announce(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    let stdout = child
        .stdout
        .take()
        .map(|pipe| keep(pipe, std::io::stdout()));
    let stderr = child
        .stderr
        .take()
        .map(|pipe| keep(pipe, std::io::stderr()));
    let mut text = String::new();
    for reader in [stdout, stderr].into_iter().flatten() {
        match reader.join() {
            Ok(part) => text.push_str(&part),
            Err(_) => bail!("lost the output of `{line}`"),
        }
    }
    let status = child.wait().with_context(|| format!("lost `{line}`"))?;
    println!("    took {:.1} s", start.elapsed().as_secs_f32());
    Ok(Kept {
        success: status.success(),
        text,
    })
}

/// Returns what a command prints on its standard output, and fails if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = words(command);
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{line}` did not print UTF-8"))
}

/// Returns where a program is: on the search path, or where cargo installs to.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo_home = cargo_home.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    std::env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

fn keep(
    pipe: impl Read + Send + 'static,
    mut shown: impl Write + Send + 'static,
) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut kept = String::new();
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            // A closed terminal must not end the run that we are counting.
            let _ = shown.write_all(&line).and_then(|()| shown.flush());
            kept.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
        kept
    })
}

fn announce(command: &Command) -> String {
    let line = words(command);
    println!("\n==> {line}");
    line
}

fn words(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let arguments = command.get_args().map(|word| word.to_string_lossy());
    std::iter::once(program.into())
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
