//! What a gateway lets those that come after it know for a while, by its own clock.

use std::time::Duration;

use alloy_primitives::B256;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::{NOTICES_MAX, Notice, Posted};
use super::fault::Fault;
use super::rows::seconds;
use crate::clock::UnixSeconds;

pub(super) fn put_up(
    connection: &Connection,
    notices: &[Notice],
    lifetime: Duration,
    now: UnixSeconds,
) -> Result<(), Fault> {
    let mut put_up = connection.prepare_cached(
        "INSERT INTO notices (key, listed, until, text) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (key) DO UPDATE SET until = max(until, excluded.until)",
    )?;
    for notice in notices {
        put_up.execute(params![
            notice.key.as_slice(),
            notice.listed,
            seconds(now.plus(lifetime.as_secs())),
            notice.text
        ])?;
    }
    Ok(())
}

pub(super) fn leave_up(
    connection: &Connection,
    keys: &[B256],
    lifetime: Duration,
    now: UnixSeconds,
) -> Result<Vec<B256>, Fault> {
    let until = seconds(now.plus(lifetime.as_secs()));
    let mut leave_up =
        connection.prepare_cached("UPDATE notices SET until = max(until, ?2) WHERE key = ?1")?;
    let mut missing = Vec::new();
    for key in keys {
        if leave_up.execute(params![key.as_slice(), until])? == 0 {
            missing.push(*key);
        }
    }
    connection.prepare_cached("DELETE FROM notices WHERE until <= ?1")?.execute([seconds(now)])?;
    Ok(missing)
}

pub(super) fn posted(connection: &Connection, now: UnixSeconds) -> Result<Vec<Posted>, Fault> {
    let mut select = connection.prepare_cached(
        "SELECT key, until - ?1 FROM notices WHERE listed AND until > ?1 ORDER BY until DESC, key LIMIT ?2",
    )?;
    let mut rows = select.query(params![seconds(now), NOTICES_MAX])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: Vec<u8> = row.get(0)?;
        let key = B256::try_from(key.as_slice()).map_err(|error| Fault::Damaged(format!("key: {error}")))?;
        let left = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
        found.push(Posted { key, lifetime: Duration::from_secs(left) });
    }
    Ok(found)
}

pub(super) fn texts(
    connection: &Connection,
    keys: &[B256],
    now: UnixSeconds,
) -> Result<Vec<(B256, String)>, Fault> {
    let mut select = connection.prepare_cached("SELECT text FROM notices WHERE key = ?1 AND until > ?2")?;
    let mut found = Vec::new();
    for key in keys {
        let text = select.query_row(params![key.as_slice(), seconds(now)], |row| row.get(0)).optional()?;
        found.extend(text.map(|text| (*key, text)));
    }
    Ok(found)
}
