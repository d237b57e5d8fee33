//! The ledger in PostgreSQL, for any number of gateways.
//!
//! Steps are written by a few tasks, many in one transaction. Each transaction locks the payments it is
//! about, lets [`machine`](super::machine) decide, and writes what changed; two gateways that claim one
//! payment at the same moment meet at its primary key. Gateways show by the database's clock that they
//! are alive; what those held that have not for a while is taken over.
//!
//! A connection that is lost during a commit leaves open what became of it: its steps are answered
//! [`Unavailable`](super::LedgerError::Unavailable), and steps that come later see what they did.

mod database;
mod gateways;
mod lines;
mod notices;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod trouble;
mod view;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::step::{Answer, Step, Steps};
use super::{
    Accounts, Counts, Filter, GatewayId, LedgerError, Notice, OpenError, PaymentRecord, Posted, TakenOver,
    Unresolved,
};
use crate::clock::{Clock, SystemClock, UnixSeconds};
use crate::scheme::PaymentId;
use database::{Database, Limits};
use gateways::Books;
use lines::Lines;
use notices::Board;
use trouble::Worth;
use writer::{Asked, Told, Writer};

/// Tasks that write, each with a connection.
const WRITERS: usize = 4;
/// Steps that may wait for one of them.
const QUEUE_MAX: usize = 1024;
/// Room in a queue that is kept for steps of payments already claimed: what was begun comes first.
const QUEUE_KEPT: usize = 256;
/// Connections for everything else.
const LINES: usize = 3;

/// A ledger in PostgreSQL.
pub(super) struct PostgresLedger {
    database: Arc<Database>,
    me: GatewayId,
    writers: Vec<mpsc::Sender<Asked>>,
    books: Books,
    /// For signs of life alone, which must not wait behind anything.
    pulse: Books,
    /// For notices, which may be long.
    board: Board,
}

impl PostgresLedger {
    /// Opens a ledger. A database that cannot be reached is tried again with every step; one that will
    /// not do is an error.
    pub(super) async fn open(url: &str, takeover_after: Duration) -> Result<Self, OpenError> {
        let limits = Limits { lease: takeover_after, ..Limits::USUAL };
        Self::with(url, limits, Arc::new(SystemClock)).await
    }

    async fn with(url: &str, limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let database = Arc::new(Database::new(url, limits, clock)?);
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|error| OpenError(format!("no random number: {error}")))?;
        let me = GatewayId(i64::from_be_bytes(number));
        if let Err(trouble) = database.connect().await {
            if trouble.worth() == Worth::Hopeless {
                return Err(OpenError(trouble.cause().to_owned()));
            }
            database.failed(&trouble);
        }
        let writer = |index| {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            tokio::spawn(Writer::new(Arc::clone(&database), me, index, queue).run());
            sender
        };
        let writers = (0..WRITERS).map(writer).collect();
        let books = Books::new(Lines::new(Arc::clone(&database), LINES), me);
        let pulse = Books::new(Lines::new(Arc::clone(&database), 1), me);
        let board = Board::new(Lines::new(Arc::clone(&database), 1));
        Ok(Self { database, me, writers, books, pulse, board })
    }

    fn writer(&self, id: PaymentId) -> &mpsc::Sender<Asked> {
        &self.writers[usize::from(id.0.0[31]) % self.writers.len()]
    }
}

impl fmt::Debug for PostgresLedger {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PostgresLedger")
            .field("me", &self.me)
            .field("at", &self.database)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Accounts for PostgresLedger {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.books.get(id).await
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.books.between(first, last, limit).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.books.list(filter, after, limit).await
    }
}

#[async_trait]
impl Steps for PostgresLedger {
    async fn step(&self, step: Step, now: UnixSeconds) -> Result<Answer, LedgerError> {
        let refused = |cause: &str| Err(LedgerError::Unavailable(cause.to_owned()));
        let writer = self.writer(step.id());
        if matches!(step, Step::Claim(_)) && writer.capacity() <= QUEUE_KEPT {
            return refused("too many steps are waiting to be written");
        }
        let step = match step {
            Step::Unresolved { token, reason, transaction, next_try } => {
                Step::Unresolved { token, reason, transaction, next_try: self.database.time(next_try) }
            }
            other => other,
        };
        let (reply, answer) = oneshot::channel::<Told>();
        let deadline = Instant::now() + self.database.limits.queue;
        let asked = Asked { step, now: self.database.time(now), deadline, reply };
        if writer.try_send(asked).is_err() {
            return refused("too many steps are waiting to be written");
        }
        match timeout(self.database.limits.step(), answer).await {
            Ok(Ok(told)) => told,
            Ok(Err(_)) => refused("the task that writes has ended"),
            Err(_) => refused("the database does not answer in time"),
        }
    }

    async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        self.books.due(now, lease, limit).await
    }

    async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        self.pulse.beat(now).await
    }

    async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        self.books.forget(retention_seconds, now).await
    }

    async fn counts(&self) -> Result<Counts, LedgerError> {
        self.books.counts().await
    }

    async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        self.books.birth().await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn put_up(
        &self,
        notices: &[Notice],
        lifetime: Duration,
        _now: UnixSeconds,
    ) -> Result<(), LedgerError> {
        self.board.put_up(notices, lifetime).await
    }

    async fn leave_up(
        &self,
        keys: &[B256],
        lifetime: Duration,
        _now: UnixSeconds,
    ) -> Result<Vec<B256>, LedgerError> {
        self.board.leave_up(keys, lifetime).await
    }

    async fn notices(&self, _now: UnixSeconds) -> Result<Vec<Posted>, LedgerError> {
        self.board.notices().await
    }

    async fn texts(&self, keys: &[B256], _now: UnixSeconds) -> Result<Vec<(B256, String)>, LedgerError> {
        self.board.texts(keys).await
    }
}

/// The books of a ledger in PostgreSQL, to be read beside running gateways.
#[derive(Debug)]
pub(super) struct PostgresAccounts {
    books: Books,
}

impl PostgresAccounts {
    /// Opens the books. What is there is not changed.
    pub(super) async fn open(url: &str) -> Result<Self, OpenError> {
        let database = Arc::new(Database::new(url, Limits::USUAL, Arc::new(SystemClock))?);
        let connection = database.connect_to_read().await;
        connection.map_err(|trouble| OpenError(trouble.cause().to_owned()))?;
        // Nobody: it takes no steps.
        Ok(Self { books: Books::new(Lines::new(database, 1), GatewayId(0)) })
    }
}

#[async_trait]
impl Accounts for PostgresAccounts {
    async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.books.get(id).await
    }

    async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.books.between(first, last, limit).await
    }

    async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        self.books.list(filter, after, limit).await
    }
}
