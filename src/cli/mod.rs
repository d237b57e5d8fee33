//! The command line: one file per command.

mod check;
mod explain;
mod ledger;
pub mod pay;
mod plan;
mod report;
mod run;

use std::io::{self, IsTerminal as _, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config;

/// A paywall in front of an existing site: answers unpaid requests with an x402 offer, has
/// payments verified and settled, and forwards what is free or paid.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

const EXAMPLES: &str = "\
Examples:
  tollgate                                          run with ./gateway.toml
  tollgate run -c /etc/tollgate/gateway.toml        run with another configuration
  tollgate check                                    report every mistake in ./gateway.toml
  tollgate explain GET /articles/one                say which route applies and what it costs
  tollgate plan new.toml                            say what a new configuration changes
  tollgate pay http://127.0.0.1:8402/articles/one   fetch a page and pay for it
  tollgate ledger list --since 24h                  list payments, and what was earned";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (also without any command)
    Run(RunArguments),
    /// Report every mistake in a configuration, and what to write instead
    Check(CheckArguments),
    /// Say which route a request matches, why, and what it would be answered
    Explain(ExplainArguments),
    /// Say what a new configuration changes: routes, prices, and what becomes free
    Plan(PlanArguments),
    /// Sum up what a log says of shadow mode: what would have been charged, and whom
    Report(ReportArguments),
    /// Print the JSON Schema of the configuration, for editors
    Schema(SchemaArguments),
    /// Fetch a URL and pay for it if it asks for payment
    Pay(Box<pay::Arguments>),
    /// Read the books: payments, sums, exports, comparison with the chain
    Ledger(Box<ledger::Arguments>),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate run
  tollgate run -c /etc/tollgate/gateway.toml
  tollgate run --listen 127.0.0.1:8412 --admin 127.0.0.1:9412     a second gateway on the same file")]
pub(crate) struct RunArguments {
    /// Configuration to run on
    #[arg(short, long, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
    /// Address clients connect to, instead of `listen` of the configuration; may be given several times
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Private address for /healthz, /readyz and /metrics, instead of that of the configuration
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) admin: Option<SocketAddr>,
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let example = "write an IP address and a port, such as 127.0.0.1:8402";
    let address: SocketAddr = text.parse().map_err(|_| example.to_owned())?;
    if address.port() == 0 {
        return Err(format!("port 0 is not a port anybody can connect to; {example}"));
    }
    Ok(address)
}

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate check
  tollgate check /etc/tollgate/gateway.toml")]
pub(crate) struct CheckArguments {
    /// Configuration to check
    #[arg(value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) file: PathBuf,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each line is a route that appears (+), changes (~) or vanishes (-); ! marks what lets more through than before.
Exit code: 0 nothing changes, 3 something does, 4 more is let through than before; 1 and 2 as `tollgate check`.

Examples:
  tollgate plan new.toml
  tollgate plan new.toml --config /etc/tollgate/gateway.toml
  tollgate plan new.toml --running http://127.0.0.1:9402")]
pub(crate) struct PlanArguments {
    /// The new configuration
    #[arg(value_name = "FILE")]
    pub(crate) new: PathBuf,
    /// The configuration it is compared with
    #[arg(short, long, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
    /// Compare it with what a gateway runs on, by its admin address
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    pub(crate) running: Option<String>,
}

/// Arguments of `report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Reads the log that a gateway with `[log] format = \"json\"` writes.

Examples:
  tollgate report /var/log/tollgate.log
  journalctl -u tollgate --since today -o cat | tollgate report")]
pub(crate) struct ReportArguments {
    /// Logs to read; none, or -: standard input
    #[arg(value_name = "LOG")]
    pub(crate) logs: Vec<PathBuf>,
    /// Clients that are listed
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    pub(crate) clients: usize,
}

/// Arguments of `schema`.
#[derive(Debug, Args)]
#[command(after_help = "\
Editors with a TOML language server (such as Even Better TOML) use it when the configuration begins with
  #:schema ./gateway.schema.json

Examples:
  tollgate schema > gateway.schema.json
  tollgate schema --keys                    every key as a Markdown table")]
pub(crate) struct SchemaArguments {
    /// Print every key as a Markdown table instead
    #[arg(long)]
    pub(crate) keys: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tollgate explain GET /articles/one
  tollgate explain POST https://api.example.com/v1/search -H 'X-Tier: bulk'")]
pub(crate) struct ExplainArguments {
    /// Method of the request, such as GET
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// URL or path of the request
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Header of the request; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// Configuration to explain
    #[arg(short, long, value_name = "FILE", default_value = "gateway.toml")]
    pub(crate) config: PathBuf,
}

/// Reads the command line and runs the command; wrong usage ends the process with code 2.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => report(|out, err, colour| check::run(&arguments.file, out, err, colour)),
        Command::Explain(arguments) => {
            let ExplainArguments { method, url, headers, config } = &arguments;
            let request = explain::Request { method, url, headers };
            report(|out, err, colour| explain::run(config, &request, out, err, colour))
        }
        Command::Plan(arguments) => report(|out, err, colour| plan::run(&arguments, out, err, colour)),
        Command::Report(arguments) => report(|out, err, _| report::run(&arguments, out, err)),
        Command::Schema(arguments) => report(|out, _, _| schema(&arguments, out)),
        Command::Pay(arguments) => pay::run(&arguments),
        Command::Ledger(arguments) => report(|out, err, colour| ledger::run(&arguments, out, err, colour)),
    }
}

fn schema(arguments: &SchemaArguments, out: &mut dyn Write) -> io::Result<u8> {
    if arguments.keys {
        write!(out, "{}", config::keys_in_markdown())?;
    } else {
        writeln!(out, "{:#}", config::schema())?;
    }
    Ok(0)
}

/// Colour is for terminals, and not for those who asked for none (<https://no-color.org>).
fn wants_colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Runs a command that writes reports; a reader that went away (`| head`) is no failure.
fn report(command: impl FnOnce(&mut dyn Write, &mut dyn Write, bool) -> io::Result<u8>) -> ExitCode {
    let colour = wants_colour();
    match command(&mut io::stdout().lock(), &mut io::stderr().lock(), colour) {
        Ok(status) => ExitCode::from(status),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_the_gateway_runs_on_the_local_configuration() {
        let cli = Cli::try_parse_from(["tollgate"]).unwrap();
        assert!(cli.command.is_none());
        assert_eq!(cli.run.config, PathBuf::from("gateway.toml"));
        let cli = Cli::try_parse_from(["tollgate", "-c", "other.toml"]).unwrap();
        assert_eq!(cli.run.config, PathBuf::from("other.toml"));
        let cli = Cli::try_parse_from(["tollgate", "run", "--config", "other.toml"]).unwrap();
        assert!(
            matches!(cli.command, Some(Command::Run(arguments)) if arguments.config.as_os_str() == "other.toml")
        );
    }

    #[test]
    fn run_takes_addresses_in_place_of_those_of_the_file() {
        let line =
            ["tollgate", "run", "--listen", "127.0.0.1:1", "--listen", "[::1]:1", "--admin", "127.0.0.1:2"];
        let Some(Command::Run(arguments)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not run");
        };
        assert_eq!(arguments.listen, ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()]);
        assert_eq!(arguments.admin, Some("127.0.0.1:2".parse().unwrap()));
        for address in ["8402", ":8402", "localhost:8402", "127.0.0.1:0", "127.0.0.1"] {
            assert!(Cli::try_parse_from(["tollgate", "run", "--listen", address]).is_err(), "{address}");
            assert!(Cli::try_parse_from(["tollgate", "--admin", address]).is_err(), "{address}");
        }
    }

    #[test]
    fn explain_takes_a_request_as_curl_does() {
        let line =
            ["tollgate", "explain", "GET", "/a?b=c", "-H", "X-Tier: bulk", "-H", "A: b", "-c", "g.toml"];
        let Some(Command::Explain(arguments)) = Cli::try_parse_from(line).unwrap().command else {
            panic!("not explain");
        };
        assert_eq!((arguments.method.as_str(), arguments.url.as_str()), ("GET", "/a?b=c"));
        assert_eq!(arguments.headers, ["X-Tier: bulk", "A: b"]);
        assert_eq!(arguments.config, PathBuf::from("g.toml"));
    }
}
