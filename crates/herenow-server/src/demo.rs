//! The demo page, embedded in the program: who is here, in two tabs.
//!
//! A build without optimisation reads the files from the source tree at each request, so that the
//! page can be worked on without building anew.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{Response, StatusCode};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use rust_embed::{EmbeddedFile, RustEmbed};

/// Where the page is.
pub(crate) const PATH: &str = "/demo";

/// All that the page may do: load its own files and talk to its own server.
///
/// `'self'` covers the WebSocket as well in browsers of today; the two schemes are for older ones.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

#[derive(RustEmbed)]
#[folder = "assets/demo"]
#[allow_missing = true]
struct Assets;

/// Routes of the page and its files, and the way there from `/`.
pub(crate) fn router() -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::temporary(PATH) }))
        .route(
            PATH,
            get(|headers: HeaderMap| async move { page("index.html", &headers) }),
        )
        .route(
            "/demo/",
            get(|headers: HeaderMap| async move { page("index.html", &headers) }),
        )
        .route(
            "/demo/{*path}",
            get(
                |Path(path): Path<String>, headers: HeaderMap| async move { page(&path, &headers) },
            ),
        )
}

/// Answers with a file, or with 304 if the browser has it already.
fn page(path: &str, headers: &HeaderMap) -> Response<Body> {
    let Some(file) = Assets::get(path) else {
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
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
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

    #[test]
    fn every_file_has_a_type_and_is_not_sent_twice() {
        for path in Assets::iter() {
            let response = page(&path, &HeaderMap::new());
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            assert_ne!(
                response.headers()[CONTENT_TYPE],
                "application/octet-stream",
                "{path}"
            );
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, response.headers()[ETAG].clone());
            assert_eq!(
                page(&path, &headers).status(),
                StatusCode::NOT_MODIFIED,
                "{path}"
            );
        }
    }

    #[test]
    fn what_is_not_there_is_404() {
        assert_eq!(
            page("../../Cargo.toml", &HeaderMap::new()).status(),
            StatusCode::NOT_FOUND
        );
    }
}
