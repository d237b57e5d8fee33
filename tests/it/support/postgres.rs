//! A PostgreSQL of the tests' own, through `tests/tools/postgres.sh`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A server; it ends with this value, or with the process.
pub struct Postgres {
    script: Mutex<Script>,
    pub port: u16,
}

struct Script {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The server that all tests of this process share; each makes a database of its own on it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]))
    }

    /// Starts a server for one test alone, with settings of `postgresql.conf`.
    pub fn start(settings: &[&str]) -> Self {
        let mut child = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/postgres.sh"))
            .args(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let mut script = Script { orders, answers: BufReader::new(child.stdout.take().unwrap()), child };
        let ready = script.answer();
        let port = ready.split(' ').nth(1).unwrap().parse().unwrap();
        Self { script: Mutex::new(script), port }
    }

    /// Has it stopped, killed, started, frozen, thawed, filled or freed: see the script.
    pub fn order(&self, order: &str) {
        assert_eq!(self.ask(order), "done", "{order}");
    }

    /// Makes a standby that streams from it, which it reaches at a port. Returns the standby's own port;
    /// orders `part`, `rejoin` and `promote` are about it.
    #[allow(dead_code, reason = "for tests/fleet")]
    pub fn standby(&self, through: u16) -> u16 {
        self.ask(&format!("standby {through}")).strip_prefix("done ").unwrap().parse().unwrap()
    }

    fn ask(&self, order: &str) -> String {
        let mut script = self.script.lock().unwrap();
        writeln!(script.orders.as_mut().unwrap(), "{order}").unwrap();
        script.answer()
    }

    /// URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// URL of a new, empty database.
    pub async fn database(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run("postgres", &format!("CREATE DATABASE {name}")).await;
        self.url(&name)
    }

    /// Runs SQL in a database.
    pub async fn run(&self, database: &str, sql: &str) {
        run(&self.url(database), sql).await;
    }
}

/// Runs SQL.
pub async fn run(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}

impl Script {
    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "tests/tools/postgres.sh ended");
        line.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // The end of its input makes the script tidy up.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}
