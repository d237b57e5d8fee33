//! The gateway as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::client::{self, PATIENCE};

/// A running gateway; killed when dropped.
pub struct Gateway {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    folder: tempfile::TempDir,
}

/// A loopback address that is free, and that nobody else in this process gets: below the ports that
/// systems hand out by themselves, each in its turn, from a place that depends on the process.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(std::process::id().wrapping_mul(97));
        let port = u16::try_from(20_000 + turn % 12_000).unwrap();
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return SocketAddr::from(([127, 0, 0, 1], port));
        }
    }
}

/// The usual start of a configuration: base-sepolia, a payee, and what is given.
pub fn base(upstream: &str, facilitator: &str) -> String {
    format!(
        "upstream = \"{upstream}\"\nfacilitator = \"{facilitator}\"\nnetwork = \"base-sepolia\"\n\
         pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\npublic_url = \"https://shop.example\"\n"
    )
}

/// One priced route, `/paid/*` for $0.01.
pub const PAID: &str = "[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"$0.01\"\n";

impl Gateway {
    /// Starts a gateway in front of `upstream`, paid through `facilitator`, with more configuration
    /// behind the usual start, and waits until it is ready.
    pub async fn start(upstream: &str, facilitator: &str, more: &str) -> Self {
        Self::with_config(&format!("{}{more}", base(upstream, facilitator))).await
    }

    /// Starts a gateway with a whole configuration, without addresses, and waits until it is ready.
    pub async fn with_config(config: &str) -> Self {
        let gateway = Self::spawn(config);
        gateway.wait_until_ready().await;
        gateway
    }

    /// Starts a gateway and does not wait.
    pub fn spawn(config: &str) -> Self {
        let (address, admin) = (free_address(), free_address());
        Self::with_file(&with_addresses(config, address, admin), address, admin)
    }

    /// Starts a gateway on a file that is complete, and does not wait.
    pub fn with_file(config: &str, address: SocketAddr, admin: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, config).unwrap();
        Self { child: run(folder.path()), address, admin, folder }
    }

    /// Starts a gateway as systems start programs: with few open files, and leave to have more. Waits
    /// until it is ready.
    pub async fn with_few_files(files: u32, config: &str) -> Self {
        let mut gateway = Self::spawn(config);
        gateway.crash().await;
        let few = format!("ulimit -Sn {files}; exec \"$0\" \"$@\"");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(few).arg(env!("CARGO_BIN_EXE_tollgate"));
        gateway.child = start(shell, gateway.folder.path());
        gateway.wait_until_ready().await;
        gateway
    }

    /// Kills it, as a crash would.
    pub async fn crash(&mut self) {
        self.signal("-KILL");
        self.wait().await;
    }

    /// Starts it again with the same file and the same ledger, and waits until it is ready.
    pub async fn start_again(&mut self) {
        self.child = run(self.folder.path());
        self.wait_until_ready().await;
    }

    /// Starts it again with another configuration, the same addresses and the same ledger, and waits
    /// until it is ready.
    pub async fn start_again_with(&mut self, config: &str) {
        self.rewrite(config);
        self.start_again().await;
    }

    /// Writes another configuration into its file, with the same addresses.
    pub fn rewrite(&self, config: &str) {
        let config = with_addresses(config, self.address, self.admin);
        std::fs::write(self.folder.path().join("gateway.toml"), config).unwrap();
    }

    /// Has it read another configuration, and waits until it has taken it over.
    pub async fn reload(&self, config: &str) {
        let applied = "tollgate_config_reloads_total{result=\"applied\"}";
        let before = self.metric(applied).await.unwrap_or_default();
        self.rewrite(config);
        self.signal("-HUP");
        let deadline = Instant::now() + PATIENCE;
        while self.metric(applied).await.unwrap_or_default() == before {
            assert!(Instant::now() < deadline, "the configuration is not taken over:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Loses its ledger, which is a file beside its configuration; it must not run.
    pub fn lose_ledger(&self) {
        for name in ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm"] {
            let gone = std::fs::remove_file(self.folder.path().join(name));
            assert!(gone.is_ok() || name != "tollgate.db", "{gone:?}");
        }
    }

    /// Waits until `/readyz` says so.
    pub async fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if tokio::net::TcpStream::connect(self.admin).await.is_ok()
                && client::get(self.admin, "/readyz", &[]).await.status == 200
            {
                return;
            }
            assert!(Instant::now() < deadline, "the gateway is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its configuration.
    #[allow(dead_code, reason = "for tests/fleet")]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    /// What it has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until the log contains a text.
    pub async fn wait_for_log(&self, text: &str) {
        self.wait_for_logs(text, 1).await;
    }

    /// Waits until so many lines of the log contain a text.
    pub async fn wait_for_logs(&self, text: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.log().lines().filter(|line| line.contains(text)).count() < count {
            assert!(Instant::now() < deadline, "{text:?} is not in the log {count} times:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The page of metrics.
    pub async fn metrics(&self) -> String {
        client::get(self.admin, "/metrics", &[]).await.text()
    }

    /// The value of a metric that is a whole number, given with its labels as it is written; `None`: it
    /// is not there.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let page = self.metrics().await;
        let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|(found, _)| found == name));
        line.map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    /// Waits until a metric has a value.
    pub async fn wait_for_metric(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.metric(name).await;
            if found == Some(value) {
                return;
            }
            assert!(Instant::now() < deadline, "{name} is {found:?} and not {value}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Payments in a state, as the ledger counts them: `claimed`, `settling` or `unresolved`.
    pub async fn held(&self, state: &str) -> u64 {
        let name = format!("tollgate_payments_held{{state=\"{state}\"}}");
        self.metric(&name).await.unwrap_or_else(|| panic!("no metric {name}"))
    }

    /// Waits until so many payments are in a state.
    pub async fn wait_until_held(&self, state: &str, count: u64) {
        self.wait_for_metric(&format!("tollgate_payments_held{{state=\"{state}\"}}"), count).await;
    }

    /// Waits until every request is over, and then until the ledger knows how it ended: what was
    /// delivered counts as delivered from then on.
    pub async fn wait_until_idle(&self) {
        self.wait_for_metric("tollgate_requests_in_flight", 0).await;
        self.wait_for_metric("tollgate_settlements_in_flight", 0).await;
    }

    /// Tells it to stop, as service managers do.
    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Sends it a signal, written as `kill` takes it: `-TERM`, `-INT` (Ctrl-C).
    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// The most memory it has held so far, in bytes (`VmHWM` of the kernel).
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Waits until it has stopped.
    pub async fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the gateway does not stop:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A configuration with the addresses that a test's gateway has.
fn with_addresses(config: &str, address: SocketAddr, admin: SocketAddr) -> String {
    let listen = if config.contains("[[listeners]]") {
        config.replace("LISTEN", &address.to_string())
    } else {
        format!("listen = \"{address}\"\n{config}")
    };
    format!("{listen}\n[admin]\nlisten = \"{admin}\"\n")
}

/// Runs the gateway of a folder; what it writes is added to the log there.
fn run(folder: &Path) -> Child {
    start(Command::new(env!("CARGO_BIN_EXE_tollgate")), folder)
}

fn start(mut command: Command, folder: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log")).unwrap();
    command
        .arg("--config")
        .arg(folder.join("gateway.toml"))
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway's log ---\n{}", self.log());
        }
    }
}
