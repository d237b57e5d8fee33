//! The one thread that writes.
//!
//! Steps wait in a queue. The thread takes all that are waiting, decides and writes them in one
//! transaction, and answers each when that is committed: while the disk makes one batch durable the
//! next one gathers, so that many payments share the cost of one fsync.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use alloy_primitives::B256;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::super::machine::Moment;
use super::super::step::{Answer, Step};
use super::super::{Claimed, GatewayId, LedgerError, Notice, TakenOver, Unresolved};
use super::checkpoint::Checkpointer;
use super::fault::Fault;
use super::file::Held;
use super::{notices, steps};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

/// Steps that may wait.
pub(super) const QUEUE: usize = 16_384;
/// The part of the queue that new claims leave to payments under way: one in so many.
const KEPT_FREE: usize = 4;
/// Steps written in one transaction.
const BATCH_MAX: usize = 512;
/// How long a step may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// What the thread is asked to do.
pub(super) enum Work {
    Step(Step, UnixSeconds),
    Due {
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    },
    Beat(UnixSeconds),
    Forget {
        ids: Vec<PaymentId>,
        retention_seconds: u64,
        now: UnixSeconds,
    },
    PutUp {
        notices: Vec<Notice>,
        lifetime: Duration,
        now: UnixSeconds,
    },
    LeaveUp {
        keys: Vec<B256>,
        lifetime: Duration,
        now: UnixSeconds,
    },
    /// Looks something up, after everything that is asked at the same time.
    Read(Box<dyn FnOnce(&Connection) + Send>),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Done {
    Answer(Answer),
    Due(Vec<Unresolved>),
    TakenOver(TakenOver),
    Forgotten(u64),
    PutUp,
    /// Keys of notices that are not there.
    LeftUp(Vec<B256>),
    Read,
}

type Result<T> = std::result::Result<T, LedgerError>;

struct Task {
    work: Work,
    reply: oneshot::Sender<Result<Done>>,
}

/// The thread, in the hands of a ledger. Dropped, it finishes what is asked of it and ends.
pub(super) struct Writer {
    queue: Option<mpsc::Sender<Task>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, for which at most `queue` steps may wait; the file is this process's until
    /// it has ended.
    pub(super) fn start(
        connection: Connection,
        me: GatewayId,
        file: Option<(Checkpointer, Held)>,
        queue: usize,
    ) -> io::Result<Self> {
        let (queue, tasks) = mpsc::channel(queue);
        let (log, held) = file.unzip();
        let mut state =
            State { log, connection, me, durable: None, taken_over: false, broken: None, failing: false };
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || {
            state.run(tasks);
            // The database is closed before somebody else may open it.
            drop(state);
            drop(held);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Asks for something and waits until it is done.
    pub(super) async fn ask(&self, work: Work) -> Result<Done> {
        let unavailable = |cause: &str| LedgerError::Unavailable(cause.to_owned());
        let queue = self.queue.as_ref().ok_or_else(|| unavailable("its writer has ended"))?;
        if matches!(work, Work::Step(Step::Claim(_), _))
            && queue.capacity() < queue.max_capacity() / KEPT_FREE
        {
            return Err(unavailable("too many payments wait to be written"));
        }
        let (reply, answer) = oneshot::channel();
        queue.try_send(Task { work, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => unavailable("too many payments wait to be written"),
            mpsc::error::TrySendError::Closed(_) => unavailable("its writer has ended"),
        })?;
        match tokio::time::timeout(ANSWERED_WITHIN, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unavailable("its writer has ended")),
            Err(_) => Err(unavailable("the disk does not answer")),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the ledger's writer ended with a mistake of its own");
        }
    }
}

/// What belongs to the thread.
struct State {
    /// For a ledger in a file; before the connection, because it ends first.
    log: Option<Checkpointer>,
    connection: Connection,
    me: GatewayId,
    /// Whether commits are made durable at present; `None`: not known.
    durable: Option<bool>,
    /// Whether what gateways before this one left behind was taken over.
    taken_over: bool,
    /// Why nothing can be done any more.
    broken: Option<String>,
    /// Whether the last batch failed, so that only changes are logged.
    failing: bool,
}

impl State {
    fn run(&mut self, mut tasks: mpsc::Receiver<Task>) {
        while let Some(first) = tasks.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(task) = tasks.try_recv()
            {
                batch.push(task);
            }
            self.serve(batch);
        }
    }

    fn serve(&mut self, batch: Vec<Task>) {
        let is_wanted = |task: &Task| match &task.work {
            // Whoever asked has given up; nobody would use what is granted.
            Work::Step(Step::Claim(_) | Step::Settling { .. }, _) | Work::Read(_) => !task.reply.is_closed(),
            Work::Step(..)
            | Work::Due { .. }
            | Work::Beat(_)
            | Work::Forget { .. }
            | Work::PutUp { .. }
            | Work::LeaveUp { .. } => true,
        };
        let (reads, writes): (Vec<Task>, Vec<Task>) =
            batch.into_iter().filter(is_wanted).partition(|task| matches!(task.work, Work::Read(_)));
        // Nobody waits for an answer any more where sending it fails; what was taken stays taken.
        if !writes.is_empty() {
            match self.write(&writes) {
                Ok(answers) => {
                    writes.into_iter().zip(answers).for_each(|(task, answer)| drop(task.reply.send(answer)));
                }
                Err(error) => {
                    for task in writes {
                        drop(task.reply.send(Err(error.clone())));
                    }
                }
            }
        }
        for Task { work, reply } in reads {
            if let Work::Read(read) = work {
                read(&self.connection);
                drop(reply.send(Ok(Done::Read)));
            }
        }
    }

    /// Writes a batch: all of it, or nothing.
    fn write(&mut self, tasks: &[Task]) -> Result<Vec<Result<Done>>> {
        if let Some(cause) = &self.broken {
            return Err(LedgerError::Unavailable(cause.clone()));
        }
        match self.transact(tasks) {
            Ok(answers) => {
                if let Some(log) = &mut self.log {
                    log.committed(tasks.len());
                }
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the ledger can be written again");
                }
                Ok(answers)
            }
            Err(fault) => Err(self.failed(&fault)),
        }
    }

    fn transact(&mut self, tasks: &[Task]) -> std::result::Result<Vec<Result<Done>>, Fault> {
        if let Some(log) = &mut self.log {
            if log.is_broken() {
                return Err(Fault::Unsynced);
            }
            log.finish(&self.connection)?;
        }
        let is_durable = |task: &Task| match &task.work {
            Work::Step(step, _) => step.is_durable(),
            // What was quoted must be honoured by the gateway that starts when the power is back.
            Work::PutUp { .. } => true,
            Work::Due { .. } | Work::Beat(_) | Work::Forget { .. } | Work::LeaveUp { .. } | Work::Read(_) => {
                false
            }
        };
        let durable = tasks.iter().any(is_durable);
        match self.transact_as(tasks, durable)? {
            Some(answers) => Ok(answers),
            // How durable a commit is must be chosen before it is known what it grants.
            None => Ok(self.transact_as(tasks, true)?.unwrap_or_default()),
        }
    }

    /// `None`: rolled back, because a delivery was granted that must not be granted again after a loss
    /// of power, and the commit was not to be durable.
    fn transact_as(
        &mut self,
        tasks: &[Task],
        durable: bool,
    ) -> std::result::Result<Option<Vec<Result<Done>>>, Fault> {
        self.set_durable(durable)?;
        let mut taken_over = self.taken_over;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(tasks.len());
        for task in tasks {
            let moment = |now| Moment { me: self.me, now };
            answers.push(match &task.work {
                Work::Step(step, now) => steps::take(&transaction, step, moment(*now))?.map(Done::Answer),
                Work::Due { now, lease, limit } => {
                    Ok(Done::Due(steps::take_due(&transaction, *lease, *limit, moment(*now))?))
                }
                // Whoever holds something and is not this gateway held it before this one started.
                Work::Beat(_) if taken_over => Ok(Done::TakenOver(TakenOver::default())),
                Work::Beat(now) => {
                    taken_over = true;
                    Ok(Done::TakenOver(steps::take_over(&transaction, moment(*now))?))
                }
                Work::Forget { ids, retention_seconds, now } => {
                    Ok(Done::Forgotten(steps::forget(&transaction, ids, *retention_seconds, *now)?))
                }
                Work::PutUp { notices, lifetime, now } => {
                    notices::put_up(&transaction, notices, *lifetime, *now)?;
                    Ok(Done::PutUp)
                }
                Work::LeaveUp { keys, lifetime, now } => {
                    Ok(Done::LeftUp(notices::leave_up(&transaction, keys, *lifetime, *now)?))
                }
                Work::Read(_) => Ok(Done::Read),
            });
        }
        let is_owed =
            |answer: &Result<Done>| matches!(answer, Ok(Done::Answer(Answer::Claimed(Claimed::Owed { .. }))));
        if !durable && answers.iter().any(is_owed) {
            transaction.rollback()?;
            return Ok(None);
        }
        transaction.commit()?;
        self.taken_over = taken_over;
        Ok(Some(answers))
    }

    /// Chooses whether commits wait for the disk (<https://sqlite.org/pragma.html#pragma_synchronous>).
    /// With the write-ahead log, a commit that waits makes all commits before it durable as well.
    fn set_durable(&mut self, durable: bool) -> std::result::Result<(), Fault> {
        if self.durable != Some(durable) {
            self.durable = None;
            self.connection.pragma_update(None, "synchronous", if durable { "FULL" } else { "NORMAL" })?;
            self.durable = Some(durable);
        }
        Ok(())
    }

    fn failed(&mut self, fault: &Fault) -> LedgerError {
        let mut cause = fault.to_string();
        // Dropping the transaction has rolled it back; should that have failed, nothing is certain.
        if fault.is_lasting() || !self.connection.is_autocommit() {
            cause.push_str("; the gateway must be started again once that is mended");
            self.broken = Some(cause.clone());
        }
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(%cause, "the ledger cannot be written; nothing is sold meanwhile");
        }
        LedgerError::Unavailable(cause)
    }
}
