use serde_json::json;

use super::*;
use crate::facilitator::fake::request;

fn answer(status: u16, body: &Value) -> Answer {
    raw(status, body.to_string())
}

fn raw(status: u16, body: impl Into<bytes::Bytes>) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, retry_after: None, challenge: false, body: body.into() }
}

fn settle(status: u16, body: &Value) -> Settlement {
    settlement(&answer(status, body), &request("one"))
}

fn settled(body: &Value) -> SettleResponse {
    match settle(200, body) {
        Settlement::Settled(response) => response,
        other => panic!("{body} is {other:?}"),
    }
}

fn declined(status: u16, body: &Value) -> SettleResponse {
    match settle(status, body) {
        Settlement::Declined(response) => response,
        other => panic!("{body} is {other:?}"),
    }
}

fn is_unclear(status: u16, body: &Value) -> bool {
    matches!(settle(status, body), Settlement::Unclear(_))
}

#[test]
fn a_verification_is_read_on_any_status_and_in_every_dialect() {
    let invalid = |reason: &str| VerifyResponse::Invalid { reason: Reason::foreign(reason), payer: None };
    let cases = [
        (200, json!({"isValid": false, "invalidReason": "a"}), invalid("a")),
        (400, json!({"isValid": false, "invalidReason": "a", "invalidReasonDetails": "b"}), invalid("a")),
        (
            412,
            json!({"isValid": false, "invalidReason": "permit2_allowance_required"}),
            invalid("permit2_allowance_required"),
        ),
        (500, json!({"isValid": false, "invalid_reason": "a"}), invalid("a")),
        (200, json!({"isValid": false, "error": "a"}), invalid("a")),
        (200, json!({"isValid": false, "errorReason": "a", "payer": null}), invalid("a")),
        (200, json!({"isValid": false, "invalidReason": null, "invalidReasonDetails": "b"}), invalid("b")),
        (
            200,
            json!({"isValid": false, "invalidReason": {"code": 1}}),
            VerifyResponse::Invalid { reason: Reason::UNSPECIFIED, payer: None },
        ),
        (
            200,
            json!({"isValid": false, "payer": "0xp"}),
            VerifyResponse::Invalid { reason: Reason::UNSPECIFIED, payer: Some("0xp".into()) },
        ),
        (200, json!({"isValid": true}), VerifyResponse::Valid { payer: None }),
        (200, json!({"isValid": true, "payer": ""}), VerifyResponse::Valid { payer: None }),
        (
            200,
            json!({"isValid": true, "payer": "0xp", "more": [1]}),
            VerifyResponse::Valid { payer: Some("0xp".into()) },
        ),
    ];
    for (status, body, expected) in cases {
        assert_eq!(verification(&answer(status, &body)).as_ref(), Ok(&expected), "{status} {body}");
    }
}

#[test]
fn only_a_true_with_a_successful_status_is_a_yes() {
    for (status, body) in [
        (200, json!({})),
        (200, json!({"isValid": "true"})),
        (200, json!({"isValid": 1})),
        (200, json!({"isValid": null})),
        (200, json!([true])),
        (200, json!("isValid")),
        (200, json!({"success": true})),
        (200, json!({"isValid": true, "payer": 7})),
        (200, json!({"isValid": true, "payer": "a\r\nb"})),
        (200, json!({"isValid": true, "payer": "p".repeat(201)})),
        (500, json!({"isValid": true})),
        (302, json!({"isValid": true})),
        (402, json!({"isValid": true})),
    ] {
        assert!(verification(&answer(status, &body)).is_err(), "{status} {body}");
    }
    for body in ["", "<html>", "{\"isValid\": true", "{\"isValid\": true} x", "\u{feff}{}"] {
        assert!(verification(&raw(200, body)).is_err(), "{body}");
    }
    assert!(verification(&raw(200, "[".repeat(100_000))).is_err());
}

#[test]
fn a_settlement_is_read_in_every_dialect() {
    let plain =
        settled(&json!({"success": true, "transaction": "0xt", "network": "eip155:84532", "payer": "0xp"}));
    assert_eq!((plain.transaction.as_str(), plain.payer.as_deref()), ("0xt", Some("0xp")));
    assert_eq!((plain.network.as_str(), plain.error_reason), ("eip155:84532", None));
    assert_eq!(settled(&json!({"success": true, "txHash": "0xt", "error": null})).transaction, "0xt");
    assert_eq!(settled(&json!({"success": true, "transaction": null, "txHash": "0xt"})).transaction, "0xt");
    assert_eq!(settled(&json!({"success": true})).transaction, "");
    for network in ["base-sepolia", "Base-Sepolia", "eip155:84532"] {
        assert_eq!(settled(&json!({"success": true, "network": network})).network, "eip155:84532");
    }
    for id in
        [json!("84532"), json!(84532), json!("base-sepolia"), json!("eip155:84532"), json!("?"), json!(null)]
    {
        assert_eq!(settled(&json!({"success": true, "networkId": id})).network, "eip155:84532");
    }
    for (status, body) in [
        (200, json!({"success": false, "errorReason": "no", "transaction": "", "network": ""})),
        (400, json!({"success": false, "error_reason": "no"})),
        (500, json!({"success": false, "error": "no", "txHash": null})),
        (200, json!({"success": false, "errorReason": "", "error": "no"})),
    ] {
        let response = declined(status, &body);
        assert_eq!(response.error_reason.as_deref(), Some("no"), "{body}");
        assert_eq!((response.success, response.transaction.as_str()), (false, ""));
    }
    let silent = declined(200, &json!({"success": false}));
    assert_eq!(silent.error_reason.as_deref(), Some(Reason::SETTLEMENT_FAILED.as_str()));
}

#[test]
fn a_success_that_contradicts_itself_is_not_believed() {
    for (status, body) in [
        (200, json!({"success": true, "network": "base"})),
        (200, json!({"success": true, "network": "nowhere"})),
        (200, json!({"success": true, "network": 84532})),
        (200, json!({"success": true, "networkId": "8453"})),
        (200, json!({"success": true, "transaction": "a b"})),
        (200, json!({"success": true, "transaction": "t".repeat(201)})),
        (200, json!({"success": true, "transaction": 7})),
        (200, json!({"success": true, "payer": "\u{e9}"})),
        (200, json!({"success": "true"})),
        (200, json!({"success": 1})),
        (200, json!({"isValid": true})),
        (200, json!({})),
        (500, json!({"success": true, "transaction": "0xt"})),
        (302, json!({"success": true})),
        (200, json!({"success": false, "transaction": ["0xt"]})),
    ] {
        assert!(is_unclear(status, &body), "{status} {body}");
    }
}

#[test]
fn an_undecided_failure_is_pending_with_a_transaction_and_unclear_without() {
    for code in ["settlement_pending", "settle_exact_svm_transaction_confirmation_timed_out", "Timeout"] {
        let body = json!({"success": false, "errorReason": code, "transaction": "0xt"});
        let Settlement::Pending(response) = settle(200, &body) else { panic!("{code}") };
        assert_eq!((response.success, response.transaction.as_str()), (false, "0xt"));
        assert!(
            is_unclear(200, &json!({"success": false, "errorReason": code, "transaction": ""})),
            "{code}"
        );
    }
}

#[test]
fn only_a_status_that_nothing_but_a_doorkeeper_gives_means_untouched() {
    let body = json!({"error": "no"});
    for status in [405, 413, 415] {
        assert!(matches!(settle(status, &body), Settlement::Untouched(_)), "{status}");
    }
    for status in [301, 307, 400, 401, 402, 403, 404, 408, 409, 422, 429, 500, 502, 503, 504] {
        assert!(is_unclear(status, &body), "{status}");
    }
    let mut limited = answer(429, &body);
    limited.retry_after = Some(std::time::Duration::from_secs(1));
    let mut unknown = answer(401, &body);
    unknown.challenge = true;
    for answer in [limited, unknown] {
        assert!(matches!(settlement(&answer, &request("one")), Settlement::Untouched(_)), "{answer:?}");
    }
}

#[test]
fn what_schemes_and_extensions_add_is_kept_within_limits() {
    let small = json!({"channelState": {"charged": "1"}});
    let large = json!({"x": "y".repeat(DETAILS_BYTES_MAX)});
    let kept = settled(&json!({"success": true, "extra": small, "extensions": small, "amount": "9000"}));
    assert_eq!(
        (kept.extra, kept.extensions, kept.amount.as_deref()),
        (Some(small.clone()), Some(small.clone()), Some("9000"))
    );
    let cut = settled(&json!({"success": true, "extra": large, "extensions": "text", "amount": "9e3"}));
    assert_eq!((cut.extra, cut.extensions, cut.amount), (None, None, None));
    assert_eq!(declined(200, &json!({"success": false, "extra": small})).extra, Some(small));
}

#[test]
fn reasons_that_carry_addresses_keys_or_payments_are_not_passed_on() {
    for text in [
        "HTTP request failed. URL: https://base.g.example.com/v2/KEY",
        &format!("bad signature 0x{}", "ab".repeat(65)),
        "eyJhbGciOiJFZERTQSIsImtpZCI6ImtleSJ9.eyJzdWIiOiJrZXkifQ.c2ln",
    ] {
        let body = json!({"success": false, "errorReason": text});
        assert_eq!(declined(200, &body).error_reason.as_deref(), Some(Reason::SETTLEMENT_FAILED.as_str()));
        let cause = verification(&answer(500, &json!({"error": text}))).unwrap_err();
        assert_eq!(cause, "status 500 without a verification");
    }
    let code = "invalid_exact_evm_payload_authorization_value_mismatch";
    assert_eq!(
        declined(200, &json!({"success": false, "errorReason": code})).error_reason.as_deref(),
        Some(code)
    );
    let cause = verification(&answer(500, &json!({"error": "no connection to the chain"}))).unwrap_err();
    assert_eq!(cause, "status 500 without a verification: no connection to the chain");
    let cause = verification(&answer(401, &json!({"error": "wrong key hunter2"}))).unwrap_err();
    assert!(!cause.contains("hunter2"), "{cause}");
}

#[test]
fn only_answers_nobody_can_provoke_speak_of_the_facilitators_health() {
    let error = json!({"error": "no"});
    for (answer, expected) in [
        (answer(500, &error), Health::Unknown),
        (raw(500, "<html>"), Health::Unknown),
        (raw(500, ""), Health::Unknown),
        (raw(502, "<html>"), Health::Fails),
        (answer(502, &error), Health::Fails),
        (answer(503, &error), Health::Fails),
        (answer(504, &error), Health::Fails),
        (raw(200, "<html>"), Health::Fails),
        (raw(429, ""), Health::Works),
        (raw(401, ""), Health::Works),
        (raw(307, ""), Health::Works),
    ] {
        assert_eq!(health(&answer), expected, "{answer:?}");
    }
}

#[test]
fn what_is_said_twice_is_not_said() {
    for body in [
        r#"{"success":false,"success":true,"transaction":"0x1"}"#,
        r#"{"success":true,"success":false,"transaction":"0x1"}"#,
        r#"{"success":true,"\u0073uccess":true,"transaction":"0x1"}"#,
        r#"{"success":true,"transaction":"0x1","transaction":"0x2"}"#,
        r#"{"success":true,"transaction":"0x1","network":"base","network":"base-sepolia"}"#,
    ] {
        let settled = settlement(&raw(200, body), &request("one"));
        assert!(matches!(settled, Settlement::Unclear(_)), "{body} is {settled:?}");
    }
    assert!(verification(&raw(200, r#"{"isValid":false,"isValid":true}"#)).is_err());
    // With a status that otherwise proves that nobody looked.
    for body in [r#"{"success":true,"a":1,"a":2}"#, r#"{"success":"true"}"#, r#"{"success":null}"#] {
        let settled = settlement(&raw(413, body), &request("one"));
        assert!(matches!(settled, Settlement::Unclear(_)), "{body} is {settled:?}");
    }
}

#[test]
fn a_list_of_kinds_needs_a_successful_status() {
    let list = crate::facilitator::fake::listing();
    assert_eq!(supported(&answer(200, &list)).unwrap().kinds.len(), 1);
    for answer in [answer(500, &list), answer(429, &list), answer(200, &json!({})), raw(200, "<html>")] {
        assert!(supported(&answer).is_err(), "{answer:?}");
    }
}

proptest::proptest! {
    #[test]
    fn no_answer_breaks_the_reader_and_only_success_true_settles(
        status in 100_u16..600,
        success in proptest::sample::select(vec!["true", "false", "null", "\"true\"", "1", "{}", "["]),
        network in proptest::sample::select(vec!["base-sepolia", "eip155:84532", "eip155:1", ""]),
        transaction in ".{0,8}",
        rest in ".{0,8}",
    ) {
        let transaction = Value::from(transaction);
        let members = format!("\"success\":{success},\"network\":\"{network}\"");
        let body = format!("{{{members},\"transaction\":{transaction}}}{rest}");
        let answer = raw(status, body);
        let settled = matches!(settlement(&answer, &request("one")), Settlement::Settled(_));
        let may_be = success == "true" && network != "eip155:1" && (200..300).contains(&status);
        proptest::prop_assert!(!settled || (may_be && rest.trim().is_empty()));
        proptest::prop_assert!(verification(&answer).is_err());
    }
}
