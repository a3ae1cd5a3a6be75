//! Requests for sockets, taken apart and judged.

use herenow_pubsub::LogLimit;
use http::Request;
use serde_json::json;

use super::*;
use crate::origin::CheckOrigin;

fn request(uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::get(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

async fn info(uri: &str, headers: &[(&str, &str)]) -> ConnectInfo {
    let forwarded = Forwarded::default();
    ConnectInfo::from_request(Transport::WebSocket, &forwarded, request(uri, headers))
        .await
        .unwrap()
}

async fn admit(uri: &str, headers: &[(&str, &str)]) -> Result<Admitted, Denied> {
    admit_websocket(
        &LogLimit::default(),
        &CheckOrigin::same_host(),
        &Forwarded::default(),
        &["sip".into()],
        request(uri, headers),
    )
    .await
}

fn pairs<'a>(
    headers: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Vec<(&'a str, &'a str)> {
    headers
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn soc_108_connect_info_sorts_headers_by_prefix() {
    let info = info(
        "/",
        &[
            ("x-one", "1"),
            ("X-One", "2"),
            ("sec-websocket-version", "13"),
            ("traceparent", "00-a-b-01"),
            ("tracestate", "k=v"),
            ("user-agent", "test"),
            ("host", "h"),
        ],
    )
    .await;
    assert_eq!(pairs(info.x_headers()), [("x-one", "1"), ("x-one", "2")]);
    assert_eq!(
        pairs(info.sec_websocket_headers()),
        [("sec-websocket-version", "13")]
    );
    let trace = [("traceparent", "00-a-b-01"), ("tracestate", "k=v")];
    assert_eq!(pairs(info.trace_context_headers()), trace);
    assert_eq!(info.user_agent(), Some("test"));
    assert_eq!(info.peer(), None);
}

#[tokio::test]
async fn soc_109_the_uri_is_the_one_that_was_asked_for() {
    let uri = info("/a/b?x=1", &[("host", "Example.com:4000")]).await.uri;
    assert_eq!(
        (uri.scheme(), uri.host(), uri.port()),
        ("http", "example.com", 4000)
    );
    assert_eq!((uri.path(), uri.query()), ("/a/b", Some("x=1")));
    let uri = info("https://[::1]/", &[("host", "other")]).await.uri;
    assert_eq!(
        (uri.scheme(), uri.host(), uri.port()),
        ("https", "::1", 443)
    );
    let uri = info("/", &[]).await.uri;
    assert_eq!((uri.host(), uri.port(), uri.query()), ("", 80, None));
}

#[tokio::test]
async fn x_25_a_refused_origin_stays_refused_whatever_the_sub_protocol() {
    let headers = [("origin", "http://a.com"), ("host", "b.com")];
    assert!(matches!(admit("/", &headers).await, Err(Denied::Origin(_))));
    let mut with_protocol = headers.to_vec();
    with_protocol.push(("sec-websocket-protocol", "sip"));
    assert!(matches!(
        admit("/", &with_protocol).await,
        Err(Denied::Origin(_))
    ));
}

#[tokio::test]
async fn soc_110_admission_runs_in_the_order_of_the_reference() {
    let everything_wrong = [
        ("origin", "http://a.com"),
        ("host", "b.com"),
        ("sec-websocket-protocol", "mqtt"),
    ];
    let denied = admit("/?vsn=9&a=%ff", &everything_wrong).await.unwrap_err();
    assert!(matches!(denied, Denied::Query(_)), "{denied}");
    let denied = admit("/?vsn=9", &everything_wrong).await.unwrap_err();
    assert!(matches!(denied, Denied::Origin(_)), "{denied}");
    let denied = admit("/?vsn=9", &everything_wrong[1..]).await.unwrap_err();
    assert!(matches!(denied, Denied::Subprotocol(_)), "{denied}");
    let denied = admit("/?vsn=9", &everything_wrong[1..2]).await.unwrap_err();
    assert!(matches!(denied, Denied::Version(_)), "{denied}");
    let denied = admit("/?vsn[]=2.0.0", &[]).await.unwrap_err();
    assert!(matches!(denied, Denied::VersionNotText), "{denied}");
    assert_eq!(admit("/", &[]).await.unwrap().serializer, Serializer::V1);
    assert_eq!(
        admit("/?vsn=2.0.9", &[]).await.unwrap().serializer,
        Serializer::V2
    );
}

#[tokio::test]
async fn soc_111_the_long_poll_token_is_a_header_and_only_read_for_a_new_session() {
    let parts = request(
        "/?vsn=2.0.0&user[id]=1",
        &[("x-phoenix-authtoken", "secret")],
    );
    let (check_origin, forwarded) = (CheckOrigin::same_host(), Forwarded::default());
    let request = LongPollRequest::new(&LogLimit::default(), &check_origin, &forwarded, parts)
        .await
        .unwrap();
    assert_eq!(request.info().auth_token(), None);
    let admitted = request.admit(&LogLimit::default()).unwrap();
    assert_eq!(admitted.info.auth_token(), Some("secret"));
    assert_eq!(
        admitted.info.params().get("user"),
        Some(&json!({"id": "1"}))
    );
    assert_eq!(admitted.info.param("user"), None);
    assert_eq!(admitted.info.param("vsn"), Some("2.0.0"));
}

#[tokio::test]
async fn soc_112_debug_shows_no_token() {
    let headers = [(
        "sec-websocket-protocol",
        "phoenix, sip, base64url.bearer.phx.c2VjcmV0",
    )];
    let admitted = admit("/?token=secret", &headers).await.unwrap();
    assert_eq!(admitted.info.auth_token(), Some("secret"));
    let shown = format!("{:?} {:?}", admitted.info, admitted.info.uri());
    assert!(
        !shown.contains("secret") && !shown.contains("c2VjcmV0"),
        "{shown}"
    );
}
