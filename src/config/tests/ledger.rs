//! Where payments are remembered, redelivery, and limits on payers.

use std::path::PathBuf;
use std::time::Duration;

use super::{BASE, clean, load_with, messages, messages_with, rendered};
use crate::config::{Config, parse};
use crate::ledger::Redelivery;
use crate::ledger::settings::{FailureLimit, LedgerSettings, LedgerUrl};

fn with(lines: &str) -> Config {
    clean(&format!("{BASE}{lines}\n"))
}

#[test]
fn payments_are_remembered_beside_the_configuration_file_unless_it_says_otherwise() {
    let found = |lines: &str| {
        let text = format!("{BASE}{lines}\n");
        parse(&text, "/etc/tollgate/gateway.toml", &|_| None).map_err(|all| rendered(&all)).unwrap().0.ledger
    };
    let default = found("");
    assert_eq!(default.url, LedgerUrl::Sqlite(PathBuf::from("/etc/tollgate/tollgate.db")));
    assert_eq!(default.retention_seconds, 400 * 86_400);
    assert_eq!(default.takeover_after, Duration::from_secs(10));
    for seconds in [5, 3_600] {
        let other = found(&format!("[ledger]\ntakeover_after_seconds = {seconds}"));
        assert_eq!(other, LedgerSettings { takeover_after: Duration::from_secs(seconds), ..default.clone() });
    }
    assert_eq!(found("[ledger]"), default);
    let other = found("[ledger]\nurl = \"sqlite://data/books.db\"\nretention_days = 30");
    assert_eq!(other.url, LedgerUrl::Sqlite(PathBuf::from("/etc/tollgate/data/books.db")));
    assert_eq!(other.retention_seconds, 30 * 86_400);
    let absolute = found("[ledger]\nurl = \"sqlite:///var/lib/books.db\"");
    assert_eq!(absolute.url, LedgerUrl::Sqlite(PathBuf::from("/var/lib/books.db")));
    assert_eq!(found("[ledger]\nurl = \"sqlite::memory:\"").url, LedgerUrl::Memory);
    let shared = found("[ledger]\nurl = \"postgres://tollgate@db.internal/tollgate\"");
    assert_eq!(shared.url.to_string(), "postgres://db.internal/tollgate");
}

#[test]
fn a_ledgers_password_comes_from_the_environment_and_is_never_shown() {
    let secret = "postgres://tollgate:hunter2@db/tollgate";
    let text = format!("{BASE}[ledger]\nurl_env = \"LEDGER_URL\"\n");
    let (config, warnings) = load_with(&text, &[("LEDGER_URL", secret)]).unwrap();
    assert!(warnings.is_empty(), "{}", rendered(&warnings));
    assert!(matches!(&config.ledger.url, LedgerUrl::Postgres(url) if url.expose() == secret));
    assert!(!format!("{config:?}").contains("hunter2"));
    for in_clear in [secret, "postgres://db/tollgate?user=me&password=hunter2"] {
        let text = format!("{BASE}[ledger]\nurl = \"{in_clear}\"\n");
        assert_eq!(messages(&text), ["E 6: ledger.url: a password stands in the file in clear"]);
        let insisted = format!("allow_plaintext_secrets = true\n{text}");
        assert!(matches!(clean(&insisted).ledger.url, LedgerUrl::Postgres(_)));
    }
    let shown = rendered(&load_with(&format!("{BASE}[ledger]\nurl = \"{secret}\"\n"), &[]).unwrap_err());
    assert!(!shown.contains("hunter2"), "{shown}");
    let wrong = messages_with(&text, &[("LEDGER_URL", "mysql://tollgate:hunter2@db/tollgate")]);
    assert_eq!(wrong, ["E 6: ledger.url_env: is not the URL of a ledger"]);
}

#[test]
fn ledgers_that_cannot_be_meant_are_refused() {
    for (lines, message) in [
        ("url = \"tollgate.db\"", "E 6: ledger.url: is not the URL of a ledger"),
        ("url = \"sqlite://\"", "E 6: ledger.url: names no file"),
        (
            "url = \"sqlite://a.db?mode=ro\"",
            "E 6: ledger.url: has a \"?\" or \"#\", which a ledger's URL does not have",
        ),
        ("url = \"postgres://\"", "E 6: ledger.url: names no database server"),
        ("url = \"\"", "E 6: ledger.url: is empty"),
        ("url_env = \"GONE\"", "E 6: ledger.url_env: the environment variable GONE is not set"),
        ("url = \"sqlite://a.db\"\nurl_env = \"X\"", "E 7: ledger.url_env: stands next to `url`"),
        ("retention_days = 0", "E 6: ledger.retention_days: must be from 1 to 36500"),
        ("takeover_after_seconds = 4", "E 6: ledger.takeover_after_seconds: must be from 5 to 3600"),
        ("takeover_after_seconds = 3601", "E 6: ledger.takeover_after_seconds: must be from 5 to 3600"),
        ("path = \"a.db\"", "E 6: unknown key `path` in [ledger]"),
    ] {
        let text = format!("{BASE}[ledger]\n{lines}\n");
        assert_eq!(messages(&text).first().map(String::as_str), Some(message), "{lines}");
    }
}

#[test]
fn redelivery_and_limits_on_payers_have_defaults_and_bounds() {
    let config = with("");
    assert_eq!(config.redelivery, Redelivery { window_seconds: 300, tries: 2 });
    assert_eq!((config.pledges.count, &config.pledges.sum), (100, &None));
    assert_eq!(config.failures, FailureLimit { count: 2, window_seconds: 600 });
    let config = with(
        "[redelivery]\nwindow_seconds = 60\ntries = 0\n[limits]\npayer_in_flight = 0\npayer_in_flight_sum = \"$2.50\"\npayer_failures = 0\npayer_failures_seconds = 60",
    );
    assert_eq!(config.failures, FailureLimit { count: 0, window_seconds: 60 });
    assert_eq!(config.redelivery, Redelivery { window_seconds: 60, tries: 0 });
    let limits = config.pledges.in_asset(6);
    assert_eq!((limits.count, limits.sum.unwrap().to_string().as_str()), (0, "2500000"));
    for (lines, message) in [
        (
            "[redelivery]\nwindow_seconds = 3000000",
            "E 6: redelivery.window_seconds: must be from 0 to 2592000",
        ),
        ("[redelivery]\ntries = -1", "E 6: redelivery.tries: must be from 0 to 1000"),
        (
            "[limits]\npayer_in_flight = \"1\"",
            "E 6: limits.payer_in_flight: expected a whole number, found a text",
        ),
        (
            "[limits]\npayer_in_flight_sum = \"5 EURC\"",
            "E 6: limits.payer_in_flight_sum: names an asset; it holds for each asset by itself",
        ),
        (
            "[limits]\npayer_in_flight_sum = \"$0\"",
            "E 6: limits.payer_in_flight_sum: is not an amount that can be a limit",
        ),
        ("[limits]\npayer_in_flight_sum = \"much\"", "E 6: limits.payer_in_flight_sum: is not an amount"),
        ("[limits]\npayer_failures = 101", "E 6: limits.payer_failures: must be from 0 to 100"),
        (
            "[limits]\npayer_failures_seconds = 0",
            "E 6: limits.payer_failures_seconds: must be from 1 to 86400",
        ),
        ("[limits]\nmax_claims = 5", "E 6: unknown key `max_claims` in [limits]"),
    ] {
        assert_eq!(messages(&format!("{BASE}{lines}\n")), [message], "{lines}");
    }
}
