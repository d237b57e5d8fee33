//! Where steps are written: many in one transaction, by a few tasks with a connection each. Steps of
//! one payment always go to the same task, so they keep their order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::machine::{self, Moment};
use super::super::step::{Answer, Step};
use super::super::{Claimed, GatewayId, LedgerError};
use super::database::{Connection, Database};
use super::rows::number_of;
use super::trouble::{Trouble, Worth};
use super::view::View;
use crate::clock::UnixSeconds;

/// Steps in one transaction. Each may hold two advisory locks, and the server has room for some
/// thousand of all gateways.
const BATCH_MAX: usize = 64;
/// Times a transaction is tried that another came in the way of.
const TRIES: u32 = 6;

/// A step that waits to be written.
pub(super) struct Asked {
    pub(super) step: Step,
    pub(super) now: UnixSeconds,
    /// When it is too late to begin.
    pub(super) deadline: Instant,
    pub(super) reply: oneshot::Sender<Told>,
}

/// What is answered to a step.
pub(super) type Told = Result<Answer, LedgerError>;

/// A task that writes.
pub(super) struct Writer {
    database: Arc<Database>,
    me: GatewayId,
    queue: mpsc::Receiver<Asked>,
    connection: Option<Connection>,
    /// Begins a transaction, behind the one before it: should the connection of that one have been
    /// lost, the server may still be at work on it, and what comes next must see what became of it.
    begin: String,
    /// While the database is away: until when it is not tried again, and why.
    away: Option<(Instant, String)>,
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        me: GatewayId,
        index: usize,
        queue: mpsc::Receiver<Asked>,
    ) -> Self {
        let lock = number_of("writer", &[&me.0.to_be_bytes(), &index.to_be_bytes()]);
        let begin =
            format!("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT pg_advisory_xact_lock({lock})");
        Self { database, me, queue, connection: None, begin, away: None }
    }

    /// Writes until the ledger is dropped.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.queue.recv().await {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX {
                let Ok(asked) = self.queue.try_recv() else { break };
                batch.push(asked);
            }
            let now = Instant::now();
            let (late, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|asked| asked.deadline <= now);
            Self::refuse(late, "too many steps were before it");
            self.write(batch).await;
        }
    }

    async fn write(&mut self, batch: Vec<Asked>) {
        if let Some((until, cause)) = &self.away
            && Instant::now() < *until
        {
            let cause = cause.clone();
            return Self::refuse(batch, &cause);
        }
        let mut rest = vec![batch];
        while let Some(batch) = rest.pop() {
            let Err((mut batch, trouble)) = self.try_write(batch).await else { continue };
            if trouble.worth() == Worth::Data && batch.len() > 1 {
                // A step that the database refuses must not keep the others from being written.
                rest.push(batch.split_off(batch.len() / 2));
                rest.push(batch);
            } else {
                Self::refuse(batch, trouble.cause());
            }
        }
    }

    /// Writes a batch and answers it, or gives it back.
    async fn try_write(&mut self, batch: Vec<Asked>) -> Result<(), (Vec<Asked>, Trouble)> {
        let until = Instant::now() + self.database.limits.work + self.database.limits.connect;
        let mut tries = 1;
        loop {
            match self.transaction(&batch, until).await {
                Ok(told) => {
                    self.database.worked();
                    tell(batch, told);
                    return Ok(());
                }
                Err(trouble)
                    if trouble.worth() == Worth::Again && tries < TRIES && Instant::now() < until =>
                {
                    tries += 1;
                }
                Err(trouble) => {
                    self.database.failed(&trouble);
                    return Err((batch, trouble));
                }
            }
        }
    }

    /// One transaction. When this returns, the connection is gone or fit for the next one.
    async fn transaction(&mut self, batch: &[Asked], until: Instant) -> Result<Vec<Told>, Trouble> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let slow = |_| Err(Trouble::away("the database does not answer in time"));
        let worked = timeout_at(until, self.work(&mut connection, batch)).await;
        let (told, durable) = match worked.unwrap_or_else(slow) {
            Ok(worked) => worked,
            Err(trouble) => {
                self.connection = roll_back(connection).await;
                return Err(trouble);
            }
        };
        let patience = self.database.limits.commit;
        // A connection whose commit was not answered goes; the server closes the matter on its side.
        match timeout(patience, connection.commit(durable)).await {
            Ok(Ok(())) => {
                self.connection = Some(connection);
                Ok(told)
            }
            Ok(Err(error)) => Err(Trouble::committing(error)),
            Err(_) => Err(Trouble::unknown("the database did not answer a commit in time")),
        }
    }

    async fn connect(&mut self) -> Result<Connection, Trouble> {
        match self.database.connect().await {
            Ok(connection) => {
                self.away = None;
                Ok(connection)
            }
            Err(trouble) => {
                let until = Instant::now() + self.database.limits.back_off;
                self.away = Some((until, trouble.cause().to_owned()));
                Err(trouble)
            }
        }
    }

    /// Decides every step, and writes; all but the commit. Says what to answer, and whether the commit
    /// must be durable.
    async fn work(&self, connection: &mut Connection, batch: &[Asked]) -> Result<(Vec<Told>, bool), Trouble> {
        let raw = &mut connection.raw;
        sqlx::raw_sql(sqlx::AssertSqlSafe(self.begin.as_str()))
            .execute(&mut *raw)
            .await
            .map_err(Trouble::working)?;
        let mut view = View::load(raw, batch.iter().map(|asked| &asked.step)).await?;
        let mut durable = false;
        let mut told = Vec::with_capacity(batch.len());
        for asked in batch {
            let decided = self.decide(asked, &mut view);
            durable |= must_last(&asked.step, &decided);
            told.push(decided);
        }
        view.write(raw).await?;
        Ok((told, durable))
    }

    fn decide(&self, asked: &Asked, view: &mut View) -> Told {
        let Asked { step, now, .. } = asked;
        let record = view.record(step.id()).cloned();
        let beside = view.beside(step);
        let (change, answer) = machine::decide(step, record, beside, Moment { me: self.me, now: *now })?;
        view.change(change);
        Ok(answer)
    }

    fn refuse(batch: Vec<Asked>, cause: &str) {
        for asked in batch {
            // Who asked may have given up meanwhile.
            let _ = asked.reply.send(Err(LedgerError::Unavailable(cause.to_owned())));
        }
    }
}

fn tell(batch: Vec<Asked>, told: Vec<Told>) {
    for (asked, told) in batch.into_iter().zip(told) {
        // Who gave up waiting tells what is to become of what was granted.
        let _ = asked.reply.send(told);
    }
}

/// Whether a step must survive a crash of the server, which gateways survive: what is lost would never
/// be said again. A claim that is lost is noticed by the next step, and nothing was granted for it.
fn must_last(step: &Step, told: &Told) -> bool {
    !matches!((step, told), (Step::Claim(_), Ok(Answer::Claimed(claimed))) if !matches!(claimed, Claimed::Owed { .. }))
}

async fn roll_back(mut connection: Connection) -> Option<Connection> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let rolled = timeout(PATIENCE, sqlx::raw_sql("ROLLBACK").execute(&mut connection.raw)).await;
    matches!(rolled, Ok(Ok(_))).then_some(connection)
}
