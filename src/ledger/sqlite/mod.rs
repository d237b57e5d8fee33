//! The ledger in a file, for one gateway: SQLite with a write-ahead log.
//!
//! One thread owns the connection that writes ([`writer`]); searches go beside it through connections
//! of their own ([`books`], [`pool`]), also from other processes. What must survive a loss of power is
//! committed with an fsync of the log, everything else without
//! (<https://sqlite.org/pragma.html#pragma_synchronous>).

mod books;
mod checkpoint;
mod fault;
mod file;
mod mount;
mod notices;
mod pool;
mod rows;
mod schema;
mod steps;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::step::{Answer, Step, Steps};
use super::{
    Accounts, Counts, Filter, GatewayId, LedgerError, Notice, OpenError, PaymentRecord, Posted, TakenOver,
    Unresolved,
};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use books::{Bookmark, Shelf};
use checkpoint::{Checkpointer, Lengths};
use fault::Fault;
use pool::Pool;
use writer::{Done, QUEUE, Work, Writer};

/// Payments forgotten in one transaction: few, so that claims do not wait for it.
const FORGOTTEN_AT_ONCE: u32 = 100;

/// The ledger of the gateway that may write to it.
pub(super) struct SqliteLedger {
    writer: Writer,
    /// `None`: a ledger in memory is read where it is written.
    pool: Option<Pool>,
}

/// The books of a ledger in a file.
pub(super) struct SqliteAccounts {
    pool: Pool,
}

impl SqliteLedger {
    /// Opens the ledger in the file at `path`, which is created if it is not there.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(path, Lengths::default())
    }

    fn open_with(path: &Path, lengths: Lengths) -> Result<Self, OpenError> {
        let (connection, held) = file::open(path)?;
        let pool = Pool::new(held.path.clone());
        let beside = file::beside(&held).map_err(|fault| OpenError(format!("the ledger {held}: {fault}")))?;
        let log = Checkpointer::start(beside, held.log(), lengths).map_err(no_thread)?;
        let writer = Writer::start(connection, new_id()?, Some((log, held)), QUEUE).map_err(no_thread)?;
        Ok(Self { writer, pool: Some(pool) })
    }

    /// A ledger that is forgotten with the process.
    pub(super) fn in_memory() -> Result<Self, OpenError> {
        let connection = file::in_memory().map_err(|fault| OpenError(fault.to_string()))?;
        let writer = Writer::start(connection, new_id()?, None, QUEUE).map_err(no_thread)?;
        Ok(Self { writer, pool: None })
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, LedgerError> {
        if let Some(pool) = &self.pool {
            return pool.read(work).await;
        }
        let (sender, receiver) = oneshot::channel();
        let read = move |connection: &Connection| drop(sender.send(work(connection)));
        self.writer.ask(Work::Read(Box::new(read))).await?;
        receiver.await.map_err(|_| misfit())?.map_err(LedgerError::from)
    }
}

impl SqliteAccounts {
    /// Opens the books of the ledger in the file at `path`.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let (connection, path) = file::open_to_read(path)?;
        Ok(Self { pool: Pool::with(path, connection) })
    }
}

fn new_id() -> Result<GatewayId, OpenError> {
    let random = getrandom::u64().map_err(|error| OpenError(format!("no random numbers: {error}")))?;
    Ok(GatewayId(random.cast_signed()))
}

#[allow(clippy::needless_pass_by_value)] // So that it fits into `map_err`.
fn no_thread(error: std::io::Error) -> OpenError {
    OpenError(format!("cannot start a thread for the ledger: {error}"))
}

/// An answer of another kind than its question's is a mistake of ours; nothing is granted.
fn misfit() -> LedgerError {
    LedgerError::Unavailable("it answered another question than it was asked".to_owned())
}

#[async_trait]
impl Accounts for SqliteLedger {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.read(move |connection| books::get(connection, id)).await
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.read(move |connection| books::between(connection, first, last, limit)).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let filter = filter.clone();
        self.read(move |connection| books::list(connection, &filter, after, limit)).await
    }
}

#[async_trait]
impl Accounts for SqliteAccounts {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.pool.read(move |connection| books::get(connection, id)).await
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.pool.read(move |connection| books::between(connection, first, last, limit)).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let filter = filter.clone();
        self.pool.read(move |connection| books::list(connection, &filter, after, limit)).await
    }
}

#[async_trait]
impl Steps for SqliteLedger {
    async fn step(&self, step: Step, now: UnixSeconds) -> Result<Answer, LedgerError> {
        match self.writer.ask(Work::Step(step, now)).await? {
            Done::Answer(answer) => Ok(answer),
            _ => Err(misfit()),
        }
    }

    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        match self.writer.ask(Work::Due { now, lease, limit }).await? {
            Done::Due(taken) => Ok(taken),
            _ => Err(misfit()),
        }
    }

    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        match self.writer.ask(Work::Beat(now)).await? {
            Done::TakenOver(taken) => Ok(taken),
            _ => Err(misfit()),
        }
    }

    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        let mut forgotten = 0;
        for shelf in Shelf::ALL {
            let mut after = Bookmark::START;
            loop {
                // Looked for beside the writer, and decided by it.
                let found = self
                    .read(move |connection| {
                        books::forgettable(
                            connection,
                            shelf,
                            after,
                            (retention_seconds, now),
                            FORGOTTEN_AT_ONCE,
                        )
                    })
                    .await?;
                let Some((last, _)) = found.last() else { break };
                after = *last;
                let ids = found.into_iter().map(|(_, id)| id).collect();
                match self.writer.ask(Work::Forget { ids, retention_seconds, now }).await? {
                    Done::Forgotten(count) => forgotten += count,
                    _ => return Err(misfit()),
                }
            }
        }
        Ok(forgotten)
    }

    async fn counts(&self) -> Result<Counts, LedgerError> {
        self.read(books::counts).await
    }

    async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        self.read(books::birth).await
    }

    fn is_shared(&self) -> bool {
        false
    }

    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        match self.writer.ask(Work::PutUp { notices: notices.to_vec(), lifetime, now }).await? {
            Done::PutUp => Ok(()),
            _ => Err(misfit()),
        }
    }

    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError> {
        match self.writer.ask(Work::LeaveUp { keys: keys.to_vec(), lifetime, now }).await? {
            Done::LeftUp(missing) => Ok(missing),
            _ => Err(misfit()),
        }
    }

    async fn notices(&self, now: UnixSeconds) -> Result<Vec<Posted>, LedgerError> {
        self.read(move |connection| notices::posted(connection, now)).await
    }

    async fn texts(&self, keys: &[B256], now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError> {
        let keys = keys.to_vec();
        self.read(move |connection| notices::texts(connection, &keys, now)).await
    }
}
