//! Tokens of public keys: from files, and from a JWKS over real HTTP that rotates and goes down.

#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

#[path = "support/rig.rs"]
mod rig;
#[path = "support/log.rs"]
mod log;
#[path = "support/tokens.rs"]
mod tokens;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use herenow_server::config::{ServerConfig, Sources};
use herenow_server::identity::{Authority, TokenRefusal};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::log::Log;
use self::rig::Rig;
use self::tokens::{Pair, SECRET, claims, hs256_with};

/// Pause between two looks at something that tells no one when it changes.
const LOOK: Duration = Duration::from_millis(20);

fn config(flags: &[(&str, &str)]) -> Result<ServerConfig, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    let sources = Sources {
        flags: flags.iter().map(owned).collect(),
        ..Sources::default()
    };
    ServerConfig::load(&sources).map_err(|errors| errors.to_string())
}

fn file(name: &str, text: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn ada() -> Value {
    claims("ada", json!({}))
}

/// An endpoint whose keys the test changes.
#[derive(Clone)]
struct Endpoint {
    address: SocketAddr,
    state: Arc<Mutex<Answers>>,
}

struct Answers {
    keys: Vec<Value>,
    is_down: bool,
    /// Does not answer as long as this is so.
    is_stuck: bool,
    n_asked: usize,
}

impl Endpoint {
    async fn start(keys: &[&Pair]) -> Self {
        let state = Arc::new(Mutex::new(Answers {
            keys: keys.iter().map(|pair| pair.jwk()).collect(),
            is_down: false,
            is_stuck: false,
            n_asked: 0,
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .route("/jwks.json", get(answer))
            .with_state(state.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, state }
    }

    fn url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    fn publish(&self, keys: &[&Pair]) {
        self.publish_set(keys.iter().map(|pair| pair.jwk()).collect());
    }

    fn publish_set(&self, keys: Vec<Value>) {
        self.state.lock().unwrap().keys = keys;
    }

    fn set_stuck(&self, is_stuck: bool) {
        self.state.lock().unwrap().is_stuck = is_stuck;
    }

    fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    fn n_asked(&self) -> usize {
        self.state.lock().unwrap().n_asked
    }

    fn authority(&self, cooldown: &str) -> Authority {
        let url = self.url();
        let flags = [
            ("jwt.jwks_url", url.as_str()),
            ("jwt.jwks_cooldown", cooldown),
        ];
        Authority::start(&config(&flags).unwrap()).unwrap()
    }
}

async fn answer(State(state): State<Arc<Mutex<Answers>>>) -> Response {
    state.lock().unwrap().n_asked += 1;
    while state.lock().unwrap().is_stuck {
        tokio::time::sleep(LOOK).await;
    }
    let state = state.lock().unwrap();
    match state.is_down {
        true => StatusCode::BAD_GATEWAY.into_response(),
        false => json!({ "keys": state.keys }).to_string().into_response(),
    }
}

#[tokio::test]
async fn srv_621_public_keys_come_from_pem_files_each_for_its_algorithm() {
    let (rsa, ec, stranger) = (Pair::rsa("r"), Pair::ec("e"), Pair::ec("e"));
    let rsa_file = file("srv_621_rsa.pem", &rsa.pem());
    let ec_file = file("srv_621_ec.pem", &ec.pem());
    let files = format!("{},{}", rsa_file.display(), ec_file.display());
    let rig = Rig::with(&[("jwt.public_key_files", &files)]).await;
    for pair in [&rsa, &ec] {
        let token = pair.sign(&ada());
        let client = rig.connect(&format!("&token={token}")).await;
        client.joined("room:1", json!({})).await;
    }
    rig.stop().await;

    let authority =
        Authority::start(&config(&[("jwt.public_key_files", &files)]).unwrap()).unwrap();
    let check = async |token: String| authority.check(&token).await.unwrap_err();
    assert_eq!(check(stranger.sign(&ada())).await, TokenRefusal::Signature);
    // A public key is no secret: a token signed with its text by HS256 is worth nothing.
    let confused = check(hs256_with(&rsa.pem(), &ada())).await;
    let algorithm = "HS256".to_owned();
    assert_eq!(confused, TokenRefusal::Algorithm { algorithm });
    let swapped = check(rsa.sign_with(&json!({ "alg": "ES256" }), &ada())).await;
    assert_eq!(swapped, TokenRefusal::Signature);

    let both = [
        ("jwt.public_key_files", files.as_str()),
        ("jwt.secret", SECRET),
    ];
    let authority = Authority::start(&config(&both).unwrap()).unwrap();
    let confused = authority
        .check(&hs256_with(&rsa.pem(), &ada()))
        .await
        .unwrap_err();
    assert_eq!(confused, TokenRefusal::Signature);
}

#[tokio::test]
async fn srv_623_a_file_that_is_no_key_stops_the_server_with_its_name() {
    let start = |text: &str| {
        let path = file("srv_623.pem", text);
        let flags = [("jwt.public_key_files", path.to_str().unwrap())];
        Authority::start(&config(&flags).unwrap())
            .unwrap_err()
            .to_string()
    };
    for text in ["", "no key", SECRET, include_str!("support/rig.rs")] {
        let error = start(text);
        assert!(
            error.contains("srv_623.pem: it is no public key in PEM"),
            "{error}"
        );
    }
    let flags = [("jwt.public_key_files", "/nowhere/key.pem")];
    let error = Authority::start(&config(&flags).unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the public key /nowhere/key.pem: "),
        "{error}"
    );
}

#[tokio::test]
async fn srv_630_keys_are_fetched_and_an_unknown_one_asks_for_one_more_fetch() {
    let (old, new, never) = (Pair::rsa("2025"), Pair::ec("2026"), Pair::ec("never"));
    let endpoint = Endpoint::start(&[&old]).await;
    let authority = endpoint.authority("100ms");
    let identity = authority.check(&old.sign(&ada())).await.unwrap();
    assert_eq!(identity.key(), Some("ada"));
    assert_eq!(endpoint.n_asked(), 1);

    // Rotation: the new key is there before anybody is told, and is found by the token's name for
    // it.
    endpoint.publish(&[&old, &new]);
    while authority.check(&new.sign(&ada())).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
    assert_eq!(endpoint.n_asked(), 2);
    authority.check(&old.sign(&ada())).await.unwrap();

    let unknown = authority.check(&never.sign(&ada())).await.unwrap_err();
    assert_eq!(unknown, TokenRefusal::UnknownKey);
    // A key that is gone from the set is gone.
    endpoint.publish(&[&new]);
    while authority.check(&old.sign(&ada())).await.is_ok() {
        let _asks = authority.check(&never.sign(&ada())).await;
        tokio::time::sleep(LOOK).await;
    }
    authority.check(&new.sign(&ada())).await.unwrap();
}

#[tokio::test]
async fn srv_631_unknown_keys_cannot_make_the_server_fetch_more_often_than_it_may() {
    let (known, never, forger) = (Pair::ec("known"), Pair::ec("never"), Pair::ec("known"));
    let endpoint = Endpoint::start(&[&known]).await;
    let authority = endpoint.authority("1h");
    authority.check(&known.sign(&ada())).await.unwrap();
    for _ in 0..20 {
        let unknown = authority.check(&never.sign(&ada())).await.unwrap_err();
        assert_eq!(unknown, TokenRefusal::UnknownKey);
        let forged = authority.check(&forger.sign(&ada())).await.unwrap_err();
        assert_eq!(forged, TokenRefusal::Signature);
    }
    assert_eq!(endpoint.n_asked(), 1);
    let refused = authority
        .metrics()
        .refused()
        .find(|(name, _)| *name == "unknown_key");
    assert_eq!(refused, Some(("unknown_key", 20)));
    assert_eq!(authority.metrics().key_fetches(), (1, 0));
}

#[tokio::test]
async fn srv_632_with_the_endpoint_down_old_keys_go_on_and_the_server_comes_back_by_itself() {
    let (old, new, forger) = (Pair::ec("old"), Pair::ec("new"), Pair::ec("old"));
    let endpoint = Endpoint::start(&[&old]).await;
    let authority = endpoint.authority("100ms");
    authority.check(&old.sign(&ada())).await.unwrap();
    endpoint.set_down(true);
    endpoint.publish(&[&new]);
    let refused = async |by: &Pair| authority.check(&by.sign(&ada())).await.unwrap_err();
    while authority.metrics().key_fetches().1 == 0 {
        let refusal = refused(&new).await;
        let word = refusal.word();
        assert!(
            ["token_invalid", "keys_unavailable"].contains(&word),
            "{refusal}"
        );
        tokio::time::sleep(LOOK).await;
    }
    // Its key may be a new one, so nobody is told that the token is worth nothing.
    assert_eq!(refused(&new).await, TokenRefusal::KeysUnavailable);
    assert_eq!(refused(&forger).await, TokenRefusal::Signature);
    authority.check(&old.sign(&ada())).await.unwrap();
    endpoint.set_down(false);
    while authority.check(&new.sign(&ada())).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn srv_1651_tokens_of_unknown_keys_do_not_keep_out_others_while_keys_are_fetched() {
    let (known, never) = (Pair::ec("known"), Pair::ec("never"));
    let endpoint = Endpoint::start(&[&known]).await;
    let url = endpoint.url();
    let rig = Rig::with(&[
        ("jwt.jwks_url", url.as_str()),
        ("jwt.jwks_cooldown", "100ms"),
        ("jwt.jwks_timeout", "60s"),
        ("socket.max_checks", "4"),
    ])
    .await;
    let path = |by: &Pair| format!("/socket/longpoll?vsn=2.0.0&token={}", by.sign(&ada()));
    let status = async |by: &Pair| rig.get(&path(by)).await.status;
    while status(&known).await != 200 {
        tokio::time::sleep(LOOK).await;
    }
    endpoint.set_stuck(true);
    // One of four may wait for the fetch that it has asked for.
    let waits = async {
        while endpoint.n_asked() == 1 {
            assert_eq!(status(&never).await, 401);
            tokio::time::sleep(LOOK).await;
        }
    };
    let others = async {
        while endpoint.n_asked() == 1 {
            tokio::time::sleep(LOOK).await;
        }
        for _ in 0..8 {
            assert_eq!(status(&never).await, 503);
        }
        assert_eq!(status(&known).await, 200);
        endpoint.set_stuck(false);
    };
    tokio::join!(waits, others);
    rig.stop().await;
}

#[tokio::test]
async fn srv_1652_a_key_that_is_replaced_under_its_name_or_has_none_is_fetched() {
    let (old, new) = (Pair::ec("A"), Pair::ec("A"));
    let endpoint = Endpoint::start(&[&old]).await;
    let authority = endpoint.authority("100ms");
    authority.check(&old.sign(&ada())).await.unwrap();
    endpoint.publish(&[&new]);
    while authority.check(&new.sign(&ada())).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
    let refused = authority.check(&old.sign(&ada())).await.unwrap_err();
    assert_eq!(refused, TokenRefusal::Signature);

    let nameless = |pair: &Pair| {
        let mut key = pair.jwk();
        key.as_object_mut().unwrap().remove("kid");
        endpoint.publish_set(vec![key]);
        pair.sign_with(&json!({ "alg": "ES256" }), &ada())
    };
    for pair in [&old, &new] {
        let token = nameless(pair);
        while authority.check(&token).await.is_err() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[tokio::test]
async fn srv_1653_one_odd_key_leaves_the_others_of_its_set() {
    let pair = Pair::ec("B");
    let endpoint = Endpoint::start(&[&pair]).await;
    let odd = json!({ "kty": "RSA", "kid": 7, "n": "AQAB", "e": "AQAB" });
    endpoint.publish_set(vec![odd, json!(null), pair.jwk()]);
    let authority = endpoint.authority("1h");
    authority.check(&pair.sign(&ada())).await.unwrap();
}

#[tokio::test]
async fn srv_1654_when_all_keys_are_withdrawn_their_tokens_are_refused_and_the_log_says_so() {
    let (log, _guard) = Log::start();
    let (old, never) = (Pair::ec("old"), Pair::ec("never"));
    let endpoint = Endpoint::start(&[&old]).await;
    let authority = endpoint.authority("100ms");
    authority.check(&old.sign(&ada())).await.unwrap();
    endpoint.publish(&[]);
    while authority.check(&old.sign(&ada())).await.is_ok() {
        let _asks = authority.check(&never.sign(&ada())).await;
        tokio::time::sleep(LOOK).await;
    }
    let refused = authority.check(&old.sign(&ada())).await.unwrap_err();
    assert_eq!(refused, TokenRefusal::UnknownKey);
    assert_eq!(authority.metrics().key_fetches().1, 0);
    log.until("no key for tokens in the answer of jwt.jwks_url")
        .await;
}

#[tokio::test]
async fn srv_1655_keys_over_the_limit_of_a_set_are_logged_with_it() {
    let (log, _guard) = Log::start();
    let pair = Pair::ec("last");
    let endpoint = Endpoint::start(&[]).await;
    let key = |kid: usize| {
        let mut key = pair.jwk();
        key["kid"] = json!(kid.to_string());
        key
    };
    endpoint.publish_set((1..=100).map(key).chain([pair.jwk()]).collect());
    let authority = endpoint.authority("1h");
    let refused = authority.check(&pair.sign(&ada())).await.unwrap_err();
    assert_eq!(refused, TokenRefusal::UnknownKey);
    let text = "keys of tokens over the limit are not used n_keys=101 limit=100";
    log.until(text).await;
}

#[tokio::test]
async fn srv_633_a_server_starts_without_its_keys_and_says_so_until_they_are_here() {
    let pair = Pair::rsa("key");
    let endpoint = Endpoint::start(&[&pair]).await;
    endpoint.set_down(true);
    let rig = Rig::with(&[("jwt.jwks_url", &endpoint.url())]).await;
    let path = format!("/socket/longpoll?vsn=2.0.0&token={}", pair.sign(&ada()));
    let answer = rig.get(&path).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.json(),
        json!({ "status": 403, "reason": "keys_unavailable" })
    );
    assert_eq!(rig.get("/healthz").await.status, 200);
    endpoint.set_down(false);
    while rig.get(&path).await.status != 200 {
        tokio::time::sleep(LOOK).await;
    }
    rig.stop().await;
}

#[tokio::test]
async fn srv_634_neither_secrets_nor_public_keys_of_a_jwks_make_hs256_tokens_good() {
    let pair = Pair::rsa("key");
    let endpoint = Endpoint::start(&[&pair]).await;
    let secret = json!({ "kty": "oct", "kid": "s", "alg": "HS256", "k": tokens::base64(SECRET) });
    endpoint.state.lock().unwrap().keys.push(secret);
    let authority = endpoint.authority("100ms");
    authority.check(&pair.sign(&ada())).await.unwrap();
    let modulus = pair.jwk()["n"].as_str().unwrap().to_owned();
    for secret in [SECRET, &modulus, &pair.pem()] {
        let refused = authority
            .check(&hs256_with(secret, &ada()))
            .await
            .unwrap_err();
        let algorithm = "HS256".to_owned();
        assert_eq!(refused, TokenRefusal::Algorithm { algorithm });
    }
}

#[tokio::test]
async fn srv_637_keys_of_files_do_not_stand_in_the_way_of_fetched_ones() {
    let (filed, old, new) = (Pair::ec("filed"), Pair::ec("old"), Pair::ec("new"));
    let endpoint = Endpoint::start(&[&old]).await;
    let path = file("srv_637.pem", &filed.pem());
    let url = endpoint.url();
    let flags = [
        ("jwt.public_key_files", path.to_str().unwrap()),
        ("jwt.jwks_url", url.as_str()),
        ("jwt.jwks_cooldown", "100ms"),
    ];
    let authority = Authority::start(&config(&flags).unwrap()).unwrap();
    authority.check(&filed.sign(&ada())).await.unwrap();
    authority.check(&old.sign(&ada())).await.unwrap();
    endpoint.publish(&[&new]);
    while authority.check(&new.sign(&ada())).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
    authority.check(&filed.sign(&ada())).await.unwrap();
}

#[test]
fn srv_635_keys_over_plain_http_are_for_loopback_or_by_explicit_wish() {
    let load = |url: &str, allow: &str| {
        let flags = [("jwt.jwks_url", url), ("jwt.jwks_allow_http", allow)];
        config(&flags)
    };
    for url in [
        "https://example.com/jwks",
        "http://localhost:1/",
        "http://[::1]:1/",
        "http://127.0.0.9/",
    ] {
        load(url, "false").unwrap();
    }
    load("http://example.com/jwks", "true").unwrap();
    let error = load("http://example.com/jwks", "false").unwrap_err();
    assert!(
        error.contains("jwt.jwks_url is http://example.com/…"),
        "{error}"
    );
    assert!(
        error.contains("keys that come over plain HTTP can be anybody's"),
        "{error}"
    );
    for url in ["example.com", "ftp://example.com", ""] {
        load(url, "false").unwrap_err();
    }
}

#[test]
fn srv_636_the_secret_may_be_in_a_file_and_is_then_nowhere_else() {
    let path = file("srv_636_secret", &format!("{SECRET}\n"));
    let loaded = config(&[("jwt.secret_file", path.to_str().unwrap())]).unwrap();
    assert!(loaded.jwt.has_keys());
    assert!(!format!("{loaded:?}").contains(SECRET));
    let error = config(&[
        ("jwt.secret_file", path.to_str().unwrap()),
        ("jwt.secret", SECRET),
    ]);
    let error = error.unwrap_err();
    assert!(
        error.contains("only one of them can hold the secret"),
        "{error}"
    );
    assert!(!error.contains(SECRET), "{error}");
    let error = config(&[("jwt.secret_file", "/nowhere/secret")]).unwrap_err();
    assert!(
        error.contains("cannot read jwt.secret_file /nowhere/secret: "),
        "{error}"
    );
    let path = file("srv_636_short", "short\n");
    let error = config(&[("jwt.secret_file", path.to_str().unwrap())]).unwrap_err();
    assert!(error.contains("jwt.secret is 5 bytes long"), "{error}");
}
