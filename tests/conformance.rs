//! Wire formats, held against vectors that other implementations made (`tests/vectors`; each file
//! names them). What is read must mean the same, and what is written must be the same message.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::collections::HashSet;

use alloy_primitives::{B256, Bytes};
use serde_json::{Map, Value};
use tollgate::clock::UnixSeconds;
use tollgate::payment::{Challenge, Resource};
use tollgate::policy::{Accept, FacilitatorId, Offer, SettleWhen, V1Mode};
use tollgate::scheme::{self, Authorization, Moment, TransferWithAuthorization, authorization_digest};
use tollgate::x402::{
    Network, PaymentPayload, PaymentRequirements, Reason, ResourceInfo, SettleResponse, Version, header,
};

/// The time the vectors were made for.
const MOMENT: Moment = Moment { now: UnixSeconds(1_800_000_000), margin_seconds: 30 };
const PUBLIC_URL: &str = "https://shop.example";

fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert!(vectors["made_by"].is_string());
    vectors
}

/// The cases of a list, with their names.
fn cases<'a>(vectors: &'a Value, list: &str) -> Vec<(&'a str, &'a Value)> {
    let cases: Vec<_> =
        vectors[list].as_array().unwrap().iter().map(|case| (case["name"].as_str().unwrap(), case)).collect();
    assert!(!cases.is_empty(), "{list}");
    cases
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("no text {member} in {value}"))
}

fn decode(encoded: &str) -> Value {
    Value::Object(header::decode(encoded.as_bytes()).unwrap())
}

/// The offer that a `PaymentRequired` shows.
fn offer(required: &Value) -> Offer {
    let accepts = required["accepts"].as_array().unwrap().iter().map(|entry| Accept {
        requirements: serde_json::from_value(entry.clone()).unwrap(),
        facilitator: FacilitatorId(0),
        symbol: "USDC".to_owned(),
        decimals: 6,
        v1: true,
    });
    let member = |name: &str| required["resource"][name].as_str().map(str::to_owned);
    let tags = required["resource"]["tags"].as_array().into_iter().flatten();
    Offer {
        index: 0,
        accepts: accepts.collect(),
        resource: ResourceInfo {
            description: member("description"),
            mime_type: member("mimeType"),
            service_name: member("serviceName"),
            tags: tags.map(|tag| tag.as_str().unwrap().to_owned()).collect(),
            icon_url: member("iconUrl"),
        },
        extensions: required["extensions"].as_object().cloned().unwrap_or_default(),
        settle: SettleWhen::BeforeResponse,
        v1: V1Mode::Both,
    }
}

fn challenge(offer: &Offer) -> Challenge {
    let terms: Vec<_> = offer.accepts.iter().map(|accept| &accept.requirements).collect();
    Challenge::prepare(offer, PUBLIC_URL, &terms, &terms)
}

/// The resource of a URL below [`PUBLIC_URL`].
fn resource(url: &str) -> Resource {
    let target = url.strip_prefix(PUBLIC_URL).unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Resource::new(PUBLIC_URL, path, query)
}

/// Compliance 1, 2, 6.
#[test]
fn payment_required_is_the_message_others_write() {
    for (name, case) in cases(&vectors("messages"), "payment_required") {
        let decoded = &case["decoded"];
        assert_eq!(&decode(text(case, "encoded")), decoded, "{name}");
        let resource = resource(text(&decoded["resource"], "url"));
        let ours = challenge(&offer(decoded)).header(&resource).unwrap();
        assert_eq!(&decode(&ours), decoded, "{name}");
        for entry in decoded["accepts"].as_array().unwrap() {
            let terms: PaymentRequirements = serde_json::from_value(entry.clone()).unwrap();
            assert_eq!(&serde_json::to_value(terms).unwrap(), entry, "{name}");
        }
    }
}

/// Compliance 3, 4.
#[test]
fn the_v1_body_is_the_message_others_write() {
    for (name, case) in cases(&vectors("messages"), "v1_body") {
        let decoded = &case["decoded"];
        let entry = &decoded["accepts"][0];
        let network: Network = text(entry, "network").parse().unwrap();
        let required = serde_json::json!({
            "accepts": [{"scheme": entry["scheme"], "network": network, "amount": entry["maxAmountRequired"],
                         "asset": entry["asset"], "payTo": entry["payTo"],
                         "maxTimeoutSeconds": entry["maxTimeoutSeconds"], "extra": entry["extra"]}],
            "resource": {"description": entry["description"], "mimeType": entry["mimeType"]},
        });
        let resource = resource(text(entry, "resource"));
        let body = challenge(&offer(&required)).body(&resource, &Reason::PAYMENT_REQUIRED, None);
        assert_eq!(&serde_json::from_slice::<Value>(&body).unwrap(), decoded, "{name}");
    }
}

/// Compliance 14.
#[test]
fn payments_of_both_generations_are_read_as_others_write_them() {
    let vectors = vectors("messages");
    for (list, version) in [("payment_signature", Version::V2), ("x_payment", Version::V1)] {
        for (name, case) in cases(&vectors, list) {
            let (encoded, decoded) = (text(case, "encoded"), &case["decoded"]);
            let payment = PaymentPayload::decode(version, encoded.as_bytes()).unwrap();
            assert_eq!(&Value::Object(payment.message.clone()), decoded, "{name}");
            assert_eq!(payment.payload(), decoded["payload"].as_object(), "{name}");
            assert_eq!(payment.accepted(), decoded["accepted"].as_object(), "{name}");
            assert_eq!(payment.extensions(), decoded["extensions"].as_object(), "{name}");
            assert_eq!(payment.resource_url(), decoded["resource"]["url"].as_str(), "{name}");
            let unpadded = encoded.trim_end_matches('=');
            assert_eq!(PaymentPayload::decode(version, unpadded.as_bytes()).unwrap(), payment, "{name}");
        }
    }
}

/// Compliance 9.
#[test]
fn settlements_are_the_messages_others_write() {
    let vectors = vectors("messages");
    for (list, version) in [("payment_response", Version::V2), ("x_payment_response", Version::V1)] {
        for (name, case) in cases(&vectors, list) {
            let decoded = &case["decoded"];
            assert_eq!(&decode(text(case, "encoded")), decoded, "{name}");
            let network: Network = text(decoded, "network").parse().unwrap();
            let member = |member: &str| decoded[member].as_str().map(str::to_owned);
            let response = SettleResponse {
                success: decoded["success"].as_bool().unwrap(),
                error_reason: member("errorReason"),
                payer: member("payer"),
                transaction: text(decoded, "transaction").to_owned(),
                network: network.as_str().to_owned(),
                amount: member("amount"),
                extra: decoded.get("extra").cloned(),
                extensions: decoded.get("extensions").cloned(),
            };
            assert_eq!(&decode(&response.header_value(version)), decoded, "{name}");
        }
    }
}

/// Compliance 10, 11, 14.
#[test]
fn what_is_no_payment_is_refused_with_its_reason() {
    for (name, case) in cases(&vectors("messages"), "unreadable") {
        let versions = [Version::V1, Version::V2];
        let version = versions
            .into_iter()
            .find(|version| version.payment_header().eq_ignore_ascii_case(text(case, "header")));
        let refused = PaymentPayload::decode(version.unwrap(), text(case, "encoded").as_bytes());
        assert_eq!(refused.unwrap_err().as_str(), text(case, "reason"), "{name}");
    }
}

#[test]
fn eip_3009_digests_and_signatures_are_those_of_wallets() {
    let vectors = vectors("exact_evm");
    let mut ids = HashSet::new();
    for (name, case) in cases(&vectors, "eip3009") {
        let fields = &case["authorization"];
        let message = TransferWithAuthorization {
            from: text(fields, "from").parse().unwrap(),
            to: text(fields, "to").parse().unwrap(),
            value: text(fields, "value").parse().unwrap(),
            validAfter: text(fields, "validAfter").parse().unwrap(),
            validBefore: text(fields, "validBefore").parse().unwrap(),
            nonce: text(fields, "nonce").parse().unwrap(),
        };
        let domain = &case["domain"];
        let (chain_id, asset) = (case["chainId"].as_u64().unwrap(), text(case, "asset"));
        let digest = authorization_digest(
            &message,
            text(domain, "name"),
            text(domain, "version"),
            chain_id,
            asset.parse().unwrap(),
        );
        assert_eq!(digest, text(case, "digest").parse::<B256>().unwrap(), "{name}");
        let terms = serde_json::json!({
            "scheme": "exact", "network": format!("eip155:{chain_id}"), "amount": fields["value"],
            "asset": asset, "payTo": fields["to"], "maxTimeoutSeconds": 300, "extra": domain,
        });
        let payload = serde_json::json!({"signature": case["signature"], "authorization": fields});
        if text(fields, "validBefore").len() > 20 {
            // Signed as right as the others, and refused for its length of life.
            assert_eq!(inspect(&terms, &payload), Err(Reason::EVM_VALID_BEFORE), "{name}");
            continue;
        }
        let found = inspect(&terms, &payload).unwrap();
        assert_eq!(found.payer.as_deref(), fields["from"].as_str(), "{name}");
        assert!(ids.insert(found.id), "{name}: every payment is one of its own");
        refuses_a_changed_signature(&terms, &payload, &Reason::EVM_SIGNATURE);
    }
}

#[test]
fn permit2_signatures_are_those_of_wallets() {
    for (name, case) in cases(&vectors("exact_evm"), "permit2") {
        let fields = &case["permit2Authorization"];
        let terms = serde_json::json!({
            "scheme": "exact", "network": format!("eip155:{}", case["chainId"]),
            "amount": fields["permitted"]["amount"], "asset": case["asset"],
            "payTo": fields["witness"]["to"], "maxTimeoutSeconds": 300,
            "extra": {"assetTransferMethod": "permit2"},
        });
        let payload = serde_json::json!({"signature": case["signature"], "permit2Authorization": fields});
        let found = inspect(&terms, &payload).unwrap();
        assert_eq!(found.payer.as_deref(), fields["from"].as_str(), "{name}");
        refuses_a_changed_signature(&terms, &payload, &Reason::PERMIT2_SIGNATURE);
    }
}

/// Compliance 49, as far as identities go.
#[test]
fn solana_transactions_are_understood_as_others_build_them() {
    let vectors = vectors("exact_svm");
    for (name, case) in cases(&vectors, "cases") {
        let payload = serde_json::json!({"transaction": case["transaction"]});
        match inspect(&vectors["terms"], &payload) {
            Ok(found) => {
                assert_eq!(found.id.to_string(), text(case, "id"), "{name}");
                assert_eq!(found.payer.as_deref(), case["payer"].as_str(), "{name}");
            }
            Err(reason) => assert_eq!(reason.as_str(), text(case, "reason"), "{name}"),
        }
    }
    let id = |name: &str| {
        let found = cases(&vectors, "cases").into_iter().find(|(found, _)| *found == name);
        text(found.unwrap().1, "id").to_owned()
    };
    let one = id("a version 0 transaction");
    assert_eq!(one, id("the same with a mutated signature of the fee payer"));
    assert_eq!(one, id("the same, signed by the fee payer as well"));
    assert_ne!(one, id("another memo, and so another payment"));
    assert_ne!(one, id("a legacy transaction"));
}

fn inspect(terms: &Value, payload: &Value) -> Result<Authorization, Reason> {
    let terms: PaymentRequirements = serde_json::from_value(terms.clone()).unwrap();
    let payload: &Map<String, Value> = payload.as_object().unwrap();
    scheme::find(&terms.scheme, &terms.network).inspect(&terms, payload, MOMENT)
}

/// Every byte of a signature counts.
fn refuses_a_changed_signature(terms: &Value, payload: &Value, reason: &Reason) {
    let signature: Bytes = text(payload, "signature").parse().unwrap();
    for position in 0..signature.len() {
        let mut changed = signature.to_vec();
        changed[position] ^= 1;
        let mut payload = payload.clone();
        payload["signature"] = Bytes::from(changed).to_string().into();
        assert_eq!(inspect(terms, &payload).as_ref(), Err(reason), "byte {position}");
    }
}
