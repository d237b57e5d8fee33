//! The chains the gateway can ask itself what became of a payment.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{Chain, ChainError, Finding};
use crate::clock::UnixSeconds;
use crate::scheme;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, SettleResponse};

/// How long a client waits for what a chain tells.
const WAIT_FOR_CHAIN: Duration = Duration::from_secs(10);

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

    /// What became of a payment. `None`: nobody can be asked.
    pub(super) async fn look(
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

    /// The settlement of a payment that somebody else may have submitted, if it is paid.
    pub(super) async fn paid_by_others(
        &self,
        request: &FacilitatorRequest,
        since: UnixSeconds,
    ) -> Option<SettleResponse> {
        if !self.accept_used(&request.network) {
            return None;
        }
        // A client waits for this. What takes longer is found out behind it.
        let Ok(found) = tokio::time::timeout(WAIT_FOR_CHAIN, self.look(request, since, "")).await else {
            tracing::warn!(network = %request.network, "a chain did not tell in time what became of a payment");
            return None;
        };
        match found? {
            Ok(Finding::Paid { transaction, payer }) => Some(settled(request, transaction, payer)),
            Ok(Finding::Spent { .. } | Finding::Open | Finding::Expired) => None,
            Err(error) => {
                tracing::warn!(network = %request.network, %error, "a chain could not be asked about a payment");
                None
            }
        }
    }
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
