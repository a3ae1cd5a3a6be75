//! A PostgreSQL of the test's own: Debian's programs, a directory that goes away with it, and a
//! socket in that directory, so that no port has to be found. Over TCP it is reached through a
//! [`Proxy`], which can stall, or cut what goes through it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// How long PostgreSQL may take to start or stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where Debian keeps the programs, one directory for each version. One may be on the path, but it
/// may also be some other program.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Numbers the directories of this process.
static N_STARTED: AtomicUsize = AtomicUsize::new(0);

/// A database server.
#[derive(Debug)]
pub(crate) struct Postgres {
    programs: PathBuf,
    directory: PathBuf,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Postgres {
    /// Starts one that listens on its own socket only.
    pub(crate) fn start() -> Self {
        Self::with(&["listen_addresses="]).unwrap()
    }

    /// Starts one with certificates, on a port of 127.0.0.1, which is returned. A port has to be
    /// known before it is taken, so another one is tried if somebody else takes it first.
    pub(crate) fn start_with_tls(certificate: &str, key: &str) -> (Self, u16) {
        for _ in 0..20 {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let mut server = Self::prepare(&[
                "listen_addresses=127.0.0.1",
                &format!("port={port}"),
                "ssl=on",
                "ssl_cert_file=server.crt",
                "ssl_key_file=server.key",
            ]);
            for (name, text) in [("server.crt", certificate), ("server.key", key)] {
                let path = server.data().join(name);
                std::fs::write(&path, text).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(&path, mode).unwrap();
                server.give_away(&path);
            }
            if server.run() {
                return (server, port);
            }
        }
        panic!("no port was free for PostgreSQL");
    }

    fn with(settings: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(settings);
        server.run().then_some(server)
    }

    /// Makes the directory and the files of a server.
    fn prepare(settings: &[&str]) -> Self {
        let n = N_STARTED.fetch_add(1, Ordering::Relaxed);
        // Short, for the path of a socket may have 107 bytes.
        let name = format!("herenow-pg-{}-{n}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _stale = std::fs::remove_dir_all(&directory);
        std::fs::create_dir(&directory).unwrap();
        let server = Self {
            programs: programs(),
            directory,
            settings: settings
                .iter()
                .map(|setting| (*setting).to_owned())
                .collect(),
            process: None,
        };
        server.give_away(&server.directory);
        let data = server.data();
        let made = server
            .command("initdb")
            .args([
                "--auth=trust",
                "--username=postgres",
                "--no-sync",
                "--encoding=UTF8",
            ])
            .args(["--locale=C", "--pgdata"])
            .arg(&data)
            .stdout(Stdio::null())
            .status();
        assert!(made.unwrap().success(), "initdb");
        server
    }

    /// Starts the server; tells whether it takes connections.
    fn run(&mut self) -> bool {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data());
        let socket = format!("unix_socket_directories={}", self.directory.display());
        let fast = [
            "fsync=off",
            "shared_buffers=16MB",
            "max_connections=64",
            &socket,
        ];
        for setting in fast
            .into_iter()
            .chain(self.settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let is_up = log.any(|line| line.unwrap().contains("ready to accept connections"));
        // It would stop writing, and then working, if nobody read its log.
        std::thread::spawn(move || log.for_each(drop));
        self.process = Some(process);
        if !is_up {
            self.stop();
        }
        is_up
    }

    /// Starts it again, with what it had.
    pub(crate) fn restart(&mut self) {
        self.stop();
        assert!(self.run(), "PostgreSQL does not start again");
    }

    /// Stops it: connections are ended, and nobody gets a new one.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // SIGINT: a fast shutdown, which rolls back and ends.
            let pid = process.id().to_string();
            let told = Command::new("kill").args(["-INT", &pid]).status();
            assert!(told.is_ok());
            let deadline = Instant::now() + PATIENCE;
            while process.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "PostgreSQL does not stop");
                // Between two looks: a child process cannot be waited for with a deadline.
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Runs statements.
    pub(crate) fn execute(&self, statements: &str) {
        let output = self
            .command("psql")
            .args(["--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1"])
            .args(["--username", "postgres", "--dbname", "postgres", "--host"])
            .arg(&self.directory)
            .args(["--port", &self.port().to_string(), "--command", statements])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// The URL by its own socket.
    pub(crate) fn url(&self) -> String {
        let (host, port) = (self.directory.display(), self.port());
        format!("postgres://postgres@localhost:{port}/postgres?host={host}")
    }

    /// Where its socket is.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{}", self.port()))
    }

    fn port(&self) -> u16 {
        let mut settings = self.settings.iter();
        let port = settings.find_map(|setting| setting.strip_prefix("port="));
        port.map_or(5432, |port| port.parse().unwrap())
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// One of its programs, by a user that it accepts: root it does not.
    fn command(&self, name: &str) -> Command {
        let program = self.programs.join(name);
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                command.args([
                    "--reuid=postgres",
                    "--regid=postgres",
                    "--clear-groups",
                    "--",
                ]);
                command.arg(program);
                command
            }
            false => Command::new(program),
        };
        command.current_dir(&self.directory).env("LC_ALL", "C");
        command
    }

    fn give_away(&self, path: &Path) {
        if is_root() {
            let id = |flag| {
                let output = Command::new("id")
                    .args([flag, "postgres"])
                    .output()
                    .unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                text.trim()
                    .parse()
                    .expect("there is a user called postgres")
            };
            chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// The programs of the newest version that is installed.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir(VERSIONS).unwrap_or_else(|error| {
        panic!("{VERSIONS}: {error}; `cargo xtask test` installs PostgreSQL")
    });
    let mut found: Vec<(u32, PathBuf)> = versions
        .filter_map(|version| {
            let version = version.unwrap();
            let number = version.file_name().to_str()?.parse().ok()?;
            let programs = version.path().join("bin");
            programs
                .join("initdb")
                .exists()
                .then_some((number, programs))
        })
        .collect();
    found.sort();
    let (_, programs) = found
        .pop()
        .expect("PostgreSQL is installed with its programs");
    programs
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

/// What a proxy does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    /// Passes all on.
    Passes,
    /// Accepts connections and passes nothing on, as a network does that loses everything.
    Stalls,
    /// Ends all connections, and new ones too.
    Breaks,
}

/// Stands before a server's socket, at an address of TCP.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    traffic: watch::Sender<Traffic>,
    n_accepted: std::sync::Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one before `socket`.
    pub(crate) async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (traffic, watched) = watch::channel(Traffic::Passes);
        let n_accepted = std::sync::Arc::new(AtomicUsize::new(0));
        let counter = n_accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(carry(stream, socket.clone(), watched.clone()));
            }
        });
        Self {
            address,
            traffic,
            n_accepted,
        }
    }

    pub(crate) fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    /// How many connections were made to it so far.
    pub(crate) fn n_accepted(&self) -> usize {
        self.n_accepted.load(Ordering::Relaxed)
    }

    /// The URL of the database behind it.
    pub(crate) fn url(&self) -> String {
        format!(
            "postgres://postgres@{}/postgres?sslmode=disable",
            self.address
        )
    }
}

async fn carry(client: TcpStream, socket: PathBuf, traffic: watch::Receiver<Traffic>) {
    if *traffic.borrow() == Traffic::Breaks {
        return;
    }
    let Ok(server) = UnixStream::connect(socket).await else {
        return; // The server is down; so is this connection.
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, traffic.clone()) => {}
        () = pass(from_server, to_client, traffic) => {}
    }
}

/// Passes bytes on while the traffic does; ends with the connection.
async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut traffic: watch::Receiver<Traffic>,
) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = tokio::select! {
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(n) => n,
            },
            broken = traffic.wait_for(|now| *now == Traffic::Breaks) => {
                drop(broken);
                return;
            }
        };
        let goes_on = traffic.wait_for(|now| *now != Traffic::Stalls).await;
        if goes_on.is_ok_and(|now| *now == Traffic::Breaks) {
            return;
        }
        if to.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}
