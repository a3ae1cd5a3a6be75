//! The parameters of a URL of PostgreSQL, looked at before the driver reads them.
//!
//! The driver leaves out a parameter that it does not know, with a line in the log that has its
//! value. So a `sslmod=verify-full` would connect without TLS, and a `pasword` would be in the log.

use url::Url;

/// What the driver knows beside `options[…]`. Of two spellings the first is PostgreSQL's own.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];
/// The longest name that an error repeats, in characters.
const MAX_SHOWN: usize = 32;
/// How alike two names are of which one may be meant by the other, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Checks that nothing in a URL would be left out. A refusal names a parameter, never its value.
pub(crate) fn check(url: &str) -> Result<(), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    if url.fragment().is_some() {
        return Err("what is behind a # in it is nowhere used; a # is written %23".to_owned());
    }
    for pair in url.query().unwrap_or_default().split('&') {
        // Without a value it may well be the end of the password before it.
        if !pair.is_empty() && !pair.contains('=') {
            return Err(
                "a parameter of it has no value; in a value an & is written %26".to_owned(),
            );
        }
    }
    let unknown = url.query_pairs().find(|(name, _)| !is_known(name));
    unknown.map_or(Ok(()), |(name, _)| Err(refusal(&name)))
}

fn is_known(name: &str) -> bool {
    let option = name.strip_prefix("options[");
    KNOWN.contains(&name) || option.is_some_and(|name| name.ends_with(']'))
}

fn refusal(name: &str) -> String {
    let alike = |known: &&str| strsim::jaro_winkler(&name.to_lowercase(), known);
    let nearest = KNOWN
        .iter()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)))
        .filter(|known| alike(known) > ALIKE);
    let shown: String = name.chars().take(MAX_SHOWN).collect();
    match nearest {
        Some(known) => {
            format!("there is no parameter {shown:?} for PostgreSQL, did you mean {known:?}?")
        }
        None => format!(
            "there is no parameter {shown:?} for PostgreSQL here; those that there are: {}",
            KNOWN.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres;

    const URL: &str = "postgres://app:hunter2@db.internal/app";

    fn refused(rest: &str) -> String {
        let refused = postgres::options(&format!("{URL}{rest}")).unwrap_err();
        assert!(!refused.contains("hunter"), "{refused}");
        refused
    }

    #[test]
    fn srv_1800_a_parameter_that_would_be_left_out_is_named_and_its_value_is_not() {
        for (rest, said) in [
            (
                "?pasword=hunter5",
                "\"pasword\" for PostgreSQL, did you mean \"password\"?",
            ),
            ("?sslmod=verify-full", "did you mean \"sslmode\"?"),
            ("?ssl_mode=verify-full", "did you mean \"sslmode\"?"),
            ("?SSLMODE=verify-full", "did you mean \"sslmode\"?"),
            (
                "?sslmode=require&%73slrootcrt=/a",
                "did you mean \"sslrootcert\"?",
            ),
            ("?schema=hunter5", "no parameter \"schema\""),
            ("?schema=hunter5", "those that there are: sslmode, "),
            ("?a%0Ab=hunter5", "no parameter \"a\\nb\""),
            ("?options[a=hunter5", "no parameter \"options[a\""),
            ("?=hunter5", "no parameter \"\""),
            ("?password=hunter5&hunter6", "an & is written %26"),
            ("?hunter5", "has no value"),
            (
                "?password=hunter5#hunter6&sslmode=verify-full",
                "a # is written %23",
            ),
            (
                &format!("?{}=1", "x".repeat(5_000)),
                &format!("\"{}\" for", "x".repeat(32)),
            ),
        ] {
            let refused = refused(rest);
            assert!(refused.contains(said), "{rest}: {refused}");
            assert!(refused.len() < 400, "{refused}");
        }
    }

    #[test]
    fn srv_1800_each_known_parameter_is_one_that_the_driver_takes() {
        let of = |rest: &str| format!("{:?}", postgres::options(&format!("{URL}{rest}")).unwrap());
        let plain = of("");
        for name in KNOWN.into_iter().chain(["options[search_path]"]) {
            let value = match name {
                "sslmode" | "ssl-mode" => "verify-full",
                "hostaddr" => "10.9.8.7",
                "port" | "statement-cache-capacity" => "987",
                _ => "another",
            };
            assert_ne!(of(&format!("?{name}={value}")), plain, "{name}");
        }
        assert_eq!(of("?"), plain);
        assert_eq!(of("?&"), plain);
    }
}
