//! Looking things up, beside the writer: searches, pages, counts.

use rusqlite::types::Value;
use rusqlite::{Connection, ToSql, params};

use super::super::{Counts, EXPIRY_GRACE_SECONDS, Filter, PaymentRecord, PaymentState};
use super::fault::Fault;
use super::rows::{self, COLUMNS, seconds};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;

/// The states `by_state` has, in the words of its definition.
const IN_BY_STATE: &str = "state IN ('settled', 'unresolved', 'declined', 'released')";

/// How long a part of `by_payer` is, in seconds; the schema has the same number.
const PART_SECONDS: i64 = 10_800;

/// The record of a payment.
pub(super) fn get(connection: &Connection, id: PaymentId) -> Result<Option<PaymentRecord>, Fault> {
    // A record and what is beside it are of one moment.
    let snapshot = connection.unchecked_transaction()?;
    rows::load(&snapshot, id)
}

/// Payments by the beginning of their identities ([`Accounts::between`](super::super::Accounts::between)).
pub(super) fn between(
    connection: &Connection,
    first: PaymentId,
    last: PaymentId,
    limit: u32,
) -> Result<Vec<PaymentRecord>, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = format!("SELECT {COLUMNS} FROM payments WHERE id BETWEEN ? AND ? ORDER BY id LIMIT ?");
    let values: [&dyn ToSql; 3] = [&first.0.as_slice(), &last.0.as_slice(), &i64::from(limit)];
    rows::load_all(&snapshot, &sql, &values)
}

/// A page of the books ([`Accounts::list`](super::super::Accounts::list)).
pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    after: Option<(UnixSeconds, PaymentId)>,
    limit: u32,
) -> Result<Vec<PaymentRecord>, Fault> {
    // One moment for all queries.
    let snapshot = connection.unchecked_transaction()?;
    let rare = !filter.states.is_empty() && !filter.states.contains(&PaymentState::Delivered);
    if filter.payer.is_none() && rare {
        // Each state is found in order by its own part of an index; together they are sorted here.
        let mut found = Vec::new();
        for state in PaymentState::ALL.into_iter().filter(|state| filter.states.contains(state)) {
            found.extend(page(&snapshot, &Query::of_state(state).narrowed(filter, after), limit)?);
        }
        found.sort_by_key(|record| (record.claimed_at, record.id));
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        return Ok(found);
    }
    if filter.payer.is_some() {
        return list_of_payer(&snapshot, filter, after, limit);
    }
    let index = if filter.route.is_some() { "by_route" } else { "by_time" };
    page(&snapshot, &Query::with(index, "true").in_states(filter).narrowed(filter, after), limit)
}

/// A page of one payer's payments: part by part of the index, skipping times without payments.
fn list_of_payer(
    connection: &Connection,
    filter: &Filter,
    after: Option<(UnixSeconds, PaymentId)>,
    limit: u32,
) -> Result<Vec<PaymentRecord>, Fault> {
    let mut next = connection
        .prepare_cached("SELECT min(claimed_at) FROM payments INDEXED BY by_time WHERE claimed_at >= ?1")?;
    let earliest = after.map(|(time, _)| time).max(filter.since).unwrap_or(UnixSeconds(0));
    let mut from = seconds(earliest);
    let mut found = Vec::new();
    while let Some(time) = next.query_row(params![from], |row| row.get::<_, Option<i64>>(0))? {
        let missing = limit.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        if missing == 0 || filter.until.is_some_and(|until| time >= seconds(until)) {
            break;
        }
        let part = time / PART_SECONDS;
        let mut query = Query::with("by_payer", "payer IS NOT NULL");
        query.and("claimed_at / 10800 = ?", [Value::from(part)]);
        found.extend(page(connection, &query.in_states(filter).narrowed(filter, after), missing)?);
        from = (part + 1).saturating_mul(PART_SECONDS);
    }
    Ok(found)
}

/// A search: conditions, and the values of their parameters in order.
struct Query {
    index: &'static str,
    conditions: Vec<String>,
    values: Vec<Value>,
}

impl Query {
    fn with(index: &'static str, condition: &str) -> Self {
        Self { index, conditions: vec![condition.to_owned()], values: Vec::new() }
    }

    /// Payments in one state other than delivered.
    fn of_state(state: PaymentState) -> Self {
        let mut query = match state {
            // These are always somebody's.
            PaymentState::Claimed | PaymentState::Settling => Self::with("held", "owner IS NOT NULL"),
            PaymentState::Settled
            | PaymentState::Unresolved
            | PaymentState::Declined
            | PaymentState::Released => Self::with("by_state", IN_BY_STATE),
            PaymentState::Delivered => Self::with("by_time", "true"),
        };
        // Literally, because an index of a part of the table is used only for what is known to be in it.
        query.conditions.push(format!("state = '{state}'"));
        query
    }

    fn in_states(mut self, filter: &Filter) -> Self {
        if !filter.states.is_empty() {
            let names: Vec<String> = filter.states.iter().map(|state| format!("'{state}'")).collect();
            self.conditions.push(format!("state IN ({})", names.join(", ")));
        }
        self
    }

    fn narrowed(mut self, filter: &Filter, after: Option<(UnixSeconds, PaymentId)>) -> Self {
        if let Some(payer) = &filter.payer {
            self.and("payer = ? COLLATE NOCASE", [Value::from(payer.clone())]);
        }
        if let Some(route) = &filter.route {
            self.and("route = ?", [Value::from(route.clone())]);
        }
        if let Some(since) = filter.since {
            self.and("claimed_at >= ?", [Value::from(seconds(since))]);
        }
        if let Some(until) = filter.until {
            self.and("claimed_at < ?", [Value::from(seconds(until))]);
        }
        if let Some((time, id)) = after {
            // The first condition lets the search begin at the right place of the index.
            let time = || Value::from(seconds(time));
            let id = Value::from(id.0.to_vec());
            self.and("claimed_at >= ? AND (claimed_at > ? OR id > ?)", [time(), time(), id]);
        }
        self
    }

    fn sql(&self) -> String {
        let Self { index, conditions, .. } = self;
        let conditions = conditions.join(" AND ");
        format!(
            "SELECT {COLUMNS} FROM payments INDEXED BY {index} WHERE {conditions} ORDER BY claimed_at, id LIMIT ?"
        )
    }

    fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }
}

fn page(connection: &Connection, query: &Query, limit: u32) -> Result<Vec<PaymentRecord>, Fault> {
    let limit = Value::from(i64::from(limit));
    let values = query.values.iter().chain([&limit]);
    let values: Vec<&dyn ToSql> = values.map(|value| value as &dyn ToSql).collect();
    rows::load_all(connection, &query.sql(), &values)
}

/// How much is held ([`Ledger::counts`](super::super::Ledger::counts)).
pub(super) fn counts(connection: &Connection) -> Result<Counts, Fault> {
    let snapshot = connection.unchecked_transaction()?;
    let number = |sql: &str| -> Result<u64, Fault> {
        let number: i64 = snapshot.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(number).unwrap_or(0))
    };
    let oldest: Option<i64> = snapshot
        .prepare_cached(
            "SELECT min(settling_at) FROM payments INDEXED BY unresolved_since WHERE state = 'unresolved'",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(Counts {
        claimed: number(
            "SELECT count(*) FROM payments INDEXED BY held WHERE owner IS NOT NULL AND state = 'claimed'",
        )?,
        settling: number(
            "SELECT count(*) FROM payments INDEXED BY held WHERE owner IS NOT NULL AND state = 'settling'",
        )?,
        unresolved: number(
            "SELECT count(*) FROM payments INDEXED BY unresolved_since WHERE state = 'unresolved'",
        )?,
        oldest_unresolved: oldest.and_then(|oldest| u64::try_from(oldest).ok()).map(UnixSeconds),
    })
}

/// Since when the ledger has kept account ([`Ledger::birth`](super::super::Ledger::birth)).
pub(super) fn birth(connection: &Connection) -> Result<UnixSeconds, Fault> {
    let at: i64 = connection.prepare_cached("SELECT at FROM birth")?.query_row([], |row| row.get(0))?;
    u64::try_from(at).map(UnixSeconds).map_err(|_| Fault::Damaged(format!("its birth: {at}")))
}

/// Where payments that may be forgotten are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// Money moved, and by now the payment could not be settled any more.
    Settled,
    /// Given back.
    Released,
    /// Refused.
    Declined,
}

impl Shelf {
    pub(super) const ALL: [Self; 3] = [Self::Settled, Self::Released, Self::Declined];

    // Each takes the latest time of a change, the latest expiry, and where the search before ended: time
    // of claim, expiry and number. In the order of an index, so that nothing is sorted.
    const fn sql(self) -> &'static str {
        match self {
            Self::Settled => {
                "SELECT claimed_at, expires, number, id FROM payments INDEXED BY by_time
                 WHERE claimed_at <= ?1 AND claimed_at >= ?3 AND expires <= ?2
                   AND (claimed_at, expires, number) > (?3, ?4, ?5)
                   AND state IN ('settled', 'delivered') AND owner IS NULL AND changed_at <= ?1
                 ORDER BY claimed_at, expires, number LIMIT ?6"
            }
            Self::Released => {
                "SELECT claimed_at, 0, number, id FROM payments INDEXED BY by_state
                 WHERE state = 'released' AND state IN ('settled', 'unresolved', 'declined', 'released')
                   AND claimed_at <= ?1 AND claimed_at >= ?3 AND ?2 IS NOT NULL
                   AND (claimed_at, 0, number) > (?3, ?4, ?5) AND changed_at <= ?1
                 ORDER BY claimed_at, number LIMIT ?6"
            }
            Self::Declined => {
                "SELECT claimed_at, 0, number, id FROM payments INDEXED BY by_state
                 WHERE state = 'declined' AND state IN ('settled', 'unresolved', 'declined', 'released')
                   AND claimed_at <= ?1 AND claimed_at >= ?3 AND ?2 IS NOT NULL
                   AND (claimed_at, 0, number) > (?3, ?4, ?5) AND changed_at <= ?1
                 ORDER BY claimed_at, number LIMIT ?6"
            }
        }
    }
}

/// Where a search for payments to forget stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bookmark {
    claimed_at: i64,
    expires: i64,
    number: i64,
}

impl Bookmark {
    /// Before everything.
    pub(super) const START: Self = Self { claimed_at: 0, expires: 0, number: 0 };
}

/// At most `limit` payments that look as if they may be forgotten, behind `after`. The writer decides.
pub(super) fn forgettable(
    connection: &Connection,
    shelf: Shelf,
    after: Bookmark,
    (retention_seconds, now): (u64, UnixSeconds),
    limit: u32,
) -> Result<Vec<(Bookmark, PaymentId)>, Fault> {
    let Some(changed) = now.0.checked_sub(retention_seconds) else { return Ok(Vec::new()) };
    let expired = now.0.saturating_sub(EXPIRY_GRACE_SECONDS);
    let mut statement = connection.prepare_cached(shelf.sql())?;
    let mut rows = statement.query(params![
        seconds(UnixSeconds(changed)),
        seconds(UnixSeconds(expired)),
        after.claimed_at,
        after.expires,
        after.number,
        limit,
    ])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let bookmark = Bookmark { claimed_at: row.get(0)?, expires: row.get(1)?, number: row.get(2)? };
        let id: Vec<u8> = row.get(3)?;
        let id = alloy_primitives::B256::try_from(id.as_slice())
            .map_err(|error| Fault::Damaged(format!("id: {error}")))?;
        found.push((bookmark, PaymentId(id)));
    }
    Ok(found)
}
