//! Arguments of `ledger`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::export::{Format, columns_help};
use super::pages::Name;
use super::when::When;
use crate::clock::UnixSeconds;
use crate::ledger::{Filter, PaymentState};
use crate::secret::Secret;

const HELP: &str = "\
Examples:
  tollgate ledger list --since 24h
  tollgate ledger list --sums --since 2026-07-01 --until 2026-08-01
  tollgate ledger show 0x2f6c41d9a07b
  tollgate ledger export --format csv --since 2026-07-01 --until 2026-08-01 > july.csv
  tollgate ledger reconcile
  tollgate ledger resolve 0x2f6c41d9a07b --declined --reason 'never arrived, bank statement of 2 August'

The books are read beside a running gateway, and only `resolve` changes them. They are those of the
configuration's [ledger] unless --ledger names others. A configuration that takes secrets from the
environment needs them here too.

Exit codes:
  0  done
  1  no such payment; not resolved; or the books and the chain differ
  2  wrong usage, or the books, the chain or the configuration cannot be read";

/// Arguments of `ledger`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List payments, newest last, and what was earned per day, route and asset
    List(ListArguments),
    /// Show everything that is known of one payment
    Show(ShowArguments),
    /// Write payments with every field, as CSV or JSON lines
    Export(ExportArguments),
    /// Compare the books with the chain and list every difference; changes nothing
    Reconcile(ReconcileArguments),
    /// Decide about an unresolved payment that nobody can find out about
    Resolve(ResolveArguments),
}

/// Where the books are.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// Configuration of the gateway [default: gateway.toml]
    #[arg(short, long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the ledger is, when it is not the configuration's.
    #[arg(
        long, value_name = "URL", value_parser = parse_secret,
        help = "The ledger, instead of the one in the configuration: sqlite://FILE or postgres://…"
    )]
    pub(super) ledger: Option<Secret<String>>,
}

// The signature is clap's.
#[expect(clippy::unnecessary_wraps)]
fn parse_secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    // Checked later: clap would print a value that is refused here, and it may hold a password.
    Ok(Secret::new(text.to_owned()))
}

/// Which payments are meant.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Claimed then or later: 2026-07-31, 2026-07-31T12:00:00Z, or how long ago: 24h, 7d (UTC)
    #[arg(long, value_name = "TIME", help_heading = "Which payments")]
    pub(super) since: Option<When>,
    /// Claimed before; a day means its beginning
    #[arg(long, value_name = "TIME", help_heading = "Which payments")]
    pub(super) until: Option<When>,
    /// Of this route
    #[arg(long, value_name = "NAME", help_heading = "Which payments")]
    pub(super) route: Option<String>,
    /// By this payer
    #[arg(long, value_name = "ACCOUNT", help_heading = "Which payments")]
    pub(super) payer: Option<String>,
    /// In this state: claimed, settling, settled, delivered, unresolved, declined or released; may be
    /// given several times
    #[arg(long = "state", value_name = "STATE", help_heading = "Which payments")]
    pub(super) states: Vec<PaymentState>,
}

impl Selection {
    /// The filter that is meant at a time.
    ///
    /// # Errors
    /// A period that ends before it begins.
    pub(super) fn filter(&self, now: UnixSeconds) -> Result<Filter, String> {
        let (since, until) =
            (self.since.map(|since| since.from(now)), self.until.map(|until| until.from(now)));
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err("--until is not after --since".to_owned());
        }
        let mut states = self.states.clone();
        states.sort_unstable();
        states.dedup();
        Ok(Filter { since, until, route: self.route.clone(), payer: self.payer.clone(), states })
    }
}

/// Arguments of `ledger list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate ledger list --since 24h
  tollgate ledger list --state unresolved --state settling
  tollgate ledger list --sums --since 2026-07-01 --until 2026-08-01

The sums are exact and of every payment that is selected, whatever the limit; they count what was
settled or delivered, on the day of its claim.")]
pub(super) struct ListArguments {
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Most payments to list, the newest ones
    #[arg(
        long, value_name = "COUNT", default_value_t = 50,
        value_parser = clap::value_parser!(u16).range(1..=10_000)
    )]
    pub(super) limit: u16,
    /// Print the sums alone
    #[arg(long)]
    pub(super) sums: bool,
}

/// Arguments of `ledger show`.
#[derive(Debug, Args)]
pub(super) struct ShowArguments {
    /// The payment's id, or how that begins
    #[arg(value_name = "ID")]
    pub(super) name: Name,
    #[command(flatten)]
    pub(super) source: Source,
}

/// Arguments of `ledger export`.
#[derive(Debug, Args)]
#[command(after_help = export_help())]
pub(super) struct ExportArguments {
    #[command(flatten)]
    pub(super) source: Source,
    #[command(flatten)]
    pub(super) selection: Selection,
    /// What to write
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = Format::Csv)]
    pub(super) format: Format,
}

fn export_help() -> String {
    format!(
        "\
Columns of CSV, members of JSON lines; more may be added behind them, none will change:
{}
Times are RFC 3339 in UTC. Amounts are exact, and strings in JSON. What is not known is empty in CSV
and null in JSON.

Text in CSV that a spreadsheet could take for a formula (it begins with = + - @, a tab or a line
break), or that begins with an apostrophe, has an apostrophe before it. JSON lines have it as it is.

A payment that is presented anew while a running gateway's books are read can be written twice, the
second time as it is then.",
        columns_help()
    )
}

/// Arguments of `ledger reconcile`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate ledger reconcile
  tollgate ledger reconcile --since 2026-07-01 --until 2026-08-01 --json

Compared are the payments claimed, and the transfers received, in the period, on every network that
has [chains.NAME] in the configuration: each payment that was settled must have its transfer, each
transfer to an account of the configuration must have its payment, and each unresolved payment,
however old, is looked up. Payments of the sandbox are left out, for they move no money.

Exit codes:
  0  no differences
  1  differences, each printed
  2  wrong usage, or something could not be read, so that there may be more")]
pub(super) struct ReconcileArguments {
    #[command(flatten)]
    pub(super) source: Source,
    /// From then on: 2026-07-31, 2026-07-31T12:00:00Z, or how long ago: 24h, 7d (UTC)
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub(super) since: When,
    /// Before then; later than the default, payments may still be on their way
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub(super) until: When,
    /// Print each difference as a JSON object on a line
    #[arg(long)]
    pub(super) json: bool,
}

/// Arguments of `ledger resolve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate ledger resolve 0x2f6c41d9a07b --settled --transaction 0x5b1e…
  tollgate ledger resolve 0x2f6c41d9a07b --declined --reason 'never arrived'

Only an unresolved payment can be decided about, and running gateways find out about most of them by
themselves: look with `tollgate ledger reconcile` first. One that is settled is delivered when its
payer presents it again; one that is declined buys nothing and may be presented anew.

A ledger in PostgreSQL can be changed beside running gateways. One in SQLite belongs to its gateway
alone: stop that first.")]
pub(super) struct ResolveArguments {
    /// The payment's id, or how that begins
    #[arg(value_name = "ID")]
    pub(super) name: Name,
    #[command(flatten)]
    pub(super) source: Source,
    /// The money moved
    #[arg(long, conflicts_with = "declined", required_unless_present = "declined")]
    pub(super) settled: bool,
    /// The transaction that moved it
    #[arg(long, value_name = "TX", requires = "settled", conflicts_with = "declined")]
    pub(super) transaction: Option<String>,
    /// No money moved
    #[arg(long, requires = "reason")]
    pub(super) declined: bool,
    /// How that is known, for the books
    #[arg(long, value_name = "TEXT", requires = "declined", conflicts_with = "settled")]
    pub(super) reason: Option<String>,
    /// Do not ask for confirmation
    #[arg(short, long)]
    pub(super) yes: bool,
}
