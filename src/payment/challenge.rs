//! The challenge of a priced route, prepared when its terms are known; a request adds its URL.
//!
//! One answer serves both generations: `PAYMENT-REQUIRED` for v2 clients and a v1 JSON body that
//! the strict v1 clients read (`transports-v2/http.md`; the v1 specification's 402 body).

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::policy::{Offer, V1Mode};
use crate::x402::{PaymentRequirements, Reason, v1};

/// The `resource.url` of a request: the public URL, then the canonical path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    url: String,
    origin_length: usize,
    host: String,
}

impl Resource {
    /// Puts the URL together from the configured public origin, never from `Host`. Characters of
    /// the query that a URL cannot have are percent-encoded, which also makes the text safe inside
    /// JSON without escaping.
    #[must_use]
    pub fn new(public_url: &str, path: &str, query: &str) -> Self {
        let mut url = String::with_capacity(public_url.len() + path.len() + query.len() + 1);
        url.push_str(public_url);
        push_encoded(&mut url, path);
        if !query.is_empty() {
            url.push('?');
            push_encoded(&mut url, query);
        }
        Self { url, origin_length: public_url.len(), host: String::new() }
    }

    /// The same as asked of a host, which origins may tell apart although the URL does not.
    #[must_use]
    pub fn asked_of(self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self }
    }

    /// The host it was asked of.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The whole URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL without its query, which may hold what is nobody's business.
    #[must_use]
    pub fn without_query(&self) -> &str {
        self.url.split_once('?').map_or(&self.url, |(url, _)| url)
    }

    /// Whether a URL is this one as it is when clients see the site at `public_url`.
    pub(super) fn is_called(&self, url: &str, public_url: &str) -> bool {
        url.strip_prefix(public_url) == Some(self.path_and_query())
    }

    /// Whether a URL can be this one, wherever clients see the site.
    pub(super) fn may_be_called(&self, url: &str) -> bool {
        url.ends_with(self.path_and_query())
    }

    fn path_and_query(&self) -> &str {
        &self.url[self.origin_length..]
    }
}

fn push_encoded(url: &mut String, text: &str) {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\');
    if text.bytes().all(is_plain) {
        url.push_str(text);
        return;
    }
    for byte in text.bytes() {
        if is_plain(byte) {
            url.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

/// What a route answers without a valid payment.
#[derive(Debug)]
pub struct Challenge {
    v2: Option<V2>,
    v1: Option<V1>,
}

#[derive(Debug)]
struct V2 {
    /// Base64 of everything before the path of `resource.url`, of the usual error.
    head: String,
    /// Base64 of everything after it.
    tail: String,
    tail_json: String,
}

#[derive(Debug)]
struct V1 {
    /// Everything before the first entry, of the usual error.
    head: String,
    /// `accepts` entries without `resource`, each from behind its opening brace.
    entries: Vec<String>,
}

const V2_START: &str = "{\"x402Version\":2,";

impl Challenge {
    /// Prepares the challenge of `offer` for the terms that can be settled at present. `v1_terms`
    /// are those shown to v1 clients.
    #[must_use]
    pub fn prepare(
        offer: &Offer,
        public_url: &str,
        terms: &[&PaymentRequirements],
        v1_terms: &[&PaymentRequirements],
    ) -> Self {
        let v2 = (offer.v1 != V1Mode::Only).then(|| V2::prepare(offer, public_url, terms));
        let v1 = (offer.v1 != V1Mode::Off).then(|| V1::prepare(offer, v1_terms)).flatten();
        Self { v2, v1 }
    }

    /// Value of `PAYMENT-REQUIRED` for a request without payment; `None` on v1-only routes.
    #[must_use]
    pub fn header(&self, resource: &Resource) -> Option<String> {
        let v2 = self.v2.as_ref()?;
        let path = resource.path_and_query();
        // Base64 works in groups of three bytes, so the part in the middle is filled up with
        // white space behind the URL's closing quote, and head and tail stay as prepared.
        let (groups, rest) = path.as_bytes().split_at(path.len() / 3 * 3);
        let mut last = *b"   ";
        last[..rest.len()].copy_from_slice(rest);
        last[rest.len()] = b'"';
        // Exactly as long as it becomes: a string with room to spare is copied on its way to the client.
        let length = v2.head.len() + (groups.len() + last.len()) / 3 * 4 + v2.tail.len();
        let mut value = String::with_capacity(length);
        value.push_str(&v2.head);
        STANDARD.encode_string(groups, &mut value);
        STANDARD.encode_string(last, &mut value);
        value.push_str(&v2.tail);
        Some(value)
    }

    /// Value of `PAYMENT-REQUIRED` for a payment that was refused for `error`.
    #[must_use]
    pub fn header_with(&self, resource: &Resource, error: &Reason) -> Option<String> {
        self.json(resource, error).map(|json| STANDARD.encode(json))
    }

    /// The `PaymentRequired` object as JSON, for pages; `None` on v1-only routes.
    #[must_use]
    pub fn json(&self, resource: &Resource, error: &Reason) -> Option<String> {
        let v2 = self.v2.as_ref()?;
        let error = Value::from(error.as_str());
        let url = resource.url();
        Some(format!("{V2_START}\"error\":{error},\"resource\":{{\"url\":\"{url}\"{}", v2.tail_json))
    }

    /// The body: a v1 `PaymentRequired`, or `{}` when no term can be expressed for v1 clients.
    #[must_use]
    pub fn body(&self, resource: &Resource, error: &Reason, payer: Option<&str>) -> Bytes {
        let Some(v1) = &self.v1 else { return Bytes::from_static(b"{}") };
        let head = if *error == Reason::PAYMENT_REQUIRED {
            Cow::Borrowed(v1.head.as_str())
        } else {
            Cow::Owned(V1::head(error))
        };
        let tail = match payer {
            None => Cow::Borrowed("]}"),
            Some(payer) => Cow::Owned(format!("],\"payer\":{}}}", Value::from(payer))),
        };
        let url = resource.url();
        let (before, behind) = ("{\"resource\":\"", "\",");
        let entry_length = |entry: &String| before.len() + url.len() + behind.len() + entry.len();
        let commas = v1.entries.len().saturating_sub(1);
        let length = v1.entries.iter().map(entry_length).sum::<usize>() + commas;
        let mut body = String::with_capacity(head.len() + length + tail.len());
        body.push_str(&head);
        for (index, entry) in v1.entries.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            for part in [before, url, behind, entry] {
                body.push_str(part);
            }
        }
        body.push_str(&tail);
        body.into()
    }
}

impl V2 {
    fn prepare(offer: &Offer, public_url: &str, terms: &[&PaymentRequirements]) -> Self {
        let resource = serde_json::to_string(&offer.resource).unwrap_or_default();
        let accepts = Value::from(terms.iter().map(|terms| json!(terms)).collect::<Vec<_>>());
        // `resource` is serialised without its URL: `{}` or `{"description":…}`.
        let members = resource.trim_start_matches('{');
        let comma = if members == "}" { "" } else { "," };
        let mut tail_json = format!("{comma}{members},\"accepts\":{accepts}");
        if !offer.extensions.is_empty() {
            let _ = write!(tail_json, ",\"extensions\":{}", json!(offer.extensions));
        }
        tail_json.push('}');
        let error = Value::from(Reason::PAYMENT_REQUIRED.as_str());
        let before = format!("{V2_START}\"error\":{error},");
        let after = format!("\"resource\":{{\"url\":\"{public_url}");
        let filling = " ".repeat((3 - (before.len() + after.len()) % 3) % 3);
        Self {
            head: STANDARD.encode(format!("{before}{filling}{after}")),
            tail: STANDARD.encode(&tail_json),
            tail_json,
        }
    }
}

impl V1 {
    fn prepare(offer: &Offer, terms: &[&PaymentRequirements]) -> Option<Self> {
        let text =
            |member: &Option<String>, default: &str| member.clone().unwrap_or_else(|| default.to_owned());
        let description = text(&offer.resource.description, "");
        let mime_type = text(&offer.resource.mime_type, "");
        let entries: Vec<String> = terms
            .iter()
            .filter_map(|terms| v1::requirements(terms, &description, &mime_type))
            .map(|entry| entry.to_string()[1..].to_owned())
            .collect();
        // An empty list breaks v1 clients; `{}` does not.
        let head = Self::head(&Reason::V1_HEADER_REQUIRED);
        if entries.is_empty() { None } else { Some(Self { head, entries }) }
    }

    fn head(error: &Reason) -> String {
        format!("{{\"x402Version\":1,\"error\":{},\"accepts\":[", Value::from(error.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Accept, FacilitatorId, SettleWhen};
    use crate::x402::{ResourceInfo, header};
    use proptest::prelude::*;

    const ORIGIN: &str = "https://shop.example";

    fn offer(v1: V1Mode, description: Option<&str>) -> Offer {
        let requirements = crate::scheme::testing::terms();
        let facilitator = FacilitatorId(0);
        let accept = Accept { requirements, facilitator, symbol: "USDC".into(), decimals: 6, v1: true };
        let resource =
            ResourceInfo { description: description.map(str::to_owned), ..ResourceInfo::default() };
        let (accepts, extensions) = (vec![accept], serde_json::Map::new());
        Offer { index: 0, accepts, resource, extensions, settle: SettleWhen::BeforeResponse, v1 }
    }

    fn challenge(offer: &Offer) -> Challenge {
        let terms: Vec<_> = offer.accepts.iter().map(|accept| &accept.requirements).collect();
        Challenge::prepare(offer, ORIGIN, &terms, &terms)
    }

    fn decoded(value: &str) -> Value {
        Value::Object(header::decode(value.as_bytes()).unwrap())
    }

    #[test]
    fn the_header_is_what_the_specification_says() {
        let challenge = challenge(&offer(V1Mode::Both, Some("An \"article\"")));
        let value = challenge.header(&Resource::new(ORIGIN, "/a/b", "q=1")).unwrap();
        assert_eq!(
            decoded(&value),
            json!({
                "x402Version": 2,
                "error": "Payment required",
                "resource": {"url": "https://shop.example/a/b?q=1", "description": "An \"article\""},
                "accepts": [crate::scheme::testing::terms()],
            })
        );
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
    }

    #[test]
    fn the_body_is_one_that_strict_v1_clients_read() {
        let challenge = challenge(&offer(V1Mode::Both, None));
        let resource = Resource::new(ORIGIN, "/a", "");
        let body = challenge.body(&resource, &Reason::PAYMENT_REQUIRED, None);
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["x402Version"], 1);
        assert_eq!(body["error"], "X-PAYMENT header is required");
        assert_eq!(body["accepts"][0]["network"], "base-sepolia");
        assert_eq!(body["accepts"][0]["resource"], "https://shop.example/a");
        assert_eq!(body["accepts"][0]["description"], "");
        let refused = challenge.body(&resource, &Reason::EVM_VALUE, Some("0xa"));
        let refused: Value = serde_json::from_slice(&refused).unwrap();
        assert_eq!(refused["error"], Reason::EVM_VALUE.as_str());
        assert_eq!(refused["payer"], "0xa");
    }

    #[test]
    fn a_route_may_speak_one_generation_alone() {
        let resource = Resource::new(ORIGIN, "/a", "");
        let off = challenge(&offer(V1Mode::Off, None));
        assert_eq!(off.body(&resource, &Reason::PAYMENT_REQUIRED, None), "{}");
        assert!(off.header(&resource).is_some());
        let only = challenge(&offer(V1Mode::Only, None));
        assert!(only.body(&resource, &Reason::PAYMENT_REQUIRED, None).len() > 2);
        assert_eq!(only.header(&resource), None);
    }

    #[test]
    fn terms_that_v1_cannot_express_leave_an_empty_object_and_never_an_empty_list() {
        let offer = offer(V1Mode::Both, None);
        let terms: Vec<_> = offer.accepts.iter().map(|accept| &accept.requirements).collect();
        let challenge = Challenge::prepare(&offer, ORIGIN, &terms, &[]);
        assert_eq!(challenge.body(&Resource::new(ORIGIN, "/", ""), &Reason::NO_MATCH, None), "{}");
    }

    proptest! {
        #[test]
        fn any_url_makes_a_header_that_reads_back(
            path in "/[ -~]{0,40}", query in "\\PC{0,40}", description in proptest::option::of(".{0,20}")
        ) {
            let challenge = challenge(&offer(V1Mode::Both, description.as_deref()));
            let resource = Resource::new(ORIGIN, &path, &query);
            let fast = decoded(&challenge.header(&resource).unwrap());
            let slow = decoded(&challenge.header_with(&resource, &Reason::PAYMENT_REQUIRED).unwrap());
            prop_assert_eq!(&fast, &slow);
            prop_assert_eq!(fast["resource"]["url"].as_str().unwrap(), resource.url());
            let body = challenge.body(&resource, &Reason::PAYMENT_REQUIRED, None);
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(body["accepts"][0]["resource"].as_str().unwrap(), resource.url());
        }
    }
}
