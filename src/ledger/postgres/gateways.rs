//! Everything that is no step: signs of life, what is due, what is old, and the books.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, Row as _};

use super::super::machine::{self, Moment};
use super::super::{
    Counts, EXPIRY_GRACE_SECONDS, Filter, GatewayId, LedgerError, PaymentRecord, PaymentState, TakenOver,
    Unresolved,
};
use super::database::Connection;
use super::lines::Lines;
use super::rows::{self, columns, seconds};
use super::trouble::Trouble;
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

/// Payments taken over, or forgotten, in one transaction.
const CHUNK: i64 = 500;

pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// One gateway's view of the books.
#[derive(Debug)]
pub(super) struct Books {
    lines: Arc<Lines>,
    me: GatewayId,
}

/// What a sign of life brings to light.
struct Pulse {
    /// For how long this gateway has watched the others without a break, in milliseconds.
    watched_ms: f64,
    /// The database's time, in seconds.
    now: i64,
}

impl Books {
    pub(super) fn new(lines: Lines, me: GatewayId) -> Self {
        Self { lines: Arc::new(lines), me }
    }

    fn limits(&self) -> super::Limits {
        self.lines.database.limits
    }

    pub(super) async fn get(&self, id: PaymentId) -> Result<Option<PaymentRecord>, LedgerError> {
        self.lines.run(self.limits().work, move |connection| Box::pin(get(connection, id))).await
    }

    pub(super) async fn between(
        &self,
        first: PaymentId,
        last: PaymentId,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let patience = self.limits().work;
        self.lines.run(patience, move |connection| Box::pin(between(connection, first, last, limit))).await
    }

    pub(super) async fn list(
        &self,
        filter: &Filter,
        after: Option<(UnixSeconds, PaymentId)>,
        limit: u32,
    ) -> Result<Vec<PaymentRecord>, LedgerError> {
        let page = self.limits().page;
        let work = Page { filter: filter.clone(), after, limit, patience: page };
        self.lines.run(page, move |connection| Box::pin(list(connection, work.clone()))).await
    }

    pub(super) async fn counts(&self) -> Result<Counts, LedgerError> {
        self.lines.run(self.limits().work, |connection| Box::pin(counts(connection))).await
    }

    pub(super) async fn birth(&self) -> Result<UnixSeconds, LedgerError> {
        self.lines.run(self.limits().work, |connection| Box::pin(birth(connection))).await
    }

    /// Shows that this gateway is alive, and takes over what others left behind.
    pub(super) async fn beat(&self, now: UnixSeconds) -> Result<TakenOver, LedgerError> {
        let (me, limits) = (self.me, self.limits());
        let pulse =
            self.lines.run(limits.work, move |connection| Box::pin(pulse(connection, me, limits))).await?;
        self.lines.database.heard_time(pulse.now);
        let mut taken = TakenOver::default();
        let now = self.lines.database.time(now);
        let watched = pulse.watched_ms;
        let mut is_all = watched < millis(limits.lease_min.min(limits.lease));
        while !is_all {
            let limit = limits.work + limits.commit;
            let work = self.lines.run(limit, move |connection| {
                Box::pin(take_over(connection, watched, millis(limits.lease), now))
            });
            let some;
            (some, is_all) = work.await?;
            taken.released += some.released;
            taken.unresolved += some.unresolved;
            taken.broken_off += some.broken_off;
        }
        Ok(taken)
    }

    pub(super) async fn due(
        &self,
        now: UnixSeconds,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<Unresolved>, LedgerError> {
        let moment = Moment { me: self.me, now: self.lines.database.time(now) };
        let patience = self.limits().work + self.limits().commit;
        self.lines.run(patience, move |connection| Box::pin(due(connection, moment, lease, limit))).await
    }

    /// Forgets what may be forgotten, a few at a time.
    pub(super) async fn forget(&self, retention_seconds: u64, now: UnixSeconds) -> Result<u64, LedgerError> {
        let now = self.lines.database.time(now);
        let patience = self.limits().work + self.limits().commit;
        let mut forgotten = 0;
        let mut after = (i64::MIN, [0; 32]);
        loop {
            let work = self
                .lines
                .run(patience, move |connection| Box::pin(forget(connection, retention_seconds, now, after)));
            let (count, last) = work.await?;
            forgotten += count;
            let Some(last) = last else { return Ok(forgotten) };
            after = last;
        }
    }
}

async fn get(connection: &mut Connection, id: PaymentId) -> Result<Option<PaymentRecord>, Trouble> {
    let select = concat!("SELECT ", columns!(), " FROM tollgate_payments WHERE id = $1");
    let found = sqlx::query(select).bind(id.0.0).fetch_optional(&mut connection.raw).await;
    found.map_err(Trouble::working)?.as_ref().map(rows::read).transpose()
}

async fn between(
    connection: &mut Connection,
    first: PaymentId,
    last: PaymentId,
    limit: u32,
) -> Result<Vec<PaymentRecord>, Trouble> {
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate_payments WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT $3"
    );
    let found = sqlx::query(select)
        .bind(first.0.0)
        .bind(last.0.0)
        .bind(i64::from(limit))
        .fetch_all(&mut connection.raw);
    found.await.map_err(Trouble::working)?.iter().map(rows::read).collect()
}

async fn pulse(connection: &mut Connection, me: GatewayId, limits: super::Limits) -> Result<Pulse, Trouble> {
    // Who was away for longer than another may be silent cannot tell who else was gone, and who just could
    // not reach the database: it begins to watch anew.
    let beat = "INSERT INTO tollgate_gateways AS known (id, since, seen, lease) \
                VALUES ($1, clock_timestamp(), clock_timestamp(), $2 * interval '1 ms') \
                ON CONFLICT (id) DO UPDATE SET seen = clock_timestamp(), lease = excluded.lease, \
                since = CASE WHEN known.seen < clock_timestamp() - $3 * interval '1 ms' \
                THEN clock_timestamp() ELSE known.since END \
                RETURNING (extract(epoch FROM clock_timestamp() - since) * 1000)::float8, \
                extract(epoch FROM clock_timestamp())::int8";
    let row = sqlx::query(beat)
        .bind(me.0)
        .bind(millis(limits.lease))
        .bind(millis(limits.lease_min.min(limits.lease)))
        .fetch_one(&mut connection.raw)
        .await;
    let read = |row: PgRow| Ok(Pulse { watched_ms: row.try_get(0)?, now: row.try_get(1)? });
    let pulse = row.and_then(read).map_err(Trouble::working)?;
    // What they held is found by its owner, whether that is listed or not.
    let tidy = "DELETE FROM tollgate_gateways WHERE seen < clock_timestamp() - interval '1 day'";
    sqlx::query(tidy).execute(&mut connection.raw).await.map_err(Trouble::working)?;
    Ok(pulse)
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Takes over some of what gateways held that are gone: each by its own promise, whatever this one's is,
/// once it was watched for as long as it may be silent. One that is not listed, which it never was or was
/// long ago, counts as gone after a time of this gateway's own.
async fn take_over(
    connection: &mut Connection,
    watched_ms: f64,
    lease_ms: f64,
    now: UnixSeconds,
) -> Result<(TakenOver, bool), Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    // Another gateway may be about the same; each takes what the other has not locked.
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate_payments WHERE owner IS NOT NULL AND coalesce((",
        "SELECT known.seen < clock_timestamp() - coalesce(known.lease, interval '10 s') ",
        "AND coalesce(known.lease, interval '10 s') <= $1 * interval '1 ms' ",
        "FROM tollgate_gateways AS known WHERE known.id = owner), $1 >= $2) ",
        "ORDER BY tollgate_payments.id LIMIT $3 FOR UPDATE OF tollgate_payments SKIP LOCKED"
    );
    let found = sqlx::query(select).bind(watched_ms).bind(lease_ms).bind(CHUNK).fetch_all(&mut *raw).await;
    let found = found.map_err(Trouble::working)?;
    let mut taken = TakenOver::default();
    let mut records = Vec::new();
    for row in &found {
        records.extend(machine::take_over(rows::read(row)?, now, &mut taken));
    }
    rows::update(raw, &records.iter().map(Box::as_ref).collect::<Vec<_>>()).await?;
    connection.commit(!records.is_empty()).await.map_err(Trouble::committing)?;
    Ok((taken, i64::try_from(found.len()).unwrap_or(i64::MAX) < CHUNK))
}

async fn due(
    connection: &mut Connection,
    moment: Moment,
    lease: Duration,
    limit: u32,
) -> Result<Vec<Unresolved>, Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate_payments WHERE state = 'unresolved' AND (next_try IS NULL OR next_try <= $1) ",
        "ORDER BY next_try NULLS FIRST, id LIMIT $2 FOR UPDATE SKIP LOCKED"
    );
    let found =
        sqlx::query(select).bind(seconds(moment.now)).bind(i64::from(limit)).fetch_all(&mut *raw).await;
    let (mut records, mut taken) = (Vec::new(), Vec::new());
    for row in &found.map_err(Trouble::working)? {
        if let Some((record, unresolved)) = machine::take(rows::read(row)?, lease, moment) {
            records.push(record);
            taken.push(unresolved);
        }
    }
    rows::update(raw, &records.iter().map(Box::as_ref).collect::<Vec<_>>()).await?;
    connection.commit(!taken.is_empty()).await.map_err(Trouble::committing)?;
    Ok(taken)
}

/// Looks at the next payments behind `after` and forgets those that may be; says how many, and where
/// it ended unless that was the end.
async fn forget(
    connection: &mut Connection,
    retention_seconds: u64,
    now: UnixSeconds,
    after: (i64, [u8; 32]),
) -> Result<(u64, Option<(i64, [u8; 32])>), Trouble> {
    let raw = &mut connection.raw;
    sqlx::raw_sql(BEGIN).execute(&mut *raw).await.map_err(Trouble::working)?;
    // Nothing is claimed after it last changed.
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate_payments WHERE (claimed_at, id) > ($1, $2) AND claimed_at <= $3 AND changed_at <= $3 ",
        "AND (state IN ('declined', 'released') ",
        "OR (state IN ('settled', 'delivered') AND owner IS NULL AND expires <= $4)) ",
        "ORDER BY claimed_at, id LIMIT $5 FOR UPDATE SKIP LOCKED"
    );
    let before = |ago: u64| {
        i64::try_from(now.0).unwrap_or(i64::MAX).saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))
    };
    let found = sqlx::query(select)
        .bind(after.0)
        .bind(after.1)
        .bind(before(retention_seconds))
        .bind(before(EXPIRY_GRACE_SECONDS))
        .bind(CHUNK)
        .fetch_all(&mut *raw)
        .await;
    let found = found.map_err(Trouble::working)?;
    let records: Vec<PaymentRecord> = found.iter().map(rows::read).collect::<Result<_, _>>()?;
    let forgettable = |record: &&PaymentRecord| machine::is_forgettable(record, retention_seconds, now);
    let ids: Vec<PaymentId> = records.iter().filter(forgettable).map(|record| record.id).collect();
    rows::delete(raw, &ids).await?;
    connection.commit(false).await.map_err(Trouble::committing)?;
    let is_all = i64::try_from(found.len()).unwrap_or(i64::MAX) < CHUNK;
    let last = records.last().map(|record| (seconds(record.claimed_at), record.id.0.0));
    Ok((u64::try_from(ids.len()).unwrap_or(u64::MAX), last.filter(|_| !is_all)))
}

/// A page of the books.
#[derive(Debug, Clone)]
struct Page {
    filter: Filter,
    after: Option<(UnixSeconds, PaymentId)>,
    limit: u32,
    patience: Duration,
}

async fn list(connection: &mut Connection, page: Page) -> Result<Vec<PaymentRecord>, Trouble> {
    let Page { filter, after, limit, patience } = page;
    let begin = format!("{BEGIN}; SET LOCAL statement_timeout = {}", patience.as_millis());
    let raw = &mut connection.raw;
    sqlx::raw_sql(AssertSqlSafe(begin)).execute(&mut *raw).await.map_err(Trouble::working)?;
    let select = concat!(
        "SELECT ",
        columns!(),
        " FROM tollgate_payments WHERE (claimed_at, id) > ($1, $2) ",
        "AND ($3 IS NULL OR claimed_at >= $3) AND ($4 IS NULL OR claimed_at < $4) ",
        "AND ($5 IS NULL OR route = $5) AND ($6 IS NULL OR lower(payer COLLATE \"C\") = $6) ",
        "AND (cardinality($7::text[]) = 0 OR state = ANY($7)) ORDER BY claimed_at, id LIMIT $8"
    );
    let after = after.map_or((i64::MIN, [0; 32]), |(time, id)| (seconds(time), id.0.0));
    let found = sqlx::query(select)
        .bind(after.0)
        .bind(after.1)
        .bind(filter.since.map(seconds))
        .bind(filter.until.map(seconds))
        .bind(filter.route.as_deref())
        .bind(filter.payer.as_ref().map(|payer| payer.to_ascii_lowercase()))
        .bind(filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
        .bind(i64::from(limit))
        // Its parameters decide which plan is good.
        .persistent(false)
        .fetch_all(&mut *raw)
        .await;
    let found = found.map_err(Trouble::working)?;
    connection.commit(false).await.map_err(Trouble::committing)?;
    found.iter().map(rows::read).collect()
}

async fn counts(connection: &mut Connection) -> Result<Counts, Trouble> {
    let select = "SELECT state, count(*), min(settling_at) FROM tollgate_payments \
                  WHERE state IN ('claimed', 'settling', 'unresolved') GROUP BY state";
    let found = sqlx::query(select).fetch_all(&mut connection.raw).await;
    found.and_then(|rows| read_counts(&rows)).map_err(Trouble::working)
}

async fn birth(connection: &mut Connection) -> Result<UnixSeconds, Trouble> {
    let row = sqlx::query("SELECT at FROM tollgate_birth").fetch_one(&mut connection.raw).await;
    let at: i64 = row.and_then(|row| row.try_get(0)).map_err(Trouble::working)?;
    // Of a time that cannot be, nothing is older than this ledger.
    Ok(UnixSeconds(u64::try_from(at).unwrap_or(u64::MAX)))
}

fn read_counts(rows: &[PgRow]) -> Result<Counts, sqlx::Error> {
    let mut counts = Counts::default();
    for row in rows {
        let state: &str = row.try_get(0)?;
        let count = u64::try_from(row.try_get::<i64, _>(1)?).unwrap_or(0);
        match state.parse() {
            Ok(PaymentState::Claimed) => counts.claimed = count,
            Ok(PaymentState::Settling) => counts.settling = count,
            Ok(PaymentState::Unresolved) => {
                let oldest: Option<i64> = row.try_get(2)?;
                counts.oldest_unresolved = oldest.and_then(|time| u64::try_from(time).ok()).map(UnixSeconds);
                counts.unresolved = count;
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(counts)
}
