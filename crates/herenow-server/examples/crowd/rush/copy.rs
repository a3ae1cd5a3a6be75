//! Bytes, written to sockets as fast as they take them.

use std::io::{ErrorKind, Read as _};
use std::net::TcpStream;
use std::time::Instant;

use super::super::bare;
use super::super::meter::until;
use super::super::server;
use super::Took;

/// What is written to a socket before the next has its turn.
const TURN_BYTES: usize = 64 << 10;

/// Writes so many bytes to each of as many sockets in one thread, and reads them in this one.
pub(super) fn run(bytes: &[usize]) -> anyhow::Result<Took> {
    let (writers, readers) = bare::pairs(bytes.len())?;
    let with_bytes = |streams: Vec<TcpStream>| -> Vec<_> {
        std::iter::zip(streams, bytes.iter().copied()).collect()
    };
    let (mut writers, mut readers) = (with_bytes(writers), with_bytes(readers));
    let (began, cpu) = (Instant::now(), server::cpu());
    let (done, is_done) = std::sync::mpsc::channel();
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    bare::thread(move || {
        until("the copy", || write_some(&mut writers));
        done.send(()).expect("the other thread waits for it");
        let _ = may_leave.recv(); // Until the other end is dropped.
    })?;
    let mut buffer = vec![0; 1 << 20];
    until("the bytes", || read_some(&mut readers, &mut buffer));
    is_done.recv()?;
    let took = Took {
        wall: began.elapsed(),
        cpu: server::cpu_since(cpu),
    };
    drop(leave);
    Ok(took)
}

/// Writes to each what it takes of a turn; tells whether all is written.
fn write_some(writers: &mut Vec<(TcpStream, usize)>) -> bool {
    static BYTES: [u8; TURN_BYTES] = [b'x'; TURN_BYTES];
    writers.retain_mut(|(stream, n_left)| {
        *n_left -= bare::write(stream, &BYTES[..TURN_BYTES.min(*n_left)]);
        *n_left > 0
    });
    writers.is_empty()
}

fn read_some(readers: &mut [(TcpStream, usize)], buffer: &mut [u8]) -> bool {
    for (stream, n_left) in readers.iter_mut().filter(|(_, n_left)| *n_left > 0) {
        match stream.read(buffer) {
            Ok(n_bytes) => *n_left -= n_bytes,
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
        }
    }
    readers.iter().all(|(_, n_left)| *n_left == 0)
}
