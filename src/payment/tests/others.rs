//! Payments that somebody else submits.

use super::super::Chains;
use super::*;
use crate::chain::{Chain, ChainError, Finding, NonceUse, Received};
use crate::scheme::OnChain;
use crate::x402::Network;
use alloy_primitives::{Address, B256};

/// A chain that says the same of every payment.
struct Told(Network, Finding);

#[async_trait]
impl Chain for Told {
    fn network(&self) -> &Network {
        &self.0
    }

    async fn look(&self, _: &OnChain, _: UnixSeconds, _: &str) -> Result<Finding, ChainError> {
        Ok(self.1.clone())
    }

    async fn head(&self) -> Result<UnixSeconds, ChainError> {
        Ok(MOMENT.now)
    }

    async fn received(
        &self,
        _: Address,
        _: Address,
        _: UnixSeconds,
        _: UnixSeconds,
    ) -> Result<Vec<Received>, ChainError> {
        Ok(vec![])
    }

    async fn nonce_use(
        &self,
        _: Address,
        _: Address,
        _: B256,
        _: UnixSeconds,
    ) -> Result<Option<NonceUse>, ChainError> {
        Ok(None)
    }
}

/// The facilitator's transaction fails when somebody else's gets into a block before it, and moves the
/// same money to the same payee.
#[tokio::test]
async fn a_payment_that_somebody_else_submitted_while_it_was_settled_is_delivered() {
    let paid = Finding::Paid { transaction: "0x2".into(), payer: "0xa".into(), time: MOMENT.now };
    for (finding, delivered) in
        [(paid, true), (Finding::Spent { transaction: None }, false), (Finding::Open, false)]
    {
        let told: Arc<dyn Chain> = Arc::new(Told(terms().network, finding.clone()));
        let chains = Chains::new(vec![(told, true)]);
        let supported = supported(&[Version::V2], &json!({}));
        let shop = shop_beside(chains, ModelLedger::new(), terms(), supported, SettleWhen::BeforeResponse);
        shop.facilitator.outcomes.lock().unwrap().push_back(SettleOutcome::Declined(reverted()));
        let settled = shop.gate.settle(shop.permit(&v2(1)).await).await;
        if delivered {
            assert_eq!(settled.unwrap().response.transaction, "0x2");
            assert_eq!(shop.held(PaymentState::Settled).await, 1);
        } else {
            let refusal = settled.unwrap_err();
            assert_eq!(refusal, Refusal::SettlementFailed(Box::new(reverted())), "{finding:?}");
        }
    }
}
