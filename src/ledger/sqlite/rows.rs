//! Records as rows.

use std::str::FromStr;
use std::sync::LazyLock;

use alloy_primitives::B256;
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::super::{GatewayId, Particulars, PaymentRecord, PaymentState, Redelivery};
use super::fault::Fault;
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::Version;

/// Columns in the order [`record`] reads them: first those that stay as they are while a claim lives,
/// but for payer and facilitator, which settlement may make known.
pub(super) const COLUMNS: &str = "id, attempt, payer, network, asset, amount, pay_to, scheme, version, route, method, \
    resource, facilitator, expires, request_hash, repeatable, identifier, redelivery_seconds, redelivery_tries, \
    claimed_at, state, unique_transaction, response, transaction_id, reason, deliveries, owner, grant_number, tries, \
    tried_at, next_try, settling_at, settled_at, delivered_at, changed_at";
/// How many they are.
const COLUMN_COUNT: usize = 35;

static SELECT: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT {COLUMNS} FROM payments INDEXED BY by_id WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1"
    )
});
static INSERT: LazyLock<String> = LazyLock::new(|| {
    let values: Vec<String> = (1..=COLUMN_COUNT).map(|number| format!("?{number}")).collect();
    format!("INSERT INTO payments ({COLUMNS}) VALUES ({})", values.join(", "))
});
const UPDATE: &str = "UPDATE payments INDEXED BY by_id SET state = ?3, unique_transaction = ?4, response = ?5, transaction_id = ?6, \
    reason = ?7, deliveries = ?8, owner = ?9, grant_number = ?10, tries = ?11, tried_at = ?12, next_try = ?13, \
    settling_at = ?14, settled_at = ?15, delivered_at = ?16, changed_at = ?17 \
    WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1 AND attempt = ?2";
/// Apart from the others, because writing the payer writes indexes.
const UPDATE_NAMES: &str = "UPDATE payments INDEXED BY by_id SET payer = ?3, facilitator = ?4 \
    WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1 AND attempt = ?2";
const DELETE: &str =
    "DELETE FROM payments INDEXED BY by_id WHERE substr(id, 1, 8) = substr(?1, 1, 8) AND id = ?1";

/// What there was before a step, as far as writing its record depends on it.
#[derive(Debug, Clone)]
pub(super) struct Before {
    id: PaymentId,
    attempt: u32,
    payer: Option<String>,
    facilitator: String,
    has_request: bool,
}

impl Before {
    pub(super) fn of(record: &PaymentRecord) -> Self {
        Self {
            id: record.id,
            attempt: record.attempt,
            payer: record.particulars.payer.clone(),
            facilitator: record.particulars.facilitator.clone(),
            has_request: record.request.is_some(),
        }
    }

    pub(super) const fn id(&self) -> PaymentId {
        self.id
    }
}

/// The record of a payment.
pub(super) fn load(connection: &Connection, id: PaymentId) -> Result<Option<PaymentRecord>, Fault> {
    let mut statement = connection.prepare_cached(&SELECT)?;
    let mut rows = statement.query(params![id.0.as_slice()])?;
    match rows.next()? {
        Some(row) => complete(connection, record(row)?).map(Some),
        None => Ok(None),
    }
}

/// The records a statement finds.
pub(super) fn load_all(
    connection: &Connection,
    sql: &str,
    parameters: &[&dyn rusqlite::ToSql],
) -> Result<Vec<PaymentRecord>, Fault> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(row)?);
    }
    records.into_iter().map(|record| complete(connection, record)).collect()
}

/// Adds what is in the side table.
fn complete(connection: &Connection, mut record: PaymentRecord) -> Result<PaymentRecord, Fault> {
    if matches!(record.state, PaymentState::Settling | PaymentState::Unresolved) {
        let mut statement = connection.prepare_cached("SELECT request FROM requests WHERE id = ?1")?;
        record.request = statement.query_row(params![record.id.0.as_slice()], |row| row.get(0)).optional()?;
    }
    Ok(record)
}

/// Writes a record in place of the one that was there.
pub(super) fn put(
    connection: &Connection,
    record: &PaymentRecord,
    before: Option<Before>,
) -> Result<(), Fault> {
    match &before {
        Some(before) if before.attempt == record.attempt => {
            update(connection, record)?;
            let theirs = &record.particulars;
            if (&before.payer, &before.facilitator) != (&theirs.payer, &theirs.facilitator) {
                let names = params![record.id.0.as_slice(), record.attempt, theirs.payer, theirs.facilitator];
                connection.prepare_cached(UPDATE_NAMES)?.execute(names)?;
            }
        }
        Some(_) => {
            // A new claim of a payment that was given back: its row goes to the end, where rows of its
            // time are.
            delete(connection, record.id)?;
            insert(connection, record)?;
        }
        None => insert(connection, record)?,
    }
    let id = record.id.0.as_slice();
    match (before.is_some_and(|before| before.has_request), &record.request) {
        (false, Some(request)) => {
            let mut statement =
                connection.prepare_cached("INSERT OR REPLACE INTO requests (id, request) VALUES (?1, ?2)")?;
            statement.execute(params![id, request])?;
        }
        (true, None) => {
            connection.prepare_cached("DELETE FROM requests WHERE id = ?1")?.execute(params![id])?;
        }
        (true, Some(_)) | (false, None) => {}
    }
    Ok(())
}

/// Removes a record.
pub(super) fn delete(connection: &Connection, id: PaymentId) -> Result<(), Fault> {
    let id = id.0.as_slice();
    connection.prepare_cached(DELETE)?.execute(params![id])?;
    connection.prepare_cached("DELETE FROM requests WHERE id = ?1")?.execute(params![id])?;
    Ok(())
}

fn insert(connection: &Connection, record: &PaymentRecord) -> Result<(), Fault> {
    let theirs = &record.particulars;
    connection.prepare_cached(&INSERT)?.execute(params![
        record.id.0.as_slice(),
        record.attempt,
        theirs.payer,
        theirs.network.as_str(),
        theirs.asset,
        theirs.amount.to_string(),
        theirs.pay_to,
        theirs.scheme,
        theirs.version.number(),
        theirs.route,
        theirs.method,
        theirs.resource,
        theirs.facilitator,
        optional_seconds(record.expires),
        record.request_hash.as_slice(),
        record.repeatable,
        record.identifier.as_ref().map(alloy_primitives::FixedBytes::as_slice),
        seconds(UnixSeconds(record.redelivery.window_seconds)),
        record.redelivery.tries,
        seconds(record.claimed_at),
        record.state.as_str(),
        record.unique_transaction,
        response(record)?,
        record.transaction,
        record.reason,
        record.deliveries,
        record.owner.map(|owner| owner.0),
        record.grant.cast_signed(),
        record.tries,
        optional_seconds(record.tried_at),
        optional_seconds(record.next_try),
        optional_seconds(record.settling_at),
        optional_seconds(record.settled_at),
        optional_seconds(record.delivered_at),
        seconds(record.changed_at),
    ])?;
    Ok(())
}

fn update(connection: &Connection, record: &PaymentRecord) -> Result<(), Fault> {
    let changed = connection.prepare_cached(UPDATE)?.execute(params![
        record.id.0.as_slice(),
        record.attempt,
        record.state.as_str(),
        record.unique_transaction,
        response(record)?,
        record.transaction,
        record.reason,
        record.deliveries,
        record.owner.map(|owner| owner.0),
        record.grant.cast_signed(),
        record.tries,
        optional_seconds(record.tried_at),
        optional_seconds(record.next_try),
        optional_seconds(record.settling_at),
        optional_seconds(record.settled_at),
        optional_seconds(record.delivered_at),
        seconds(record.changed_at),
    ])?;
    if changed == 1 {
        Ok(())
    } else {
        Err(Fault::Damaged(format!("{changed} rows of payment {}", record.id)))
    }
}

fn response(record: &PaymentRecord) -> Result<Option<String>, Fault> {
    let text = record.response.as_ref().map(serde_json::to_string).transpose();
    text.map_err(|error| Fault::Damaged(format!("the settlement's answer: {error}")))
}

/// Seconds as SQLite's signed integers hold them. What lies beyond is as good as never.
pub(super) fn seconds(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

fn optional_seconds(time: Option<UnixSeconds>) -> Option<i64> {
    time.map(seconds)
}

/// Reads a row of [`COLUMNS`], without what is in the side table.
fn record(row: &Row<'_>) -> Result<PaymentRecord, Fault> {
    let mut cells = Cells { row, index: 0 };
    let id = PaymentId(cells.hash()?);
    let attempt = cells.next()?;
    let particulars = Particulars {
        payer: cells.next()?,
        network: cells.parsed()?,
        asset: cells.next()?,
        amount: cells.parsed()?,
        pay_to: cells.next()?,
        scheme: cells.next()?,
        version: cells.version()?,
        route: cells.next()?,
        method: cells.next()?,
        resource: cells.next()?,
        facilitator: cells.next()?,
    };
    Ok(PaymentRecord {
        id,
        attempt,
        particulars,
        expires: cells.optional_time()?,
        request_hash: cells.hash()?,
        repeatable: cells.next()?,
        identifier: cells.optional_hash()?,
        redelivery: Redelivery { window_seconds: cells.time()?.0, tries: cells.next()? },
        claimed_at: cells.time()?,
        state: cells.parsed()?,
        unique_transaction: cells.next()?,
        response: cells.json()?,
        transaction: cells.next()?,
        reason: cells.next()?,
        deliveries: cells.next()?,
        owner: cells.next::<Option<i64>>()?.map(GatewayId),
        grant: cells.next::<i64>()?.cast_unsigned(),
        tries: cells.next()?,
        tried_at: cells.optional_time()?,
        next_try: cells.optional_time()?,
        settling_at: cells.optional_time()?,
        settled_at: cells.optional_time()?,
        delivered_at: cells.optional_time()?,
        changed_at: cells.time()?,
        request: None,
    })
}

/// The cells of a row, one after the other.
struct Cells<'row, 'statement> {
    row: &'row Row<'statement>,
    index: usize,
}

impl Cells<'_, '_> {
    fn next<T: FromSql>(&mut self) -> Result<T, Fault> {
        let index = self.index;
        self.index += 1;
        self.row.get(index).map_err(|error| damaged(index, &error))
    }

    fn parsed<T: FromStr>(&mut self) -> Result<T, Fault> {
        let index = self.index;
        self.next::<String>()?.parse().map_err(|_| damaged(index, &"unknown value"))
    }

    fn hash(&mut self) -> Result<B256, Fault> {
        let index = self.index;
        self.optional_hash()?.ok_or_else(|| damaged(index, &"missing"))
    }

    fn optional_hash(&mut self) -> Result<Option<B256>, Fault> {
        let index = self.index;
        let bytes = self.next::<Option<Vec<u8>>>()?;
        bytes
            .map(|bytes| B256::try_from(bytes.as_slice()).map_err(|error| damaged(index, &error)))
            .transpose()
    }

    fn time(&mut self) -> Result<UnixSeconds, Fault> {
        let index = self.index;
        self.optional_time()?.ok_or_else(|| damaged(index, &"missing"))
    }

    fn optional_time(&mut self) -> Result<Option<UnixSeconds>, Fault> {
        let index = self.index;
        let number = self.next::<Option<i64>>()?;
        number
            .map(|number| u64::try_from(number).map(UnixSeconds).map_err(|error| damaged(index, &error)))
            .transpose()
    }

    fn version(&mut self) -> Result<Version, Fault> {
        let index = self.index;
        match self.next::<i64>()? {
            1 => Ok(Version::V1),
            2 => Ok(Version::V2),
            _ => Err(damaged(index, &"unknown value")),
        }
    }

    fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, Fault> {
        let index = self.index;
        let text = self.next::<Option<String>>()?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| damaged(index, &error))).transpose()
    }
}

fn damaged(index: usize, cause: &dyn std::fmt::Display) -> Fault {
    let name = COLUMNS.split(',').nth(index).unwrap_or_default().trim();
    Fault::Damaged(format!("{name}: {cause}"))
}
