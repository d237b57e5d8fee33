//! Settlement without a third party: payments are checked and put on the chain by the gateway itself,
//! through a node, with a key that pays for gas.
//!
//! EVM `exact` (`scheme_exact_evm.md`), of both protocol generations:
//!
//! | Payer | EIP-3009 | Permit2 through the x402 proxy |
//! |---|---|---|
//! | ordinary account | yes | yes |
//! | contract wallet (EIP-1271), delegated account (EIP-7702) | where the token asks wallets, as USDC does since 2.2 | yes |
//! | wallet not deployed yet (ERC-6492) | the same, if its factory is on the operator's list | the same |
//!
//! Permit2 needs the proxy on the chain, ERC-6492 Multicall3: the wallet is deployed and the payment
//! made in one transaction, in which the factory is called by Multicall3 and so with nobody's rights.
//! Extensions that pay for a payer's approval (`eip2612GasSponsoring`, `erc20ApprovalGasSponsoring`)
//! and ERC-7710 are not supported. Networks need EIP-1559 fees; what a rollup charges for data comes on
//! top of them and has no ceiling here.
//!
//! What is sent goes through the `sequencer`, one for each key; what it means for a payment is
//! decided in `settle`:
//!
//! - `Settled` needs a successful receipt with the signed transfer in it, and as many blocks as wanted.
//! - `Declined` was refused before anything was sent, or is a receipt that moved nothing.
//! - `Pending` names a transaction that a node has. The same payment again waits for it on.
//! - `Unreachable` sent nothing. `AnswerLost` may have.
//!
//! # Why not a crate
//!
//! `x402-chain-eip155` and `x402-facilitator-local` 2.0.2 are built on the same alloy and check
//! payments much like this module. But a transaction's end reaches their caller as one text for
//! everything: not connected, refused, sent without an answer, not in a block after 30 seconds; the
//! hash of the last is lost in it. So nobody could tell a payment that may be given back from one that
//! may have moved. Besides, the nonce counter is read anew after every error while other transactions
//! are under way, a stuck transaction is never replaced, fees have no ceiling, one confirmation is
//! fixed, receipts are not searched for the transfer, any factory that a signature names is called, and
//! the first question to a chain without all three helper contracts fails the start. Each is a
//! promise of this gateway, and all are decided inside the crate.

mod abi;
mod check;
mod fees;
mod flight;
mod gas;
pub mod key;
mod node;
mod payment;
mod sequencer;
mod settle;
mod signature;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, mpsc};
use tokio::time::Instant;

use self::check::Look;
use self::flight::{Account, State};
use self::gas::{Gas, Seen};
use self::node::{Down, Node};
use self::payment::Payment;
use self::sequencer::{Policy, Sequencer, too_dear};
use self::settle::Desk;
use super::settings::OnchainSettings;
use super::{Facilitator, SettleOutcome, TARGET, Unavailable};
use crate::chain::rpc;
use crate::clock::Clock;
use crate::telemetry::Metrics;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Network, Reason, SettleResponse, Supported, SupportedKind, VerifyResponse, Version};

/// When to try again after a node that does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// When to ask about a transaction that was sent.
const RETRY_AFTER_SENT: Duration = Duration::from_secs(10);
/// The longest wait for one answer of the node.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Transactions that wait to be sent.
const ORDERS_MAX: usize = 1024;

/// Checks the URL of a node. Without `insecure`, plain HTTP only leads to this machine.
///
/// # Errors
/// What is wrong with it, without its text.
pub fn rpc_url(text: &str, insecure: bool) -> Result<(), String> {
    let url = rpc::parse_url(text)?;
    if url.scheme() == "http" && !insecure && !rpc::is_loopback(&url) {
        return Err("leads to another machine unencrypted; insecure = true allows that".into());
    }
    Ok(())
}

/// A facilitator that settles on a chain itself.
pub struct Onchain {
    settings: OnchainSettings,
    desk: Arc<Desk>,
    gas: Arc<Gas>,
    runtime: Handle,
    supported: OnceCell<Arc<Supported>>,
}

impl Onchain {
    /// Prepares settlement; asks the chain nothing yet. Transactions are sent and watched on `runtime`,
    /// which must outlive every request.
    ///
    /// # Errors
    /// A network, key or URL that cannot be used; secrets are not quoted.
    pub fn new(
        settings: OnchainSettings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        runtime: Handle,
    ) -> Result<Self, String> {
        let name = settings.name.clone();
        let failed = |cause: String| format!("facilitator {name}: {cause}");
        let chain_id = settings.network.chain_id();
        let chain_id = chain_id.ok_or_else(|| failed(format!("{} is no EVM network", settings.network)))?;
        let signer = key::signer(&settings.key).map_err(|cause| failed(format!("key: {cause}")))?;
        // Half a deadline at most: a node that does not answer must not look like a payment that waits.
        let timeout = ANSWER_MAX.min(settings.verify_timeout / 2).min(settings.settle_timeout / 2);
        let node = Node::new(&settings.rpc, timeout).map_err(|cause| failed(format!("rpc {cause}")))?;
        let (node, account) = (Arc::new(node), Arc::new(Account::new(signer, chain_id)));
        let gas = Arc::new(Gas {
            node: Arc::clone(&node),
            facilitator: name.clone(),
            account: account.address,
            low: settings.low_balance,
            metrics,
            seen: Mutex::new(Seen::default()),
        });
        let policy = Policy {
            name: name.clone(),
            ceiling: settings.max_fee,
            confirmations: settings.confirmations,
            replace_after: settings.replace_after,
        };
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let sequencer = Sequencer::new(
            Arc::clone(&node),
            Arc::clone(&account),
            policy,
            Arc::clone(&clock),
            Arc::clone(&gas),
            received,
        );
        runtime.spawn(sequencer.run());
        let desk = Arc::new(Desk {
            name,
            network: settings.network.clone(),
            node,
            account,
            clock,
            gas_limit: settings.gas_limit,
            confirmations: settings.confirmations,
            factories: settings.wallet_factories.clone(),
            orders,
            known: Mutex::new(HashMap::new()),
        });
        Ok(Self { settings, desk, gas, runtime, supported: OnceCell::new() })
    }

    /// What is settled, as soon as the node has shown that it is one of the right chain.
    async fn ready(&self) -> Result<Arc<Supported>, Down> {
        let supported = self.supported.get_or_try_init(|| async {
            let (id, market) = tokio::try_join!(self.desk.node.chain_id(), self.desk.node.market())?;
            let network = &self.settings.network;
            if network.chain_id() != Some(id) {
                return Err(Down(format!("the node is one of eip155:{id} and not of {network}")));
            }
            self.gas.check().await;
            tracing::info!(
                target: TARGET, facilitator = self.settings.name, %network, account = %self.desk.account.address,
                network_gwei = fees::gwei(market.least()), "settles on chain"
            );
            Ok(Arc::new(supported(network, &self.desk.account.address.to_checksum(None))))
        });
        supported.await.cloned()
    }

    async fn judge(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Down> {
        self.ready().await?;
        let payment = match Payment::read(request, &self.settings.network) {
            Ok(payment) => payment,
            Err(reason) => return Ok(VerifyResponse::Invalid { reason, payer: None }),
        };
        let payer = Some(payment.payer.to_checksum(None));
        let invalid = |reason| VerifyResponse::Invalid { reason, payer: payer.clone() };
        if let Err(reason) = payment.in_time(self.desk.clock.now()) {
            return Ok(invalid(reason));
        }
        if self.desk.knows(&payment) {
            return Ok(invalid(Reason::DUPLICATE));
        }
        // What could not be sent would have been worked for in vain.
        let market = self.desk.node.market().await?;
        if market.offer(self.settings.max_fee).is_none() {
            return Err(too_dear(market, self.settings.max_fee));
        }
        if self.gas.check().await {
            return Err(Down(format!("{} has nothing left for gas", self.desk.account.address)));
        }
        Ok(match self.desk.asker().look(&payment).await? {
            Look::Payable(_) => VerifyResponse::Valid { payer },
            Look::Used => invalid(payment.used()),
            Look::Refused(reason) => invalid(reason),
        })
    }

    /// Waits for a settlement as long as there is time.
    async fn wait(&self, payment: Payment) -> SettleOutcome {
        let limit = self.settings.settle_timeout;
        let deadline = Instant::now() + limit;
        // What is sent late would only be given up as lost.
        let send_before = deadline - limit / 4;
        let Some(mut state) = self.desk.join(payment.clone(), send_before, &self.runtime) else {
            return self.desk.unreachable("too many settlements are under way");
        };
        loop {
            if let State::Done(outcome) = &*state.borrow_and_update() {
                return outcome.clone();
            }
            match tokio::time::timeout_at(deadline, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.desk.lost("the task of the settlement has ended"),
                Err(_) => break,
            }
        }
        let now = state.borrow().clone();
        match now {
            State::Done(outcome) => outcome,
            State::Sent(hash) => self.desk.pending(&payment, hash),
            State::Sending => self.desk.lost("no node has answered to the transaction"),
            // Nothing is sent any more for this call.
            State::Working => self.desk.unreachable("the chain's node did not answer in time"),
        }
    }
}

#[async_trait]
impl Facilitator for Onchain {
    fn name(&self) -> &str {
        &self.settings.name
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        self.ready().await.map_err(|Down(cause)| self.desk.unavailable(&cause, RETRY_AFTER))
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let limit = self.settings.verify_timeout;
        let judged = tokio::time::timeout(limit, self.judge(request)).await;
        judged
            .unwrap_or_else(|_| Err(Down("the chain's node did not answer in time".into())))
            .map_err(|Down(cause)| self.desk.unavailable(&cause, RETRY_AFTER))
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        if let Err(Down(cause)) = self.ready().await {
            return self.desk.unreachable(&cause);
        }
        match Payment::read(request, &self.settings.network) {
            Ok(payment) => self.wait(payment).await,
            Err(reason) => SettleOutcome::Declined(SettleResponse::failed(&reason, None, &request.network)),
        }
    }
}

fn supported(network: &Network, account: &str) -> Supported {
    let kind = |version| SupportedKind {
        version,
        scheme: "exact".to_owned(),
        network: network.clone(),
        extra: Map::new(),
    };
    // The first generation calls networks by names, of which this may have none.
    let first = network.v1_name().map(|_| kind(Version::V1));
    Supported {
        kinds: first.into_iter().chain([kind(Version::V2)]).collect(),
        extensions: Vec::new(),
        signers: [("eip155:*".to_owned(), Value::from(vec![account]))].into_iter().collect(),
    }
}
