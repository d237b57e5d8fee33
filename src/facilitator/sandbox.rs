//! The built-in sandbox: checks payments as a real facilitator does and keeps test balances, but
//! moves no money. It settles `exact` EIP-3009 payments on test networks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use alloy_primitives::{U256, keccak256};
use async_trait::async_trait;

use super::{Facilitator, SettleOutcome, Unavailable};
use crate::clock::{Clock, UnixSeconds};
use crate::scheme::{ExactEvm, Moment, PaymentId, Scheme as _};
use crate::x402::network::KNOWN_NETWORKS;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{
    Asset, Money, Network, Reason, SettleResponse, Supported, SupportedKind, VerifyResponse, Version,
};

/// Seconds a payment must stay valid to be settled, as real facilitators want.
const MARGIN_SECONDS: u64 = 6;

/// Most accounts, and most payments still valid, in the books.
const ENTRIES_MAX: usize = 1_000_000;

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
    /// Payments that were settled, with when they expire.
    used: HashMap<PaymentId, UnixSeconds>,
}

impl Books {
    /// Forgets payments that can no longer be settled, if there are many; whether there is room.
    fn make_room(&mut self, now: UnixSeconds) -> bool {
        if self.used.len() >= ENTRIES_MAX {
            self.used.retain(|_, expires| *expires > now);
        }
        self.used.len() < ENTRIES_MAX && self.balances.len() < ENTRIES_MAX
    }
}

struct Checked {
    id: PaymentId,
    expires: UnixSeconds,
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
        let expires = authorization.expires.unwrap_or(UnixSeconds(u64::MAX));
        Ok(Checked { id: authorization.id, expires, payer })
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
        if books.used.contains_key(&checked.id) {
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
        if !books.make_room(self.clock.now()) {
            return declined(&Reason::SANDBOX_FULL, Some(checked.payer));
        }
        books.balances.insert(Self::key(request, &checked.payer), left);
        let payee = books.balances.entry(Self::key(request, &request.requirements.pay_to)).or_default();
        *payee = payee.saturating_add(request.requirements.amount.0);
        books.used.insert(checked.id, checked.expires);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facilitator::contract::{Subject, contract};
    use crate::scheme::testing::{MOMENT, payment, terms};

    struct FixedClock;

    impl Clock for FixedClock {
        fn now(&self) -> UnixSeconds {
            MOMENT.now
        }
    }

    fn sandbox(balance: &str) -> Sandbox {
        Sandbox::new(Arc::new(FixedClock), balance.parse().unwrap())
    }

    fn request(nonce: u8) -> FacilitatorRequest {
        let message = [("payload".to_owned(), payment(nonce))].into_iter().collect();
        let requirements = serde_json::to_value(terms()).unwrap();
        FacilitatorRequest::new(Version::V2, terms(), &message, &requirements)
    }

    #[tokio::test]
    async fn the_sandbox_keeps_the_contract() {
        let mut refused = request(9);
        refused.payload.insert("signature".into(), payment(8)["signature"].clone());
        let good = [request(1), request(2), request(3)];
        contract(&Subject { facilitator: Arc::new(sandbox("$1")), good, refused }).await;
    }

    #[tokio::test]
    async fn a_payer_can_spend_the_test_balance_and_no_more() {
        let sandbox = sandbox("$0.02");
        for nonce in [1, 2] {
            assert!(matches!(sandbox.settle(&request(nonce)).await, SettleOutcome::Settled(_)));
        }
        let poor = VerifyResponse::Invalid {
            reason: Reason::INSUFFICIENT_FUNDS,
            payer: Some(crate::scheme::testing::payer().to_string()),
        };
        assert_eq!(sandbox.verify(&request(3)).await, Ok(poor));
        assert!(matches!(sandbox.settle(&request(3)).await, SettleOutcome::Declined(_)));
    }

    #[tokio::test]
    async fn no_mainnet_payment_is_ever_taken() {
        let sandbox = sandbox("$1");
        let supported = sandbox.supported().await.unwrap();
        assert!(supported.kinds.iter().all(|kind| kind.network.is_testnet()));
        let mut mainnet = request(1);
        mainnet.network = "base".parse().unwrap();
        assert!(matches!(sandbox.settle(&mainnet).await, SettleOutcome::Declined(_)));
    }
}
