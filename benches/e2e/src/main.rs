//! What the whole-system benchmarks need besides published programs: a stub facilitator, a bare
//! Pingora proxy to compare with, fresh payments, and a client that keeps a pace.

#![allow(clippy::print_stdout)]

mod bare;
mod facilitator;
mod pace;
mod payments;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
tollgate-bench facilitator ADDRESS DELAY_MS
tollgate-bench bare ADDRESS (upstream ADDRESS | answer FILE) [CERTIFICATE KEY]
tollgate-bench payments (good | forged) COUNT PAYMENT_REQUIRED FILE
tollgate-bench pace RATE SECONDS CONNECTIONS FILE (gateway ADDRESS PATH | direct FACILITATOR ORIGIN PATH)";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["facilitator", address, delay] => facilitator::run(address, delay.parse()?),
        ["bare", address, "upstream", upstream, tls @ ..] => {
            bare::run(address, bare::Does::Forward((*upstream).to_owned()), tls)
        }
        ["bare", address, "answer", file, tls @ ..] => bare::run(address, bare::Does::answer(file)?, tls),
        ["payments", kind @ ("good" | "forged"), count, required, file] => {
            payments::write(*kind == "forged", count.parse()?, required, file)
        }
        ["pace", rate, seconds, connections, file, way @ ..] => {
            pace::run(rate.parse()?, seconds.parse()?, connections.parse()?, file, &pace::Way::read(way)?)
        }
        _ => Err(USAGE.into()),
    }
}
