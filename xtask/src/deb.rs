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
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
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

    #[test]
    fn srv_1220_what_packaged_documents_lead_to_is_packaged() {
        let assets = assets().unwrap();
        let folder = shell::root().join("crates/herenow-server");
        let packaged: Vec<PathBuf> = assets
            .iter()
            .filter_map(|(file, _)| folder.join(file).canonicalize().ok())
            .collect();
        let mut n_links = 0;
        for document in packaged
            .iter()
            .filter(|file| file.extension() == Some("md".as_ref()))
        {
            let text = fs::read_to_string(document).unwrap();
            for link in text.split("](").skip(1) {
                let link = link.split([')', '#']).next().unwrap_or_default();
                if link.is_empty() || link.contains("://") {
                    continue;
                }
                let target = document.with_file_name(link).canonicalize().unwrap();
                // A folder is there if something in it is.
                let is_there = packaged.iter().any(|file| file.starts_with(&target));
                assert!(is_there, "{}: {link}", document.display());
                n_links += 1;
            }
        }
        assert!(
            n_links > 60,
            "{n_links} links are not what the documents have"
        );
        // As in the repository, or the links would not do.
        for (file, installed) in &assets {
            let Some(place) = file
                .strip_prefix("../../")
                .filter(|_| installed.contains("/doc/"))
            else {
                continue;
            };
            let place = place.rsplit_once('/').map_or("", |(folder, _)| folder);
            let installed = installed.trim_start_matches("usr/share/doc/herenow/");
            assert_eq!(installed.trim_end_matches('/'), place, "{file}");
        }
    }

    #[test]
    fn srv_1221_secrets_are_made_once_and_a_purge_leaves_nothing() {
        let machine = Machine::new();
        machine.run("postinst", &["configure", ""]);
        let secrets = machine.secrets();
        assert_eq!(secrets[0].trim_end().len(), 64);
        assert_eq!(
            secrets[1]
                .trim_end()
                .strip_prefix("operator:admin:")
                .unwrap()
                .len(),
            64
        );
        for name in SECRETS {
            let mode = fs::metadata(machine.0.join(name))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o640, "{name}");
        }
        assert!(machine.0.join("user").exists());
        assert!(
            !machine.calls().contains("restart"),
            "installing starts nothing"
        );

        machine.run("postinst", &["configure", "0.1.0-1"]);
        assert_eq!(machine.secrets(), secrets, "an upgrade keeps them");
        let calls = machine.calls();
        assert!(
            calls.contains("systemctl --quiet try-restart herenow.service\n"),
            "{calls}"
        );

        machine.run("prerm", &["upgrade", "0.1.0-1"]);
        assert!(
            !machine.calls().contains("stop"),
            "an upgrade keeps the socket open"
        );
        machine.run("prerm", &["remove"]);
        let calls = machine.calls();
        assert!(
            calls.contains("stop herenow.service herenow.socket\n"),
            "{calls}"
        );
        assert!(
            calls.contains("disable herenow.service herenow.socket\n"),
            "{calls}"
        );
        machine.run("postrm", &["remove"]);
        assert_eq!(machine.secrets(), secrets, "so does removing");

        machine.run("postrm", &["purge"]);
        for gone in ["etc", "lib", "user"] {
            assert!(!machine.0.join(gone).exists(), "{gone} is left");
        }
    }

    #[test]
    fn srv_1222_systemd_gives_the_service_little() {
        let unit = shell::root().join("ops/systemd/herenow.service");
        let arguments = ["security", "--offline=yes", "--threshold=20"];
        let unit = unit.display().to_string();
        let kept = shell::run_and_keep(&mut shell::command(
            "systemd-analyze",
            &[&arguments[..], &[&unit]].concat(),
        ));
        assert!(kept.unwrap().success, "its exposure is over 2.0 of 10");
    }

    const SECRETS: [&str; 2] = ["etc/jwt.secret", "etc/api.keys"];

    /// A folder in which the maintainer scripts run, with stand-ins for what changes users and
    /// services; these write down how they were called.
    struct Machine(PathBuf);

    impl Machine {
        fn new() -> Self {
            let folder = shell::root().join("target/xtask-scripts");
            let _none = fs::remove_dir_all(&folder);
            for name in ["bin", "etc", "lib/state", "run"] {
                fs::create_dir_all(folder.join(name)).unwrap();
            }
            let machine = Self(folder);
            for (name, does) in [
                ("adduser", "touch \"$root/user\""),
                ("deluser", "rm \"$root/user\""),
                ("getent", "[ -e \"$root/user\" ]"),
                ("chown", ":"),
                ("systemctl", ":"),
            ] {
                let root = machine.0.display();
                let text = format!(
                    "#!/bin/sh\nroot='{root}'\necho {name} \"$@\" >>\"$root/calls\"\n{does}\n"
                );
                let file = machine.0.join("bin").join(name);
                fs::write(&file, text).unwrap();
                fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
            }
            machine
        }

        fn run(&self, script: &str, arguments: &[&str]) {
            let text = fs::read_to_string(shell::root().join("ops/debian").join(script)).unwrap();
            let place = |name: &str| self.0.join(name).display().to_string();
            let text = text
                .replace("/etc/herenow", &place("etc"))
                .replace("/var/lib/herenow", &place("lib"))
                .replace("/run/systemd/system", &place("run"));
            fs::write(self.0.join(script), text).unwrap();
            fs::write(self.0.join("calls"), "").unwrap();
            let path = std::env::var("PATH").unwrap();
            let mut command = shell::command("sh", &[&place(script)]);
            command
                .args(arguments)
                .env("PATH", format!("{}:{path}", place("bin")));
            shell::run(&mut command).unwrap();
        }

        fn secrets(&self) -> Vec<String> {
            let read = |name: &str| fs::read_to_string(self.0.join(name)).unwrap();
            SECRETS.map(read).to_vec()
        }

        fn calls(&self) -> String {
            fs::read_to_string(self.0.join("calls")).unwrap()
        }
    }

    /// The files of the package, each with where it is installed.
    fn assets() -> Result<Vec<(String, String)>> {
        let manifest = shell::root().join("crates/herenow-server/Cargo.toml");
        let text = fs::read_to_string(manifest).context("cannot read Cargo.toml")?;
        let manifest: toml::Table = toml::from_str(&text).context("cannot read Cargo.toml")?;
        let assets = &manifest["package"]["metadata"]["deb"]["assets"];
        let text = |value: &toml::Value| value.as_str().map(str::to_owned);
        let assets = assets.as_array().context("there are no assets")?.iter();
        let assets = assets.map(|asset| Some((text(&asset[0])?, text(&asset[1])?)));
        assets.collect::<Option<_>>().context("an asset is no text")
    }

    /// Checks that the package is made of files that are in the repository, or made by [`run`].
    fn check() -> Result<()> {
        let folder = shell::root().join("crates/herenow-server");
        let scripts =
            ["postinst", "prerm", "postrm"].map(|name| format!("../../ops/debian/{name}"));
        let files = assets()?.into_iter().map(|(file, _)| file);
        for file in files.chain(scripts) {
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
