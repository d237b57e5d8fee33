//! Header hygiene: what an origin may see of a client, and a client of an origin.

use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderValue};
use http::{HeaderName, Method, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};

use crate::x402::header as x402;

/// Headers a client may not send on: payments are the gateway's, and the others would make an
/// origin see another path or method than the one that was decided on.
const FROM_CLIENTS: [&str; 31] = [
    x402::PAYMENT_SIGNATURE,
    x402::X_PAYMENT,
    x402::PAYMENT_REQUIRED,
    x402::PAYMENT_RESPONSE,
    x402::X_PAYMENT_RESPONSE,
    x402::SETTLEMENT_OVERRIDES,
    x402::EXTENSION_RESPONSES,
    x402::SIGN_IN_WITH_X,
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-prefix",
    "x-forwarded-uri",
    "x-forwarded-path",
    "x-replaced-path",
    "x-request-uri",
    "x-http-destinationurl",
    "x-forwarded-method",
    "x-forwarded-port",
    "x-original-method",
    "x-original-host",
    "x-host",
    "x-forwarded-server",
    "x-http-host-override",
    "x-envoy-original-path",
    "x-matched-path",
    "x-invoke-path",
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-real-ip",
];

/// Prefix of the headers the gateway sets toward origins.
const OWN_PREFIX: &str = "x-402-";

/// Headers that name the client or the site, which the gateway writes itself; listed here because
/// their other spellings must not slip by.
const FORWARDING: [&str; 4] = ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded"];

/// What an origin is told of a payment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PaidBy {
    pub(super) payer: Option<String>,
    pub(super) amount: String,
    pub(super) asset: String,
    pub(super) network: String,
    pub(super) scheme: String,
    pub(super) transaction: Option<String>,
}

/// Removes what clients may not send on, in every spelling that an origin could read as it: CGI and
/// its heirs make the same variable of `-` and `_`, some of them of every character that is no letter
/// or digit. `decisive` are the headers that routes have conditions on; their other spellings were not
/// looked at when the route was chosen.
pub(super) fn strip_request(request: &mut RequestHeader, decisive: &[String]) {
    let unwanted: Vec<HeaderName> =
        request.headers.keys().filter(|name| is_unwanted(name.as_str(), decisive)).cloned().collect();
    for name in unwanted {
        request.remove_header(&name);
    }
}

fn is_unwanted(name: &str, decisive: &[String]) -> bool {
    if name.starts_with(OWN_PREFIX) || FROM_CLIENTS.contains(&name) {
        return true;
    }
    let is_same = |known: &&str| is_same_variable(name, known);
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !is_plain {
        let starts_own =
            name.get(..OWN_PREFIX.len()).is_some_and(|start| is_same_variable(start, OWN_PREFIX));
        if starts_own || FROM_CLIENTS.iter().chain(&FORWARDING).any(is_same) {
            return true;
        }
    }
    let is_decisive = decisive.iter().any(|known| known == name);
    !is_decisive && decisive.iter().any(|known| is_same_variable(name, known))
}

/// Whether two names of headers, in lower case, can become the same variable.
fn is_same_variable(one: &str, other: &str) -> bool {
    let letter = |byte: u8| if byte.is_ascii_alphanumeric() { byte } else { b'_' };
    one.len() == other.len() && one.bytes().map(letter).eq(other.bytes().map(letter))
}

/// Conditions on what a site holds (RFC 9110 §13.1).
const CONDITIONS: [HeaderName; 4] =
    [header::IF_MATCH, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_UNMODIFIED_SINCE];

/// Takes away, on priced routes, by what a request could learn of the content without being charged:
/// a 304 or 412 is no success, and says each time anew whether the content is the one that was asked
/// about. Conditions of other methods guard what is written, and stay. A preflight has none of its own.
pub(super) fn take_conditions_away(request: &mut RequestHeader, preflight: bool) {
    if preflight || matches!(request.method, Method::GET | Method::HEAD) {
        for name in &CONDITIONS {
            request.remove_header(name);
        }
    }
    if preflight {
        request.remove_header(&header::RANGE);
        request.remove_header(&header::IF_RANGE);
    }
}

/// Writes what the origin is told of the client, as nginx operators expect: `X-Forwarded-For` and
/// `Forwarded` (RFC 7239) are appended to, the others are set.
pub(super) fn forward(
    request: &mut RequestHeader,
    client: Option<IpAddr>,
    scheme: &'static str,
    host: Option<&HeaderValue>,
) -> pingora::Result<()> {
    if let Some(client) = client {
        let earlier = joined(&request.headers, "x-forwarded-for");
        let address = client.to_string();
        let all = if earlier.is_empty() { address.clone() } else { format!("{earlier}, {address}") };
        request.insert_header("X-Forwarded-For", all)?;
        let earlier = joined(&request.headers, "forwarded");
        let mut all = hops(&earlier);
        if !all.is_empty() {
            all.push_str(", ");
        }
        let (before, behind) = if client.is_ipv4() { ("for=", ";proto=") } else { ("for=\"[", "]\";proto=") };
        for part in [before, &address, behind, scheme] {
            all.push_str(part);
        }
        request.insert_header("Forwarded", all)?;
        request.insert_header("X-Real-IP", address)?;
    }
    request.insert_header("X-Forwarded-Proto", scheme)?;
    if let Some(host) = host {
        request.insert_header("X-Forwarded-Host", host.clone())
    } else {
        request.remove_header("x-forwarded-host");
        Ok(())
    }
}

/// What a `Forwarded` header says of the way a request came: its `for` and `by`. A host or a scheme in
/// it could be believed before those that were decided on. Nothing is kept of a header with a quoted
/// string that has no end: nobody could read what is added behind it.
fn hops(forwarded: &str) -> String {
    if !ends_unquoted(forwarded) {
        return String::new();
    }
    let is_hop = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default().trim();
        name.eq_ignore_ascii_case("for") || name.eq_ignore_ascii_case("by")
    };
    let element = |element| split_unquoted(element, ';').filter(is_hop).collect::<Vec<_>>().join(";");
    let elements = split_unquoted(forwarded, ',').map(element).filter(|element| !element.is_empty());
    elements.collect::<Vec<_>>().join(", ")
}

/// Whether every quoted string in a value has its end (RFC 9110 §5.6.4).
fn ends_unquoted(value: &str) -> bool {
    let mut quotes = Quotes::default();
    value.chars().for_each(|character| quotes.pass(character));
    !quotes.open
}

/// Whether what passes stands in a quoted string.
#[derive(Default)]
struct Quotes {
    open: bool,
    escaped: bool,
}

impl Quotes {
    fn pass(&mut self, character: char) {
        match character {
            _ if self.escaped => self.escaped = false,
            '\\' if self.open => self.escaped = true,
            '"' => self.open = !self.open,
            _ => {}
        }
    }
}

fn joined(headers: &HeaderMap, name: &str) -> String {
    let values: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    values.join(", ")
}

/// Tells the origin which route applied and who paid.
pub(super) fn describe(
    request: &mut RequestHeader,
    route: &HeaderValue,
    paid: Option<&PaidBy>,
) -> pingora::Result<()> {
    request.insert_header("X-402-Route", route.clone())?;
    let Some(paid) = paid else { return Ok(()) };
    request.insert_header("X-402-Amount", &paid.amount)?;
    request.insert_header("X-402-Asset", &paid.asset)?;
    request.insert_header("X-402-Network", &paid.network)?;
    request.insert_header("X-402-Scheme", &paid.scheme)?;
    if let Some(payer) = &paid.payer {
        request.insert_header("X-402-Payer", payer)?;
    }
    match &paid.transaction {
        Some(transaction) => request.insert_header("X-402-Transaction", transaction),
        None => Ok(()),
    }
}

/// Removes what an origin may not say to clients. On priced routes the payment headers are the
/// gateway's; on free ones the origin may be an x402 server itself.
pub(super) fn strip_response(response: &mut ResponseHeader, priced: bool) {
    for name in not_from_origins(priced) {
        response.remove_header(name);
    }
}

/// The same for the fields behind a body.
pub(super) fn strip_trailers(trailers: &mut HeaderMap, priced: bool) {
    for name in not_from_origins(priced) {
        trailers.remove(name);
    }
}

fn not_from_origins(priced: bool) -> impl Iterator<Item = &'static str> {
    let sellers_own = [x402::PAYMENT_REQUIRED, x402::PAYMENT_RESPONSE, x402::X_PAYMENT_RESPONSE];
    let internal = [x402::SETTLEMENT_OVERRIDES, x402::EXTENSION_RESPONSES];
    internal.into_iter().chain(sellers_own.into_iter().filter(move |_| priced))
}

/// What an answer about a condition or a range may say where it is not charged: nothing of the content.
const ABOUT_NO_CONTENT: [HeaderName; 11] = [
    header::ACCEPT_RANGES,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::DATE,
    header::RETRY_AFTER,
    header::SERVER,
    header::TRANSFER_ENCODING,
    header::VARY,
    header::VIA,
];

/// Withholds what an answer that was not charged tells of the content: 304, 412 and 416 carry headers
/// of it (RFC 9110 §15.4.5, §15.5.17), such as its `ETag` and its length.
pub(super) fn withhold_content(response: &mut ResponseHeader) -> pingora::Result<()> {
    let tells = matches!(
        response.status,
        StatusCode::NOT_MODIFIED | StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE
    );
    let kept =
        |name: &HeaderName| ABOUT_NO_CONTENT.contains(name) || name.as_str().starts_with("access-control-");
    if !tells {
        return Ok(());
    }
    keep(response, kept);
    if response.status == StatusCode::NOT_MODIFIED {
        // It has no body, and would tell the length of the one it stands for.
        response.remove_header(&header::CONTENT_LENGTH);
    }
    response.set_reason_phrase(None)
}

/// Leaves nothing of an interim answer but its status.
pub(super) fn silence(response: &mut ResponseHeader) -> pingora::Result<()> {
    keep(response, |_| false);
    response.set_reason_phrase(None)
}

/// Takes every header that is not to be kept out of an answer.
pub(super) fn keep(response: &mut ResponseHeader, kept: impl Fn(&HeaderName) -> bool) {
    let dropped: Vec<HeaderName> = response.headers.keys().filter(|name| !kept(name)).cloned().collect();
    for name in dropped {
        response.remove_header(&name);
    }
}

/// Directives that let shared caches keep an answer (RFC 9111 §5.2.2, RFC 5861).
const SHARED: [&str; 3] = ["public", "s-maxage", "proxy-revalidate"];
/// Headers by which origins address shared caches (Edge architecture, vendors).
const SHARED_HEADERS: [&str; 3] = ["surrogate-control", "x-accel-expires", "edge-control"];
/// How the names of all others end: `CDN-Cache-Control` (RFC 9213), and one for each vendor.
const SHARED_HEADERS_END: &str = "-cache-control";

/// Keeps an answer of a priced route out of shared caches.
pub(super) fn make_private(response: &mut ResponseHeader) -> pingora::Result<()> {
    keep(response, |name| {
        !SHARED_HEADERS.contains(&name.as_str()) && !name.as_str().ends_with(SHARED_HEADERS_END)
    });
    let directives = joined(&response.headers, "cache-control");
    let mut kept: Vec<&str> = split_unquoted(&directives, ',')
        .filter(|directive| {
            let name = directive.split('=').next().unwrap_or_default().trim();
            !SHARED.iter().any(|shared| name.eq_ignore_ascii_case(shared))
        })
        .collect();
    // `private="field"` only protects a field; the bare directive protects the answer.
    if !kept.iter().any(|directive| directive.eq_ignore_ascii_case("private")) {
        kept.push("private");
    }
    response.insert_header(header::CACHE_CONTROL, kept.join(", "))?;
    append(response, header::VARY, "PAYMENT-SIGNATURE, X-PAYMENT")
}

/// Splits outside quoted strings; leaves out what is empty.
fn split_unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    let parts = text.split(move |character: char| {
        quotes.pass(character);
        character == separator && !quotes.open
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

/// Adds to a comma-separated header.
pub(super) fn append(response: &mut ResponseHeader, name: HeaderName, value: &str) -> pingora::Result<()> {
    let all = appended(&response.headers, &name, value);
    response.insert_header(name, all)
}

/// A comma-separated header with something added.
pub(super) fn appended(headers: &HeaderMap, name: &HeaderName, value: &str) -> String {
    let earlier = joined(headers, name.as_str());
    if earlier.is_empty() { value.to_owned() } else { format!("{earlier}, {value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn spellings_of_gateway_headers_do_not_reach_the_origin() {
        let mut request = request(&[
            ("PAYMENT-SIGNATURE", "a"),
            ("x-payment", "b"),
            ("X-402-Payer", "0xevil"),
            ("X_402_Payer", "0xevil"),
            ("payment_signature", "c"),
            ("X_Forwarded_For", "1.2.3.4"),
            ("X-HTTP-Method-Override", "DELETE"),
            ("x-original-url", "/admin"),
            ("Authorization", "Bearer kept"),
            ("Cookie", "kept=1"),
            ("X_Custom", "kept"),
            ("X_Tier", "bulk"),
            ("X.402.Payer", "0xevil"),
            ("X!402~Amount", "1"),
            ("x.payment", "d"),
            ("X|Original|URL", "/admin"),
            ("X.Forwarded.For", "1.2.3.4"),
            ("X.Tier", "bulk"),
            ("X-Replaced-Path", "/admin"),
            ("X-40", "kept"),
            ("X.40", "kept"),
        ]);
        strip_request(&mut request, &["x-tier".to_owned()]);
        let mut names: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "cookie", "x-40", "x.40", "x_custom"]);
    }

    #[test]
    fn of_a_header_that_routes_look_at_only_the_spelling_they_look_at_is_kept() {
        let decisive = ["x-tier".to_owned(), "x_plan".to_owned()];
        for (name, unwanted) in [
            ("x-tier", false),
            ("x_tier", true),
            ("x~tier", true),
            ("x_plan", false),
            ("x-plan", true),
            ("x.plan", true),
            ("xplan", false),
        ] {
            assert_eq!(is_unwanted(name, &decisive), unwanted, "{name}");
        }
    }

    #[test]
    fn forwarding_headers_are_appended_to_and_set() {
        let mut request = request(&[("X-Forwarded-For", "10.0.0.1"), ("X-Forwarded-Proto", "https")]);
        let host = HeaderValue::from_static("example.com");
        forward(&mut request, Some("192.0.2.7".parse().unwrap()), "http", Some(&host)).unwrap();
        let read = |name: &str| request.headers.get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(read("x-forwarded-for"), "10.0.0.1, 192.0.2.7");
        assert_eq!(read("x-real-ip"), "192.0.2.7");
        assert_eq!(read("x-forwarded-proto"), "http");
        assert_eq!(read("x-forwarded-host"), "example.com");
        assert_eq!(read("forwarded"), "for=192.0.2.7;proto=http");
    }

    #[test]
    fn of_forwarded_only_the_way_is_believed_and_what_is_added_stands_alone() {
        let own = "for=192.0.2.7;proto=http";
        for (sent, kept) in [
            ("for=\"10.0.0.1\"", "for=\"10.0.0.1\""),
            ("for=\"a\\\";host=x\"", "for=\"a\\\";host=x\""),
            ("For=10.0.0.1;by=_x, for=\"_y\"", "For=10.0.0.1;by=_x, for=\"_y\""),
            ("for=10.0.0.1;host=vault.example;proto=https", "for=10.0.0.1"),
            ("HOST = \"vault.example\" ; for=a,proto=https", "for=a"),
            ("host=vault.example", ""),
            (", ;,", ""),
            ("for=\"10.0.0.1", ""),
            ("for=\"10.0.0.1\", \"", ""),
            ("for=\"10.0.0.1\\\"", ""),
        ] {
            let mut request = request(&[]);
            request.append_header("Forwarded", sent).unwrap();
            forward(&mut request, Some("192.0.2.7".parse().unwrap()), "http", None).unwrap();
            let expected = if kept.is_empty() { own.to_owned() } else { format!("{kept}, {own}") };
            assert_eq!(request.headers["forwarded"], expected, "{sent}");
        }
    }

    #[test]
    fn paid_answers_are_kept_out_of_shared_caches() {
        for (before, after) in [
            ("", "private"),
            ("public, max-age=60, s-maxage=600", "max-age=60, private"),
            ("Public", "private"),
            ("no-store", "no-store, private"),
            ("private, max-age=5", "private, max-age=5"),
            ("private=\"set-cookie, x\", S-MaxAge=1", "private=\"set-cookie, x\", private"),
        ] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            if !before.is_empty() {
                response.insert_header("Cache-Control", before).unwrap();
            }
            response.insert_header("CDN-Cache-Control", "max-age=60").unwrap();
            response.insert_header("Vary", "Accept").unwrap();
            make_private(&mut response).unwrap();
            assert_eq!(response.headers["cache-control"], after, "{before}");
            assert_eq!(response.headers["vary"], "Accept, PAYMENT-SIGNATURE, X-PAYMENT");
            assert!(!response.headers.contains_key("cdn-cache-control"));
        }
    }

    #[test]
    fn origins_cannot_forge_payment_headers_on_priced_routes() {
        let forged = ["payment-required", "payment-response", "x-payment-response", "settlement-overrides"];
        for (priced, left) in [(true, 0), (false, 3)] {
            let mut response = ResponseHeader::build(200, None).unwrap();
            for name in forged {
                response.insert_header(name, "forged").unwrap();
            }
            strip_response(&mut response, priced);
            assert_eq!(response.headers.len(), left);
        }
    }
}
