//! The wiring: a configuration becomes a running gateway.

mod parts;
mod reload;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use self::parts::Base;
use self::reload::Live;
use crate::admin::Admin;
use crate::clock::{Clock, SystemClock};
use crate::config::{Addresses, Config};
use crate::facilitator::serve::Service;
use crate::ledger::{self, OpenError};
use crate::payment::Gate;
use crate::proxy::{self, Certificates, Chains, Paywall};
use crate::telemetry::Metrics;

/// Open files to ask for where the system names no limit; kernels take no more by default.
const FILES_WITHOUT_LIMIT: u64 = 1 << 20;

/// How often it is looked at shutdown whether anything is in flight.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long HTTP/2 clients get at shutdown to take what was answered and close the connection.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is in use, or not this machine's.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: io::Error,
    },
    /// The system gave no runtime.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// The ledger cannot be opened.
    #[error(transparent)]
    Ledger(#[from] OpenError),
    /// A facilitator cannot be used as configured.
    #[error("{0}")]
    Facilitator(String),
    /// A chain cannot be asked as configured.
    #[error("{0}")]
    Chain(String),
    /// An upstream cannot be used as configured.
    #[error(transparent)]
    Upstream(#[from] proxy::UpstreamError),
    /// A certificate cannot be used.
    #[error("{0}")]
    Certificate(String),
}

/// Where a configuration comes from, to be read again.
#[derive(Debug, Clone)]
pub struct ConfigSource {
    /// The file.
    pub file: PathBuf,
    /// Where this process listens instead of what the file says.
    pub addresses: Addresses,
}

/// A gateway that is ready to run.
pub struct Gateway {
    server: Server,
    runtime: Runtime,
    gate: Gate,
    running: Arc<AtomicUsize>,
    http2: Arc<AtomicUsize>,
    closing: Arc<AtomicBool>,
    service: Option<Arc<Service>>,
    grace: Duration,
}

impl Gateway {
    /// Builds everything, and starts what runs beside the proxy: settlements, the demo site, the
    /// admin address, look-ups, the watch over the configuration's files.
    ///
    /// # Errors
    /// [`StartError`], before anything listens for clients.
    pub fn build(config: Config, source: ConfigSource) -> Result<Self, StartError> {
        parts::check_addresses(&config)?;
        // Settlements must outlive Pingora's runtimes, which end abruptly.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("payments")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ledger = runtime.block_on(ledger::open(&config.ledger.url, config.ledger.takeover_after))?;
        let metrics = Arc::new(Metrics::default());
        metrics.config_loaded(clock.now().0);
        let base = Base { ledger, clock, metrics, runtime: runtime.handle().clone() };
        let every = base.facilitators(&config, &[])?;
        let (gate, lists) = base.gate(&config, &every, None)?;
        runtime.block_on(parts::take_up(&gate));
        runtime.block_on(gate.note_heads());
        runtime.spawn(gate.clone().keep_up(config.ledger.retention_seconds));
        runtime.block_on(parts::observe_all(&gate, &lists));
        let demo = runtime.block_on(parts::start_demo(&config))?;
        let paywall = Paywall::new(base.site(&config, &gate, demo.unwrap_or(parts::NOWHERE), None)?);
        runtime.spawn(proxy::keep_resolving(paywall.site()));
        let (running, http2) = (paywall.running(), paywall.http2_connections());
        let closing = Arc::new(AtomicBool::new(false));
        let grace = config.limits.shutdown_grace;
        let gates = Arc::new(ArcSwap::from_pointee(gate.clone()));
        let routes = Arc::new(ArcSwap::from_pointee(reload::told(&config.rows())));
        if let Some(address) = config.admin {
            let admin = Arc::new(Admin {
                gate: Arc::clone(&gates),
                routes: Arc::clone(&routes),
                ledger: Arc::clone(&base.ledger),
                clock: Arc::clone(&base.clock),
                metrics: Arc::clone(&base.metrics),
                listeners: config.listeners.iter().map(|listener| listener.address).collect(),
                closing: Arc::clone(&closing),
            });
            runtime.block_on(parts::start_admin(address, admin))?;
        }
        let service = runtime.block_on(parts::start_service(&config, &every))?;
        let certificates = certificates(&config)?;
        let site = paywall.site();
        let server = parts::server(&config, paywall, &certificates)?;
        let live = Live { base, config, every, gates, routes, site, certificates, demo };
        runtime.spawn(watch::keep_watching(live, source));
        Ok(Self { server, runtime, gate, running, http2, closing, service, grace })
    }

    /// Runs until the process is told to stop, and returns when requests and settlements in flight
    /// are finished or the grace period is over.
    pub fn run(self) {
        allow_many_files();
        let Self { server, runtime, gate, running, http2, closing, service, grace } = self;
        let mut phases = server.watch_execution_phase();
        let settling = move || gate.under_way() + service.as_ref().map_or(0, |service| service.in_flight());
        let idle = {
            let settling = settling.clone();
            move || running.load(Ordering::Acquire) == 0 && settling() == 0
        };
        // Pingora sleeps the whole grace period; nothing in flight is the better reason to end.
        runtime.spawn(async move {
            while let Ok(phase) = phases.recv().await {
                if matches!(phase, ExecutionPhase::ShutdownGracePeriod) {
                    while !idle() {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    // What was answered over HTTP/2 is sent when the client has said goodbye.
                    let deadline = Instant::now() + FAREWELL;
                    while http2.load(Ordering::Acquire) > 0 && Instant::now() < deadline {
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    tracing::info!("stopped: nothing in flight");
                    std::process::exit(0);
                }
            }
        });
        server.run(RunArgs { shutdown_signal: Box::new(Signals { closing }) });
        let deadline = Instant::now() + grace;
        while settling() > 0 && Instant::now() < deadline {
            std::thread::sleep(LOOK_AGAIN);
        }
        if settling() > 0 {
            tracing::error!(settling = settling(), "stopped with settlements under way");
        }
    }
}

/// Both usual signals stop gracefully.
struct Signals {
    closing: Arc<AtomicBool>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("signals cannot be received; stopping");
            return ShutdownSignal::FastShutdown;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        self.closing.store(true, Ordering::Release);
        tracing::info!("stopping: no new connections, finishing what is in flight");
        ShutdownSignal::GracefulTerminate
    }
}

/// Lets the process open as many files as the system lets it: every connection is one. Systems start
/// programs with some thousand of them (`ulimit -n`), which is as many silent clients as it then took
/// to keep all others out.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum.or(Some(FILES_WITHOUT_LIMIT)).max(limit.current);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current, ..limit }) {
        tracing::warn!(%error, ?limit, "the number of open files stays limited");
    }
}

/// Reads the certificates of each listener.
fn certificates(config: &Config) -> Result<Vec<Arc<Certificates>>, StartError> {
    let load = |listener: &proxy::settings::Listener| {
        let certificates = Certificates::default();
        certificates.exchange(Chains::load(&listener.tls).map_err(StartError::Certificate)?);
        Ok(Arc::new(certificates))
    };
    config.listeners.iter().map(load).collect()
}
