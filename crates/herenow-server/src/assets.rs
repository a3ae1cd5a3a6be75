//! The pages that are embedded in the program: their files, and how these are answered.
//!
//! A build without optimisation reads the files from the source tree at each request, so that a
//! page can be worked on without building anew.

use axum::body::Body;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "assets"]
#[allow_missing = true]
struct Assets;

/// Answers with the file at `path` below `assets`, or with 304 if the browser has it already.
/// `policy` is all that a page may do.
pub(crate) fn file(path: &str, policy: &'static str, headers: &HeaderMap) -> Response<Body> {
    let is_inside = !path.split(['/', '\\']).any(|part| part == "..");
    let Some(file) = is_inside.then(|| Assets::get(path)).flatten() else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let tag = tag(&file);
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let mut response = file.data.into_owned().into_response();
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type(path)));
        response
    };
    let headers = response.headers_mut();
    headers.insert(
        ETAG,
        HeaderValue::try_from(tag).expect("hexadecimal digits are header text"),
    );
    // The files have no version in their names: a browser asks each time and mostly hears 304.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// The entity tag: the beginning of the file's SHA-256, quoted.
fn tag(file: &EmbeddedFile) -> String {
    use std::fmt::Write as _;
    let mut tag = String::from("\"");
    for byte in &file.metadata.sha256_hash()[..12] {
        write!(tag, "{byte:02x}").expect("writing to a string does not fail");
    }
    tag + "\""
}

/// The type of a file by its name.
fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "md" | "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "default-src 'none'";

    #[test]
    fn every_file_has_a_type_and_is_not_sent_twice() {
        for path in Assets::iter() {
            let response = file(&path, POLICY, &HeaderMap::new());
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_ne!(
                response.headers()[CONTENT_TYPE],
                "application/octet-stream",
                "{path}"
            );
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, response.headers()[ETAG].clone());
            assert_eq!(
                file(&path, POLICY, &headers).status(),
                StatusCode::NOT_MODIFIED,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_404() {
        for path in ["../Cargo.toml", "demo/../dashboard/index.html", "nothing"] {
            let outside = file(path, POLICY, &HeaderMap::new());
            assert_eq!(outside.status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
