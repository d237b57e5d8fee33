//! `[limits]`, `[log]`, `[cors]`, `[sandbox]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::LogSettings;
use super::keys::{CORS, LIMITS, LOG, SANDBOX};
use super::url::Url;
use super::walk::Section;
use crate::proxy::settings::{Cors, Limits};
use crate::x402::Money;

/// Milliseconds any deadline may have: a millisecond to an hour.
pub(super) const DEADLINE_MS: RangeInclusive<u64> = 1..=3_600_000;

/// `[limits]`, of which some are for the payments and not for the clients.
#[derive(Debug, Clone, Copy)]
pub(super) struct AllLimits {
    pub(super) clients: Limits,
    pub(super) verify_in_flight: usize,
    pub(super) origin_time_seconds: u64,
}

impl Default for AllLimits {
    fn default() -> Self {
        Self { clients: Limits::default(), verify_in_flight: 1024, origin_time_seconds: 20 }
    }
}

/// Reads `[limits]`; what is wrong is reported, and the default stands in for it.
pub(super) fn limits(top: &Section<'_>) -> AllLimits {
    let mut limits = AllLimits::default();
    let Some(table) = top.get("limits").and_then(|node| node.section(&LIMITS)) else { return limits };
    let number = |name: &str, range: RangeInclusive<u64>| table.get(name)?.number(range);
    let count = |name: &str, range: RangeInclusive<u64>, target: &mut usize| {
        if let Some(value) = number(name, range).and_then(|value| usize::try_from(value).ok()) {
            *target = value;
        }
    };
    let clients = &mut limits.clients;
    // The server itself stops at 1 MiB.
    count("header_bytes", 1024..=1_048_576, &mut clients.header_bytes);
    count("payment_header_bytes", 1024..=1_048_576, &mut clients.payment_header_bytes);
    count("min_body_rate", 0..=1_000_000_000, &mut clients.min_body_rate);
    let deadline = |name: &str, target: &mut Duration| {
        if let Some(value) = number(name, DEADLINE_MS) {
            *target = Duration::from_millis(value);
        }
    };
    deadline("header_timeout_ms", &mut clients.header_timeout);
    deadline("keepalive_timeout_ms", &mut clients.keepalive_timeout);
    deadline("read_timeout_ms", &mut clients.read_timeout);
    deadline("write_timeout_ms", &mut clients.write_timeout);
    if let Some(seconds) = number("shutdown_grace_seconds", 0..=3600) {
        clients.shutdown_grace = Duration::from_secs(seconds);
    }
    if clients.payment_header_bytes > clients.header_bytes {
        let node = table.get("payment_header_bytes").or_else(|| table.get("header_bytes"));
        if let Some(node) = node {
            let message = format!(
                "a payment header of {} bytes does not fit into a head of {}",
                clients.payment_header_bytes, clients.header_bytes
            );
            node.error(message, "make `header_bytes` at least as large as `payment_header_bytes`");
        }
    }
    count("verify_in_flight", 1..=1_000_000, &mut limits.verify_in_flight);
    if let Some(seconds) = number("origin_time_seconds", 0..=86_400) {
        limits.origin_time_seconds = seconds;
    }
    limits
}

/// Reads `[log]`.
pub(super) fn log(top: &Section<'_>) -> LogSettings {
    let mut settings = LogSettings { json: false, level: tracing::Level::INFO };
    let Some(table) = top.get("log").and_then(|node| node.section(&LOG)) else { return settings };
    let formats = [("text", false), ("json", true)];
    if let Some(json) = table.get("format").and_then(|node| node.choice(&formats)) {
        settings.json = json;
    }
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    if let Some(level) = table.get("level").and_then(|node| node.choice(&levels)) {
        settings.level = level;
    }
    settings
}

/// Reads `[cors]`.
pub(super) fn cors(top: &Section<'_>) -> Cors {
    let Some(table) = top.get("cors").and_then(|node| node.section(&CORS)) else { return Cors::Any };
    let Some(node) = table.get("allow_origins") else { return Cors::Any };
    if node.value().as_array().is_some_and(|items| items.is_empty()) {
        return Cors::Off;
    }
    let mut origins: Vec<String> = Vec::new();
    let items = node.one_or_many();
    for item in &items {
        let Some(text) = item.text() else { continue };
        if text == "*" {
            if items.len() > 1 {
                item.error(
                    "\"*\" stands next to other origins",
                    "write \"*\" alone, or only the origins that are meant",
                );
            }
            return Cors::Any;
        }
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme.as_str(), "http" | "https") && url.path.is_empty() => {
                origins.push(url.origin());
            }
            Ok(_) => {
                item.error("is not an origin", "write it like \"https://app.example.com\", without a path");
            }
            Err(error) => item.error(error, error.help("https://app.example.com")),
        }
    }
    origins.dedup();
    Cors::Origins(origins)
}

/// Reads `[sandbox]`.
pub(super) fn sandbox_balance(top: &Section<'_>) -> Option<Money> {
    let node =
        top.get("sandbox").and_then(|node| node.section(&SANDBOX)).and_then(|table| table.get("balance"));
    let Some(node) = node else { return "1000".parse().ok() };
    let money = node.text()?.parse::<Money>().ok();
    let problem = match &money {
        None => "is not an amount",
        Some(money) if money.symbol.is_some() => "names an asset; it is given in every test asset",
        Some(money) if money.to_atomic(6).is_err() => "is not an amount tokens can have",
        Some(_) => return money,
    };
    node.error(problem, "write an amount above zero with at most six decimals, such as \"$1000\"");
    None
}
