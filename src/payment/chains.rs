//! The chains the gateway can ask itself what became of a payment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Shared;
use crate::chain::{Chain, ChainError, Finding};
use crate::clock::UnixSeconds;
use crate::scheme::{self, EXTRA_VALIDITY_SECONDS};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, SettleResponse};

/// How long a client waits for what a chain tells.
const WAIT_FOR_CHAIN: Duration = Duration::from_secs(10);

/// How far the chain's clock may be ahead of the ledger's, in seconds: so long after a ledger was
/// created, a payment may look as if it had been made since then, and was made before.
const CLOCK_SLACK_SECONDS: u64 = 60;

/// Beside the validity of an offer: how long ago somebody else may have submitted a payment.
const SUBMITTED_WITHIN_SECONDS: u64 = 60;

/// Chains by network.
#[derive(Clone, Default)]
pub struct Chains(HashMap<Network, Entry>);

#[derive(Clone)]
struct Entry {
    chain: Arc<dyn Chain>,
    accept_used: bool,
}

impl Chains {
    /// The chains, each with whether a payment that somebody else submitted counts when its money
    /// reached the payee.
    #[must_use]
    pub fn new(chains: Vec<(Arc<dyn Chain>, bool)>) -> Self {
        let entry = |(chain, accept_used): (Arc<dyn Chain>, bool)| {
            (chain.network().clone(), Entry { chain, accept_used })
        };
        Self(chains.into_iter().map(entry).collect())
    }

    /// Whether a payment on a network that somebody else submitted counts.
    pub(super) fn accept_used(&self, network: &Network) -> bool {
        self.0.get(network).is_some_and(|entry| entry.accept_used)
    }

    async fn look(
        &self,
        request: &FacilitatorRequest,
        since: UnixSeconds,
        hint: &str,
    ) -> Option<Result<Finding, ChainError>> {
        let entry = self.0.get(&request.network)?;
        let payment = scheme::find(&request.scheme, &request.network)
            .on_chain(&request.requirements, &request.payload)?;
        Some(entry.chain.look(&payment, since, hint).await)
    }
}

/// What is known of a payment that somebody else may have submitted.
#[derive(Debug)]
pub(super) enum ByOthers {
    /// Its money reached the payee: its payer is owed one delivery.
    Paid(Box<SettleResponse>),
    /// It buys nothing, and why not.
    Spent(&'static str),
    /// Nothing that would make it count.
    Unknown,
}

/// What the books say of a payment whose money may have moved before they were begun.
pub(super) const BEFORE_LEDGER: &str = "its money may have moved before this ledger was created";

impl Shared {
    /// What became of a payment whose settlement was asked for. `None`: nobody can be asked. What moved
    /// its money before the ledger was created was not that settlement, unless clocks disagree: then
    /// there is no telling.
    pub(super) async fn look(
        &self,
        request: &FacilitatorRequest,
        since: UnixSeconds,
        hint: &str,
    ) -> Option<Result<Finding, ChainError>> {
        let found = self.chains.look(request, since, hint).await?;
        let Ok(Finding::Paid { transaction, time, .. }) = &found else { return Some(found) };
        let cause = match self.ledger.birth().await {
            Ok(birth) if *time >= birth => return Some(found),
            Ok(_) => format!("transaction {transaction} moved its money before this ledger was created"),
            Err(error) => error.to_string(),
        };
        Some(Err(ChainError { cause }))
    }

    /// Whether a payment that was found used is paid, whoever submitted it.
    pub(super) async fn paid_by_others(&self, request: &FacilitatorRequest, since: UnixSeconds) -> ByOthers {
        if !self.chains.accept_used(&request.network) {
            return ByOthers::Unknown;
        }
        self.judge_used(request, since).await
    }

    /// Whether a payment whose settlement nobody here has asked for yet is spent already. Asked as long
    /// as the ledger is so young that a payment which is still valid may have been delivered before it
    /// was created: a facilitator that remembers would say that it has settled it.
    pub(super) async fn used_before(&self, request: &FacilitatorRequest, now: UnixSeconds) -> ByOthers {
        let validity = request.requirements.max_timeout_seconds.saturating_add(EXTRA_VALIDITY_SECONDS);
        let birth = self.birth.get_or_try_init(|| self.ledger.birth()).await;
        if birth.is_ok_and(|birth| now > birth.plus(validity)) {
            return ByOthers::Unknown;
        }
        match self.judge_used(request, submitted_since(request, now)).await {
            ByOthers::Paid(_) if !self.chains.accept_used(&request.network) => ByOthers::Unknown,
            judged => judged,
        }
    }

    async fn judge_used(&self, request: &FacilitatorRequest, since: UnixSeconds) -> ByOthers {
        // A client waits for this. What takes longer is found out behind it.
        let found = match tokio::time::timeout(WAIT_FOR_CHAIN, self.chains.look(request, since, "")).await {
            Ok(None) => return ByOthers::Unknown,
            Ok(Some(found)) => found,
            Err(_) => Err(ChainError { cause: "no answer in time".to_owned() }),
        };
        let (transaction, payer, time) = match found {
            Ok(Finding::Paid { transaction, payer, time }) => (transaction, payer, time),
            Ok(Finding::Spent { .. }) => {
                return ByOthers::Spent("the authorization was cancelled or spent otherwise");
            }
            Ok(Finding::Open | Finding::Expired) => return ByOthers::Unknown,
            Err(error) => {
                tracing::warn!(network = %request.network, %error, "a chain could not be asked about a payment");
                return ByOthers::Unknown;
            }
        };
        match self.ledger.birth().await {
            Ok(birth) if time >= birth.plus(CLOCK_SLACK_SECONDS) => {
                ByOthers::Paid(Box::new(settled(request, transaction, payer)))
            }
            Ok(birth) => {
                tracing::warn!(
                    transaction,
                    moved_at = time.0,
                    created_at = birth.0,
                    "a payment is used, perhaps before the ledger was created; what it bought then is not known"
                );
                ByOthers::Spent(BEFORE_LEDGER)
            }
            Err(error) => {
                tracing::warn!(%error, "the ledger cannot say since when it has kept account");
                ByOthers::Unknown
            }
        }
    }
}

/// How far back it matters who submitted a payment that is presented now.
pub(super) fn submitted_since(request: &FacilitatorRequest, now: UnixSeconds) -> UnixSeconds {
    let window = request.requirements.max_timeout_seconds.saturating_add(SUBMITTED_WITHIN_SECONDS);
    UnixSeconds(now.0.saturating_sub(window))
}

/// What a facilitator would have answered.
pub(super) fn settled(request: &FacilitatorRequest, transaction: String, payer: String) -> SettleResponse {
    SettleResponse {
        success: true,
        error_reason: None,
        payer: Some(payer),
        transaction,
        network: request.network.as_str().to_owned(),
        amount: None,
        extra: None,
        extensions: None,
    }
}
