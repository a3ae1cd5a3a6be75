//! Tokens as other programs would make them, independent of the server's own code.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it must be"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// The secret of the tests' HS256 tokens.
pub(crate) const SECRET: &str = "a secret of the tests, long enough";

/// Seconds since 1970, that many from now.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Claims of a user for a minute, and what else they are to have.
pub(crate) fn claims(user: &str, extra: Value) -> Value {
    let mut claims = json!({ "sub": user, "exp": in_seconds(60) });
    let extra = extra.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(extra);
    claims
}

/// A token of these claims, with the tests' secret.
pub(crate) fn hs256(claims: &Value) -> String {
    hs256_with(SECRET, claims)
}

/// A token of these claims, with this secret.
pub(crate) fn hs256_with(secret: &str, claims: &Value) -> String {
    let message = unsigned(&json!({ "alg": "HS256", "typ": "JWT" }), claims);
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The first two parts of a token.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// What the JavaScript client makes of a token for a sub-protocol.
pub(crate) fn base64(token: &str) -> String {
    STANDARD_NO_PAD.encode(token)
}

/// A key pair for tokens, and what its public half is called.
pub(crate) struct Pair {
    kid: String,
    keys: Keys,
}

enum Keys {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Pair {
    /// The RSA keys of the tests, by any name.
    pub(crate) fn rsa(kid: &str) -> Self {
        let keys = RsaKeyPair::from_pkcs8(include_bytes!("rsa.pk8")).unwrap();
        Self {
            kid: kid.to_owned(),
            keys: Keys::Rsa(keys),
        }
    }

    /// Fresh keys on P-256.
    pub(crate) fn ec(kid: &str) -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let keys = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self {
            kid: kid.to_owned(),
            keys: Keys::Ec(keys),
        }
    }

    /// A token of these claims that names the key.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let alg = match self.keys {
            Keys::Rsa(_) => "RS256",
            Keys::Ec(_) => "ES256",
        };
        self.sign_with(&json!({ "alg": alg, "kid": self.kid }), claims)
    }

    /// A token with this header, whatever it says of the algorithm.
    pub(crate) fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let random = SystemRandom::new();
        let signature = match &self.keys {
            Keys::Rsa(keys) => {
                let mut signature = vec![0; keys.public().modulus_len()];
                keys.sign(
                    &RSA_PKCS1_SHA256,
                    &random,
                    message.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
            Keys::Ec(keys) => {
                let signature = keys.sign(&random, message.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The public half as a JWKS has it.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.keys {
            Keys::Rsa(keys) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(keys.public());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                        "n": text(&public.n), "e": text(&public.e) })
            }
            Keys::Ec(keys) => {
                let point = keys.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": self.kid,
                        "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
        }
    }

    /// The public half as a file has it.
    pub(crate) fn pem(&self) -> String {
        match &self.keys {
            Keys::Rsa(_) => include_str!("rsa.pub.pem").to_owned(),
            Keys::Ec(keys) => {
                // What RFC 5480 puts before a point on P-256.
                const HEAD: [u8; 26] = [
                    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                    0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
                ];
                let der = [&HEAD[..], keys.public_key().as_ref()].concat();
                let text = base64::engine::general_purpose::STANDARD.encode(der);
                format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
            }
        }
    }
}
