//! `sec-websocket-protocol`: choosing one, and the token that browsers can only send there.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue};

/// What the name of the sub-protocol that carries a token begins with.
const BEARER_PREFIX: &str = "base64url.bearer.phx.";
/// What is chosen when a token was offered.
const TOKEN_PROTOCOL: &str = "phoenix";

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// What the client's offer came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Negotiated {
    /// The sub-protocol for the response header.
    pub(crate) protocol: Option<HeaderValue>,
    /// The decoded token.
    pub(crate) auth_token: Option<String>,
}

/// Why an offer of sub-protocols is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SubprotocolError {
    #[error("none of the sub-protocols offered is one of {configured:?}")]
    NoneInCommon { configured: Vec<String> },
    #[error("the token sub-protocol is not base64 of UTF-8")]
    TokenEncoding,
}

/// Chooses the first of `configured` that the client offers, and takes out the token.
///
/// Only the first header line counts. Without a header everything is fine; without a configured
/// list nothing is chosen, unless a token was offered: then `phoenix` is, if it was offered too,
/// because browsers fail a handshake that answers none of their offers.
///
/// # Errors
///
/// [`SubprotocolError`]; the request is then answered 403.
pub(crate) fn negotiate(
    headers: &HeaderMap,
    configured: &[String],
) -> Result<Negotiated, SubprotocolError> {
    let Some(header) = headers.get(SEC_WEBSOCKET_PROTOCOL) else {
        return Ok(Negotiated::default());
    };
    // Bytes that are not ASCII match no configured name, so nothing is lost by dropping them.
    let offer = header.to_str().unwrap_or_default();
    let mut offered: Vec<&str> = offer
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let auth_token = take_token(&mut offered)?;
    let with_token = auth_token.is_some().then_some(TOKEN_PROTOCOL);
    let mut supported = with_token
        .into_iter()
        .chain(configured.iter().map(String::as_str));
    let chosen = supported.find(|name| offered.contains(name));
    if chosen.is_none() && !configured.is_empty() && !(auth_token.is_some() && offered.is_empty()) {
        return Err(SubprotocolError::NoneInCommon {
            configured: configured.to_vec(),
        });
    }
    let protocol = chosen.and_then(|name| HeaderValue::from_str(name).ok());
    Ok(Negotiated {
        protocol,
        auth_token,
    })
}

/// Removes the token's entry and decodes it. Of two such entries neither counts.
fn take_token(offered: &mut Vec<&str>) -> Result<Option<String>, SubprotocolError> {
    let mut bearers = offered
        .iter()
        .filter_map(|name| name.strip_prefix(BEARER_PREFIX));
    let (Some(encoded), None) = (bearers.next(), bearers.next()) else {
        return Ok(None);
    };
    offered.retain(|name| !name.starts_with(BEARER_PREFIX));
    decode_token(encoded).map(Some)
}

/// Decodes either alphabet: the client that names it `base64url` writes the standard one. How long
/// a token may be is for whoever reads it to say; what a head may hold bounds it here.
fn decode_token(encoded: &str) -> Result<String, SubprotocolError> {
    let is_url_safe = encoded.contains(['-', '_']);
    let engine = if is_url_safe { &URL_SAFE } else { &STANDARD };
    let bytes = engine
        .decode(encoded)
        .map_err(|_| SubprotocolError::TokenEncoding)?;
    String::from_utf8(bytes).map_err(|_| SubprotocolError::TokenEncoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(protocols: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_PROTOCOL, protocols.parse().unwrap());
        headers
    }

    fn configured(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn chosen(headers: &HeaderMap, names: &[&str]) -> Option<String> {
        let negotiated = negotiate(headers, &configured(names)).unwrap();
        negotiated
            .protocol
            .map(|value| value.to_str().unwrap().to_owned())
    }

    fn token(protocols: &str) -> Result<Option<String>, SubprotocolError> {
        Ok(negotiate(&offer(protocols), &[])?.auth_token)
    }

    #[test]
    fn x_24_without_a_configured_list_anything_passes() {
        assert_eq!(chosen(&HeaderMap::new(), &[]), None);
        assert_eq!(chosen(&offer("sip, mqtt"), &[]), None);
    }

    #[test]
    fn x_26_the_first_configured_protocol_that_was_offered_is_chosen() {
        assert_eq!(
            chosen(&offer("sip, mqtt"), &["sip", "mqtt"]).as_deref(),
            Some("sip")
        );
        assert_eq!(
            chosen(&offer("mqtt,sip"), &["sip", "mqtt"]).as_deref(),
            Some("sip")
        );
        assert_eq!(
            chosen(&offer("mqtt"), &["sip", "mqtt"]).as_deref(),
            Some("mqtt")
        );
        assert_eq!(chosen(&HeaderMap::new(), &["sip", "mqtt"]), None);
    }

    #[test]
    fn x_27_nothing_in_common_is_refused() {
        let refused = negotiate(&offer("mqtt"), &configured(&["sip"])).unwrap_err();
        assert_eq!(
            refused,
            SubprotocolError::NoneInCommon {
                configured: configured(&["sip"])
            }
        );
    }

    #[test]
    fn soc_105_a_token_is_taken_in_both_base64_alphabets() {
        // "a?>b~" is YT8+Yn4 in the standard alphabet and YT8-Yn4 in the URL-safe one.
        for encoded in ["YT8+Yn4", "YT8-Yn4", "YT8-Yn4="] {
            let protocols = format!("phoenix, base64url.bearer.phx.{encoded}");
            let negotiated = negotiate(&offer(&protocols), &[]).unwrap();
            assert_eq!(negotiated.auth_token.as_deref(), Some("a?>b~"), "{encoded}");
            assert_eq!(
                negotiated.protocol,
                Some(HeaderValue::from_static("phoenix"))
            );
        }
    }

    #[test]
    fn soc_106_a_bad_token_is_refused_and_two_are_none() {
        let refused = token("phoenix, base64url.bearer.phx.*").unwrap_err();
        assert_eq!(refused, SubprotocolError::TokenEncoding);
        let not_utf8 = token("base64url.bearer.phx._w").unwrap_err();
        assert_eq!(not_utf8, SubprotocolError::TokenEncoding);
        assert_eq!(
            token("base64url.bearer.phx.YQ, base64url.bearer.phx.Yg"),
            Ok(None)
        );
        assert_eq!(token("phoenix"), Ok(None));
    }

    #[test]
    fn soc_730_a_token_of_any_length_is_passed_on() {
        let long = "a".repeat(30_000);
        let encoded = URL_SAFE.encode(&long);
        let taken = token(&format!("phoenix, base64url.bearer.phx.{encoded}"));
        assert_eq!(taken, Ok(Some(long)));
    }

    #[test]
    fn soc_107_a_token_does_not_hide_the_configured_protocols() {
        let with_token = "sip, base64url.bearer.phx.YQ";
        assert_eq!(chosen(&offer(with_token), &["sip"]).as_deref(), Some("sip"));
        assert_eq!(chosen(&offer("base64url.bearer.phx.YQ"), &["sip"]), None);
        let all = "sip, phoenix, base64url.bearer.phx.YQ";
        assert_eq!(chosen(&offer(all), &["sip"]).as_deref(), Some("phoenix"));
        let refused = negotiate(
            &offer("mqtt, base64url.bearer.phx.YQ"),
            &configured(&["sip"]),
        );
        assert!(refused.is_err());
    }
}
