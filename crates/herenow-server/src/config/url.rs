//! How URLs of the configuration are shown: where they lead, and no more.
//!
//! A URL can have a password in it, and what its path or its query says can be a secret as well. It
//! is in errors and in `herenow config show` with its scheme, its host and its port.

use reqwest::Url;

/// Stands for what is not shown.
const REST: &str = "/…";

/// A URL as it may be shown; `None` if it is none, and could be anything.
pub(crate) fn shown(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let port = url
        .port()
        .map_or_else(String::new, |port| format!(":{port}"));
    let origin = format!("{}://{host}{port}", url.scheme());
    let is_all = text.strip_suffix('/').unwrap_or(text) == origin;
    Some(if is_all {
        text.to_owned()
    } else {
        origin + REST
    })
}

/// The same for a URL that was looked at before.
pub(crate) fn known(text: &str) -> String {
    shown(text).unwrap_or_else(|| "…".to_owned())
}

/// Tells whether `text` is a URL of HTTP with nobody's name or password in it.
pub(super) fn is_bare_http(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let is_bare = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "https" | "http") && url.has_host() && is_bare
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1294_of_a_url_only_where_it_leads_is_shown() {
        for (text, expected) in [
            ("https://example.com", "https://example.com"),
            ("https://example.com/", "https://example.com/"),
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
            ("https://example.com/hooks/hunter5", "https://example.com/…"),
            ("https://example.com?k=hunter5", "https://example.com/…"),
            ("https://u:hunter5@[::1]:8443/x", "https://[::1]:8443/…"),
            ("ftp://hunter5@example.com", "ftp://example.com/…"),
        ] {
            assert_eq!(shown(text).as_deref(), Some(expected));
        }
        for none in ["", "hunter5", "u:hunter5@example.com/x", "https://"] {
            assert_eq!(shown(none), None, "{none}");
        }
    }
}
