//! Reading a 402: what is offered, in either generation of the protocol.

use reqwest::Url;
use reqwest::header::HeaderMap;
use serde_json::{Map, Value};

use crate::x402::{Version, header};

/// Offers of honest servers take a few kilobytes.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// Entries of `accepts` that are looked at; a server with more is not serious.
const OFFERS_MAX: usize = 64;

/// A 402 as it was read.
#[derive(Debug)]
pub struct Challenge {
    /// The generation that it is paid in.
    pub version: Version,
    /// `accepts`, each entry exactly as offered; at least one.
    pub offers: Vec<Map<String, Value>>,
    /// `resource` (v2), exactly as offered.
    pub resource: Option<Value>,
    /// `extensions` (v2), exactly as offered.
    pub extensions: Option<Value>,
}

impl Challenge {
    /// Reads the offers of a 402: the header of the second generation, or the body of the first
    /// when `v1` asks for it or nothing else came.
    ///
    /// # Errors
    /// Why the answer cannot be paid, in words.
    pub fn read(headers: &HeaderMap, body: &[u8], v1: bool) -> Result<Self, String> {
        let mut values = headers.get_all(header::PAYMENT_REQUIRED).iter();
        match (v1, values.next(), values.next()) {
            (false, Some(_), Some(_)) => Err("it has two PAYMENT-REQUIRED headers".to_owned()),
            (false, Some(value), None) => Self::read_v2(value.as_bytes()),
            (true, ..) | (false, None, _) => Self::read_v1(body, v1),
        }
    }

    fn read_v2(value: &[u8]) -> Result<Self, String> {
        if value.len() > HEADER_BYTES_MAX {
            return Err(format!("its PAYMENT-REQUIRED header is longer than {HEADER_BYTES_MAX} bytes"));
        }
        let mut message =
            header::decode(value).map_err(|error| format!("its PAYMENT-REQUIRED header is {error}"))?;
        if message.get("x402Version").and_then(Value::as_u64) != Some(2) {
            return Err("its PAYMENT-REQUIRED header is not of version 2 of the protocol".to_owned());
        }
        Ok(Self {
            version: Version::V2,
            offers: offers(&mut message)?,
            resource: message.remove("resource").filter(|resource| !resource.is_null()),
            extensions: message.remove("extensions").filter(|extensions| !extensions.is_null()),
        })
    }

    fn read_v1(body: &[u8], asked_for: bool) -> Result<Self, String> {
        let advice = if asked_for { "; try without --v1" } else { ", and it has no PAYMENT-REQUIRED header" };
        let Ok(Value::Object(mut message)) = serde_json::from_slice(body) else {
            return Err(format!("its body is not an offer in JSON{advice}"));
        };
        if message.get("x402Version").and_then(Value::as_u64) != Some(1) {
            return Err(format!("its body is not of version 1 of the protocol{advice}"));
        }
        Ok(Self { version: Version::V1, offers: offers(&mut message)?, resource: None, extensions: None })
    }

    /// The URL that `offer` says it sells: each v1 entry names its own.
    #[must_use]
    pub fn resource_url<'a>(&'a self, offer: &'a Map<String, Value>) -> Option<&'a str> {
        match self.version {
            Version::V1 => offer.get("resource")?.as_str(),
            Version::V2 => self.resource.as_ref()?.get("url")?.as_str(),
        }
    }

    /// What `offer` says it sells, for people.
    pub fn description<'a>(&'a self, offer: &'a Map<String, Value>) -> Option<&'a str> {
        let description = match self.version {
            Version::V1 => offer.get("description"),
            Version::V2 => self.resource.as_ref().and_then(|resource| resource.get("description")),
        };
        description.and_then(Value::as_str).filter(|text| !text.trim().is_empty())
    }
}

fn offers(message: &mut Map<String, Value>) -> Result<Vec<Map<String, Value>>, String> {
    let Some(Value::Array(entries)) = message.remove("accepts") else {
        return Err("it offers no way to pay: `accepts` is missing".to_owned());
    };
    if entries.is_empty() || entries.len() > OFFERS_MAX {
        return Err(format!("it offers {} ways to pay; 1 to {OFFERS_MAX} are read", entries.len()));
    }
    let read = entries.into_iter().map(|entry| match entry {
        Value::Object(offer) => Ok(offer),
        _ => Err("an entry of `accepts` is not an object".to_owned()),
    });
    read.collect()
}

/// Whether a `resource` is sold by the site that was asked: the same host, where every name of
/// this machine is the same one. A path alone is a path of that site.
pub(super) fn sold_by(asked: &Url, resource: &str) -> bool {
    let Ok(resource) = asked.join(resource) else { return false };
    match (host(asked), host(&resource)) {
        (Some(asked), Some(resource)) => asked == resource || (is_loopback(&asked) && is_loopback(&resource)),
        _ => false,
    }
}

fn host(url: &Url) -> Option<String> {
    url.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase())
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn headers(message: &Value) -> HeaderMap {
        let value = header::encode(message).unwrap();
        [(header::PAYMENT_REQUIRED.parse().unwrap(), value.parse().unwrap())].into_iter().collect()
    }

    fn v1_body() -> Vec<u8> {
        json!({"x402Version": 1, "error": "e", "accepts": [{"network": "base", "resource": "https://a/1",
               "description": "one"}]})
        .to_string()
        .into_bytes()
    }

    #[test]
    fn the_header_wins_over_the_body_unless_v1_is_asked_for() {
        let message = json!({"x402Version": 2, "resource": {"url": "https://a/2", "description": "two"},
                             "accepts": [{"n": 1}], "extensions": {"e": {"info": {}}}});
        let both = Challenge::read(&headers(&message), &v1_body(), false).unwrap();
        assert_eq!(both.version, Version::V2);
        assert_eq!(both.resource_url(&both.offers[0]), Some("https://a/2"));
        assert_eq!(both.description(&both.offers[0]), Some("two"));
        assert_eq!(both.extensions, Some(message["extensions"].clone()));
        for v1 in [
            Challenge::read(&headers(&message), &v1_body(), true),
            Challenge::read(&HeaderMap::new(), &v1_body(), false),
        ] {
            let v1 = v1.unwrap();
            assert_eq!(v1.version, Version::V1);
            assert_eq!(v1.resource_url(&v1.offers[0]), Some("https://a/1"));
            assert_eq!(v1.description(&v1.offers[0]), Some("one"));
        }
    }

    #[test]
    fn a_402_that_cannot_be_read_says_why() {
        let none = HeaderMap::new();
        for (headers, body, v1, why) in [
            (
                &none,
                "{}",
                false,
                "its body is not of version 1 of the protocol, and it has no PAYMENT-REQUIRED header",
            ),
            (&none, "<html>", true, "its body is not an offer in JSON; try without --v1"),
            (
                &headers(&json!({"x402Version": 1, "accepts": [{}]})),
                "",
                false,
                "its PAYMENT-REQUIRED header is not of version 2 of the protocol",
            ),
            (
                &headers(&json!({"x402Version": 2})),
                "",
                false,
                "it offers no way to pay: `accepts` is missing",
            ),
            (
                &headers(&json!({"x402Version": 2, "accepts": []})),
                "",
                false,
                "it offers 0 ways to pay; 1 to 64 are read",
            ),
            (
                &headers(&json!({"x402Version": 2, "accepts": vec![json!({}); 65]})),
                "",
                false,
                "it offers 65 ways to pay; 1 to 64 are read",
            ),
            (
                &headers(&json!({"x402Version": 2, "accepts": ["x"]})),
                "",
                false,
                "an entry of `accepts` is not an object",
            ),
            (&headers(&json!([2])), "", false, "its PAYMENT-REQUIRED header is not base64 of a JSON object"),
        ] {
            assert_eq!(Challenge::read(headers, body.as_bytes(), v1).unwrap_err(), why);
        }
        let mut twice = headers(&json!({"x402Version": 2, "accepts": [{}]}));
        twice.append(header::PAYMENT_REQUIRED, "e30=".parse().unwrap());
        assert!(Challenge::read(&twice, b"", false).unwrap_err().contains("two PAYMENT-REQUIRED"));
        let long: HeaderMap =
            [(header::PAYMENT_REQUIRED.parse().unwrap(), "A".repeat(HEADER_BYTES_MAX + 4).parse().unwrap())]
                .into_iter()
                .collect();
        assert!(Challenge::read(&long, b"", false).unwrap_err().contains("longer than"));
    }

    #[test]
    fn only_the_site_that_was_asked_may_sell() {
        for (asked, resource, expected) in [
            ("https://example.com/a", "https://example.com/b", true),
            ("https://example.com/a", "https://EXAMPLE.com.:8443/b", true),
            ("https://example.com/a", "/b", true),
            ("https://example.com/a", "https://example.org/a", false),
            ("https://example.com/a", "https://example.com.evil.org/a", false),
            ("https://example.com/a", "https://example.com@evil.org/a", false),
            ("https://example.com/a", "//evil.org/a", false),
            ("https://example.com/a", "mailto:a@example.com", false),
            ("http://127.0.0.1:8402/a", "http://localhost:8402/a", true),
            ("http://[::1]:8402/a", "http://127.0.0.1/a", true),
            ("http://127.0.0.1:8402/a", "http://10.0.0.1:8402/a", false),
        ] {
            assert_eq!(sold_by(&asked.parse().unwrap(), resource), expected, "{asked} {resource}");
        }
    }
}
