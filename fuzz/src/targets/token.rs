//! Tokens of clients: as they come, and signed with the server's own secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use herenow_server::config::ServerConfig;
use herenow_server::identity::Authority;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::reader::Reader;
use crate::targets::cluster::on_paused_clock;

const SECRET: &str = "a secret of thirty-two bytes or more";

/// What is not signed is refused; what is signed is taken only if its head says how, and names
/// nobody whom presence could not hold.
pub(super) fn token(input: &[u8]) {
    let mut config = ServerConfig::default();
    config.jwt.secret = Some(herenow_server::config::Secret::new(SECRET));
    let mut reader = Reader(input);
    let is_signed = reader.byte() & 1 == 1;
    on_paused_clock(async {
        let authority = Authority::start(&config).expect("the secret is long enough");
        if !is_signed {
            let token = String::from_utf8_lossy(reader.0);
            assert!(authority.check(&token).await.is_err(), "nobody signed it");
            return;
        }
        let (head, claims) = (reader.line(), reader.0);
        let token = signed(head, claims);
        match authority.check(&token).await {
            Ok(identity) => {
                let head: Value = serde_json::from_slice(head).expect("it was taken");
                assert_eq!(head["alg"], "HS256", "signed in another way than it says");
                let max = config.presence.max_key_bytes;
                let key = identity.key().unwrap_or("nobody");
                assert!(
                    (1..=max).contains(&key.len()),
                    "a key of {} bytes",
                    key.len()
                );
            }
            Err(refusal) => assert!(!refusal.to_string().contains(&token)),
        }
    });
}

fn signed(head: &[u8], claims: &[u8]) -> String {
    let (head, claims) = (URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
    let message = format!("{head}.{claims}");
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes());
    let mut mac = mac.expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    let tag = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{message}.{tag}")
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let heads = [
        r#"{"alg":"HS256","typ":"JWT"}"#,
        r#"{"alg":"none"}"#,
        r#"{"alg":"RS256","kid":"a"}"#,
    ];
    let claims = r#"{"sub":"ada","iat":1,"exp":9999999999,"aud":["a"],"herenow":{"topics":["room:*"],"rights":["join","list"]}}"#;
    let signed = heads.map(|head| format!("\x01{head}\n{claims}").into_bytes());
    let raw = b"\x00eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.AAAA".to_vec();
    signed.into_iter().chain([raw]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_seed_is_a_token_that_is_taken() {
        let seed = &seeds()[0];
        let mut reader = Reader(&seed[1..]);
        let token = signed(reader.line(), reader.0);
        let mut config = ServerConfig::default();
        config.jwt.secret = Some(herenow_server::config::Secret::new(SECRET));
        on_paused_clock(async {
            let authority = Authority::start(&config).unwrap();
            assert_eq!(authority.check(&token).await.unwrap().key(), Some("ada"));
        });
    }
}
