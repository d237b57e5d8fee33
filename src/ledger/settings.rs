//! What ledgers are told by the configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use alloy_primitives::U256;

use super::PayerLimits;
use crate::secret::Secret;
use crate::x402::{AtomicAmount, Money};

/// Decimal places that money in limits may have, and that assets have at most.
const PLACES_MAX: u8 = 36;

/// How long a gateway may be silent, where nothing is configured, before others take over what it held.
pub const TAKEOVER_AFTER: Duration = Duration::from_secs(10);
/// The shortest time that can be configured: a few signs of life, one of them slow.
pub const TAKEOVER_AFTER_MIN: Duration = Duration::from_secs(5);
/// The longest one: so long, at least, what a gateway held that is gone stays as it was.
pub const TAKEOVER_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// The ledger as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// Where it is kept.
    pub url: LedgerUrl,
    /// Seconds a payment is remembered after its state last changed, at least.
    pub retention_seconds: u64,
    /// How long this gateway may be silent before others that share the ledger take over what it held,
    /// from [`TAKEOVER_AFTER_MIN`] to [`TAKEOVER_AFTER_MAX`].
    pub takeover_after: Duration,
}

/// Where a ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LedgerUrl {
    /// `sqlite::memory:`: forgotten when the gateway ends.
    Memory,
    /// `sqlite://FILE`
    Sqlite(PathBuf),
    /// `postgres://…`, which may hold a password.
    Postgres(Secret<String>),
}

/// Why a text does not say where a ledger is kept. The text itself is not repeated; it may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerUrlError {
    /// Neither of the two kinds.
    #[error("is not the URL of a ledger")]
    Kind,
    /// No file is named.
    #[error("names no file")]
    NoFile,
    /// A query or fragment; options are not known, and file names do not have these characters.
    #[error("has a \"?\" or \"#\", which a ledger's URL does not have")]
    Options,
    /// No host, user or database.
    #[error("names no database server")]
    NoServer,
}

impl LedgerUrl {
    /// Reads `sqlite://FILE`, `sqlite::memory:` or `postgres://…`. Relative file names start at
    /// `folder`.
    ///
    /// # Errors
    /// [`LedgerUrlError`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, LedgerUrlError> {
        if text == "sqlite::memory:" {
            return Ok(Self::Memory);
        }
        if let Some(rest) = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://")) {
            let is_empty = rest.trim_start_matches('/').is_empty();
            return if is_empty {
                Err(LedgerUrlError::NoServer)
            } else {
                Ok(Self::Postgres(Secret::new(text.to_owned())))
            };
        }
        let rest = text.strip_prefix("sqlite:").ok_or(LedgerUrlError::Kind)?;
        let file = rest.strip_prefix("//").unwrap_or(rest);
        if file.contains(['?', '#']) {
            return Err(LedgerUrlError::Options);
        }
        let path = folder.join(file);
        if file.is_empty() || file.ends_with('/') || path.file_name().is_none() {
            return Err(LedgerUrlError::NoFile);
        }
        Ok(Self::Sqlite(path))
    }
}

impl fmt::Display for LedgerUrl {
    /// For people: without user, password and options.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("sqlite::memory:"),
            Self::Sqlite(path) => write!(formatter, "sqlite://{}", path.display()),
            Self::Postgres(url) => {
                let rest = url.expose().split_once("://").map_or("", |(_, rest)| rest);
                let rest = rest.split(['?', '#']).next().unwrap_or_default();
                let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
                write!(formatter, "postgres://{server}")
            }
        }
    }
}

/// How many settlements of one payer may fail before the next ones come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureLimit {
    /// Failures after which a payer is settled first; 0: no number of them.
    pub count: u32,
    /// How long a failure counts, in seconds.
    pub window_seconds: u64,
}

impl Default for FailureLimit {
    /// Two in ten minutes.
    fn default() -> Self {
        Self { count: 2, window_seconds: 600 }
    }
}

/// What one payer may have pledged at a time, as configured: the same sum in every asset.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pledges {
    /// Payments of one payer on one network; 0: no limit.
    pub count: u32,
    /// Sum of one payer's payments in one asset of one network; `None`: no limit.
    pub sum: Option<Money>,
}

impl Pledges {
    /// Whether a sum can be a limit: not zero, and not more than numbers can hold.
    #[must_use]
    pub fn is_limit(sum: &Money) -> bool {
        sum.to_atomic(PLACES_MAX).is_ok()
    }

    /// The limits for payments in an asset with so many decimal places. What the asset cannot
    /// express of the sum is rounded down.
    #[must_use]
    pub fn in_asset(&self, decimals: u8) -> PayerLimits {
        let surplus = PLACES_MAX.saturating_sub(decimals);
        let divisor = U256::from(10).pow(U256::from(surplus));
        let sum = self.sum.as_ref().and_then(|sum| sum.to_atomic(PLACES_MAX).ok());
        PayerLimits { count: self.count, sum: sum.map(|sum| AtomicAmount(sum.0 / divisor)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<LedgerUrl, LedgerUrlError> {
        LedgerUrl::parse(text, Path::new("/etc/tollgate"))
    }

    #[test]
    fn a_ledgers_url_names_a_file_or_a_database_server() {
        let file = |path: &str| Ok(LedgerUrl::Sqlite(path.into()));
        assert_eq!(parse("sqlite://tollgate.db"), file("/etc/tollgate/tollgate.db"));
        assert_eq!(parse("sqlite:data/tollgate.db"), file("/etc/tollgate/data/tollgate.db"));
        assert_eq!(parse("sqlite:///var/lib/tollgate.db"), file("/var/lib/tollgate.db"));
        assert_eq!(parse("sqlite::memory:"), Ok(LedgerUrl::Memory));
        assert!(matches!(parse("postgres://db.internal/tollgate"), Ok(LedgerUrl::Postgres(_))));
        assert!(matches!(parse("postgresql:///tollgate?host=/run/postgresql"), Ok(LedgerUrl::Postgres(_))));
        for (text, error) in [
            ("", LedgerUrlError::Kind),
            ("tollgate.db", LedgerUrlError::Kind),
            ("mysql://localhost/x", LedgerUrlError::Kind),
            ("sqlite://", LedgerUrlError::NoFile),
            ("sqlite:///", LedgerUrlError::NoFile),
            ("sqlite://data/", LedgerUrlError::NoFile),
            ("sqlite://..", LedgerUrlError::NoFile),
            ("sqlite://tollgate.db?mode=rwc", LedgerUrlError::Options),
            ("postgres://", LedgerUrlError::NoServer),
            ("postgres:///", LedgerUrlError::NoServer),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_ledgers_url_is_shown_without_its_password() {
        for (text, shown) in [
            ("postgres://me:p@ss@db:5432/tollgate?sslmode=require", "postgres://db:5432/tollgate"),
            ("sqlite://tollgate.db", "sqlite:///etc/tollgate/tollgate.db"),
            ("sqlite::memory:", "sqlite::memory:"),
        ] {
            let url = parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("p@ss"));
        }
    }

    #[test]
    fn a_limit_in_money_holds_in_every_asset() {
        let limits = Pledges { count: 3, sum: Some("$100.5".parse().unwrap()) };
        for (decimals, units) in [(6, "100500000"), (18, "100500000000000000000"), (1, "1005"), (0, "100")] {
            let found = limits.in_asset(decimals);
            assert_eq!((found.count, found.sum.unwrap().to_string().as_str()), (3, units));
        }
        assert_eq!(Pledges { count: 3, sum: None }.in_asset(6).sum, None);
        assert!(!Pledges::is_limit(&"0".parse().unwrap()));
        assert!(!Pledges::is_limit(&format!("1{}", "0".repeat(50)).parse().unwrap()));
    }
}
