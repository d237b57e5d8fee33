//! `deploy/replicas/run.sh`, run for real.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::client::PATIENCE;

/// The ports of the example, before they are shifted.
const PORTS: [u16; 11] = [8080, 8081, 8411, 8412, 8413, 9411, 9412, 9413, 8420, 8430, 8432];
/// How long it may take to start, with a database to be made.
const STARTING: Duration = Duration::from_secs(120);

/// The example while it runs.
pub struct Example {
    child: Child,
    said: Arc<Mutex<String>>,
    shift: u16,
    pub folder: PathBuf,
}

impl Example {
    /// Starts it, and waits until it says that it is ready.
    pub async fn start(options: &[&str]) -> Self {
        let shift = free_shift();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/replicas/run.sh");
        let mut child = Command::new(script)
            .args(["--shift", &shift.to_string()])
            .args(options)
            .env("TOLLGATE", env!("CARGO_BIN_EXE_tollgate"))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (output, mut errors) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                *heard.lock().unwrap() += &(line + "\n");
            }
        });
        let heard = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            *heard.lock().unwrap() += &text;
        });
        let mut example = Self { child, said, shift, folder: PathBuf::new() };
        let deadline = Instant::now() + STARTING;
        while !example.said().contains("Ctrl-C ends everything.\n") {
            let ended = example.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?}\n{}", example.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = example.said();
        let folder = said.lines().find_map(|line| line.trim().strip_prefix("folder ")).unwrap();
        example.folder = folder.split_whitespace().next().unwrap().into();
        example
    }

    /// What it has written.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    pub fn nginx(&self) -> SocketAddr {
        self.at(8080)
    }

    pub fn haproxy(&self) -> SocketAddr {
        self.at(8081)
    }

    /// Where clients are let in.
    pub fn fronts(&self) -> [(&'static str, SocketAddr); 2] {
        [("nginx", self.nginx()), ("HAProxy", self.haproxy())]
    }

    /// Where a gateway's operator asks it; they are numbered from 1.
    pub fn admin(&self, gateway: u16) -> SocketAddr {
        self.at(9410 + gateway)
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port + self.shift))
    }

    /// Sends a signal that ends a gateway, written as `kill` takes it. Returns the process it was.
    pub fn signal(&self, gateway: u16, signal: &str) -> String {
        let pid = self.pid(gateway);
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        pid
    }

    /// Waits until a gateway takes payments that is another process than before.
    pub async fn is_back(&self, gateway: u16, before: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.pid(gateway) == before || !is_ready(self.admin(gateway)).await {
            assert!(Instant::now() < deadline, "gateway-{gateway} does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn pid(&self, gateway: u16) -> String {
        let file = self.folder.join(format!("gateway-{gateway}.pid"));
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// What a gateway has written, over all its lives.
    pub fn log(&self, gateway: u16) -> String {
        std::fs::read_to_string(self.folder.join(format!("gateway-{gateway}.log"))).unwrap()
    }

    /// URL of the ledger, as the script hands it to whoever wants to read it.
    pub fn ledger(&self) -> String {
        let text = std::fs::read_to_string(self.folder.join("ledger.env")).unwrap();
        text.split('\'').nth(1).unwrap().to_owned()
    }

    /// Ends it as Ctrl-C does, and waits for that.
    pub async fn end(mut self) -> ExitStatus {
        self.tell("-INT");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn tell(&self, signal: &str) {
        let _ = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- what run.sh said ---\n{}", self.said());
            for name in ["gateway-1", "gateway-2", "gateway-3", "nginx", "haproxy", "site"] {
                let log = std::fs::read_to_string(self.folder.join(format!("{name}.log")));
                eprintln!("--- {name} ---\n{}", log.unwrap_or_default());
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // It tidies up itself.
            self.tell("-TERM");
            let _ = self.child.wait();
        }
    }
}

/// Whether `/readyz` says so, of a gateway that may end at any time.
async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await.is_ok_and(|answer| answer.starts_with("HTTP/1.0 200 "))
}

/// How far the ports are to be shifted to be free: to where neither systems nor other tests take any.
fn free_shift() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        let turn = NEXT.fetch_add(1, Ordering::Relaxed);
        let from = u16::try_from(std::process::id() % 2_000).unwrap();
        let shift = 300 + (from + turn * 31) % 2_200;
        let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", port + shift)).is_ok();
        if PORTS.iter().all(is_free) {
            return shift;
        }
    }
}
