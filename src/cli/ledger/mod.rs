//! `ledger`: the books. What was paid, by whom, for what, and whether the chain agrees.
//!
//! One walk for each command: arguments ([`arguments`]), where the books are ([`books`]), then
//! [`list`], [`show`], [`export`], [`reconcile`] or [`resolve`]. Reports go to standard output,
//! messages to standard error.

mod arguments;
mod books;
mod coins;
mod export;
mod list;
mod pages;
mod reconcile;
mod resolve;
mod show;
mod sums;
#[cfg(test)]
mod tests;
pub(super) mod text;
mod when;

use std::io::{self, BufRead as _, BufWriter, IsTerminal as _, Write};

pub(crate) use arguments::Arguments;

use crate::clock::{Clock, SystemClock};
use crate::ledger::{LedgerError, PaymentRecord};
use arguments::{
    Command, ExportArguments, ListArguments, ReconcileArguments, ResolveArguments, ShowArguments,
};
use books::Books;
use pages::{Found, find};
use resolve::Decision;
use text::{counted, short_id};

/// How a command ends; the numbers are the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// Done; no differences.
    Done = 0,
    /// No such payment, not resolved, or differences.
    Not = 1,
    /// Something cannot be read or was written wrongly.
    Failed = 2,
}

/// Why a command ends before its time.
#[derive(Debug)]
enum Stop {
    /// There is nothing to show, or nothing was changed.
    Not(String),
    /// Something cannot be read, or was written wrongly.
    Failed(String),
    /// Everything was said already.
    Said(Exit),
    /// The report cannot be written.
    Unwritable(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unwritable(error)
    }
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What a command reaches the world through.
struct World<'a> {
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    colour: bool,
    clock: &'a dyn Clock,
}

/// Runs the command. Gives the exit status.
///
/// # Errors
/// When nobody reads what is written any more.
pub(super) fn run(
    arguments: &Arguments,
    out: &mut dyn Write,
    err: &mut dyn Write,
    colour: bool,
) -> io::Result<u8> {
    // It fails when a provider is installed already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = BufWriter::new(out);
    let mut world = World { out: &mut out, err: &mut *err, colour, clock: &SystemClock };
    let ended = runtime.block_on(execute(arguments, &mut world));
    // What was found before a failure is worth reading, too.
    let ended = ended.and_then(|exit| out.flush().map(|()| exit).map_err(Stop::from));
    let (exit, message) = match ended {
        Ok(exit) | Err(Stop::Said(exit)) => (exit, None),
        Err(Stop::Not(message)) => (Exit::Not, Some(message)),
        Err(Stop::Failed(message)) => (Exit::Failed, Some(message)),
        Err(Stop::Unwritable(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Err(error),
        Err(Stop::Unwritable(error)) => {
            (Exit::Failed, Some(format!("the output cannot be written: {error}")))
        }
    };
    if let Some(message) = message {
        writeln!(err, "error: {}", text::clean(&message))?;
    }
    Ok(exit as u8)
}

async fn execute(arguments: &Arguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    match &arguments.command {
        Command::List(arguments) => run_list(arguments, world).await,
        Command::Show(arguments) => run_show(arguments, world).await,
        Command::Export(arguments) => run_export(arguments, world).await,
        Command::Reconcile(arguments) => run_reconcile(arguments, world).await,
        Command::Resolve(arguments) => run_resolve(arguments, world).await,
    }
}

async fn run_list(arguments: &ListArguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    let filter = arguments.selection.filter(world.clock.now()).map_err(Stop::Failed)?;
    let mut books = Books::of(&arguments.source, world)?;
    let accounts = books.read().await?;
    let shown = list::Shown { limit: arguments.limit.into(), sums_only: arguments.sums };
    list::list(&*accounts, &filter, &mut books.coins, shown, world.out).await?;
    Ok(Exit::Done)
}

async fn run_show(arguments: &ShowArguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    let mut books = Books::of(&arguments.source, world)?;
    let accounts = books.read().await?;
    let record = one(find(&*accounts, arguments.name).await?)?;
    show::show(&record, &mut books.coins, world.out)?;
    Ok(Exit::Done)
}

async fn run_export(arguments: &ExportArguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    let filter = arguments.selection.filter(world.clock.now()).map_err(Stop::Failed)?;
    let mut books = Books::of(&arguments.source, world)?;
    let accounts = books.read().await?;
    let count = export::export(&*accounts, &filter, &mut books.coins, arguments.format, world.out).await?;
    // A file that ends early would otherwise look whole.
    writeln!(world.err, "{}", counted(count, "payment"))?;
    Ok(Exit::Done)
}

async fn run_reconcile(arguments: &ReconcileArguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    let now = world.clock.now();
    let (since, until) = (arguments.since.from(now), arguments.until.from(now));
    if since >= until {
        return Err(Stop::Failed("--until is not after --since".to_owned()));
    }
    let mut books = Books::of(&arguments.source, world)?;
    let accounts = books.read().await?;
    let period = reconcile::Period { since, until };
    reconcile::run(&*accounts, &mut books, period, arguments.json, world).await
}

async fn run_resolve(arguments: &ResolveArguments, world: &mut World<'_>) -> Result<Exit, Stop> {
    let (transaction, reason) = (arguments.transaction.as_deref(), arguments.reason.as_deref());
    // One of the two flags is given; which one is what counts.
    let decision = Decision::new(arguments.declined, transaction, reason);
    let decision = decision.map_err(Stop::Failed)?;
    let mut books = Books::of(&arguments.source, world)?;
    let accounts = books.read().await?;
    let record = one(find(&*accounts, arguments.name).await?)?;
    // The lock of a ledger in one file is taken only when it is needed.
    drop(accounts);
    let mut coins = std::mem::take(&mut books.coins);
    let yes = arguments.yes;
    let mut confirm = |question: &str| if yes { Ok(true) } else { ask(question) };
    let open = async || books.open().await;
    resolve::resolve(&record, &decision, &mut coins, world, &mut confirm, open).await
}

/// Asks the person at the terminal.
fn ask(question: &str) -> Result<bool, Stop> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Stop::Failed("there is no terminal to ask at: add --yes if you are sure".to_owned()));
    }
    // Standard error, for standard output may lead to a file.
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(|error| Stop::Failed(format!("no answer: {error}")))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The payment that was named, if it is one.
fn one(found: Found) -> Result<Box<PaymentRecord>, Stop> {
    match found {
        Found::One(record) => Ok(record),
        Found::None => Err(Stop::Not("no payment with this id is remembered".to_owned())),
        Found::Several([one, other]) => Err(Stop::Not(format!(
            "several payments begin like this, such as {} and {}: write more of the id",
            short_id(one),
            short_id(other)
        ))),
    }
}
