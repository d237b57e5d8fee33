//! What was earned: exact sums per day, route and asset.

use std::collections::BTreeMap;
use std::io::{self, Write};

use alloy_primitives::U256;

use super::coins::{Coins, income};
use super::text::{Column, clean, table};
use super::when::Day;
use crate::ledger::PaymentRecord;
use crate::x402::{AtomicAmount, Network};

/// Sums of what was settled, whether it was delivered already or not.
#[derive(Debug, Default)]
pub(super) struct Sums {
    rows: BTreeMap<(Day, String, Network, String), Sum>,
}

#[derive(Debug, Clone, Copy)]
struct Sum {
    payments: u64,
    /// In atomic units; `None`: more than 2^256 - 1.
    amount: Option<U256>,
}

impl Sum {
    const NOTHING: Self = Self { payments: 0, amount: Some(U256::ZERO) };

    fn add(&mut self, other: Self) {
        self.payments = self.payments.saturating_add(other.payments);
        self.amount = self.amount.zip(other.amount).and_then(|(one, other)| one.checked_add(other));
    }
}

impl Sums {
    /// Counts a payment, if money moved. Its day is that of its claim, the time that `--since` and
    /// `--until` mean too, so that the sums of two periods that follow each other are the sum of both.
    pub(super) fn add(&mut self, record: &PaymentRecord) {
        let Some(amount) = income(record) else { return };
        let bought = &record.particulars;
        let key =
            (Day::of(record.claimed_at), bought.route.clone(), bought.network.clone(), bought.asset.clone());
        self.rows.entry(key).or_insert(Sum::NOTHING).add(Sum { payments: 1, amount: Some(amount.0) });
    }

    /// Writes a line for each day, route and asset, and the total of each asset.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub(super) fn write(&self, coins: &mut Coins, out: &mut dyn Write) -> io::Result<()> {
        if self.rows.is_empty() {
            return writeln!(out, "no money moved");
        }
        let mut rows = Vec::new();
        let mut totals: BTreeMap<(&Network, &str), Sum> = BTreeMap::new();
        for ((day, route, network, asset), sum) in &self.rows {
            rows.push(row(coins, day.shown(), clean(route), (network, asset), *sum));
            totals.entry((network, asset)).or_insert(Sum::NOTHING).add(*sum);
        }
        for ((network, asset), sum) in totals {
            rows.push(row(coins, "total".to_owned(), String::new(), (network, asset), sum));
        }
        let columns = [
            Column::Left("day (UTC)"),
            Column::Left("route"),
            Column::Left("network"),
            Column::Right("payments"),
            Column::Right("sum"),
        ];
        table(out, columns, &rows)
    }
}

fn row(
    coins: &mut Coins,
    day: String,
    route: String,
    (network, asset): (&Network, &str),
    sum: Sum,
) -> [String; 5] {
    let words = match sum.amount {
        Some(amount) => coins.words(network, asset, AtomicAmount(amount)),
        None => format!("more than 2^256 - 1 atomic units of {}", clean(asset)),
    };
    [day, route, network.name().to_owned(), sum.payments.to_string(), words]
}

#[cfg(test)]
mod tests {
    use super::super::tests::book::{amount, network, settled};
    use super::*;
    use crate::clock::UnixSeconds;
    use crate::ledger::PaymentState;

    fn written(sums: &Sums) -> String {
        let mut out = Vec::new();
        sums.write(&mut Coins::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn sums_are_exact_per_day_route_and_asset_and_count_only_what_moved() {
        let mut sums = Sums::default();
        assert_eq!(written(&sums), "no money moved\n");
        let mut record = settled(1);
        // Ten times 0.1 is 1, which floating point would miss.
        record.particulars.amount = amount(100_000);
        for _ in 0..10 {
            sums.add(&record);
        }
        record.state = PaymentState::Delivered;
        record.claimed_at = UnixSeconds(86_399);
        record.particulars.amount = amount(1);
        sums.add(&record);
        record.claimed_at = UnixSeconds(86_400);
        sums.add(&record);
        record.particulars.route = "search".into();
        sums.add(&record);
        record.particulars.network = network("base");
        sums.add(&record);
        for state in [PaymentState::Claimed, PaymentState::Unresolved, PaymentState::Declined] {
            record.state = state;
            sums.add(&record);
        }
        let atomic = format!("1 atomic units of {}", record.particulars.asset);
        let text = written(&sums);
        let cells = |line: &'static str| line.split(" | ").collect::<Vec<_>>();
        for (line, expected) in text.lines().zip([
            "day (UTC) | route | network | payments | sum",
            "1970-01-01 | articles | base-sepolia | 11 | 1.000001 USDC",
            "1970-01-02 | articles | base-sepolia | 1 | 0.000001 USDC",
            "1970-01-02 | search | base | 1 | atomic",
            "1970-01-02 | search | base-sepolia | 1 | 0.000001 USDC",
            "total | base | 1 | atomic",
            "total | base-sepolia | 13 | 1.000003 USDC",
        ]) {
            let line = line.replace(&atomic, "atomic");
            let found: Vec<&str> = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
            assert_eq!(found, cells(expected), "{text}");
        }
        assert_eq!(text.lines().count(), 7, "{text}");
    }

    #[test]
    fn a_sum_that_does_not_fit_is_said_to_be_too_large_and_never_wraps() {
        let mut sums = Sums::default();
        let mut record = settled(1);
        record.particulars.amount = AtomicAmount(U256::MAX);
        sums.add(&record);
        assert!(written(&sums).contains(&AtomicAmount(U256::MAX).to_decimal(6)));
        sums.add(&record);
        assert!(written(&sums).contains("more than 2^256 - 1 atomic units"), "{}", written(&sums));
    }
}
