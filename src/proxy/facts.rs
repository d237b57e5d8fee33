//! What is known of a request before anything is decided.

use http::header::HeaderValue;
use pingora::http::RequestHeader;

use crate::payment::PaymentHeader;
use crate::policy::{PathError, RoutePath};
use crate::x402::Version;

/// Why a request cannot be decided on: answered 400 (431 for a size).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadRequest {
    #[error("{0}")]
    Path(#[from] PathError),
    #[error("the request target is not valid UTF-8")]
    NotUtf8,
    #[error("the Host is missing or malformed")]
    Host,
    #[error("more than one payment header")]
    TwoPayments,
    #[error("the payment header is larger than {0} bytes")]
    PaymentTooLarge(usize),
}

impl BadRequest {
    pub(super) const fn status(&self) -> u16 {
        match self {
            Self::PaymentTooLarge(_) => 431,
            Self::Path(_) | Self::NotUtf8 | Self::Host | Self::TwoPayments => 400,
        }
    }
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
