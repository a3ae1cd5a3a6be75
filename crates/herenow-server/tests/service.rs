//! The program under a service manager: what it is told, the socket it hands in, and its signals.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/rig.rs"]
mod rig;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use self::certificates::{Authority, shown};

/// How long anything may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program as a service, and its log.
struct Service {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Service {
    /// Starts it with a socket as its third descriptor, as systemd does.
    fn with_socket(socket: TcpListener, arguments: &[&str]) -> Self {
        let script = "exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
        let mut command = Command::new("sh");
        command
            .args(["-c", script, "sh"])
            .stdin(OwnedFd::from(socket));
        command.args([env!("CARGO_BIN_EXE_herenow"), "serve", "--log-format=json"]);
        Self::spawn(command.args(arguments))
    }

    fn spawn(command: &mut Command) -> Self {
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HERENOW_")) {
            command.env_remove(name);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log until a line with this text, and returns it.
    fn logs(&mut self, text: &str) -> Value {
        let mut line = String::new();
        loop {
            line.clear();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "no {text:?}");
            if line.contains(text) {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }

    /// Where it says that it listens.
    fn address(&mut self) -> SocketAddr {
        let line = self.logs("herenow is here");
        let url = line["fields"]["socket"].as_str().unwrap();
        let (_, rest) = url.split_once("://").unwrap();
        rest.trim_end_matches("/socket").parse().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([name, &pid]).status().unwrap();
        assert!(status.success());
    }

    /// Asks it to stop, and returns the rest of its log.
    fn stop(mut self) -> String {
        self.signal("-TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(0), "{rest}");
        rest
    }
}

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn new() -> Self {
        // The path of a socket must be short.
        let path = std::env::temp_dir().join(format!("herenow-{}.notify", std::process::id()));
        let _old = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path }
    }

    fn hears(&self) -> String {
        let mut bytes = [0; 1024];
        let n_bytes = self.socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n_bytes].to_vec()).unwrap()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

fn request(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
}

fn answer(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn srv_940_the_manager_hears_of_start_reload_and_stop() {
    let manager = Manager::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
    command
        .args(["serve", "--listen=127.0.0.1:0", "--log-format=json"])
        .env("NOTIFY_SOCKET", &manager.path);
    let mut service = Service::spawn(&mut command);
    assert_eq!(manager.hears(), "READY=1\n");
    // It is true what it said.
    let mut stream = TcpStream::connect(service.address()).unwrap();
    request(&mut stream);
    assert!(answer(stream).ends_with("ok\n"));
    service.signal("-HUP");
    let reloading = manager.hears();
    let since = reloading
        .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
        .unwrap();
    assert!(since.trim().parse::<u64>().unwrap() > 0, "{reloading}");
    assert_eq!(manager.hears(), "READY=1\n");
    service.logs("nothing that it reloads");
    let log = service.stop();
    assert_eq!(manager.hears(), "STOPPING=1\n", "{log}");
}

#[test]
fn srv_941_the_managers_socket_is_listened_on_and_a_restart_refuses_nobody() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut service = Service::with_socket(socket.try_clone().unwrap(), &[]);
    assert_eq!(service.address(), address);
    let mut stream = TcpStream::connect(address).unwrap();
    request(&mut stream);
    assert!(answer(stream).ends_with("ok\n"));
    service.stop();
    // Nobody serves now, and nobody is refused: it waits in the socket for the next one.
    let mut waiting = TcpStream::connect(address).unwrap();
    request(&mut waiting);
    let service = Service::with_socket(socket, &[]);
    assert!(answer(waiting).ends_with("ok\n"));
    service.stop();
}

#[test]
fn srv_942_who_is_believed_depends_on_the_managers_socket_not_on_the_configuration() {
    // `listen` says loopback, where dev mode would be on by itself; the socket is for everybody.
    let socket = TcpListener::bind("0.0.0.0:0").unwrap();
    let mut service = Service::with_socket(socket, &["--listen=127.0.0.1:4000"]);
    let mut log = String::new();
    service.log.read_to_string(&mut log).unwrap();
    assert_eq!(service.child.wait().unwrap().code(), Some(1), "{log}");
    assert!(log.contains("and not where `listen` says"), "{log}");
    assert!(log.contains("0.0.0.0:"), "{log}");
    assert!(log.contains("is not a loopback address"), "{log}");
}

#[tokio::test]
async fn srv_903_a_certificate_that_is_none_changes_nothing_and_is_logged() {
    let authority = Authority::new("srv-903");
    let old = authority.install();
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_herenow"));
    command.args(["serve", "--listen=127.0.0.1:0", "--log-format=json"]);
    // Only a signal has it look.
    command.args([
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
        "--tls-reload-interval=1d",
    ]);
    let mut service = Service::spawn(&mut command);
    let address = service.address();
    let other = authority.leaf();
    fs::write(&key, &other.key).unwrap();
    service.signal("-HUP");
    let line = service.logs("the TLS certificate stays as it was");
    let error = line["fields"]["error"].as_str().unwrap();
    let expected = format!("tls.key {key}: it is not the key of the certificate in {cert}");
    assert_eq!(error, expected);
    assert_eq!(shown(&authority.connect(address).await.unwrap()), old.der);
    fs::write(&cert, &other.pem).unwrap();
    service.signal("-HUP");
    service.logs("TLS certificate reloaded");
    assert_eq!(shown(&authority.connect(address).await.unwrap()), other.der);
    service.stop();
}
