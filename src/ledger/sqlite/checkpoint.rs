//! Moving what is in the write-ahead log into the database, beside the writer.
//!
//! SQLite would do it at the end of a commit, and everybody would wait while thousands of pages are
//! written. A thread of its own does it instead; only the little that was committed meanwhile is left
//! to the writer, so that the log can begin anew and does not grow for ever
//! (<https://sqlite.org/wal.html#ckpt>).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::fault::Fault;

/// Steps between two checkpoints: a few thousand pages of log.
const STEPS: usize = 1_000;
/// Pages of 4 KiB in the log from which on it should begin anew.
const LOG_PAGES: i64 = 8_000;

/// The thread, in the hands of the writer.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    steps: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// Set when the log is long and nearly all of it is in the database.
    is_almost_done: AtomicBool,
    /// Set when the disk failed in a way that nothing later can be trusted.
    is_broken: AtomicBool,
}

impl Checkpointer {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (wake, wakes) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ledger-log".to_owned())
            .spawn(move || run(&connection, &wakes, &theirs))?;
        Ok(Self { wake: Some(wake), thread: Some(thread), steps: 0, shared })
    }

    /// Counts what the writer has committed.
    pub(super) fn committed(&mut self, steps: usize) {
        self.steps += steps;
        if self.steps >= STEPS
            && let Some(wake) = &self.wake
        {
            self.steps = 0;
            // When it is at work already it will find what is new.
            let _ = wake.try_send(());
        }
    }

    /// Finishes a checkpoint that is almost done, while nothing else is written.
    pub(super) fn finish(&self, connection: &Connection) -> Result<(), Fault> {
        if self.shared.is_almost_done.swap(false, Ordering::AcqRel) {
            checkpoint(connection)?;
        }
        Ok(())
    }

    /// Whether the disk failed meanwhile.
    pub(super) fn is_broken(&self) -> bool {
        self.shared.is_broken.load(Ordering::Acquire)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for the ledger's log ended with a mistake of its own");
        }
    }
}

fn run(connection: &Connection, wakes: &Receiver<()>, shared: &Shared) {
    let mut failing = false;
    while wakes.recv().is_ok() {
        // The second time for what was committed during the first.
        match checkpoint(connection).and_then(|_| checkpoint(connection)) {
            Ok(pages) => {
                failing = false;
                if pages > LOG_PAGES {
                    shared.is_almost_done.store(true, Ordering::Release);
                }
            }
            Err(fault) => {
                // The log keeps what is not in the database yet.
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%fault, "the ledger's log cannot be moved into its database");
                }
                if fault.is_lasting() {
                    shared.is_broken.store(true, Ordering::Release);
                }
            }
        }
    }
}

/// Moves what nobody reads from the log any more; says how many pages the log has.
fn checkpoint(connection: &Connection) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
    Ok(statement.query_row([], |row| row.get(1))?)
}
