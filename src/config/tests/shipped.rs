//! The shipped `gateway.toml` is the reference of every key.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::{clean, load};
use crate::config::keys::{AUTH, FACILITATOR_TABLE, Inner, SERVICE, TABLES, TOP, Table};

const SHIPPED: &str = include_str!("../../../gateway.toml");

/// The shipped file with everything set that is commented out: lines of `#` and no space.
fn uncommented() -> String {
    let mut in_list = false;
    let mut text = String::new();
    for line in SHIPPED.lines() {
        let commented = line.strip_prefix('#').filter(|rest| in_list || !rest.starts_with([' ', '-', ':']));
        let line = commented.filter(|rest| !rest.is_empty());
        if let Some(line) = line {
            in_list = line.ends_with('[') || (in_list && line != "]");
        }
        text.push_str(line.unwrap_or(if commented.is_some() { "" } else { "\u{0}" }));
        text.push('\n');
    }
    let lines = text.lines().zip(SHIPPED.lines());
    lines.map(|(line, shipped)| if line == "\u{0}" { shipped } else { line }).collect::<Vec<_>>().join("\n")
}

/// Every key in a tree, as `header key`.
fn keys_in(table: &DeTable<'_>, spec: &Table, found: &mut BTreeSet<String>) {
    for (name, value) in table {
        found.insert(format!("{} {}", spec.header, name.get_ref()));
        let inner: Vec<&DeValue<'_>> = match spec.key(name.get_ref()).map(|key| key.inner) {
            Some(Inner::Table(_)) => vec![value.get_ref()],
            Some(Inner::Named(_)) => {
                value.get_ref().as_table().into_iter().flatten().map(|(_, value)| value.get_ref()).collect()
            }
            Some(Inner::Free) | None => Vec::new(),
        };
        let Some(Inner::Table(spec) | Inner::Named(spec)) = spec.key(name.get_ref()).map(|key| key.inner)
        else {
            continue;
        };
        for value in inner {
            let items = value.as_array().into_iter().flatten().filter_map(|item| item.get_ref().as_table());
            value.as_table().into_iter().chain(items).for_each(|table| keys_in(table, spec, found));
        }
    }
}

#[test]
fn the_shipped_file_is_fine_as_it_is() {
    let config = clean(SHIPPED);
    assert_eq!(config.public_url, "http://127.0.0.1:8402");
    assert_eq!(config.routes.routes().len(), 4);
}

#[test]
fn the_shipped_file_documents_every_key_and_no_other() {
    let text = uncommented();
    let (tree, errors) = DeTable::parse_recoverable(&text);
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    let mut written = BTreeSet::new();
    keys_in(tree.get_ref(), &TOP, &mut written);
    let mut known: BTreeSet<String> = BTreeSet::new();
    for table in TABLES {
        known.extend(table.keys.iter().map(|key| format!("{} {}", table.header, key.name)));
    }
    let unknown: Vec<_> = written.difference(&known).collect();
    assert!(unknown.is_empty(), "not keys: {unknown:?}");
    let prose: BTreeSet<&str> = SHIPPED
        .lines()
        .filter(|line| line.starts_with("# "))
        .flat_map(|line| line.split(|character: char| !character.is_ascii_alphanumeric() && character != '_'))
        .collect();
    // The kinds of `auth` exclude each other, so they are listed in a comment; so are the places a
    // secret can be in.
    let places = ["rpc_env", "key", "key_file"].map(|name| (&FACILITATOR_TABLE, name));
    let places = places.into_iter().chain(["token", "token_file"].map(|name| (&SERVICE, name)));
    let in_comments: BTreeSet<String> = (AUTH.keys.iter().map(|key| (&AUTH, key.name)).chain(places))
        .filter(|(_, name)| prose.contains(name))
        .map(|(table, name)| format!("{} {name}", table.header))
        .collect();
    let in_prose = |key: &str| in_comments.contains(key);
    let missing: Vec<_> = known.difference(&written).filter(|key| !in_prose(key)).collect();
    assert!(missing.is_empty(), "not documented: {missing:?}");
}

#[test]
fn nothing_in_the_shipped_file_is_unknown_even_when_everything_is_set() {
    let (Ok((_, diagnostics)) | Err(diagnostics)) = load(&uncommented());
    let unknown: Vec<_> = diagnostics.iter().filter(|one| one.message.starts_with("unknown key")).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_defaults_in_the_shipped_file_are_the_defaults() {
    let sections = ["[log]", "[ledger]", "[redelivery]", "[limits]", "[cors]", "[sandbox]"];
    let top = [
        "listen",
        "mode",
        "default",
        "settle",
        "max_timeout_seconds",
        "v1",
        "payment_identifier",
        "v1_networks",
        "watch",
        "allow_plaintext_secrets",
    ];
    let mut with_defaults = String::new();
    let mut in_section = true;
    let mut before_tables = true;
    for line in uncommented().lines() {
        if line.starts_with('[') {
            before_tables = false;
            in_section = sections.contains(&line);
        }
        let is_top = top.iter().any(|key| line.starts_with(&format!("{key} ")));
        // Examples, where nothing is the default.
        let is_example = ["url_env ", "payer_in_flight_sum "].iter().any(|key| line.starts_with(key));
        if !is_example && ((before_tables && is_top) || (!before_tables && in_section)) {
            with_defaults.push_str(line);
            with_defaults.push('\n');
        }
        if before_tables && line.starts_with("allow_plaintext_secrets") {
            with_defaults.push_str("upstream = \"demo\"\n");
        }
    }
    for key in [
        "balance",
        "origin_time_seconds",
        "level",
        "retention_days",
        "takeover_after_seconds",
        "tries",
        "allow_origins",
        "v1_networks",
    ] {
        assert!(with_defaults.contains(&format!("\n{key}")), "{key} is set\n{with_defaults}");
    }
    let left_out = clean("upstream = \"demo\"\n");
    assert_eq!(format!("{:?}", clean(&with_defaults)), format!("{left_out:?}"));
}
