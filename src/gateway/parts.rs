//! The parts that a gateway is put together from.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::StartError;
use crate::admin::{self, Admin};
use crate::chain::settings::ChainSettings;
use crate::chain::{Chain, EvmChain};
use crate::clock::Clock;
use crate::config::Config;
use crate::facilitator::serve::{self, Service};
use crate::facilitator::settings::FacilitatorSettings;
use crate::facilitator::{Facilitator, FacilitatorList, HttpFacilitator, Metered, Onchain, Sandbox};
use crate::ledger::Ledger;
use crate::ledger::settings::LedgerUrl;
use crate::payment::{Chains, Gate, GateParts, OfferBook};
use crate::policy::FacilitatorId;
use crate::proxy::settings::UpstreamAddress;
use crate::proxy::{self, Certificates, Paywall, Site, SiteParts, UpstreamError};
use crate::telemetry::Metrics;

/// Times Pingora may try to reach an upstream for one request.
const MAX_RETRIES: usize = 4;
/// Idle upstream connections kept, for all upstreams together.
const UPSTREAM_POOL: usize = 1024;
/// How often it is looked whether what a facilitator supports has changed. It is asked itself only when
/// its last answer is no longer fresh.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Where nothing listens.
pub(super) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What stays as long as the process runs, whatever its configuration.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) ledger: Arc<dyn Ledger>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) runtime: Handle,
}

/// A facilitator with the settings it was made by.
pub(super) type Made = (FacilitatorSettings, Arc<dyn Facilitator>);

impl Base {
    /// The facilitators of a configuration. Those that were the same `before` stay what they are, with
    /// all they know.
    pub(super) fn facilitators(&self, config: &Config, before: &[Made]) -> Result<Vec<Made>, StartError> {
        let made = |settings: &FacilitatorSettings| {
            let same = before.iter().find(|(other, _)| other == settings);
            let facilitator = match same {
                Some((_, facilitator)) => Arc::clone(facilitator),
                None => self.facilitator(config, settings)?,
            };
            Ok((settings.clone(), facilitator))
        };
        config.facilitators.iter().map(made).collect()
    }

    fn facilitator(
        &self,
        config: &Config,
        settings: &FacilitatorSettings,
    ) -> Result<Arc<dyn Facilitator>, StartError> {
        let clock = || Arc::clone(&self.clock);
        let inner: Arc<dyn Facilitator> = match settings {
            FacilitatorSettings::Sandbox => Arc::new(Sandbox::new(clock(), config.sandbox_balance.clone())),
            FacilitatorSettings::Http(settings) => {
                Arc::new(HttpFacilitator::new(settings.clone(), clock()).map_err(StartError::Facilitator)?)
            }
            FacilitatorSettings::Onchain(settings) => {
                let (settings, metrics) = (settings.as_ref().clone(), Arc::clone(&self.metrics));
                let built = Onchain::new(settings, clock(), metrics, self.runtime.clone());
                Arc::new(built.map_err(StartError::Facilitator)?)
            }
        };
        Ok(Arc::new(Metered::new(inner, Arc::clone(&self.metrics))))
    }

    /// The gate of a configuration, which takes the place of one `before`; and what offers are settled by.
    pub(super) fn gate(
        &self,
        config: &Config,
        every: &[Made],
        before: Option<&Gate>,
    ) -> Result<(Gate, Vec<Arc<FacilitatorList>>), StartError> {
        let list = |members: &Vec<usize>| {
            let members = members.iter().map(|index| Arc::clone(&every[*index].1)).collect();
            Arc::new(FacilitatorList::new(members))
        };
        let lists: Vec<_> = config.facilitator_groups.iter().map(list).collect();
        let parts = GateParts {
            offers: Arc::new(OfferBook::new(Arc::clone(&config.routes), config.public_url.clone())),
            facilitators: lists.clone(),
            every: every.iter().map(|(_, facilitator)| Arc::clone(facilitator)).collect(),
            chains: chains(config)?,
            ledger: Arc::clone(&self.ledger),
            clock: Arc::clone(&self.clock),
            runtime: self.runtime.clone(),
            verify_in_flight: config.verify_in_flight,
            origin_time_seconds: config.origin_time_seconds,
            pledges: config.pledges.clone(),
            failures: config.failures,
            redelivery: config.redelivery,
        };
        let gate = match before {
            Some(before) => before.successor(parts),
            None => Gate::new(parts),
        };
        Ok((gate, lists))
    }

    /// The site of a configuration, which takes the place of one `before`.
    pub(super) fn site(
        &self,
        config: &Config,
        gate: &Gate,
        demo: SocketAddr,
        before: Option<&Site>,
    ) -> Result<Site, UpstreamError> {
        let parts = SiteParts {
            gate: gate.clone(),
            routes: Arc::clone(&config.routes),
            shadow: config.shadow.clone(),
            upstreams: &config.upstreams,
            demo,
            public_url: config.public_url.clone(),
            limits: config.limits,
            cors: config.cors.clone(),
            metrics: Arc::clone(&self.metrics),
        };
        Site::new(parts, before)
    }
}

/// Pingora would panic later; this says what is wrong.
pub(super) fn check_addresses(config: &Config) -> Result<(), StartError> {
    for listener in &config.listeners {
        StdListener::bind(listener.address)
            .map_err(|cause| StartError::Listen { address: listener.address, cause })?;
    }
    Ok(())
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
pub(super) async fn take_up(gate: &Gate) {
    if gate.recover().await.is_ok() {
        let _ = gate.put_quotes_up().await;
    }
}

/// Asks every facilitator what it supports: those inside the process at once, the others in tasks
/// of their own, so that a facilitator that is down keeps nothing but its own routes waiting.
pub(super) async fn observe_all(gate: &Gate, facilitators: &[Arc<FacilitatorList>]) {
    for (index, facilitator) in facilitators.iter().enumerate() {
        let (gate, facilitator) = (gate.clone(), Arc::clone(facilitator));
        let id = FacilitatorId(index);
        let mut task = tokio::spawn(async move {
            let mut known = false;
            while !gate.is_retired() {
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

/// Starts the built-in site, where an upstream is it; `None`: none is.
pub(super) async fn start_demo(config: &Config) -> Result<Option<SocketAddr>, StartError> {
    let wanted = NOWHERE;
    if !config.upstreams.iter().any(|upstream| upstream.address == UpstreamAddress::Demo) {
        return Ok(None);
    }
    let failed = |cause| StartError::Listen { address: wanted, cause };
    let listener = TcpListener::bind(wanted).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        crate::demo::serve(listener).await;
    });
    Ok(Some(address))
}

pub(super) async fn start_admin(address: SocketAddr, admin: Arc<Admin>) -> Result<(), StartError> {
    let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
    tokio::spawn(async move {
        if let Err(error) = admin::serve(listener, admin).await {
            tracing::error!(%error, "the admin address stopped");
        }
    });
    Ok(())
}

/// Offers a facilitator to others, where that is switched on.
pub(super) async fn start_service(
    config: &Config,
    every: &[Made],
) -> Result<Option<Arc<Service>>, StartError> {
    let Some((id, settings)) = &config.facilitator_service else { return Ok(None) };
    // The configuration takes one facilitator here, and no list.
    let member = config.facilitator_groups.get(id.0).and_then(|members| every.get(*members.first()?));
    let Some((_, facilitator)) = member else { return Ok(None) };
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

/// The server, with the certificates of each listener.
pub(super) fn server(
    config: &Config,
    paywall: Paywall,
    certificates: &[Arc<Certificates>],
) -> Result<Server, StartError> {
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
    let services =
        proxy::services(paywall, &config.listeners, certificates, &conf).map_err(StartError::Certificate)?;
    for service in services {
        server.add_service(service);
    }
    Ok(server)
}
