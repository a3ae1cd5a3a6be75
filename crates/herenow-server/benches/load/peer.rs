//! [`Peer`]: a connection that keeps no list, for those works where nobody is asked for one.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::process::Server;

/// How long anything may take before the run has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);
/// Thousands of connections in one process have no room for more.
const BUFFER_BYTES: usize = 4 << 10;

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) struct Peer {
    outgoing: mpsc::UnboundedSender<String>,
    replies: Rc<Replies>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Replies {
    n_replies: Cell<usize>,
    came: Notify,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connects so many, each with what takes in the texts that it is told.
pub(crate) async fn connect_all<F: FnMut(&str) + 'static>(
    server: &Server,
    n_peers: usize,
    take_in: impl Fn(usize) -> F,
) -> Vec<Peer> {
    let url = format!("ws://{}/socket/websocket?vsn=2.0.0", server.address);
    let mut peers = Vec::with_capacity(n_peers);
    for n in 0..n_peers {
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = BUFFER_BYTES;
        config.write_buffer_size = 0;
        let (stream, _) = connect_async_with_config(&url, Some(config), true)
            .await
            .unwrap();
        let (outgoing, queue) = mpsc::unbounded_channel();
        let replies = Rc::new(Replies::default());
        let conversation = converse(stream, queue, replies.clone(), take_in(n));
        peers.push(Peer {
            outgoing,
            replies,
            task: tokio::task::spawn_local(conversation),
        });
    }
    peers
}

impl Peer {
    /// Joins a topic, as a user or to look on, and waits for the answer.
    pub(crate) async fn join(&self, topic: &str, user: Option<&str>) {
        let params = user.map_or_else(|| "{}".into(), |user| format!(r#"{{"user_id":"{user}"}}"#));
        let n_before = self.replies.n_replies.get();
        let join = format!(r#"["1","1","{topic}","phx_join",{params}]"#);
        self.outgoing.send(join).unwrap();
        while self.replies.n_replies.get() == n_before {
            self.replies.came.notified().await;
        }
    }

    /// Says a number to everybody on a topic.
    pub(crate) fn say(&self, topic: &str, number: usize) {
        let padding = "x".repeat(100);
        let message = format!(r#"["1",null,"{topic}","shout",{{"n":{number},"x":"{padding}"}}]"#);
        self.outgoing.send(message).unwrap();
    }
}

async fn converse(
    mut stream: Stream,
    mut queue: mpsc::UnboundedReceiver<String>,
    replies: Rc<Replies>,
    mut take_in: impl FnMut(&str),
) {
    loop {
        tokio::select! {
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    if text.contains("\"phx_reply\"") {
                        assert!(text.contains(r#""status":"ok""#), "{text}");
                        replies.n_replies.set(replies.n_replies.get() + 1);
                        replies.came.notify_one();
                    } else {
                        take_in(&text);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
            Some(text) = queue.recv() => {
                if stream.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    until_some(what, || async { is_so().then_some(()) }).await;
}

/// Waits until there is something.
pub(crate) async fn until_some<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        sleep(LOOK).await;
    }
}
