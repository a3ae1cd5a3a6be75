//! Signatures of webhooks, as [Standard Webhooks](https://www.standardwebhooks.com) has them.
//!
//! The header `webhook-signature` is `v1,` and the base64 of the HMAC-SHA256 of
//! `webhook-id.webhook-timestamp.body`. The key is what follows `whsec_` in the secret, decoded as
//! base64; a secret without `whsec_` is the key as it stands.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use crate::config::signing_key;

/// What bodies are signed with; never shown.
pub(super) struct Signer(hmac::Key);

impl Signer {
    /// A signer with a secret; `None` if it is none.
    pub(super) fn new(secret: &str) -> Option<Self> {
        let key = signing_key(secret)?;
        Some(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// Returns what `webhook-signature` is to say.
    pub(super) fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(format!("{id}.{unix_seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_680_the_signature_is_that_of_standard_webhooks() {
        // The example of the specification's own libraries.
        let signer = Signer::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = signer.sign(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
