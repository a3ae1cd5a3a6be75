//! Tokens, and the check that each connection's passes.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::Authority;
use ring::hmac;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::rooms::runtime;

const SECRET: &str = "a secret for counting, long enough";

/// Who checks tokens, and one that is to be checked.
pub struct Gate {
    runtime: Runtime,
    authority: Authority,
    token: String,
}

impl Gate {
    /// Returns one with a token that is as it should be.
    pub fn with_good() -> Self {
        Self::new(SECRET)
    }

    /// Returns one with a token that somebody else has signed.
    pub fn with_forged() -> Self {
        Self::new("not the server's secret, but long")
    }

    fn new(secret: &str) -> Self {
        let runtime = runtime();
        let sources = Sources {
            flags: vec![("jwt.secret".to_owned(), SECRET.to_owned())],
            ..Sources::default()
        };
        let config = ServerConfig::load(&sources).expect("a secret that is long enough");
        let authority = runtime.block_on(async { Authority::start(&config) });
        Self {
            runtime,
            authority: authority.expect("a secret is a key"),
            token: token(secret),
        }
    }

    /// Checks the token and tells whether it was let in.
    pub fn check(&self) -> bool {
        self.runtime
            .block_on(self.authority.check(&self.token))
            .is_ok()
    }
}

fn token(secret: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let in_an_hour = now.expect("it is later than 1970").as_secs() + 3600;
    let claims = json!({
        "sub": "8d3c1f0e-5a52-4c7e-9f55-2f3b9f6f2a11",
        "exp": in_an_hour,
        "herenow": { "topics": ["room:*", "user:42"], "rights": ["join", "broadcast"] },
    });
    let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let header = part(json!({ "alg": "HS256", "typ": "JWT" }));
    let message = format!("{header}.{}", part(claims));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}
