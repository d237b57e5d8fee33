use proptest::prelude::*;
use serde_json::Value;

use super::super::coins::Coins;
use super::super::export::{Format, columns_help, export};
use super::book::{Book, NOON, amount, claim_numbered, network};
use crate::ledger::contract::claim;
use crate::ledger::{Filter, PaymentState};

async fn exported(book: &Book, format: Format) -> String {
    let mut out = Vec::new();
    let (filter, mut coins) = (Filter::default(), Coins::default());
    export(&book.ledger, &filter, &mut coins, format, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

/// The records of a CSV text, read by its names.
fn read_csv(text: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    reader.deserialize().map(Result::unwrap).collect()
}

fn read_jsonl(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const NAMES: &str = "id,attempt,state,claimed_at,settling_at,settled_at,delivered_at,changed_at,expires,route,method,\
resource,payer,network,asset,symbol,amount_atomic,amount,income_atomic,income,pay_to,scheme,x402_version,facilitator,\
transaction,reason,deliveries,tries,tried_at,next_try,gateway,request_hash,repeatable,redelivery_window_seconds,\
redelivery_tries,identifier,unique_transaction,facilitator_request,settlement";

#[tokio::test]
async fn the_names_of_the_columns_are_stable_and_in_the_help() {
    assert_eq!(exported(&Book::new(), Format::Csv).await, format!("{NAMES}\r\n"));
    assert_eq!(exported(&Book::new(), Format::Jsonl).await, "");
    let book = Book::of_all_states().await;
    for line in exported(&book, Format::Jsonl).await.lines() {
        let mut place = 0;
        for name in NAMES.split(',') {
            let found = line[place..].find(&format!("\"{name}\":"));
            place += found.unwrap_or_else(|| panic!("{name} is missing or out of order: {line}"));
        }
    }
    let help = columns_help();
    let described: Vec<&str> = help.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(described.join(","), NAMES);
}

#[tokio::test]
async fn every_field_is_exact_in_both_formats() {
    let book = Book::of_all_states().await;
    let csv = exported(&book, Format::Csv).await;
    assert!(csv.ends_with("\r\n"));
    let (csv, json) = (read_csv(&csv), read_jsonl(&exported(&book, Format::Jsonl).await));
    assert_eq!((csv.len(), json.len()), (7, 7));
    for (row, object) in csv.iter().zip(&json) {
        assert_eq!(row.len(), object.as_object().unwrap().len());
        for (name, cell) in row {
            let same = match &object[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*cell, same, "{name}");
        }
    }
    let states: Vec<&str> = json.iter().map(|object| object["state"].as_str().unwrap()).collect();
    assert_eq!(states, PaymentState::ALL.map(PaymentState::as_str));
    let delivered = &json[3];
    for (name, value) in [
        ("claimed_at", "2026-07-31T12:03:00Z"),
        ("settling_at", "2026-07-31T12:03:01Z"),
        ("settled_at", "2026-07-31T12:03:02Z"),
        ("delivered_at", "2026-07-31T12:03:03Z"),
        ("network", "eip155:84532"),
        ("symbol", "USDC"),
        ("amount_atomic", "10000"),
        ("amount", "0.01"),
        ("income_atomic", "10000"),
        ("income", "0.01"),
        ("resource", "https://shop.example/a"),
    ] {
        assert_eq!(delivered[name], value, "{name}");
    }
    assert_eq!(delivered["settlement"]["success"], true);
    assert_eq!(delivered["facilitator_request"], Value::Null);
    let unresolved = &json[4];
    assert_eq!((&unresolved["income"], &unresolved["income_atomic"]), (&Value::Null, &Value::Null));
    assert_eq!(unresolved["facilitator_request"]["asked"], 1);
    assert_eq!(unresolved["reason"], "no answer in 30 s");
}

#[tokio::test]
async fn amounts_of_unknown_assets_are_atomic_and_never_rounded() {
    let book = Book::new();
    let mut bought = claim(1);
    bought.particulars.asset = "0x0000000000000000000000000000000000000001".into();
    bought.particulars.amount =
        "115792089237316195423570985008687907853269984665640564039457584007913129639935".parse().unwrap();
    book.claim_at(&bought, NOON).await;
    bought = claim(2);
    bought.particulars.network = network("megaeth");
    bought.particulars.asset = "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7".into();
    bought.particulars.amount = amount(1_000_000_000_000_000_001);
    book.claim_at(&bought, NOON).await;
    let json = read_jsonl(&exported(&book, Format::Jsonl).await);
    assert_eq!(json[0]["amount_atomic"], bought_max());
    assert_eq!((&json[0]["amount"], &json[0]["symbol"]), (&Value::Null, &Value::Null));
    assert_eq!(json[1]["amount"], "1.000000000000000001");
}

fn bought_max() -> String {
    alloy_primitives::U256::MAX.to_string()
}

#[tokio::test]
async fn more_payments_than_a_page_are_written_once_each_in_order() {
    let book = Book::new();
    for number in 0..2_500 {
        book.claim_at(&claim_numbered(number), NOON.plus(number / 3)).await;
    }
    let rows = read_csv(&exported(&book, Format::Csv).await);
    let keys: Vec<(&String, &String)> = rows.iter().map(|row| (&row["claimed_at"], &row["id"])).collect();
    assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(keys.len(), 2_500);
}

#[tokio::test]
async fn no_cell_is_a_formula_and_every_text_can_be_had_back() {
    let texts = [
        "=HYPERLINK(\"http://evil.example\")",
        "+1",
        "-1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        " =1",
        "\u{a0}=1",
        "＝1",
        "'quoted'",
        "plain",
        "a=b",
        "say \"hi\", please",
        "two\r\nlines",
        "",
    ];
    for text in texts {
        let book = Book::new();
        let mut bought = claim(1);
        bought.particulars.resource = text.into();
        bought.particulars.payer = Some(text.into());
        bought.particulars.route = text.into();
        let token = book.claim_at(&bought, NOON).await;
        crate::ledger::Ledger::release(&book.ledger, token, Some(text), NOON).await.unwrap();
        let rows = read_csv(&exported(&book, Format::Csv).await);
        for name in ["resource", "payer", "route", "reason"] {
            let cell = &rows[0][name];
            let first = cell.trim_start().chars().next();
            assert!(!first.is_some_and(|first| "=+-@＝＋－＠".contains(first)), "{cell:?}");
            assert!(!cell.starts_with(['\t', '\r', '\n']), "{cell:?}");
            assert_eq!(cell.strip_prefix('\'').unwrap_or(cell), text);
        }
        let json = read_jsonl(&exported(&book, Format::Jsonl).await);
        assert_eq!(json[0]["resource"], text);
    }
}

proptest! {
    #[test]
    fn whatever_clients_write_a_payment_is_one_record(texts in prop::array::uniform4(any::<String>())) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (csv, json) = runtime.block_on(async {
            let book = Book::new();
            let mut bought = claim(1);
            let [resource, payer, route, reason] = texts.clone();
            (bought.particulars.resource, bought.particulars.payer) = (resource, Some(payer));
            bought.particulars.route = route;
            let token = book.claim_at(&bought, NOON).await;
            crate::ledger::Ledger::release(&book.ledger, token, Some(&reason), NOON).await.unwrap();
            (exported(&book, Format::Csv).await, exported(&book, Format::Jsonl).await)
        });
        let (rows, objects) = (read_csv(&csv), read_jsonl(&json));
        prop_assert_eq!((rows.len(), objects.len()), (1, 1));
        for (name, text) in ["resource", "payer", "route", "reason"].into_iter().zip(&texts) {
            let cell = &rows[0][name];
            prop_assert_eq!(cell.strip_prefix('\'').unwrap_or(cell), text);
            let json = &objects[0][name];
            prop_assert!(json == text.as_str() || (name == "reason" && text.is_empty() && json.is_null()));
        }
    }
}
