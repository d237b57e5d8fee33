//! Arguments of `pay`.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use reqwest::{Method, Url};

use super::{Exit, Stop};
use crate::secret::Secret;
use crate::x402::{AtomicAmount, Money, Network, header};

/// A request body is kept to be sent again with the payment.
const DATA_BYTES_MAX: u64 = 16 * 1024 * 1024;

const HELP: &str = "\
Examples:
  tollgate pay http://127.0.0.1:8402/articles/one
  tollgate pay --dry-run https://example.com/report.pdf
  tollgate pay --key-file wallet.key --max-price '$0.25' -o report.pdf https://example.com/report.pdf
  tollgate pay -X POST -H 'Content-Type: application/json' -d '{\"q\":\"rust\"}' https://api.example.com/search

The body goes to standard output, everything else to standard error. Without a key, one is made for
this run; it holds no money and works only against a sandbox. A key is taken from --key, else from
--key-file, else from the environment variable TOLLGATE_KEY; other users of this machine can read
--key in the list of processes.

A redirect is followed only on the same host and before anything is paid.

Exit codes:
  0  the page was delivered
  1  refused or failed; the message says whether money moved
  2  wrong usage
  3  too expensive, or no offer that can be paid; nothing was paid
  4  the outcome is unknown: money may have moved";

/// Arguments of `pay`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct Arguments {
    /// Page to fetch, with http:// or https://
    #[arg(value_name = "URL", value_parser = parse_url)]
    pub(super) url: Url,

    /// Method of the request [default: GET, with --data POST]
    #[arg(short = 'X', long = "request", value_name = "METHOD", help_heading = "Request")]
    pub(super) method: Option<Method>,
    /// Header of the request; may be given several times
    #[arg(
        short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_header,
        help_heading = "Request"
    )]
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Body of the request, or @FILE to send a file as it is; a form unless a header says otherwise
    #[arg(short, long, value_name = "DATA", help_heading = "Request")]
    pub(super) data: Option<String>,
    /// Write the body to a file
    #[arg(short, long, value_name = "FILE", help_heading = "Request")]
    pub(super) output: Option<PathBuf>,
    /// Seconds to wait for a connection, an answer, or the next piece of a body
    #[arg(
        long, value_name = "SECONDS", default_value_t = 120,
        value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Request"
    )]
    pub(super) timeout: u64,

    /// Private key that pays, 64 hexadecimal digits; better kept in a file or in the environment
    #[arg(
        long, value_name = "HEX", value_parser = parse_secret, conflicts_with = "key_file",
        help_heading = "Payment"
    )]
    pub(super) key: Option<Secret<String>>,
    /// File that holds the private key
    #[arg(long, value_name = "FILE", help_heading = "Payment")]
    pub(super) key_file: Option<PathBuf>,
    /// Most to pay, such as '$0.10' or '0.10 USDC'
    #[arg(
        long, value_name = "PRICE", default_value = "$0.10", value_parser = parse_limit,
        help_heading = "Payment"
    )]
    pub(super) max_price: Money,
    /// Most to pay in a token that is not known here, in its smallest unit
    #[arg(long, value_name = "UNITS", help_heading = "Payment")]
    pub(super) max_amount: Option<AtomicAmount>,
    /// Pay on this network only, such as base or eip155:8453
    #[arg(long, value_name = "NAME", help_heading = "Payment")]
    pub(super) network: Option<Network>,
    /// Pay by the first generation of the protocol (offer in the body, X-PAYMENT)
    #[arg(long, help_heading = "Payment")]
    pub(super) v1: bool,
    /// Show what is offered and pay nothing
    #[arg(long, help_heading = "Payment")]
    pub(super) dry_run: bool,
    /// Pay even if the offer is for a page of another host
    #[arg(long, help_heading = "Payment")]
    pub(super) allow_other_resource: bool,
    /// How often to send the same payment again when the answer is 503 with Retry-After
    #[arg(
        long, value_name = "TIMES", default_value_t = 3,
        value_parser = clap::value_parser!(u8).range(0..=20), help_heading = "Payment"
    )]
    pub(super) retries: u8,
}

fn parse_url(text: &str) -> Result<Url, String> {
    let whole = "write the whole URL, with http:// or https://";
    let url: Url = text.parse().map_err(|error| format!("{error}; {whole}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(whole.to_owned());
    }
    Ok(url)
}

fn parse_header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write 'Name: value'")?;
    let name: HeaderName = name.trim().parse().map_err(|_| "that is not the name of a header")?;
    if [header::PAYMENT_SIGNATURE, header::X_PAYMENT].contains(&name.as_str()) {
        return Err("this program writes the payment itself".to_owned());
    }
    if name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
        return Err("the length of the body is not a choice".to_owned());
    }
    let value = value.trim().parse().map_err(|_| "that is not the value of a header")?;
    Ok((name, value))
}

// The signature is clap's.
#[expect(clippy::unnecessary_wraps)]
fn parse_secret(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    // Checked later: clap would print a value that is refused here.
    Ok(Secret::new(text.to_owned()))
}

fn parse_limit(text: &str) -> Result<Money, String> {
    let money: Money = text.parse().map_err(|error: crate::x402::amount::MoneyError| error.to_string())?;
    match money.to_atomic(u8::MAX) {
        Err(crate::x402::amount::MoneyError::Zero) => {
            Err("a limit of nothing pays nothing; --dry-run shows what is offered".to_owned())
        }
        Ok(_) | Err(_) => Ok(money),
    }
}

/// The request, as it is sent with and without a payment.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<bytes::Bytes>,
}

impl Arguments {
    /// Puts the request together.
    ///
    /// # Errors
    /// A file that cannot be read or is too long.
    pub(super) fn request(&self) -> Result<Request, Stop> {
        let body = self.data.as_deref().map(read_data).transpose()?;
        let default_method = if body.is_some() { Method::POST } else { Method::GET };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(name, value.clone());
        }
        if body.is_some() && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        Ok(Request { method: self.method.clone().unwrap_or(default_method), headers, body })
    }
}

fn read_data(data: &str) -> Result<bytes::Bytes, Stop> {
    use std::io::Read as _;
    let Some(path) = data.strip_prefix('@') else { return Ok(data.to_owned().into()) };
    let failed = |what: &dyn std::fmt::Display| {
        Stop::new(Exit::Usage, format!("cannot send {}: {what}", Path::new(path).display()))
    };
    let file = std::fs::File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(DATA_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > DATA_BYTES_MAX {
        return Err(failed(&format!("it is longer than {DATA_BYTES_MAX} bytes")));
    }
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        pay: Arguments,
    }

    fn parse(arguments: &[&str]) -> Result<Arguments, clap::Error> {
        Line::try_parse_from(["pay"].iter().chain(arguments)).map(|line| line.pay)
    }

    #[test]
    fn the_defaults_are_a_small_limit_and_a_plain_get() {
        let pay = parse(&["http://127.0.0.1:8402/a"]).unwrap();
        assert_eq!(pay.max_price, "$0.10".parse().unwrap());
        let request = pay.request().unwrap();
        assert_eq!((request.method, request.body), (Method::GET, None));
        assert!(request.headers.is_empty());
    }

    #[test]
    fn data_makes_a_post_of_a_form_unless_said_otherwise() {
        let request = parse(&["http://a/", "-d", "q=1"]).unwrap().request().unwrap();
        assert_eq!((request.method, request.body.as_deref()), (Method::POST, Some(&b"q=1"[..])));
        assert_eq!(request.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        std::fs::write(&path, b"\0\n\xff").unwrap();
        let at = format!("@{}", path.display());
        let line =
            ["http://a/", "-X", "PUT", "-H", "content-type: a/b", "-H", "X: 1", "-H", "X: 2", "-d", &at];
        let request = parse(&line).unwrap().request().unwrap();
        assert_eq!((request.method, request.body.as_deref()), (Method::PUT, Some(&b"\0\n\xff"[..])));
        assert_eq!(request.headers[CONTENT_TYPE], "a/b");
        assert_eq!(request.headers.get_all("x").iter().count(), 2);
        assert_eq!(
            parse(&["http://a/", "-d", "@/no/such"]).unwrap().request().unwrap_err().exit,
            Exit::Usage
        );
    }

    #[test]
    fn wrong_usage_is_refused_with_code_2() {
        for (line, why) in [
            (&["example.com/a"][..], "with http:// or https://"),
            (&["ftp://example.com/"], "with http:// or https://"),
            (&["localhost:8402/a"], "with http:// or https://"),
            (&["http://a/", "-H", "no colon"], "Name: value"),
            (&["http://a/", "-H", "X-Payment: abc"], "writes the payment itself"),
            (&["http://a/", "-H", "Content-Length: 3"], "not a choice"),
            (&["http://a/", "-H", "A: b\r\nC: d"], "not the value of a header"),
            (&["http://a/", "--max-price", "0.1.2"], "not a price"),
            (&["http://a/", "--max-price", "0"], "--dry-run"),
            (&["http://a/", "--max-amount", "-1"], "unexpected argument"),
            (&["http://a/", "--max-amount", "1.5"], "whole number"),
            (&["http://a/", "--network", "bass"], "unknown network"),
            (&["http://a/", "--timeout", "0"], "1..=3600"),
            (&["http://a/", "--retries", "21"], "0..=20"),
            (&["http://a/", "--key", "1", "--key-file", "f"], "cannot be used with"),
        ] {
            let error = parse(line).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line:?}");
            assert!(error.to_string().contains(why), "{line:?}: {error}");
        }
    }

    #[test]
    fn a_key_is_printed_neither_in_errors_nor_in_debug_output() {
        let pay = parse(&["http://a/", "--key", "c0ffee"]).unwrap();
        assert!(!format!("{pay:?}").contains("c0ffee"));
    }
}
