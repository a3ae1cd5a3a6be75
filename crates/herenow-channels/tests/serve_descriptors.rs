//! The accept loop when the process has no file descriptor left. A process of its own, for it
//! takes them all.
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

#[path = "support/http.rs"]
#[allow(dead_code)] // Other suites use the rest of it.
mod http;
#[path = "support/log.rs"]
mod log;

use std::fs::File;

use axum::Router;
use axum::routing::get;
use herenow_channels::serve;
use tokio::net::{TcpListener, TcpSocket};

use self::http::Http;
use self::log::Log;

#[tokio::test]
async fn soc_127_running_out_of_descriptors_is_survived() {
    let (log, _guard) = Log::start();
    let app = Router::new().route("/", get(async || "here"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, app, std::future::pending()));
    assert_eq!(Http::connect(address).await.get("/").await.status, 200);

    let socket = TcpSocket::new_v4().unwrap();
    let mut files = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        files.push(file);
    }
    let mut client = Http::from_stream(socket.connect(address).await.unwrap());
    client
        .write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    log.contains("accept failed").await;
    drop(files);
    assert_eq!(client.read_response().await.unwrap().status, 200);
}
