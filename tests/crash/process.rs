//! The gateway as a process that is killed and started again, always on the same files.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::support::client::PATIENCE;
use super::support::gateway::free_address;
use super::wire;

/// A gateway's process, if it runs, and its files.
pub struct Process {
    child: Mutex<Option<Running>>,
    folder: tempfile::TempDir,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// What went wrong with it.
    complaint: Mutex<Option<String>>,
    keeps: AtomicBool,
}

struct Running {
    child: Child,
    killed: Option<Instant>,
}

impl Process {
    /// A gateway that does not run yet; the configuration lacks only the addresses.
    pub fn new(config: &str) -> Self {
        let (address, admin) = (free_address(), free_address());
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let config = format!("listen = \"{address}\"\n{config}\n[admin]\nlisten = \"{admin}\"\n");
        std::fs::write(folder.path().join("gateway.toml"), config).unwrap();
        Self {
            child: Mutex::default(),
            folder,
            address,
            admin,
            complaint: Mutex::default(),
            keeps: AtomicBool::new(false),
        }
    }

    /// A file of the gateway's.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts it; it must not run.
    pub fn start(&self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.file("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .arg("--config")
            .arg(self.file("gateway.toml"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let before = self.child.lock().unwrap().replace(Running { child, killed: None });
        assert!(before.is_none(), "it runs already");
    }

    /// Waits until it takes payments.
    pub async fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while wire::status(self.admin, "/readyz").await != Some(200) {
            assert!(Instant::now() < deadline, "the gateway is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Kills it, at once and for good (SIGKILL), if it runs.
    pub fn kill(&self) {
        if let Some(running) = self.child.lock().unwrap().as_mut() {
            if let Some(status) = running.child.try_wait().unwrap().filter(|_| running.killed.is_none()) {
                let complaint = format!("the gateway ended by itself: {status}");
                self.complaint.lock().unwrap().get_or_insert(complaint);
            }
            running.killed.get_or_insert_with(Instant::now);
            running.child.kill().unwrap();
        }
    }

    /// Waits until it is gone, after [`kill`](Self::kill); says when it was killed.
    pub async fn buried(&self) -> Instant {
        let mut running = self.child.lock().unwrap().take().unwrap();
        let killed = running.killed.unwrap();
        tokio::task::spawn_blocking(move || running.child.wait().unwrap()).await.unwrap();
        killed
    }

    /// Whether it ended without being killed.
    pub fn complaint(&self) -> Option<String> {
        self.complaint.lock().unwrap().clone()
    }

    /// What it has written, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.file("log")).unwrap_or_default()
    }

    /// Keeps its files for whoever wants to know what happened.
    pub fn keep(&self) {
        self.keeps.store(true, Ordering::Release);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut running) = self.child.lock().unwrap().take() {
            let _ = running.child.kill();
            let _ = running.child.wait();
        }
        self.folder.disable_cleanup(self.keeps.load(Ordering::Acquire));
    }
}
