//! The challenge of a priced route, prepared when its terms are known; a request adds its URL.
//!
//! One answer serves both generations: `PAYMENT-REQUIRED` for v2 clients and a v1 JSON body that
//! the strict v1 clients read (`transports-v2/http.md`; the v1 specification's 402 body).

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
        Self { url, origin_length: public_url.len() }
    }

    /// The whole URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
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
        let filling = ["\"  ", "\" ", "\""][path.len() % 3];
        let middle_length = path.len() + filling.len();
        let mut value = String::with_capacity(v2.head.len() + middle_length / 3 * 4 + v2.tail.len());
        value.push_str(&v2.head);
        let mut middle = Vec::with_capacity(middle_length);
        middle.extend_from_slice(path.as_bytes());
        middle.extend_from_slice(filling.as_bytes());
        STANDARD.encode_string(middle, &mut value);
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
        let error = if *error == Reason::PAYMENT_REQUIRED { &Reason::V1_HEADER_REQUIRED } else { error };
        let url = resource.url();
        let entries: usize = v1.entries.iter().map(|entry| entry.len() + url.len() + 20).sum();
        let mut body = String::with_capacity(entries + 160);
        // Writing to a String cannot fail.
        let _ = write!(body, "{{\"x402Version\":1,\"error\":{},\"accepts\":[", Value::from(error.as_str()));
        for (index, entry) in v1.entries.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let _ = write!(body, "{comma}{{\"resource\":\"{url}\",{entry}");
        }
        body.push(']');
        if let Some(payer) = payer {
            let _ = write!(body, ",\"payer\":{}", Value::from(payer));
        }
        body.push('}');
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
        if entries.is_empty() { None } else { Some(Self { entries }) }
    }
}
