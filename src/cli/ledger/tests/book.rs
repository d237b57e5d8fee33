//! Books to read: a ledger in memory, and payments in every state.

use alloy_primitives::{B256, U256};

use crate::clock::UnixSeconds;
use crate::ledger::contract::{claim as claim_of, intent, response};
use crate::ledger::{
    Accounts as _, ClaimToken, Claimed, DeliveryEnd, Intent, Ledger as _, ModelLedger, NewClaim,
    PaymentRecord, PaymentState, Settlement,
};
use crate::scheme::PaymentId;
use crate::x402::{AtomicAmount, Network, SettleResponse};

/// USDC on base-sepolia.
pub(in super::super) const USDC: &str = "0x036CbD53842c5426634e7929541eC2318f3dCF7e";
/// 2026-07-31T12:00:00Z.
pub(in super::super) const NOON: UnixSeconds = UnixSeconds(1_785_499_200);

pub(in super::super) fn network(name: &str) -> Network {
    name.parse().unwrap()
}

pub(in super::super) fn amount(units: u64) -> AtomicAmount {
    AtomicAmount(U256::from(units))
}

/// The answer to a settlement by a transaction.
pub(in super::super) fn settlement(transaction: &str) -> SettleResponse {
    SettleResponse { transaction: transaction.to_owned(), ..response() }
}

/// A claim with an identity of its own for each number.
pub(in super::super) fn claim_numbered(number: u64) -> NewClaim {
    let id = PaymentId(alloy_primitives::keccak256(number.to_be_bytes()));
    NewClaim { id, ..claim_of(0) }
}

/// A settled payment that is in no books, claimed in 1970.
pub(in super::super) fn settled(byte: u8) -> PaymentRecord {
    let claim = claim_of(byte);
    PaymentRecord {
        id: claim.id,
        attempt: 1,
        state: PaymentState::Settled,
        particulars: claim.particulars,
        expires: claim.expires,
        request_hash: claim.request,
        repeatable: claim.repeatable,
        identifier: claim.identifier,
        redelivery: claim.redelivery,
        request: None,
        unique_transaction: false,
        response: Some(Box::new(response())),
        transaction: "0x1".into(),
        reason: String::new(),
        deliveries: 1,
        owner: None,
        grant: claim.grant,
        tries: 0,
        tried_at: None,
        next_try: None,
        claimed_at: UnixSeconds(1_000),
        settling_at: Some(UnixSeconds(1_001)),
        settled_at: Some(UnixSeconds(1_002)),
        delivered_at: None,
        changed_at: UnixSeconds(1_002),
    }
}

/// Books that are being written.
pub(in super::super) struct Book {
    pub(in super::super) ledger: ModelLedger,
}

impl Book {
    pub(in super::super) fn new() -> Self {
        Self { ledger: ModelLedger::new() }
    }

    pub(in super::super) async fn claim_at(&self, claim: &NewClaim, now: UnixSeconds) -> ClaimToken {
        match self.ledger.claim(claim, now).await.unwrap() {
            Claimed::New(token) => token,
            other => panic!("{other:?}"),
        }
    }

    /// Claims the payment of a byte, with the identity of 32 such bytes, at noon.
    pub(in super::super) async fn claim(&self, byte: u8) -> ClaimToken {
        self.claim_at(&claim_of(byte), NOON).await
    }

    pub(in super::super) async fn settling(&self, claim: &NewClaim, now: UnixSeconds) -> ClaimToken {
        let token = self.claim_at(claim, now).await;
        let facilitator = claim.particulars.facilitator.clone();
        let intent = Intent { facilitator, ..intent("{\"asked\":1}", false) };
        self.ledger.settling(token, intent, now.plus(1)).await.unwrap();
        token
    }

    /// Claims, settles and delivers.
    pub(in super::super) async fn deliver(
        &self,
        claim: &NewClaim,
        now: UnixSeconds,
        transaction: &str,
    ) -> ClaimToken {
        let token = self.settling(claim, now).await;
        let response = settlement(transaction);
        let settled = Settlement { response: &response, deliver: true, unique_transaction: false };
        self.ledger.settled(token, settled, now.plus(2)).await.unwrap();
        self.ledger.delivered(token, DeliveryEnd::Complete, now.plus(3)).await.unwrap();
        token
    }

    /// Claims, and leaves open whether it was settled.
    pub(in super::super) async fn leave_open(&self, claim: &NewClaim, now: UnixSeconds) -> ClaimToken {
        let token = self.settling(claim, now).await;
        self.ledger.unresolved(token, "no answer in 30 s", "", now.plus(60), now.plus(31)).await.unwrap();
        token
    }

    pub(in super::super) async fn record(&self, token: ClaimToken) -> PaymentRecord {
        self.record_of(token.id).await
    }

    pub(in super::super) async fn record_of(&self, id: PaymentId) -> PaymentRecord {
        self.ledger.get(id).await.unwrap().unwrap()
    }

    /// One payment in each state, a minute apart.
    pub(in super::super) async fn of_all_states() -> Self {
        let book = Self::new();
        let at = |minute: u64| NOON.plus(60 * minute);
        book.claim_at(&claim_of(0x10), at(0)).await;
        book.settling(&claim_of(0x20), at(1)).await;
        let token = book.settling(&claim_of(0x30), at(2)).await;
        let response = settlement(&B256::repeat_byte(0x33).to_string());
        let owed = Settlement { response: &response, deliver: false, unique_transaction: false };
        book.ledger.settled(token, owed, at(2).plus(2)).await.unwrap();
        book.deliver(&claim_of(0x40), at(3), &B256::repeat_byte(0x44).to_string()).await;
        book.leave_open(&claim_of(0x50), at(4)).await;
        let token = book.settling(&claim_of(0x60), at(5)).await;
        book.ledger.declined(token, "insufficient_funds", at(5).plus(2)).await.unwrap();
        let token = book.claim_at(&claim_of(0x70), at(6)).await;
        book.ledger.release(token, Some("the site answered 404"), at(6).plus(2)).await.unwrap();
        book
    }
}
