//! Hosts: how a request names one, and which of them a route is for.

use std::borrow::Cow;
use std::net::Ipv6Addr;

/// A host a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Exactly this host, as [`normalise_host`] writes it.
    Exact(String),
    /// Every host below this domain: `*.example.com` is stored as `example.com`.
    Below(String),
}

impl HostPattern {
    /// Parses `example.com`, `[::1]` or `*.example.com`. `None` when it is neither, or has a port.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (domain, below) = match text.strip_prefix("*.") {
            Some(domain) => (domain, true),
            None => (text, false),
        };
        if split_port(domain)?.1.is_some() || (below && domain.starts_with('[')) {
            return None;
        }
        let domain = normalise_host(domain)?.into_owned();
        Some(if below { Self::Below(domain) } else { Self::Exact(domain) })
    }

    /// Whether a normalised host is meant.
    pub(super) fn covers(&self, host: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == host,
            Self::Below(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
        }
    }
}

/// The host of a `Host` header or authority (RFC 9110 §7.2) as routes are compared with it: without
/// port and trailing dot, in lower case, IPv6 in brackets and in its shortest form.
///
/// `None` for what is no host: empty text, user information, anything but letters, digits, `-`, `_`,
/// `~` and single dots, a port that is not a number below 65536. Allocates only when it must change
/// the text.
#[must_use]
pub fn normalise_host(text: &str) -> Option<Cow<'_, str>> {
    let (host, port) = split_port(text)?;
    if port.is_some_and(|port| !is_port(port)) {
        return None;
    }
    if let Some(address) = host.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(Cow::Owned(format!("[{address}]")));
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~');
    if host.split('.').any(|label| label.is_empty() || !label.bytes().all(valid)) {
        return None;
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(Cow::Owned(host.to_ascii_lowercase()));
    }
    Some(Cow::Borrowed(host))
}

fn split_port(text: &str) -> Option<(&str, Option<&str>)> {
    let end = if text.starts_with('[') { text.find(']')? + 1 } else { text.find(':').unwrap_or(text.len()) };
    let (host, rest) = text.split_at(end);
    if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) }
}

/// An empty port is allowed (RFC 3986 §3.2.3).
fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, expected) in [
            ("example.com", "example.com"),
            ("EXAMPLE.com:443", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("example.com:", "example.com"),
            ("10.0.0.1:8402", "10.0.0.1"),
            ("my_host-1", "my_host-1"),
            ("[::1]:8402", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
        ] {
            assert_eq!(normalise_host(text).as_deref(), Some(expected), "{text}");
        }
        assert!(matches!(normalise_host("example.com:80"), Some(Cow::Borrowed(_))), "no allocation needed");
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            ".",
            ":80",
            "user@example.com",
            "user:pass@example.com",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a/b",
            "a%2eb",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:+80",
            "a:-1",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[example.com]",
            "a,b",
            "bücher.example",
            "a\0",
        ] {
            assert_eq!(normalise_host(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_host_or_everything_below_a_domain() {
        assert_eq!(
            HostPattern::parse("API.example.com."),
            Some(HostPattern::Exact("api.example.com".into()))
        );
        assert_eq!(HostPattern::parse("*.Example.com"), Some(HostPattern::Below("example.com".into())));
        assert_eq!(HostPattern::parse("[::1]"), Some(HostPattern::Exact("[::1]".into())));
        for text in ["", "*", "*.", "a.*.com", "*a.com", "example.com:80", "[::1]:80", "*.[::1]", "http://a"]
        {
            assert_eq!(HostPattern::parse(text), None, "{text}");
        }
        let below = HostPattern::Below("example.com".into());
        assert!(below.covers("a.example.com") && below.covers("a.b.example.com"));
        assert!(
            !below.covers("example.com") && !below.covers("badexample.com") && !below.covers(".example.com")
        );
    }
}
