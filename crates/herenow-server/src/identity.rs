//! Who a client is and what it may do.
//!
//! An [`Authority`] turns a token into an [`Identity`] when a client connects, and again when it
//! brings a new token. Everything behind that (channels, other dialects) asks the [`Identity`] and
//! never sees a token. In dev mode the identity is what the client says of itself, and may do all.
//!
//! ```text
//!   token ──→ Authority ──→ Identity ──→ Credential of the connection ──→ channels ask it
//!               │ keys: secret, PEM files,     │ guards the connection: topics, new tokens
//!               │ JWKS (one task fetches)      └ closed when the token expires (one list for all)
//! ```
//!
//! The state of a connection's identity is its [`Credential`]'s; the keys that were fetched are the
//! fetching task's.

mod rights;
mod refusal;
mod claims;
mod crypto;
mod keys;
mod expiry;
mod jwks;
mod who;
mod authority;
mod eviction;
mod credential;
mod issue;

pub use self::authority::{Authority, AuthorityError};
pub use self::credential::Credential;
pub(crate) use self::credential::{ACCESS_TOKEN, IdentityChanged, answer, token_in};
pub(crate) use self::eviction::{EVICT, evict, evict_from, evicted_key, user_id};
pub(crate) use self::expiry::{Expiry, TokenExpired};
pub use self::issue::{IssueError, TokenRequest, issue};
pub use self::refusal::{TokenMetrics, TokenRefusal};
pub(crate) use self::rights::PRIVATE_PREFIX;
pub use self::rights::{Right, Rights, Topics};
pub use self::who::{Identity, OtherUser};
