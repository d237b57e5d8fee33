//! `tollgate report`: what the log says of shadow mode, in numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ReportArguments;
use super::check::UNREADABLE;
use super::ledger::text::{Column, clean, table};
use crate::x402::Money;

/// Longest line that is read, in bytes; nothing that the gateway writes is that long.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Clients that are told apart. Those that come later are counted together.
const CLIENTS_MAX: usize = 100_000;

/// A line of the access log, as `[log] format = "json"` writes it.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    message: String,
    client: Option<String>,
    would: Option<String>,
    #[serde(default)]
    would_route: String,
    #[serde(default)]
    would_cost: String,
    #[serde(default)]
    agent: String,
}

/// What would have become of requests.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    challenged: u64,
    paid: u64,
    refused: u64,
}

#[derive(Default)]
struct Report {
    requests: u64,
    in_shadow: u64,
    /// Lines that are no requests, or not understood.
    other: u64,
    since: String,
    until: String,
    /// By route and price.
    routes: BTreeMap<(String, String), Count>,
    clients: HashMap<(String, String), Client>,
}

#[derive(Default)]
struct Client {
    turned_away: u64,
    routes: HashSet<String>,
}

/// Reads logs and sums up what was in shadow. Gives the exit status: 2 when a log cannot be read.
///
/// # Errors
/// When `out` or `err` cannot be written.
pub(super) fn run(arguments: &ReportArguments, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let mut report = Report::default();
    let standard = [PathBuf::from("-")];
    let files = if arguments.logs.is_empty() { &standard[..] } else { &arguments.logs };
    for file in files {
        if let Err(error) = open(file).and_then(|log| report.read(log)) {
            writeln!(err, "error: cannot read {}: {error}", file.display())?;
            return Ok(UNREADABLE);
        }
    }
    report.write(arguments.clients, out)?;
    Ok(0)
}

fn open(file: &Path) -> io::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        Ok(Box::new(io::stdin().lock()))
    } else {
        Ok(Box::new(BufReader::new(File::open(file)?)))
    }
}

impl Report {
    fn read(&mut self, mut log: impl BufRead) -> io::Result<()> {
        let mut line = Vec::new();
        loop {
            line.clear();
            if log.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            match serde_json::from_slice::<Line>(&line) {
                Ok(line) if line.message == "request" => self.add(line),
                Ok(_) | Err(_) => self.other += 1,
            }
        }
    }

    fn add(&mut self, line: Line) {
        self.requests += 1;
        if self.since.is_empty() || line.timestamp < self.since {
            self.since.clone_from(&line.timestamp);
        }
        if line.timestamp > self.until {
            self.until = line.timestamp;
        }
        let Some(would) = line.would else { return };
        self.in_shadow += 1;
        let count = self.routes.entry((line.would_route.clone(), line.would_cost)).or_default();
        match would.as_str() {
            "challenged" => count.challenged += 1,
            "paid" => {
                count.paid += 1;
                return;
            }
            _ => count.refused += 1,
        }
        // Each connection has a port of its own; a client is an address.
        let address = line.client.unwrap_or_default();
        let address = address.rsplit_once(':').map_or(address.as_str(), |(address, _)| address).to_owned();
        let mut client = (address, line.agent);
        if self.clients.len() >= CLIENTS_MAX && !self.clients.contains_key(&client) {
            client = ("others".to_owned(), String::new());
        }
        let client = self.clients.entry(client).or_default();
        client.turned_away += 1;
        client.routes.insert(line.would_route);
    }

    fn write(&self, clients: usize, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{} requests, {} of them in shadow; {} other lines",
            self.requests, self.in_shadow, self.other
        )?;
        if self.requests > 0 {
            writeln!(out, "from {} to {}", clean(&self.since), clean(&self.until))?;
        }
        if self.in_shadow == 0 {
            return writeln!(out, "nothing was in shadow: set mode = \"shadow\" and [log] format = \"json\"");
        }
        let columns = [
            Column::Left("route"),
            Column::Left("price"),
            Column::Right("without payment"),
            Column::Right("with payment"),
            Column::Right("refused"),
            Column::Right("if all had paid"),
        ];
        let rows: Vec<[String; 6]> =
            self.routes.iter().map(|((route, price), count)| row(route, price, *count)).collect();
        writeln!(out)?;
        table(out, columns, &rows)?;
        let mut turned_away: Vec<_> = self.clients.iter().collect();
        turned_away
            .sort_by(|(one, a), (other, b)| b.turned_away.cmp(&a.turned_away).then_with(|| one.cmp(other)));
        let rows: Vec<[String; 4]> = turned_away
            .iter()
            .take(clients)
            .map(|((address, agent), client)| {
                let [turned_away, routes] =
                    [client.turned_away, client.routes.len() as u64].map(|count| count.to_string());
                [turned_away, routes, clean(address), clean(agent)]
            })
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{} clients would have been turned away; those that asked most:",
            self.clients.len()
        )?;
        let columns = [
            Column::Right("requests"),
            Column::Right("routes"),
            Column::Left("address"),
            Column::Left("calls itself"),
        ];
        table(out, columns, &rows)
    }
}

fn row(route: &str, price: &str, count: Count) -> [String; 6] {
    let asked = count.challenged.saturating_add(count.paid);
    let shown = if price.is_empty() { "-".to_owned() } else { clean(price) };
    let sum = times(price, asked).unwrap_or_else(|| "-".to_owned());
    let [challenged, paid, refused] =
        [count.challenged, count.paid, count.refused].map(|count| count.to_string());
    [clean(route), shown, challenged, paid, refused, sum]
}

/// A price such as `0.01 USDC on base`, so many times. Exact.
fn times(price: &str, count: u64) -> Option<String> {
    const PLACES: u8 = 36;
    let (amount, unit) = price.split_once(' ')?;
    if count == 0 {
        return None;
    }
    let one = amount.parse::<Money>().ok()?.to_atomic(PLACES).ok()?;
    let sum = one.0.checked_mul(alloy_primitives::U256::from(count))?;
    Some(format!("{} {}", crate::x402::AtomicAmount(sum).to_decimal(PLACES), clean(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(route: &str, would: &str, client: &str, agent: &str) -> String {
        let cost = if would == "denied" { "" } else { "0.001 USDC on base" };
        let would = serde_json::json!({"timestamp": "2026-11-28T10:00:00Z", "message": "request", "would_route": route,
            "client": client, "would": would, "would_cost": cost, "agent": agent});
        format!("{would}\n")
    }

    fn report(log: &str) -> String {
        let (mut report, mut out) = (Report::default(), Vec::new());
        report.read(log.as_bytes()).unwrap();
        report.write(2, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_in_shadow_are_counted_by_route_and_client_with_exact_sums() {
        let mut log = String::from("tollgate 0.1.0 on gateway.toml\n");
        log.push_str("{\"timestamp\":\"2026-11-28T09:00:00Z\",\"message\":\"request\",\"route\":\"free\"}\n");
        for port in 0..1_200 {
            log.push_str(&line("articles", "challenged", &format!("[::1]:{port}"), "bot"));
        }
        log.push_str(&line("articles", "paid", "10.0.0.2:1", "agent"));
        log.push_str(&line("admin", "denied", "10.0.0.3:1", "curl"));
        assert_eq!(
            report(&log),
            "\
1203 requests, 1202 of them in shadow; 1 other lines
from 2026-11-28T09:00:00Z to 2026-11-28T10:00:00Z

route     price               without payment  with payment  refused     if all had paid
admin     -                                 0             0        1                   -
articles  0.001 USDC on base             1200             1        0  1.201 USDC on base

2 clients would have been turned away; those that asked most:
requests  routes  address   calls itself
    1200       1  [::1]     bot
       1       1  10.0.0.3  curl
"
        );
    }

    #[test]
    fn a_log_without_shadow_says_what_to_do() {
        assert!(report("x\n").contains("nothing was in shadow: set mode = \"shadow\""));
    }
}
