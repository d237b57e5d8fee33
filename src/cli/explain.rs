//! `tollgate explain`: which route a request falls under, why, and what it would be answered.

use std::io::{self, Write};
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::check;
use crate::config::words::{facilitator_names, request_words, upstream_name};
use crate::config::{Config, Env};
use crate::policy::{
    Choice, Decision, Explanation, Loss, Offer, Route, RouteError, RouteFacts, RoutePath, SettleWhen, V1Mode,
    Would, normalise_host,
};
use crate::proxy::settings::Cors;
use crate::x402::header::{PAYMENT_SIGNATURE, X_PAYMENT};

/// The command was called in a way that has no meaning.
const USAGE: u8 = 2;

/// A request as it was described on the command line.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Absolute URL, or path with or without a query.
    pub url: &'a str,
    /// Headers, each as `Name: value`.
    pub headers: &'a [String],
}

/// Explains a request under the configuration in `file`. Gives the exit status: that of
/// [`check::run`], or 2 when the request cannot be understood.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub(super) fn run(
    file: &Path,
    request: &Request<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> io::Result<u8> {
    run_with(file, request, out, err, colour, &|name| std::env::var(name).ok())
}

fn run_with(
    file: &Path,
    request: &Request<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
    env: Env<'_>,
) -> io::Result<u8> {
    let parsed = match Parsed::new(request) {
        Ok(parsed) => parsed,
        Err(message) => {
            writeln!(err, "error: {message}")?;
            return Ok(USAGE);
        }
    };
    match check::load(file, err, colour, env)? {
        Ok(config) => explain(&config, &parsed, out).map(|()| check::FINE),
        Err(status) => Ok(status),
    }
}

/// A request whose parts are what HTTP allows.
struct Parsed<'a> {
    method: &'a str,
    /// Authority of the URL or the `Host` header, as written.
    host: Option<String>,
    path: &'a str,
    query: &'a str,
    headers: HeaderMap,
}

impl<'a> Parsed<'a> {
    fn new(request: &Request<'a>) -> Result<Self, String> {
        if Method::from_bytes(request.method.as_bytes()).is_err() {
            return Err(format!("\"{}\" is not a method, such as GET", request.method.escape_debug()));
        }
        let mut headers = HeaderMap::new();
        for header in request.headers {
            let (name, value) = parse_header(header).ok_or_else(|| {
                format!("\"{}\" is not a header, such as 'Name: value'", header.escape_debug())
            })?;
            headers.append(name, value);
        }
        // A fragment is never sent (RFC 9110 §4.2.5).
        let url = request.url.split('#').next().unwrap_or_default();
        let (authority, target) = match url.split_once("://") {
            _ if url.starts_with('/') => (None, url),
            Some((scheme, rest)) if matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") => {
                let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (Some(authority), target)
            }
            _ => {
                let shown = url.escape_debug();
                return Err(format!(
                    "\"{shown}\" is neither a path such as /a nor a URL such as https://example.com/a"
                ));
            }
        };
        let host =
            headers.get(http::header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
        let host = authority.map(str::to_owned).or(host);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = if path.is_empty() { "/" } else { path };
        Ok(Self { method: request.method, host, path, query, headers })
    }
}

fn parse_header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((HeaderName::from_bytes(name.trim().as_bytes()).ok()?, HeaderValue::from_str(value.trim()).ok()?))
}

fn explain(config: &Config, request: &Parsed<'_>, out: &mut dyn Write) -> io::Result<()> {
    let public_host = config.public_url.split_once("://").map_or("", |(_, authority)| authority);
    let host_text = request.host.as_deref().unwrap_or(public_host);
    let Some(host) = normalise_host(host_text) else {
        return line(out, "answer", "400 Bad Request: the Host is missing or malformed");
    };
    let note = if request.host.is_none() { " (that of public_url)" } else { "" };
    line(out, "host", &format!("{host}{note}"))?;
    let path = match RoutePath::parse(request.path) {
        Ok(path) => path,
        Err(error) => return line(out, "answer", &format!("400 Bad Request: {error}")),
    };
    let note = if path.as_str() == request.path { "" } else { " (matched and forwarded in this form)" };
    line(out, "path", &format!("{}{note}", path.as_str()))?;
    let facts = RouteFacts {
        method: request.method,
        host: &host,
        path: &path,
        query: request.query,
        headers: &request.headers,
    };
    let facts = match announced_method(request) {
        Some(method) => config.routes.preflight(facts, method),
        None => facts,
    };
    let explanation = config.routes.explain(&facts);
    match &explanation.outcome {
        Ok(choice) => {
            line(out, "route", &route_words(config, *choice))?;
            reasons(config, &explanation, Some(*choice), out)?;
            answer(config, request, config.routes.route(*choice), out)?;
            match config.shadow.as_ref().and_then(|shadow| shadow.would(&facts)) {
                None => Ok(()),
                Some(Would::Deny(_)) => line(out, "shadow", "403 Forbidden"),
                Some(Would::Refuse) => {
                    line(out, "shadow", &format!("400 Bad Request: {}", RouteError::Ambiguous))
                }
                Some(Would::Cost(_, offer)) => {
                    line(out, "shadow", &format!("402 Payment Required: {}", offer.price()))
                }
            }
        }
        Err(error) => {
            reasons(config, &explanation, None, out)?;
            line(out, "answer", &format!("400 Bad Request: {error}"))
        }
    }
}

fn line(out: &mut dyn Write, title: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{title:9}{text}")
}

fn route_words(config: &Config, choice: Choice) -> String {
    match choice {
        Choice::Default => "default".to_owned(),
        Choice::Route(number) => {
            let route = config.routes.route(choice);
            let request = request_words(route);
            let name = if request == route.name { String::new() } else { format!(" \"{}\"", route.name) };
            format!("routes[{number}]{name}: {request}")
        }
    }
}

/// Why this route: how servers may read the path, and which other routes lost.
fn reasons(
    config: &Config,
    explanation: &Explanation,
    chosen: Option<Choice>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if explanation.readings.len() > 1 {
        for (reading, choice) in &explanation.readings {
            let text = format!("servers may read the path as {reading}: {}", route_words(config, *choice));
            line(out, "", &text)?;
        }
    }
    for (script, choice) in &explanation.scripts {
        let text = format!("servers may run the script {script} for it: {}", route_words(config, *choice));
        line(out, "", &text)?;
    }
    for lost in &explanation.others {
        let why = match &lost.why {
            Loss::LessSpecific(winner) => less_specific(config, *winner, lost.route),
            other => other.to_string(),
        };
        line(out, "", &format!("not {}: {why}", route_words(config, Choice::Route(lost.route))))?;
    }
    let text = match chosen {
        Some(Choice::Default) if explanation.others.is_empty() => "no route is for this host and path",
        Some(Choice::Default) => "no other route is for this host and path",
        Some(Choice::Route(_)) if explanation.others.is_empty() => "the only route for this host and path",
        Some(Choice::Route(_)) | None => return Ok(()),
    };
    line(out, "", text)
}

fn less_specific(config: &Config, winner: Choice, loser: usize) -> String {
    let Choice::Route(first) = winner else { return "the default applies".to_owned() };
    let winner_name = format!("routes[{first}]");
    let (winner, loser_route) = (config.routes.route(winner), config.routes.route(Choice::Route(loser)));
    let conditions =
        |route: &Route| usize::from(!route.methods.is_empty()) + route.headers.len() + route.query.len();
    if loser_route.hosts.is_empty() && !winner.hosts.is_empty() {
        format!("{winner_name} names the host")
    } else if loser_route.hosts != winner.hosts {
        format!("its host is not more specific than that of {winner_name}")
    } else if loser_route.path.as_str() != winner.path.as_str() {
        format!("its path is not more specific than {}", winner.path.as_str())
    } else if conditions(loser_route) < conditions(winner) {
        format!("{winner_name} has more conditions")
    } else {
        format!("{winner_name} is written before it")
    }
}

fn answer(config: &Config, request: &Parsed<'_>, route: &Route, out: &mut dyn Write) -> io::Result<()> {
    let upstream = upstream_name(config, route.upstream);
    match &route.decision {
        Decision::Free => line(out, "answer", &format!("forwarded to upstream \"{upstream}\" unpaid")),
        Decision::Deny => line(out, "answer", "403 Forbidden"),
        Decision::Paid(offer) => paid(config, request, offer, upstream, out),
    }
}

fn paid(
    config: &Config,
    request: &Parsed<'_>,
    offer: &Offer,
    upstream: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    if announced_method(request).is_some() {
        let answer = match config.cors {
            Cors::Origins(_) => "answered by the gateway: a CORS preflight is not charged".to_owned(),
            Cors::Any | Cors::Off => format!("forwarded to upstream \"{upstream}\" unpaid: a CORS preflight"),
        };
        return line(out, "answer", &answer);
    }
    let count = |name| request.headers.get_all(name).iter().count();
    let payments = count(PAYMENT_SIGNATURE) + count(X_PAYMENT);
    if payments > 1 {
        return line(out, "answer", "400 Bad Request: more than one payment header");
    }
    let answer = match payments {
        0 => "402 Payment Required",
        _ => "the payment is checked; without a valid one: 402 Payment Required",
    };
    line(out, "answer", answer)?;
    for (index, accept) in offer.accepts.iter().enumerate() {
        let terms = &accept.requirements;
        let scheme = if terms.scheme == "exact" { String::new() } else { format!(" ({})", terms.scheme) };
        let by = facilitator_names(config, accept.facilitator);
        let title = if index == 0 { "price" } else { "or" };
        line(out, title, &format!("{} to {}{scheme}, by {by}", accept.price(), terms.pay_to))?;
    }
    let v1 = offer.accepts.iter().filter(|accept| accept.v1).count();
    match offer.v1 {
        V1Mode::Only => line(out, "", "only v1 clients can pay")?,
        V1Mode::Off | V1Mode::Both if v1 == 0 => line(out, "", "v1 clients cannot pay")?,
        V1Mode::Off | V1Mode::Both => {}
    }
    let when = match offer.settle {
        SettleWhen::BeforeResponse => "settled when the site has answered with success",
        SettleWhen::BeforeRequest => "settled before the site is asked",
    };
    line(out, "paid", &format!("forwarded to upstream \"{upstream}\", {when}"))
}

/// The method that a CORS preflight announces.
fn announced_method<'a>(request: &'a Parsed<'_>) -> Option<&'a str> {
    if request.method != "OPTIONS" || !request.headers.contains_key(http::header::ORIGIN) {
        return None;
    }
    request.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
upstream = "http://127.0.0.1:8080"
public_url = "https://www.example.com"
pay_to = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
network = "base-sepolia"
facilitator = "sandbox"

[[routes]]
path = "/articles/*"
price = "$0.01"

[[routes]]
name = "free one"
path = "/articles/free"
free = true

[[routes]]
path = "/articles/*"
header = { X-Tier = "bulk" }
price = "$0.005"
settle = "before-request"
v1 = false

[[routes]]
path = "/*.php"
price = "$0.02"

[[routes]]
host = "api.example.com"
path = "/**"
deny = true
"#;

    fn explained(method: &str, url: &str, headers: &[&str]) -> (u8, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let headers: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
        let request = Request { method, url, headers: &headers };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = run_with(&file, &request, &mut out, &mut err, false, &|_| None).unwrap();
        (status, String::from_utf8([out, err].concat()).unwrap())
    }

    #[test]
    fn a_priced_request_is_explained_with_its_price_and_the_routes_that_lost() {
        let (status, text) = explained("GET", "/articles/1", &[]);
        assert_eq!(status, check::FINE);
        assert_eq!(
            text,
            "\
host     www.example.com (that of public_url)
path     /articles/1
route    routes[0]: /articles/*
         not routes[2] \"/articles/* #2\": /articles/* header x-tier = \"bulk\": its condition on the header x-tier = \"bulk\" does not hold
answer   402 Payment Required
price    0.01 USDC on base-sepolia to 0x209693Bc6afc0C5328bA36FaF03C514EF312287C, by sandbox
paid     forwarded to upstream \"http://127.0.0.1:8080\", settled when the site has answered with success
"
        );
    }

    #[test]
    fn headers_take_part() {
        let (_, text) = explained("GET", "http://www.example.com/articles/1?a=b#c", &["X-Tier: bulk"]);
        assert!(text.contains("route    routes[2]"), "{text}");
        assert!(text.contains("not routes[0]: /articles/*: routes[2] has more conditions\n"), "{text}");
        assert!(text.contains("v1 clients cannot pay\n"), "{text}");
        assert!(text.contains("settled before the site is asked\n"), "{text}");
        let (_, text) = explained("GET", "/x", &["Host: API.example.com:443"]);
        assert!(
            text.starts_with("host     api.example.com\n") && text.ends_with("answer   403 Forbidden\n"),
            "{text}"
        );
    }

    #[test]
    fn free_requests_are_forwarded_unpaid() {
        let (_, text) = explained("GET", "/articles/free", &[]);
        assert!(text.contains("route    routes[1] \"free one\": /articles/free\n"), "{text}");
        assert!(
            text.contains("not routes[0]: /articles/*: its path is not more specific than /articles/free\n"),
            "{text}"
        );
        assert!(
            text.ends_with("answer   forwarded to upstream \"http://127.0.0.1:8080\" unpaid\n"),
            "{text}"
        );
        let (_, text) = explained("GET", "/other", &[]);
        assert!(text.contains("route    default\n         no route is for this host and path\n"), "{text}");
    }

    #[test]
    fn the_canonical_path_is_shown() {
        let (_, text) = explained("GET", "/x/../%61rticles/1", &[]);
        assert!(text.contains("path     /articles/1 (matched and forwarded in this form)\n"), "{text}");
    }

    #[test]
    fn requests_that_no_route_is_looked_up_for_are_answered_400() {
        for (url, headers, reason) in [
            ("/a%5Cb", vec![], "the path contains a backslash"),
            ("/%zz", vec![], "the path contains a `%` without two hexadecimal digits after it"),
            ("/", vec!["Host: a b"], "the Host is missing or malformed"),
            ("http://me@a/", vec![], "the Host is missing or malformed"),
            ("/articles/1", vec!["X-Payment: a", "Payment-Signature: b"], "more than one payment header"),
            ("//articles/1", vec![], "the request target can be read in more than one way"),
        ] {
            let (status, text) = explained("GET", url, &headers);
            let last = text.lines().last().unwrap();
            assert_eq!(
                (status, last),
                (check::FINE, format!("answer   400 Bad Request: {reason}").as_str()),
                "{url}\n{text}"
            );
        }
    }

    #[test]
    fn a_script_that_stands_in_the_way_is_named_with_its_route() {
        let (_, text) = explained("GET", "/a.php/x", &[]);
        assert!(
            text.ends_with(
                "\
path     /a.php/x
         servers may run the script /a.php for it: routes[3]: /*.php
answer   400 Bad Request: the request target can be read in more than one way
"
            ),
            "{text}"
        );
    }

    #[test]
    fn preflights_and_payments_are_told_apart() {
        let preflight = ["Origin: https://a", "Access-Control-Request-Method: GET"];
        let (_, text) = explained("OPTIONS", "/articles/1", &preflight);
        assert!(text.ends_with("unpaid: a CORS preflight\n"), "{text}");
        let (_, text) = explained("GET", "/articles/1", &["PAYMENT-SIGNATURE: x"]);
        assert!(
            text.contains("answer   the payment is checked; without a valid one: 402 Payment Required\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_request_is_an_error_of_usage() {
        for (method, url, header, message) in [
            ("GE T", "/", "A: b", "\"GE T\" is not a method, such as GET"),
            (
                "GET",
                "articles",
                "A: b",
                "\"articles\" is neither a path such as /a nor a URL such as https://example.com/a",
            ),
            ("GET", "/", "A b", "\"A b\" is not a header, such as 'Name: value'"),
        ] {
            assert_eq!(
                explained(method, url, &[header]),
                (USAGE, format!("error: {message}\n")),
                "{method} {url}"
            );
        }
    }
}
