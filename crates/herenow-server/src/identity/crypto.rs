//! The cryptography of tokens: HS256, RS256 and ES256 over ring, which TLS brings along already.
//!
//! `jsonwebtoken` parses and asks; it has backends of its own, but the one in Rust brings thirty
//! crates (an RSA with an open advisory among them) and is several times slower at RSA.

use std::fmt;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use ring, in the whole process. Every maker of keys calls it; a second time
/// changes nothing.
pub(super) fn install() {
    // An error says that there is a provider, which is this one: no crate here brings another.
    let _is_there = PROVIDER.install_default();
}

/// Checks signatures by one key and one algorithm. Made once for a key: that takes as long as a
/// check.
pub(super) enum Checker {
    Hs256(hmac::Key),
    Rs256(DecodingKeyKind),
    Es256(Vec<u8>),
}

struct Hs256Signer(hmac::Key);

fn signer(algorithm: &Algorithm, key: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    match (algorithm, key.family()) {
        (Algorithm::HS256, AlgorithmFamily::Hmac) => {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
            Ok(Box::new(Hs256Signer(key)))
        }
        _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
    }
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    Ok(Box::new(Checker::new(*algorithm, key)?))
}

impl Checker {
    /// A key is for the algorithms of its own family only: a public key never checks an HMAC.
    pub(super) fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self> {
        match (algorithm, key.family()) {
            (Algorithm::HS256, AlgorithmFamily::Hmac) => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, key.try_get_as_bytes()?);
                Ok(Self::Hs256(key))
            }
            (Algorithm::RS256, AlgorithmFamily::Rsa) => Ok(Self::Rs256(key.kind().clone())),
            (Algorithm::ES256, AlgorithmFamily::Ec) => {
                Ok(Self::Es256(key.try_get_as_bytes()?.to_vec()))
            }
            _ => Err(ErrorKind::UnsupportedAlgorithm.into()),
        }
    }

    /// Tells whether `signature` is that of `message`.
    pub(super) fn is_right(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match self {
            Self::Hs256(key) => hmac::verify(key, message, signature),
            Self::Rs256(DecodingKeyKind::SecretOrDer(der)) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der).verify(message, signature)
            }
            Self::Rs256(DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let key = RsaPublicKeyComponents { n, e };
                key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
        };
        checked.is_ok()
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Checker").field(&self.algorithm()).finish()
    }
}

impl Verifier<Vec<u8>> for Checker {
    fn verify(&self, message: &[u8], sig: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        match self.is_right(message, sig) {
            true => Ok(()),
            false => Err(SignatureError::new()),
        }
    }
}

impl JwtVerifier for Checker {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hs256(_) => Algorithm::HS256,
            Self::Rs256(_) => Algorithm::RS256,
            Self::Es256(_) => Algorithm::ES256,
        }
    }
}

impl Signer<Vec<u8>> for Hs256Signer {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(hmac::sign(&self.0, message).as_ref().to_vec())
    }
}

impl JwtSigner for Hs256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}
