//! `cargo xtask deb` and `cargo xtask static`: what is installed on servers.
//!
//! The package's contents are listed in `crates/herenow-server/Cargo.toml`; what has to be made
//! first (the program, its manual pages and completions) is put into `target/package`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{e2e, shell, tools};

/// What the packaged program can do: cluster by every engine, and give memory back.
const FEATURES: &str = "nats,redis,jemalloc,sql";

/// The manual pages, each with the command that it is of.
const MANUALS: [(&str, &[&str]); 8] = [
    ("herenow", &[]),
    ("herenow-serve", &["serve"]),
    ("herenow-token", &["token"]),
    ("herenow-watch", &["watch"]),
    ("herenow-config", &["config"]),
    ("herenow-config-check", &["config", "check"]),
    ("herenow-config-show", &["config", "show"]),
    ("herenow-config-reference", &["config", "reference"]),
];

/// The completions, each with its shell.
const COMPLETIONS: [(&str, &str); 3] = [
    ("herenow.bash", "bash"),
    ("_herenow", "zsh"),
    ("herenow.fish", "fish"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Package this program instead of building one: a static one, say.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Builds the program as it is released, and the package around it.
pub(crate) fn run(options: &Options) -> Result<()> {
    tools::ensure_cargo_deb()?;
    let program = match &options.program {
        Some(program) => program.clone(),
        None => build(&[], None)?,
    };
    let folder = shell::root().join("target/package");
    fs::create_dir_all(&folder).context("cannot make target/package")?;
    fs::copy(&program, folder.join("herenow"))
        .with_context(|| format!("cannot copy {}", program.display()))?;
    let print = |file: &str, arguments: &[&str]| {
        let text = shell::output(&mut shell::command(
            &program.display().to_string(),
            arguments,
        ))?;
        fs::write(folder.join(file), text).with_context(|| format!("cannot write {file}"))
    };
    for (name, path) in MANUALS {
        print(&format!("{name}.1"), &[&["man"], path].concat())?;
    }
    for (file, shell) in COMPLETIONS {
        print(file, &["completions", shell])?;
    }
    let package = folder.join("herenow.deb");
    shell::run(&mut shell::cargo(&[
        "deb",
        "--locked",
        "--no-build",
        "--no-strip",
        "--package=herenow-server",
        "--output",
        &package.display().to_string(),
    ]))?;
    println!("\n{}", package.display());
    shell::run(&mut shell::command(
        "dpkg-deb",
        &["--info", &package.display().to_string()],
    ))
}

/// Builds a program that needs no library of the machine it runs on, and shows that it does not.
pub(crate) fn run_static() -> Result<()> {
    let target = host()?;
    // glibc's own resolver would look for libraries at run time; names are resolved by it all the
    // same, with what of it is linked in, and files under /etc.
    let program = build(
        &["--target", &target],
        Some("-C target-feature=+crt-static"),
    )?;
    let text = shell::run_and_keep(&mut shell::command(
        "ldd",
        &[&program.display().to_string()],
    ))?;
    if !text.text.contains("statically linked") && !text.text.contains("not a dynamic executable") {
        bail!("{} is not static: {}", program.display(), text.text);
    }
    println!("\n{}", program.display());
    Ok(())
}

/// Builds the program as it is released, and returns where it is.
fn build(arguments: &[&str], flags: Option<&str>) -> Result<PathBuf> {
    let fixed = [
        "build",
        "--locked",
        "--release",
        "--package=herenow-server",
        "--features",
        FEATURES,
    ];
    let mut command = shell::cargo(&[&fixed, arguments].concat());
    command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    if let Some(flags) = flags {
        command.env("RUSTFLAGS", flags);
    }
    shell::run(&mut command)?;
    let folder = e2e::target_folder()?;
    let target = arguments
        .iter()
        .skip_while(|word| **word != "--target")
        .nth(1);
    let folder = target.map_or(folder.clone(), |target| folder.join(target));
    let program = folder.join("release").join("herenow");
    match program.is_file() {
        true => Ok(program),
        false => bail!("{} was not built", program.display()),
    }
}

/// The target that rustc builds for when it is not told.
fn host() -> Result<String> {
    let text = shell::output(&mut shell::command("rustc", &["--version", "--verbose"]))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn srv_950_the_package_names_only_files_that_there_are() {
        check().unwrap();
    }

    #[test]
    fn srv_951_the_maintainer_scripts_are_shell_that_can_be_read() {
        for name in ["postinst", "prerm", "postrm"] {
            let script = Path::new("ops/debian").join(name).display().to_string();
            shell::run(&mut shell::command("sh", &["-n", &script])).unwrap();
        }
    }

    #[test]
    fn srv_952_systemd_finds_nothing_wrong_with_the_units() {
        let root = shell::root().join("target/xtask-units");
        fs::create_dir_all(&root).unwrap();
        // The program is not installed here, and a manual page neither.
        let unit = fs::read_to_string(shell::root().join("ops/systemd/herenow.service")).unwrap();
        let here = std::env::current_exe().unwrap().display().to_string();
        let unit = unit.replace("/usr/bin/herenow", &here);
        let unit: Vec<&str> = unit
            .lines()
            .filter(|line| !line.starts_with("Documentation="))
            .collect();
        fs::write(root.join("herenow.service"), unit.join("\n")).unwrap();
        let socket = shell::root().join("ops/systemd/herenow.socket");
        fs::copy(socket, root.join("herenow.socket")).unwrap();
        let units =
            ["herenow.service", "herenow.socket"].map(|name| root.join(name).display().to_string());
        let kept = shell::run_and_keep(&mut shell::command(
            "systemd-analyze",
            &["verify", &units[0], &units[1]],
        ));
        let kept = kept.unwrap();
        assert!(kept.success, "{}", kept.text);
        assert!(!kept.text.contains("herenow"), "{}", kept.text);
    }

    /// Checks that the package is made of files that are in the repository, or made by [`run`].
    fn check() -> Result<()> {
        let folder = shell::root().join("crates/herenow-server");
        let text =
            fs::read_to_string(folder.join("Cargo.toml")).context("cannot read Cargo.toml")?;
        let manifest: toml::Table = toml::from_str(&text).context("cannot read Cargo.toml")?;
        let deb = &manifest["package"]["metadata"]["deb"];
        let assets = deb["assets"].as_array().context("there are no assets")?;
        let files = assets.iter().filter_map(|asset| asset[0].as_str());
        let scripts = deb["maintainer-scripts"]
            .as_str()
            .context("there are no scripts")?;
        let scripts = ["postinst", "prerm", "postrm"].map(|name| format!("{scripts}/{name}"));
        for file in files.map(str::to_owned).chain(scripts) {
            if !is_made(&file) && !folder.join(&file).is_file() {
                bail!("the package has {file}, which is no file");
            }
        }
        Ok(())
    }

    fn is_made(file: &str) -> bool {
        let Some(name) = file.strip_prefix("../../target/package/") else {
            return false;
        };
        let is_manual = |(manual, _): &(&str, &[&str])| name.strip_suffix(".1") == Some(manual);
        name == "herenow"
            || MANUALS.iter().any(is_manual)
            || COMPLETIONS.iter().any(|(file, _)| *file == name)
    }
}
