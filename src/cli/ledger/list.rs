//! `ledger list`: the newest payments as a table, and the sums of all that were selected.

use std::collections::VecDeque;
use std::io::{self, Write};

use super::coins::Coins;
use super::pages::Pages;
use super::sums::Sums;
use super::text::{Column, clean, counted, short, short_id, table};
use super::{Stop, when};
use crate::ledger::{Accounts, Filter, PaymentRecord};

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    /// Most payments in the table; the newest ones.
    pub(super) limit: usize,
    /// No table.
    pub(super) sums_only: bool,
}

/// Lists the payments that a filter selects, newest last.
///
/// # Errors
/// When the books cannot be read, or the report cannot be written.
pub(super) async fn list(
    accounts: &dyn Accounts,
    filter: &Filter,
    coins: &mut Coins,
    shown: Shown,
    out: &mut dyn Write,
) -> Result<(), Stop> {
    let mut sums = Sums::default();
    let mut newest: VecDeque<PaymentRecord> = VecDeque::new();
    let mut selected: u64 = 0;
    let mut pages = Pages::new(accounts, filter);
    loop {
        let page = pages.next().await?;
        if page.is_empty() {
            break;
        }
        for record in page {
            selected += 1;
            sums.add(&record);
            if shown.sums_only {
                continue;
            }
            newest.push_back(record);
            if newest.len() > shown.limit {
                newest.pop_front();
            }
        }
    }
    if !shown.sums_only {
        let rows: Vec<_> = newest.iter().map(|record| row(coins, record)).collect();
        write_rows(&rows, selected, out)?;
    }
    if selected > 0 || shown.sums_only {
        sums.write(coins, out)?;
    }
    Ok(())
}

fn row(coins: &mut Coins, record: &PaymentRecord) -> [String; 7] {
    let bought = &record.particulars;
    [
        when::shown(record.claimed_at),
        record.state.to_string(),
        clean(&bought.route),
        coins.words(&bought.network, &bought.asset, bought.amount),
        short(bought.payer.as_deref().unwrap_or_default()),
        short(&record.transaction),
        short_id(record.id),
    ]
}

fn write_rows(rows: &[[String; 7]], selected: u64, out: &mut dyn Write) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no payments");
    }
    let columns = [
        Column::Left("claimed"),
        Column::Left("state"),
        Column::Left("route"),
        Column::Right("price"),
        Column::Left("payer"),
        Column::Left("transaction"),
        Column::Left("id"),
    ];
    table(out, columns, rows)?;
    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let words = counted(selected, "payment");
    if count < selected {
        writeln!(out, "\nthe newest {count} of {words}; the sums are of all of them\n")
    } else {
        writeln!(out, "\n{words}\n")
    }
}
