//! What a token says, once its signature is known to be right.
//!
//! | claim | what it must be | without it |
//! | --- | --- | --- |
//! | `sub` | the user, a text or a whole number | the client is nobody: it can observe, not be present |
//! | `exp`, `nbf` | seconds since 1970 | refused, unless `jwt.require_expiry` is false; valid at once |
//! | `aud`, `iss` | one of `jwt.audience`, `jwt.issuer`, if those are configured | refused, if so |
//! | `herenow` | `{"topics": […], "rights": […]}`, each optional | all topics, all rights |
//! | `herenow_topics`, `herenow_rights` | the same two, for makers of flat claims | |
//! | `role` | a text, which only the Supabase dialect looks at | |

use serde::Deserialize;

use super::refusal::TokenRefusal;
use super::rights::{Rights, Topics};

/// A token's claims as they stand in it.
#[derive(Debug, Deserialize)]
pub(super) struct RawClaims {
    sub: Option<Subject>,
    exp: Option<f64>,
    nbf: Option<f64>,
    aud: Option<Texts>,
    iss: Option<String>,
    role: Option<String>,
    herenow: Option<RawLimits>,
    herenow_topics: Option<Texts>,
    herenow_rights: Option<Texts>,
}

/// An unknown field is refused, for it may be a limit with a typing error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    topics: Option<Texts>,
    rights: Option<Texts>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Subject {
    Text(String),
    Number(i64),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Texts {
    One(String),
    Many(Vec<String>),
}

/// What the configuration asks of claims.
#[derive(Debug)]
pub(super) struct ClaimRules {
    pub(super) audience: Vec<String>,
    pub(super) issuer: Vec<String>,
    pub(super) leeway_s: u64,
    pub(super) require_expiry: bool,
    pub(super) max_key_bytes: usize,
}

/// Claims that hold now.
#[derive(Debug)]
pub(super) struct Claims {
    pub(super) key: Option<Box<str>>,
    pub(super) role: Option<Box<str>>,
    pub(super) topics: Topics,
    pub(super) rights: Rights,
    /// The end, leeway included, in seconds since 1970.
    pub(super) expires_at: Option<u64>,
}

impl RawClaims {
    /// Checks the claims at `now`, in seconds since 1970.
    pub(super) fn check(self, rules: &ClaimRules, now: u64) -> Result<Claims, TokenRefusal> {
        let expires_at = self.expiry(rules, now)?;
        let is_wanted = |wanted: &[String], texts: Option<&[String]>| {
            let is_one = |texts: &[String]| texts.iter().any(|text| wanted.contains(text));
            wanted.is_empty() || texts.is_some_and(is_one)
        };
        let audience = self.aud.as_ref().map(Texts::as_slice);
        if !is_wanted(&rules.audience, audience) {
            return Err(TokenRefusal::Audience);
        }
        if !is_wanted(&rules.issuer, self.iss.as_ref().map(std::slice::from_ref)) {
            return Err(TokenRefusal::Issuer);
        }
        let key = self
            .sub
            .map(|sub| key(sub, rules.max_key_bytes))
            .transpose()?;
        let (topics, rights) = match self.herenow {
            Some(limits) => (limits.topics, limits.rights),
            None => (None, None),
        };
        let topics = either("herenow.topics", topics, self.herenow_topics)?;
        let rights = either("herenow.rights", rights, self.herenow_rights)?;
        Ok(Claims {
            key,
            role: self.role.map(Into::into),
            topics: topics.map_or(Ok(Topics::All), |texts| topics_of(&texts))?,
            rights: rights.map_or(Ok(Rights::all()), |texts| rights_of(&texts))?,
            expires_at,
        })
    }

    /// The end of the token, leeway included, if it is within its time.
    fn expiry(&self, rules: &ClaimRules, now: u64) -> Result<Option<u64>, TokenRefusal> {
        // A cast of a float saturates: before 1970 is 0, beyond all time is the end of it.
        let begins_at = self.nbf.map_or(0, |nbf| nbf as u64);
        let waits = begins_at.saturating_sub(now);
        if waits > rules.leeway_s {
            return Err(TokenRefusal::NotYetValid { in_s: waits });
        }
        let Some(exp) = self.exp else {
            return match rules.require_expiry {
                true => Err(TokenRefusal::NoExpiry),
                false => Ok(None),
            };
        };
        let expires_at = (exp as u64).saturating_add(rules.leeway_s);
        if expires_at <= now {
            let ago_s = now.saturating_sub(exp as u64);
            return Err(TokenRefusal::Expired { ago_s });
        }
        Ok(Some(expires_at))
    }
}

impl Texts {
    fn as_slice(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts,
        }
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_slice().iter().map(String::as_str)
    }
}

fn key(sub: Subject, max: usize) -> Result<Box<str>, TokenRefusal> {
    let key = match sub {
        Subject::Text(text) => text,
        Subject::Number(number) => number.to_string(),
    };
    if key.is_empty() || key.len() > max {
        let (claim, expected) = ("sub", "1 byte or more, and at most presence.max_key_bytes");
        return Err(TokenRefusal::Claim { claim, expected });
    }
    Ok(key.into())
}

fn either(
    claim: &'static str,
    nested: Option<Texts>,
    flat: Option<Texts>,
) -> Result<Option<Texts>, TokenRefusal> {
    if nested.is_some() && flat.is_some() {
        let expected = "given once, here or as a flat claim";
        return Err(TokenRefusal::Claim { claim, expected });
    }
    Ok(nested.or(flat))
}

fn topics_of(texts: &Texts) -> Result<Topics, TokenRefusal> {
    let claim = TokenRefusal::Claim {
        claim: "herenow.topics",
        expected: "topics, or beginnings of topics with one * at their ends",
    };
    Topics::of(texts.iter()).ok_or(claim)
}

fn rights_of(texts: &Texts) -> Result<Rights, TokenRefusal> {
    let claim = TokenRefusal::Claim {
        claim: "herenow.rights",
        expected: "words out of join, observe, present, broadcast, list and count",
    };
    Rights::from_words(texts.iter()).ok_or(claim)
}
