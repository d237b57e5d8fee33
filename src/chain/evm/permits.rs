//! What became of a permit that the x402 proxy spends.
//!
//! Permit2 tells of no nonce that is used, and whoever calls the proxy may do so from within a contract.
//! Events alone never prove then which permit a transfer was for: a payer can spend another nonce in the
//! same block for nothing, where nobody sees it, and would have one transfer count for two payments. So a
//! transaction counts by the call of the proxy that it makes: its own one, or one that the node's trace
//! of it shows.

use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::SolEvent as _;

use super::events::{self, Spends, Spent, Wanted};
use super::node::{Block, Filter, Receipt, Transaction};
use super::{ChainError, EvmChain, Finding, Window, contradiction, paid, place_of};
use crate::scheme::{OnChain, PERMIT2};

/// A permit that is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permit {
    pub(super) token: Address,
    pub(super) nonce: U256,
    pub(super) wanted: Wanted,
}

impl Permit {
    fn has_nonce(&self, spent: &Spent) -> bool {
        spent.owner == self.wanted.from && spent.nonce == self.nonce
    }

    /// Whether spending it made just the transfer that is wanted.
    fn has_terms(&self, spent: &Spent) -> bool {
        spent.token == self.token && spent.wanted() == self.wanted
    }
}

/// What a transaction did with a permit.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// Spent it for the transfer that is looked for.
    Paid,
    /// Spent its nonce for something else.
    Elsewhere,
    /// Nothing.
    Nothing,
    /// That cannot be seen, and why.
    Unclear(String),
}

impl EvmChain {
    /// Whether the transaction that a facilitator named spent a permit. Where that cannot be seen, the
    /// word of the facilitator is enough.
    pub(super) async fn hint_spent(&self, permit: Permit, receipt: &Receipt) -> Result<bool, ChainError> {
        if !events::has_transfer(receipt, permit.token, permit.wanted) || !events::has_settlement(receipt) {
            return Ok(false);
        }
        let transaction = self.node.transaction(receipt.transaction_hash).await?;
        let fate = match events::spends(&transaction, permit.token) {
            Spends::Permit(spent) => fate_among(permit, &[spent], receipt),
            Spends::None => Ok(Fate::Nothing),
            Spends::Unclear => self.traced(permit, &transaction, receipt).await,
        };
        Ok(matches!(fate?, Fate::Paid | Fate::Unclear(_)))
    }

    /// Looks at every transfer that could be the permit's.
    pub(super) async fn search_permit2(
        &self,
        payment: &OnChain,
        permit: Permit,
        window: Window,
    ) -> Result<Finding, ChainError> {
        let (word, bit) = place_of(permit.nonce);
        let signatures =
            vec![events::Transfer::SIGNATURE_HASH, events::UnorderedNonceInvalidation::SIGNATURE_HASH];
        let topics = vec![signatures, vec![permit.wanted.from.into_word()]];
        let mut scan = window.scan(&self.node, Filter { addresses: vec![permit.token, PERMIT2], topics });
        let (mut invalidated, mut unclear, mut judged) = (None, None, B256::ZERO);
        while let Some(page) = scan.page().await? {
            for log in page {
                let hash = log.transaction_hash;
                let of_permit2 = log.address == PERMIT2;
                let invalid = of_permit2.then(|| events::invalidation(&log)).flatten();
                if invalid.is_some_and(|(at, mask)| at == word && mask & bit != U256::ZERO) {
                    invalidated.get_or_insert(hash);
                }
                // One transaction may have several transfers; they lie side by side.
                if of_permit2 || events::transfer(&log) != Some(permit.wanted) || hash == judged {
                    continue;
                }
                judged = hash;
                let (fate, block) = self.fate_in(payment, permit, hash, window).await?;
                match fate {
                    Fate::Paid => return Ok(paid(permit.wanted, hash, block)),
                    Fate::Elsewhere => return Ok(Finding::Spent { transaction: Some(hash.to_string()) }),
                    Fate::Unclear(cause) => unclear = Some((hash, cause)),
                    Fate::Nothing => {}
                }
            }
        }
        match unclear {
            Some((hash, cause)) => Err(ChainError::new(format!(
                "whether transaction {hash} spent the permit cannot be seen: {cause}"
            ))),
            None if window.whole => {
                Ok(Finding::Spent { transaction: invalidated.map(|hash| hash.to_string()) })
            }
            None => Err(window.no_trace()),
        }
    }

    /// What a transaction did with a permit that has the transfer, and its block.
    async fn fate_in(
        &self,
        payment: &OnChain,
        permit: Permit,
        hash: B256,
        window: Window,
    ) -> Result<(Fate, Block), ChainError> {
        let transaction = self.node.transaction(hash).await?;
        let Some((receipt, block)) = self.receipt_of(Some(hash), window.judged).await? else {
            return Err(contradiction(hash));
        };
        let fate = match events::spends(&transaction, permit.token) {
            Spends::Permit(spent) => fate_among(permit, &[spent], &receipt)?,
            Spends::None => Fate::Nothing,
            // Without a word of the proxy no permit was spent through it.
            Spends::Unclear if !events::has_settlement(&receipt) => Fate::Nothing,
            Spends::Unclear if self.is_of_another_block(payment, block).await => Fate::Nothing,
            Spends::Unclear => self.traced(permit, &transaction, &receipt).await?,
        };
        Ok((fate, block))
    }

    /// Whether it is certain that the nonce was not spent in this block. Nodes that have dropped old
    /// states cannot tell.
    async fn is_of_another_block(&self, payment: &OnChain, block: Block) -> bool {
        let before = match block.number.checked_sub(1) {
            Some(number) => self.is_spent(payment, number).await,
            None => Ok(false),
        };
        before == Ok(true) || self.is_spent(payment, block.number).await == Ok(false)
    }

    /// What a transaction did with a permit, by every call that it made of the proxy.
    async fn traced(
        &self,
        permit: Permit,
        transaction: &Transaction,
        receipt: &Receipt,
    ) -> Result<Fate, ChainError> {
        let call = match self.node.trace(transaction.hash).await {
            Ok(call) => call,
            Err(error) => return Ok(Fate::Unclear(error.cause)),
        };
        // A transaction that creates a contract names none.
        let same_place = transaction.to.is_none_or(|to| call.to == Some(to));
        if !same_place || call.input != transaction.input {
            return Err(ChainError::new("the node answers with the trace of another transaction"));
        }
        fate_among(permit, &events::all_spent(&call), receipt)
    }
}

/// What became of a permit in a transaction that spent these.
fn fate_among(permit: Permit, spent: &[Spent], receipt: &Receipt) -> Result<Fate, ChainError> {
    let Some(found) = spent.iter().find(|found| permit.has_nonce(found)) else { return Ok(Fate::Nothing) };
    if !permit.has_terms(found) {
        return Ok(Fate::Elsewhere);
    }
    // Every permit that has been spent has a transfer of its own.
    let equal = spent.iter().filter(|found| permit.has_terms(found)).count();
    if events::transfers(receipt, permit.token, permit.wanted) < equal {
        return Err(contradiction(receipt.transaction_hash));
    }
    Ok(Fate::Paid)
}
