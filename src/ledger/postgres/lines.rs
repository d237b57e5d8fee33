//! A few connections for everything that is no step.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::LedgerError;
use super::database::{Connection, Database};
use super::trouble::{Trouble, Worth};

/// Times something is tried whose connection was dead, or that another came in the way of.
const TRIES: u32 = 4;

/// A few connections, kept as long as they work.
pub(super) struct Lines {
    pub(super) database: Arc<Database>,
    idle: Mutex<Vec<Connection>>,
    free: Semaphore,
}

impl Lines {
    pub(super) fn new(database: Arc<Database>, count: usize) -> Self {
        Self { database, idle: Mutex::default(), free: Semaphore::new(count) }
    }

    /// Does something that is harmless to do twice, and takes `limit` at most once it has a connection.
    pub(super) async fn run<T>(
        &self,
        limit: Duration,
        work: impl for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, Trouble>> + Send + Sync,
    ) -> Result<T, LedgerError> {
        let unavailable = |cause: &str| LedgerError::Unavailable(cause.to_owned());
        let Ok(Ok(_line)) = timeout(self.database.limits.queue, self.free.acquire()).await else {
            return Err(unavailable("too much is asked of the ledger's database"));
        };
        let mut tries = 1;
        loop {
            match self.attempt(limit, &work).await {
                Ok(done) => return Ok(done),
                Err(trouble) if trouble.worth() == Worth::Again && tries < TRIES => tries += 1,
                Err(trouble) => return Err(unavailable(trouble.cause())),
            }
        }
    }

    async fn attempt<T>(
        &self,
        limit: Duration,
        work: &(impl for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<T, Trouble>> + Send + Sync),
    ) -> Result<T, Trouble> {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        let done = timeout(limit, work(&mut connection)).await;
        let done = done.unwrap_or_else(|_| Err(Trouble::away("the database does not answer in time")))?;
        // One that failed is not kept: who knows what it is in the middle of.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(done)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Lines").field("at", &self.database).finish_non_exhaustive()
    }
}
