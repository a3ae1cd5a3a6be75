//! `cargo xtask fresh`: the package on a machine that has nothing yet.
//!
//! Makes a minimal Debian in a folder, boots its systemd in a container without any network, has a
//! user type the five commands of README, and then does what an operator does, from `systemctl
//! reload` to a purge: `xtask/fresh/inside.sh`. It needs root, and Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::{shell, tools};

/// What happens inside.
const INSIDE: &str = include_str!("../fresh/inside.sh");

/// Under which heading README has the five commands.
const HEADING: &str = "## Install on a server";

/// What a server has that the smallest Debian lacks; adduser is what the package needs, and there
/// is no network to get it by.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,adduser,ca-certificates,sudo,curl";

/// How long the machine may take until its first process is there.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The release of Debian.
    #[arg(long, default_value = "bookworm")]
    release: String,
    /// The package; without it, what `cargo xtask deb` has built last.
    #[arg(long, value_name = "FILE")]
    package: Option<PathBuf>,
}

/// Installs, uses and purges the package on a fresh machine.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::ensure_containers()?;
    let built = shell::root().join("target/package/herenow.deb");
    let package = options.package.as_ref().unwrap_or(&built);
    ensure!(
        package.is_file(),
        "there is no {}: `cargo xtask deb`",
        package.display()
    );
    let folder = shell::root().join("target/fresh");
    fs::create_dir_all(&folder).context("cannot make target/fresh")?;
    let machine = folder.join(&options.release);
    make(&machine, &options.release)?;
    furnish(&machine, package)?;
    let mut booted = Booted::boot(&machine)?;
    let outcome = booted.run(&["bash", "/home/op/inside.sh"]);
    booted.stop()?;
    outcome?;
    fs::remove_dir_all(&machine).with_context(|| format!("cannot remove {}", machine.display()))
}

/// Makes a minimal Debian, out of an archive of one that was made before if there is one.
fn make(machine: &Path, release: &str) -> Result<()> {
    let archive = machine.with_extension("tar").display().to_string();
    if !Path::new(&archive).is_file() {
        let include = format!("--include={PACKAGES}");
        let arguments = ["--variant=minbase", &include, release, &archive];
        shell::run(&mut shell::command("mmdebstrap", &arguments))?;
    }
    if machine.exists() {
        fs::remove_dir_all(machine)
            .with_context(|| format!("cannot remove {}", machine.display()))?;
    }
    fs::create_dir_all(machine).with_context(|| format!("cannot make {}", machine.display()))?;
    let into = machine.display().to_string();
    shell::run(&mut shell::command("tar", &["-xf", &archive, "-C", &into]))
}

/// Gives it a name, and a user who may use sudo and has in their home what they need.
fn furnish(machine: &Path, package: &Path) -> Result<()> {
    fs::write(machine.join("etc/hostname"), "fresh\n").context("cannot name the machine")?;
    fs::write(machine.join("etc/hosts"), "127.0.0.1 localhost fresh\n")?;
    let root = machine.display().to_string();
    let arguments = [&root, "useradd", "--create-home", "--shell=/bin/bash", "op"];
    shell::run(&mut shell::command("chroot", &arguments))?;
    fs::write(
        machine.join("etc/sudoers.d/op"),
        "op ALL=(ALL) NOPASSWD:ALL\n",
    )?;
    let home = machine.join("home/op");
    fs::copy(package, home.join("herenow.deb")).context("cannot copy the package")?;
    fs::write(home.join("commands"), five_commands()?)?;
    fs::write(home.join("inside.sh"), INSIDE)?;
    let arguments = [&root, "chown", "--recursive", "op:op", "/home/op"];
    shell::run(&mut shell::command("chroot", &arguments))
}

/// Returns the five commands as README has them, one a line.
fn five_commands() -> Result<String> {
    let readme = fs::read_to_string(shell::root().join("README.md")).context("no README.md")?;
    let (_, rest) = readme
        .split_once(HEADING)
        .context("README has no such heading")?;
    let (_, rest) = rest
        .split_once("```sh\n")
        .context("README has no commands there")?;
    let (commands, _) = rest
        .split_once("```")
        .context("README's commands do not end")?;
    ensure!(
        commands.lines().count() == 5,
        "README has not five commands:\n{commands}"
    );
    Ok(commands.to_owned())
}

/// A machine whose systemd runs, ended with this.
struct Booted {
    container: Child,
    /// Its first process, as we see it.
    init: String,
}

impl Booted {
    fn boot(machine: &Path) -> Result<Self> {
        // The unified hierarchy of control groups, whatever this machine has: newer systemds want
        // it.
        let script = "mount -t cgroup2 none /sys/fs/cgroup && exec systemd-nspawn \"$@\"";
        let folder = format!("--directory={}", machine.display());
        let arguments = ["--mount", "--propagation=slave", "sh", "-c", script, "sh"];
        let log = fs::File::create(machine.with_extension("log")).context("no log")?;
        let container = shell::command("unshare", &arguments)
            .args([
                "--boot",
                "--quiet",
                "--register=no",
                "--keep-unit",
                "--private-network",
            ])
            .args(["--console=read-only", "--machine=fresh", &folder])
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("no log")?)
            .stderr(log)
            .spawn()
            .context("cannot start a container")?;
        let mut booted = Self {
            container,
            init: String::new(),
        };
        booted.init = booted.first_process(machine)?;
        Ok(booted)
    }

    /// Waits until the container has its first process.
    fn first_process(&mut self, machine: &Path) -> Result<String> {
        let nspawn = self.container.id();
        let children = format!("/proc/{nspawn}/task/{nspawn}/children");
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.container.try_wait()? {
                let log = fs::read_to_string(machine.with_extension("log")).unwrap_or_default();
                bail!("the container ended, {status}: {log}");
            }
            let child = fs::read_to_string(&children).unwrap_or_default();
            let child = child.split_whitespace().next().map(str::to_owned);
            let name = child
                .as_ref()
                .and_then(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok());
            if let (Some(id), Some("systemd")) = (child, name.as_deref().map(str::trim)) {
                return Ok(id);
            }
            // Between two looks: nothing tells that a container has its first process.
            thread::sleep(Duration::from_millis(100));
        }
        bail!("systemd did not start within {PATIENCE:?}")
    }

    /// Runs a command inside, as root.
    fn run(&self, words: &[&str]) -> Result<()> {
        shell::run(&mut self.command(words))
    }

    fn command(&self, words: &[&str]) -> Command {
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut command = shell::command("nsenter", &["--target", &self.init]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup"]);
        command.args([
            "env",
            "--ignore-environment",
            path,
            "HOME=/root",
            "LANG=C.UTF-8",
            "TERM=dumb",
        ]);
        command.arg("DEBIAN_FRONTEND=noninteractive").args(words);
        command
    }

    fn stop(&mut self) -> Result<()> {
        // It is gone before it can answer.
        let _asked = self.command(&["systemctl", "poweroff"]).status();
        self.container.wait().context("lost the container")?;
        Ok(())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ended = self.container.kill();
        let _gone = self.container.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1223_readme_has_five_commands_from_nothing_to_who_is_here() {
        let commands = five_commands().unwrap();
        let begins = [
            "sudo apt install",
            "sudo systemctl enable",
            "token=",
            "herenow watch",
            "curl",
        ];
        for (command, begin) in commands.lines().zip(begins) {
            assert!(command.starts_with(begin), "{command}");
        }
    }

    #[test]
    fn srv_1224_what_is_done_inside_is_shell_that_can_be_read() {
        let script = "xtask/fresh/inside.sh";
        shell::run(&mut shell::command("bash", &["-n", script])).unwrap();
    }
}
