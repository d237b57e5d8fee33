//! The built-in sandbox: checks payments as a real facilitator does and keeps test balances, but
//! moves no money. It settles `exact` EIP-3009 payments on test networks.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{U256, keccak256};
use async_trait::async_trait;

use super::{Facilitator, SettleOutcome, Unavailable};
use crate::clock::Clock;
use crate::scheme::{ExactEvm, Moment, PaymentId, Scheme as _};
use crate::x402::network::KNOWN_NETWORKS;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{
    Asset, Money, Network, Reason, SettleResponse, Supported, SupportedKind, VerifyResponse, Version,
};

/// Seconds a payment must stay valid to be settled, as real facilitators want.
const MARGIN_SECONDS: u64 = 6;

/// The built-in sandbox.
pub struct Sandbox {
    clock: Arc<dyn Clock>,
    balance: Money,
    supported: Arc<Supported>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// What accounts that have paid or been paid hold, by network, asset and account.
    balances: HashMap<(Network, String, String), U256>,
    /// Payments that were settled.
    used: HashSet<PaymentId>,
}

struct Checked {
    id: PaymentId,
    payer: String,
}

impl Sandbox {
    /// A sandbox in which every payer has `balance` at first.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, balance: Money) -> Self {
        let kinds = KNOWN_NETWORKS
            .iter()
            .filter(|known| known.testnet)
            .filter_map(|known| known.caip2.parse::<Network>().ok())
            .filter(|network| network.chain_id().is_some())
            .flat_map(|network| {
                [Version::V1, Version::V2].map(|version| SupportedKind {
                    version,
                    scheme: "exact".to_owned(),
                    network: network.clone(),
                    extra: serde_json::Map::new(),
                })
            })
            .collect();
        let supported = Arc::new(Supported { kinds, ..Supported::default() });
        Self { clock, balance, supported, books: Mutex::default() }
    }

    fn check(&self, request: &FacilitatorRequest) -> Result<Checked, Reason> {
        if !self.supported.settles(&request.scheme, &request.network) {
            return Err(Reason::foreign("invalid_network"));
        }
        let moment = Moment { now: self.clock.now(), margin_seconds: MARGIN_SECONDS };
        let authorization = ExactEvm.inspect(&request.requirements, &request.payload, moment)?;
        if let Some(reason) = authorization.too_late {
            return Err(reason);
        }
        // A contract wallet's signature takes a chain to check, and the sandbox has none.
        let payer = authorization.payer.filter(|_| is_ordinary(request)).ok_or(Reason::EVM_SIGNATURE)?;
        Ok(Checked { id: authorization.id, payer })
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        // Every change below is complete before it can panic.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn first_balance(&self, request: &FacilitatorRequest) -> U256 {
        let asset = Asset::find(&request.network, &request.requirements.asset);
        let decimals = asset.map_or(6, |asset| asset.decimals);
        self.balance.to_atomic(decimals).map_or(U256::ZERO, |amount| amount.0)
    }

    fn key(request: &FacilitatorRequest, account: &str) -> (Network, String, String) {
        (request.network.clone(), request.requirements.asset.to_lowercase(), account.to_lowercase())
    }

    /// Whether the payment can be settled, by the books.
    fn covers(&self, books: &Books, request: &FacilitatorRequest, checked: &Checked) -> Result<U256, Reason> {
        if books.used.contains(&checked.id) {
            return Err(Reason::EVM_NONCE_USED);
        }
        let balance = books.balances.get(&Self::key(request, &checked.payer)).copied();
        let balance = balance.unwrap_or_else(|| self.first_balance(request));
        balance.checked_sub(request.requirements.amount.0).ok_or(Reason::INSUFFICIENT_FUNDS)
    }
}

fn is_ordinary(request: &FacilitatorRequest) -> bool {
    let signature = request.payload.get("signature").and_then(serde_json::Value::as_str);
    signature.is_some_and(|signature| signature.len() == 2 + 2 * 65)
        && request.payload.contains_key("authorization")
}

#[async_trait]
impl Facilitator for Sandbox {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        Ok(Arc::clone(&self.supported))
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let checked = match self.check(request) {
            Ok(checked) => checked,
            Err(reason) => return Ok(VerifyResponse::Invalid { reason, payer: None }),
        };
        let covered = self.covers(&self.books(), request, &checked);
        let payer = Some(checked.payer);
        Ok(match covered {
            Ok(_) => VerifyResponse::Valid { payer },
            Err(reason) => VerifyResponse::Invalid { reason, payer },
        })
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        let declined = |reason: &Reason, payer| {
            SettleOutcome::Declined(SettleResponse::failed(reason, payer, &request.network))
        };
        let checked = match self.check(request) {
            Ok(checked) => checked,
            Err(reason) => return declined(&reason, None),
        };
        let mut books = self.books();
        let left = match self.covers(&books, request, &checked) {
            Ok(left) => left,
            Err(reason) => return declined(&reason, Some(checked.payer)),
        };
        books.balances.insert(Self::key(request, &checked.payer), left);
        let payee = books.balances.entry(Self::key(request, &request.requirements.pay_to)).or_default();
        *payee = payee.saturating_add(request.requirements.amount.0);
        books.used.insert(checked.id);
        SettleOutcome::Settled(SettleResponse {
            success: true,
            error_reason: None,
            payer: Some(checked.payer),
            // Looks like a transaction, and names the payment it stands for.
            transaction: keccak256([b"sandbox".as_slice(), checked.id.0.as_slice()].concat()).to_string(),
            network: request.network.as_str().to_owned(),
            amount: None,
            extra: None,
            extensions: None,
        })
    }
}
