//! Moving what is in the write-ahead log into the database, beside the writer.
//!
//! SQLite would do it at the end of a commit, and everybody would wait while thousands of pages are
//! written. A thread of its own does it instead; only the little that was committed meanwhile is left
//! to the writer, so that the log can begin anew and does not grow for ever
//! (<https://sqlite.org/wal.html#ckpt>).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::Connection;

use super::fault::Fault;

/// When what is done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// Steps between two checkpoints.
    pub(super) steps: usize,
    /// Pages of 4 KiB in the log from which on it should begin anew.
    pub(super) pages: i64,
    /// Bytes of log from which on the writer itself does the work and waits for those who read: a disk
    /// that is too slow, or a search that takes long, must not fill the disk.
    pub(super) bytes_max: u64,
}

impl Default for Lengths {
    fn default() -> Self {
        Self { steps: 1_000, pages: 8_000, bytes_max: 256 * 1024 * 1024 }
    }
}

/// The thread, in the hands of the writer.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    steps: usize,
    lengths: Lengths,
    log: PathBuf,
    is_too_long: bool,
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
    /// Starts the thread with a connection of its own to the database whose log is at `log`.
    pub(super) fn start(connection: Connection, log: PathBuf, lengths: Lengths) -> io::Result<Self> {
        let (wake, wakes) = sync_channel(1);
        let shared = Arc::<Shared>::default();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ledger-log".to_owned())
            .spawn(move || run(&connection, &wakes, &theirs, lengths.pages))?;
        let (wake, thread) = (Some(wake), Some(thread));
        Ok(Self { wake, thread, steps: 0, lengths, log, is_too_long: false, shared })
    }

    /// Counts what the writer has committed.
    pub(super) fn committed(&mut self, steps: usize) {
        self.steps += steps;
        if self.steps >= self.lengths.steps
            && let Some(wake) = &self.wake
        {
            self.steps = 0;
            self.is_too_long = self.log.metadata().is_ok_and(|log| log.len() > self.lengths.bytes_max);
            // The writer can do it only while the thread does not. And when that is at work already, it
            // will find what is new.
            if !self.is_too_long {
                let _ = wake.try_send(());
            }
        }
    }

    /// Finishes a checkpoint that is almost done, while nothing else is written.
    pub(super) fn finish(&mut self, connection: &Connection) -> Result<(), Fault> {
        if std::mem::take(&mut self.is_too_long) {
            checkpoint(connection, "PRAGMA wal_checkpoint(TRUNCATE)")?;
        } else if self.shared.is_almost_done.swap(false, Ordering::AcqRel) {
            checkpoint(connection, PASSIVE)?;
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

/// Moves what no reader needs in the log, and waits for nobody.
const PASSIVE: &str = "PRAGMA wal_checkpoint(PASSIVE)";

fn run(connection: &Connection, wakes: &Receiver<()>, shared: &Shared, pages_enough: i64) {
    let mut failing = false;
    while wakes.recv().is_ok() {
        // The second time for what was committed during the first.
        match checkpoint(connection, PASSIVE).and_then(|_| checkpoint(connection, PASSIVE)) {
            Ok(pages) => {
                failing = false;
                if pages > pages_enough {
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

/// Moves the log into the database as far as others let it; says how many pages the log has.
fn checkpoint(connection: &Connection, pragma: &str) -> Result<i64, Fault> {
    let mut statement = connection.prepare_cached(pragma)?;
    Ok(statement.query_row([], |row| row.get(1))?)
}
