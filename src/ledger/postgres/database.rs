//! Connections to the database: how they are made, what they are told first, and how long anything
//! may take. A database that hangs must cost a request seconds, not its life.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::super::OpenError;
use super::super::settings::{TAKEOVER_AFTER, TAKEOVER_AFTER_MIN};
use super::schema;
use super::trouble::{Stage, Trouble, Worth};
use crate::clock::{Clock, UnixSeconds};

/// The oldest version of PostgreSQL whose features are enough, as `server_version_num` counts.
const VERSION_MIN: i32 = 130_000;
/// Differences of clocks that are as good as none: both count whole seconds.
const SAME_TIME_SECONDS: i64 = 2;

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// To make a connection.
    pub(super) connect: Duration,
    /// To lock, read and write what a transaction is about.
    pub(super) work: Duration,
    /// To commit, which includes waiting for standbys where the server demands it.
    pub(super) commit: Duration,
    /// A step's wait until its transaction begins.
    pub(super) queue: Duration,
    /// A page of the books, which is read beside everything else.
    pub(super) page: Duration,
    /// To wait for another gateway's migration, and to do one.
    pub(super) migration: Duration,
    /// After a connection could not be made: until the next attempt; requests are refused meanwhile.
    pub(super) back_off: Duration,
    /// After its last beat: until this gateway may count as gone.
    pub(super) lease: Duration,
    /// The shortest such time of any gateway.
    pub(super) lease_min: Duration,
}

impl Limits {
    pub(super) const USUAL: Self = Self {
        connect: Duration::from_secs(2),
        work: Duration::from_secs(2),
        commit: Duration::from_secs(3),
        queue: Duration::from_secs(2),
        page: Duration::from_secs(30),
        migration: Duration::from_secs(30),
        back_off: Duration::from_millis(500),
        lease: TAKEOVER_AFTER,
        lease_min: TAKEOVER_AFTER_MIN,
    };

    /// All that a step may take.
    pub(super) fn step(&self) -> Duration {
        self.queue + self.connect + self.work + self.commit
    }
}

/// A database, as one gateway knows it.
pub(super) struct Database {
    options: PgConnectOptions,
    place: String,
    pub(super) limits: Limits,
    clock: Arc<dyn Clock>,
    /// Seconds the database's clock is ahead of this gateway's.
    ahead: AtomicI64,
    up_to_date: AtomicBool,
    /// Why it cannot be used at present.
    trouble: Mutex<Option<String>>,
}

/// A connection that was told how to behave.
pub(super) struct Connection {
    pub(super) raw: PgConnection,
    /// What commits that must be durable ask for.
    commit_durable: &'static str,
}

impl Database {
    pub(super) fn new(url: &str, limits: Limits, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let options = options(url)?;
        let place = place(&options);
        Ok(Self {
            options,
            place,
            limits,
            clock,
            ahead: AtomicI64::new(0),
            up_to_date: AtomicBool::new(false),
            trouble: Mutex::new(None),
        })
    }

    /// A time by the database's clock: gateways whose clocks disagree keep one account of time.
    pub(super) fn time(&self, time: UnixSeconds) -> UnixSeconds {
        let ahead = self.ahead.load(Ordering::Relaxed);
        if ahead.abs() < SAME_TIME_SECONDS {
            return time;
        }
        UnixSeconds(time.0.saturating_add_signed(ahead))
    }

    /// Takes note of what the database's clock says, in seconds.
    pub(super) fn heard_time(&self, theirs: i64) {
        let ours = i64::try_from(self.clock.now().0).unwrap_or(i64::MAX);
        let ahead = theirs.saturating_sub(ours);
        let before = self.ahead.swap(ahead, Ordering::Relaxed);
        if ahead.abs() >= SAME_TIME_SECONDS && before.abs() < SAME_TIME_SECONDS {
            tracing::warn!(
                seconds = ahead,
                "the database's clock differs from this gateway's; the ledger goes by the database's"
            );
        }
    }

    /// Makes a connection, and brings the schema up to date where that was not done yet.
    pub(super) async fn connect(&self) -> Result<Connection, Trouble> {
        let made = timeout(self.limits.connect, self.make()).await;
        let mut connection =
            made.unwrap_or_else(|_| Err(Trouble::away(format!("{} does not answer", self.place))))?;
        if !self.up_to_date.load(Ordering::Acquire) {
            let migrated =
                timeout(self.limits.migration, schema::bring_up_to_date(&mut connection.raw)).await;
            migrated.unwrap_or_else(|_| {
                Err(Trouble::away("its tables could not be brought up to date in time"))
            })?;
            self.up_to_date.store(true, Ordering::Release);
        }
        Ok(connection)
    }

    /// Makes a connection to read with; what is there is not changed.
    pub(super) async fn connect_to_read(&self) -> Result<Connection, Trouble> {
        let made = timeout(self.limits.connect, async {
            let mut connection = self.make().await?;
            if !self.up_to_date.load(Ordering::Acquire) {
                schema::check(&mut connection.raw).await?;
                self.up_to_date.store(true, Ordering::Release);
            }
            Ok(connection)
        });
        made.await.unwrap_or_else(|_| Err(Trouble::away(format!("{} does not answer", self.place))))
    }

    async fn make(&self) -> Result<Connection, Trouble> {
        let connecting = |error| Trouble::of(&error, Stage::Connecting(&self.place));
        let mut raw = self.options.connect().await.map_err(connecting)?;
        sqlx::raw_sql(AssertSqlSafe(self.manners())).execute(&mut raw).await.map_err(connecting)?;
        let row = sqlx::query(
            "SELECT current_setting('server_version_num')::int4, current_setting('server_encoding'), \
             pg_is_in_recovery(), current_setting('synchronous_commit'), current_setting('fsync')",
        )
        .fetch_one(&mut raw)
        .await
        .map_err(connecting)?;
        let commit_durable = self.judge(&row)?;
        Ok(Connection { raw, commit_durable })
    }

    /// What a connection is told before anything else. Plans that read whole tables are ruled out,
    /// because they are made while the tables are small and kept while they grow.
    fn manners(&self) -> String {
        let (work, idle) =
            (self.limits.work.as_millis(), (self.limits.work + self.limits.commit).as_millis());
        format!(
            "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off; \
             SET statement_timeout = {work}; SET lock_timeout = {work}; \
             SET idle_in_transaction_session_timeout = {idle}; SET enable_seqscan = off; \
             SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
        )
    }

    /// Whether the server is one to keep a ledger on, and how it is asked to commit durably: as strictly
    /// as its operator demands, and never less than on its own disk.
    fn judge(&self, row: &PgRow) -> Result<&'static str, Trouble> {
        let read = |error: sqlx::Error| Trouble::of(&error, Stage::Connecting(&self.place));
        let (version, encoding) =
            (row.try_get::<i32, _>(0).map_err(read)?, row.try_get::<String, _>(1).map_err(read)?);
        let (standby, commit) =
            (row.try_get::<bool, _>(2).map_err(read)?, row.try_get::<String, _>(3).map_err(read)?);
        let fsync: String = row.try_get(4).map_err(read)?;
        if version < VERSION_MIN {
            return Err(Trouble::hopeless(format!(
                "{} is PostgreSQL {}; version {} or later is needed",
                self.place,
                version / 10_000,
                VERSION_MIN / 10_000
            )));
        }
        if encoding != "UTF8" {
            return Err(Trouble::hopeless(format!(
                "the database at {} is encoded in {encoding}; create it with ENCODING 'UTF8'",
                self.place
            )));
        }
        if standby {
            return Err(Trouble::away(format!("{} is a standby, which takes no writes", self.place)));
        }
        if fsync != "on" && !self.up_to_date.load(Ordering::Acquire) {
            tracing::warn!(
                "the database at {} runs with fsync off: a loss of power loses payments",
                self.place
            );
        }
        Ok(match commit.as_str() {
            "remote_apply" => {
                "SET LOCAL synchronous_commit = remote_apply; SET LOCAL statement_timeout = 0; COMMIT"
            }
            _ => "SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = 0; COMMIT",
        })
    }

    /// Says once that the database cannot be used.
    pub(super) fn failed(&self, trouble: &Trouble) {
        let worth = trouble.worth();
        if matches!(worth, Worth::Data) {
            tracing::error!(cause = trouble.cause(), "the database refuses what the ledger writes");
            return;
        }
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            tracing::error!(cause = trouble.cause(), "the ledger's database cannot be used");
        }
        *known = Some(trouble.cause().to_owned());
    }

    /// Says once that it can be used again.
    pub(super) fn worked(&self) {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if known.take().is_some() {
            tracing::info!("the ledger's database can be used again");
        }
    }
}

impl Connection {
    /// Commits. The statement's time limit is lifted before: reaching it while waiting for a standby
    /// would be answered with success.
    pub(super) async fn commit(&mut self, durable: bool) -> Result<(), sqlx::Error> {
        let fast = "SET LOCAL synchronous_commit = off; SET LOCAL statement_timeout = 0; COMMIT";
        let text = if durable { self.commit_durable } else { fast };
        sqlx::raw_sql(text).execute(&mut self.raw).await.map(drop)
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Database").field("place", &self.place).finish_non_exhaustive()
    }
}

/// What an URL says. Options that are not known are refused: they are logged by the library, with what
/// may be a misspelt password's value.
fn options(url: &str) -> Result<PgConnectOptions, OpenError> {
    const KNOWN: [&str; 19] = [
        "sslmode",
        "ssl-mode",
        "sslrootcert",
        "ssl-root-cert",
        "ssl-ca",
        "sslcert",
        "ssl-cert",
        "sslkey",
        "ssl-key",
        "statement-cache-capacity",
        "host",
        "hostaddr",
        "port",
        "dbname",
        "user",
        "password",
        "application_name",
        "options",
        "",
    ];
    let query =
        url.split_once('#').map_or(url, |(url, _)| url).split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&') {
        let name = pair.split('=').next().unwrap_or_default();
        if !KNOWN.contains(&name) && !name.starts_with("options[") {
            return Err(OpenError(format!("the ledger's URL has an option \"{name}\", which is not known")));
        }
    }
    let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| {
        let cause = match error {
            sqlx::Error::Configuration(cause) => cause.to_string(),
            other => other.to_string(),
        };
        OpenError(format!("the ledger's URL cannot be read: {cause}"))
    })?;
    let options =
        if options.get_application_name().is_some() { options } else { options.application_name("tollgate") };
    // Connection poolers know nothing of this setting, and no floating-point number is read.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

/// Where the database is, for people: without user and password.
fn place(options: &PgConnectOptions) -> String {
    let server = match options.get_socket() {
        Some(folder) => folder.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    };
    match options.get_database() {
        Some(database) => format!("{server}/{database}"),
        None => server,
    }
}
