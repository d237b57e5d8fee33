//! URLs and host names in a configuration.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An absolute URL without user information, query and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    /// Lower case.
    pub(super) scheme: String,
    /// Host name in lower case or IP address; IPv6 without brackets.
    pub(super) host: String,
    /// The port, when one is written.
    pub(super) port: Option<u16>,
    /// Path with its leading slash, as written; empty when none is.
    pub(super) path: String,
}

/// Why a text is not such a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum UrlError {
    #[error("is not a URL")]
    NoScheme,
    #[error("has no host")]
    NoHost,
    #[error("has a host that is neither a name nor an IP address")]
    BadHost,
    #[error("has a host with letters outside ASCII")]
    NotAscii,
    #[error("has a port that is not a number from 1 to 65535")]
    BadPort,
    #[error("has user information before the host")]
    UserInformation,
    #[error("has a query")]
    Query,
    #[error("has a fragment")]
    Fragment,
    #[error("has characters that a URL cannot have")]
    BadPath,
}

impl UrlError {
    /// How to mend it; `example` is a URL as it should be.
    pub(super) fn help(self, example: &str) -> String {
        match self {
            Self::NoScheme | Self::NoHost | Self::BadHost | Self::BadPort | Self::BadPath => {
                format!("write it like \"{example}\"")
            }
            Self::NotAscii => "write the host in its ASCII form, which begins with xn--".into(),
            Self::UserInformation => "leave out what stands before the @".into(),
            Self::Query => "leave out the ? and what follows it".into(),
            Self::Fragment => "leave out the # and what follows it".into(),
        }
    }
}

impl Url {
    /// Parses a URL. The scheme can be any; the caller knows which it takes.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::NoScheme)?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(UrlError::NoScheme);
        }
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.contains('@') {
            return Err(UrlError::UserInformation);
        }
        if path.contains('#') {
            return Err(UrlError::Fragment);
        }
        if path.contains('?') {
            return Err(UrlError::Query);
        }
        if !path.is_empty() && (!path.starts_with('/') || path.parse::<http::Uri>().is_err()) {
            return Err(UrlError::BadPath);
        }
        let (host, port) = split_authority(authority)?;
        Ok(Self { scheme: scheme.to_ascii_lowercase(), host, port, path: path.to_owned() })
    }

    /// The port, or that of the scheme: 443 for `https`, otherwise 80.
    pub(super) fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(if self.scheme == "https" { 443 } else { 80 })
    }

    /// Scheme, host and port, without the port where it is the scheme's own.
    pub(super) fn origin(&self) -> String {
        let standard = Self { port: None, ..self.clone() }.port_or_default();
        let port = self.port.filter(|port| *port != standard);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        format!("{}://{}{port}", self.scheme, bracketed(&self.host))
    }

    /// Whether the host is this machine.
    pub(super) fn is_loopback(&self) -> bool {
        is_localhost(&self.host) || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.origin(), self.path)
    }
}

/// Whether a name always means this machine (RFC 6761 §6.3).
pub(super) fn is_localhost(host: &str) -> bool {
    host == "localhost" || host.ends_with(".localhost")
}

/// Splits `host[:port]`; the host in lower case, IPv6 without brackets.
pub(super) fn split_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    if !authority.is_ascii() {
        return Err(UrlError::NotAscii);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(UrlError::BadHost)?;
            let address: Ipv6Addr = address.parse().map_err(|_| UrlError::BadHost)?;
            let port =
                if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(UrlError::BadHost)?) };
            (address.to_string(), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    if !authority.starts_with('[') && !is_host(&host) {
        return Err(UrlError::BadHost);
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().ok().filter(|port| *port != 0).ok_or(UrlError::BadPort)?)
        }
        Some(_) => return Err(UrlError::BadPort),
    };
    Ok((host, port))
}

/// Whether a text in lower case is a host name or an IPv4 address.
pub(super) fn is_host(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // What ends in a number is an address, and only its usual spelling means the same to everyone.
    let last_is_number =
        text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if last_is_number {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    text.len() <= 253 && text.split('.').all(label)
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read_and_written_in_one_form() {
        for (text, shown, port) in [
            ("http://Example.com", "http://example.com", 80),
            ("HTTPS://example.com:443/", "https://example.com/", 443),
            ("https://example.com:8443/a/b", "https://example.com:8443/a/b", 8443),
            ("http://[::1]:80", "http://[::1]", 80),
            ("h2c://10.0.0.1:50051", "h2c://10.0.0.1:50051", 50051),
            ("http://my_service:3000", "http://my_service:3000", 3000),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.to_string().as_str(), url.port_or_default()), (shown, port), "{text}");
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused_with_its_reason() {
        for (text, error) in [
            ("example.com", UrlError::NoScheme),
            ("localhost:8080", UrlError::NoScheme),
            ("http://", UrlError::NoHost),
            ("http:///x", UrlError::NoHost),
            ("http://:80", UrlError::NoHost),
            ("http://a b", UrlError::BadHost),
            ("http://127.1", UrlError::BadHost),
            ("http://1.2.3.4.5", UrlError::BadHost),
            ("http://[::1", UrlError::BadHost),
            ("http://[::1]x", UrlError::BadHost),
            ("http://::1", UrlError::NoHost),
            ("http://bücher.de", UrlError::NotAscii),
            ("http://a:0", UrlError::BadPort),
            ("http://a:", UrlError::BadPort),
            ("http://a:65536", UrlError::BadPort),
            ("http://a:+1", UrlError::BadPort),
            ("http://me:pw@a", UrlError::UserInformation),
            ("http://a/?q", UrlError::Query),
            ("http://a?q", UrlError::Query),
            ("http://a/#f", UrlError::Fragment),
            ("http://a/ b", UrlError::BadPath),
            ("http://a\\b", UrlError::BadPath),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn this_machine_is_recognised() {
        for (text, loopback) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.8.9.1", true),
            ("http://[::1]", true),
            ("http://10.0.0.1", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(Url::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,40}") {
            let _ = Url::parse(&text);
            let _ = Url::parse(&format!("http://{text}"));
        }
    }
}
