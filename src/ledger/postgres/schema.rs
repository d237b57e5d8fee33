//! The tables, and how they came to be: every version's changes, applied in order at start.

use sqlx::{PgConnection, Row as _};

use super::trouble::Trouble;

/// Key of the advisory lock under which one gateway at a time changes the schema.
const LOCK: i64 = 0x746f_6c6c_6761_7465;

/// What each version changes; the first is version 1. Released ones are never edited. A gateway of the
/// version before may still run when one is applied.
pub(super) const MIGRATIONS: &[&str] = &["
CREATE TABLE tollgate_payments (
    id bytea PRIMARY KEY,
    attempt int8 NOT NULL,
    state text NOT NULL,
    payer text,
    payer_key int8,
    network text NOT NULL,
    asset text NOT NULL,
    amount numeric(78, 0) NOT NULL,
    pay_to text NOT NULL,
    scheme text NOT NULL,
    version int2 NOT NULL,
    route text NOT NULL,
    method text NOT NULL,
    resource text NOT NULL,
    facilitator text NOT NULL,
    expires int8,
    request_hash bytea NOT NULL,
    repeatable bool NOT NULL,
    identifier bytea,
    redelivery_seconds int8 NOT NULL,
    redelivery_tries int8 NOT NULL,
    claimed_at int8 NOT NULL,
    request text,
    unique_transaction bool NOT NULL,
    response text,
    transaction text NOT NULL,
    transaction_key int8,
    reason text NOT NULL,
    deliveries int8 NOT NULL,
    owner int8,
    grant_number int8 NOT NULL,
    tries int8 NOT NULL,
    tried_at int8,
    next_try int8,
    settling_at int8,
    settled_at int8,
    delivered_at int8,
    changed_at int8 NOT NULL
);
COMMENT ON TABLE tollgate_payments IS 'Payments taken by tollgate; amounts in atomic units, times in seconds since 1970';
CREATE INDEX tollgate_payments_in_order ON tollgate_payments (claimed_at, id);
CREATE INDEX tollgate_payments_under_way ON tollgate_payments (state, next_try NULLS FIRST, id)
    WHERE state IN ('claimed', 'settling', 'unresolved');
CREATE INDEX tollgate_payments_owned ON tollgate_payments (owner) WHERE owner IS NOT NULL;
CREATE INDEX tollgate_payments_identified ON tollgate_payments (identifier) WHERE identifier IS NOT NULL;
CREATE INDEX tollgate_payments_pledged ON tollgate_payments (payer_key)
    WHERE payer_key IS NOT NULL AND state IN ('claimed', 'settling', 'unresolved');
CREATE INDEX tollgate_payments_transactions ON tollgate_payments (transaction_key)
    WHERE transaction_key IS NOT NULL;
CREATE TABLE tollgate_gateways (
    id int8 PRIMARY KEY,
    since timestamptz NOT NULL,
    seen timestamptz NOT NULL
);
COMMENT ON TABLE tollgate_gateways IS 'Gateways that use this ledger, and when they last showed that they are alive';
CREATE TABLE tollgate_notices (
    key bytea PRIMARY KEY,
    text text NOT NULL,
    until timestamptz NOT NULL
);
COMMENT ON TABLE tollgate_notices IS 'What gateways let each other know for a while';
", "
ALTER TABLE tollgate_notices ADD COLUMN listed bool NOT NULL DEFAULT true;
"];

/// The version this gateway works with.
const VERSION: i32 = 2;

/// Creates what is missing, for one gateway at a time.
pub(super) async fn bring_up_to_date(connection: &mut PgConnection) -> Result<(), Trouble> {
    let worked = Trouble::working;
    // Waiting for another gateway's changes may take longer than a statement usually may.
    let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
                 SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0";
    sqlx::raw_sql(begin).execute(&mut *connection).await.map_err(worked)?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *connection)
        .await
        .map_err(worked)?;
    if !exists(connection).await? {
        let create =
            "CREATE TABLE tollgate_schema (version int4 PRIMARY KEY, applied_at timestamptz NOT NULL)";
        sqlx::raw_sql(create).execute(&mut *connection).await.map_err(needs_permission)?;
    }
    let found = version(connection).await?;
    let known = i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX);
    refuse_newer(found)?;
    for (version, migration) in (1..=known).zip(MIGRATIONS) {
        if version <= found {
            continue;
        }
        sqlx::raw_sql(*migration).execute(&mut *connection).await.map_err(needs_permission)?;
        sqlx::query("INSERT INTO tollgate_schema (version, applied_at) VALUES ($1, clock_timestamp())")
            .bind(version)
            .execute(&mut *connection)
            .await
            .map_err(worked)?;
        tracing::info!(version, "the ledger's tables were brought up to date");
    }
    sqlx::raw_sql("COMMIT").execute(&mut *connection).await.map_err(worked)?;
    Ok(())
}

/// Whether the tables are there and of this version.
pub(super) async fn check(connection: &mut PgConnection) -> Result<(), Trouble> {
    let found = if exists(connection).await? { version(connection).await? } else { 0 };
    refuse_newer(found)?;
    if found == 0 {
        return Err(Trouble::hopeless("there is no ledger in this database"));
    }
    if found < VERSION {
        let words = format!(
            "the ledger has version {found}; a gateway of version {VERSION} brings it up to date at its start"
        );
        return Err(Trouble::hopeless(words));
    }
    Ok(())
}

fn refuse_newer(found: i32) -> Result<(), Trouble> {
    if found <= VERSION {
        return Ok(());
    }
    Err(Trouble::hopeless(format!(
        "the ledger has version {found}, written by a newer tollgate; this one knows versions up to {VERSION}"
    )))
}

async fn exists(connection: &mut PgConnection) -> Result<bool, Trouble> {
    let row = sqlx::query("SELECT to_regclass('tollgate_schema') IS NOT NULL").fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(Trouble::working)
}

async fn version(connection: &mut PgConnection) -> Result<i32, Trouble> {
    let row =
        sqlx::query("SELECT coalesce(max(version), 0) FROM tollgate_schema").fetch_one(connection).await;
    row.and_then(|row| row.try_get(0)).map_err(Trouble::working)
}

/// Missing rights do not come by waiting.
fn needs_permission(error: sqlx::Error) -> Trouble {
    let trouble = Trouble::working(error);
    if trouble.cause().starts_with("the database's user may not") {
        return Trouble::hopeless(trouble.cause().to_owned());
    }
    trouble
}
