//! Connections that only read, kept for the next question.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::super::LedgerError;
use super::fault::Fault;
use super::file;

/// Questions answered at a time.
const AT_A_TIME: usize = 4;
/// How long a question may wait for its turn. Its answer takes as long as it takes: a search of the
/// books may read much, and holds nobody up.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Connections to one file.
pub(super) struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new(path: PathBuf) -> Self {
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        Self { shared: Arc::new(Shared { path, idle: Mutex::default(), turns }) }
    }

    /// A pool that has its first connection already.
    pub(super) fn with(path: PathBuf, connection: Connection) -> Self {
        let pool = Self::new(path);
        pool.shared.keep(connection);
        pool
    }

    /// Answers a question on a thread that may wait for the disk.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let unavailable = |cause: &str| LedgerError::Unavailable(cause.to_owned());
        let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&self.shared.turns).acquire_owned())
            .await
            .map_err(|_| unavailable("too many searches are under way"))?
            .map_err(|_| unavailable("it is being closed"))?;
        let shared = Arc::clone(&self.shared);
        let answer = tokio::task::spawn_blocking(move || {
            // Until the search has ended, also if nobody waits for it any more.
            let _turn = turn;
            let connection = shared.connection()?;
            let answer = work(&connection)?;
            // After a fault the connection is closed instead.
            shared.keep(connection);
            Ok::<T, Fault>(answer)
        });
        answer.await.map_err(|_| unavailable("a search broke off"))?.map_err(LedgerError::from)
    }
}

impl Shared {
    fn connection(&self) -> Result<Connection, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| file::reader(&self.path), Ok)
    }

    fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
