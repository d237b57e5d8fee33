//! `tollgate explain`: which route a request falls under, why, and what it would be answered.

use std::io::{self, Write};
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::check::{self, facilitator_names, request_words, upstream_name};
use crate::config::{Config, Env};
use crate::policy::{
    Choice, Decision, Explanation, Loss, Offer, Route, RouteFacts, RoutePath, SettleWhen, V1Mode,
    normalise_host,
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
            answer(config, request, config.routes.route(*choice), out)
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
    let title = if payments == 1 {
        line(out, "answer", "the payment is checked; without a valid one: 402 Payment Required")?;
        "price"
    } else {
        line(out, "answer", "402 Payment Required")?;
        "price"
    };
    for (index, accept) in offer.accepts.iter().enumerate() {
        let terms = &accept.requirements;
        let scheme = if terms.scheme == "exact" { String::new() } else { format!(" ({})", terms.scheme) };
        let by = facilitator_names(config, accept.facilitator);
        let title = if index == 0 { title } else { "or" };
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
