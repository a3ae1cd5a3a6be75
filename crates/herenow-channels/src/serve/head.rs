//! [`HeadLimits`]: how large the head of a request may be, and the answer to one that is larger.

use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};

use super::{ServeConfig, ServeCounts};

/// What the writing of a head has besides its words: `" "`, `" HTTP/1.1\r\n"`, and an empty line.
const FIRST_LINE_BYTES: usize = 12;
const EMPTY_LINE_BYTES: usize = 2;
/// Of a header, `": "` and the end of its line.
const HEADER_BYTES: usize = 4;

/// What a head may have.
pub(super) struct HeadLimits {
    max_bytes: usize,
    max_headers: usize,
    counts: ServeCounts,
}

impl HeadLimits {
    pub(super) fn new(config: &ServeConfig) -> Self {
        Self {
            max_bytes: config.max_header_bytes,
            max_headers: config.max_headers.get(),
            counts: config.counts.clone(),
        }
    }

    /// The answer to a request whose head is over a limit, which it names; counted.
    pub(super) fn refuse<B>(&self, request: &Request<B>) -> Option<Response> {
        let n_headers = request.headers().len();
        let text = if n_headers > self.max_headers {
            self.counts.count_headers();
            let max = self.max_headers;
            format!("the request has {n_headers} headers, the limit is {max} (http.max_headers)\n")
        } else {
            let (len, max) = (head_bytes(request), self.max_bytes);
            if len <= max {
                return None;
            }
            self.counts.count_bytes();
            format!(
                "the head of the request is {len} bytes, the limit is {max} (http.max_header_bytes)\n"
            )
        };
        Some((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text).into_response())
    }

    /// Counts a head that was so large that it was not read to its end.
    pub(super) fn count_unread(&self) {
        self.counts.count_bytes();
    }
}

/// The bytes of a head as clients write it.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let authority = uri.authority().map_or(0, |authority| {
        let scheme = uri
            .scheme_str()
            .map_or(0, |scheme| scheme.len() + "://".len());
        scheme + authority.as_str().len()
    });
    let target = uri
        .path_and_query()
        .map_or(0, |target| target.as_str().len());
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES);
    request.method().as_str().len()
        + authority
        + target
        + FIRST_LINE_BYTES
        + headers.sum::<usize>()
        + EMPTY_LINE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soc_736_the_bytes_of_a_head_are_those_that_its_client_wrote() {
        let written = "GET /a?b=c HTTP/1.1\r\nhost: h\r\nx-one: 1\r\n\r\n";
        let request = Request::get("/a?b=c")
            .header("host", "h")
            .header("x-one", "1");
        assert_eq!(head_bytes(&request.body(()).unwrap()), written.len());
    }
}
