//! What gateways let each other know for a while, by the database's clock.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::{LedgerError, NOTICES_MAX, Notice, Posted};
use super::database::Connection;
use super::gateways::{BEGIN, millis};
use super::lines::Lines;
use super::trouble::Trouble;

/// The notices of all gateways.
#[derive(Debug)]
pub(super) struct Board {
    lines: Lines,
}

impl Board {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines }
    }

    pub(super) async fn put_up(&self, notices: &[Notice], lifetime: Duration) -> Result<(), LedgerError> {
        if notices.is_empty() {
            return Ok(());
        }
        let notices: Arc<[Notice]> = notices.into();
        let work = self.lines.run(self.to_write(), move |connection| {
            Box::pin(put_up(connection, Arc::clone(&notices), lifetime))
        });
        work.await
    }

    pub(super) async fn leave_up(&self, keys: &[B256], lifetime: Duration) -> Result<Vec<B256>, LedgerError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Arc<[B256]> = keys.into();
        let work = self.lines.run(self.to_write(), move |connection| {
            Box::pin(leave_up(connection, Arc::clone(&keys), lifetime))
        });
        work.await
    }

    pub(super) async fn notices(&self) -> Result<Vec<Posted>, LedgerError> {
        self.lines.run(self.lines.database.limits.work, |connection| Box::pin(notices(connection))).await
    }

    pub(super) async fn texts(&self, keys: &[B256]) -> Result<Vec<(B256, String)>, LedgerError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Arc<[B256]> = keys.into();
        let limit = self.lines.database.limits.work;
        self.lines.run(limit, move |connection| Box::pin(texts(connection, Arc::clone(&keys)))).await
    }

    fn to_write(&self) -> Duration {
        self.lines.database.limits.work + self.lines.database.limits.commit
    }
}

async fn put_up(
    connection: &mut Connection,
    notices: Arc<[Notice]>,
    lifetime: Duration,
) -> Result<(), Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    // In one order, so that gateways which put up the same never wait for each other in a circle.
    let mut notices: Vec<&Notice> = notices.iter().collect();
    notices.sort_by_key(|notice| notice.key);
    notices.dedup_by_key(|notice| notice.key);
    // One that is there says the same; only how long it stays up is written then.
    let put_up = "INSERT INTO tollgate_notices AS known (key, text, listed, until) \
                  SELECT key, text, listed, clock_timestamp() + $4 * interval '1 ms' \
                  FROM unnest($1::bytea[], $2::text[], $3::bool[]) AS new (key, text, listed) \
                  ON CONFLICT (key) DO UPDATE SET until = greatest(known.until, excluded.until)";
    sqlx::query(put_up)
        .bind(notices.iter().map(|notice| notice.key.0).collect::<Vec<_>>())
        .bind(notices.iter().map(|notice| notice.text.as_str()).collect::<Vec<_>>())
        .bind(notices.iter().map(|notice| notice.listed).collect::<Vec<_>>())
        .bind(millis(lifetime))
        .execute(&mut *raw)
        .await
        .map_err(Trouble::working)?;
    connection.commit(true).await.map_err(Trouble::committing)
}

async fn leave_up(
    connection: &mut Connection,
    keys: Arc<[B256]>,
    lifetime: Duration,
) -> Result<Vec<B256>, Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    let leave_up = "WITH there AS (SELECT key FROM tollgate_notices WHERE key = ANY($1::bytea[]) \
                    ORDER BY key FOR UPDATE) \
                    UPDATE tollgate_notices AS known \
                    SET until = greatest(known.until, clock_timestamp() + $2 * interval '1 ms') \
                    FROM there WHERE known.key = there.key RETURNING known.key";
    let wanted: Vec<[u8; 32]> = keys.iter().map(|key| key.0).collect();
    let found = sqlx::query(leave_up).bind(wanted).bind(millis(lifetime)).fetch_all(&mut *raw).await;
    let key = |row: &PgRow| row.try_get::<[u8; 32], _>(0).map(B256::from);
    let found: HashSet<B256> =
        found.and_then(|rows| rows.iter().map(key).collect()).map_err(Trouble::working)?;
    // What another gateway leaves up at this moment is left to it.
    let take_down = "DELETE FROM tollgate_notices WHERE key IN (SELECT key FROM tollgate_notices \
                     WHERE until < clock_timestamp() FOR UPDATE SKIP LOCKED)";
    sqlx::query(take_down).execute(&mut *raw).await.map_err(Trouble::working)?;
    // One that is lost with the server is made up for by the next.
    connection.commit(false).await.map_err(Trouble::committing)?;
    Ok(keys.iter().filter(|key| !found.contains(*key)).copied().collect())
}

async fn notices(connection: &mut Connection) -> Result<Vec<Posted>, Trouble> {
    let select = "SELECT key, extract(epoch FROM until - clock_timestamp())::float8 FROM tollgate_notices \
                  WHERE listed AND until > clock_timestamp() ORDER BY until DESC, key LIMIT $1";
    let found = sqlx::query(select).bind(i64::from(NOTICES_MAX)).fetch_all(&mut connection.raw).await;
    let read = |row: &PgRow| {
        Ok(Posted {
            key: B256::from(row.try_get::<[u8; 32], _>(0)?),
            lifetime: Duration::try_from_secs_f64(row.try_get(1)?).unwrap_or_default(),
        })
    };
    found.and_then(|rows| rows.iter().map(read).collect()).map_err(Trouble::working)
}

async fn texts(connection: &mut Connection, keys: Arc<[B256]>) -> Result<Vec<(B256, String)>, Trouble> {
    let select = "SELECT key, text FROM tollgate_notices \
                  WHERE key = ANY($1::bytea[]) AND until > clock_timestamp()";
    let wanted: Vec<[u8; 32]> = keys.iter().map(|key| key.0).collect();
    let found = sqlx::query(select).bind(wanted).fetch_all(&mut connection.raw).await;
    let read = |row: &PgRow| Ok((B256::from(row.try_get::<[u8; 32], _>(0)?), row.try_get(1)?));
    found.and_then(|rows| rows.iter().map(read).collect()).map_err(Trouble::working)
}
