//! Where to connect: from what people write to the request of a WebSocket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use herenow_protocol::Serializer;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};

use crate::config::ClientConfig;
use crate::error::ConnectError;

const DEFAULT_MOUNT: &str = "/socket";

/// A socket's address, as checked once.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    /// Scheme, host, port and path, without parameters; what errors and logs show.
    pub(crate) url: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) is_tls: bool,
    query: String,
}

impl Endpoint {
    /// Reads `ws://host:port`, `…/socket` or `…/socket/websocket`, with `wss`, `http` or `https`
    /// as well. Parameters in the URL are kept.
    pub(crate) fn parse(url: &str) -> Result<Self, ConnectError> {
        let bad = |reason| ConnectError::BadUrl {
            url: url.to_owned(),
            reason,
        };
        let uri: Uri = url.parse().map_err(|_| bad("it cannot be read"))?;
        let is_tls = match uri.scheme_str() {
            Some("ws" | "http") => false,
            Some("wss" | "https") => true,
            Some(_) => return Err(bad("it must begin with ws:// or wss://")),
            None => return Err(bad("it has no scheme, such as ws://")),
        };
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| bad("it has no host"))?;
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let path = match uri.path().trim_end_matches('/') {
            "" => format!("{DEFAULT_MOUNT}/websocket"),
            path if path.ends_with("/websocket") => path.to_owned(),
            path => format!("{path}/websocket"),
        };
        let scheme = if is_tls { "wss" } else { "ws" };
        let authority = match uri.port_u16() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            url: format!("{scheme}://{authority}{path}"),
            host: host
                .trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned(),
            port,
            is_tls,
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }

    /// The upgrade request, with parameters, version and token as they are now.
    pub(crate) fn request(&self, config: &ClientConfig) -> Result<Request, ConnectError> {
        let url = format!("{}?{}", self.url, self.query(config));
        let bad = |reason| ConnectError::BadUrl {
            url: self.url.clone(),
            reason,
        };
        let mut request = url
            .into_client_request()
            .map_err(|_| bad("no request can be made of it"))?;
        if let Some(source) = &config.auth_token {
            let token = STANDARD_NO_PAD.encode(source.token());
            let protocols = format!("phoenix, base64url.bearer.phx.{token}");
            let value = HeaderValue::from_str(&protocols).map_err(|_| bad("its token is odd"))?;
            request
                .headers_mut()
                .insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        if let Some(origin) = &config.origin {
            let value = HeaderValue::from_str(origin).map_err(|_| bad("its origin is odd"))?;
            request.headers_mut().insert(header::ORIGIN, value);
        }
        Ok(request)
    }

    fn query(&self, config: &ClientConfig) -> String {
        let mut query = self.query.clone();
        let version = match config.serializer {
            Serializer::V1 => "1.0.0",
            Serializer::V2 => "2.0.0",
        };
        let params = config
            .params
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in params.chain([("vsn", version)]) {
            if !query.is_empty() {
                query.push('&');
            }
            escape(&mut query, name);
            query.push('=');
            escape(&mut query, value);
        }
        query
    }
}

fn escape(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 0xf)]));
            }
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::field_reassign_with_default,
    reason = "as users outside of this crate must do it"
)]
mod tests {
    use super::*;
    use crate::config::TokenSource;

    fn address(url: &str, config: &ClientConfig) -> String {
        Endpoint::parse(url)
            .unwrap()
            .request(config)
            .unwrap()
            .uri()
            .to_string()
    }

    #[test]
    fn js_11_a_mount_becomes_the_address_of_its_websocket() {
        let config = ClientConfig::default();
        let whole = "wss://example.org/chat/websocket?vsn=2.0.0";
        assert_eq!(address("wss://example.org/chat", &config), whole);
        assert_eq!(address("https://example.org/chat/", &config), whole);
        assert_eq!(address("wss://example.org/chat/websocket", &config), whole);
        let local = "ws://127.0.0.1:4000/socket/websocket?vsn=2.0.0";
        assert_eq!(address("ws://127.0.0.1:4000", &config), local);
        assert_eq!(address("http://127.0.0.1:4000/socket", &config), local);
        assert_eq!(Endpoint::parse("ws://[::1]:4000").unwrap().host, "::1");
    }

    #[test]
    fn js_02_params_are_part_of_the_address() {
        let mut config = ClientConfig::default();
        config.params = vec![("one".into(), "two".into()), ("a b".into(), "é&=".into())];
        config.serializer = Serializer::V1;
        assert_eq!(
            address("ws://h?x=1", &config),
            "ws://h/socket/websocket?x=1&one=two&a%20b=%C3%A9%26%3D&vsn=1.0.0"
        );
    }

    #[test]
    fn jc_04_the_token_is_a_sub_protocol() {
        let mut config = ClientConfig::default();
        config.auth_token = Some("1234".to_owned().into());
        let request = Endpoint::parse("ws://h").unwrap().request(&config).unwrap();
        let protocols = &request.headers()[header::SEC_WEBSOCKET_PROTOCOL];
        assert_eq!(protocols, "phoenix, base64url.bearer.phx.MTIzNA");
    }

    #[test]
    fn jc_05_a_token_source_is_asked_at_every_connection() {
        let count = std::sync::atomic::AtomicU32::new(5678);
        let mut config = ClientConfig::default();
        config.auth_token = Some(TokenSource::new(move || {
            count
                .fetch_add(1, std::sync::atomic::Ordering::Relaxed)
                .to_string()
        }));
        let endpoint = Endpoint::parse("ws://h").unwrap();
        let protocols = || {
            let request = endpoint.request(&config).unwrap();
            request.headers()[header::SEC_WEBSOCKET_PROTOCOL]
                .to_str()
                .unwrap()
                .to_owned()
        };
        assert!(protocols().ends_with(".NTY3OA"));
        assert!(protocols().ends_with(".NTY3OQ"));
    }

    #[test]
    fn jl_14_without_a_token_there_is_no_sub_protocol() {
        let request = Endpoint::parse("ws://h")
            .unwrap()
            .request(&ClientConfig::default())
            .unwrap();
        assert!(
            request
                .headers()
                .get(header::SEC_WEBSOCKET_PROTOCOL)
                .is_none()
        );
    }

    #[test]
    fn jl_15_the_token_is_base64_without_padding() {
        let mut config = ClientConfig::default();
        config.auth_token = Some("a".to_owned().into());
        let request = Endpoint::parse("ws://h").unwrap().request(&config).unwrap();
        let protocols = &request.headers()[header::SEC_WEBSOCKET_PROTOCOL];
        assert_eq!(protocols, "phoenix, base64url.bearer.phx.YQ");
    }

    #[test]
    fn bad_urls_are_named() {
        for (url, reason) in [
            ("localhost:4000", "it has no scheme, such as ws://"),
            ("/socket", "it has no scheme, such as ws://"),
            ("ftp://h", "it must begin with ws:// or wss://"),
            ("ws://", "it cannot be read"),
            ("", "it cannot be read"),
        ] {
            let error = Endpoint::parse(url).unwrap_err();
            let expected = format!("{url:?} is not the URL of a socket: {reason}");
            assert_eq!(error.to_string(), expected);
        }
    }
}
