//! What a server says that does not let a client in.
//!
//! A handshake that fails has read as much of the answer's body as came with its head, which may be
//! nothing. So its stream is only [`Lent`], and the rest is read here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::http::{Response, header};

use crate::dial::IoStream;

/// The most of a body that is read, in bytes.
const MAX_BODY_BYTES: usize = 4 << 10;
/// The most of it that is shown, in characters.
const MAX_SHOWN: usize = 200;
/// How long the rest of a body is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A stream that goes back to whoever lent it when it is dropped, if they still want it.
pub(crate) struct Lent {
    stream: Box<dyn IoStream>,
    back: Option<oneshot::Sender<Box<dyn IoStream>>>,
}

impl Lent {
    /// Lends a stream; it is back when what took it is dropped.
    pub(crate) fn new(stream: Box<dyn IoStream>) -> (Self, oneshot::Receiver<Box<dyn IoStream>>) {
        let (back, returned) = oneshot::channel();
        let back = Some(back);
        (Self { stream, back }, returned)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.back.take() {
            let stream = std::mem::replace(&mut self.stream, Box::new(tokio::io::empty()));
            let _unwanted = back.send(stream);
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Returns why the server refuses: the `reason` of its JSON, or its plain text, cut and without
/// what could do something to a terminal. `None` if it says neither, as the page of a proxy does.
pub(crate) async fn reason(
    response: &Response<Option<Vec<u8>>>,
    rest: Option<Box<dyn IoStream>>,
) -> Option<String> {
    let len = response.headers().get(header::CONTENT_LENGTH)?;
    let len: usize = len.to_str().ok()?.parse().ok()?;
    let len = len.min(MAX_BODY_BYTES);
    let mut body = response.body().clone().unwrap_or_default();
    if let Some(mut stream) = rest {
        let reading = async {
            while body.len() < len && stream.read_buf(&mut body).await? > 0 {}
            io::Result::Ok(())
        };
        // What has come until then is all that there is to show.
        let _ended = timeout(PATIENCE, reading).await;
    }
    body.truncate(len);
    let text = said(response, &body)?;
    Some(text.chars().take(MAX_SHOWN).map(harmless).collect())
}

fn said(response: &Response<Option<Vec<u8>>>, body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Reason {
        reason: String,
    }
    if let Ok(Reason { reason }) = serde_json::from_slice(body) {
        return Some(reason);
    }
    let kind = response.headers().get(header::CONTENT_TYPE)?;
    let is_text = kind.as_bytes().starts_with(b"text/plain");
    let text = std::str::from_utf8(body).ok()?.trim();
    (is_text && !text.is_empty()).then(|| text.to_owned())
}

/// A character as a terminal may have it.
fn harmless(character: char) -> String {
    match character {
        '"' | '\'' | '\\' => character.to_string(),
        other => other.escape_debug().to_string(),
    }
}
