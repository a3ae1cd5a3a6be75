//! A server with the room of the reference's suites, and a WebSocket client that sees every frame.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use herenow_channels::{
    Broadcast, Channel, Connected, Flow, Joined, Outcome, Params, Payload, Reason, Refused, Socket,
    Sockets,
};
use herenow_pubsub::PubSub;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// How long a test waits for what must come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Name(pub(crate) String);

/// Announces who enters, marks messages, and says goodbye.
pub(crate) struct Room;

impl Channel for Room {
    const INTERCEPT: &'static [&'static str] = &["new_msg"];

    async fn join(&mut self, socket: &mut Socket, params: Params) -> Result<Joined, Refused> {
        match params.optional::<String>("how").ok().flatten().as_deref() {
            Some("refuse") => return Err(Refused::reply(json!({ "action": "ignore" }))),
            Some("crash") => panic!("as the client asked"),
            Some("slow") => tokio::time::sleep(Duration::from_secs(1)).await,
            Some("plain") => return Ok(Joined::reply(json!({ "action": "ok" }))),
            _ => {}
        }
        let user: Option<String> = params.optional("user").unwrap_or_default();
        socket.broadcast("user_entered", json!({ "user": user }))?;
        let name = socket.assigns().get::<Name>().map(|name| name.0.clone());
        socket.push("joined", json!({ "status": "connected", "name": name }))?;
        Ok(Joined::empty())
    }

    async fn handle_in(&mut self, socket: &mut Socket, event: &str, payload: Payload) -> Outcome {
        match event {
            "boom" => panic!("as the client asked"),
            "new_msg" => {
                socket.broadcast("new_msg", payload).unwrap();
                Outcome::ok(())
            }
            "shout" => {
                socket.broadcast("shout", payload).unwrap();
                Outcome::ok(())
            }
            "three" => {
                socket.push("one", json!({})).unwrap();
                socket.broadcast("two", json!({})).unwrap();
                Outcome::ok(())
            }
            "binary_event" => match payload {
                Payload::Binary(bytes) => Outcome::ok([&bytes[..], &[3, 4]].concat()),
                Payload::Json(_) => Outcome::error(()),
            },
            "push_binary" => {
                socket.push("bytes", vec![0_u8, 1]).unwrap();
                Outcome::noreply()
            }
            "echo" => Outcome::ok(payload),
            "later" => {
                let handle = socket.handle();
                tokio::spawn(async move { handle.push("pushed", json!({ "later": true })) });
                Outcome::noreply()
            }
            "stop" => Outcome::stop(Reason::Normal),
            "odd" => Outcome::stop(Reason::Other("odd".into())),
            "hang" => std::future::pending().await,
            _ => Outcome::error(json!({ "reason": "unknown event" })),
        }
    }

    async fn handle_out(&mut self, socket: &mut Socket, broadcast: Broadcast) -> Flow {
        let herenow_pubsub::Payload::Json(text) = &broadcast.payload else {
            return Flow::Continue;
        };
        let mut message: Value = serde_json::from_slice(text).unwrap();
        message["transport"] = json!("websocket");
        socket.push("new_msg", message).unwrap();
        Flow::Continue
    }

    async fn terminate(&mut self, socket: &mut Socket, reason: &Reason) {
        // The connection may be gone already.
        let _gone = socket.push("you_left", json!({ "message": "bye!" }));
        let told = json!({ "topic": socket.topic(), "reason": format!("{reason:?}") });
        let payload = herenow_pubsub::Payload::Json(told.to_string().into());
        socket
            .pubsub()
            .local_broadcast("terminated", "terminated", payload);
    }
}

/// Sockets with the room on `room:*`; the query's `name` is assigned, its `id` is the id.
pub(crate) fn sockets(pubsub: &PubSub) -> Sockets {
    Sockets::new(pubsub).channel("room:*", || Room).connect(
        async |info: herenow_channels::ConnectInfo| {
            let mut connected = Connected::anonymous();
            connected.id = info.param("id").map(Into::into);
            if let Some(name) = info.param("name") {
                connected = connected.assign(Name(name.to_owned()));
            }
            Ok(connected)
        },
    )
}

/// Serves the sockets at `/socket` until the test ends; their websocket URL without the query.
pub(crate) async fn start(sockets: Sockets) -> String {
    let address = start_app(Router::new().nest("/socket", sockets.into_router())).await;
    format!("ws://{address}/socket/websocket")
}

/// Serves an application until the test ends.
pub(crate) async fn start_app(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// Waits for something that must come.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(DEADLINE, what)
        .await
        .expect("it should have come by now")
}

/// Waits until a condition holds.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A message as either version writes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Seen {
    pub(crate) join_ref: Value,
    pub(crate) message_ref: Value,
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Value,
}

/// A WebSocket client.
pub(crate) struct Client {
    pub(crate) stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    is_v1: bool,
}

impl Client {
    pub(crate) async fn v1(url: &str) -> Self {
        Self::connect(&format!("{url}?vsn=1.0.0"), true).await
    }

    pub(crate) async fn v2(url: &str) -> Self {
        Self::connect(&format!("{url}?vsn=2.0.0"), false).await
    }

    pub(crate) async fn connect(url: &str, is_v1: bool) -> Self {
        let (stream, _) = soon(tokio_tungstenite::connect_async(url)).await.unwrap();
        Self { stream, is_v1 }
    }

    /// Sends a message with join ref `join_ref`, where the version has one.
    pub(crate) async fn send(
        &mut self,
        refs: (&str, &str),
        topic: &str,
        event: &str,
        payload: Value,
    ) {
        let (join_ref, message_ref) = refs;
        let text = if self.is_v1 {
            json!({
                "join_ref": join_ref, "ref": message_ref, "topic": topic, "event": event,
                "payload": payload,
            })
        } else {
            json!([join_ref, message_ref, topic, event, payload])
        };
        self.send_json(&text).await;
    }

    pub(crate) async fn send_json(&mut self, json: &Value) {
        self.send_message(Message::text(json.to_string())).await;
    }

    pub(crate) async fn send_message(&mut self, message: Message) {
        soon(self.stream.send(message)).await.unwrap();
    }

    /// Joins and takes the reply.
    pub(crate) async fn join(&mut self, topic: &str, params: Value) -> Value {
        self.send(("11", "1"), topic, "phx_join", params).await;
        self.reply(("11", "1"), topic).await
    }

    /// Joins without the room's announcements.
    pub(crate) async fn join_plain(&mut self, topic: &str) {
        let payload = self.join(topic, json!({ "how": "plain" })).await;
        assert_eq!(payload["status"], "ok");
    }

    /// Takes the next message, which must be a reply with these refs; its payload.
    pub(crate) async fn reply(&mut self, refs: (&str, &str), topic: &str) -> Value {
        let seen = self.next().await;
        assert_eq!(
            (seen.event.as_str(), seen.topic.as_str()),
            ("phx_reply", topic),
            "{seen:?}"
        );
        assert_eq!(seen.message_ref, refs.1, "{seen:?}");
        if !self.is_v1 {
            assert_eq!(seen.join_ref, refs.0, "{seen:?}");
        }
        seen.payload
    }

    pub(crate) async fn next_message(&mut self) -> Message {
        soon(self.stream.next())
            .await
            .expect("the stream should not end")
            .unwrap()
    }

    pub(crate) async fn next(&mut self) -> Seen {
        match self.next_message().await {
            Message::Text(text) => self.read(serde_json::from_str(&text).unwrap()),
            other => panic!("expected text, got {other:?}"),
        }
    }

    fn read(&self, json: Value) -> Seen {
        if self.is_v1 {
            assert_eq!(json.as_object().unwrap().len(), 4, "{json}");
            return Seen {
                join_ref: Value::Null,
                message_ref: json["ref"].clone(),
                topic: json["topic"].as_str().unwrap().to_owned(),
                event: json["event"].as_str().unwrap().to_owned(),
                payload: json["payload"].clone(),
            };
        }
        assert_eq!(json.as_array().unwrap().len(), 5, "{json}");
        Seen {
            join_ref: json[0].clone(),
            message_ref: json[1].clone(),
            topic: json[2].as_str().unwrap().to_owned(),
            event: json[3].as_str().unwrap().to_owned(),
            payload: json[4].clone(),
        }
    }

    /// Takes the next message, which must be this event on the topic; its payload.
    pub(crate) async fn event(&mut self, topic: &str, event: &str) -> Value {
        let seen = self.next().await;
        assert_eq!(
            (seen.topic.as_str(), seen.event.as_str()),
            (topic, event),
            "{seen:?}"
        );
        seen.payload
    }

    /// Asserts that everything sent so far has been handled and nothing more has been answered.
    pub(crate) async fn assert_silent(&mut self) {
        let text = if self.is_v1 {
            json!({ "topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "silent" })
        } else {
            json!([null, "silent", "phoenix", "heartbeat", {}])
        };
        self.send_json(&text).await;
        let seen = self.next().await;
        assert_eq!(
            (seen.topic.as_str(), seen.message_ref),
            ("phoenix", json!("silent"))
        );
    }

    /// Waits for the close frame, past other messages; its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        loop {
            match soon(self.stream.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("closed without a close frame: {other:?}"),
            }
        }
    }
}

/// The status of a handshake that is refused.
pub(crate) async fn refused(url: &str) -> u16 {
    match soon(tokio_tungstenite::connect_async(url)).await {
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => response.status().as_u16(),
        other => panic!("expected a refusal, got {other:?}"),
    }
}
