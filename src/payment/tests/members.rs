//! Several facilitators in a list: of which one a payment was sent to.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::super::upkeep::drive;
use super::*;
use crate::ledger::{Ledger as _, PaymentRecord};

/// One of a list, which does as it is told, and notes what the ledger said when it was asked to settle.
struct Member {
    name: &'static str,
    ledger: ModelLedger,
    outcomes: Mutex<VecDeque<SettleOutcome>>,
    /// Whether the ledger fails as soon as this one was asked.
    takes_ledger_down: AtomicBool,
    seen: Mutex<Vec<(PaymentState, String)>>,
}

async fn only_record(ledger: &ModelLedger) -> PaymentRecord {
    let mut records = ledger.list(&Filter::default(), None, 2).await.unwrap();
    assert_eq!(records.len(), 1);
    records.remove(0)
}

#[async_trait]
impl Facilitator for Member {
    fn name(&self) -> &str {
        self.name
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        Ok(supported(&[Version::V2], &json!({})))
    }

    async fn verify(&self, _: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        Ok(VerifyResponse::Valid { payer: None })
    }

    /// Without an outcome it never answers.
    async fn settle(&self, _: &FacilitatorRequest) -> SettleOutcome {
        let record = only_record(&self.ledger).await;
        self.seen.lock().unwrap().push((record.state, record.particulars.facilitator));
        if self.takes_ledger_down.load(Ordering::SeqCst) {
            self.ledger.set_broken(Some("the disk is full"));
        }
        let next = self.outcomes.lock().unwrap().pop_front();
        match next {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

/// A gateway with a list of two.
struct Pair {
    shop: Shop,
    members: [Arc<Member>; 2],
}

impl Pair {
    fn over(ledger: ModelLedger, names: [&'static str; 2]) -> Self {
        let member = |name| {
            let (outcomes, seen) = (Mutex::default(), Mutex::default());
            let takes_ledger_down = AtomicBool::new(false);
            Arc::new(Member { name, ledger: ledger.clone(), outcomes, takes_ledger_down, seen })
        };
        let members = names.map(member);
        let (table, route) = priced_route(terms(), SettleWhen::BeforeResponse);
        let offers = Arc::new(OfferBook::new(table, ORIGIN.into()));
        offers.observe(FacilitatorId(0), supported(&[Version::V2], &json!({})));
        let every = members.iter().map(|member| Arc::clone(member) as _).collect();
        let gate = gate_of(&offers, every, &ledger, crate::payment::Chains::default());
        let shop = Shop { gate, route, offers, ledger, facilitator: Arc::default() };
        Self { shop, members }
    }

    fn new() -> Self {
        Self::over(ModelLedger::new(), ["first", "second"])
    }

    fn will(&self, outcomes: [Option<SettleOutcome>; 2]) {
        for (member, outcome) in self.members.iter().zip(outcomes) {
            *member.outcomes.lock().unwrap() = outcome.into_iter().collect();
        }
    }

    /// How often each was asked.
    fn asked(&self) -> [usize; 2] {
        self.members.each_ref().map(|member| member.seen.lock().unwrap().len())
    }

    async fn facilitator(&self) -> String {
        only_record(&self.shop.ledger).await.particulars.facilitator
    }

    /// Drives what is due.
    async fn drive(&self) {
        let long_after = MOMENT.now.plus(100_000);
        for due in self.shop.ledger.due(long_after, Duration::from_secs(1), 9).await.unwrap() {
            drive(&self.shop.gate.0, due).await;
        }
    }
}

fn unreachable() -> SettleOutcome {
    SettleOutcome::Unreachable(unavailable())
}

#[tokio::test]
async fn settlement_moves_on_only_when_nobody_was_reached_and_the_ledger_says_who_is_asked() {
    let lost = || SettleOutcome::AnswerLost(unavailable());
    let named = |name: &str| (PaymentState::Settling, name.to_owned());
    for (first, moves_on, state) in [
        (unreachable(), true, PaymentState::Settled),
        (lost(), false, PaymentState::Unresolved),
        (declined("no"), false, PaymentState::Declined),
        (settled(), false, PaymentState::Settled),
    ] {
        let pair = Pair::new();
        let permit = pair.shop.permit(&v2(1)).await;
        assert_eq!(pair.facilitator().await, "first+second", "nobody was asked yet");
        pair.will([Some(first), Some(settled())]);
        let result = pair.shop.gate.settle(permit).await;
        assert_eq!(result.is_ok(), state == PaymentState::Settled, "{result:?}");
        assert_eq!(pair.asked(), [1, usize::from(moves_on)]);
        assert_eq!(*pair.members[0].seen.lock().unwrap(), [named("first")]);
        if moves_on {
            assert_eq!(*pair.members[1].seen.lock().unwrap(), [named("second")]);
        }
        assert_eq!(only_record(&pair.shop.ledger).await.state, state);
        assert_eq!(pair.facilitator().await, if moves_on { "second" } else { "first" }, "in the books");
    }
    let pair = Pair::new();
    pair.will([Some(unreachable()), Some(unreachable())]);
    let permit = pair.shop.permit(&v2(1)).await;
    assert!(matches!(pair.shop.gate.settle(permit).await, Err(Refusal::Unavailable { .. })));
    assert_eq!((pair.asked(), pair.shop.held(PaymentState::Declined).await), ([1, 1], 1));
    drop(pair.shop.permit(&v2(1)).await);
}

/// Between the two, and while the second is at work.
#[tokio::test]
async fn whoever_takes_a_payment_over_asks_the_one_that_was_asked_and_nobody_else() {
    for names in [["first", "second"], ["second", "first"]] {
        let dead = Pair::new();
        dead.will([Some(unreachable()), None]);
        let permit = dead.shop.permit(&v2(1)).await;
        let gate = dead.shop.gate.clone();
        let settling = tokio::spawn(async move { gate.settle(permit).await });
        while dead.asked() != [1, 1] {
            tokio::task::yield_now().await;
        }
        dead.shop.ledger.kill();

        // The facilitators say what would be believed of the wrong one, too.
        let pair = Pair::over(dead.shop.ledger.another(), names);
        pair.shop.gate.recover().await.unwrap();
        let lost = || SettleOutcome::AnswerLost(unavailable());
        let asked_again = |times| names.map(|name| if name == "second" { times } else { 0 });
        pair.will(names.map(|name| Some(if name == "second" { lost() } else { settled() })));
        pair.drive().await;
        assert_eq!((pair.asked(), pair.shop.held(PaymentState::Unresolved).await), (asked_again(1), 1));
        // That it cannot be reached now says nothing about then.
        pair.will(names.map(|name| Some(if name == "second" { unreachable() } else { settled() })));
        pair.drive().await;
        assert_eq!((pair.asked(), pair.shop.held(PaymentState::Unresolved).await), (asked_again(2), 1));
        assert_eq!(pair.shop.refusal(&v2(1)).await, Refusal::Unresolved);
        pair.will(names.map(|name| (name == "second").then(settled)));
        pair.drive().await;
        assert_eq!((pair.asked(), pair.shop.held(PaymentState::Settled).await), (asked_again(3), 1));
        settling.abort();
    }
}

#[tokio::test]
async fn where_the_one_that_was_asked_is_not_configured_any_more_nobody_is_asked() {
    let dead = Pair::new();
    dead.will([Some(SettleOutcome::AnswerLost(unavailable())), None]);
    let permit = dead.shop.permit(&v2(1)).await;
    assert_eq!(dead.shop.gate.settle(permit).await.err(), Some(Refusal::Unresolved));
    let pair = Pair::over(dead.shop.ledger.another(), ["second", "third"]);
    pair.will([Some(settled()), Some(settled())]);
    pair.drive().await;
    assert_eq!((pair.asked(), pair.shop.held(PaymentState::Unresolved).await), ([0, 0], 1));
    assert!(only_record(&pair.shop.ledger).await.reason.contains("first is not configured"));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_asked_who_could_not_be_recorded() {
    let pair = Pair::new();
    let permit = pair.shop.permit(&v2(1)).await;
    pair.will([Some(unreachable()), Some(settled())]);
    pair.members[0].takes_ledger_down.store(true, Ordering::SeqCst);
    assert!(matches!(pair.shop.gate.settle(permit).await, Err(Refusal::Unavailable { .. })));
    assert_eq!(pair.asked(), [1, 0]);
    pair.shop.ledger.set_broken(None);
    while pair.shop.held(PaymentState::Declined).await != 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(pair.shop.permit(&v2(1)).await);
}
