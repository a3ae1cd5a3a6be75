//! The keys that tokens are checked with, each for one algorithm.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::crypto::{self, Checker};
use super::refusal::TokenRefusal;

/// Characters of an algorithm's name that are logged.
const MAX_SHOWN_CHARS: usize = 16;
/// Most keys of a set that are used, the first.
pub(super) const MAX_JWKS_KEYS: usize = 100;
/// Shortest modulus of an RSA key, in bytes; ring takes no shorter one either.
const MIN_MODULUS_BYTES: usize = 256;

/// A key, for one algorithm only.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) algorithm: Algorithm,
    /// What tokens name it by.
    kid: Option<Box<str>>,
    pub(super) checker: Arc<Checker>,
}

/// What a JWKS has.
#[derive(Debug)]
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Keys beyond [`MAX_JWKS_KEYS`].
    pub(super) n_over: usize,
    /// Entries that are no keys for signatures by RS256 or ES256.
    pub(super) n_left_out: usize,
}

/// The parts of a token, still encoded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    signature: &'a str,
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

    /// Decodes the signature.
    pub(super) fn signature(&self) -> Result<Vec<u8>, TokenRefusal> {
        decode(self.signature)
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
        let key = DecodingKey::from_secret(secret.as_bytes());
        Self::new(Algorithm::HS256, None, &key).expect("a secret is a key of HS256")
    }

    fn new(algorithm: Algorithm, kid: Option<Box<str>>, key: &DecodingKey) -> Option<Self> {
        let checker = Arc::new(Checker::new(algorithm, key).ok()?);
        Some(Self {
            algorithm,
            kid,
            checker,
        })
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
        let key = is_strong.then(|| Self::new(algorithm, None, &key));
        key.flatten().ok_or(KeyError::Pem)
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

impl KeySet {
    /// Reads the keys of a JWKS that are for signatures by RS256 or ES256. Other entries are left
    /// out, each on its own, as RFC 7517 (section 5) wants it: a secret that stands in a public set
    /// is none. There may be no key at all, for that is how all of them are withdrawn.
    pub(super) fn read(json: &[u8]) -> Result<Self, KeyError> {
        crypto::install();
        let set: JwkSet<'_> = serde_json::from_slice(json)?;
        let n_entries = set.keys.len();
        let keys = set.keys.into_iter().filter_map(Jwk::of);
        let mut keys: Vec<Key> = keys.filter_map(Jwk::read).collect();
        let n_usable = keys.len();
        keys.truncate(MAX_JWKS_KEYS);
        Ok(Self {
            n_over: n_usable - keys.len(),
            n_left_out: n_entries - n_usable,
            keys,
        })
    }
}

#[derive(Deserialize)]
struct JwkSet<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwk {
    /// An entry of a set, if it is as RFC 7517 has it. A list is none, whose values would be taken
    /// for the fields in their order.
    fn of(entry: &RawValue) -> Option<Self> {
        let entry = entry.get();
        let is_object = entry.starts_with('{');
        is_object
            .then(|| serde_json::from_str(entry).ok())
            .flatten()
    }

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
        let is_for_signatures = self.usage.is_none_or(|usage| usage == "sig")
            && (self.key_ops).is_none_or(|acts| acts.iter().any(|act| act == "verify"));
        let name = match algorithm {
            Algorithm::RS256 => "RS256",
            _ => "ES256",
        };
        let is_of_algorithm = self.alg.is_none_or(|alg| alg == name);
        let kid = self.kid.map(Into::into);
        let is_usable = is_for_signatures && is_of_algorithm;
        is_usable.then(|| Key::new(algorithm, kid, &key)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(set: &Value) -> Result<KeySet, KeyError> {
        KeySet::read(set.to_string().as_bytes())
    }

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
        let rsa = json!({ "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "key_ops": ["verify"], "n": n, "e": "AQAB" });
        let ec = json!({ "kty": "EC", "kid": "e", "crv": "P-256", "x": x, "y": x });
        let others = [
            json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0" }),
            json!({ "kty": "RSA", "use": "enc", "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "alg": "PS256", "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "n": short, "e": "AQAB" }),
            json!({ "kty": "EC", "crv": "P-384", "x": x, "y": x }),
            json!({ "kty": "OKP", "crv": "Ed25519", "x": x }),
            // For no signatures, also without a `use`.
            json!({ "kty": "RSA", "key_ops": ["encrypt", "wrapKey"], "n": n, "e": "AQAB" }),
            json!({ "kty": "RSA", "key_ops": [], "n": n, "e": "AQAB" }),
            // As no key can be.
            json!({ "kty": "RSA", "kid": 7, "n": n, "e": "AQAB" }),
            json!({ "kid": "a" }),
            json!(["RSA", null, null, null, null, null, n, "AQAB", null, null]),
            json!("RSA"),
            json!(null),
        ];
        let mut keys = others.to_vec();
        keys.extend([rsa, ec]);
        let read = read(&json!({ "keys": keys })).unwrap();
        assert_eq!((read.n_left_out, read.n_over), (others.len(), 0));
        let read: Vec<_> = read
            .keys
            .iter()
            .map(|key| (key.algorithm, key.kid.as_deref()))
            .collect();
        assert_eq!(
            read,
            [(Algorithm::RS256, Some("r")), (Algorithm::ES256, Some("e"))]
        );
    }

    #[test]
    fn srv_1654_a_set_without_a_key_is_one_and_what_is_no_set_is_none() {
        for entries in [json!([]), json!([{ "kty": "oct", "k": "c2VjcmV0" }])] {
            let set = read(&json!({ "keys": entries })).unwrap();
            let n_entries = entries.as_array().map_or(0, Vec::len);
            assert_eq!((set.keys.len(), set.n_left_out), (0, n_entries));
        }
        for no_set in [json!({}), json!({ "keys": null }), json!({ "keys": {} })] {
            assert!(matches!(read(&no_set), Err(KeyError::Jwks(_))), "{no_set}");
        }
        assert!(matches!(KeySet::read(b"<html>"), Err(KeyError::Jwks(_))));
    }

    #[test]
    fn srv_1655_of_a_set_the_first_hundred_keys_are_used_whatever_else_is_in_it() {
        let n = URL_SAFE_NO_PAD.encode([255u8; 256]);
        let key = |kid: usize| json!({ "kty": "RSA", "kid": kid.to_string(), "n": n, "e": "AQAB" });
        let mut entries = vec![json!({ "kty": "oct", "k": "c2VjcmV0" })];
        entries.extend((1..=101).map(key));
        let set = read(&json!({ "keys": entries })).unwrap();
        assert_eq!((set.keys.len(), set.n_over, set.n_left_out), (100, 1, 1));
        assert_eq!(set.keys[99].kid.as_deref(), Some("100"));
    }
}
