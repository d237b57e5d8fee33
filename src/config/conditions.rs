//! Which requests a route is for: `host`, `method`, `path`, `header`, `query`.

use regex::Regex;
use toml::de::DeValue;

use super::keys::MATCH;
use super::walk::{Node, Section};
use crate::policy::{Condition, HostPattern, PathPattern, PatternError, ValueMatch};

/// The conditions of a route.
pub(super) struct Conditions {
    pub(super) hosts: Vec<HostPattern>,
    pub(super) methods: Vec<String>,
    pub(super) path: PathPattern,
    pub(super) headers: Vec<Condition>,
    pub(super) query: Vec<Condition>,
}

/// Keys of [`Conditions`].
const KEYS: &[&str] = &["host", "method", "path", "path_regex", "header", "query"];

/// Reads the conditions of a route; `None` when something was reported.
pub(super) fn read(table: &Section<'_>) -> Option<Conditions> {
    let hosts = list(table, "host", host);
    let methods = list(table, "method", method);
    let path = path(table);
    let headers = conditions(table, "header", header_name);
    let query = conditions(table, "query", |name, _| Some(name.to_owned()));
    if KEYS.iter().all(|key| table.get(key).is_none()) {
        table.warning(
            "has no condition, so it is for every request that no other route is for",
            "that is what `default` at the top of the file says; write it there, or add a `path`",
        );
    }
    Some(Conditions { hosts: hosts?, methods: methods?, path: path?, headers: headers?, query: query? })
}

fn list<T: PartialEq>(
    table: &Section<'_>,
    name: &str,
    read: impl Fn(&Node<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let Some(node) = table.get(name) else { return Some(Vec::new()) };
    let nodes = node.one_or_many();
    let mut values: Vec<T> = Vec::new();
    let mut complete = !nodes.is_empty();
    for node in &nodes {
        match read(node) {
            Some(value) if values.contains(&value) => {
                node.error("is written twice", "keep one of them");
                complete = false;
            }
            Some(value) => values.push(value),
            None => complete = false,
        }
    }
    complete.then_some(values)
}

fn host(node: &Node<'_>) -> Option<HostPattern> {
    let text = node.text()?;
    if text == "*" {
        node.error("every host is what a route without `host` is for", "leave `host` out");
        return None;
    }
    let name = text.strip_prefix("*.").unwrap_or(text);
    let example = "write it like \"api.example.com\" or \"*.example.com\"";
    if name.contains('*') {
        node.error("can have a `*` only as its whole first part", example);
        return None;
    }
    if !text.is_ascii() {
        node.error("has letters outside ASCII", "write it in its ASCII form, which begins with xn--");
        return None;
    }
    if let Some(pattern) = HostPattern::parse(text) {
        return Some(pattern);
    }
    match name.rsplit_once(':') {
        Some((host, port)) if HostPattern::parse(host).is_some() && port.parse::<u16>().is_ok() => {
            let help = format!(
                "routes do not look at ports; write \"{}\"",
                text.trim_end_matches(&format!(":{port}"))
            );
            node.error("has a port", help);
        }
        _ if text.contains('/') => {
            node.error("is not a host", "write the host only, without scheme and path");
        }
        _ => node.error("is not a host", example),
    }
    None
}

fn method(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if text == "*" {
        node.error("every method is what a route without `method` is for", "leave `method` out");
        return None;
    }
    if http::Method::from_bytes(text.as_bytes()).is_err() {
        node.error("is not a method", "write it like \"GET\" or [\"GET\", \"POST\"]");
        return None;
    }
    let upper = text.to_ascii_uppercase();
    if upper != text {
        // Methods are case-sensitive (RFC 9110 §9.1), and a route for `get` would match nothing.
        node.error("methods are written in capitals", format!("write \"{upper}\""));
        return None;
    }
    Some(upper)
}

fn path(table: &Section<'_>) -> Option<PathPattern> {
    let node = table.either("path", "path_regex");
    let Some(node) = node else { return Some(PathPattern::Any) };
    let text = node.text()?;
    let parsed =
        if node.name() == "path_regex" { PathPattern::regex(text) } else { PathPattern::parse(text) };
    let example = "a path is like \"/articles/*\", \"/files/{name}\" or \"/docs/**\"";
    match parsed {
        Ok(pattern) => return Some(pattern),
        Err(PatternError::Glob { offset, problem }) => node.error_at(offset, 1, problem, example),
        Err(PatternError::Regex(error)) => not_regex(&node, &error),
    }
    None
}

fn header_name(name: &str, node: &Node<'_>) -> Option<String> {
    if let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) {
        return Some(name.as_str().to_owned());
    }
    node.key_error("is not the name of a header", "write it like header = { \"X-Tier\" = \"bulk\" }");
    None
}

fn conditions(
    table: &Section<'_>,
    key: &str,
    read_name: impl Fn(&str, &Node<'_>) -> Option<String>,
) -> Option<Vec<Condition>> {
    let Some(node) = table.get(key) else { return Some(Vec::new()) };
    let entries = node.entries()?;
    if entries.is_empty() {
        node.error("is an empty table", format!("write a condition or leave `{key}` out"));
    }
    let mut conditions: Vec<Condition> = Vec::new();
    for (name, entry) in &entries {
        let (name, value) = (read_name(name, entry), value(entry));
        let (Some(name), Some(value)) = (name, value) else { continue };
        if conditions.iter().any(|other| other.name == name) {
            entry.key_error("is written twice, in different letter case", "keep one of them");
            continue;
        }
        conditions.push(Condition { name, value });
    }
    (!entries.is_empty() && conditions.len() == entries.len()).then_some(conditions)
}

fn value(node: &Node<'_>) -> Option<ValueMatch> {
    match node.value() {
        DeValue::Boolean(present) => Some(ValueMatch::Present(*present)),
        // An empty value is a value, so this is not read as a text that must say something.
        DeValue::String(text) if text.chars().any(char::is_control) => {
            node.error("has a control character, such as a line feed", "write it without");
            None
        }
        DeValue::String(text) => Some(ValueMatch::Equals(text.clone().into_owned())),
        DeValue::Table(_) => {
            let table = node.section(&MATCH)?;
            let Some(pattern) = table.get("regex") else {
                table.missing("has no `regex`", "write { regex = \"…\" }");
                return None;
            };
            regex(&pattern).map(ValueMatch::Regex)
        }
        _ => {
            let help = "write \"text\" for equal, true for there, false for not there, or { regex = \"…\" }";
            node.error("is neither a text, nor true or false, nor { regex = \"…\" }", help);
            None
        }
    }
}

fn regex(node: &Node<'_>) -> Option<Regex> {
    let text = node.text()?;
    match Regex::new(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            not_regex(node, &error.to_string());
            None
        }
    }
}

fn not_regex(node: &Node<'_>, error: &str) {
    // The compiler draws a picture over several lines; its last line says what is wrong.
    let last = error.lines().last().unwrap_or_default();
    let reason = last.strip_prefix("error: ").unwrap_or(last);
    let help = "see https://docs.rs/regex for what can be written";
    node.error(format!("is not a regular expression: {reason}"), help);
}
