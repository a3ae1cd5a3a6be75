//! The demo page: who is here, in two tabs.

use axum::Router;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Redirect;
use axum::routing::get;

use crate::assets::file;

/// Where the page is.
pub(crate) const PATH: &str = "/demo";

/// All that the page may do: load its own files and talk to its own server.
///
/// `'self'` covers the WebSocket as well in browsers of today; the two schemes are for older ones.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self' ws: wss:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The way there from `/`, where the dashboard is not.
pub(crate) fn root() -> Router {
    Router::new().route("/", get(async || Redirect::temporary(PATH)))
}

/// Routes of the page and its files.
pub(crate) fn router() -> Router {
    let page = get(async |headers: HeaderMap| file("demo/index.html", POLICY, &headers));
    Router::new()
        .route(PATH, page.clone())
        .route("/demo/", page)
        .route(
            "/demo/{*path}",
            get(async |Path(path): Path<String>, headers: HeaderMap| {
                file(&format!("demo/{path}"), POLICY, &headers)
            }),
        )
}
