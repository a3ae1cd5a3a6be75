//! The keys that tokens are checked with, each for one algorithm.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::crypto;
use super::refusal::TokenRefusal;

/// Characters of an algorithm's name that are logged.
const MAX_SHOWN_CHARS: usize = 16;
/// Most keys of a set that are looked at.
const MAX_JWKS_KEYS: usize = 100;
/// Shortest modulus of an RSA key, in bytes; ring takes no shorter one either.
const MIN_MODULUS_BYTES: usize = 256;

/// A key, for one algorithm only.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// What tokens name it by.
    kid: Option<Box<str>>,
    pub(super) key: DecodingKey,
}

/// The parts of a token, still encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    pub(super) signature: &'a str,
    /// What is signed: the first two.
    pub(super) message: &'a str,
}

/// What a token's header says about the key, unverified.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    alg: String,
    kid: Option<String>,
    /// Whatever it is, it is not understood.
    crit: Option<Value>,
}

/// Reads headers, and keeps the last: nearly all tokens of a maker have the same text there.
#[derive(Debug, Default)]
pub(super) struct Headers(Mutex<Option<(Box<str>, Arc<Header>)>>);

/// Why a text holds no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("it is no public key in PEM, for RS256 (RSA, 2048 bits or more) or ES256 (EC, P-256)")]
    Pem,
    #[error("it is no JWKS: {0}")]
    Jwks(#[from] serde_json::Error),
    #[error("none of its {n_keys} keys is for RS256 or ES256 signatures")]
    NoneUsable { n_keys: usize },
}

impl<'a> Parts<'a> {
    /// Splits a token.
    pub(super) fn of(token: &'a str) -> Result<Self, TokenRefusal> {
        let mut parts = token.split('.');
        let (Some(header), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenRefusal::Malformed);
        };
        Ok(Self {
            header,
            claims,
            signature,
            message: &token[..header.len() + 1 + claims.len()],
        })
    }

    /// Decodes the claims, to JSON.
    pub(super) fn claims(&self) -> Result<Vec<u8>, TokenRefusal> {
        decode(self.claims)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    let decoded = URL_SAFE_NO_PAD.decode(part);
    decoded.map_err(|_| TokenRefusal::Malformed)
}

impl Headers {
    /// Reads the first part of a token.
    pub(super) fn read(&self, token: &Parts<'_>) -> Result<Arc<Header>, TokenRefusal> {
        if let Some((text, header)) = &*self.0.lock()
            && **text == *token.header
        {
            return Ok(header.clone());
        }
        let header = Arc::new(Header::read(token)?);
        *self.0.lock() = Some((token.header.into(), header.clone()));
        Ok(header)
    }
}

impl Header {
    fn read(token: &Parts<'_>) -> Result<Self, TokenRefusal> {
        let json = decode(token.header)?;
        // It must be an object, and also what is not looked at must be JSON: serde takes a list for
        // the fields in their order, and skips a text without a look at its bytes.
        let is_object = serde_json::from_slice::<Map<String, Value>>(&json).is_ok();
        let header = serde_json::from_slice::<Self>(&json);
        let header = header.ok().filter(|_| is_object);
        let header = header.ok_or(TokenRefusal::Malformed)?;
        match header.crit {
            None => Ok(header),
            Some(_) => Err(TokenRefusal::Critical),
        }
    }

    /// The algorithm, if it is one that is ever checked here.
    pub(super) fn algorithm(&self) -> Result<Algorithm, TokenRefusal> {
        match self.alg.as_str() {
            "HS256" => Ok(Algorithm::HS256),
            "RS256" => Ok(Algorithm::RS256),
            "ES256" => Ok(Algorithm::ES256),
            _ => Err(self.refuse_algorithm()),
        }
    }

    /// The refusal of a token whose algorithm no key is for.
    pub(super) fn refuse_algorithm(&self) -> TokenRefusal {
        let algorithm = self.alg.chars().take(MAX_SHOWN_CHARS).collect();
        TokenRefusal::Algorithm { algorithm }
    }
}

impl Key {
    /// The key of HS256 tokens.
    pub(super) fn secret(secret: &str) -> Self {
        crypto::install();
        Self {
            algorithm: Algorithm::HS256,
            kid: None,
            key: DecodingKey::from_secret(secret.as_bytes()),
        }
    }

    /// A public key as a file has it.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let rsa = DecodingKey::from_rsa_pem(pem).map(|key| (Algorithm::RS256, key));
        let ec = || DecodingKey::from_ec_pem(pem).map(|key| (Algorithm::ES256, key));
        let (algorithm, key) = rsa.or_else(|_| ec()).map_err(|_| KeyError::Pem)?;
        let len = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let is_strong = match algorithm {
            Algorithm::RS256 => len > MIN_MODULUS_BYTES,
            _ => len == 65,
        };
        let kid = None;
        match is_strong {
            true => Ok(Self {
                algorithm,
                kid,
                key,
            }),
            false => Err(KeyError::Pem),
        }
    }

    /// The keys of a JWKS that are for signatures by RS256 or ES256. Others are left out: a secret
    /// that stands in a public set is none.
    pub(super) fn from_jwks(json: &[u8]) -> Result<Vec<Self>, KeyError> {
        crypto::install();
        let set: JwkSet = serde_json::from_slice(json)?;
        let n_keys = set.keys.len();
        let keys = set.keys.into_iter().take(MAX_JWKS_KEYS);
        let keys: Vec<Self> = keys.filter_map(Jwk::read).collect();
        match keys.is_empty() {
            true => Err(KeyError::NoneUsable { n_keys }),
            false => Ok(keys),
        }
    }

    /// Tells whether a token with this header names the key, or no key at all.
    pub(super) fn is_named_by(&self, header: &Header) -> bool {
        header.kid.is_none() || self.kid.as_deref() == header.kid.as_deref()
    }

    /// Tells whether a token with this header may be signed with the key.
    pub(super) fn fits(&self, algorithm: Algorithm, header: &Header) -> bool {
        let is_named = match (&self.kid, &header.kid) {
            (Some(kid), Some(named)) => **kid == **named,
            (None, _) | (_, None) => true,
        };
        self.algorithm == algorithm && is_named
    }
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    fn read(self) -> Option<Key> {
        let (algorithm, key) = match self.kty.as_str() {
            "RSA" => {
                let modulus = URL_SAFE_NO_PAD.decode(self.n?).ok()?;
                let exponent = URL_SAFE_NO_PAD.decode(self.e?).ok()?;
                let key = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
                (modulus.len() >= MIN_MODULUS_BYTES).then_some((Algorithm::RS256, key))?
            }
            "EC" if self.crv.as_deref() == Some("P-256") => {
                let key = DecodingKey::from_ec_components(&self.x?, &self.y?).ok()?;
                let is_point = key.try_get_as_bytes().is_ok_and(|point| point.len() == 65);
                is_point.then_some((Algorithm::ES256, key))?
            }
            _ => return None,
        };
        let is_for_signatures = self.usage.is_none_or(|usage| usage == "sig");
        let name = match algorithm {
            Algorithm::RS256 => "RS256",
            _ => "ES256",
        };
        let is_of_algorithm = self.alg.is_none_or(|alg| alg == name);
        let kid = self.kid.map(Into::into);
        (is_for_signatures && is_of_algorithm).then_some(Key {
            algorithm,
            kid,
            key,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(json: &Value) -> Result<Header, TokenRefusal> {
        let first = URL_SAFE_NO_PAD.encode(json.to_string());
        Header::read(&Parts::of(&format!("{first}.e30.c2ln"))?)
    }

    #[test]
    fn srv_603_a_header_names_an_algorithm_and_nothing_critical() {
        let named = header(&json!({ "alg": "HS256", "typ": "JWT", "kid": "a" })).unwrap();
        assert_eq!(named.algorithm(), Ok(Algorithm::HS256));
        for alg in ["none", "NONE", "hs256", "HS512", "", "RS256 "] {
            let refused = header(&json!({ "alg": alg })).unwrap().algorithm();
            let algorithm = alg.to_owned();
            assert_eq!(refused, Err(TokenRefusal::Algorithm { algorithm }));
        }
        let critical = header(&json!({ "alg": "HS256", "crit": ["exp"] }));
        assert_eq!(critical.unwrap_err(), TokenRefusal::Critical);
        let encode = |head: &[u8]| format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(head));
        let no_text = encode(b"{\"alg\":\"HS256\",\"typ\":\"\xb7JWT\"}");
        let no_character = encode(br#"{"alg":"HS256","typ":"\ud800"}"#);
        let no_object = encode(br#"["HS256",null,null]"#);
        for token in [
            "",
            ".",
            "..",
            "a.b",
            "a.b.c",
            "e30.e30.",
            "e30.e30.e30.e30",
            "é.b.c",
            &no_text,
            &no_character,
            &no_object,
        ] {
            assert_eq!(
                Parts::of(token)
                    .and_then(|parts| Header::read(&parts))
                    .unwrap_err(),
                TokenRefusal::Malformed,
                "{token}"
            );
        }
    }

    #[test]
    fn srv_603_the_header_that_was_read_last_is_known_by_its_text_alone() {
        let headers = Headers::default();
        let read = |json: &str| {
            let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(json));
            headers.read(&Parts::of(&token)?)
        };
        let first = read(r#"{"alg":"HS256"}"#).unwrap();
        assert!(Arc::ptr_eq(&first, &read(r#"{"alg":"HS256"}"#).unwrap()));
        let other = read(r#"{"alg":"RS256"}"#).unwrap();
        assert_eq!(other.algorithm(), Ok(Algorithm::RS256));
        // One that is refused takes no other's place, and is refused again.
        for _ in 0..2 {
            let refused = read(r#"{"alg":"RS256","crit":["exp"]}"#).unwrap_err();
            assert_eq!(refused, TokenRefusal::Critical);
        }
        assert!(Arc::ptr_eq(&other, &read(r#"{"alg":"RS256"}"#).unwrap()));
    }

    #[test]
    fn srv_604_a_jwks_gives_its_signing_keys_and_no_secrets() {
        let n = URL_SAFE_NO_PAD.encode([255u8; 256]);
        let short = URL_SAFE_NO_PAD.encode([255u8; 128]);
        let x = URL_SAFE_NO_PAD.encode([1u8; 32]);
        let rsa =
            json!({ "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": n, "e": "AQAB" });
        let ec = json!({ "kty": "EC", "kid": "e", "crv": "P-256", "x": x, "y": x });
        let others = [
            json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0" }),
            json!({ "kty": "RSA", "use": "enc", "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "alg": "PS256", "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "n": short, "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-384", "x": x, "y": x }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
        ];
        let mut keys = vec![rsa, ec];
        keys.extend(others.iter().cloned());
        let read = Key::from_jwks(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        let read: Vec<_> = read
            .iter()
            .map(|key| (key.algorithm, key.kid.as_deref()))
            .collect();
        assert_eq!(
            read,
            [(Algorithm::RS256, Some("r")), (Algorithm::ES256, Some("e"))]
        );
        let none = Key::from_jwks(json!({ "keys": others }).to_string().as_bytes());
        assert!(matches!(none, Err(KeyError::NoneUsable { n_keys: 6 })));
        assert!(matches!(Key::from_jwks(b"<html>"), Err(KeyError::Jwks(_))));
    }
}
