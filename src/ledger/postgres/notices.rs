//! What gateways let each other know for a while, by the database's clock.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::B256;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::super::Notice;
use super::database::Connection;
use super::gateways::{BEGIN, millis};
use super::trouble::Trouble;

/// Notices that are read at most; who has more routes than that reads the latest.
const NOTICES_MAX: i64 = 20_000;

pub(super) async fn put_up(connection: &mut Connection, notices: Arc<[Notice]>) -> Result<(), Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    // In one order, so that gateways which put up the same never wait for each other in a circle.
    let mut notices: Vec<&Notice> = notices.iter().collect();
    notices.sort_by_key(|notice| notice.key);
    notices.dedup_by_key(|notice| notice.key);
    let put_up = "INSERT INTO tollgate_notices AS known (key, text, until) \
                  SELECT key, text, clock_timestamp() + lifetime * interval '1 ms' \
                  FROM unnest($1::bytea[], $2::text[], $3::float8[]) AS new (key, text, lifetime) \
                  ON CONFLICT (key) DO UPDATE SET text = excluded.text, until = greatest(known.until, excluded.until)";
    sqlx::query(put_up)
        .bind(notices.iter().map(|notice| notice.key.0).collect::<Vec<_>>())
        .bind(notices.iter().map(|notice| notice.text.replace('\0', "")).collect::<Vec<_>>())
        .bind(notices.iter().map(|notice| millis(notice.lifetime)).collect::<Vec<_>>())
        .execute(&mut *raw)
        .await
        .map_err(Trouble::working)?;
    // What another gateway puts up again at this moment is left to it.
    let take_down = "DELETE FROM tollgate_notices WHERE key IN (SELECT key FROM tollgate_notices \
                     WHERE until < clock_timestamp() FOR UPDATE SKIP LOCKED)";
    sqlx::query(take_down).execute(&mut *raw).await.map_err(Trouble::working)?;
    connection.commit(true).await.map_err(Trouble::committing)
}

pub(super) async fn read(connection: &mut Connection) -> Result<Vec<Notice>, Trouble> {
    let select = "SELECT key, text, extract(epoch FROM until - clock_timestamp())::float8 FROM tollgate_notices \
                  WHERE until > clock_timestamp() ORDER BY until DESC LIMIT $1";
    let found = sqlx::query(select).bind(NOTICES_MAX).fetch_all(&mut connection.raw).await;
    let read = |row: &PgRow| {
        Ok(Notice {
            key: B256::from(row.try_get::<[u8; 32], _>(0)?),
            text: row.try_get(1)?,
            lifetime: Duration::try_from_secs_f64(row.try_get(2)?).unwrap_or_default(),
        })
    };
    found.and_then(|rows| rows.iter().map(read).collect()).map_err(Trouble::working)
}
