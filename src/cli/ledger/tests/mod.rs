//! The commands over a ledger in memory.

pub(super) mod book;
mod export;
mod list;
mod resolve;
mod show;

use clap::Parser;

use super::Arguments;
use super::arguments::Command;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    ledger: Arguments,
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = std::iter::once("ledger").chain(line.split(' '));
    Line::try_parse_from(words).map(|line| line.ledger.command)
}

#[test]
fn a_selection_is_understood() {
    let line =
        "list --since 24h --until 2026-07-31 --route a --payer 0xA --state settled --state settled --limit 7";
    let Ok(Command::List(arguments)) = parse(line) else { panic!("not understood") };
    let filter = arguments.selection.filter(book::NOON).unwrap();
    let midnight = book::NOON.0 - 12 * 3600;
    assert_eq!((filter.since.unwrap().0, filter.until.unwrap().0), (midnight - 12 * 3600, midnight));
    assert_eq!((filter.route.as_deref(), filter.payer.as_deref()), (Some("a"), Some("0xA")));
    assert_eq!((filter.states, arguments.limit), (vec![crate::ledger::PaymentState::Settled], 7));
    let Ok(Command::List(arguments)) = parse("list --since 1h --until 2h") else { panic!("not understood") };
    assert_eq!(arguments.selection.filter(book::NOON), Err("--until is not after --since".to_owned()));
}

#[test]
fn wrong_usage_is_refused_with_code_2_and_says_why() {
    for (line, why) in [
        ("list --since yesterday", "not a time"),
        ("list --state paid", "is no state of a payment; these are: claimed, settling"),
        ("list --limit 0", "1..=10000"),
        ("list --limit 10001", "1..=10000"),
        ("show", "required"),
        ("show latest", "not a payment"),
        ("export --format xml", "csv, jsonl"),
        ("resolve 0x1", "--settled"),
        ("resolve 0x1 --declined", "--reason"),
        ("resolve 0x1 --settled --declined --reason x", "cannot be used with"),
        ("resolve 0x1 --settled --reason x", "cannot be used with"),
        ("resolve 0x1 --declined --reason x --transaction 0x1", "cannot be used with"),
        ("reconcile --since 1h --state settled", "unexpected argument"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(why), "{line}: {error}");
    }
}

#[test]
fn the_ledgers_password_is_printed_neither_in_errors_nor_in_debug_output() {
    let Ok(command) = parse("list --ledger postgres://me:hunter2@db/books") else { panic!("not understood") };
    assert!(!format!("{command:?}").contains("hunter2"));
}
