//! CORS preflights of priced routes: unpaid, and nothing but what they are about is passed on.

use http::header;
use pingora::http::{RequestHeader, ResponseHeader};

use super::headers;
use super::respond::ALLOWED;

/// The method of the request that a CORS preflight announces (Fetch standard §3.2.2); `None`: it is
/// no preflight.
pub(super) fn announced_method(request: &RequestHeader) -> Option<&str> {
    if request.method != http::Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
        return None;
    }
    request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()
}

/// Keeps only what a preflight is about, and lets payments through where the origin lets anything.
pub(super) fn complete(response: &mut ResponseHeader) -> pingora::Result<()> {
    let kept = |name: &str| {
        name.starts_with("access-control-")
            || matches!(name, "vary" | "allow" | "date" | "server" | "cache-control" | "connection")
    };
    let dropped: Vec<_> = response.headers.keys().filter(|name| !kept(name.as_str())).cloned().collect();
    for name in dropped {
        response.remove_header(&name);
    }
    if response.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers::append(response, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED)?;
    }
    if response.status != http::StatusCode::NO_CONTENT {
        response.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    Ok(())
}
