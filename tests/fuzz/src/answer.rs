//! What facilitators answer, in the dialects of both generations.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tollgate::facilitator::dialect::{self, Answer, Settlement};
use tollgate::payment::Resource;
use tollgate::policy::FacilitatorId;
use tollgate::x402::types::FacilitatorRequest;
use tollgate::x402::{Network, Reason, SettleResponse, VerifyResponse, Version, header};

use crate::shop::{PUBLIC_URL, book, terms};

const STATUSES: [u16; 20] =
    [200, 201, 202, 204, 301, 307, 400, 401, 402, 403, 404, 405, 408, 412, 413, 415, 429, 500, 502, 503];

/// The first byte says what comes with the answer, the second its status, the rest is its body. Only a
/// clear yes is a yes, and only a clear no is a no; what an answer says can be shown to anybody; and
/// whatever a facilitator supports, prices and payees stay the operator's.
pub fn hold(data: &[u8]) {
    let [flags, status, body @ ..] = data else { return };
    let status = STATUSES[usize::from(*status) % STATUSES.len()];
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        retry_after: (flags & 1 != 0).then_some(Duration::from_secs(1)),
        challenge: flags & 2 != 0,
        body: body.to_vec().into(),
    };
    settled(&answer, body);
    verified(&answer, body);
    if let Ok(supported) = dialect::supported(&answer) {
        assert!(answer.status.is_success());
        let book = book();
        book.observe(FacilitatorId(0), Arc::new(supported));
        offered(&book);
    }
}

static REQUEST: LazyLock<FacilitatorRequest> = LazyLock::new(|| {
    let terms = terms().swap_remove(0);
    let shown = serde_json::to_value(&terms).unwrap();
    FacilitatorRequest::new(Version::V2, terms, &Map::new(), &shown)
});

fn settled(answer: &Answer, body: &[u8]) {
    let success = said(body, "success");
    let response = match dialect::settlement(answer, &REQUEST) {
        Settlement::Settled(response) => {
            assert!(answer.status.is_success(), "settled with {}", answer.status);
            assert_eq!(success, Some(true), "not a clear yes");
            assert!(response.success && response.error_reason.is_none());
            if let Some(network) = text(body, "network").filter(|network| !network.is_empty()) {
                assert_eq!(network.parse::<Network>().as_ref(), Ok(&REQUEST.network));
            }
            response
        }
        Settlement::Declined(response) => {
            assert_eq!(success, Some(false), "not a clear no");
            response
        }
        Settlement::Pending(response) => {
            assert_eq!(success, Some(false), "neither pending");
            assert!(!response.transaction.is_empty(), "nothing to wait for");
            response
        }
        Settlement::Untouched(cause) => {
            assert!(matches!(answer.status.as_u16(), 401 | 405 | 413 | 415 | 429), "{}", answer.status);
            assert_eq!(success, None);
            return showable(&cause);
        }
        Settlement::Unclear(cause) => return showable(&cause),
    };
    assert_eq!(response.network, REQUEST.network.as_str());
    assert_eq!(response.success, response.error_reason.is_none());
    receipt(&response);
}

/// A receipt is the message it was made of, for clients of both generations.
fn receipt(response: &SettleResponse) {
    for (version, network) in [(Version::V2, "eip155:84532"), (Version::V1, "base-sepolia")] {
        let value = response.header_value(version);
        assert!(value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte)));
        let message = header::decode(value.as_bytes()).unwrap();
        let read: SettleResponse = serde_json::from_value(Value::Object(message)).unwrap();
        assert_eq!(read, SettleResponse { network: network.to_owned(), ..response.clone() });
    }
    for text in [&response.error_reason, &response.payer, &Some(response.transaction.clone())] {
        showable(text.as_deref().unwrap_or_default());
    }
}

fn verified(answer: &Answer, body: &[u8]) {
    let valid = said(body, "isValid");
    match dialect::verification(answer) {
        Ok(VerifyResponse::Valid { payer }) => {
            assert!(answer.status.is_success(), "valid with {}", answer.status);
            assert_eq!(valid, Some(true), "not a clear yes");
            showable(payer.as_deref().unwrap_or_default());
        }
        Ok(VerifyResponse::Invalid { reason, payer }) => {
            assert_eq!(valid, Some(false), "not a clear no");
            showable(reason.as_str());
            showable(payer.as_deref().unwrap_or_default());
        }
        Err(cause) => showable(&cause),
    }
}

/// Every offer is the operator's, and its challenge says so.
fn offered(book: &tollgate::payment::OfferBook) {
    let Some(offer) = book.get(0) else { return };
    let resource = Resource::new(PUBLIC_URL, "/a", "q=1");
    let value = offer.challenge.header(&resource).unwrap();
    let message = header::decode(value.as_bytes()).unwrap();
    let body = offer.challenge.body(&resource, &Reason::PAYMENT_REQUIRED, None);
    serde_json::from_slice::<Map<String, Value>>(&body).unwrap();
    let shown = message["accepts"].as_array().unwrap();
    assert_eq!(shown.len(), offer.terms.accepts.len());
    let own = terms();
    for (accept, shown) in offer.terms.accepts.iter().zip(shown) {
        let found = own.iter().find(|own| {
            let (one, other) = (*own, &accept.requirements);
            let same =
                (&one.scheme, &one.network, one.amount) == (&other.scheme, &other.network, other.amount);
            let extra = one.extra.iter().all(|(name, value)| other.extra.get(name) == Some(value));
            same && extra && (&one.asset, &one.pay_to) == (&other.asset, &other.pay_to)
        });
        assert!(found.is_some(), "nobody offers {:?}", accept.requirements);
        assert_eq!(&serde_json::to_value(&accept.requirements).unwrap(), shown);
    }
}

/// What an answer says of itself with one member: of two with the same name, nothing.
fn said(body: &[u8], name: &str) -> Option<bool> {
    let values = members(body)?;
    let mut values = values.0.iter().filter(|(member, _)| member == name);
    let (value, other) = (values.next()?, values.next());
    other.is_none().then(|| value.1.get().parse().ok()).flatten()
}

fn text(body: &[u8], name: &str) -> Option<String> {
    let values = members(body)?.0;
    let value = values.into_iter().find(|(member, _)| member == name)?.1;
    serde_json::from_str(value.get()).ok()
}

/// The members of a JSON object one after the other, also those that are there twice.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;
            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut access: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn members(body: &[u8]) -> Option<Members> {
    serde_json::from_slice(body).ok()
}

/// One line of bounded length, without anything that a terminal acts on.
fn showable(text: &str) {
    assert!(text.len() < 1000 && !text.contains(char::is_control), "{text:?}");
}
