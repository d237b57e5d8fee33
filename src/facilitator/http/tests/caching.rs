//! What is asked once and remembered, and for how long.

use std::sync::atomic::AtomicBool;

use futures_util::future::join_all;

use super::*;

#[tokio::test]
async fn identical_verifications_are_one_call_and_different_ones_are_not() {
    let fake = Fake::always(valid()).await;
    let facilitator = at(&fake);
    let one = request("one");
    for verdict in join_all((0..100).map(|_| facilitator.verify(&one))).await {
        assert_eq!(verdict, Ok(VerifyResponse::Valid { payer: Some("0xp".into()) }));
    }
    facilitator.verify(&one).await.unwrap();
    assert_eq!(fake.received().len(), 1);
    facilitator.verify(&request("two")).await.unwrap();
    assert_eq!(fake.received().len(), 2);
}

#[tokio::test]
async fn verdicts_count_briefly_and_a_no_more_briefly_than_a_yes() {
    let fake = Fake::start(|request| if request.body.contains("bad") { invalid() } else { valid() }).await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    for (id, lifetime) in [("good", VALID_LIFETIME), ("bad", INVALID_LIFETIME)] {
        let before = fake.received().len();
        let first = facilitator.verify(&request(id)).await.unwrap();
        time.advance(lifetime.saturating_sub(Duration::from_millis(1)));
        assert_eq!(facilitator.verify(&request(id)).await.unwrap(), first);
        assert_eq!(fake.received().len(), before + 1, "{id}");
        time.advance(Duration::from_millis(1));
        facilitator.verify(&request(id)).await.unwrap();
        assert_eq!(fake.received().len(), before + 2, "{id}");
    }
}

#[tokio::test]
async fn a_failed_verification_is_shared_by_those_who_waited_and_not_remembered() {
    let fake = Fake::always(Reply::Json(500, serde_json::json!({}))).await;
    let facilitator = at(&fake);
    let one = request("one");
    let verdicts = join_all((0..20).map(|_| facilitator.verify(&one))).await;
    assert!(verdicts.iter().all(Result::is_err));
    assert_eq!(fake.received().len(), 1);
    assert!(facilitator.verify(&one).await.is_err());
    assert_eq!(fake.received().len(), 2);
}

#[tokio::test]
async fn a_verdict_is_forgotten_once_the_payment_was_sent_to_be_settled() {
    let bank = Bank::default();
    let fake = Fake::start(move |request| bank.answer(request)).await;
    let facilitator = at(&fake);
    let one = request("one");
    assert!(matches!(facilitator.verify(&one).await, Ok(VerifyResponse::Valid { .. })));
    assert!(matches!(facilitator.settle(&one).await, SettleOutcome::Settled(_)));
    let again = facilitator.verify(&one).await.unwrap();
    assert_eq!(again, VerifyResponse::Invalid { reason: Reason::foreign("refused"), payer: None });
}

#[tokio::test]
async fn what_is_supported_is_asked_once_while_it_is_fresh() {
    let fake = Fake::always(Reply::Json(200, listing())).await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    let lists = join_all((0..50).map(|_| facilitator.supported())).await;
    let first = lists[0].clone().unwrap();
    assert!(lists.into_iter().all(|list| Arc::ptr_eq(&first, &list.unwrap())));
    time.advance(Duration::from_secs(599));
    facilitator.supported().await.unwrap();
    assert_eq!(fake.received().len(), 1);
    time.advance(Duration::from_secs(1));
    facilitator.supported().await.unwrap();
    assert_eq!(fake.received().len(), 2);
}

#[tokio::test]
async fn an_old_list_is_better_than_none_however_old_it_is() {
    let down = Arc::new(AtomicBool::new(false));
    let is_down = Arc::clone(&down);
    let fake = Fake::start(move |_| {
        if is_down.load(Ordering::SeqCst) {
            Reply::with_headers(503, "", "")
        } else {
            Reply::Json(200, listing())
        }
    })
    .await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    let first = facilitator.supported().await.unwrap();
    down.store(true, Ordering::SeqCst);
    time.advance(Duration::from_secs(30 * 24 * 3600));
    for _ in 0..10 {
        assert!(Arc::ptr_eq(&first, &facilitator.supported().await.unwrap()));
    }
    assert_eq!(fake.received().len(), 2, "a failure counts for a while");
    down.store(false, Ordering::SeqCst);
    time.advance(Duration::from_secs(1));
    assert!(!Arc::ptr_eq(&first, &facilitator.supported().await.unwrap()));
}

#[tokio::test]
async fn without_any_list_callers_are_told_when_it_will_be_asked_for_again() {
    let fake = Fake::always(Reply::with_headers(429, "retry-after: 20\r\n", "")).await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    assert_eq!(facilitator.supported().await.unwrap_err().retry_after, Duration::from_secs(20));
    time.advance(Duration::from_secs(15));
    assert_eq!(facilitator.supported().await.unwrap_err().retry_after, Duration::from_secs(5));
    assert_eq!(fake.received().len(), 1);
    time.advance(Duration::from_secs(5));
    facilitator.supported().await.unwrap_err();
    assert_eq!(fake.received().len(), 2);
}

#[tokio::test]
async fn pauses_between_attempts_to_get_a_list_grow() {
    let fake = Fake::always(Reply::with_headers(404, "", "")).await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let pause = facilitator.supported().await.unwrap_err().retry_after;
        assert_eq!(pause, Duration::from_secs(seconds));
        time.advance(pause);
    }
}
