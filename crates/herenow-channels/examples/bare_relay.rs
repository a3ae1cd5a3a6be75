//! What a relay costs that does nothing else: the floor under the figures of churn.
//!
//! One thread waits for sockets; a frame that comes in on one is answered by one frame to each
//! socket of its group. No WebSocket, no tasks, no presence, nothing allocated. The driver sends
//! 200 frames a second, each from another socket, as `churn` joins and leaves.
//!
//! ```sh
//! cargo build --release -p herenow-channels --example bare_relay
//! taskset -c 0 target/release/examples/bare_relay serve 10 & # sockets in a group
//! taskset -c 1 target/release/examples/bare_relay drive 10 $!
//! ```
#![allow(clippy::print_stdout, reason = "its figures are its output")]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 4112);
const N_SOCKETS: usize = 1_000;
const N_OPERATIONS: u32 = 1_600;
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes of a leave, and of a diff with one presence.
const BYTES_IN: usize = 67;
const BYTES_OUT: usize = 152;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let group = |text: &str| text.parse().map_err(io::Error::other);
    match arguments[..] {
        ["serve", size] => serve(group(size)?),
        ["drive", size, pid] => drive(group(size)?, pid),
        _ => Err(io::Error::other("serve GROUP, or drive GROUP PID")),
    }
}

fn serve(group: usize) -> io::Result<()> {
    const LISTENER: Token = Token(usize::MAX - 1);
    let mut listener = TcpListener::bind(ADDRESS)?;
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1_024));
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let (mut sockets, mut buffer) = (Vec::<TcpStream>::new(), vec![0; 64 << 10]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    registry.register(&mut socket, Token(sockets.len()), both)?;
                    sockets.push(socket);
                }
                continue;
            }
            let Token(at) = event.token();
            if !event.is_readable() {
                continue;
            }
            match sockets[at].read(&mut buffer) {
                Ok(0) => return Ok(()), // The driver is done.
                Ok(_) => {}
                Err(_) => continue,
            }
            let first = at / group * group;
            for socket in &mut sockets[first..first + group] {
                socket.write_all(&[b'x'; BYTES_OUT])?;
            }
        }
    }
}

fn drive(group: usize, pid: &str) -> io::Result<()> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1_024));
    let (mut sockets, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    for at in 0..N_SOCKETS {
        let socket = std::net::TcpStream::connect(ADDRESS)?;
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let mut socket = TcpStream::from_std(socket);
        let registry = poll.registry();
        registry.register(&mut socket, Token(at), Interest::READABLE)?;
        sockets.push(socket);
    }
    // The relay says nothing when it has accepted them all, and accepting must not be counted
    // below.
    thread::sleep(Duration::from_millis(300));
    let (before, start, mut n_bytes) = (cpu_nanos(pid)?, Instant::now(), 0);
    for operation in 1..=N_OPERATIONS {
        // Any order will do that does not visit neighbours one after the other.
        let at = operation as usize * 619 % N_SOCKETS;
        sockets[at].write_all(&buffer[..BYTES_IN])?;
        loop {
            let left = (start + PAUSE * operation).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            poll.poll(&mut events, Some(left))?;
            for event in &events {
                n_bytes += read_all(&mut sockets[event.token().0], &mut buffer)?;
            }
        }
    }
    let micros = (cpu_nanos(pid)? - before) as f64 / 1e3 / f64::from(N_OPERATIONS);
    let n_seen = group - 1;
    println!(
        "{micros:.0} us per operation, {:.1} us for each of {n_seen} who see it; {} of {} bytes seen",
        micros / n_seen as f64,
        n_bytes,
        N_OPERATIONS as usize * group * BYTES_OUT,
    );
    Ok(())
}

fn read_all(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_bytes = 0;
    loop {
        match socket.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n_bytes += n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(n_bytes),
            Err(error) => return Err(error),
        }
    }
}

/// Time that a process of one thread has run.
fn cpu_nanos(pid: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let first = text.split(' ').next().unwrap_or_default();
    first.parse().map_err(io::Error::other)
}
