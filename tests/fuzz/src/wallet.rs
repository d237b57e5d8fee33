//! What servers answer to `tollgate pay`: offers, and receipts.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderValue};
use tollgate::cli::pay::challenge::Challenge;
use tollgate::cli::pay::choice::{self, Limits, Payable};
use tollgate::cli::pay::receipt;
use tollgate::x402::{Money, Version, header};

const DAY_SECONDS: u64 = 24 * 3600;

static ASKED: LazyLock<Url> = LazyLock::new(|| "https://shop.example/a".parse().unwrap());
static LIMIT: LazyLock<Money> = LazyLock::new(|| "$0.10".parse().unwrap());

/// The first byte says what the person at the terminal allows, the rest is the JSON of an answer, or a
/// header as it is. Nothing is paid beyond what is allowed, to nobody, or for another site.
pub fn hold(data: &[u8]) {
    let Some((&flags, message)) = data.split_first() else { return };
    let encoded = STANDARD.encode(message);
    for value in [encoded.as_bytes(), message] {
        let Ok(value) = HeaderValue::from_bytes(value) else { continue };
        let headers = HeaderMap::from_iter([
            (header::PAYMENT_REQUIRED.parse().unwrap(), value.clone()),
            (header::PAYMENT_RESPONSE.parse().unwrap(), value),
        ]);
        for v1 in [false, true] {
            if let Ok(challenge) = Challenge::read(&headers, message, v1) {
                chosen(&challenge, flags);
            }
        }
        let receipt = receipt::read(&headers);
        if let Some(words) = receipt::reason(receipt.ok().flatten().as_ref(), &headers, message) {
            assert!(words.chars().count() <= 301, "a reason without end");
        }
    }
}

fn chosen(challenge: &Challenge, flags: u8) {
    let limits = Limits {
        max_price: &LIMIT,
        max_amount: (flags & 1 != 0).then(|| "7".parse().unwrap()),
        network: None,
        key_given: flags & 2 != 0,
        allow_other_resource: flags & 4 != 0,
        asked: &ASKED,
    };
    for offer in &challenge.offers {
        let _ = (challenge.resource_url(offer), challenge.description(offer));
        if let Ok(payable) = choice::examine(challenge, offer, &limits) {
            allowed(challenge, &payable, &limits);
        }
    }
    if let Some(payable) = choice::choose(challenge, &limits) {
        allowed(challenge, &payable, &limits);
    }
}

fn allowed(challenge: &Challenge, payable: &Payable<'_>, limits: &Limits<'_>) {
    let amount = payable.amount;
    let most = match &payable.known {
        Some(known) => LIMIT.to_atomic(known.decimals).unwrap(),
        None => limits.max_amount.unwrap(),
    };
    assert!(amount <= most, "{amount} is more than {most}");
    let price = if challenge.version == Version::V1 { "maxAmountRequired" } else { "amount" };
    let written = payable.offer[price].as_str().unwrap().trim_start_matches('0');
    assert_eq!(if written.is_empty() { "0" } else { written }, amount.to_string());
    assert!(limits.key_given || payable.network.is_testnet(), "money without a key");
    assert_eq!(payable.network.chain_id(), Some(payable.chain_id));
    assert!((1..=DAY_SECONDS).contains(&payable.lifetime_seconds));
    assert!(!payable.pay_to.is_zero() && !payable.asset.is_zero());
    assert!(!payable.price().is_empty());
    if !limits.allow_other_resource {
        let sold = challenge.resource_url(payable.offer).unwrap();
        let sold = ASKED.join(sold).unwrap();
        let host = sold.host_str().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
        assert_eq!(host.as_deref(), Some("shop.example"), "{sold} is another site");
    }
}
