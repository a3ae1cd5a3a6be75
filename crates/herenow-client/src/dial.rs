//! How bytes get to the server: TCP, or what the application brings (TLS, a proxy, a pipe).

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A stream that can carry a WebSocket.
pub trait IoStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> IoStream for S {}

/// What [`Dial::dial`] returns.
pub type Dialed<'a> = Pin<Box<dyn Future<Output = io::Result<Box<dyn IoStream>>> + Send + 'a>>;

/// Opens streams to the server, one for each connection.
pub trait Dial: Send + Sync + fmt::Debug {
    /// Opens a stream. `is_tls` is true for `wss` and `https` URLs.
    fn dial<'a>(&'a self, host: &'a str, port: u16, is_tls: bool) -> Dialed<'a>;
}

/// Plain TCP without delay of small packets; refuses TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpDial;

impl Dial for TcpDial {
    fn dial<'a>(&'a self, host: &'a str, port: u16, is_tls: bool) -> Dialed<'a> {
        Box::pin(async move {
            if is_tls {
                let text = "wss:// needs TLS, which is not built in: a program can hand in a Dial that speaks it";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
            let stream = TcpStream::connect((host, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn IoStream>)
        })
    }
}
