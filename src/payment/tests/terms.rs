//! What a payment may be for: terms that are offered, in the ways clients write them, and terms of old.

use super::*;

#[tokio::test]
async fn only_terms_that_are_offered_are_accepted() {
    let shop = usual();
    for (member, altered) in [
        ("amount", json!("9999")),
        ("amount", json!(10000)),
        ("payTo", json!("0x0000000000000000000000000000000000000001")),
        ("asset", json!("0x0000000000000000000000000000000000000001")),
        ("network", json!("eip155:8453")),
        ("scheme", json!("upto")),
        ("maxTimeoutSeconds", json!(301)),
        ("extra", json!({"name": "USD Coin", "version": "2"})),
        ("extra", json!({"name": "USDC"})),
        ("extra", json!("x")),
    ] {
        let mut message = v2(1);
        message["accepted"][member] = altered;
        assert_eq!(shop.refusal(&message).await, invalid(Reason::NO_MATCH), "{message}");
    }
    assert_eq!(shop.facilitator.verified.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn echoes_that_clients_are_known_to_send_are_accepted() {
    let shop = usual();
    let mut lower_case = v2(1);
    lower_case["accepted"]["payTo"] = terms().pay_to.to_lowercase().into();
    let mut with_more = v2(2);
    with_more["accepted"]["extra"]["channelState"] = json!({});
    let mut with_unknown = v2(3);
    with_unknown["accepted"]["unknown"] = json!(1);
    let mut with_echo = v2(4);
    with_echo["extensions"] = json!({"bazaar": {"info": {"input": {"type": "http"}, "x": 1}}, "other": 1});
    let mut with_resource = v2(5);
    with_resource["resource"] = json!({"url": "https://shop.example/a"});
    for message in [lower_case, with_more, with_unknown, with_echo, with_resource] {
        drop(shop.permit(&message).await);
    }
    let seen = shop.facilitator.seen.lock().unwrap().clone();
    let requirements = |index: usize| &seen[index]["paymentRequirements"];
    // An echo that adds nothing is passed on to the letter; what a client adds is not.
    assert_eq!(requirements(0)["payTo"], terms().pay_to.to_lowercase());
    assert_eq!(*requirements(1), json!(terms()));
    assert_eq!(*requirements(2), json!(terms()));
}

#[tokio::test]
async fn an_altered_echo_of_an_extension_or_resource_is_refused() {
    let shop = usual();
    let mut altered = v2(1);
    altered["extensions"] = json!({"bazaar": {"info": {"input": {"type": "mcp"}}}});
    assert_eq!(shop.refusal(&altered).await, invalid(Reason::EXTENSION_ECHO_MISMATCH));
    let mut elsewhere = v2(1);
    elsewhere["resource"] = json!({"url": "https://shop.example/b"});
    assert_eq!(shop.refusal(&elsewhere).await, invalid(Reason::NO_MATCH));
}

#[tokio::test]
async fn a_payment_of_an_unknown_scheme_written_in_two_ways_buys_one_delivery() {
    let mut terms = terms();
    terms.network = "xrpl:0".parse().unwrap();
    terms.extra.clear();
    let kind = SupportedKind {
        version: Version::V2,
        scheme: "exact".into(),
        network: terms.network.clone(),
        extra: serde_json::Map::new(),
    };
    let supported = Arc::new(Supported { kinds: vec![kind], ..Supported::default() });
    let shop = shop_for(terms.clone(), supported, SettleWhen::BeforeResponse);
    let message = |payload: Value| json!({"x402Version": 2, "accepted": terms, "payload": payload});
    let first = shop.permit(&message(json!({"blob": "AB"}))).await;
    assert!(shop.gate.settle(first).await.is_ok());
    // The scripted facilitator names the same transaction again, as some networks do.
    let second = shop.permit(&message(json!({"blob": "ab", "x": 1}))).await;
    assert_eq!(shop.gate.settle(second).await.err(), Some(Refusal::AlreadyUsed));
}

#[tokio::test]
async fn a_payment_that_was_taken_keeps_what_it_bought_when_the_offer_changes() {
    let shop = usual();
    let lost = SettleOutcome::AnswerLost(unavailable());
    shop.facilitator.outcomes.lock().unwrap().push_back(lost);
    let unresolved = shop.gate.settle(shop.permit(&v2(1)).await).await.err();
    assert_eq!(unresolved, Some(Refusal::Unresolved));

    let mut dearer = terms();
    dearer.amount = "20000".parse().unwrap();
    let (table, route) = priced_route(dearer, SettleWhen::BeforeResponse);
    let offers = Arc::new(OfferBook::new(table, ORIGIN.into()));
    offers.observe(FacilitatorId(0), supported(&[Version::V2], &json!({})));
    let gate = gate_of(
        &offers,
        vec![Arc::clone(&shop.facilitator) as _],
        &shop.ledger,
        crate::payment::Chains::default(),
    );
    let changed = Shop { gate, route, offers, ..shop };
    assert_eq!(changed.refusal(&v2(1)).await, Refusal::Unresolved, "not asked to pay anew");
    assert_eq!(changed.refusal(&v2(2)).await, invalid(Reason::NO_MATCH), "new payments are for new terms");
    let due =
        crate::ledger::Ledger::due(&changed.ledger, MOMENT.now.plus(9), Duration::from_secs(60), 9).await;
    let token = due.unwrap()[0].token;
    let response = crate::ledger::contract::response();
    let settlement =
        crate::ledger::Settlement { response: &response, deliver: false, unique_transaction: false };
    crate::ledger::Ledger::settled(&changed.ledger, token, settlement, MOMENT.now).await.unwrap();
    let owed = changed.admit(Version::V2, &v2(1)).await;
    assert!(matches!(owed, Admission::Owed(_)), "{owed:?}");
}

#[tokio::test]
async fn an_authorization_that_was_used_is_known_by_every_reason_that_says_so() {
    for reason in [Reason::EVM_NONCE_USED, Reason::foreign("permit2_invalid_nonce")] {
        assert!(crate::payment::settle::speaks_of_use(reason.as_str()), "{reason:?}");
    }
}

/// A payment with a name for its request.
fn named(nonce: u8, id: &str) -> Value {
    let mut message = v2(nonce);
    message["extensions"] = json!({"payment-identifier": {"info": {"required": false, "id": id}}});
    message
}

async fn assert_owed_to_its_name_alone(shop: &Shop, own: &Value, others: &[Value]) {
    for other in others {
        assert_eq!(shop.refusal(other).await, Refusal::AlreadyUsed, "{other}");
    }
    let owed = shop.admit(Version::V2, own).await;
    assert!(matches!(owed, Admission::Owed(_)), "{owed:?}");
}

#[tokio::test]
async fn what_is_owed_for_a_payment_that_came_with_an_identifier_is_not_given_without() {
    let (id, other) = ("pay_0123456789abcdef", "pay_fedcba9876543210");
    let shop = usual();
    let others = [v2(1), named(1, other), named(1, "")];
    // Its payer left before the answer was sent.
    drop(shop.gate.settle(shop.permit(&named(1, id)).await).await.unwrap());
    shop.until_at_rest().await;
    assert_owed_to_its_name_alone(&shop, &named(1, id), &others).await;
    shop.until_at_rest().await;

    let mut dearer = terms();
    dearer.amount = "20000".parse().unwrap();
    let (table, route) = priced_route(dearer, SettleWhen::BeforeResponse);
    let offers = Arc::new(OfferBook::new(table, ORIGIN.into()));
    offers.observe(FacilitatorId(0), supported(&[Version::V2], &json!({})));
    let gate = gate_of(
        &offers,
        vec![Arc::clone(&shop.facilitator) as _],
        &shop.ledger,
        crate::payment::Chains::default(),
    );
    let changed = Shop { gate, route, offers, ..shop };
    assert_owed_to_its_name_alone(&changed, &named(1, id), &others).await;
    // What came without is owed to whoever has the payment.
    let shop = usual();
    drop(shop.gate.settle(shop.permit(&v2(2)).await).await.unwrap());
    shop.until_at_rest().await;
    assert_owed_to_its_name_alone(&shop, &v2(2), &[]).await;
}
