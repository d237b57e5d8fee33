//! Settlement, and what a misbehaving facilitator makes of it: told no, unreachable, or answer lost.

use serde_json::json;

use super::*;

fn lost(outcome: &SettleOutcome) -> &Unavailable {
    match outcome {
        SettleOutcome::AnswerLost(unavailable) => unavailable,
        other => panic!("{other:?}"),
    }
}

fn unreachable(outcome: &SettleOutcome) -> &Unavailable {
    match outcome {
        SettleOutcome::Unreachable(unavailable) => unavailable,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_facilitator_that_refuses_connections_was_not_reached() {
    let (_socket, url) = closed_port();
    let facilitator = client(settings(&url));
    unreachable(&facilitator.settle(&request("one")).await);
    assert!(facilitator.verify(&request("one")).await.is_err());
    assert!(facilitator.supported().await.is_err());
}

#[tokio::test]
async fn a_facilitator_without_an_address_was_not_reached() {
    // A label of more than 63 characters is none (RFC 1035 §2.3.4), so that nobody is even asked.
    let facilitator = client(settings(&format!("http://{}.invalid", "x".repeat(64))));
    unreachable(&facilitator.settle(&request("one")).await);
}

#[tokio::test]
async fn whatever_happens_after_sending_is_an_answer_lost_and_no_verification() {
    let large = format!("{{\"success\": true, \"isValid\": true, \"x\": \"{}\"}}", "y".repeat(300 * 1024));
    let endless = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4b000\r\n{large}");
    let yes = "{\"success\": true, \"isValid\": true}";
    let cut = format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{yes}");
    let cases = [
        ("closes after receiving", Reply::Raw(Vec::new())),
        ("garbage", Reply::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
        ("half a head", Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec())),
        ("half a body", Reply::Raw(cut.into_bytes())),
        ("no JSON", Reply::with_headers(200, "", "<html>ok</html>")),
        ("wrong types", Reply::Json(200, json!({"success": "true", "isValid": "true"}))),
        ("nothing", Reply::with_headers(204, "", "")),
        ("500", Reply::Json(500, json!({"error": "boom"}))),
        ("500 and yes", Reply::Json(500, json!({"success": true, "isValid": true}))),
        ("bad gateway", Reply::with_headers(502, "", "<html>bad gateway</html>")),
        ("too large", Reply::with_headers(200, "", &large)),
        ("too large, unannounced", Reply::Raw(endless.into_bytes())),
        ("401", Reply::Json(401, json!({"error": "who are you"}))),
        ("403", Reply::Json(403, json!({"error": "no"}))),
        ("404", Reply::Json(404, json!({"error": "what"}))),
    ];
    for (case, reply) in cases {
        let fake = Fake::always(reply).await;
        let facilitator = at(&fake);
        lost(&facilitator.settle(&request("one")).await);
        assert_eq!(fake.received().len(), 1, "{case}: sent again");
        assert!(facilitator.verify(&request("one")).await.is_err(), "{case}");
        assert_eq!(fake.received().len(), 2, "{case}");
    }
}

#[tokio::test]
async fn a_facilitator_that_stalls_or_drips_is_cut_off_and_its_answer_lost() {
    for reply in [Reply::Stall, Reply::Drip] {
        let fake = Fake::always(reply).await;
        let facilitator = impatient(&fake.url);
        let cause = &lost(&facilitator.settle(&request("one")).await).cause.clone();
        assert!(cause.contains("50 ms"), "{cause}");
        let cause = facilitator.verify(&request("one")).await.unwrap_err().cause;
        assert!(cause.contains("50 ms"), "{cause}");
        assert!(facilitator.supported().await.is_err());
    }
}

#[tokio::test]
async fn a_facilitator_that_hangs_up_before_reading_may_have_read() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    lost(&client(settings(&url)).settle(&request("one")).await);
    server.abort();
}

#[tokio::test]
async fn a_settlement_that_was_received_never_looks_unreachable_on_a_stale_connection() {
    let fake = Fake::start(|_| {
        // Closed without a word, as servers do with connections that are idle for too long.
        Reply::with_headers(200, "", "{\"success\": true, \"transaction\": \"0xt\"}")
    })
    .await;
    let facilitator = at(&fake);
    for round in 1..=20 {
        let before = fake.received().len();
        let outcome = facilitator.settle(&request(&round.to_string())).await;
        let arrived = fake.received().len() - before;
        match outcome {
            SettleOutcome::Settled(_) => assert_eq!(arrived, 1),
            SettleOutcome::AnswerLost(_) => assert!(arrived <= 1),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_settlement_told_no_is_declined_and_an_open_one_is_pending() {
    let fake = Fake::start(|request| {
        let pending = request.body.contains("open");
        let (code, transaction) =
            if pending { ("settlement_pending", "0xt") } else { ("insufficient_funds", "") };
        Reply::Json(
            if pending { 200 } else { 500 },
            json!({"success": false, "errorReason": code, "transaction": transaction, "payer": "0xp"}),
        )
    })
    .await;
    let facilitator = at(&fake);
    let SettleOutcome::Declined(declined) = facilitator.settle(&request("one")).await else { panic!() };
    assert_eq!(declined.error_reason.as_deref(), Some("insufficient_funds"));
    assert_eq!(declined.payer.as_deref(), Some("0xp"));
    let SettleOutcome::Pending(pending) = facilitator.settle(&request("open")).await else { panic!() };
    assert_eq!(pending.transaction, "0xt");
    assert_eq!(fake.received().len(), 2, "nothing is settled twice by itself");
}

#[tokio::test]
async fn a_doorkeepers_answer_means_that_nothing_happened() {
    let cases = [
        (401, "www-authenticate: Bearer\r\n", 2),
        (405, "allow: GET\r\n", 2),
        (413, "", 2),
        (415, "", 2),
        (429, "retry-after: 17\r\n", 17),
        (429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 10),
    ];
    for (status, headers, seconds) in cases {
        let fake = Fake::always(Reply::with_headers(status, headers, "{\"error\": \"no\"}")).await;
        let outcome = at(&fake).settle(&request("one")).await;
        assert_eq!(unreachable(&outcome).retry_after.as_secs(), seconds, "{status}");
        let unavailable = at(&fake).verify(&request("one")).await.unwrap_err();
        assert_eq!(unavailable.retry_after.as_secs(), seconds, "{status}");
    }
    let fake = Fake::always(Reply::with_headers(429, "", "slow down")).await;
    lost(&at(&fake).settle(&request("one")).await);
}

#[tokio::test]
async fn a_facilitator_that_keeps_failing_is_left_alone_and_then_tried_with_one_call() {
    let fake = Fake::start(|request| {
        if request.body.contains("well") { valid() } else { Reply::with_headers(503, "", "down") }
    })
    .await;
    let time = ManualTime::start();
    let facilitator = timed(&fake, &time);
    for round in 0..breaker::FAILURES_TO_OPEN {
        assert!(facilitator.verify(&request(&round.to_string())).await.is_err());
    }
    let calls = fake.received().len();
    let left_alone = facilitator.verify(&request("well")).await.unwrap_err();
    assert_eq!(left_alone.retry_after, Duration::from_secs(1));
    unreachable(&facilitator.settle(&request("well")).await);
    assert_eq!(fake.received().len(), calls, "it is left alone");
    time.advance(Duration::from_secs(1));
    facilitator.verify(&request("well")).await.unwrap();
    assert_eq!(fake.received().len(), calls + 1);
}

#[tokio::test]
async fn payments_that_confuse_a_facilitator_do_not_make_it_look_dead() {
    let fake = Fake::start(|request| {
        if request.body.contains("well") {
            valid()
        } else if request.body.contains('1') {
            Reply::with_headers(500, "", "<h1>Internal Server Error</h1>")
        } else {
            Reply::Json(500, json!({"error": "cannot read properties of undefined"}))
        }
    })
    .await;
    let facilitator = at(&fake);
    for round in 0..2 * breaker::FAILURES_TO_OPEN {
        assert!(facilitator.verify(&request(&round.to_string())).await.is_err());
    }
    facilitator.verify(&request("well")).await.unwrap();
}
