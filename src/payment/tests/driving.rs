//! What ends an unresolved payment.

use std::time::Duration;

use super::super::upkeep::drive;
use super::*;
use crate::ledger::Ledger as _;

/// A facilitator that is asked again may send a second transaction, which fails exactly when the first
/// one moved the money.
#[tokio::test]
async fn only_the_failure_of_the_transaction_named_at_first_ends_an_unresolved_payment() {
    let network = terms().network;
    let pending = || {
        let failed = SettleResponse::failed(&Reason::SETTLEMENT_PENDING, None, &network);
        SettleOutcome::Pending(SettleResponse { transaction: "0x1".into(), ..failed })
    };
    let failed = || declined_after_sending("invalid_transaction_state");
    let lost = || SettleOutcome::AnswerLost(unavailable());
    for (at_first, later, state) in [
        (vec![pending(), pending()], vec![failed()], PaymentState::Declined),
        (vec![lost()], vec![failed()], PaymentState::Unresolved),
        // Nor does that of one which became known when it was asked again.
        (vec![lost()], vec![pending(), lost(), failed()], PaymentState::Unresolved),
        (vec![lost()], vec![lost(), settled()], PaymentState::Settled),
    ] {
        let shop = usual();
        shop.facilitator.outcomes.lock().unwrap().extend(at_first);
        shop.gate.settle(shop.permit(&v2(1)).await).await.unwrap_err();
        shop.facilitator.outcomes.lock().unwrap().extend(later);
        while !shop.facilitator.outcomes.lock().unwrap().is_empty() {
            let long_after = MOMENT.now.plus(100_000);
            let due = shop.ledger.due(long_after, Duration::from_secs(1), 1).await.unwrap();
            drive(&shop.gate.0, due[0].clone()).await;
        }
        assert_eq!(shop.held(state).await, 1, "{state:?}");
    }
}
