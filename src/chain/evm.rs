//! EVM chains, asked through a node.

mod events;
mod node;
mod permits;
mod search;

use std::collections::HashMap;
use std::time::Duration;

use alloy::rpc::client::RpcClient;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent;
use async_trait::async_trait;
use tokio::sync::OnceCell;

pub(crate) use self::events::{Deed, Wanted, deed_in};
use self::node::{Block, Filter, Log, Node, Receipt};
use self::permits::Permit;
use self::search::{Scan, around};
use super::settings::ChainSettings;
use super::{Chain, ChainError, Finding, NonceUse, Received, rpc};
use crate::clock::UnixSeconds;
use crate::scheme::{OnChain, PERMIT2};
use crate::x402::Network;

/// How far the gateway's clock may be ahead of a chain's.
const CLOCK_SKEW_SECONDS: u64 = 300;
/// Questions for events that one payment is worth.
const LOOK_QUERIES_MAX: usize = 128;
/// Questions for events that one list of what was received is worth.
const LIST_QUERIES_MAX: usize = 2_000;
/// The longest list of what was received.
const RECEIVED_MAX: usize = 100_000;
/// Looking for one payment may take as long as this many questions.
const LOOK_TIMEOUTS: u32 = 6;

/// An EVM chain behind a node that speaks JSON-RPC over HTTP.
pub struct EvmChain {
    network: Network,
    chain_id: u64,
    confirmations: u64,
    timeout: Duration,
    node: Node,
    /// Whether the node was seen to serve the right chain.
    checked: OnceCell<()>,
}

impl EvmChain {
    /// Prepares the way to a chain's node; connects to nothing yet.
    ///
    /// # Errors
    /// A network that is not an EVM one, a URL that cannot be used.
    pub fn new(settings: &ChainSettings) -> Result<Self, String> {
        let client = rpc::connect(&settings.rpc, settings.timeout)
            .map_err(|error| format!("chains.{}: rpc: {error}", settings.network.name()))?;
        Self::through(client, settings)
    }

    /// A chain whose node is asked through any client; the URL in `settings` is not looked at.
    ///
    /// # Errors
    /// A network that is not an EVM one.
    pub fn through(client: RpcClient, settings: &ChainSettings) -> Result<Self, String> {
        let network = settings.network.clone();
        let chain_id = network.chain_id().ok_or_else(|| format!("{network} is not an EVM network"))?;
        Ok(Self {
            network,
            chain_id,
            confirmations: settings.confirmations.max(1),
            timeout: settings.timeout,
            node: Node::new(client),
            checked: OnceCell::new(),
        })
    }

    /// The block at the depth that counts; `None` while the chain is shorter. Asks which chain the
    /// node serves first: a wrong chain gives no answers.
    async fn judged(&self) -> Result<Option<Block>, ChainError> {
        self.checked.get_or_try_init(|| self.check_chain()).await?;
        let latest = self.node.latest().await?;
        if self.confirmations == 1 {
            return Ok(Some(latest));
        }
        match latest.number.checked_sub(self.confirmations - 1) {
            Some(number) => self.node.block(number).await.map(Some),
            None => Ok(None),
        }
    }

    async fn check_chain(&self) -> Result<(), ChainError> {
        let found = self.node.chain_id().await?;
        if found == self.chain_id {
            return Ok(());
        }
        let (wanted, network) = (self.chain_id, self.network.name());
        Err(ChainError::new(format!("the node serves chain {found}, not {wanted} ({network})")))
    }

    async fn look_now(
        &self,
        payment: &OnChain,
        since: UnixSeconds,
        hint: Option<B256>,
    ) -> Result<Finding, ChainError> {
        if payment.chain_id() != self.chain_id {
            let message =
                format!("chain {} is not asked for payments of {}", self.chain_id, payment.chain_id());
            return Err(ChainError::new(message));
        }
        let Some(judged) = self.judged().await? else { return Ok(Finding::Open) };
        if !self.is_spent(payment, judged.number).await? {
            return self.unspent(payment, judged).await;
        }
        let wanted = wanted(payment);
        if let Some((receipt, block)) = self.receipt_of(hint, judged).await?
            && self.hint_paid(payment, wanted, &receipt).await?
        {
            return Ok(paid(wanted, receipt.transaction_hash, block));
        }
        let start = since.0.saturating_sub(CLOCK_SKEW_SECONDS);
        let range = around(&self.node, start, judged).await?;
        // Nodes that have dropped old states cannot tell; the events may.
        let spent_before = match range.before {
            Some(block) => self.is_spent(payment, block.number).await.ok(),
            None => Some(false),
        };
        if spent_before == Some(true) {
            return Ok(Finding::Spent { transaction: None });
        }
        let window = Window { first: range.first, judged, whole: spent_before.is_some() };
        match payment {
            OnChain::Eip3009 { asset, nonce, .. } => {
                self.search_eip3009(*asset, *nonce, wanted, window).await
            }
            OnChain::Permit2 { token, nonce, .. } => {
                let permit = Permit { token: *token, nonce: *nonce, wanted };
                self.search_permit2(payment, permit, window).await
            }
        }
    }

    /// Whether the payment's nonce was spent by the end of a block.
    async fn is_spent(&self, payment: &OnChain, block: u64) -> Result<bool, ChainError> {
        match payment {
            OnChain::Eip3009 { asset, from, nonce, .. } => {
                let call = events::authorizationStateCall { authorizer: *from, nonce: *nonce };
                self.node.call(*asset, &call, block).await
            }
            OnChain::Permit2 { owner, nonce, .. } => {
                let (word, bit) = place_of(*nonce);
                let call = events::nonceBitmapCall { owner: *owner, word };
                Ok(self.node.call(PERMIT2, &call, block).await? & bit != U256::ZERO)
            }
        }
    }

    async fn unspent(&self, payment: &OnChain, judged: Block) -> Result<Finding, ChainError> {
        // Blocks after this one are not earlier, so none of them can take it.
        if judged.timestamp <= payment.last_second().0 {
            return Ok(Finding::Open);
        }
        // The state belonged to this block and not to one that took its place meanwhile.
        let same = self.node.block(judged.number).await? == judged;
        Ok(if same { Finding::Expired } else { Finding::Open })
    }

    /// The receipt of a transaction that succeeded and is deep enough, and its block.
    async fn receipt_of(
        &self,
        hash: Option<B256>,
        judged: Block,
    ) -> Result<Option<(Receipt, Block)>, ChainError> {
        let Some(hash) = hash else { return Ok(None) };
        let receipt = self.node.receipt(hash).await?;
        let Some(receipt) = receipt.filter(|found| found.status == 1 && found.block_number <= judged.number)
        else {
            return Ok(None);
        };
        let block = self.node.block(receipt.block_number).await?;
        if block.hash != receipt.block_hash {
            return Err(ChainError::new("the chain was reorganised while it was asked"));
        }
        Ok(Some((receipt, block)))
    }

    /// Whether the transaction that a facilitator named made this payment.
    async fn hint_paid(
        &self,
        payment: &OnChain,
        wanted: Wanted,
        receipt: &Receipt,
    ) -> Result<bool, ChainError> {
        match payment {
            OnChain::Eip3009 { asset, nonce, .. } => {
                Ok(events::deed(receipt, *asset, wanted, *nonce) == Deed::Paid)
            }
            OnChain::Permit2 { token, nonce, .. } => {
                self.hint_spent(Permit { token: *token, nonce: *nonce, wanted }, receipt).await
            }
        }
    }

    async fn search_eip3009(
        &self,
        asset: Address,
        nonce: B256,
        wanted: Wanted,
        window: Window,
    ) -> Result<Finding, ChainError> {
        let Some(log) = self.first_use(asset, wanted.from, nonce, window).await? else {
            return Err(window.no_trace());
        };
        let hash = log.transaction_hash;
        let Some((receipt, block)) = self.receipt_of(Some(hash), window.judged).await? else {
            return Err(contradiction(hash));
        };
        match events::deed(&receipt, asset, wanted, nonce) {
            Deed::Paid => Ok(paid(wanted, hash, block)),
            Deed::Elsewhere | Deed::Cancelled => Ok(Finding::Spent { transaction: Some(hash.to_string()) }),
            Deed::Nothing => Err(contradiction(hash)),
            Deed::Unclear => {
                let cause = format!("which transfer of transaction {hash} is the payment's is not clear");
                Err(ChainError::new(cause))
            }
        }
    }

    /// The event that spent the nonce of an authorization.
    async fn first_use(
        &self,
        asset: Address,
        authorizer: Address,
        nonce: B256,
        window: Window,
    ) -> Result<Option<Log>, ChainError> {
        let signatures =
            vec![events::AuthorizationUsed::SIGNATURE_HASH, events::AuthorizationCanceled::SIGNATURE_HASH];
        let topics = vec![signatures, vec![authorizer.into_word()], vec![nonce]];
        let mut scan = window.scan(&self.node, Filter { addresses: vec![asset], topics });
        while let Some(page) = scan.page().await? {
            if let Some(log) = page.into_iter().next() {
                return Ok(Some(log));
            }
        }
        Ok(None)
    }

    async fn time_of(&self, log: &Log, known: &mut HashMap<u64, u64>) -> Result<UnixSeconds, ChainError> {
        if let Some(time) = log.block_timestamp {
            return Ok(UnixSeconds(time));
        }
        if let Some(time) = known.get(&log.block_number) {
            return Ok(UnixSeconds(*time));
        }
        let time = self.node.block(log.block_number).await?.timestamp;
        known.insert(log.block_number, time);
        Ok(UnixSeconds(time))
    }
}

#[async_trait]
impl Chain for EvmChain {
    fn network(&self) -> &Network {
        &self.network
    }

    async fn look(&self, payment: &OnChain, since: UnixSeconds, hint: &str) -> Result<Finding, ChainError> {
        // What is no hash names no transaction of this chain.
        let look = self.look_now(payment, since, hint.parse().ok());
        let limit = self.timeout.saturating_mul(LOOK_TIMEOUTS);
        tokio::time::timeout(limit, look).await.unwrap_or_else(|_| {
            Err(ChainError::new(format!("the chain was not searched within {} ms", limit.as_millis())))
        })
    }

    async fn head(&self) -> Result<UnixSeconds, ChainError> {
        self.checked.get_or_try_init(|| self.check_chain()).await?;
        Ok(UnixSeconds(self.node.latest().await?.timestamp))
    }

    async fn received(
        &self,
        asset: Address,
        to: Address,
        from: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Vec<Received>, ChainError> {
        let Some(judged) = self.judged().await? else { return Ok(Vec::new()) };
        let start = match from.0.checked_sub(1) {
            Some(before) => around(&self.node, before, judged).await?.first,
            None => 0,
        };
        let end = around(&self.node, until.0, judged).await?.last;
        let topics = vec![vec![events::Transfer::SIGNATURE_HASH], vec![], vec![to.into_word()]];
        let filter = Filter { addresses: vec![asset], topics };
        let mut scan = Scan::new(&self.node, filter, start, end, LIST_QUERIES_MAX);
        let (mut found, mut times) = (Vec::new(), HashMap::new());
        while let Some(page) = scan.page().await? {
            for log in page {
                let Some(moved) = events::transfer(&log) else {
                    return Err(ChainError::new(format!(
                        "{asset} does not emit transfers as EIP-20 tokens do"
                    )));
                };
                let time = self.time_of(&log, &mut times).await?;
                if time < from || time > until {
                    continue;
                }
                found.push(Received {
                    from: moved.from,
                    value: moved.value,
                    transaction: log.transaction_hash,
                    log_index: log.index,
                    block: log.block_number,
                    time,
                });
            }
            if found.len() > RECEIVED_MAX {
                return Err(ChainError::new(format!(
                    "more than {RECEIVED_MAX} transfers: ask for less time"
                )));
            }
        }
        Ok(found)
    }

    async fn nonce_use(
        &self,
        asset: Address,
        authorizer: Address,
        nonce: B256,
        since: UnixSeconds,
    ) -> Result<Option<NonceUse>, ChainError> {
        let Some(judged) = self.judged().await? else { return Ok(None) };
        let start = since.0.saturating_sub(CLOCK_SKEW_SECONDS);
        let range = around(&self.node, start, judged).await?;
        let window = Window { first: range.first, judged, whole: false };
        let Some(log) = self.first_use(asset, authorizer, nonce, window).await? else {
            return Ok(None);
        };
        let time = self.time_of(&log, &mut HashMap::new()).await?;
        let cancelled = events::is_cancellation(&log);
        Ok(Some(NonceUse { transaction: log.transaction_hash, cancelled, time }))
    }
}

/// The blocks in which a nonce must have been spent.
#[derive(Debug, Clone, Copy)]
struct Window {
    first: u64,
    /// The last block.
    judged: Block,
    /// Whether the nonce was certainly not spent before.
    whole: bool,
}

impl Window {
    fn scan(self, node: &Node, filter: Filter) -> Scan<'_> {
        Scan::new(node, filter, self.first, self.judged.number, LOOK_QUERIES_MAX)
    }

    fn no_trace(self) -> ChainError {
        ChainError::new(format!(
            "the nonce is spent, but the node's events of blocks {} to {} do not tell by what",
            self.first, self.judged.number
        ))
    }
}

/// The transfer that pays.
fn wanted(payment: &OnChain) -> Wanted {
    match payment {
        OnChain::Eip3009 { from, to, value, .. } => Wanted { from: *from, to: *to, value: *value },
        OnChain::Permit2 { owner, to, amount, .. } => Wanted { from: *owner, to: *to, value: *amount },
    }
}

fn paid(wanted: Wanted, transaction: B256, block: Block) -> Finding {
    Finding::Paid {
        transaction: transaction.to_string(),
        payer: wanted.from.to_checksum(None),
        time: UnixSeconds(block.timestamp),
    }
}

fn contradiction(transaction: B256) -> ChainError {
    ChainError::new(format!("the node's events and its receipt of transaction {transaction} contradict"))
}

/// Where Permit2 keeps a nonce: a word of 256, and the bit in it.
fn place_of(nonce: U256) -> (U256, U256) {
    let bit = usize::from(nonce.byte(0));
    (nonce >> 8, U256::ONE << bit)
}
