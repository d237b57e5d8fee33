//! `ledger export`: every field of every payment, for spreadsheets and programs.

use std::io::{self, Write};

use serde::Serializer as _;
use serde_json::Value;

use super::coins::{Coins, income};
use super::pages::Pages;
use super::{Stop, when};
use crate::clock::UnixSeconds;
use crate::ledger::{Accounts, Filter, PaymentRecord};
use crate::x402::AtomicAmount;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a line of names (RFC 4180)
    Csv,
    /// A JSON object on each line
    Jsonl,
}

/// What one column says of a payment.
enum Cell {
    Nothing,
    Text(String),
    Number(u64),
    Bool(bool),
    Json(Value),
}

/// A payment, and what its amounts mean.
struct Row<'a> {
    record: &'a PaymentRecord,
    symbol: Option<String>,
    price: Option<String>,
    income: Option<AtomicAmount>,
    income_decimal: Option<String>,
}

/// A column: its name, what it means, and its value.
struct Column {
    name: &'static str,
    meaning: &'static str,
    cell: fn(&Row<'_>) -> Cell,
}

const fn column(name: &'static str, meaning: &'static str, cell: fn(&Row<'_>) -> Cell) -> Column {
    Column { name, meaning, cell }
}

// Names are a promise: they stay, and new ones are added behind them.
const COLUMNS: &[Column] = &[
    column("id", "identity of the payment", |row| text(row.record.id)),
    column("attempt", "which time it was claimed", |row| Cell::Number(row.record.attempt.into())),
    column("state", "claimed, settling, settled, delivered, unresolved, declined or released", |row| {
        text(row.record.state)
    }),
    column("claimed_at", "when it was claimed; the time of --since and --until", |row| {
        text(when::shown(row.record.claimed_at))
    }),
    column("settling_at", "when settlement was asked for", |row| time(row.record.settling_at)),
    column("settled_at", "when it was known to be settled", |row| time(row.record.settled_at)),
    column("delivered_at", "when its last delivery was complete", |row| time(row.record.delivered_at)),
    column("changed_at", "when its state last changed", |row| text(when::shown(row.record.changed_at))),
    column("expires", "from when on it can no longer be settled", |row| time(row.record.expires)),
    column("route", "the route's name", |row| text(&row.record.particulars.route)),
    column("method", "method of the request", |row| text(&row.record.particulars.method)),
    column("resource", "URL of what is bought, without its query", |row| {
        text(&row.record.particulars.resource)
    }),
    column("payer", "who pays", |row| optional(row.record.particulars.payer.as_ref())),
    column("network", "CAIP-2", |row| text(&row.record.particulars.network)),
    column("asset", "token contract, mint or currency", |row| text(&row.record.particulars.asset)),
    column("symbol", "ticker of the asset, if it is known", |row| optional(row.symbol.as_ref())),
    column("amount_atomic", "price in atomic units", |row| text(row.record.particulars.amount)),
    column("amount", "price as an exact decimal, if the asset is known", |row| optional(row.price.as_ref())),
    column("income_atomic", "what moved, in atomic units; empty unless settled", |row| {
        optional(row.income.as_ref())
    }),
    column("income", "what moved, as an exact decimal", |row| optional(row.income_decimal.as_ref())),
    column("pay_to", "who is paid", |row| text(&row.record.particulars.pay_to)),
    column("scheme", "scheme of the payment", |row| text(&row.record.particulars.scheme)),
    column("x402_version", "generation of the payment", |row| {
        Cell::Number(row.record.particulars.version.number().into())
    }),
    column("facilitator", "who was asked to settle, or may be", |row| {
        text(&row.record.particulars.facilitator)
    }),
    column("transaction", "what settled it, or may have", |row| {
        optional(Some(&row.record.transaction).filter(|transaction| !transaction.is_empty()))
    }),
    column("reason", "why it was released or declined, or is unresolved", |row| {
        optional(Some(&row.record.reason).filter(|reason| !reason.is_empty()))
    }),
    column("deliveries", "deliveries that were begun", |row| Cell::Number(row.record.deliveries.into())),
    column("tries", "times its outcome was asked for while unresolved", |row| {
        Cell::Number(row.record.tries.into())
    }),
    column("tried_at", "when that was last", |row| time(row.record.tried_at)),
    column("next_try", "when it is due again", |row| time(row.record.next_try)),
    column("gateway", "the running gateway that holds it", |row| {
        row.record.owner.map_or(Cell::Nothing, |owner| text(format_args!("{:016x}", owner.0)))
    }),
    column("request_hash", "hash over method, URL and terms of what it buys", |row| {
        text(row.record.request_hash)
    }),
    column("repeatable", "whether that is a GET or HEAD", |row| Cell::Bool(row.record.repeatable)),
    column("redelivery_window_seconds", "seconds after settlement in which it may be fetched again", |row| {
        Cell::Number(row.record.redelivery.window_seconds)
    }),
    column("redelivery_tries", "how many times", |row| Cell::Number(row.record.redelivery.tries.into())),
    column("identifier", "the client's payment-identifier, hashed with its payer", |row| {
        optional(row.record.identifier.as_ref())
    }),
    column("unique_transaction", "whether its transaction may settle no other payment", |row| {
        Cell::Bool(row.record.unique_transaction)
    }),
    column("facilitator_request", "JSON the facilitator was asked, while settling or unresolved", |row| {
        let stored = row.record.request.as_deref();
        stored.map_or(Cell::Nothing, |request| {
            Cell::Json(serde_json::from_str(request).unwrap_or_else(|_| Value::String(request.to_owned())))
        })
    }),
    column("settlement", "JSON of the facilitator's answer, or what the chain showed", |row| {
        let response = row.record.response.as_ref().and_then(|response| serde_json::to_value(response).ok());
        response.map_or(Cell::Nothing, Cell::Json)
    }),
];

fn text(value: impl std::fmt::Display) -> Cell {
    Cell::Text(value.to_string())
}

fn optional(value: Option<&impl std::fmt::Display>) -> Cell {
    value.map_or(Cell::Nothing, text)
}

fn time(time: Option<UnixSeconds>) -> Cell {
    time.map_or(Cell::Nothing, |time| Cell::Text(when::shown(time)))
}

/// The columns and what they mean, for the command's help.
pub(super) fn columns_help() -> String {
    let width = COLUMNS.iter().map(|column| column.name.len()).max().unwrap_or(0);
    let line = |column: &Column| format!("  {:width$}  {}\n", column.name, column.meaning);
    COLUMNS.iter().map(line).collect()
}

/// Writes every payment a filter selects, oldest first; gives how many these were.
///
/// # Errors
/// When the books cannot be read, or the output cannot be written.
pub(super) async fn export(
    accounts: &dyn Accounts,
    filter: &Filter,
    coins: &mut Coins,
    format: Format,
    out: &mut dyn Write,
) -> Result<u64, Stop> {
    let mut writer = match format {
        Format::Csv => Writer::csv(out)?,
        Format::Jsonl => Writer::Jsonl(out),
    };
    let mut count = 0;
    let mut pages = Pages::new(accounts, filter);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for record in &page {
            writer.write(&Row::new(record, coins))?;
            count += 1;
        }
    }
    writer.flush()?;
    Ok(count)
}

impl<'a> Row<'a> {
    fn new(record: &'a PaymentRecord, coins: &mut Coins) -> Self {
        let bought = &record.particulars;
        let income = income(record);
        let coin = coins.find(&bought.network, &bought.asset);
        let decimal = |amount: AtomicAmount| coin.map(|coin| amount.to_decimal(coin.decimals));
        Self {
            record,
            symbol: coin.map(|coin| coin.symbol.clone()),
            price: decimal(bought.amount),
            income,
            income_decimal: income.and_then(decimal),
        }
    }
}

enum Writer<'a> {
    Csv(Box<csv::Writer<&'a mut dyn Write>>),
    Jsonl(&'a mut dyn Write),
}

impl<'a> Writer<'a> {
    fn csv(out: &'a mut dyn Write) -> io::Result<Self> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
        writer.write_record(COLUMNS.iter().map(|column| column.name))?;
        Ok(Self::Csv(Box::new(writer)))
    }

    fn write(&mut self, row: &Row<'_>) -> io::Result<()> {
        match self {
            Self::Csv(writer) => {
                for column in COLUMNS {
                    writer.write_field((column.cell)(row).csv())?;
                }
                writer.write_record(None::<&[u8]>)?;
            }
            Self::Jsonl(out) => {
                // In the order of the columns, which a map of JSON values would not keep.
                let members = COLUMNS.iter().map(|column| (column.name, (column.cell)(row).json()));
                serde_json::Serializer::new(&mut *out).collect_map(members)?;
                out.write_all(b"\n")?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Csv(writer) => writer.flush(),
            Self::Jsonl(out) => out.flush(),
        }
    }
}

impl Cell {
    fn csv(self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Text(text) => harmless(text),
            Self::Number(number) => number.to_string(),
            Self::Bool(value) => value.to_string(),
            Self::Json(value) => harmless(value.to_string()),
        }
    }

    fn json(self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Text(text) => Value::String(text),
            Self::Number(number) => number.into(),
            Self::Bool(value) => value.into(),
            Self::Json(value) => value,
        }
    }
}

/// Text that no spreadsheet takes for a formula: clients choose payers and resources, facilitators
/// their reasons (OWASP, "CSV Injection"). An apostrophe goes before what could be one, and before an
/// apostrophe, so that whoever removes a first one has the text as it was.
fn harmless(text: String) -> String {
    let is_risky = |first: char| {
        matches!(
            first,
            '=' | '+'
                | '-'
                | '@'
                | '\t'
                | '\r'
                | '\n'
                | '\''
                | '\u{ff1d}'
                | '\u{ff0b}'
                | '\u{ff0d}'
                | '\u{ff20}'
        )
    };
    // Spreadsheets trim what they import.
    if text.trim_start().starts_with(is_risky) || text.starts_with(is_risky) {
        format!("'{text}")
    } else {
        text
    }
}
