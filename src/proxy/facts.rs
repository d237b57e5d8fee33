//! What is known of a request before anything is decided.

use http::header::{self, HeaderName, HeaderValue};
use pingora::http::RequestHeader;

use crate::payment::PaymentHeader;
use crate::policy::{PathError, RouteFacts, RoutePath};
use crate::x402::{Version, header as x402};

/// Why a request cannot be decided on: answered 400 (431 for a size).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("the request target is not valid UTF-8")]
    NotUtf8,
    #[error("the Host is missing or malformed")]
    Host,
    #[error("the Connection header names what must not be taken away")]
    Connection,
    #[error("a CORS preflight with a body")]
    PreflightBody,
    #[error("a WebSocket handshake with a body")]
    HandshakeBody,
    #[error("more than one payment header")]
    TwoPayments,
    #[error("the payment header is larger than {0} bytes")]
    PaymentTooLarge(usize),
}

impl BadRequest {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::PaymentTooLarge(_) => 431,
            Self::Path(_)
            | Self::NotUtf8
            | Self::Host
            | Self::Connection
            | Self::PreflightBody
            | Self::HandshakeBody
            | Self::TwoPayments => 400,
        }
    }
}

/// Options of a connection that are no names of headers to be taken away.
const CONNECTION_OPTIONS: [&str; 6] =
    ["close", "keep-alive", "upgrade", "te", "http2-settings", "proxy-connection"];
/// Options a `Connection` header may have.
const CONNECTION_OPTIONS_MAX: usize = 16;

/// Takes away the headers that `Connection` names (RFC 9110 §7.6.1), before anything is decided: what
/// is decided on must be what the origin gets. Those that say where a request goes, how long it is,
/// or who sent it cannot be named.
pub(super) fn take_hop_by_hop_away(request: &mut RequestHeader) -> Result<(), BadRequest> {
    let mut named = Vec::new();
    let mut kept = Vec::new();
    for value in request.headers.get_all(header::CONNECTION) {
        let value = value.to_str().map_err(|_| BadRequest::Connection)?;
        for option in value.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            let option = option.to_ascii_lowercase();
            if kept.len() + named.len() == CONNECTION_OPTIONS_MAX {
                return Err(BadRequest::Connection);
            }
            // A payment is for the gateway, and goes no further whatever it is called.
            let is_payment = option == x402::PAYMENT_SIGNATURE || option == x402::X_PAYMENT;
            if is_payment || CONNECTION_OPTIONS.contains(&option.as_str()) {
                kept.push(option);
            } else {
                named.push(option);
            }
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    for option in named {
        let name = HeaderName::from_bytes(option.as_bytes()).map_err(|_| BadRequest::Connection)?;
        let is_protected = matches!(name, header::HOST | header::CONTENT_LENGTH | header::TRANSFER_ENCODING)
            || name == header::FORWARDED
            || option.starts_with("x-forwarded-");
        if is_protected {
            return Err(BadRequest::Connection);
        }
        request.remove_header(&name);
    }
    request.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        request.insert_header(header::CONNECTION, kept.join(", ")).map_err(|_| BadRequest::Connection)?;
    }
    Ok(())
}

/// Whether a request says that it has a body. What it wishes to switch to does not matter here, whereas
/// for Pingora everything behind such a wish is one.
pub(super) fn announces_body(request: &RequestHeader) -> bool {
    let length = request.headers.get(header::CONTENT_LENGTH);
    length.is_some_and(|length| length != "0") || request.headers.contains_key(header::TRANSFER_ENCODING)
}

/// The target of a request, canonical.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) path: RoutePath,
    pub(super) query: String,
    /// Normalised host without port.
    pub(super) host: String,
    /// The host as the client sent it.
    pub(super) host_header: Option<HeaderValue>,
}

impl Target {
    /// What decides on the route of a request with this target.
    pub(super) fn facts<'a>(&'a self, request: &'a RequestHeader) -> RouteFacts<'a> {
        RouteFacts {
            method: request.method.as_str(),
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &request.headers,
        }
    }

    /// Reads the target: origin-form or absolute-form, its authority checked against `Host` by
    /// Pingora before.
    pub(super) fn read(request: &RequestHeader) -> Result<Self, BadRequest> {
        let raw = std::str::from_utf8(request.raw_path()).map_err(|_| BadRequest::NotUtf8)?;
        let raw = strip_authority(raw);
        let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
        let authority = request.uri.authority().map(http::uri::Authority::as_str);
        let host_header = match request.headers.get(http::header::HOST) {
            Some(host) => Some(host.clone()),
            // HTTP/2 clients send `:authority` instead.
            None => authority.map(HeaderValue::try_from).transpose().map_err(|_| BadRequest::Host)?,
        };
        let host_text = host_header.as_ref().map(HeaderValue::to_str).transpose();
        let host_text = host_text.map_err(|_| BadRequest::Host)?.unwrap_or_default();
        let host = match host_text {
            "" => String::new(),
            text => crate::policy::normalise_host(text).ok_or(BadRequest::Host)?.into_owned(),
        };
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { path: RoutePath::parse(path)?, query: query.to_owned(), host, host_header })
    }
}

/// The path and query of an absolute-form target (RFC 9112 §3.2.2).
fn strip_authority(target: &str) -> &str {
    if target.starts_with('/') {
        return target;
    }
    match target.split_once("://") {
        Some((_, rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        None => target,
    }
}

/// The payment header of a request, if there is one.
pub(super) fn payment_header(
    request: &RequestHeader,
    bytes_max: usize,
) -> Result<Option<PaymentHeader<'_>>, BadRequest> {
    let mut found = None;
    for version in [Version::V2, Version::V1] {
        for value in request.headers.get_all(version.payment_header()) {
            if found.is_some() {
                return Err(BadRequest::TwoPayments);
            }
            if value.len() > bytes_max {
                return Err(BadRequest::PaymentTooLarge(bytes_max));
            }
            found = Some(PaymentHeader { version, value: value.as_bytes() });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(connection: &[&'static str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in [("Host", "a"), ("X-Tier", "bulk"), ("Authorization", "x")] {
            request.insert_header(name, value).unwrap();
        }
        for value in connection {
            request.append_header("Connection", *value).unwrap();
        }
        request
    }

    #[test]
    fn headers_that_connection_names_are_gone_before_anything_is_decided() {
        let mut named = request(&["keep-alive, X-Tier", "Authorization,Upgrade"]);
        take_hop_by_hop_away(&mut named).unwrap();
        assert!(!named.headers.contains_key("x-tier") && !named.headers.contains_key("authorization"));
        assert_eq!(named.headers["connection"], "keep-alive, upgrade");
        let mut usual = request(&["Keep-Alive"]);
        take_hop_by_hop_away(&mut usual).unwrap();
        assert_eq!(usual.headers["connection"], "Keep-Alive");
        assert_eq!(usual.headers["x-tier"], "bulk");
    }

    #[test]
    fn what_a_request_cannot_do_without_cannot_be_named() {
        for value in ["Host", "content-length", "transfer-encoding", "X-Forwarded-For", "a b", "\"x\""] {
            let refused = take_hop_by_hop_away(&mut request(&[value]));
            assert_eq!(refused, Err(BadRequest::Connection), "{value}");
        }
        let many = vec!["x"; CONNECTION_OPTIONS_MAX + 1].join(",");
        let mut flooded = request(&[]);
        flooded.insert_header("Connection", many).unwrap();
        assert_eq!(take_hop_by_hop_away(&mut flooded), Err(BadRequest::Connection));
    }
}
