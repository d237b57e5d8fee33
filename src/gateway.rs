//! The wiring: a configuration becomes a running gateway.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::configuration::ServerConf;
use pingora::server::{ExecutionPhase, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{self, Admin};
use crate::chain::settings::ChainSettings;
use crate::chain::{Chain, EvmChain};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::facilitator::serve::{self, Service};
use crate::facilitator::settings::FacilitatorSettings;
use crate::facilitator::{Facilitator, FacilitatorList, HttpFacilitator, Metered, Onchain, Sandbox};
use crate::ledger::settings::LedgerUrl;
use crate::ledger::{self, OpenError};
use crate::payment::{Chains, Gate, GateParts, OfferBook};
use crate::policy::FacilitatorId;
use crate::proxy::{self, Paywall, PaywallParts};
use crate::telemetry::Metrics;

/// Times Pingora may try to reach an upstream for one request.
const MAX_RETRIES: usize = 4;
/// Idle upstream connections kept, for all upstreams together.
const UPSTREAM_POOL: usize = 1024;
/// How often it is looked whether what a facilitator supports has changed. It is asked itself only when
/// its last answer is no longer fresh.
const ASK_AGAIN: Duration = Duration::from_secs(1);

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
    /// admin address, look-ups.
    ///
    /// # Errors
    /// [`StartError`], before anything listens for clients.
    pub fn build(config: &Config) -> Result<Self, StartError> {
        check_addresses(config)?;
        // Settlements must outlive Pingora's runtimes, which end abruptly.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("payments")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let metrics = Arc::new(Metrics::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let every = facilitators(config, &clock, &metrics, runtime.handle())?;
        let facilitators = lists(config, &every);
        let offers = Arc::new(OfferBook::new(Arc::clone(&config.routes), config.public_url.clone()));
        let ledger = runtime.block_on(ledger::open(&config.ledger.url, config.ledger.takeover_after))?;
        let gate = Gate::new(GateParts {
            offers,
            facilitators: facilitators.clone(),
            every: every.clone(),
            chains: chains(config)?,
            ledger: Arc::clone(&ledger),
            clock: Arc::clone(&clock),
            runtime: runtime.handle().clone(),
            verify_in_flight: config.verify_in_flight,
            origin_time_seconds: config.origin_time_seconds,
            pledges: config.pledges.clone(),
            failures: config.failures,
            redelivery: config.redelivery,
        });
        runtime.block_on(take_up(&gate));
        runtime.block_on(gate.note_heads());
        runtime.spawn(gate.clone().keep_up(config.ledger.retention_seconds));
        runtime.block_on(observe_all(&gate, &facilitators));
        let demo = runtime.block_on(start_demo(config))?;
        let paywall = Paywall::new(PaywallParts {
            gate: gate.clone(),
            routes: Arc::clone(&config.routes),
            upstreams: &config.upstreams,
            demo,
            public_url: config.public_url.clone(),
            limits: config.limits,
            cors: config.cors.clone(),
            metrics: Arc::clone(&metrics),
        })?;
        runtime.spawn(paywall.resolver());
        let (running, http2) = (paywall.running(), paywall.http2_connections());
        let closing = Arc::new(AtomicBool::new(false));
        if let Some(address) = config.admin {
            let admin = Arc::new(Admin {
                gate: gate.clone(),
                routes: Arc::clone(&config.routes),
                ledger,
                clock,
                metrics,
                listeners: config.listeners.iter().map(|listener| listener.address).collect(),
                closing: Arc::clone(&closing),
            });
            runtime.block_on(start_admin(address, admin))?;
        }
        let service = runtime.block_on(start_service(config, &every))?;
        let server = server(config, paywall)?;
        Ok(Self {
            server,
            runtime,
            gate,
            running,
            http2,
            closing,
            service,
            grace: config.limits.shutdown_grace,
        })
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

/// Pingora would panic later; this says what is wrong.
fn check_addresses(config: &Config) -> Result<(), StartError> {
    for listener in &config.listeners {
        StdListener::bind(listener.address)
            .map_err(|cause| StartError::Listen { address: listener.address, cause })?;
    }
    Ok(())
}

fn facilitators(
    config: &Config,
    clock: &Arc<dyn Clock>,
    metrics: &Arc<Metrics>,
    runtime: &Handle,
) -> Result<Vec<Arc<dyn Facilitator>>, StartError> {
    let build = |settings: &FacilitatorSettings| -> Result<Arc<dyn Facilitator>, StartError> {
        let inner: Arc<dyn Facilitator> = match settings {
            FacilitatorSettings::Sandbox => {
                Arc::new(Sandbox::new(Arc::clone(clock), config.sandbox_balance.clone()))
            }
            FacilitatorSettings::Http(settings) => Arc::new(
                HttpFacilitator::new(settings.clone(), Arc::clone(clock)).map_err(StartError::Facilitator)?,
            ),
            FacilitatorSettings::Onchain(settings) => {
                let (settings, metrics) = (settings.as_ref().clone(), Arc::clone(metrics));
                let built = Onchain::new(settings, Arc::clone(clock), metrics, runtime.clone());
                Arc::new(built.map_err(StartError::Facilitator)?)
            }
        };
        Ok(Arc::new(Metered::new(inner, Arc::clone(metrics))))
    };
    config.facilitators.iter().map(build).collect()
}

/// What offers are settled by.
fn lists(config: &Config, every: &[Arc<dyn Facilitator>]) -> Vec<Arc<FacilitatorList>> {
    let list = |members: &Vec<usize>| {
        let members = members.iter().map(|index| Arc::clone(&every[*index])).collect();
        Arc::new(FacilitatorList::new(members))
    };
    config.facilitator_groups.iter().map(list).collect()
}

fn chains(config: &Config) -> Result<Chains, StartError> {
    // A ledger that forgets would take what it delivered itself for somebody else's doing.
    let remembers = config.ledger.url != LedgerUrl::Memory;
    let chain = |settings: &ChainSettings| -> Result<(Arc<dyn Chain>, bool), StartError> {
        let chain = EvmChain::new(settings).map_err(StartError::Chain)?;
        Ok((Arc::new(chain), settings.accept_used && remembers))
    };
    Ok(Chains::new(config.chains.iter().map(chain).collect::<Result<_, _>>()?))
}

/// Takes up what a gateway before left behind, and has others know what is quoted from now on. A ledger
/// that is away is said so, and tried again with every sign of life and every payment; what is free is
/// served meanwhile.
async fn take_up(gate: &Gate) {
    if gate.recover().await.is_ok() {
        let _ = gate.put_quotes_up().await;
    }
}

/// Asks every facilitator what it supports: those inside the process at once, the others in tasks
/// of their own, so that a facilitator that is down keeps nothing but its own routes waiting.
async fn observe_all(gate: &Gate, facilitators: &[Arc<FacilitatorList>]) {
    for (index, facilitator) in facilitators.iter().enumerate() {
        let (gate, facilitator) = (gate.clone(), Arc::clone(facilitator));
        let id = FacilitatorId(index);
        let mut task = tokio::spawn(async move {
            let mut known = false;
            loop {
                let wait = match facilitator.supported().await {
                    Ok(supported) => {
                        if !known {
                            tracing::debug!(
                                facilitator = facilitator.name(),
                                kinds = supported.kinds.len(),
                                "what the facilitator supports is known"
                            );
                            known = true;
                        }
                        gate.observe(id, supported).await;
                        ASK_AGAIN
                    }
                    Err(unavailable) => {
                        tracing::warn!(%unavailable, "what a facilitator supports is not known");
                        unavailable.retry_after.clamp(Duration::from_secs(1), Duration::from_secs(30))
                    }
                };
                tokio::time::sleep(wait).await;
            }
        });
        // An answer that needs no network is there before the first client.
        let _ = tokio::time::timeout(Duration::from_millis(20), &mut task).await;
    }
}

async fn start_demo(config: &Config) -> Result<SocketAddr, StartError> {
    use crate::proxy::settings::UpstreamAddress;
    let wanted = SocketAddr::from(([127, 0, 0, 1], 0));
    if !config.upstreams.iter().any(|upstream| upstream.address == UpstreamAddress::Demo) {
        return Ok(wanted);
    }
    let failed = |cause| StartError::Listen { address: wanted, cause };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        crate::demo::serve(listener).await;
    });
    Ok(address)
}

async fn start_admin(address: SocketAddr, admin: Arc<Admin>) -> Result<(), StartError> {
    let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
    tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, admin).await {
            tracing::error!(%error, "the admin address stopped");
        }
    });
    Ok(())
}

/// Offers a facilitator to others, where that is switched on.
async fn start_service(
    config: &Config,
    every: &[Arc<dyn Facilitator>],
) -> Result<Option<Arc<Service>>, StartError> {
    let Some((id, settings)) = &config.facilitator_service else { return Ok(None) };
    // The configuration takes one facilitator here, and no list.
    let member = config.facilitator_groups.get(id.0).and_then(|members| every.get(*members.first()?));
    let Some(facilitator) = member else { return Ok(None) };
    let address = settings.listen;
    let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
    let service = Arc::new(Service::new(Arc::clone(facilitator), settings.clone()));
    let serving = Arc::clone(&service);
    tokio::spawn(async move {
        if let Err(error) = serve::serve(listener, serving).await {
            tracing::error!(%error, "the facilitator's address stopped");
        }
    });
    Ok(Some(service))
}

fn server(config: &Config, paywall: Paywall) -> Result<Server, StartError> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let conf = ServerConf {
        threads,
        max_retries: MAX_RETRIES,
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        grace_period_seconds: Some(config.limits.shutdown_grace.as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);
    let services = proxy::services(paywall, &config.listeners, &conf).map_err(StartError::Certificate)?;
    for service in services {
        server.add_service(service);
    }
    Ok(server)
}
