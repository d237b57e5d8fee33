use std::sync::Arc;

use super::super::coins::Coins;
use super::super::resolve::{Decision, resolve};
use super::super::{Exit, Stop, World};
use super::book::{Book, NOON};
use crate::clock::{Clock, UnixSeconds};
use crate::ledger::contract::claim;
use crate::ledger::{ClaimToken, Claimed, Ledger, NewClaim, PaymentRecord, PaymentState};

struct At(UnixSeconds);

impl Clock for At {
    fn now(&self) -> UnixSeconds {
        self.0
    }
}

/// What came of it, what was asked, and what was written to standard output.
async fn resolved(
    book: &Book,
    record: &PaymentRecord,
    decision: Decision,
    answer: bool,
) -> (Result<Exit, Stop>, String, String) {
    let (mut out, mut err, mut asked) = (Vec::new(), Vec::new(), String::new());
    let clock = At(NOON.plus(100));
    let mut world = World { out: &mut out, err: &mut err, colour: false, clock: &clock };
    let mut confirm = |question: &str| {
        question.clone_into(&mut asked);
        Ok(answer)
    };
    let open =
        async || -> Result<Arc<dyn Ledger>, Stop> { Ok(Arc::new(book.ledger.another()) as Arc<dyn Ledger>) };
    let done = resolve(record, &decision, &mut Coins::default(), &mut world, &mut confirm, open).await;
    assert_eq!(err.is_empty(), asked.is_empty(), "who is asked sees the payment");
    (done, asked, String::from_utf8(out).unwrap())
}

fn said(done: &Result<Exit, Stop>) -> &str {
    match done {
        Err(Stop::Not(message)) => message,
        other => panic!("{other:?}"),
    }
}

async fn left_open(book: &Book, claim: &NewClaim) -> (ClaimToken, PaymentRecord) {
    let token = book.leave_open(claim, NOON).await;
    (token, book.record(token).await)
}

#[tokio::test]
async fn an_unresolved_payment_that_is_settled_is_owed_to_its_payer_once() {
    let book = Book::new();
    let (token, record) = left_open(&book, &claim(1)).await;
    let decision = Decision::new(false, Some(" 0xfeed "), None).unwrap();
    let (done, asked, out) = resolved(&book, &record, decision, true).await;
    assert_eq!(done.unwrap(), Exit::Done);
    assert!(asked.starts_with("Record that the money moved?"), "{asked}");
    assert!(
        out.ends_with(" recorded as settled; it is delivered when its payer presents it again\n"),
        "{out}"
    );
    let after = book.record(token).await;
    assert_eq!(
        (after.state, after.transaction.as_str(), after.deliveries),
        (PaymentState::Settled, "0xfeed", 0)
    );
    assert_eq!((after.owner, after.settled_at), (None, Some(NOON.plus(100))));
    let presented = book.ledger.claim(&claim(1), NOON.plus(101)).await.unwrap();
    let Claimed::Owed { response, .. } = presented else { panic!("{presented:?}") };
    assert_eq!((response.success, response.transaction.as_str()), (true, "0xfeed"));
    let again = book.ledger.claim(&claim(1), NOON.plus(101)).await.unwrap();
    assert!(matches!(again, Claimed::Held { delivering: true, .. }), "{again:?}");
}

#[tokio::test]
async fn an_unresolved_payment_that_is_declined_may_be_presented_anew_and_the_books_say_who_decided() {
    let book = Book::new();
    let mut bought = claim(1);
    bought.expires = Some(NOON.plus(200));
    let (token, record) = left_open(&book, &bought).await;
    let decision = Decision::new(true, None, Some("never arrived")).unwrap();
    let (done, asked, _) = resolved(&book, &record, decision, true).await;
    assert_eq!(done.unwrap(), Exit::Done);
    assert!(asked.contains("the payment can still be settled until 2026-07-31T12:03:20Z"), "{asked}");
    let after = book.record(token).await;
    assert_eq!(after.state, PaymentState::Declined);
    assert_eq!(after.reason, "declined by the operator: never arrived");
    assert!(matches!(book.ledger.claim(&bought, NOON.plus(101)).await.unwrap(), Claimed::New(_)));

    bought = claim(2);
    bought.expires = Some(NOON.plus(50));
    let (_, record) = left_open(&book, &bought).await;
    let decision = Decision::new(true, None, Some("never arrived")).unwrap();
    let (_, asked, _) = resolved(&book, &record, decision, true).await;
    assert_eq!(asked, "Record that no money moved? The payment can no longer be settled.");
}

#[tokio::test]
async fn nothing_changes_without_a_yes_or_in_any_other_state() {
    let book = Book::of_all_states().await;
    let mut records = Vec::new();
    for state in PaymentState::ALL {
        let filter = crate::ledger::Filter { states: vec![state], ..Default::default() };
        let found = crate::ledger::Accounts::list(&book.ledger, &filter, None, 2).await.unwrap();
        assert_eq!(found.len(), 1, "{state}");
        records.extend(found);
    }
    for record in &records {
        let answer = record.state != PaymentState::Unresolved;
        for decision in [Decision::Settled(None), Decision::Declined("x".into())] {
            let (done, asked, out) = resolved(&book, record, decision, answer).await;
            let expected = if answer { "is not unresolved; it is" } else { "nothing was changed" };
            assert!(said(&done).contains(expected), "{done:?}");
            assert_eq!((asked.is_empty(), out.as_str()), (answer, ""));
        }
        assert_eq!(book.record(record.token()).await, *record);
    }
}

#[tokio::test]
async fn what_a_gateway_found_out_meanwhile_stands() {
    let book = Book::new();
    let (token, record) = left_open(&book, &claim(1)).await;
    book.ledger.declined(token, "expired", NOON.plus(99)).await.unwrap();
    let (done, _, out) = resolved(&book, &record, Decision::Declined("x".into()), true).await;
    assert!(said(&done).ends_with("is declined meanwhile"), "{done:?}");
    assert_eq!((out.as_str(), book.record(token).await.reason.as_str()), ("", "expired"));

    let (token, record) = left_open(&book, &claim(2)).await;
    book.ledger.declined(token, "expired", NOON.plus(99)).await.unwrap();
    let again = book.claim_at(&claim(2), NOON.plus(99)).await;
    let (done, _, _) = resolved(&book, &record, Decision::Settled(None), true).await;
    assert!(said(&done).ends_with("is in use again meanwhile"), "{done:?}");
    assert_eq!(book.record(again).await.state, PaymentState::Claimed);

    let (token, record) = left_open(&book, &claim(3)).await;
    let response = super::book::settlement("0xabc");
    let settled =
        crate::ledger::Settlement { response: &response, deliver: false, unique_transaction: false };
    book.ledger.settled(token, settled, NOON.plus(99)).await.unwrap();
    let (done, _, out) = resolved(&book, &record, Decision::Settled(Some("0xother".into())), true).await;
    assert_eq!(done.unwrap(), Exit::Done);
    assert!(out.ends_with("was settled meanwhile; nothing was changed\n"), "{out}");
    assert_eq!(book.record(token).await.transaction, "0xabc");
}

#[test]
fn decisions_that_say_nothing_or_too_much_are_refused() {
    let long = "x".repeat(501);
    for (transaction, reason, why) in [
        (None, Some("  "), "--reason is empty"),
        (None, Some(long.as_str()), "--reason is longer than 500 characters"),
        (None, Some("a\nb"), "--reason is more than one line"),
        (Some(""), None, "--transaction is empty"),
        (Some(&long[..129]), None, "--transaction is longer than 128 characters"),
    ] {
        assert_eq!(Decision::new(reason.is_some(), transaction, reason), Err(why.to_owned()));
    }
    assert_eq!(Decision::new(false, None, None), Ok(Decision::Settled(None)));
    assert!(Decision::new(true, None, None).is_err());
}
