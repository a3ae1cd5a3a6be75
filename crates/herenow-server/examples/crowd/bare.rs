//! Sockets without a server: what no server can be faster than.

use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream};

use super::server;

/// Connects so many sockets to as many; returns those who write and those who read.
pub(crate) fn pairs(n: usize) -> anyhow::Result<(Vec<TcpStream>, Vec<TcpStream>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (mut writers, mut readers) = (Vec::with_capacity(n), Vec::with_capacity(n));
    for _ in 0..n {
        let reader = TcpStream::connect(address)?;
        let (writer, _) = listener.accept()?;
        for stream in [&reader, &writer] {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
        }
        writers.push(writer);
        readers.push(reader);
    }
    Ok((writers, readers))
}

/// Writes what the socket takes of some bytes; returns how many.
pub(crate) fn write(mut to: &TcpStream, bytes: &[u8]) -> usize {
    match to.write(bytes) {
        Ok(n_bytes) => n_bytes,
        Err(error) => {
            assert!(error.kind() == ErrorKind::WouldBlock, "{error}");
            0
        }
    }
}

/// Runs in a thread that is called like a server's, whose CPU time is counted by that name for as
/// long as it is there.
pub(crate) fn thread(run: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    let thread = std::thread::Builder::new().name(server::THREAD.to_owned());
    thread.spawn(run)?;
    Ok(())
}
