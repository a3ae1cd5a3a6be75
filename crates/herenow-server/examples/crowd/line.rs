//! A client's end of a connection, and where it connects to: streams in memory, or TCP.

use std::cell::Cell;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use super::wire::{Backlog, Wire};

/// Connections over TCP that may wait for the answer to their handshake: fewer than the backlog of
/// the system holds, which drops those who come after, and they try again a second later.
const MAX_ASKED: usize = 900;

/// Where a server is to be found.
#[derive(Clone)]
pub(crate) enum Way {
    Memory(Backlog),
    Tcp(SocketAddr),
}

impl Way {
    pub(crate) fn connect(&self) -> Line {
        match self {
            Self::Memory(backlog) => Line::Memory(backlog.connect()),
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("the backlog has room");
                let set = stream.set_nodelay(true);
                set.and_then(|()| stream.set_nonblocking(true))
                    .expect("a stream of the system's");
                let is_closed = Cell::new(false);
                Line::Tcp { stream, is_closed }
            }
        }
    }

    /// Returns how many may wait for the answer to their handshake.
    pub(crate) fn max_asked(&self) -> usize {
        match self {
            Self::Memory(_) => usize::MAX,
            Self::Tcp(_) => MAX_ASKED,
        }
    }
}

/// The client's end.
pub(crate) enum Line {
    Memory(Arc<Wire>),
    Tcp {
        stream: TcpStream,
        /// Known once it was read.
        is_closed: Cell<bool>,
    },
}

impl Line {
    pub(crate) fn send(&self, parts: &[&[u8]]) {
        match self {
            Self::Memory(wire) => wire.send(parts),
            Self::Tcp { stream, is_closed } => {
                // What clients say here always fits into the system's buffer.
                let sent = (&*stream).write_all(&parts.concat());
                is_closed.set(is_closed.get() || sent.is_err());
            }
        }
    }

    /// Takes all that has come.
    pub(crate) fn take(&self) -> Vec<u8> {
        match self {
            Self::Memory(wire) => wire.take(),
            Self::Tcp { stream, is_closed } => {
                let mut bytes = Vec::new();
                match (&*stream).read_to_end(&mut bytes) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => is_closed.set(true),
                }
                bytes
            }
        }
    }

    pub(crate) fn hang_up(&self) {
        match self {
            Self::Memory(wire) => wire.hang_up(),
            Self::Tcp { stream, .. } => {
                // It may be gone already.
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }

    /// Tells whether the server has hung up, as far as it was read.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::Memory(wire) => wire.is_closed(),
            Self::Tcp { is_closed, .. } => is_closed.get(),
        }
    }
}
