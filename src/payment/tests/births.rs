//! Payments that were made before their ledger was created.

use alloy_primitives::{Address, B256};

use super::super::chains::BEFORE_LEDGER;
use super::super::upkeep::drive;
use super::*;
use crate::chain::{Chain, ChainError, Finding, NonceUse, Received};
use crate::ledger::Ledger as _;
use crate::payment::Chains;
use crate::scheme::OnChain;
use crate::x402::Network;

/// A chain on which every payment was made at this time, once it has told so many times that it was not.
struct PaidAt(Network, UnixSeconds, AtomicUsize, Option<UnixSeconds>);

#[async_trait]
impl Chain for PaidAt {
    fn network(&self) -> &Network {
        &self.0
    }

    async fn look(&self, payment: &OnChain, _: UnixSeconds, _: &str) -> Result<Finding, ChainError> {
        if self.2.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Ok(Finding::Open);
        }
        let (transaction, payer) = ("0x5".to_owned(), payment.payer().to_string());
        Ok(Finding::Paid { transaction, payer, time: self.1 })
    }

    async fn head(&self) -> Result<UnixSeconds, ChainError> {
        self.3.ok_or_else(|| ChainError { cause: "is away".to_owned() })
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

/// When the ledger was created.
const BIRTH: UnixSeconds = UnixSeconds(MOMENT.now.0 - 200);

/// A shop whose payments were all made so many seconds after its ledger was created, by the word of a
/// chain that may say otherwise so many times before.
fn used(after_birth: i64, open: usize, settle: SettleWhen) -> Shop {
    used_since(BIRTH, after_birth, open, settle)
}

fn used_since(birth: UnixSeconds, after_birth: i64, open: usize, settle: SettleWhen) -> Shop {
    used_beside(birth, None, after_birth, open, settle)
}

/// The same, where the chain tells where it stands.
fn used_beside(
    birth: UnixSeconds,
    head: Option<UnixSeconds>,
    after_birth: i64,
    open: usize,
    settle: SettleWhen,
) -> Shop {
    let time = UnixSeconds(birth.0.checked_add_signed(after_birth).unwrap());
    let chains = Chains::new(vec![(Arc::new(PaidAt(terms().network, time, open.into(), head)), true)]);
    let supported = supported(&[Version::V1, Version::V2], &json!({}));
    shop_beside(chains, ModelLedger::born(birth), terms(), supported, settle)
}

async fn reason(shop: &Shop, state: PaymentState) -> String {
    let filter = Filter { states: vec![state], ..Filter::default() };
    let found = shop.ledger.list(&filter, None, 9).await.unwrap();
    assert_eq!(found.len(), 1, "{state:?}");
    found[0].reason.clone()
}

#[tokio::test]
async fn what_verification_finds_used_is_owed_only_if_it_was_made_since_the_ledger_was_created() {
    for (after_birth, is_owed) in [(-1, false), (0, false), (59, false), (60, true), (199, true)] {
        let shop = used(after_birth, 0, SettleWhen::BeforeResponse);
        let no = VerifyResponse::Invalid { reason: Reason::EVM_NONCE_USED, payer: None };
        shop.facilitator.verdicts.lock().unwrap().push_back(Ok(no));
        match shop.admit(Version::V2, &v2(1)).await {
            Admission::Owed(owed) if is_owed => assert_eq!(owed.receipt.response.transaction, "0x5"),
            Admission::Refused(Refusal::Invalid { reason: told, .. }) if !is_owed => {
                assert_eq!(told, Reason::EVM_NONCE_USED);
                assert_eq!(shop.ledger.list(&Filter::default(), None, 9).await.unwrap(), []);
            }
            other => panic!("{after_birth}: {other:?}"),
        }
    }
}

/// Clocks need not agree where the chain itself told how far it was when the ledger had been created.
#[tokio::test]
async fn where_the_chain_tells_where_it_stood_what_was_made_later_is_owed_at_once() {
    let born = |ago: u64| UnixSeconds(MOMENT.now.0 - ago);
    for (age, head, after_birth, is_owed) in [
        // The chain's clock agrees, is behind, is ahead, is far ahead.
        (10, Some(0), 0, false),
        (10, Some(0), 1, true),
        (10, Some(-30), 0, false),
        (10, Some(-30), 1, true),
        (10, Some(40), 40, false),
        (10, Some(40), 41, true),
        (10, Some(500), 500, false),
        (10, Some(500), 501, true),
        // It does not tell, or the ledger is not young any more.
        (10, None, 59, false),
        (10, None, 60, true),
        (61, Some(0), 59, false),
        (61, Some(500), 60, true),
    ] {
        let birth = born(age);
        let head = head.map(|head| UnixSeconds(birth.0.checked_add_signed(head).unwrap()));
        let shop = used_beside(birth, head, after_birth, 0, SettleWhen::BeforeResponse);
        shop.gate.note_heads().await;
        let no = VerifyResponse::Invalid { reason: Reason::EVM_NONCE_USED, payer: None };
        shop.facilitator.verdicts.lock().unwrap().push_back(Ok(no));
        let admission = shop.admit(Version::V2, &v2(1)).await;
        let owed = matches!(admission, Admission::Owed(_));
        assert_eq!(owed, is_owed, "{age} {head:?} {after_birth}: {admission:?}");
    }
}

#[tokio::test]
async fn what_a_settlement_finds_used_is_owed_only_if_it_was_made_since_the_ledger_was_created() {
    for (after_birth, is_owed) in [(-1, false), (59, false), (60, true)] {
        let shop = used(after_birth, 1, SettleWhen::BeforeRequest);
        shop.facilitator.outcomes.lock().unwrap().push_back(declined(Reason::EVM_NONCE_USED.as_str()));
        match shop.gate.settle(shop.permit(&v2(1)).await).await {
            Ok(receipt) if is_owed => assert_eq!(receipt.response.transaction, "0x5"),
            Err(Refusal::SettlementFailed(told)) if !is_owed => {
                assert_eq!(told.error_reason.as_deref(), Some(Reason::EVM_NONCE_USED.as_str()));
                assert_eq!(reason(&shop, PaymentState::Declined).await, BEFORE_LEDGER);
            }
            other => panic!("{after_birth}: {other:?}"),
        }
    }
}

/// A facilitator that remembers what it settled for a ledger that was lost says so again.
#[tokio::test]
async fn what_is_settled_without_verification_is_looked_up_first_as_long_as_the_ledger_is_young() {
    let day = 24 * 3600 + terms().max_timeout_seconds;
    for (age, after_birth, asked, state) in [
        (200, -1, 0, PaymentState::Released),
        (200, 59, 0, PaymentState::Released),
        // Somebody else was faster: it is paid, and nobody needs to settle it.
        (200, 60, 0, PaymentState::Settled),
        (day, -1, 0, PaymentState::Released),
        // What is older than the ledger has run out by now.
        (day + 1, -1, 1, PaymentState::Settled),
    ] {
        let birth = UnixSeconds(MOMENT.now.0 - age);
        let shop = used_since(birth, after_birth, 0, SettleWhen::BeforeRequest);
        let settled = shop.gate.settle(shop.permit(&v2(1)).await).await;
        let is_refused = matches!(settled, Err(Refusal::AlreadyUsed));
        assert_eq!(is_refused, state == PaymentState::Released, "{age} {after_birth}: {settled:?}");
        assert_eq!(shop.facilitator.settled.load(Ordering::SeqCst), asked, "{age} {after_birth}");
        let why = if is_refused { BEFORE_LEDGER } else { "" };
        assert_eq!(reason(&shop, state).await, why);
    }
}

/// Where it is not known what became of a settlement of this ledger's own, what moved the money is most
/// likely that.
#[tokio::test]
async fn a_settlement_whose_answer_was_lost_is_found_unless_the_money_moved_before_the_ledger_was_created() {
    let lost = || SettleOutcome::AnswerLost(unavailable());
    let odd = || declined("unexpected_settle_error");
    for (outcome, after_birth, state) in [
        (lost(), 0, PaymentState::Settled),
        (lost(), -1, PaymentState::Unresolved),
        (odd(), 0, PaymentState::Settled),
        (odd(), -1, PaymentState::Unresolved),
    ] {
        let shop = used(after_birth, 1, SettleWhen::BeforeRequest);
        shop.facilitator.outcomes.lock().unwrap().extend([outcome, lost()]);
        let refused = shop.gate.settle(shop.permit(&v2(1)).await).await.unwrap_err();
        assert_eq!(refused, Refusal::Unresolved);
        let due = shop.ledger.due(MOMENT.now.plus(100), Duration::from_secs(1), 1).await.unwrap();
        drive(&shop.gate.0, due[0].clone()).await;
        reason(&shop, state).await;
    }
}

#[tokio::test]
async fn a_ledger_that_cannot_say_when_it_was_created_takes_nothing_that_is_used() {
    let shop = used(199, 0, SettleWhen::BeforeRequest);
    let permit = shop.permit(&v2(1)).await;
    let request = Arc::clone(&permit.request);
    shop.ledger.set_broken(Some("away"));
    let found = shop.gate.0.paid_by_others(&request, BIRTH).await;
    assert!(matches!(found, super::super::chains::ByOthers::Unknown), "{found:?}");
    assert!(matches!(shop.gate.0.look(&request, BIRTH, "").await, Some(Err(_))));
    shop.ledger.set_broken(None);
}
