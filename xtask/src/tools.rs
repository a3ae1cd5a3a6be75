//! Installs the programs that the chores need and the machine lacks.
//!
//! Rust tools come from crates.io in a fixed version, everything else from the system's own
//! packages (Debian and Ubuntu). What is there already is used as it is.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::shell;

/// A cargo subcommand, and the version to install where there is none.
struct CargoTool {
    name: &'static str,
    version: &'static str,
}

const NEXTEST: CargoTool = CargoTool {
    name: "cargo-nextest",
    version: "0.9.143",
};
const DENY: CargoTool = CargoTool {
    name: "cargo-deny",
    version: "0.20.2",
};
const MACHETE: CargoTool = CargoTool {
    name: "cargo-machete",
    version: "0.9.2",
};

const DEB: CargoTool = CargoTool {
    name: "cargo-deb",
    version: "3.8.0",
};

/// Programs of tests and the packages they are in: the brokers, what cuts networks, what judges
/// units, what checks alarms, and what the guides' commands need. Debian's are in `/usr/sbin` or on
/// the path.
const TEST_PROGRAMS: [(&str, &str); 8] = [
    ("nats-server", "nats-server"),
    ("redis-server", "redis-server"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("promtool", "prometheus"),
    ("systemd-analyze", "systemd"),
    ("curl", "curl"),
    ("openssl", "openssl"),
];

/// Where Debian keeps the programs of PostgreSQL, those of each version by themselves. One that is
/// called `postgres` may be on the path, too, but tests do not use it.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Names under which Chromium is installed; Debian's comes first.
const BROWSERS: [&str; 5] = [
    "chromium",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
    "chrome",
];

/// Installs what `cargo xtask ci` needs.
pub(crate) fn ensure_checkers() -> Result<()> {
    // One feature of ours, which the checks turn on like every other, builds an allocator in C.
    if shell::find("make").is_none() {
        install_packages(&["make"])?;
    }
    ensure_cargo_tool(&DENY)?;
    ensure_cargo_tool(&MACHETE)
}

/// Installs what makes Debian packages: cargo-deb, and what tells it the libraries that a program
/// needs.
pub(crate) fn ensure_cargo_deb() -> Result<()> {
    let missing = [("make", "make"), ("dpkg-shlibdeps", "dpkg-dev")];
    let missing = missing
        .iter()
        .filter(|(name, _)| shell::find(name).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !packages.is_empty() {
        install_packages(&packages)?;
    }
    ensure_cargo_tool(&DEB)
}

/// Installs what makes a Debian in a folder and boots it.
pub(crate) fn ensure_containers() -> Result<()> {
    let missing = [
        ("mmdebstrap", "mmdebstrap"),
        ("systemd-nspawn", "systemd-container"),
    ];
    let missing = missing
        .iter()
        .filter(|(name, _)| shell::find(name).is_none());
    let packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    match packages.is_empty() {
        true => Ok(()),
        false => install_packages(&packages),
    }
}

/// Installs the test runner, and the programs that tests start.
pub(crate) fn ensure_nextest() -> Result<()> {
    ensure_brokers()?;
    ensure_cargo_tool(&NEXTEST)
}

/// Installs the programs that tests start, the brokers among them.
pub(crate) fn ensure_brokers() -> Result<()> {
    let missing = missing_programs();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    Ok(())
}

/// Returns the packages of those programs of tests that are not here.
fn missing_programs() -> Vec<&'static str> {
    let is_here =
        |name: &str| shell::find(name).is_some() || Path::new("/usr/sbin").join(name).exists();
    let missing = TEST_PROGRAMS.iter().filter(|(name, _)| !is_here(name));
    let mut missing: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if !has_postgres() {
        missing.push("postgresql");
    }
    missing
}

/// Tells whether some version of PostgreSQL is here with the programs that tests start.
fn has_postgres() -> bool {
    let mut versions = std::fs::read_dir(POSTGRES).into_iter().flatten().flatten();
    versions.any(|version| version.path().join("bin/initdb").exists())
}

/// Installs what the end-to-end tests need: the brokers, Node.js, npm, Python and a browser.
pub(crate) fn ensure_e2e() -> Result<()> {
    let mut missing = missing_programs();
    if shell::find("node").is_none() {
        missing.push("nodejs");
    }
    if shell::find("npm").is_none() {
        missing.push("npm");
    }
    if browser().is_none() {
        missing.push(browser_package());
    }
    if !has_python() {
        missing.extend(["python3", "python3-venv"]);
    }
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    if browser().is_none() {
        bail!("no Chromium found, and installing one did not help");
    }
    Ok(())
}

/// Whether there is a Python that can make virtual environments with pip in them: Debian has that
/// part in a package of its own.
fn has_python() -> bool {
    let can = shell::output(&mut shell::command(
        "python3",
        &["-c", "import ensurepip, venv"],
    ));
    shell::find("python3").is_some() && can.is_ok()
}

/// Makes a virtual environment at `folder` that has `requirements`, unless it is there and has
/// them; returns its Python.
pub(crate) fn ensure_python(folder: &Path, requirements: &Path) -> Result<PathBuf> {
    let text = |path: &Path| path.display().to_string();
    let (python, pip) = (folder.join("bin/python"), folder.join("bin/pip"));
    // pip is put there last, so without it the environment is not whole.
    if !python.is_file() || !pip.is_file() {
        let arguments = ["-m", "venv", "--clear", &text(folder)];
        shell::run(&mut shell::command("python3", &arguments))?;
    }
    let requirements = text(requirements);
    let arguments = ["-m", "pip", "install", "--quiet", "-r", &requirements];
    shell::run(
        shell::command(&text(&python), &arguments).env("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
    )?;
    Ok(python)
}

/// Returns where the browser is: the environment's `CHROMIUM`, or the first one on the path.
pub(crate) fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| BROWSERS.iter().find_map(|name| shell::find(name)))
}

/// Ubuntu keeps its browser under another name than Debian.
fn browser_package() -> &'static str {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    if release.lines().any(|line| line == "ID=ubuntu") {
        "chromium-browser"
    } else {
        "chromium"
    }
}

fn ensure_cargo_tool(tool: &CargoTool) -> Result<()> {
    if shell::find(tool.name).is_some() {
        return Ok(());
    }
    // It runs for seconds and is built once: building fast matters more than what it builds.
    // Nor does it belong in the target folder, which is ours and may be shared.
    shell::run(
        shell::cargo(&["install", "--locked", tool.name, "--version", tool.version])
            .env_remove("CARGO_TARGET_DIR")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    )
}

fn install_packages(packages: &[&str]) -> Result<()> {
    if shell::find("apt-get").is_none() {
        bail!(
            "please install {}: only Debian's and Ubuntu's packages are installed by themselves",
            packages.join(", ")
        );
    }
    apt_get(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt_get(&arguments)
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let is_root = shell::output(&mut shell::command("id", &["-u"]))?.trim() == "0";
    let mut words = vec!["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
    words.extend(arguments);
    let mut command = if is_root {
        shell::command(words[0], &words[1..])
    } else {
        shell::command("sudo", &words)
    };
    shell::run(&mut command)
}
