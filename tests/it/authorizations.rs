//! Authorizations that are not quite right: each refused with its reason before anybody is asked,
//! and what only a chain can judge left to the facilitator.

use alloy_primitives::{Address, B256, Bytes, U256};
use serde_json::{Value, json};
use tollgate::scheme::TransferWithAuthorization;

use crate::support::gateway::PAID;
use crate::support::shop::{Shop, assert_refused};
use crate::support::{Act, Origin, Payer};

const PREFIX: &str = "invalid_exact_evm_";

type Change = fn(&mut TransferWithAuthorization);

/// A payment for the first offer, of an authorization that was changed before it was signed.
fn signed(payer: &Payer, required: &Value, change: impl Fn(&mut TransferWithAuthorization)) -> Value {
    let accepted = &required["accepts"][0];
    let mut authorization = payer.authorization(accepted);
    change(&mut authorization);
    let payload = payer.payload(&authorization, accepted);
    json!({"x402Version": 2, "resource": required["resource"], "accepted": accepted, "payload": payload})
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn each_wrong_authorization_is_refused_with_its_reason_and_costs_no_call() {
    let shop = Shop::open().await;
    let required = shop.required("/paid/a").await;
    let cases: &[(&str, Change)] = &[
        ("payload_authorization_value_mismatch", |message| message.value = U256::from(9_999)),
        ("payload_authorization_value_mismatch", |message| message.value = U256::from(10_001)),
        ("payload_authorization_value_mismatch", |message| message.value = U256::ZERO),
        ("payload_authorization_value_mismatch", |message| message.value = U256::MAX),
        ("recipient_mismatch", |message| message.to = Address::repeat_byte(1)),
        ("recipient_mismatch", |message| message.to = message.from),
        ("payload_authorization_valid_after", |message| message.validAfter = U256::from(now() + 60)),
        ("payload_authorization_valid_after", |message| message.validAfter = U256::MAX),
        ("payload_authorization_valid_before", |message| message.validBefore = U256::from(now() - 1)),
        ("payload_authorization_valid_before", |message| message.validBefore = U256::ZERO),
        ("payload_authorization_valid_before", |message| message.validBefore = U256::from(now() + 90_000)),
        ("payload_authorization_valid_before", |message| message.validBefore = U256::MAX),
        ("signature", |message| message.from = Address::repeat_byte(2)),
    ];
    for (reason, change) in cases {
        let payment = signed(&Payer::new(), &required, change);
        assert_refused(&shop.present("/paid/a", &payment).await, &format!("{PREFIX}{reason}"));
        let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia",
                        "payload": payment["payload"]});
        assert_eq!(shop.present_v1("/paid/a", &v1).await.json()["error"], format!("{PREFIX}{reason}"));
    }
    assert_eq!((shop.verifications(), shop.settlements()), (0, 0));
    assert!(shop.origin.requests().is_empty());
}

#[tokio::test]
async fn an_authorization_signed_for_another_token_or_chain_is_refused() {
    let shop = Shop::open().await;
    let required = shop.required("/paid/a").await;
    for (pointer, value) in [
        ("/accepts/0/network", json!("eip155:8453")),
        ("/accepts/0/asset", json!(Address::repeat_byte(3))),
        ("/accepts/0/extra/name", json!("USD Coin")),
        ("/accepts/0/extra/version", json!("1")),
    ] {
        let mut other = required.clone();
        *other.pointer_mut(pointer).unwrap() = value;
        let mut payment = signed(&Payer::new(), &other, |_| {});
        payment["accepted"] = required["accepts"][0].clone();
        assert_refused(&shop.present("/paid/a", &payment).await, "invalid_exact_evm_signature");
    }
    assert_eq!(shop.verifications(), 0);
}

#[tokio::test]
async fn a_signature_of_somebody_else_or_in_its_malleable_form_is_refused() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    let stranger = shop.payment("/paid/a").await;
    let bytes: Bytes = payment["payload"]["signature"].as_str().unwrap().parse().unwrap();
    let signature = alloy_primitives::Signature::from_raw(&bytes).unwrap();
    let order = U256::from_be_bytes(alloy_primitives::hex!(
        "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"
    ));
    let twin = alloy_primitives::Signature::new(signature.r(), order - signature.s(), !signature.v());
    let hex = |bytes: &[u8]| Bytes::copy_from_slice(bytes).to_string();
    let mut wrong_v = bytes.to_vec();
    wrong_v[64] = 99;
    for signature in [
        stranger["payload"]["signature"].as_str().unwrap().to_owned(),
        hex(&twin.as_bytes()),
        hex(&[0; 65]),
        hex(&[0xff; 65]),
        hex(&wrong_v),
        hex(&bytes[..63]),
        "0x".to_owned(),
    ] {
        let mut forged = payment.clone();
        forged["payload"]["signature"] = signature.into();
        assert_refused(&shop.present("/paid/a", &forged).await, "invalid_exact_evm_signature");
    }
    for signature in [json!(7), json!(null), json!("zz"), json!("0xzz")] {
        let mut forged = payment.clone();
        forged["payload"]["signature"] = signature;
        assert_refused(&shop.present("/paid/a", &forged).await, "invalid_payload");
    }
    assert_eq!(shop.verifications(), 0);
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200, "a forgery spoils nothing");
}

#[tokio::test]
async fn signatures_that_only_a_chain_can_judge_go_to_the_facilitator() {
    let shop = Shop::open().await;
    for (number, length) in [64, 66, 130, 2_000].into_iter().enumerate() {
        let mut payment = shop.payment("/paid/a").await;
        payment["payload"]["signature"] = Bytes::from(vec![0xab; length]).to_string().into();
        shop.facilitator.will_verify([Act::json(
            200,
            &json!({"isValid": false, "invalidReason": "invalid_exact_evm_signature"}),
        )]);
        assert_refused(&shop.present("/paid/a", &payment).await, "invalid_exact_evm_signature");
        assert_eq!(shop.verifications(), number + 1);
        let seen: Value = serde_json::from_slice(&shop.facilitator.calls("/verify")[number].body).unwrap();
        assert_eq!(seen["paymentPayload"]["payload"], payment["payload"]);
    }
    assert!(shop.origin.requests().is_empty());
    let mut wallet = shop.payment("/paid/a").await;
    wallet["payload"]["signature"] = Bytes::from(vec![0xab; 500]).to_string().into();
    assert_eq!(shop.present("/paid/a", &wallet).await.status, 200, "the facilitator's yes counts");
}

/// The reference facilitator answers 500 to some of these.
#[tokio::test]
async fn a_wallets_signature_with_a_broken_wrapping_is_refused_before_anybody_is_asked() {
    let shop = Shop::open().await;
    let magic = "6492".repeat(16);
    let word = |number: usize| format!("{number:064x}");
    let wrapped = |offset: usize, length: usize| {
        let (factory, data) = (word(0xfac), "ab".repeat(32));
        let signature = "cd".repeat(96);
        format!("0x{factory}{}{}{}{data}{}{signature}{magic}", word(96), word(offset), word(32), word(length))
    };
    let mut broken = vec![format!("0x{}{magic}", "ab".repeat(40)), format!("0x{}{magic}", word(0))];
    broken.extend(
        [(1 << 40, 96), (32, 96), (161, 96), (160, 97), (160, 1 << 40), (160, 0)]
            .map(|(offset, length)| wrapped(offset, length)),
    );
    for signature in broken {
        let mut payment = shop.payment("/paid/a").await;
        payment["payload"]["signature"] = signature.as_str().into();
        assert_refused(&shop.present("/paid/a", &payment).await, "invalid_exact_evm_signature");
    }
    assert_eq!(shop.verifications(), 0);
    let mut payment = shop.payment("/paid/a").await;
    payment["payload"]["signature"] = wrapped(160, 96).into();
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200, "the facilitator's yes counts");
}

#[tokio::test]
async fn the_sandbox_does_not_take_signatures_it_cannot_check() {
    let origin = Origin::site().await;
    let gateway = crate::support::Gateway::start(&origin.url(), "sandbox", PAID).await;
    let required = crate::support::get(gateway.address, "/paid/a", &[]).await.required();
    let mut payment = Payer::new().message(&required);
    payment["payload"]["signature"] = Bytes::from(vec![0xab; 500]).to_string().into();
    let header = crate::support::payer::encode(&payment);
    let refused = crate::support::get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &header)]).await;
    assert_refused(&refused, "invalid_exact_evm_signature");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn fields_that_cannot_be_read_are_refused() {
    let shop = Shop::open().await;
    let payment = shop.payment("/paid/a").await;
    for (field, value) in [
        ("value", json!("-10000")),
        ("value", json!("0x2710")),
        ("value", json!("10000.0")),
        ("value", json!(" 10000")),
        ("value", json!("9".repeat(100))),
        ("value", json!(10000.5)),
        ("validBefore", json!("soon")),
        ("from", json!("0x12")),
        ("from", json!("")),
        ("to", json!(null)),
        ("nonce", json!(B256::ZERO.to_string()[..64])),
        ("nonce", json!([0])),
    ] {
        let mut malformed = payment.clone();
        malformed["payload"]["authorization"][field] = value;
        assert_refused(&shop.present("/paid/a", &malformed).await, "invalid_payload");
        malformed["payload"]["authorization"].as_object_mut().unwrap().remove(field);
        assert_refused(&shop.present("/paid/a", &malformed).await, "invalid_payload");
    }
    for payload in [json!({}), json!({"signature": "0x"}), json!({"transaction": "AA=="})] {
        let mut malformed = payment.clone();
        malformed["payload"] = payload;
        assert_refused(&shop.present("/paid/a", &malformed).await, "invalid_payload");
    }
    assert_eq!(shop.verifications(), 0);
}

/// Compliance 54.
#[tokio::test]
async fn an_authorization_that_ends_before_the_origin_may_have_answered_is_refused() {
    let config = format!("{PAID}[limits]\norigin_time_seconds = 100\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let required = shop.required("/paid/a").await;
    let ending_in = |seconds: u64| {
        signed(&Payer::new(), &required, move |message| message.validBefore = U256::from(now() + seconds))
    };
    for seconds in [0, 6, 60, 98] {
        let refused = shop.present("/paid/a", &ending_in(seconds)).await;
        assert_refused(&refused, "invalid_exact_evm_payload_authorization_valid_before");
    }
    assert_eq!(shop.verifications(), 0);
    assert!(shop.origin.requests().is_empty());
    assert_eq!(shop.present("/paid/a", &ending_in(130)).await.status, 200);
}
