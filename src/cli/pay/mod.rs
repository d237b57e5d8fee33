//! `pay`: fetches a URL and pays for it if it asks for payment.
//!
//! One walk: fetch without a payment, read the 402 ([`challenge`]), choose an offer ([`choice`]),
//! sign it (`payment`), send it and judge the answer (`purchase`, [`receipt`]). The body goes
//! to standard output; what is said of it goes to standard error (`terminal`).

mod arguments;
pub mod challenge;
pub mod choice;
mod fetch;
mod key;
mod payment;
mod purchase;
pub mod receipt;
mod terminal;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use reqwest::{Response, StatusCode, Url};

pub(crate) use arguments::Arguments;
pub(super) use terminal::clean;

use crate::clock::{Clock, SystemClock};
use crate::secret::Secret;
use challenge::Challenge;
use choice::{Limits, Payable};
use fetch::{Fetcher, location, shown_url};
use key::{KEY_VARIABLE, KeySources, Payer, random_word};
use purchase::Purchase;
use terminal::{Console, Output, excerpt};

/// Characters of a server's description that are shown.
const DESCRIPTION_CHARACTERS_MAX: usize = 200;

/// How the command ends; the numbers are the exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The page was delivered.
    Done = 0,
    /// Refused or failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Too expensive, or no offer that can be paid.
    NoOffer = 3,
    /// Money may have moved.
    Unknown = 4,
}

/// Why the command ends before its time.
#[derive(Debug)]
struct Stop {
    exit: Exit,
    message: String,
}

impl Stop {
    const fn new(exit: Exit, message: String) -> Self {
        Self { exit, message }
    }
}

/// What the command reaches the world through.
struct World<'a> {
    stdout: &'a mut dyn Write,
    stderr: &'a mut dyn Write,
    /// The value of `TOLLGATE_KEY`.
    key_variable: Option<Secret<String>>,
    clock: &'a dyn Clock,
}

/// Runs the command with the process's own streams, environment and clock.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    // It fails when a provider is installed already, and then that one serves.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let variable = std::env::var_os(KEY_VARIABLE).filter(|value| !value.is_empty());
    let world = World {
        stdout: &mut io::stdout(),
        stderr: &mut io::stderr(),
        key_variable: variable.map(|value| Secret::new(value.to_string_lossy().into_owned())),
        clock: &SystemClock,
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(execute(arguments, world)) as u8),
        Err(error) => {
            eprintln!("tollgate: cannot start: {error}");
            ExitCode::from(Exit::Failed as u8)
        }
    }
}

async fn execute(arguments: &Arguments, world: World<'_>) -> Exit {
    let World { stdout, stderr, key_variable, clock } = world;
    let mut console = Console(stderr);
    let keys = KeySources {
        argument: arguments.key.as_ref(),
        file: arguments.key_file.as_deref(),
        variable: key_variable,
    };
    match fetch_and_pay(arguments, &keys, clock, stdout, &mut console).await {
        Ok(exit) => exit,
        Err(stop) => {
            console.line(&format!("tollgate: {}", stop.message));
            stop.exit
        }
    }
}

async fn fetch_and_pay(
    arguments: &Arguments,
    keys: &KeySources<'_>,
    clock: &dyn Clock,
    stdout: &mut dyn Write,
    console: &mut Console<'_>,
) -> Result<Exit, Stop> {
    // Everything that can be wrong on this side is found before anything is sent.
    let request = arguments.request()?;
    let payer = if keys.is_given() { Some(keys.load()?) } else { None };
    let fetcher = Fetcher::new(&arguments.url, arguments.timeout)?;
    let (url, mut response) = fetcher.unpaid(&request, &arguments.url, console).await?;
    if response.status() != StatusCode::PAYMENT_REQUIRED {
        let mut output = open(arguments, stdout)?;
        return free(&url, &mut response, &mut output, console).await;
    }
    let body = fetcher.beginning(&mut response).await;
    let challenge = Challenge::read(response.headers(), &body, arguments.v1).map_err(|why| {
        Stop::new(Exit::NoOffer, format!("the server asks for payment, but {why}; nothing was paid"))
    })?;
    drop(response);
    let limits = Limits {
        max_price: &arguments.max_price,
        max_amount: arguments.max_amount,
        network: arguments.network.as_ref(),
        key_given: keys.is_given(),
        allow_other_resource: arguments.allow_other_resource,
        asked: &url,
    };
    let payable = choice::choose(&challenge, &limits);
    console.field("page", &shown_url(&url));
    let Some(payable) = payable else {
        list(&challenge, &limits, console);
        return Err(Stop::new(Exit::NoOffer, "no offer here can be paid; nothing was paid".to_owned()));
    };
    show(&challenge, &payable, console);
    if arguments.dry_run {
        list(&challenge, &limits, console);
        console.line("Dry run: nothing was paid.");
        return Ok(Exit::Done);
    }
    let payer = match payer {
        Some(payer) => payer,
        None => Payer::generate()?,
    };
    show_payer(&payer, console);
    // A path that cannot be written must be found before the money is gone.
    let output = open(arguments, stdout)?;
    let payment = payment::make(&challenge, &payable, &payer, clock.now(), [random_word()?, random_word()?])?;
    let purchase = Purchase {
        fetcher: &fetcher,
        request: &request,
        url: &url,
        payable: &payable,
        payer: &payer,
        payment: &payment,
        clock,
        retries: arguments.retries,
    };
    purchase.run(output, console).await
}

fn open<'a>(arguments: &Arguments, stdout: &'a mut dyn Write) -> Result<Output<'a>, Stop> {
    let path = arguments.output.as_deref();
    Output::open(path, stdout).map_err(|error| {
        let path = path.map(std::path::Path::display);
        let path = path.map(|path| path.to_string()).unwrap_or_default();
        Stop::new(Exit::Usage, format!("cannot write {path}: {error}; nothing was paid"))
    })
}

/// Delivers a page that asked for no payment.
async fn free(
    url: &Url,
    response: &mut Response,
    output: &mut Output<'_>,
    console: &mut Console<'_>,
) -> Result<Exit, Stop> {
    let status = response.status();
    console.field("page", &shown_url(url));
    if status.is_success() {
        console.field("free", &format!("answered {status} without asking for payment; nothing was paid"));
    } else {
        console.field("failed", &format!("answered {status}; nothing was paid"));
    }
    if status.is_redirection()
        && let Some(target) = location(url, response.headers())
    {
        console.field("moved to", &format!("{} (not followed)", shown_url(&target)));
    }
    deliver(response, output)
        .await
        .map_err(|problem| Stop::new(Exit::Failed, format!("{problem}; nothing was paid")))?;
    Ok(if status.is_success() { Exit::Done } else { Exit::Failed })
}

/// Writes a body piece by piece as it arrives.
async fn deliver(response: &mut Response, output: &mut Output<'_>) -> Result<(), String> {
    let unwritten = |error: io::Error| format!("the page could not be written: {error}");
    output.begin().map_err(unwritten)?;
    let mut written = 0;
    loop {
        match response.chunk().await {
            Ok(Some(piece)) => {
                output.write(&piece).map_err(unwritten)?;
                written += piece.len();
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                let cause = fetch::causes(&error.without_url());
                return Err(format!("the page broke off after {written} bytes: {cause}"));
            }
        }
    }
}

/// Shows the offer that was chosen.
fn show(challenge: &Challenge, payable: &Payable<'_>, console: &mut Console<'_>) {
    if let Some(description) = challenge.description(payable.offer) {
        console.field("about", &excerpt(description, DESCRIPTION_CHARACTERS_MAX));
    }
    console.field("price", &payable.price());
    let money = if payable.network.is_testnet() { "a test network, no real money" } else { "REAL MONEY" };
    let network = &payable.network;
    console.field("network", &format!("{} ({}), {money}", network.name(), network.as_str()));
    console.field("pay to", &payable.pay_to.to_checksum(None));
    if payable.upfront {
        console.field("note", "the money is taken before the page is made; an error page costs it too");
    }
}

fn show_payer(payer: &Payer, console: &mut Console<'_>) {
    console.field("paid by", &payer.address().to_checksum(None));
    if payer.generated {
        console.line(
            "No key was given: this account was made for this run and is kept in memory only. It holds no \
             money, so it works only against a sandbox.",
        );
    }
}

/// Lists every offer and whether it could be paid.
fn list(challenge: &Challenge, limits: &Limits<'_>, console: &mut Console<'_>) {
    for (index, offer) in challenge.offers.iter().enumerate() {
        let verdict = match choice::examine(challenge, offer, limits) {
            Ok(_) => "can be paid".to_owned(),
            Err(why) => why,
        };
        let summary = choice::summary(challenge.version, offer);
        console.field(&format!("offer {}", index + 1), &format!("{summary}: {verdict}"));
    }
}
