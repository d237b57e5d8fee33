//! A facilitator on a local chain, and payers with money.

use std::sync::Arc;
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::SolCall;
use serde_json::{Map, Value, json};
use tollgate::clock::SystemClock;
use tollgate::facilitator::settings::OnchainSettings;
use tollgate::facilitator::{Facilitator, Onchain, SettleOutcome};
use tollgate::scheme::{TransferWithAuthorization, authorization_digest};
use tollgate::secret::Secret;
use tollgate::telemetry::Metrics;
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{PaymentRequirements, SettleResponse, VerifyResponse, Version};

use crate::support::Payer;
use crate::support::anvil::{Anvil, CHAIN_ID, Contracts, SOMEBODY, TOKEN};
use crate::support::client::PATIENCE;

/// What every payment is about, in atomic units.
pub const PRICE: u64 = 10_000;
/// Who is paid.
pub const PAYEE: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

pub struct Till {
    pub anvil: Anvil,
    /// The key that pays for gas.
    pub key: String,
    pub account: Address,
    pub metrics: Arc<Metrics>,
}

impl Till {
    /// On a chain with a block for every transaction.
    pub async fn open() -> Self {
        Self::on(&[]).await
    }

    /// On a chain started with more arguments.
    pub async fn on(arguments: &[&str]) -> Self {
        let anvil = Anvil::start_with(arguments).await;
        let key = B256::random().to_string();
        let account = tollgate::facilitator::onchain::key::address(&Secret::new(key.clone())).unwrap();
        anvil.give_gas(account).await;
        Self { anvil, key, account, metrics: Arc::default() }
    }

    /// What suits a test: it fails sooner than an operator would want.
    pub fn settings(&self) -> OnchainSettings {
        self.settings_at(&self.anvil.url)
    }

    /// The same, with another way to the chain.
    pub fn settings_at(&self, url: &str) -> OnchainSettings {
        let (rpc, key) = (Secret::new(url.to_owned()), Secret::new(self.key.clone()));
        OnchainSettings {
            settle_timeout: Duration::from_secs(20),
            ..OnchainSettings::new("own", "base-sepolia".parse().unwrap(), rpc, key)
        }
    }

    pub fn facilitator(&self) -> Arc<Onchain> {
        self.with(self.settings())
    }

    pub fn with(&self, settings: OnchainSettings) -> Arc<Onchain> {
        self.within(settings, tokio::runtime::Handle::current())
    }

    /// One that works on a runtime of its own, and dies with it.
    pub fn within(&self, settings: OnchainSettings, runtime: tokio::runtime::Handle) -> Arc<Onchain> {
        Arc::new(Onchain::new(settings, Arc::new(SystemClock), Arc::clone(&self.metrics), runtime).unwrap())
    }

    /// A payer who can pay once.
    pub async fn payer(&self) -> Payer {
        let payer = Payer::new();
        self.anvil.mint(payer.address(), PRICE).await;
        payer
    }

    /// A right v2 request of a new payer who can pay it.
    pub async fn request(&self) -> FacilitatorRequest {
        let payer = self.payer().await;
        request_of(&payer, &authorization(payer.address()))
    }

    /// Transactions of the account that are in blocks.
    pub async fn transactions(&self) -> u64 {
        let count = self.anvil.rpc("eth_getTransactionCount", json!([self.account, "latest"])).await;
        number(&count)
    }

    /// What the payee has.
    pub async fn income(&self) -> u64 {
        self.anvil.balance_of(PAYEE.parse().unwrap()).await.to()
    }

    /// The only settlement in the chain: one payment moved, by one transaction.
    pub async fn assert_paid_once(&self, transaction: &str) {
        assert_eq!(self.income().await, PRICE);
        let receipt = self.anvil.receipt(transaction.parse().unwrap()).await;
        assert_eq!((&receipt["status"], &receipt["from"]), (&json!("0x1"), &json!(lower(self.account))));
    }
}

pub fn lower(address: Address) -> String {
    address.to_string().to_lowercase()
}

pub fn number(quantity: &Value) -> u64 {
    quantity.as_str().unwrap().parse::<U256>().unwrap().to()
}

pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The terms of every payment.
pub fn terms() -> PaymentRequirements {
    PaymentRequirements {
        scheme: "exact".into(),
        network: "base-sepolia".parse().unwrap(),
        amount: PRICE.to_string().parse().unwrap(),
        asset: TOKEN.to_string(),
        pay_to: PAYEE.into(),
        max_timeout_seconds: 300,
        extra: [("name".into(), "USDC".into()), ("version".into(), "2".into())].into_iter().collect(),
    }
}

/// What a payer signs for the terms.
pub fn authorization(payer: Address) -> TransferWithAuthorization {
    TransferWithAuthorization {
        from: payer,
        to: PAYEE.parse().unwrap(),
        value: U256::from(PRICE),
        validAfter: U256::ZERO,
        validBefore: U256::from(now() + 300),
        nonce: B256::random(),
    }
}

pub fn digest(message: &TransferWithAuthorization) -> B256 {
    authorization_digest(message, "USDC", "2", CHAIN_ID, TOKEN)
}

/// The request for an authorization that somebody signs as an ordinary account.
pub fn request_of(signer: &Payer, message: &TransferWithAuthorization) -> FacilitatorRequest {
    request_with(message, &signer.sign(digest(message)).parse().unwrap(), terms())
}

/// The request for an authorization with a signature.
pub fn request_with(
    message: &TransferWithAuthorization,
    signature: &Bytes,
    terms: PaymentRequirements,
) -> FacilitatorRequest {
    let payload = json!({"signature": signature, "authorization": {
        "from": message.from, "to": message.to, "value": message.value.to_string(),
        "validAfter": message.validAfter.to_string(), "validBefore": message.validBefore.to_string(),
        "nonce": message.nonce,
    }});
    v2(&payload, terms)
}

/// A request of the second generation.
pub fn v2(payload: &Value, terms: PaymentRequirements) -> FacilitatorRequest {
    let wire = serde_json::to_value(&terms).unwrap();
    let payment: Map<String, Value> =
        json!({"x402Version": 2, "accepted": wire, "payload": payload}).as_object().cloned().unwrap();
    FacilitatorRequest::new(Version::V2, terms, &payment, &wire)
}

/// The same request in the first generation's shape.
pub fn v1(request: &FacilitatorRequest) -> FacilitatorRequest {
    let terms = request.requirements.clone();
    let wire = tollgate::x402::v1::requirements(&terms, "", "").unwrap();
    let payment: Map<String, Value> =
        json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": request.payload})
            .as_object()
            .cloned()
            .unwrap();
    FacilitatorRequest::new(Version::V1, terms, &payment, &wire)
}

#[track_caller]
pub fn settled(outcome: SettleOutcome) -> SettleResponse {
    match outcome {
        SettleOutcome::Settled(response) => response,
        other => panic!("not settled: {other:?}"),
    }
}

#[track_caller]
pub fn declined(outcome: SettleOutcome) -> SettleResponse {
    match outcome {
        SettleOutcome::Declined(response) => response,
        other => panic!("not declined: {other:?}"),
    }
}

/// Asserts that a request is refused for a reason by both calls, and that nothing is sent.
pub async fn assert_refused(
    till: &Till,
    facilitator: &dyn Facilitator,
    request: &FacilitatorRequest,
    why: &str,
) {
    let before = till.transactions().await;
    match facilitator.verify(request).await {
        Ok(VerifyResponse::Invalid { reason, .. }) => assert_eq!(reason.as_str(), why),
        other => panic!("{why}: {other:?}"),
    }
    let response = declined(facilitator.settle(request).await);
    assert_eq!(response.error_reason.as_deref(), Some(why));
    assert_eq!((response.success, response.transaction.as_str()), (false, ""));
    assert_eq!(till.transactions().await, before, "{why}");
}

/// The call that gives a payer the price.
pub fn mint(to: Address) -> Contracts::mintCall {
    Contracts::mintCall { to, value: U256::from(PRICE) }
}

impl Till {
    /// The account's transactions that are in no block yet, by nonce.
    pub async fn waiting(&self) -> Vec<Value> {
        let pool = self.anvil.rpc("txpool_content", json!([])).await;
        let parts = ["pending", "queued"].map(|part| pool[part].as_object().unwrap());
        let own =
            parts.into_iter().flatten().filter(|(sender, _)| sender.to_lowercase() == lower(self.account));
        let mut own: Vec<Value> =
            own.flat_map(|(_, by_nonce)| by_nonce.as_object().unwrap().values().cloned()).collect();
        own.sort_by_key(|transaction| number(&transaction["nonce"]));
        own
    }

    /// Waits until so many transactions of the account wait for a block.
    pub async fn wait_for_waiting(&self, count: usize) -> Vec<Value> {
        self.wait_for_pool(|waiting| waiting.len() >= count).await
    }

    /// Waits until the account's waiting transactions are as they should be.
    pub async fn wait_for_pool(&self, right: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let waiting = self.waiting().await;
            if right(&waiting) {
                return waiting;
            }
            assert!(std::time::Instant::now() < deadline, "{waiting:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends a call to the token in somebody else's name, with a fee that puts it first in its block.
    pub async fn send_first(&self, call: &impl SolCall) -> B256 {
        let fee = U256::from(500_000_000_000_u64);
        let transaction = json!([{"from": SOMEBODY, "to": TOKEN, "input": Bytes::from(call.abi_encode()),
            "gas": "0x100000", "maxFeePerGas": fee, "maxPriorityFeePerGas": fee}]);
        self.anvil.rpc("eth_sendTransaction", transaction).await.as_str().unwrap().parse().unwrap()
    }
}
