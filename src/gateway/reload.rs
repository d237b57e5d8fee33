//! From one configuration to the next, while clients are served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::StartError;
use super::parts::{self, Base, Made};
use crate::config::Config;
use crate::config::plan::{Plan, RouteRow};
use crate::facilitator::settings::FacilitatorSettings;
use crate::payment::Gate;
use crate::proxy::{Certificates, Chains, Site};

/// How long a new configuration waits until it is known what its facilitators support: until then what
/// they settle would answer 503.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a running gateway has of its configuration.
pub(super) struct Live {
    pub(super) base: Base,
    pub(super) config: Config,
    pub(super) every: Vec<Made>,
    pub(super) gates: Arc<ArcSwap<Gate>>,
    /// Its routes in words, as JSON.
    pub(super) routes: Arc<ArcSwap<String>>,
    pub(super) site: Arc<ArcSwap<Site>>,
    /// Those of each listener.
    pub(super) certificates: Vec<Arc<Certificates>>,
    pub(super) demo: Option<SocketAddr>,
}

/// Why a configuration did not take effect.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// Something changed that only a start can change.
    #[error("{} can only change with a restart", .0.join(", "))]
    NeedsRestart(Vec<&'static str>),
    /// It cannot be used.
    #[error(transparent)]
    Unusable(#[from] StartError),
}

impl Live {
    /// Has requests that begin from now on answered by another configuration. Those under way end as they
    /// began, and what was quoted before stays good for as long as it was to be.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub(super) async fn change_to(&mut self, config: Config) -> Result<Plan, ReloadError> {
        let fixed = needs_restart(&self.config, &config);
        if !fixed.is_empty() {
            return Err(ReloadError::NeedsRestart(fixed));
        }
        let chains = config.listeners.iter().map(|listener| Chains::load(&listener.tls));
        let chains: Vec<Chains> = chains.collect::<Result<_, _>>().map_err(StartError::Certificate)?;
        let every = self.base.facilitators(&config, &self.every)?;
        if self.demo.is_none() {
            self.demo = parts::start_demo(&config).await?;
        }
        let before = self.gates.load_full();
        let (gate, lists) = self.base.gate(&config, &every, Some(&before))?;
        let demo = self.demo.unwrap_or(parts::NOWHERE);
        let site = self.base.site(&config, &gate, demo, Some(&self.site.load())).map_err(StartError::from)?;
        // Others are told before clients are. A ledger that is away is told with its next sign of life.
        let _ = gate.put_quotes_up().await;
        gate.note_heads().await;
        parts::observe_all(&gate, &lists).await;
        wait_until_payable(&gate).await;
        for (certificates, chains) in self.certificates.iter().zip(chains) {
            certificates.exchange(chains);
        }
        self.site.store(Arc::new(site));
        self.gates.store(Arc::new(gate.clone()));
        before.retire();
        self.base.runtime.spawn(gate.keep_up(config.ledger.retention_seconds));
        let (old, new) = (self.config.rows(), config.rows());
        self.routes.store(Arc::new(told(&new)));
        let plan = Plan::new(&old, Some(&self.config), &config);
        (self.every, self.config) = (every, config);
        Ok(plan)
    }
}

/// Routes in words, as JSON.
pub(super) fn told(rows: &[RouteRow]) -> String {
    // Texts always serialise.
    serde_json::to_string(rows).unwrap_or_default()
}

async fn wait_until_payable(gate: &Gate) {
    let deadline = Instant::now() + KNOWN_WITHIN;
    while let Err(routes) = gate.payable() {
        if Instant::now() >= deadline {
            let routes = routes.join(", ");
            tracing::warn!(
                routes,
                "what these routes' facilitators support is not known yet: they answer 503"
            );
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What differs and is only read at the start.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let listeners = |config: &Config| -> Vec<(SocketAddr, bool, bool)> {
        let listeners = config.listeners.iter();
        listeners.map(|listener| (listener.address, listener.h2c, listener.tls.is_empty())).collect()
    };
    // Two of them with one key would take each other's place in its account's order of transactions.
    let onchain = |config: &Config| -> Vec<FacilitatorSettings> {
        let is_onchain =
            |settings: &&FacilitatorSettings| matches!(settings, FacilitatorSettings::Onchain(_));
        config.facilitators.iter().filter(is_onchain).cloned().collect()
    };
    let served = |config: &Config| {
        let (id, settings) = config.facilitator_service.as_ref()?;
        let first = config.facilitator_groups.get(id.0)?.first()?;
        Some((settings.clone(), config.facilitators.get(*first)?.clone()))
    };
    let (before, after) = (&old.limits, &new.limits);
    let differs = [
        ("where clients connect (listen, [[listeners]])", listeners(old) != listeners(new)),
        ("[admin] listen", old.admin != new.admin),
        ("[ledger] url", old.ledger.url != new.ledger.url),
        ("[ledger] takeover_after_seconds", old.ledger.takeover_after != new.ledger.takeover_after),
        ("[log]", old.log != new.log),
        ("[limits] header_bytes", before.header_bytes != after.header_bytes),
        ("[limits] keepalive_timeout_ms", before.keepalive_timeout != after.keepalive_timeout),
        ("[limits] shutdown_grace_seconds", before.shutdown_grace != after.shutdown_grace),
        ("[sandbox] balance", old.sandbox_balance != new.sandbox_balance),
        ("facilitators that settle with a key of their own", onchain(old) != onchain(new)),
        ("[facilitator_service]", served(old) != served(new)),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(what, _)| what).collect()
}
