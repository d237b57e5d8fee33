//! Payment headers of both generations, from their bytes to an authorization.

use std::sync::LazyLock;

use alloy_primitives::{Address, B256, Bytes, U256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secp256k1::{Message, Secp256k1, SecretKey};
use serde_json::{Map, Value};
use tollgate::payment::{LiveAccept, LiveOffer, Resource};
use tollgate::scheme::{Authorization, OnChain, authorization_digest, permit2, read_authorization};
use tollgate::x402::asset::same_address;
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{PaymentPayload, PaymentRequirements, Version, header};

use crate::shop::{MOMENT, OPEN, PUBLIC_URL};

/// Payments may outlast their offer by this.
const EXTRA_SECONDS: u64 = 24 * 3600;

/// The bytes are a header as it is, and the JSON inside of one. Whatever is taken for a payment is one
/// of the terms on offer, stays the same however it is written down, and reaches the facilitator as it
/// came; and no payment that its payer signed buys what its terms do not say.
pub fn hold(data: &[u8]) {
    let encoded = STANDARD.encode(data);
    for version in [Version::V1, Version::V2] {
        for header in [data, encoded.as_bytes()] {
            if let Ok(payment) = PaymentPayload::decode(version, header) {
                read(&payment);
            }
        }
    }
}

fn read(payment: &PaymentPayload) {
    let written = header::encode(&payment.message).unwrap();
    let again = PaymentPayload::decode(payment.version, written.as_bytes());
    assert_eq!(again.as_ref(), Ok(payment), "written down again it is another payment");

    let offer = OPEN.get(0).unwrap();
    let _ = (offer.terms.identifier_of(payment), offer.terms.echoes_extensions(payment));
    for index in 0..crate::shop::terms().len() {
        // Whatever terms the message names, its scheme's part can be presented for others.
        let terms = &accept(&offer, index).requirements;
        let payload = payment.payload().unwrap();
        inspected(terms, payload, accept(&offer, index));
    }
    if let Some(accept) = offer.terms.accepted_by(payment) {
        names(payment, &accept.requirements);
        asked(payment, accept);
    }
}

fn accept(offer: &LiveOffer, index: usize) -> &LiveAccept {
    &offer.terms.accepts[index]
}

/// The message names these terms and no others.
fn names(payment: &PaymentPayload, terms: &PaymentRequirements) {
    let said = match payment.version {
        Version::V1 => {
            assert_eq!(payment.message["scheme"], terms.scheme);
            assert_eq!(payment.message["network"].as_str(), terms.network.v1_name());
            return;
        }
        Version::V2 => payment.accepted().unwrap(),
    };
    let text = |name: &str| said[name].as_str().unwrap();
    assert_eq!(text("scheme"), terms.scheme);
    assert_eq!(text("network"), terms.network.as_str());
    assert_eq!(text("amount"), terms.amount.to_string());
    assert!(same_address(text("asset"), &terms.asset) && same_address(text("payTo"), &terms.pay_to));
    assert_eq!(said["maxTimeoutSeconds"].as_u64(), Some(terms.max_timeout_seconds));
    for (name, offered) in &terms.extra {
        assert_eq!(&said["extra"][name], offered, "{name}");
    }
}

/// What a facilitator is asked is about the gateway's terms and the client's payment, and is kept
/// word for word.
fn asked(payment: &PaymentPayload, accept: &LiveAccept) {
    let resource = Resource::new(PUBLIC_URL, "/a", "");
    let Some(request) = accept.request(payment, &resource) else { return };
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let (terms, sent) = (&accept.requirements, &body["paymentRequirements"]);
    let amount = if request.version == Version::V1 { "maxAmountRequired" } else { "amount" };
    assert_eq!(sent[amount], terms.amount.to_string());
    assert!(same_address(sent["payTo"].as_str().unwrap(), &terms.pay_to));
    assert!(same_address(sent["asset"].as_str().unwrap(), &terms.asset));
    assert_eq!(sent["maxTimeoutSeconds"], terms.max_timeout_seconds);
    assert_eq!(body["paymentPayload"]["payload"].as_object(), payment.payload());
    let kept = FacilitatorRequest::from_stored(&request.to_stored()).unwrap();
    assert_eq!((kept.body, kept.payload), (request.body, request.payload));
    assert_eq!((kept.requirements, kept.version), (request.requirements, request.version));
}

/// The scheme's part of a payment as it came, and signed by a payer who signs anything.
fn inspected(terms: &PaymentRequirements, payload: &Map<String, Value>, accept: &LiveAccept) {
    let inspect = |payload: &Map<String, Value>| accept.scheme.inspect(terms, payload, MOMENT);
    if let Ok(found) = inspect(payload) {
        let other = Map::from_iter([("payload".to_owned(), Value::Object(payload.clone()))]);
        let written = header::encode(&other).unwrap();
        let read = header::decode(written.as_bytes()).unwrap();
        let again = inspect(read["payload"].as_object().unwrap());
        assert_eq!(again.map(|again| again.id), Ok(found.id), "another spelling is another payment");
    }
    if terms.network.chain_id().is_none() || terms.scheme != "exact" {
        return;
    }
    let mut payload = payload.clone();
    let permit2 = terms.extra.contains_key("assetTransferMethod");
    let right = if permit2 { sign_permit(terms, &mut payload) } else { sign(terms, &mut payload) };
    let Some(right) = right else { return };
    let methods = ["authorization", "permit2Authorization", "delegationManager"];
    let one_method = methods.into_iter().filter(|method| payload.contains_key(*method)).count() == 1;
    match inspect(&payload) {
        Ok(found) => buys(terms, &payload, &found, &right, accept),
        Err(reason) => assert!(!right.fits || !one_method, "a right payment is refused: {reason}"),
    }
}

/// A payment as it was signed, read without the gateway's judgement.
struct Signed {
    /// Whether it is for the terms, and for a time in which it can be settled.
    fits: bool,
    last_second: U256,
    amount: U256,
    to: Address,
}

fn buys(
    terms: &PaymentRequirements,
    payload: &Map<String, Value>,
    found: &Authorization,
    right: &Signed,
    accept: &LiveAccept,
) {
    assert!(right.fits, "signed for other terms, and accepted");
    assert!(found.proven && !found.malleable);
    assert_eq!(found.payer.as_deref(), Some(PAYER.to_checksum(None).as_str()));
    let soon = U256::from(MOMENT.now.0 + MOMENT.margin_seconds);
    assert_eq!(found.too_late.is_some(), right.last_second < soon);
    let (to, amount) = match accept.scheme.on_chain(terms, payload).unwrap() {
        OnChain::Eip3009 { to, value, .. } => (to, value),
        OnChain::Permit2 { to, amount, .. } => (to, amount),
    };
    assert_eq!((to, amount), (right.to, right.amount));
    assert_eq!((to.to_checksum(None), amount), (terms.pay_to.clone(), terms.amount.0));
}

const KEY: [u8; 32] = [0x42; 32];

static PAYER: LazyLock<Address> = LazyLock::new(|| {
    let secret = SecretKey::from_byte_array(KEY).unwrap();
    let public = secret.public_key(&Secp256k1::new()).serialize_uncompressed();
    Address::from_raw_public_key(&public[1..])
});

/// A signature that has the right length only.
fn placeholder() -> Value {
    Bytes::from(vec![1; 65]).to_string().into()
}

fn signature(digest: B256) -> Value {
    let secret = SecretKey::from_byte_array(KEY).unwrap();
    let signed = Secp256k1::new().sign_ecdsa_recoverable(Message::from_digest(digest.0), &secret);
    let (recovery, compact) = signed.serialize_compact();
    let last = 27 + u8::try_from(i32::from(recovery)).unwrap();
    Bytes::from([compact.as_slice(), &[last]].concat()).to_string().into()
}

fn fits(terms: &PaymentRequirements, [from, until]: [U256; 2]) -> bool {
    let longest = MOMENT.now.0 + terms.max_timeout_seconds + EXTRA_SECONDS;
    from <= U256::from(MOMENT.now.0) && until <= U256::from(longest)
}

fn sign(terms: &PaymentRequirements, payload: &mut Map<String, Value>) -> Option<Signed> {
    payload.insert("signature".to_owned(), placeholder());
    let fields = payload.get_mut("authorization")?.as_object_mut()?;
    fields.insert("from".to_owned(), PAYER.to_string().into());
    let (message, _) = read_authorization(payload).ok()?;
    let asset = terms.asset.parse().unwrap();
    let digest = authorization_digest(&message, "USDC", "2", terms.network.chain_id()?, asset);
    payload.insert("signature".to_owned(), signature(digest));
    Some(Signed {
        fits: message.to.to_checksum(None) == terms.pay_to
            && message.value == terms.amount.0
            && fits(terms, [message.validAfter, message.validBefore]),
        last_second: message.validBefore,
        amount: message.value,
        to: message.to,
    })
}

fn sign_permit(terms: &PaymentRequirements, payload: &mut Map<String, Value>) -> Option<Signed> {
    payload.insert("signature".to_owned(), placeholder());
    let fields = payload.get_mut("permit2Authorization")?.as_object_mut()?;
    fields.insert("from".to_owned(), PAYER.to_string().into());
    let message = permit2::read_permit(payload).ok()?.message;
    let digest = permit2::permit_digest(&message, terms.network.chain_id()?);
    payload.insert("signature".to_owned(), signature(digest));
    Some(Signed {
        fits: message.witness.to.to_checksum(None) == terms.pay_to
            && message.permitted.token.to_checksum(None) == terms.asset
            && message.permitted.amount == terms.amount.0
            && message.spender == permit2::EXACT_PROXY
            && fits(terms, [message.witness.validAfter, message.deadline]),
        last_second: message.deadline,
        amount: message.permitted.amount,
        to: message.witness.to,
    })
}
