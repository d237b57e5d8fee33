//! Where steps are written: many in one transaction, by a few tasks with a connection each. Steps of
//! one payment always go to the same task, so they keep their order.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::super::machine::{self, Change, Moment};
use super::super::step::{Answer, Step};
use super::super::{Claimed, GatewayId, LedgerError, PaymentRecord, Recorded};
use super::database::{Connection, Database};
use super::rows::number_of;
use super::trouble::{Trouble, Worth};
use super::view::View;
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

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
#[derive(Debug)]
pub(super) struct Told {
    pub(super) result: Result<Answer, LedgerError>,
    undo: Option<Box<Undo>>,
}

/// How to take back what was granted to somebody who never heard of it.
#[derive(Debug)]
pub(super) struct Undo {
    /// What was written.
    written: PaymentRecord,
    /// What is to be in its place.
    instead: Option<PaymentRecord>,
}

/// A task that writes.
pub(super) struct Writer {
    database: Arc<Database>,
    me: GatewayId,
    queue: mpsc::Receiver<Asked>,
    connection: Option<Connection>,
    /// Begins a transaction, behind the one before it: should the connection of that one have been
    /// lost, the server may still be at work on it.
    begin: String,
    /// Grants that nobody heard of.
    undos: Vec<Undo>,
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
        Self { database, me, queue, connection: None, begin, undos: Vec::new(), away: None }
    }

    /// Writes until the ledger is dropped.
    pub(super) async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut batch: Vec<Asked> = first.into_iter().collect();
            while batch.len() < BATCH_MAX {
                let Ok(asked) = self.queue.try_recv() else { break };
                batch.push(asked);
            }
            let now = Instant::now();
            let (late, batch): (Vec<_>, Vec<_>) = batch.into_iter().partition(|asked| asked.deadline <= now);
            self.refuse(late, "too many steps were before it");
            self.write(batch).await;
        }
    }

    /// Waits for a step; `Some(None)`: there is none, but something to undo. `None`: the end.
    async fn next(&mut self) -> Option<Option<Asked>> {
        if self.undos.is_empty() {
            return self.queue.recv().await.map(Some);
        }
        match timeout(self.database.limits.back_off, self.queue.recv()).await {
            Ok(asked) => asked.map(Some),
            Err(_) => Some(None),
        }
    }

    async fn write(&mut self, batch: Vec<Asked>) {
        if let Some((until, cause)) = &self.away
            && Instant::now() < *until
        {
            let cause = cause.clone();
            return self.refuse(batch, &cause);
        }
        let Err((batch, trouble)) = self.try_write(batch).await else { return };
        // One that the database refuses must not keep the others from being written.
        if trouble.worth() == Worth::Data && batch.len() > 1 {
            for asked in batch {
                if let Err((asked, trouble)) = self.try_write(vec![asked]).await {
                    self.refuse(asked, trouble.cause());
                }
            }
            return;
        }
        self.refuse(batch, trouble.cause());
    }

    /// Writes a batch and answers it, or gives it back.
    async fn try_write(&mut self, batch: Vec<Asked>) -> Result<(), (Vec<Asked>, Trouble)> {
        let until = Instant::now() + self.database.limits.work + self.database.limits.connect;
        let mut tries = 1;
        loop {
            match self.transaction(&batch, until).await {
                Ok(told) => {
                    self.database.worked();
                    self.tell(batch, told);
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
        match timeout(patience, connection.commit(durable)).await {
            Ok(Ok(())) => {
                self.undos.clear();
                self.connection = Some(connection);
                Ok(told)
            }
            lost => {
                // The connection goes: what it did is looked up on another one.
                self.undos.extend(told.into_iter().filter_map(|told| told.undo.map(|undo| *undo)));
                Err(match lost {
                    Ok(Err(error)) => Trouble::committing(error),
                    _ => Trouble::unknown("the database did not answer a commit in time"),
                })
            }
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

    /// Takes back what nobody heard of, decides every step, and writes; all but the commit. Says what
    /// to answer, and whether the commit must be durable.
    async fn work(&self, connection: &mut Connection, batch: &[Asked]) -> Result<(Vec<Told>, bool), Trouble> {
        let raw = &mut connection.raw;
        sqlx::raw_sql(sqlx::AssertSqlSafe(self.begin.as_str()))
            .execute(&mut *raw)
            .await
            .map_err(Trouble::working)?;
        if !self.undos.is_empty() {
            self.undo(connection).await?;
        }
        let raw = &mut connection.raw;
        let mut view = View::load(raw, batch.iter().map(|asked| &asked.step)).await?;
        let mut durable = !self.undos.is_empty();
        let mut told = Vec::with_capacity(batch.len());
        for asked in batch {
            let decided = self.decide(asked, &mut view);
            durable |= asked.step.is_durable() || decided.is_owed();
            told.push(decided);
        }
        view.write(raw).await?;
        Ok((told, durable))
    }

    fn decide(&self, asked: &Asked, view: &mut View) -> Told {
        let Asked { step, now, .. } = asked;
        let record = view.record(step.id()).cloned();
        let beside = view.beside(step);
        match machine::decide(step, record, beside, Moment { me: self.me, now: *now }) {
            Ok((change, answer)) => {
                let undo = match &change {
                    Change::Put(record) => undo_of(step, &answer, record, view.record(record.id)),
                    Change::None | Change::Delete(_) => None,
                };
                view.change(change);
                Told { result: Ok(answer), undo }
            }
            Err(error) => Told { result: Err(error), undo: None },
        }
    }

    async fn undo(&self, connection: &mut Connection) -> Result<(), Trouble> {
        let ids: Vec<PaymentId> = self.undos.iter().map(|undo| undo.written.id).collect();
        let mut view = View::of(&mut connection.raw, &ids).await?;
        for undo in self.undos.iter().rev() {
            let id = undo.written.id;
            if view.record(id).is_some_and(|found| is_same(found, &undo.written)) {
                view.change(match &undo.instead {
                    Some(record) => Change::Put(Box::new(record.clone())),
                    None => Change::Delete(id),
                });
            }
        }
        view.write(&mut connection.raw).await
    }

    fn tell(&mut self, batch: Vec<Asked>, told: Vec<Told>) {
        for (asked, told) in batch.into_iter().zip(told) {
            // Who asked may have given up meanwhile.
            if let Err(Told { undo: Some(undo), .. }) = asked.reply.send(told) {
                self.undos.push(*undo);
            }
        }
    }

    fn refuse(&self, batch: Vec<Asked>, cause: &str) {
        for asked in batch {
            let result = Err(LedgerError::Unavailable(cause.to_owned()));
            let _ = asked.reply.send(Told { result, undo: None });
        }
    }
}

impl Told {
    /// Whether a delivery was granted that nothing durable came before.
    fn is_owed(&self) -> bool {
        matches!(self.result, Ok(Answer::Claimed(Claimed::Owed { .. })))
    }
}

async fn roll_back(mut connection: Connection) -> Option<Connection> {
    const PATIENCE: Duration = Duration::from_millis(500);
    let rolled = timeout(PATIENCE, sqlx::raw_sql("ROLLBACK").execute(&mut connection.raw)).await;
    matches!(rolled, Ok(Ok(_))).then_some(connection)
}

/// What to do when nobody learns that `after` was written in place of `before`: a payment that was
/// claimed or is to be settled becomes what it was; of one that was settled the delivery is owed. What
/// only says what happened stays.
fn undo_of(
    step: &Step,
    answer: &Answer,
    after: &PaymentRecord,
    before: Option<&PaymentRecord>,
) -> Option<Box<Undo>> {
    let instead = match (step, answer) {
        (_, Answer::Claimed(Claimed::New(_) | Claimed::Owed { .. })) | (Step::Settling { .. }, _) => {
            before.cloned()
        }
        (_, Answer::Recorded(Recorded::Deliver)) => {
            Some(PaymentRecord { owner: None, deliveries: 0, ..after.clone() })
        }
        (_, Answer::Claimed(_) | Answer::Recorded(_) | Answer::Done) => return None,
    };
    Some(Box::new(Undo { written: after.clone(), instead }))
}

/// Whether nothing happened to a payment since it was written.
fn is_same(found: &PaymentRecord, written: &PaymentRecord) -> bool {
    let key = |record: &PaymentRecord| {
        (
            record.attempt,
            record.state,
            record.owner,
            record.deliveries,
            record.request_hash,
            record.settled_at,
        )
    };
    key(found) == key(written)
}
