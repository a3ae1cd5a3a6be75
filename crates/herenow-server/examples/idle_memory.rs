//! What an idle connection takes in a server's memory, on bare TCP and under TLS.
//!
//! Starts the program twice, opens that many WebSockets to each, has each join a topic without
//! presence, and reads the process's resident memory before and after.
//!
//! ```sh
//! cargo build --release -p herenow-server
//! cargo run --release -p herenow-server --example idle_memory -- target/release/herenow 2000
//! ```
#![allow(clippy::print_stdout, reason = "its figures are its output")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::{env, fs};

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Socket = WebSocketStream<Box<dyn Stream>>;

/// Connections that are opened first, for what is paid once.
const N_WARM: usize = 50;

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// A running program, ended with this.
struct Program {
    child: Child,
    address: SocketAddr,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _ended = self.child.wait();
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = env::args().skip(1);
    let (program, count) = (arguments.next(), arguments.next());
    let program = program.ok_or("PROGRAM and a number of connections")?;
    let count: usize = count.map_or(Ok(2_000), |count| count.parse())?;
    let folder = env::temp_dir().join(format!("idle-memory-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    fs::write(&cert, certificate.cert.pem())?;
    fs::write(&key, certificate.signing_key.serialize_pem())?;
    let files = [cert.display().to_string(), key.display().to_string()];
    let tls = ["--tls-cert", &files[0], "--tls-key", &files[1]];
    measure("TCP", start(&program, &[])?, None, count).await?;
    let connector = connector(certificate.cert.der().clone())?;
    measure("TLS", start(&program, &tls)?, Some(&connector), count).await?;
    fs::remove_dir_all(&folder)?;
    Ok(())
}

async fn measure(
    what: &str,
    program: Program,
    tls: Option<&TlsConnector>,
    count: usize,
) -> Outcome<()> {
    let mut sockets = Vec::new();
    for _ in 0..N_WARM {
        sockets.push(open(program.address, tls).await?);
    }
    let before = resident_kib(&program)?;
    for _ in 0..count {
        sockets.push(open(program.address, tls).await?);
    }
    let open = resident_kib(&program)?;
    for socket in &mut sockets[N_WARM..] {
        join(socket).await?;
    }
    let joined = resident_kib(&program)?;
    let each = |kib: usize| (kib - before) as f64 / count as f64;
    let (open, joined) = (each(open), each(joined));
    println!("{what}: {open:.1} KiB for each of {count} connections, {joined:.1} KiB joined");
    Ok(())
}

fn start(program: &str, more: &[&str]) -> Outcome<Program> {
    let arguments = ["serve", "--listen=127.0.0.1:0", "--log-format=json"];
    let topics = "--topics=[{ pattern = \"idle:*\" }]";
    let mut child = Command::new(program)
        .args([&arguments, more].concat())
        .args([topics, "--socket-idle-timeout=1h"])
        .stderr(Stdio::piped())
        .spawn()?;
    let log = child.stderr.take().ok_or("no log")?;
    for line in BufReader::new(log).lines() {
        let entry: Value = serde_json::from_str(&line?)?;
        if let Some(url) = entry["fields"]["socket"].as_str() {
            let (_, rest) = url.split_once("://").ok_or("no URL")?;
            let address = rest.trim_end_matches("/socket").parse()?;
            return Ok(Program { child, address });
        }
    }
    Err("it ended".into())
}

fn connector(root: CertificateDer<'static>) -> Outcome<TlsConnector> {
    let mut roots = RootCertStore::empty();
    roots.add(root)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

async fn open(address: SocketAddr, tls: Option<&TlsConnector>) -> Outcome<Socket> {
    let tcp = TcpStream::connect(address).await?;
    let stream: Box<dyn Stream> = match tls {
        Some(tls) => Box::new(tls.connect(ServerName::from(address.ip()), tcp).await?),
        None => Box::new(tcp),
    };
    let url = format!("ws://{address}/socket/websocket?vsn=2.0.0");
    Ok(client_async(url, stream).await?.0)
}

async fn join(socket: &mut Socket) -> Outcome<()> {
    let join = json!(["1", "1", "idle:1", "phx_join", {}]);
    socket.send(Message::text(join.to_string())).await?;
    let reply = socket.next().await.ok_or("closed")??;
    match reply.to_text()?.contains("\"ok\"") {
        true => Ok(()),
        false => Err(reply.to_text()?.into()),
    }
}

fn resident_kib(program: &Program) -> Outcome<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", program.child.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let line = line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB");
    Ok(line.parse()?)
}
