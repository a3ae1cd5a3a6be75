//! Who the dialect's clients are, which rooms are open to them, and the words they are refused
//! with.
//!
//! A connection is let in by its `apikey`: a token, or one of the publishable keys, which make a
//! guest. A join may bring a token of its own, and then that one counts for its channel. A public
//! room is open to whoever has the topic among those of its token; a private one only if the token
//! names it, or is the backend's own.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use herenow_channels::{Assigns, ConnectInfo, ConnectRefused, Connected};
use percent_encoding::percent_decode_str;
use serde_json::json;
use subtle::{Choice, ConstantTimeEq};

use super::Room;
use super::join::is_token;
use crate::clock::unix_seconds;
use crate::config::{PublishableKey, SupabaseConfig, digest};
use crate::identity::{Authority, Identity, TokenRefusal, Topics, user_id};

/// The parameter and the header with the key of a connection or a request; the header wins.
const API_KEY: &str = "apikey";
const API_KEY_HEADER: &str = "x-api-key";
/// The parameter that names the user in dev mode.
const USER_ID: &str = "user_id";
/// The role of a backend's tokens, which may enter every private room.
const SERVICE_ROLE: &str = "service_role";

/// Finds out who clients are.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) authority: Authority,
    publishable: Vec<PublishableKey>,
}

/// Why a token is refused, in the dialect's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// What a join's reason begins with.
    pub(super) code: &'static str,
    pub(super) text: String,
    pub(super) status: StatusCode,
}

impl Access {
    pub(super) fn new(authority: &Authority, config: &SupabaseConfig) -> Self {
        Self {
            authority: authority.clone(),
            publishable: config.publishable_keys.clone(),
        }
    }

    /// Decides on a request for a socket.
    ///
    /// # Errors
    ///
    /// The refusal of its key, as `{"error": …}`.
    pub(super) async fn connect(&self, info: &ConnectInfo) -> Result<Connected, ConnectRefused> {
        if self.authority.is_dev() {
            let user = info.param(USER_ID).filter(|user| !user.is_empty());
            return Ok(Connected::anonymous().assign(Identity::claimed(user)));
        }
        let params = || [API_KEY, "access_token", "token"].map(|name| info.param(name));
        let given = |key: &&str| !key.is_empty();
        let key = info.header(API_KEY_HEADER);
        let key = key.or_else(|| params().into_iter().flatten().find(given));
        match self.identify(key).await {
            Ok(identity) => {
                let mut connected = Connected::anonymous();
                connected.id = identity.key().map(user_id);
                Ok(connected.assign(identity))
            }
            Err(refusal) => Err(ConnectRefused::response(refusal)),
        }
    }

    /// Who presents this key: a token, or a publishable key.
    ///
    /// # Errors
    ///
    /// [`Refusal`], counted and logged.
    pub(super) async fn identify(&self, key: Option<&str>) -> Result<Identity, Refusal> {
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            let missing = self.authority.refuse(TokenRefusal::Missing);
            return Err(Refusal::of(&missing));
        };
        if self.is_publishable(key) {
            return Ok(Identity::guest());
        }
        self.check(key).await
    }

    /// Checks a token, which may be percent-encoded and have white space in it.
    ///
    /// # Errors
    ///
    /// [`Refusal`], counted and logged.
    pub(super) async fn check(&self, token: &str) -> Result<Identity, Refusal> {
        let decoded = percent_decode_str(token).decode_utf8_lossy();
        let token: String = decoded.split_whitespace().collect();
        let checked = self.authority.check(&token).await;
        checked.map_err(|refusal| Refusal::of(&refusal))
    }

    /// Who joins with this token, or else by the connection's.
    ///
    /// # Errors
    ///
    /// [`Refusal`] of the token, or of the connection's if that is over.
    pub(super) async fn member(
        &self,
        token: Option<&str>,
        connection: &Assigns,
    ) -> Result<Identity, Refusal> {
        let by_connection = connection.get::<Identity>().cloned();
        let by_connection = by_connection.unwrap_or_else(Identity::nobody);
        match token {
            _ if self.authority.is_dev() => Ok(by_connection),
            // Clients that have no user's token send the connection's key.
            Some(token) if is_token(token) && !self.is_publishable(token) => {
                self.check(token).await
            }
            Some(_) | None => match ended_for(&by_connection) {
                None => Ok(by_connection),
                Some(ago_s) => {
                    let expired = self.authority.refuse(TokenRefusal::Expired { ago_s });
                    Err(Refusal::of(&expired))
                }
            },
        }
    }

    /// Tells whether a key is one of the publishable keys, in constant time.
    pub(super) fn is_publishable(&self, key: &str) -> bool {
        let digest = digest(key.as_bytes());
        let equal = |key: &PublishableKey| key.digest().ct_eq(&digest);
        let any = self
            .publishable
            .iter()
            .map(equal)
            .fold(Choice::from(0), |any, one| any | one);
        any.into()
    }
}

/// How long ago the token of an identity ended, in seconds; `None` if it has not.
pub(super) fn ended_for(identity: &Identity) -> Option<u64> {
    let expires_at = identity.expires_at_unix()?;
    let now = unix_seconds();
    (expires_at <= now).then(|| now - expires_at)
}

/// Tells whether the client may know of a room, and do there what its rights say.
///
/// `topics` of tokens are names as clients have them. A token without them is for all public rooms
/// and for no private one: an application's public key is such a token.
pub(super) fn may_enter(identity: &Identity, room: Room<'_>) -> bool {
    let is_open = !identity.rights().is_empty() && identity.topics().contain(room.name);
    let is_named = || match identity.topics() {
        Topics::All => identity.role() == Some(SERVICE_ROLE) || !identity.is_by_token(),
        Topics::Of(_) => true,
    };
    is_open && (!room.is_private || is_named())
}

impl Refusal {
    /// How the dialect says why a token is refused.
    pub(super) fn of(refusal: &TokenRefusal) -> Self {
        let (code, text) = match refusal {
            TokenRefusal::Missing => ("Unauthorized", "API key is missing".to_owned()),
            TokenRefusal::Expired { ago_s } => {
                let text = format!("Token has expired {ago_s} seconds ago");
                ("InvalidJWTToken", text)
            }
            TokenRefusal::NoExpiry => (
                "InvalidJWTToken",
                "Field `exp` is required in JWT".to_owned(),
            ),
            TokenRefusal::NotYetValid { .. } => {
                ("InvalidJWTToken", "Token is not valid yet".to_owned())
            }
            TokenRefusal::Audience | TokenRefusal::Issuer => {
                ("InvalidJWTToken", "Token is not for this server".to_owned())
            }
            TokenRefusal::Signature => (
                "JwtSignatureError",
                "Failed to validate JWT signature".to_owned(),
            ),
            TokenRefusal::Algorithm { .. }
            | TokenRefusal::UnknownKey
            | TokenRefusal::KeysUnavailable => (
                "JwtSignerError",
                "Failed to generate JWT signer, check your JWT secret or JWKS configuration"
                    .to_owned(),
            ),
            TokenRefusal::TooLong { .. }
            | TokenRefusal::Malformed
            | TokenRefusal::Critical
            | TokenRefusal::Claim { .. }
            | TokenRefusal::KeyTooLong { .. }
            | TokenRefusal::OtherUser => (
                "MalformedJWT",
                "The token provided is not a valid JWT".to_owned(),
            ),
        };
        let status = refusal.status();
        Self { code, text, status }
    }

    /// The reason of a join that is refused for it.
    pub(super) fn reason(&self) -> String {
        format!("{}: {}", self.code, self.text)
    }
}

/// The answer to the request for a socket.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let expired = self.text.starts_with("Token has expired");
        let text = match expired {
            true => "Token has expired",
            false => &self.text,
        };
        (self.status, Json(json!({ "error": text }))).into_response()
    }
}
