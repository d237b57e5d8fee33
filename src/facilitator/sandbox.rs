//! The built-in sandbox: checks payments as a real facilitator does and keeps test balances, but
//! moves no money. It settles `exact` EIP-3009 payments on test networks. Who lost its answer to a
//! settlement is told the same again.

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
    /// Payments that were settled.
    used: HashMap<PaymentId, Used>,
}

/// What a payment that was settled was used for.
struct Used {
    /// The account that was paid.
    payee: (Network, String, String),
    amount: U256,
    expires: UnixSeconds,
}

impl Books {
    /// Forgets payments that can no longer be settled, if there are many; whether there is room.
    fn make_room(&mut self, now: UnixSeconds) -> bool {
        if self.used.len() >= ENTRIES_MAX {
            self.used.retain(|_, used| used.expires > now);
        }
        self.used.len() < ENTRIES_MAX && self.balances.len() < ENTRIES_MAX
    }
}

struct Checked {
    id: PaymentId,
    expires: UnixSeconds,
    payer: String,
    /// Why there is not enough time left to settle it, if there is not.
    too_late: Option<Reason>,
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
        // A contract wallet's signature takes a chain to check, and the sandbox has none.
        let payer = authorization.payer.filter(|_| is_ordinary(request)).ok_or(Reason::EVM_SIGNATURE)?;
        let expires = authorization.expires.unwrap_or(UnixSeconds(u64::MAX));
        Ok(Checked { id: authorization.id, expires, payer, too_late: authorization.too_late })
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
            Ok(Checked { too_late: Some(reason), .. }) | Err(reason) => {
                return Ok(VerifyResponse::Invalid { reason, payer: None });
            }
            Ok(checked) => checked,
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
        let (payee, amount) =
            (Self::key(request, &request.requirements.pay_to), request.requirements.amount.0);
        let mut books = self.books();
        let made = books.used.get(&checked.id);
        if made.is_some_and(|used| used.payee == payee && used.amount == amount) {
            return settled(request, checked);
        }
        if let Some(reason) = checked.too_late {
            return declined(&reason, None);
        }
        let left = match self.covers(&books, request, &checked) {
            Ok(left) => left,
            Err(reason) => return declined(&reason, Some(checked.payer)),
        };
        if !books.make_room(self.clock.now()) {
            return declined(&Reason::SANDBOX_FULL, Some(checked.payer));
        }
        books.balances.insert(Self::key(request, &checked.payer), left);
        let balance = books.balances.entry(payee.clone()).or_default();
        *balance = balance.saturating_add(amount);
        books.used.insert(checked.id, Used { payee, amount, expires: checked.expires });
        settled(request, checked)
    }
}

/// The answer to a settlement that was made.
fn settled(request: &FacilitatorRequest, checked: Checked) -> SettleOutcome {
    SettleOutcome::Settled(SettleResponse {
        success: true,
        error_reason: None,
        // Looks like a transaction, and names the payment it stands for.
        transaction: keccak256([b"sandbox".as_slice(), checked.id.0.as_slice()].concat()).to_string(),
        payer: Some(checked.payer),
        network: request.network.as_str().to_owned(),
        amount: None,
        extra: None,
        extensions: None,
    })
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
    async fn who_lost_the_answer_to_a_settlement_is_told_the_same_again() {
        let sandbox = sandbox("$0.02");
        let first = sandbox.settle(&request(1)).await;
        assert!(matches!(first, SettleOutcome::Settled(_)), "{first:?}");
        assert_eq!(sandbox.settle(&request(1)).await, first);
        // It was charged once, and buys nothing new.
        let used = sandbox.verify(&request(1)).await;
        assert!(
            matches!(&used, Ok(VerifyResponse::Invalid { reason, .. }) if *reason == Reason::EVM_NONCE_USED)
        );
        assert!(matches!(sandbox.settle(&request(2)).await, SettleOutcome::Settled(_)));
        // The same authorization for something else is none that was settled.
        sandbox.books().used.values_mut().for_each(|used| used.amount += U256::ONE);
        assert!(matches!(sandbox.settle(&request(1)).await, SettleOutcome::Declined(_)));
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
