//! The chains the gateway can ask itself what became of a payment.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::gate::{Gate, Shared};
use crate::chain::{Chain, ChainError, Finding};
use crate::clock::UnixSeconds;
use crate::scheme::{self, EXTRA_VALIDITY_SECONDS};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, SettleResponse};

/// How long a client waits for what a chain tells.
const WAIT_FOR_CHAIN: Duration = Duration::from_secs(10);

/// How far the chain's clock may be ahead of the ledger's, in seconds, where nobody looked: so long after
/// a ledger was created, a payment may look as if it had been made since then, and was made before.
const CLOCK_SLACK_SECONDS: u64 = 60;

/// How long a gateway's start waits for the chains to tell where they stand.
const WAIT_FOR_HEADS: Duration = Duration::from_secs(3);

/// Beside the validity of an offer: how long ago somebody else may have submitted a payment.
const SUBMITTED_WITHIN_SECONDS: u64 = 60;

/// Chains by network.
#[derive(Clone, Default)]
pub struct Chains(HashMap<Network, Entry>);

#[derive(Clone)]
struct Entry {
    chain: Arc<dyn Chain>,
    accept_used: bool,
    /// Where the chain stood when the ledger had just been created.
    head: Arc<OnceLock<Head>>,
}

/// The time of a chain's latest block, soon after a ledger was created.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// When that ledger was created: another one may be found in its place.
    birth: UnixSeconds,
    time: UnixSeconds,
}

impl Chains {
    /// The chains, each with whether a payment that somebody else submitted counts when its money
    /// reached the payee.
    #[must_use]
    pub fn new(chains: Vec<(Arc<dyn Chain>, bool)>) -> Self {
        let entry = |(chain, accept_used): (Arc<dyn Chain>, bool)| {
            (chain.network().clone(), Entry { chain, accept_used, head: Arc::default() })
        };
        Self(chains.into_iter().map(entry).collect())
    }

    /// Whether a payment on a network that somebody else submitted counts.
    pub(super) fn accept_used(&self, network: &Network) -> bool {
        self.0.get(network).is_some_and(|entry| entry.accept_used)
    }

    /// Asks every chain where it stands after the birth of a ledger, and keeps it.
    async fn note_heads(&self, birth: UnixSeconds) {
        let asking = self.0.values().map(|entry| async move {
            match entry.chain.head().await {
                Ok(time) => drop(entry.head.set(Head { birth, time })),
                Err(error) => {
                    tracing::warn!(network = %entry.chain.network(), %error, "a chain does not tell where it stands");
                }
            }
        });
        let _ = tokio::time::timeout(WAIT_FOR_HEADS, futures_util::future::join_all(asking)).await;
    }

    /// From when on money that moved on a network cannot have bought anything before the ledger was
    /// created. What bought something then was in a block by then. So its time is not behind that of the
    /// chain's latest block afterwards; and unless the ledger's clock was behind, not behind the ledger's
    /// birth, should the node have been behind itself.
    fn after_birth(&self, network: &Network, birth: UnixSeconds) -> UnixSeconds {
        match self.0.get(network).and_then(|entry| entry.head.get()) {
            Some(head) if head.birth == birth => birth.max(head.time).plus(1),
            Some(_) | None => birth.plus(CLOCK_SLACK_SECONDS),
        }
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

impl Gate {
    /// Takes note of where the chains stand, if the ledger has only just been created: what moved money
    /// later was not for the ledger before. To be awaited before the first payment is taken; without it,
    /// or where a chain does not tell, payments that others submit within a minute do not count.
    pub async fn note_heads(&self) {
        let Ok(birth) = self.0.ledger.birth().await else { return };
        if self.0.clock.now() <= birth.plus(CLOCK_SLACK_SECONDS) {
            self.0.chains.note_heads(birth).await;
        }
    }
}

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
            Ok(birth) if time >= self.chains.after_birth(&request.network, birth) => {
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
