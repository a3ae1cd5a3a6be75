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
//!
//! A claim that is there and of another type refuses the token, and null is one: a backend that has
//! no topics to give must not give all of them. One text stands for a list of it.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;
use smol_str::SmolStr;

use super::refusal::TokenRefusal;
use super::rights::{Rights, Topics};

/// What claims must be, and the set of them.
const SET: &str = "an object with each claim once";
const USER: &str = "a text or a whole number";
const SECONDS: &str = "a number, of seconds since 1970";
const TEXT: &str = "a text";
const TEXTS: &str = "a text or a list of texts";
const LIMITS: &str = "an object of topics and rights and nothing else, each once";
const TOPICS: &str =
    "a topic or a list of topics, or of beginnings of topics with one * at their ends";
const RIGHTS: &str = "a list of words out of join, observe, present, broadcast, list and count";

/// A token's claims as they stand in it; `None` is one that does not.
#[derive(Debug, Deserialize)]
pub(super) struct RawClaims {
    #[serde(default, deserialize_with = "given")]
    sub: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    exp: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    aud: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    iss: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    role: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    herenow: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "given")]
    herenow_topics: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    herenow_rights: Option<Value>,
}

/// An unknown field is refused, for it may be a limit with a typing error.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    #[serde(default, deserialize_with = "given")]
    topics: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    rights: Option<Value>,
}

/// A value that is there, also if it is null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
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
    pub(super) key: Option<SmolStr>,
    pub(super) role: Option<SmolStr>,
    pub(super) topics: Topics,
    pub(super) rights: Rights,
    /// The end, leeway included, in seconds since 1970.
    pub(super) expires_at: Option<u64>,
}

impl RawClaims {
    /// Reads what a token says, as JSON.
    pub(super) fn read(claims: &[u8]) -> Result<Self, TokenRefusal> {
        let claims = std::str::from_utf8(claims).map_err(|_| TokenRefusal::Malformed)?;
        if let Some(claims) = object(claims.trim_ascii_start()) {
            return Ok(claims);
        }
        match serde_json::from_str::<IgnoredAny>(claims) {
            Ok(_) => Err(wrong("set", SET)),
            Err(_) => Err(TokenRefusal::Malformed),
        }
    }

    /// Checks the claims at `now`, in seconds since 1970.
    pub(super) fn check(self, rules: &ClaimRules, now: u64) -> Result<Claims, TokenRefusal> {
        let expires_at = expiry((self.exp, self.nbf), rules, now)?;
        let is_wanted = |wanted: &[String], texts: Option<Vec<String>>| {
            let is_one = |texts: Vec<String>| texts.iter().any(|text| wanted.contains(text));
            wanted.is_empty() || texts.is_some_and(is_one)
        };
        if !is_wanted(&rules.audience, read("aud", TEXTS, self.aud, texts)?) {
            return Err(TokenRefusal::Audience);
        }
        let issuer = read("iss", TEXT, self.iss, text)?;
        if !is_wanted(&rules.issuer, issuer.map(|issuer| vec![issuer])) {
            return Err(TokenRefusal::Issuer);
        }
        let user = read("sub", USER, self.sub, user)?;
        let key = user
            .map(|user| key(user, rules.max_key_bytes))
            .transpose()?;
        let role = read("role", TEXT, self.role, text)?;
        let limits = match self.herenow {
            Some(limits) => object(limits.get()).ok_or(wrong("herenow", LIMITS))?,
            None => RawLimits::default(),
        };
        let claim = ("herenow.topics", "herenow_topics");
        let (claim, topics) = either(claim, limits.topics, self.herenow_topics)?;
        let topics = read(claim, TOPICS, topics, topics_of)?;
        let claim = ("herenow.rights", "herenow_rights");
        let (claim, rights) = either(claim, limits.rights, self.herenow_rights)?;
        let rights = read(claim, RIGHTS, rights, rights_of)?;
        Ok(Claims {
            key,
            role: role.map(Into::into),
            topics: topics.unwrap_or(Topics::All),
            rights: rights.unwrap_or_else(Rights::all),
            expires_at,
        })
    }
}

/// Reads an object. A list is none, whose values would be taken for the fields in their order.
fn object<T: DeserializeOwned>(json: &str) -> Option<T> {
    let is_object = json.starts_with('{');
    is_object.then(|| serde_json::from_str(json).ok()).flatten()
}

/// The end of a token, leeway included, if it is within its time.
fn expiry(
    (exp, nbf): (Option<Value>, Option<Value>),
    rules: &ClaimRules,
    now: u64,
) -> Result<Option<u64>, TokenRefusal> {
    let seconds = |value: Value| value.as_f64();
    let exp = read("exp", SECONDS, exp, seconds)?;
    // A cast of a float saturates: before 1970 is 0, beyond all time is the end of it.
    let begins_at = read("nbf", SECONDS, nbf, seconds)?.map_or(0, |nbf| nbf as u64);
    let waits = begins_at.saturating_sub(now);
    if waits > rules.leeway_s {
        return Err(TokenRefusal::NotYetValid { in_s: waits });
    }
    let Some(exp) = exp else {
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

/// What a claim says, if it is there; refuses one that is not what it must be.
fn read<T>(
    claim: &'static str,
    expected: &'static str,
    value: Option<Value>,
    meaning: impl FnOnce(Value) -> Option<T>,
) -> Result<Option<T>, TokenRefusal> {
    let Some(value) = value else { return Ok(None) };
    meaning(value).map(Some).ok_or(wrong(claim, expected))
}

fn wrong(claim: &'static str, expected: &'static str) -> TokenRefusal {
    TokenRefusal::Claim { claim, expected }
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn texts(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    }
}

fn user(value: Value) -> Option<String> {
    match value {
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        value => text(value),
    }
}

fn topics_of(value: Value) -> Option<Topics> {
    Topics::of(texts(value)?.iter().map(String::as_str))
}

fn rights_of(value: Value) -> Option<Rights> {
    Rights::from_words(texts(value)?.iter().map(String::as_str))
}

fn key(user: String, max: usize) -> Result<SmolStr, TokenRefusal> {
    match user.len() {
        0 => Err(wrong("sub", "1 byte or more")),
        len if len > max => Err(TokenRefusal::KeyTooLong { len, max }),
        _ => Ok(user.into()),
    }
}

/// The one of two claims that is given, with its name.
fn either(
    (nested, flat): (&'static str, &'static str),
    in_nested: Option<Value>,
    in_flat: Option<Value>,
) -> Result<(&'static str, Option<Value>), TokenRefusal> {
    match (in_nested, in_flat) {
        (Some(_), Some(_)) => Err(wrong(nested, "given once, here or as a flat claim")),
        (None, value @ Some(_)) => Ok((flat, value)),
        (value, None) => Ok((nested, value)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rights::Right;
    use super::*;

    fn check(claims: &Value) -> Result<Claims, String> {
        let rules = ClaimRules {
            audience: Vec::new(),
            issuer: Vec::new(),
            leeway_s: 0,
            require_expiry: false,
            max_key_bytes: 64,
        };
        let claims = RawClaims::read(claims.to_string().as_bytes());
        let checked = claims.and_then(|claims| claims.check(&rules, 100));
        checked.map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn srv_1255_a_claim_of_another_type_is_refused_by_its_name_and_null_is_one() {
        let odd = [json!(null), json!({}), json!(true)];
        for (claim, expected, others) in [
            ("sub", USER, vec![json!(["ada"]), json!(1.5)]),
            ("exp", SECONDS, vec![json!("soon"), json!([900])]),
            ("nbf", SECONDS, vec![json!("now")]),
            ("aud", TEXTS, vec![json!(1), json!(["a", 1])]),
            ("iss", TEXT, vec![json!(["app"])]),
            ("role", TEXT, vec![json!(["anon"])]),
            (
                "herenow_topics",
                TOPICS,
                vec![json!(1), json!(["a", null]), json!("")],
            ),
            (
                "herenow_rights",
                RIGHTS,
                vec![json!(1), json!([1]), json!("join list")],
            ),
        ] {
            for value in odd.iter().chain(&others) {
                let refused = check(&json!({ claim: value })).unwrap_err();
                let text = format!("the token's claim {claim} is wrong: it must be {expected}");
                assert_eq!(refused, text, "{value}");
            }
        }
        for (limits, claim) in [
            (json!(null), "herenow"),
            (json!("room:*"), "herenow"),
            (json!(["room:*"]), "herenow"),
            (json!({ "topic": ["room:*"] }), "herenow"),
            (json!({ "topics": null }), "herenow.topics"),
            (json!({ "topics": { "room": "*" } }), "herenow.topics"),
            (json!({ "topics": [], "rights": null }), "herenow.rights"),
        ] {
            let refused = check(&json!({ "herenow": limits })).unwrap_err();
            let text = format!("the token's claim {claim} is wrong: it must be ");
            assert!(refused.starts_with(&text), "{limits}: {refused}");
        }
    }

    #[test]
    fn srv_1255_claims_are_an_object_with_each_once() {
        let read = |json: &str| {
            let refused = RawClaims::read(json.as_bytes()).map(drop).unwrap_err();
            refused.to_string()
        };
        for json in ["[]", r#"["ada"]"#, "null", "7", r#"{"sub":"a","sub":"b"}"#] {
            let text = "the token's claim set is wrong: it must be an object with each claim once";
            assert_eq!(read(json), text, "{json}");
        }
        let twice = r#"{"topics":["a"],"topics":["*"]}"#;
        assert!(object::<RawLimits>(twice).is_none());
        for json in ["", "{", r#"{"sub":}"#, r#"{"sub":"a"} {}"#, "[1,", "ada"] {
            let refused = RawClaims::read(json.as_bytes()).unwrap_err();
            assert_eq!(refused, TokenRefusal::Malformed, "{json}");
        }
        assert!(RawClaims::read(b" \n{\"sub\":\"a\"} ").is_ok());
    }

    #[test]
    fn srv_1256_one_text_stands_for_a_list_of_it_and_never_for_everything() {
        for claims in [
            json!({ "herenow": { "topics": "room:*", "rights": "observe" } }),
            json!({ "herenow_topics": "room:*", "herenow_rights": ["observe"] }),
        ] {
            let claims = check(&claims).unwrap();
            assert_eq!(claims.topics, Topics::of(["room:*"]).unwrap());
            assert_eq!(claims.rights, Rights::NONE.with(Right::Observe));
        }
        let none = check(&json!({ "herenow": { "topics": [], "rights": [] } })).unwrap();
        assert!(!none.topics.contain("room:1") && none.rights.is_empty());
        let unsaid = check(&json!({ "herenow": {} })).unwrap();
        assert_eq!((unsaid.topics, unsaid.rights), (Topics::All, Rights::all()));
    }

    #[test]
    fn srv_1255_a_user_is_a_text_or_a_whole_number_of_any_size() {
        for (sub, key) in [
            (json!("ada"), "ada"),
            (json!(-7), "-7"),
            (json!(u64::MAX), "18446744073709551615"),
        ] {
            assert_eq!(
                check(&json!({ "sub": sub })).unwrap().key.as_deref(),
                Some(key)
            );
        }
    }
}
