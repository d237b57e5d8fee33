//! `[ledger]`, `[redelivery]`, and the limits on payers in `[limits]`.

use std::path::Path;
use std::time::Duration;

use super::auth::{Secrets, variable};
use super::keys::{LEDGER, LIMITS, REDELIVERY};
use super::walk::{Node, Section};
use crate::ledger::Redelivery;
use crate::ledger::settings::{
    FailureLimit, LedgerSettings, LedgerUrl, LedgerUrlError, Pledges, TAKEOVER_AFTER, TAKEOVER_AFTER_MAX,
    TAKEOVER_AFTER_MIN,
};
use crate::x402::Money;

/// Where the ledger is when nothing is written: beside the configuration file.
const DEFAULT_FILE: &str = "tollgate.db";
const DEFAULT_RETENTION_DAYS: u64 = 400;
const DAY_SECONDS: u64 = 86_400;
const HELP: &str = "write it like \"sqlite://tollgate.db\" or \"postgres://user@host/database\"";

/// Reads `[ledger]`; `None` when something was reported.
pub(super) fn ledger(top: &Section<'_>, secrets: Secrets<'_>) -> Option<LedgerSettings> {
    let file = || Some(LedgerUrl::Sqlite(top.resolve(DEFAULT_FILE)));
    let days = |days: u64| days.saturating_mul(DAY_SECONDS);
    let Some(node) = top.get("ledger") else {
        let (retention_seconds, takeover_after) = (days(DEFAULT_RETENTION_DAYS), TAKEOVER_AFTER);
        return Some(LedgerSettings { url: file()?, retention_seconds, takeover_after });
    };
    let table = node.section(&LEDGER)?;
    let url = match table.either("url", "url_env") {
        None => file(),
        Some(node) if node.name() == "url" => written(&node, &top.resolve(""), secrets),
        Some(node) => variable(&node, secrets.env).and_then(|text| parse(&node, &text, &top.resolve(""))),
    };
    let retention = match table.get("retention_days") {
        None => Some(DEFAULT_RETENTION_DAYS),
        Some(node) => node.number(1..=36_500),
    };
    let takeover_after = match table.get("takeover_after_seconds") {
        None => Some(TAKEOVER_AFTER),
        Some(node) => {
            node.number(TAKEOVER_AFTER_MIN.as_secs()..=TAKEOVER_AFTER_MAX.as_secs()).map(Duration::from_secs)
        }
    };
    Some(LedgerSettings { url: url?, retention_seconds: days(retention?), takeover_after: takeover_after? })
}

fn written(node: &Node<'_>, folder: &Path, secrets: Secrets<'_>) -> Option<LedgerUrl> {
    let text = node.text()?;
    if has_password(text) && !secrets.plaintext {
        let help = "write url_env = \"…\", the name of an environment variable with the whole URL;\n\
                    or allow_plaintext_secrets = true at the top of the file";
        node.error("a password stands in the file in clear", help);
        return None;
    }
    parse(node, text, folder)
}

/// Whether a URL has `user:password@` or a parameter that says so.
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let (server, options) = rest.split_once('?').unwrap_or((rest, ""));
    let user = server.rsplit_once('@').map_or("", |(user, _)| user);
    user.split_once(':').is_some_and(|(_, password)| !password.is_empty())
        || options.split('&').any(|option| option.starts_with("password="))
}

fn parse(node: &Node<'_>, text: &str, folder: &Path) -> Option<LedgerUrl> {
    match LedgerUrl::parse(text, folder) {
        Ok(url) => Some(url),
        // Of what an environment variable holds nothing is repeated.
        Err(error) => {
            let help = match error {
                LedgerUrlError::Kind | LedgerUrlError::NoFile | LedgerUrlError::NoServer => HELP,
                LedgerUrlError::Options => "leave them out, or name another file",
            };
            node.error(error, help);
            None
        }
    }
}

/// Reads `[redelivery]`.
pub(super) fn redelivery(top: &Section<'_>) -> Redelivery {
    let mut redelivery = Redelivery { window_seconds: 300, tries: 2 };
    let Some(table) = top.get("redelivery").and_then(|node| node.section(&REDELIVERY)) else {
        return redelivery;
    };
    // A month is more than anybody waits for a page.
    if let Some(seconds) = table.get("window_seconds").and_then(|node| node.number(0..=30 * DAY_SECONDS)) {
        redelivery.window_seconds = seconds;
    }
    if let Some(tries) = small(&table, "tries", 1_000) {
        redelivery.tries = tries;
    }
    redelivery
}

/// Reads the limits on payers.
pub(super) fn pledges(top: &Section<'_>) -> Pledges {
    let mut pledges = Pledges { count: 100, sum: None };
    let Some(table) = top.get("limits").and_then(|node| node.section(&LIMITS)) else { return pledges };
    if let Some(count) = small(&table, "payer_in_flight", 1_000_000) {
        pledges.count = count;
    }
    pledges.sum = table.get("payer_in_flight_sum").and_then(|node| sum(&node));
    pledges
}

/// Reads how many settlements of one payer may fail.
pub(super) fn failures(top: &Section<'_>) -> FailureLimit {
    let mut limit = FailureLimit::default();
    let Some(table) = top.get("limits").and_then(|node| node.section(&LIMITS)) else { return limit };
    if let Some(count) = small(&table, "payer_failures", 100) {
        limit.count = count;
    }
    if let Some(seconds) = table.get("payer_failures_seconds").and_then(|node| node.number(1..=DAY_SECONDS)) {
        limit.window_seconds = seconds;
    }
    limit
}

fn sum(node: &Node<'_>) -> Option<Money> {
    let money = node.text()?.parse::<Money>().ok();
    let problem = match &money {
        None => "is not an amount",
        Some(money) if money.symbol.is_some() => "names an asset; it holds for each asset by itself",
        Some(money) if !Pledges::is_limit(money) => "is not an amount that can be a limit",
        Some(_) => return money,
    };
    node.error(problem, "write an amount above zero, such as \"$100\", or leave it out");
    None
}

fn small(table: &Section<'_>, name: &str, most: u32) -> Option<u32> {
    let number = table.get(name)?.number(0..=u64::from(most))?;
    u32::try_from(number).ok()
}
