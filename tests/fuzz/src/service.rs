//! What others ask of the facilitator that this gateway can be.

use serde_json::Value;
use tollgate::facilitator::serve::message;
use tollgate::scheme;
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{Network, Version};

use crate::shop::MOMENT;

/// The bytes are the body of `/verify` or `/settle`. What is taken for a question is about one payment,
/// which chose the terms that are named, and stays the same when it is kept.
pub fn hold(data: &[u8]) {
    let Ok(request) = message::parse(data) else { return };
    let body: Value = serde_json::from_slice(data).unwrap();
    let (terms, payment) = (&body["paymentRequirements"], &body["paymentPayload"]);
    let amount = if request.version == Version::V1 { "maxAmountRequired" } else { "amount" };
    assert_eq!(terms["scheme"], request.scheme);
    let price = terms[amount].as_str().unwrap().trim_start_matches('0');
    assert_eq!(if price.is_empty() { "0" } else { price }, request.requirements.amount.to_string());
    let chosen = if request.version == Version::V1 { payment } else { &payment["accepted"] };
    assert_eq!(chosen["scheme"], request.scheme);
    let network = chosen["network"].as_str().map(str::parse::<Network>);
    assert_eq!(network, Some(Ok(request.network.clone())));
    assert_eq!(payment["payload"].as_object(), Some(&request.payload));
    let kept = FacilitatorRequest::from_stored(&request.to_stored()).unwrap();
    assert_eq!((kept.body, kept.payload), (request.body, request.payload.clone()));
    assert_eq!((&kept.requirements, kept.version), (&request.requirements, request.version));
    let scheme = scheme::find(&request.scheme, &request.network);
    let found = scheme.inspect(&request.requirements, &request.payload, MOMENT);
    let on_chain = scheme.on_chain(&request.requirements, &request.payload);
    if let (Ok(found), Some(on_chain)) = (found, on_chain) {
        let payer = on_chain.payer().to_checksum(None);
        assert_eq!(found.payer, Some(payer), "two payers");
        assert_eq!(Some(on_chain.chain_id()), request.network.chain_id());
    }
}
