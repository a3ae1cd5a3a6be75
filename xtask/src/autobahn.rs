//! `cargo xtask autobahn`: the Autobahn suite for WebSockets against `/echo/websocket`.
//!
//! The suite is a program of its own, `wstest`, and runs on Python 2.7 only. In a virtualenv of it,
//! `pip install autobahntestsuite==0.8.2 'PyHamcrest<2' 'Twisted<21' 'cryptography<3.4'
//! 'pyOpenSSL<22'`. The tests have its cases in our own words, so this is no part of them.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::json;

use crate::e2e::target_folder;
use crate::shell;

const AGENT: &str = "herenow";
/// All but those of compression, which is left out.
const CASES: [&str; 9] = [
    "1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*",
];

/// What the suite says of one case.
#[derive(Deserialize)]
struct Verdict {
    behavior: String,
    #[serde(rename = "behaviorClose")]
    behavior_close: String,
}

/// Runs the suite and fails if it finds a fault.
pub(crate) fn run() -> Result<()> {
    let wstest = std::env::var_os("WSTEST").map(PathBuf::from);
    let Some(wstest) = wstest.or_else(|| shell::find("wstest")) else {
        bail!("there is no `wstest` on the path, nor does WSTEST name one");
    };
    let folder = std::env::temp_dir().join(format!("herenow-autobahn-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let (mut server, address) = start()?;
    let spec = json!({
        "outdir": folder,
        "servers": [{ "agent": AGENT, "url": format!("ws://{address}/echo/websocket") }],
        "cases": CASES,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    });
    let path = folder.join("spec.json");
    fs::write(&path, spec.to_string())?;
    let path = path.to_string_lossy();
    let arguments = ["-m", "fuzzingclient", "-s", &path];
    let ran = shell::run(&mut shell::command(&wstest.to_string_lossy(), &arguments));
    server.kill()?;
    server.wait()?;
    ran?;
    judge(&fs::read_to_string(folder.join("index.json"))?)
}

/// Starts a server on a free port and waits until it listens.
fn start() -> Result<(Child, SocketAddr)> {
    shell::run(&mut shell::cargo(&[
        "build",
        "--locked",
        "--package",
        "herenow-server",
    ]))?;
    let program = target_folder()?.join("debug").join("herenow");
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let listen = address.to_string();
    let arguments = [
        "serve",
        "--ws-echo",
        "--log-level",
        "warn",
        "--listen",
        &listen,
    ];
    let mut server = shell::command(&program.to_string_lossy(), &arguments).spawn()?;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = server.try_wait()? {
            bail!("the server ended: {status}");
        }
        // Between two looks: a process says nothing when it begins to listen.
        thread::sleep(Duration::from_millis(20));
    }
    Ok((server, address))
}

fn judge(report: &str) -> Result<()> {
    let mut report: BTreeMap<String, BTreeMap<String, Verdict>> = serde_json::from_str(report)?;
    let cases = report.remove(AGENT).context("the report has no cases")?;
    let mut n_of: BTreeMap<&str, usize> = BTreeMap::new();
    let mut n_faults = 0;
    for (case, verdict) in &cases {
        *n_of.entry(&verdict.behavior).or_default() += 1;
        let is_fault = |word: &str| !matches!(word, "OK" | "INFORMATIONAL" | "NON-STRICT");
        if is_fault(&verdict.behavior) || is_fault(&verdict.behavior_close) {
            n_faults += 1;
            println!(
                "{case}: {}, closing {}",
                verdict.behavior, verdict.behavior_close
            );
        }
    }
    println!("autobahn: {} cases: {n_of:?}", cases.len());
    if n_faults > 0 {
        bail!("{n_faults} cases have failed");
    }
    Ok(())
}
