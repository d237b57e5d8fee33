//! Payments as rows.

use std::borrow::Cow;

use alloy_primitives::{B256, Keccak256};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Encode, PgConnection, Postgres, Row as _, Type};

use super::super::{GatewayId, Particulars, PaymentRecord, Redelivery};
use super::trouble::Trouble;
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::{AtomicAmount, Network, Version};

/// Columns in the order of [`read`].
macro_rules! columns {
    () => {
        "id, attempt, state, payer, network, asset, amount::text, pay_to, scheme, version, route, method, \
         resource, facilitator, expires, request_hash, repeatable, identifier, redelivery_seconds, \
         redelivery_tries, claimed_at, request, unique_transaction, response, transaction, reason, deliveries, \
         owner, grant_number, tries, tried_at, next_try, settling_at, settled_at, delivered_at, changed_at"
    };
}
pub(super) use columns;

const INSERT: &str = "
INSERT INTO tollgate_payments (
    id, attempt, payer, payer_key, network, asset, amount, pay_to, scheme, version, route, method, resource,
    facilitator, expires, request_hash, repeatable, identifier, redelivery_seconds, redelivery_tries, claimed_at,
    state, request, unique_transaction, response, transaction, transaction_key, reason, deliveries, owner, grant_number,
    tries, tried_at, next_try, settling_at, settled_at, delivered_at, changed_at)
SELECT
    id, attempt, payer, payer_key, network, asset, amount::numeric, pay_to, scheme, version, route, method, resource,
    facilitator, expires, request_hash, repeatable, identifier, redelivery_seconds, redelivery_tries, claimed_at,
    state, request, unique_transaction, response, transaction, transaction_key, reason, deliveries, owner, grant_number,
    tries, tried_at, next_try, settling_at, settled_at, delivered_at, changed_at
FROM unnest(
    $1::bytea[], $2::int8[], $3::text[], $4::int8[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
    $10::int2[], $11::text[], $12::text[], $13::text[], $14::text[], $15::int8[], $16::bytea[], $17::bool[],
    $18::bytea[], $19::int8[], $20::int8[], $21::int8[], $22::text[], $23::text[], $24::bool[], $25::text[],
    $26::text[], $27::int8[], $28::text[], $29::int8[], $30::int8[], $31::int8[], $32::int8[], $33::int8[],
    $34::int8[], $35::int8[], $36::int8[], $37::int8[], $38::int8[]
) AS new (
    id, attempt, payer, payer_key, network, asset, amount, pay_to, scheme, version, route, method, resource,
    facilitator, expires, request_hash, repeatable, identifier, redelivery_seconds, redelivery_tries, claimed_at,
    state, request, unique_transaction, response, transaction, transaction_key, reason, deliveries, owner, grant_number,
    tries, tried_at, next_try, settling_at, settled_at, delivered_at, changed_at)
ON CONFLICT (id) DO NOTHING";

const UPDATE: &str = "
UPDATE tollgate_payments AS old SET
    payer = new.payer, payer_key = new.payer_key, facilitator = new.facilitator,
    state = new.state, request = new.request, unique_transaction = new.unique_transaction,
    response = new.response, transaction = new.transaction, transaction_key = new.transaction_key,
    reason = new.reason, deliveries = new.deliveries, owner = new.owner,
    grant_number = new.grant_number, tries = new.tries, tried_at = new.tried_at, next_try = new.next_try, settling_at = new.settling_at,
    settled_at = new.settled_at, delivered_at = new.delivered_at, changed_at = new.changed_at
FROM unnest(
    $1::bytea[], $2::text[], $3::int8[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::text[], $9::text[],
    $10::int8[], $11::text[], $12::int8[], $13::int8[], $14::int8[], $15::int8[], $16::int8[], $17::int8[],
    $18::int8[], $19::int8[], $20::int8[], $21::int8[]
) AS new (
    id, payer, payer_key, facilitator, state, request, unique_transaction, response, transaction, transaction_key, reason, deliveries, owner,
    grant_number, tries, tried_at, next_try, settling_at, settled_at, delivered_at, changed_at)
WHERE old.id = new.id";

/// Writes payments that are not there; says how many were in truth not there. In the order of their
/// identities, so that gateways which write the same ones never wait for each other in a circle.
pub(super) async fn insert(
    connection: &mut PgConnection,
    records: &mut [&PaymentRecord],
) -> Result<usize, Trouble> {
    if records.is_empty() {
        return Ok(0);
    }
    records.sort_by_key(|record| record.id);
    let all = Rows { query: sqlx::query(INSERT), records };
    let query = all
        .column(|record| record.id.0.0)
        .column(|record| i64::from(record.attempt))
        .column(|record| record.particulars.payer.as_deref().map(text))
        .column(|record| payer_key(&record.particulars))
        .column(|record| record.particulars.network.as_str())
        .column(|record| text(&record.particulars.asset))
        .column(|record| record.particulars.amount.to_string())
        .column(|record| text(&record.particulars.pay_to))
        .column(|record| text(&record.particulars.scheme))
        .column(|record| i16::from(record.particulars.version.number()))
        .column(|record| text(&record.particulars.route))
        .column(|record| text(&record.particulars.method))
        .column(|record| text(&record.particulars.resource))
        .column(|record| text(&record.particulars.facilitator))
        .column(|record| record.expires.map(seconds))
        .column(|record| record.request_hash.0)
        .column(|record| record.repeatable)
        .column(|record| record.identifier.map(|identifier| identifier.0))
        .column(|record| seconds(UnixSeconds(record.redelivery.window_seconds)))
        .column(|record| i64::from(record.redelivery.tries))
        .column(|record| seconds(record.claimed_at));
    let query = progress(query)?;
    let done = query.execute(connection).await.map_err(Trouble::working)?;
    Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
}

/// Writes how far payments are that are there, each in the attempt it is in.
pub(super) async fn update(connection: &mut PgConnection, records: &[&PaymentRecord]) -> Result<(), Trouble> {
    if records.is_empty() {
        return Ok(());
    }
    let all = Rows { query: sqlx::query(UPDATE), records };
    let query = all
        .column(|record| record.id.0.0)
        .column(|record| record.particulars.payer.as_deref().map(text))
        .column(|record| payer_key(&record.particulars))
        .column(|record| text(&record.particulars.facilitator));
    let query = progress(query)?;
    let done = query.execute(connection).await.map_err(Trouble::working)?;
    if usize::try_from(done.rows_affected()) == Ok(records.len()) {
        return Ok(());
    }
    Err(Trouble::again("a payment that was locked is gone"))
}

/// Deletes payments.
pub(super) async fn delete(connection: &mut PgConnection, ids: &[PaymentId]) -> Result<(), Trouble> {
    if ids.is_empty() {
        return Ok(());
    }
    let query = sqlx::query("DELETE FROM tollgate_payments WHERE id = ANY($1)").bind(keys(ids));
    query.execute(connection).await.map(drop).map_err(Trouble::working)
}

/// Identities as the database takes them.
pub(super) fn keys(ids: &[PaymentId]) -> Vec<[u8; 32]> {
    ids.iter().map(|id| id.0.0).collect()
}

/// The columns that change during an attempt.
fn progress(rows: Rows<'_>) -> Result<Query<'_, Postgres, PgArguments>, Trouble> {
    let encode = |record: &PaymentRecord| record.response.as_ref().map(serde_json::to_string).transpose();
    let responses: Result<Vec<Option<String>>, _> =
        rows.records.iter().map(|record| encode(record)).collect();
    let responses =
        responses.map_err(|error| Trouble::data(format!("an answer cannot be written: {error}")))?;
    let mut rows = rows
        .column(|record| record.state.as_str())
        .column(|record| record.request.as_deref().map(text))
        .column(|record| record.unique_transaction);
    rows.query = rows.query.bind(responses);
    let rows = rows
        .column(|record| text(&record.transaction))
        .column(transaction_key_of)
        .column(|record| text(&record.reason))
        .column(|record| i64::from(record.deliveries))
        .column(|record| record.owner.map(|owner| owner.0))
        .column(|record| record.grant.cast_signed())
        .column(|record| i64::from(record.tries))
        .column(|record| record.tried_at.map(seconds))
        .column(|record| record.next_try.map(seconds))
        .column(|record| record.settling_at.map(seconds))
        .column(|record| record.settled_at.map(seconds))
        .column(|record| record.delivered_at.map(seconds))
        .column(|record| seconds(record.changed_at));
    Ok(rows.query)
}

/// A statement that takes one array for each column.
struct Rows<'r> {
    query: Query<'r, Postgres, PgArguments>,
    records: &'r [&'r PaymentRecord],
}

impl<'r> Rows<'r> {
    fn column<T>(mut self, value: impl Fn(&'r PaymentRecord) -> T) -> Self
    where
        Vec<T>: Encode<'r, Postgres> + Type<Postgres>,
    {
        let values: Vec<T> = self.records.iter().map(|record| value(record)).collect();
        self.query = self.query.bind(values);
        self
    }
}

/// The database's texts hold every character but one.
fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Times beyond what the database counts are as good as the last one it does.
pub(super) fn seconds(time: UnixSeconds) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// A number that stands for some texts: an index and a lock need no more. What has the same number is
/// compared in full.
pub(super) fn number_of(kind: &str, parts: &[&[u8]]) -> i64 {
    let mut hasher = Keccak256::new();
    for part in [kind.as_bytes()].iter().chain(parts) {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    let mut number = [0; 8];
    number.copy_from_slice(&hasher.finalize()[..8]);
    i64::from_be_bytes(number)
}

/// The number of the payer on the network; `None`: it is not known who pays.
pub(super) fn payer_key(particulars: &Particulars) -> Option<i64> {
    particulars.payer.as_deref().map(|payer| key_of_payer(&particulars.network, payer))
}

/// The number of a payer on a network.
pub(super) fn key_of_payer(network: &Network, payer: &str) -> i64 {
    number_of("payer", &[network.as_str().as_bytes(), payer.as_bytes()])
}

/// The number of a transaction.
pub(super) fn transaction_key(transaction: &str) -> i64 {
    number_of("transaction", &[transaction.as_bytes()])
}

fn transaction_key_of(record: &PaymentRecord) -> Option<i64> {
    let counts = record.unique_transaction && !record.transaction.is_empty();
    counts.then(|| transaction_key(&record.transaction))
}

/// Reads a row of [`columns`].
pub(super) fn read(row: &PgRow) -> Result<PaymentRecord, Trouble> {
    read_row(row).map_err(|error| Trouble::data(format!("a payment in the ledger cannot be read: {error}")))
}

fn read_row(row: &PgRow) -> Result<PaymentRecord, sqlx::Error> {
    let mut next = Columns { row, index: 0 };
    Ok(PaymentRecord {
        id: PaymentId(next.hash()?),
        attempt: next.count()?,
        state: next.parsed()?,
        particulars: Particulars {
            payer: next.get()?,
            network: next.parsed::<Network>()?,
            asset: next.get()?,
            amount: next.parsed::<AtomicAmount>()?,
            pay_to: next.get()?,
            scheme: next.get()?,
            version: if next.get::<i16>()? == 1 { Version::V1 } else { Version::V2 },
            route: next.get()?,
            method: next.get()?,
            resource: next.get()?,
            facilitator: next.get()?,
        },
        expires: next.time()?,
        request_hash: next.hash()?,
        repeatable: next.get()?,
        identifier: next.get::<Option<[u8; 32]>>()?.map(B256::from),
        redelivery: Redelivery {
            window_seconds: next.time()?.map_or(0, |window| window.0),
            tries: next.count()?,
        },
        claimed_at: next.time()?.unwrap_or(UnixSeconds(0)),
        request: next.get()?,
        unique_transaction: next.get()?,
        response: next.response()?,
        transaction: next.get()?,
        reason: next.get()?,
        deliveries: next.count()?,
        owner: next.get::<Option<i64>>()?.map(GatewayId),
        grant: next.get::<i64>()?.cast_unsigned(),
        tries: next.count()?,
        tried_at: next.time()?,
        next_try: next.time()?,
        settling_at: next.time()?,
        settled_at: next.time()?,
        delivered_at: next.time()?,
        changed_at: next.time()?.unwrap_or(UnixSeconds(0)),
    })
}

/// The columns of a row, one after the other.
struct Columns<'r> {
    row: &'r PgRow,
    index: usize,
}

impl<'r> Columns<'r> {
    fn get<T: sqlx::Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, sqlx::Error> {
        self.index += 1;
        self.row.try_get(self.index - 1)
    }

    fn hash(&mut self) -> Result<B256, sqlx::Error> {
        self.get::<[u8; 32]>().map(B256::from)
    }

    fn time(&mut self) -> Result<Option<UnixSeconds>, sqlx::Error> {
        Ok(self.get::<Option<i64>>()?.map(|time| UnixSeconds(u64::try_from(time).unwrap_or(0))))
    }

    fn count(&mut self) -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(self.get::<i64>()?).unwrap_or(u32::MAX))
    }

    fn parsed<T: std::str::FromStr>(&mut self) -> Result<T, sqlx::Error>
    where
        T::Err: std::fmt::Display,
    {
        let text: &str = self.get()?;
        text.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.to_string().into()))
    }

    fn response<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<Box<T>>, sqlx::Error> {
        let text: Option<&str> = self.get()?;
        let parse = |text| serde_json::from_str(text).map(Box::new);
        text.map(parse).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
    }
}
