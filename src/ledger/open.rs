//! From where a ledger is kept to the ledger.

use std::sync::Arc;
use std::time::Duration;

use super::postgres::{PostgresAccounts, PostgresLedger};
use super::settings::LedgerUrl;
use super::sqlite::{SqliteAccounts, SqliteLedger};
use super::{Accounts, Ledger};

/// Why a ledger cannot be used, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// Opens a ledger for a gateway, which is to [`beat`](Ledger::beat) before anything else. What is
/// not there yet is created, what an older version wrote is brought up to date. Others that share it
/// take over what this gateway held when it was silent for as long as `takeover_after`.
///
/// # Errors
/// [`OpenError`].
pub async fn open(url: &LedgerUrl, takeover_after: Duration) -> Result<Arc<dyn Ledger>, OpenError> {
    match url {
        LedgerUrl::Memory => {
            tracing::warn!("the ledger is kept in memory: payments are forgotten when the gateway ends");
            Ok(Arc::new(SqliteLedger::in_memory()?))
        }
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteLedger::open(path)?)),
        LedgerUrl::Postgres(url) => Ok(Arc::new(PostgresLedger::open(url.expose(), takeover_after).await?)),
    }
}

/// Opens the books of a ledger, also beside a running gateway. Nothing in it is changed.
///
/// # Errors
/// [`OpenError`].
pub async fn read(url: &LedgerUrl) -> Result<Arc<dyn Accounts>, OpenError> {
    match url {
        LedgerUrl::Memory => {
            Err(OpenError("a ledger in memory can only be read by the gateway that has it".to_owned()))
        }
        LedgerUrl::Sqlite(path) => Ok(Arc::new(SqliteAccounts::open(path)?)),
        LedgerUrl::Postgres(url) => Ok(Arc::new(PostgresAccounts::open(url.expose()).await?)),
    }
}
