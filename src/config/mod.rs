//! What the operator wrote, and what the program runs on.
//!
//! A file is parsed into a tree that remembers where everything stands ([`load`], [`parse`]); each
//! part of it is read by a module of its own, which reports every mistake it finds and goes on. Only
//! a file without errors becomes a [`Config`].

mod accepts;
mod accounts;
mod assets;
mod auth;
mod chains;
mod compile;
mod conditions;
mod diagnostic;
mod facilitators;
mod include;
mod json;
mod keys;
mod ledger;
mod listeners;
mod offers;
mod onchain;
pub mod plan;
mod price;
mod report;
mod resource;
mod routes;
mod schema;
mod service;
mod settings;
mod source;
mod suggest;
mod syntax;
mod terms;
#[cfg(test)]
mod tests;
mod tls;
mod upstreams;
mod url;
mod walk;
pub mod words;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chain::settings::ChainSettings;
use crate::facilitator::settings::{FacilitatorSettings, ServiceSettings};
use crate::ledger::Redelivery;
use crate::ledger::settings::{FailureLimit, LedgerSettings, Pledges};
use crate::policy::{FacilitatorId, RouteTable, Shadow};
use crate::proxy::settings::{Cors, Limits, Listener, Upstream};
use crate::x402::{Asset, Money};

pub use compile::{parse, parse_at};
pub use diagnostic::{Diagnostic, Severity, count};
pub use schema::{keys_in_markdown, schema};
pub use source::Place;

/// A configuration that was checked whole; the gateway runs on it.
#[derive(Debug)]
pub struct Config {
    /// Where clients connect; at least one.
    pub listeners: Vec<Listener>,
    /// The operator's private address, unless switched off.
    pub admin: Option<SocketAddr>,
    /// What clients see of the site: scheme and authority, without a trailing slash.
    pub public_url: String,
    /// Upstreams; [`crate::policy::UpstreamId`] is an index into them.
    pub upstreams: Vec<Upstream>,
    /// Facilitators, each once.
    pub facilitators: Vec<FacilitatorSettings>,
    /// Which facilitators stand in for each other, in order: indexes into `facilitators`;
    /// [`crate::policy::FacilitatorId`] is an index into this list.
    pub facilitator_groups: Vec<Vec<usize>>,
    /// Which facilitator is offered to others, and how.
    pub facilitator_service: Option<(FacilitatorId, ServiceSettings)>,
    /// Chains that can be asked what became of payments, each once.
    pub chains: Vec<ChainSettings>,
    /// Tokens the file declares.
    pub assets: Vec<Asset>,
    /// Routes and the default.
    pub routes: Arc<RouteTable>,
    /// Routes that are not in force, if there are any: in `routes` they are free.
    pub shadow: Option<Arc<Shadow>>,
    /// Limits on clients.
    pub limits: Limits,
    /// Where payments are remembered, and for how long.
    pub ledger: LedgerSettings,
    /// When what was paid for may be fetched again.
    pub redelivery: Redelivery,
    /// What one payer may have pledged at a time.
    pub pledges: Pledges,
    /// How many settlements of one payer may fail before the next ones come first.
    pub failures: FailureLimit,
    /// Most verifications under way at a time; beyond it priced routes answer 503.
    pub verify_in_flight: usize,
    /// Seconds a payment must stay valid when it arrives: the origin's time and the settlement's.
    pub origin_time_seconds: u64,
    /// Cross-origin policy of the gateway's own answers.
    pub cors: Cors,
    /// How the log is written.
    pub log: LogSettings,
    /// What every payer has at first in the sandbox.
    pub sandbox_balance: Money,
    /// Whether the configuration is read again when a file changes that it rests on.
    pub watch: bool,
    /// Files that it rests on besides its own: certificates, secrets.
    pub files: Vec<PathBuf>,
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// JSON lines instead of text.
    pub json: bool,
    /// `error`, `warn`, `info`, `debug`, `trace`.
    pub level: tracing::Level,
}

/// Where one process listens, in place of what its file says: gateways on one machine can share a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Addresses clients connect to, instead of `listen`; empty: those of the file.
    pub listen: Vec<SocketAddr>,
    /// The operator's private address, instead of `[admin] listen`.
    pub admin: Option<SocketAddr>,
}

/// Where environment variables are looked up.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A configuration and the warnings about it, or everything that is wrong with the file.
pub type Loaded = Result<(Config, Vec<Diagnostic>), Vec<Diagnostic>>;

/// Largest configuration file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a configuration file with the variables of the process's environment.
///
/// # Errors
/// Everything that is wrong with it, warnings included; a file that cannot be read is one error.
pub fn load(path: &Path) -> Loaded {
    load_at(path, &Addresses::default())
}

/// Reads a configuration file like [`load`], for a process that listens elsewhere.
///
/// # Errors
/// As [`load`]; and addresses that do not go with the file.
pub fn load_at(path: &Path, addresses: &Addresses) -> Loaded {
    let text = read(path).map_err(|error| vec![*error])?;
    parse_at(&text, &path.display().to_string(), &|name| std::env::var(name).ok(), addresses)
}

/// Reads the text of a configuration file.
///
/// # Errors
/// Why it cannot be read.
pub fn read(path: &Path) -> Result<String, Box<Diagnostic>> {
    use std::io::Read as _;
    let name = path.display().to_string();
    let failed = |message: String, help: &str| {
        Box::new(Diagnostic {
            severity: Severity::Error,
            message,
            help: help.to_owned(),
            file: name.as_str().into(),
            place: None,
        })
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            let help = "name the configuration file with --config FILE, or run where gateway.toml is";
            failed(format!("cannot read {name}: {}", io_error(&error)), help)
        })?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("{name} is larger than {FILE_BYTES_MAX} bytes");
        return Err(failed(message, "check that it is a configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = error
            .as_bytes()
            .iter()
            .take(error.utf8_error().valid_up_to())
            .filter(|byte| **byte == b'\n')
            .count();
        failed(format!("{name} is not UTF-8 text (line {})", line + 1), "save it as UTF-8")
    })
}

/// What an operating system's error means, in a few words.
fn io_error(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        std::io::ErrorKind::PermissionDenied => "permission denied".into(),
        std::io::ErrorKind::IsADirectory => "it is a folder".into(),
        _ => error.to_string(),
    }
}
