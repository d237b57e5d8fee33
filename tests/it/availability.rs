//! Facilitators that are away, come back, change, speak one generation only, or stand in for each
//! other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::PATIENCE;
use crate::support::gateway::{PAID, base};
use crate::support::payer::encode;
use crate::support::shop::{IMPATIENT, Shop, assert_in_use, assert_refused, assert_unresolved};
use crate::support::{Act, Facilitator, Gateway, Origin, Payer, Response, Server, get, payment_for};

fn kinds() -> Value {
    json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]})
}

/// A gateway that is asked until it answers, without waiting for it to be ready.
async fn listening(config: &str) -> Gateway {
    let gateway = Gateway::spawn(config);
    let deadline = Instant::now() + PATIENCE;
    while tokio::net::TcpStream::connect(gateway.address).await.is_err() {
        assert!(Instant::now() < deadline, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    gateway
}

async fn present(gateway: &Gateway, payment: &str) -> Response {
    get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", payment)]).await
}

/// Asks again and again until the status is this one.
async fn until(status: u16, ask: impl AsyncFn() -> Response) -> Response {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let response = ask().await;
        if response.status == status {
            return response;
        }
        assert!(Instant::now() < deadline, "{} instead of {status}: {}", response.status, response.text());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Compliance 35, 77.
#[tokio::test]
async fn while_it_is_not_known_who_settles_priced_routes_are_closed_and_free_ones_open() {
    let works = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&works);
    let facilitator = Server::start(move |_| {
        if switch.load(Ordering::SeqCst) {
            Act::json(200, &kinds())
        } else {
            Act::answer(500, &[], "not yet")
        }
    })
    .await;
    let origin = Origin::site().await;
    let gateway = listening(&format!("{}{PAID}", base(&origin.url(), &facilitator.url()))).await;
    let closed = get(gateway.address, "/paid/a", &[]).await;
    assert_eq!((closed.status, closed.header("payment-required")), (503, None));
    assert!(closed.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    let paid = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", "e30=")]).await;
    assert_eq!(paid.status, 503);
    assert!(origin.requests().is_empty());
    assert_eq!(get(gateway.address, "/free/a", &[]).await.text(), "content of /free/a");
    let ready = get(gateway.admin, "/readyz", &[]).await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains("paid"), "{}", ready.text());
    works.store(true, Ordering::SeqCst);
    let challenge = until(402, async || get(gateway.address, "/paid/a", &[]).await).await;
    assert_eq!(challenge.required()["accepts"][0]["network"], "eip155:84532");
    assert_eq!(get(gateway.admin, "/readyz", &[]).await.status, 200);
}

/// Compliance 35.
#[tokio::test]
async fn a_facilitator_that_is_busy_at_start_is_asked_again_when_it_said() {
    let asked: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let times = Arc::clone(&asked);
    let facilitator = Server::start(move |_| {
        let mut times = times.lock().unwrap();
        times.push(Instant::now());
        match times.len() {
            1 => Act::answer(429, &[("Retry-After", "3")], ""),
            _ => Act::json(200, &kinds()),
        }
    })
    .await;
    let gateway = listening(&format!("{}{PAID}", base("http://127.0.0.1:9", &facilitator.url()))).await;
    until(402, async || get(gateway.address, "/paid/a", &[]).await).await;
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked[1] - asked[0] >= Duration::from_millis(2900), "{:?}", asked[1] - asked[0]);
}

/// Compliance 36.
#[tokio::test]
async fn what_is_supported_is_not_asked_of_a_host_that_was_redirected_to() {
    let elsewhere = Server::start(|_| Act::json(200, &kinds())).await;
    let location = format!("{}/supported", elsewhere.url());
    let facilitator = Server::start(move |_| Act::answer(307, &[("Location", &location)], "")).await;
    let gateway = listening(&format!("{}{PAID}", base("http://127.0.0.1:9", &facilitator.url()))).await;
    gateway.wait_for_log("another origin").await;
    assert_eq!(get(gateway.address, "/paid/a", &[]).await.status, 503);
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn what_a_facilitator_does_not_settle_is_not_offered() {
    let facilitator = Facilitator::supporting(json!({"kinds": [
        {"x402Version": 2, "scheme": "exact", "network": "eip155:8453"},
    ]}))
    .await;
    let origin = Origin::site().await;
    let table = format!("[facilitators.f]\nurl = \"{}\"\nsupported_ttl_seconds = 1\n", facilitator.url());
    let gateway = listening(&format!("{}{PAID}{table}", base(&origin.url(), "f"))).await;
    assert_eq!(get(gateway.address, "/paid/a", &[]).await.status, 503);
    facilitator.will_support(kinds());
    until(402, async || get(gateway.address, "/paid/a", &[]).await).await;
    facilitator.will_support(json!({"kinds": []}));
    until(503, async || get(gateway.address, "/paid/a", &[]).await).await;
    assert!(origin.requests().is_empty());
}

/// Compliance 27: payments of both generations pass through a facilitator that speaks only one.
#[tokio::test]
async fn a_facilitator_of_one_generation_is_spoken_to_in_that_one() {
    for (kind, version) in [(json!([1, "base-sepolia"]), 1), (json!([2, "eip155:84532"]), 2)] {
        let facilitator = Facilitator::supporting(json!({"kinds": [
            {"x402Version": kind[0], "scheme": "exact", "network": kind[1]},
        ]}))
        .await;
        let origin = Origin::site().await;
        let gateway = Gateway::start(&origin.url(), &facilitator.url(), PAID).await;
        let challenge = get(gateway.address, "/paid/a", &[]).await;
        let (v2, v1) = (challenge.required(), challenge.json());
        let first = Payer::new().message(&v2);
        assert_eq!(present(&gateway, &encode(&first)).await.decoded("payment-response")["success"], true);
        let second = Payer::new().message_v1(&v2);
        let paid = get(gateway.address, "/paid/a", &[("X-PAYMENT", &encode(&second))]).await;
        assert_eq!(paid.decoded("x-payment-response")["network"], "base-sepolia");
        for call in ["/verify", "/settle"] {
            let calls = facilitator.calls(call);
            for (call, message) in calls.iter().zip([&first, &second]) {
                let body: Value = serde_json::from_slice(&call.body).unwrap();
                assert_eq!(body["x402Version"], version);
                assert_eq!(body["paymentPayload"]["x402Version"], version);
                assert_eq!(body["paymentPayload"]["payload"], message["payload"]);
                let terms = if version == 1 { &v1["accepts"][0] } else { &v2["accepts"][0] };
                assert_eq!(&body["paymentRequirements"], terms);
            }
            assert_eq!(calls.len(), 2);
        }
    }
}

/// Two facilitators that stand in for each other, in this order.
async fn two(options: &str) -> (Facilitator, Facilitator, Origin, Gateway) {
    let (first, second) = (Facilitator::start().await, Facilitator::start().await);
    let origin = Origin::site().await;
    let tables = [("one", &first), ("two", &second)]
        .map(|(name, one)| format!("[facilitators.{name}]\nurl = \"{}\"\n{options}", one.url()));
    let start = base(&origin.url(), "X").replace("\"X\"", "[\"one\", \"two\"]");
    let gateway = Gateway::with_config(&format!("{start}{PAID}{}", tables.concat())).await;
    (first, second, origin, gateway)
}

fn calls(facilitator: &Facilitator) -> (usize, usize) {
    (facilitator.calls("/verify").len(), facilitator.calls("/settle").len())
}

#[tokio::test]
async fn verification_moves_on_to_the_next_facilitator_and_settlement_follows_it() {
    let acts: [fn() -> Act; 3] = [|| Act::Hang, || Act::Close, || Act::answer(503, &[], "")];
    for act in acts {
        let (first, second, _origin, gateway) = two(IMPATIENT).await;
        first.will_verify([act()]);
        let payment = payment_for(gateway.address, "/paid/a").await;
        assert_eq!(present(&gateway, &payment).await.status, 200);
        assert_eq!((calls(&first), calls(&second)), ((1, 0), (1, 1)));
        let payment = payment_for(gateway.address, "/paid/a").await;
        assert_eq!(present(&gateway, &payment).await.status, 200);
        assert_eq!((calls(&first), calls(&second)), ((2, 1), (1, 1)), "the first is preferred");
    }
}

#[tokio::test]
async fn a_no_of_one_facilitator_is_not_taken_to_the_next() {
    let (first, second, origin, gateway) = two("").await;
    first.will_verify([Act::json(200, &json!({"isValid": false, "invalidReason": "poor"}))]);
    let payment = payment_for(gateway.address, "/paid/a").await;
    assert_refused(&present(&gateway, &payment).await, "poor");
    first.will_settle([Act::json(200, &json!({"success": false, "errorReason": "poor"}))]);
    let payment = payment_for(gateway.address, "/paid/a").await;
    assert_refused(&present(&gateway, &payment).await, "poor");
    assert_eq!((calls(&first), calls(&second)), ((2, 1), (0, 0)));
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn settlement_never_moves_on_once_an_answer_was_lost() {
    let acts: [fn() -> Act; 3] = [|| Act::Hang, || Act::Close, || Act::answer(502, &[], "")];
    for act in acts {
        let (first, second, origin, gateway) = two(IMPATIENT).await;
        first.settles_so(move |_, _| act());
        let payment = payment_for(gateway.address, "/paid/a").await;
        for _ in 0..2 {
            assert_unresolved(&present(&gateway, &payment).await);
        }
        // Also what is tried in the background goes to the same one.
        first.wait_for_settlements(3).await;
        assert_eq!((calls(&first).0, calls(&second)), (1, (0, 0)));
        assert_eq!(origin.requests().len(), 1);
    }
}

#[tokio::test]
async fn when_no_facilitator_of_several_answers_nothing_is_served() {
    let (first, second, origin, gateway) = two(IMPATIENT).await;
    first.will_verify([Act::Close]);
    second.will_verify([Act::Hang]);
    let payment = payment_for(gateway.address, "/paid/a").await;
    assert_eq!(present(&gateway, &payment).await.status, 503);
    assert!(origin.requests().is_empty());
    assert_eq!(present(&gateway, &payment).await.status, 200);
}

#[tokio::test]
async fn a_facilitator_that_keeps_failing_is_left_alone_and_comes_back() {
    let shop = Shop::open().await;
    shop.facilitator.will_verify((0..5).map(|_| Act::Close));
    let mut payments = Vec::new();
    for _ in 0..8 {
        payments.push(encode(&shop.payment("/paid/a").await));
    }
    for payment in &payments {
        let refused = shop.present_raw("/paid/a", payment).await;
        assert_eq!(refused.status, 503);
        assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert_eq!(shop.verifications(), 5, "the rest were answered without a call");
    assert_eq!(shop.ask("/free/a").await.status, 200);
    assert_eq!(shop.ask("/paid/a").await.status, 402);
    let served = until(200, async || shop.present_raw("/paid/a", &payments[0]).await).await;
    assert_eq!(served.text(), "content of /paid/a");
    assert_eq!(shop.present_raw("/paid/a", &payments[7]).await.status, 200);
    assert_eq!((shop.verifications(), shop.settlements()), (7, 2));
}

/// Answers a client cannot cause on purpose open the breaker, those it can do not.
#[tokio::test]
async fn payments_that_confuse_a_facilitator_do_not_shut_it_off_for_others() {
    let shop = Shop::open().await;
    let confused = || Act::json(500, &json!({"error": "cannot read that"}));
    let its_page = || Act::answer(500, &[("Content-Type", "text/html")], "<h1>Internal Server Error</h1>");
    shop.facilitator.will_verify((0..10).flat_map(|_| [confused(), its_page()]));
    for _ in 0..20 {
        assert_eq!(shop.buy("/paid/a").await.status, 503);
    }
    assert_eq!(shop.buy("/paid/a").await.status, 200);
}

#[tokio::test]
async fn concurrent_copies_of_a_payment_cost_one_verification() {
    let shop = Shop::open().await;
    let payment = encode(&shop.payment("/paid/a").await);
    let address = shop.gateway.address;
    let (release, act) = Act::json(200, &json!({"isValid": true})).held();
    shop.facilitator.will_verify([act]);
    let copies: Vec<_> = (0..20)
        .map(|_| {
            let payment = payment.clone();
            tokio::spawn(async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await })
        })
        .collect();
    let refused = AtomicUsize::new(0);
    let deadline = Instant::now() + PATIENCE;
    let mut release = Some(release);
    while release.is_some() {
        assert!(Instant::now() < deadline);
        refused.store(copies.iter().filter(|copy| copy.is_finished()).count(), Ordering::SeqCst);
        if refused.load(Ordering::SeqCst) == 19 {
            drop(release.take());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut served = 0;
    for copy in copies {
        let response = copy.await.unwrap();
        match response.status {
            200 => served += 1,
            // The payment was only being verified, so that nobody is told to pay anew.
            _ => assert_in_use(&response),
        }
    }
    assert_eq!((served, shop.verifications(), shop.settlements()), (1, 1, 1));
}

#[tokio::test]
async fn a_flood_of_payments_is_told_to_come_again_and_does_not_pile_up_calls() {
    let config = format!("{PAID}[limits]\nverify_in_flight = 1\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let (first, second) = (encode(&shop.payment("/paid/a").await), encode(&shop.payment("/paid/a").await));
    let (release, act) = Act::json(200, &json!({"isValid": true})).held();
    shop.facilitator.will_verify([act]);
    let address = shop.gateway.address;
    let slow =
        tokio::spawn(async move { get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &first)]).await.status });
    let busy = until(503, async || {
        if shop.verifications() == 0 {
            return shop.ask("/paid/a").await;
        }
        shop.present_raw("/paid/a", &second).await
    })
    .await;
    assert_eq!(busy.header("retry-after"), Some("2"));
    assert_eq!((shop.verifications(), shop.origin.requests().len()), (1, 0));
    release.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), 200);
    assert_eq!(shop.present_raw("/paid/a", &second).await.status, 200, "it was not used up");
}

#[tokio::test]
async fn a_payment_presented_again_soon_is_not_verified_again() {
    let count = AtomicUsize::new(0);
    let origin = Origin::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Act::answer(404, &[], ""),
        _ => Act::answer(200, &[], "at last"),
    })
    .await;
    let shop = Shop::with(origin, "", PAID).await;
    let payment = shop.payment("/paid/a").await;
    assert_eq!(shop.present("/paid/a", &payment).await.status, 404);
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    assert_eq!((shop.verifications(), shop.settlements()), (1, 1));
}
