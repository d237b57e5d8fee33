//! The tables, and how a file of an older version is brought up to date.

use rusqlite::Connection;

use super::fault::Fault;

/// Marks a file as a ledger of ours (`PRAGMA application_id`): "tgLd" in ASCII.
pub(super) const APPLICATION_ID: i64 = 0x7467_4c64;

/// The schema, as steps from nothing to the present; `PRAGMA user_version` says how many of them a
/// file has. A step that was ever released is never changed.
pub(super) const MIGRATIONS: &[&str] = &[FIRST, NOTICES, BIRTH];

// However many payments are remembered, a new one goes to the end of the table, and near the ends of
// the indexes over all payments: to the end of `by_time`, of its route's part of `by_route`, and to the
// last part of `by_payer`, which is in parts of three hours. Only `by_id` is written in random places,
// so it has no more than the first bytes of identities, which tell them apart. What a claim depends on
// is in `by_id` and in indexes of what is in flight, which stay small.
//
// Amounts are decimal text, because they have up to 256 bits; hashes are 32 bytes; times are seconds
// since 1970.
const FIRST: &str = "
CREATE TABLE payments (
    number             INTEGER PRIMARY KEY,
    id                 BLOB    NOT NULL,
    attempt            INTEGER NOT NULL,
    payer              TEXT,
    network            TEXT    NOT NULL,
    asset              TEXT    NOT NULL,
    amount             TEXT    NOT NULL,
    pay_to             TEXT    NOT NULL,
    scheme             TEXT    NOT NULL,
    version            INTEGER NOT NULL,
    route              TEXT    NOT NULL,
    method             TEXT    NOT NULL,
    resource           TEXT    NOT NULL,
    facilitator        TEXT    NOT NULL,
    expires            INTEGER,
    request_hash       BLOB    NOT NULL,
    repeatable         INTEGER NOT NULL,
    identifier         BLOB,
    redelivery_seconds INTEGER NOT NULL,
    redelivery_tries   INTEGER NOT NULL,
    claimed_at         INTEGER NOT NULL,
    state              TEXT    NOT NULL,
    unique_transaction INTEGER NOT NULL,
    response           TEXT,
    transaction_id     TEXT    NOT NULL,
    reason             TEXT    NOT NULL,
    deliveries         INTEGER NOT NULL,
    owner              INTEGER,
    grant_number       INTEGER NOT NULL,
    tries              INTEGER NOT NULL,
    tried_at           INTEGER,
    next_try           INTEGER,
    settling_at        INTEGER,
    settled_at         INTEGER,
    delivered_at       INTEGER,
    changed_at         INTEGER NOT NULL
) STRICT;

-- What facilitators were asked, while the outcome is not known.
CREATE TABLE requests (
    id      BLOB PRIMARY KEY,
    request TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX by_id ON payments (substr(id, 1, 8));

-- For searching the books, page by page.
CREATE INDEX by_time  ON payments (claimed_at, expires);
CREATE INDEX by_route ON payments (route, claimed_at);
CREATE INDEX by_payer ON payments (claimed_at / 10800, payer COLLATE NOCASE, claimed_at)
    WHERE payer IS NOT NULL;
CREATE INDEX by_state ON payments (state, claimed_at)
    WHERE state IN ('settled', 'unresolved', 'declined', 'released');

-- What is in flight.
CREATE INDEX held ON payments (owner, state) WHERE owner IS NOT NULL;
CREATE INDEX pledged ON payments (payer, network)
    WHERE payer IS NOT NULL AND state IN ('claimed', 'settling', 'unresolved');
CREATE INDEX due ON payments (next_try, id) WHERE state = 'unresolved';
CREATE INDEX unresolved_since ON payments (settling_at) WHERE state = 'unresolved';

-- What must not be used twice.
CREATE INDEX identifiers ON payments (identifier)
    WHERE identifier IS NOT NULL AND state NOT IN ('declined', 'released');
CREATE INDEX unique_transactions ON payments (transaction_id, network)
    WHERE unique_transaction = 1 AND state IN ('settled', 'delivered');
";

// What the gateway lets those that come after it know for a while.
const NOTICES: &str = "
CREATE TABLE notices (
    key    BLOB    PRIMARY KEY,
    listed INTEGER NOT NULL,
    until  INTEGER NOT NULL,
    text   TEXT    NOT NULL
) STRICT;
";

// One that exists already is as old as its oldest payment, as far as anybody can tell.
const BIRTH: &str = "
CREATE TABLE birth (
    row INTEGER PRIMARY KEY CHECK (row = 1),
    at  INTEGER NOT NULL
) STRICT;
INSERT INTO birth (row, at)
    SELECT 1, min(unixepoch(), coalesce(min(claimed_at), unixepoch())) FROM payments;
";

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing was ever written to it.
    Empty,
    /// A ledger with this many steps of the schema.
    Ledger(usize),
    /// A database of somebody else.
    Foreign,
}

/// Looks what a file is, without changing it.
pub(super) fn kind(connection: &Connection) -> Result<Kind, Fault> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let application = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    Ok(match (application, usize::try_from(version)) {
        (APPLICATION_ID, Ok(version)) => Kind::Ledger(version),
        (0, Ok(0)) if tables == 0 => Kind::Empty,
        _ => Kind::Foreign,
    })
}

/// Takes the steps that a file with `version` of them lacks, each in a transaction of its own.
pub(super) fn migrate(connection: &Connection, version: usize, steps: &[&str]) -> Result<(), Fault> {
    for (index, step) in steps.iter().enumerate().skip(version) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_brought_up_to_date_step_by_step_and_only_by_the_steps_it_lacks() {
        let connection = Connection::open_in_memory().unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Empty);
        migrate(&connection, 0, MIGRATIONS).unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Ledger(MIGRATIONS.len()));
        let mut later = MIGRATIONS.to_vec();
        later.push("ALTER TABLE payments ADD COLUMN note TEXT; CREATE TABLE extra (a INTEGER) STRICT;");
        migrate(&connection, MIGRATIONS.len(), &later).unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Ledger(later.len()));
        connection.execute("INSERT INTO extra VALUES (1)", []).unwrap();
        migrate(&connection, later.len(), &later).unwrap();
    }

    #[test]
    fn a_step_that_fails_leaves_the_file_as_it_was() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, 0, MIGRATIONS).unwrap();
        let mut later = MIGRATIONS.to_vec();
        later.push("CREATE TABLE extra (a INTEGER) STRICT; CREATE TABLE payments (a INTEGER) STRICT;");
        migrate(&connection, MIGRATIONS.len(), &later).unwrap_err();
        assert_eq!(kind(&connection).unwrap(), Kind::Ledger(MIGRATIONS.len()));
        connection.prepare("SELECT * FROM extra").unwrap_err();
    }

    #[test]
    fn a_database_of_another_program_is_told_from_a_ledger() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE payments (a INTEGER)").unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Foreign);
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("PRAGMA user_version = 1").unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Foreign);
        connection.execute_batch("PRAGMA application_id = 7").unwrap();
        assert_eq!(kind(&connection).unwrap(), Kind::Foreign);
    }
}
