//! Bytes, written to sockets as fast as they take them: what no server can be faster than.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use super::super::meter::until;
use super::super::server;
use super::Took;

/// What is written to a socket before the next has its turn.
const TURN_BYTES: usize = 64 << 10;

/// Writes so many bytes to each of as many sockets in one thread, and reads them in this one.
pub(super) fn run(bytes: &[usize]) -> anyhow::Result<Took> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let mut writers = Vec::with_capacity(bytes.len());
    let mut readers = Vec::with_capacity(bytes.len());
    for n_bytes in bytes {
        let reader = TcpStream::connect(address)?;
        let (writer, _) = listener.accept()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        writers.push((writer, *n_bytes));
        readers.push((reader, *n_bytes));
    }
    let (began, cpu) = (Instant::now(), server::cpu());
    // Named like a server's, whose CPU time is counted by that name while it is there.
    let (done, is_done) = std::sync::mpsc::channel();
    let (leave, may_leave) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::Builder::new().name(server::THREAD.to_owned());
    let thread = thread.spawn(move || {
        until("the copy", || write_some(&mut writers));
        done.send(()).expect("the other thread waits for it");
        let _ = may_leave.recv(); // Until the other end is dropped.
    })?;
    let mut buffer = vec![0; 1 << 20];
    until("the bytes", || read_some(&mut readers, &mut buffer));
    is_done.recv()?;
    let took = Took {
        wall: began.elapsed(),
        cpu: server::cpu() - cpu,
    };
    drop(leave);
    thread.join().expect("it only writes");
    Ok(took)
}

/// Writes to each what it takes of a turn; tells whether all is written.
fn write_some(writers: &mut Vec<(TcpStream, usize)>) -> bool {
    static BYTES: [u8; TURN_BYTES] = [b'x'; TURN_BYTES];
    writers.retain_mut(|(stream, n_left)| {
        match stream.write(&BYTES[..TURN_BYTES.min(*n_left)]) {
            Ok(n_bytes) => *n_left -= n_bytes,
            Err(error) => assert!(error.kind() == ErrorKind::WouldBlock, "{error}"),
        }
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
