//! The messages of the second protocol generation (`x402-specification-v2.md` §5).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::amount::AtomicAmount;
use super::network::Network;
use super::reason::Reason;
use super::{Version, header};

/// What is sold: the `resource` member of a 402.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo {
    /// What it is, for people and agents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Media type of the paid answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The seller's name, at most 32 printable ASCII characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_name: Option<String>,
    /// At most five, each of at most 32 characters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// An image, at most 2048 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icon_url: Option<String>,
}

/// One way to pay: an entry of `accepts`. Only the specification's members, because typed clients
/// drop others and their echo would no longer match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentRequirements {
    /// `exact`, `upto`, …
    pub scheme: String,
    /// CAIP-2.
    pub network: Network,
    /// Price in atomic units.
    pub amount: AtomicAmount,
    /// Token contract, mint or currency code.
    pub asset: String,
    /// Who is paid.
    pub pay_to: String,
    /// Seconds within which the payment must be complete; greater than zero.
    pub max_timeout_seconds: u64,
    /// What the scheme needs besides; left out when empty.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

/// A payment as a client sent it, of either generation.
#[derive(Debug, Clone, PartialEq)]
pub struct PaymentPayload {
    /// The generation, by the header it came in.
    pub version: Version,
    /// The whole message; forwarded to the facilitator as it is.
    pub message: Map<String, Value>,
}

impl PaymentPayload {
    /// Decodes a payment header and checks what does not depend on an offer: base64, JSON, the
    /// version, and that `payload` (and `accepted`, or v1 `scheme` and `network`) are there.
    ///
    /// # Errors
    /// [`Reason::INVALID_PAYLOAD`] or [`Reason::INVALID_VERSION`].
    pub fn decode(version: Version, header: &[u8]) -> Result<Self, Reason> {
        let message = header::decode(header).map_err(|_| Reason::INVALID_PAYLOAD)?;
        if message.get("x402Version").and_then(Value::as_u64) != Some(version.number().into()) {
            return Err(Reason::INVALID_VERSION);
        }
        let is_object = |key: &str| message.get(key).is_some_and(Value::is_object);
        let is_string = |key: &str| message.get(key).is_some_and(Value::is_string);
        let complete = is_object("payload")
            && match version {
                Version::V1 => is_string("scheme") && is_string("network"),
                Version::V2 => is_object("accepted"),
            };
        if complete { Ok(Self { version, message }) } else { Err(Reason::INVALID_PAYLOAD) }
    }

    /// The scheme's own part.
    #[must_use]
    pub fn payload(&self) -> Option<&Map<String, Value>> {
        self.message.get("payload").and_then(Value::as_object)
    }

    /// The terms the client says it accepts (v2).
    #[must_use]
    pub fn accepted(&self) -> Option<&Map<String, Value>> {
        self.message.get("accepted").and_then(Value::as_object)
    }

    /// The extensions the client echoes (v2), if any.
    #[must_use]
    pub fn extensions(&self) -> Option<&Map<String, Value>> {
        self.message.get("extensions").and_then(Value::as_object)
    }

    /// The URL the client says it pays for (v2), if it says so.
    #[must_use]
    pub fn resource_url(&self) -> Option<&str> {
        self.message.get("resource")?.get("url")?.as_str()
    }
}

/// A facilitator's answer to `/verify`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyResponse {
    /// `isValid: true`.
    Valid {
        /// Who pays, if the facilitator says so.
        payer: Option<String>,
    },
    /// `isValid: false`.
    Invalid {
        /// `invalidReason`, cleaned.
        reason: Reason,
        /// Who would have paid.
        payer: Option<String>,
    },
}

/// The settlement of a payment: content of `PAYMENT-RESPONSE`, also when it failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleResponse {
    /// Whether the money moved.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_reason: Option<String>,
    /// Who paid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payer: Option<String>,
    /// Transaction id; empty when there is none.
    pub transaction: String,
    /// CAIP-2 (v1 messages: the name).
    pub network: String,
    /// Atomic units that were moved, where that can differ from the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<String>,
    /// What the scheme adds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra: Option<Value>,
    /// What extensions add.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extensions: Option<Value>,
}

impl SettleResponse {
    /// A settlement that failed.
    #[must_use]
    pub fn failed(reason: &Reason, payer: Option<String>, network: &Network) -> Self {
        Self {
            success: false,
            error_reason: Some(reason.as_str().to_owned()),
            payer,
            transaction: String::new(),
            network: network.as_str().to_owned(),
            amount: None,
            extra: None,
            extensions: None,
        }
    }

    /// The header value for a client of `version`; v1 clients read the network by name.
    #[must_use]
    pub fn header_value(&self, version: Version) -> String {
        let mut message = self.clone();
        if version == Version::V1
            && let Ok(network) = message.network.parse::<Network>()
        {
            network.name().clone_into(&mut message.network);
        }
        // A struct of strings always serialises.
        header::encode(&message).unwrap_or_default()
    }
}

/// Body of `POST /verify` and `POST /settle`, the same for both, with its parts.
#[derive(Debug, Clone)]
pub struct FacilitatorRequest {
    /// Generation the facilitator is spoken to in.
    pub version: Version,
    /// `exact`, ….
    pub scheme: String,
    /// CAIP-2.
    pub network: Network,
    /// The gateway's own terms, typed.
    pub requirements: PaymentRequirements,
    /// The scheme's own part of the payment.
    pub payload: Map<String, Value>,
    /// The JSON to send.
    pub body: bytes::Bytes,
}

impl FacilitatorRequest {
    /// Puts a request together. `payment_payload` and `payment_requirements` are what goes on the
    /// wire, in the shape of `version`.
    #[must_use]
    pub fn new(
        version: Version,
        requirements: PaymentRequirements,
        payment_payload: &Map<String, Value>,
        payment_requirements: &Value,
    ) -> Self {
        let body = serde_json::json!({
            "x402Version": version.number(),
            "paymentPayload": payment_payload,
            "paymentRequirements": payment_requirements,
        });
        Self {
            version,
            scheme: requirements.scheme.clone(),
            network: requirements.network.clone(),
            payload: payment_payload.get("payload").and_then(Value::as_object).cloned().unwrap_or_default(),
            requirements,
            body: body.to_string().into(),
        }
    }

    /// The request as text, to be kept until its outcome is known.
    #[must_use]
    pub fn to_stored(&self) -> String {
        // The body is JSON of our own making, so it can stand inside other JSON as it is.
        let body = String::from_utf8_lossy(&self.body);
        let requirements = serde_json::to_string(&self.requirements).unwrap_or_default();
        format!("{{\"requirements\":{requirements},\"body\":{body}}}")
    }

    /// A request that was kept; `None` when the text is none.
    #[must_use]
    pub fn from_stored(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Stored<'a> {
            requirements: PaymentRequirements,
            #[serde(borrow)]
            body: &'a serde_json::value::RawValue,
        }
        let Stored { requirements, body } = serde_json::from_str(text).ok()?;
        let message: Map<String, Value> = serde_json::from_str(body.get()).ok()?;
        let version = match message.get("x402Version")?.as_u64()? {
            1 => Version::V1,
            2 => Version::V2,
            _ => return None,
        };
        let payload = message.get("paymentPayload")?.get("payload")?.as_object()?.clone();
        Some(Self {
            version,
            scheme: requirements.scheme.clone(),
            network: requirements.network.clone(),
            payload,
            requirements,
            body: body.get().to_owned().into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x402::testing::object;
    use proptest::prelude::*;
    use serde_json::json;

    fn decode(version: Version, message: &Value) -> Result<PaymentPayload, Reason> {
        PaymentPayload::decode(version, header::encode(message).unwrap().as_bytes())
    }

    #[test]
    fn a_payment_must_be_of_the_generation_of_its_header() {
        let v2 = json!({"x402Version": 2, "accepted": {}, "payload": {}});
        let v1 = json!({"x402Version": 1, "scheme": "exact", "network": "base", "payload": {}});
        assert!(decode(Version::V2, &v2).is_ok());
        assert!(decode(Version::V1, &v1).is_ok());
        assert_eq!(decode(Version::V1, &v2), Err(Reason::INVALID_VERSION));
        assert_eq!(decode(Version::V2, &v1), Err(Reason::INVALID_VERSION));
        let missing = json!({"accepted": {}, "payload": {}});
        assert_eq!(decode(Version::V2, &missing), Err(Reason::INVALID_VERSION));
        let text = json!({"x402Version": "2", "accepted": {}, "payload": {}});
        assert_eq!(decode(Version::V2, &text), Err(Reason::INVALID_VERSION));
    }

    #[test]
    fn a_payment_must_be_complete() {
        for incomplete in [
            json!({"x402Version": 2, "accepted": {}}),
            json!({"x402Version": 2, "payload": {}}),
            json!({"x402Version": 2, "accepted": [], "payload": {}}),
            json!({"x402Version": 2, "accepted": {}, "payload": "x"}),
        ] {
            assert_eq!(decode(Version::V2, &incomplete), Err(Reason::INVALID_PAYLOAD), "{incomplete}");
        }
    }

    #[test]
    fn requirements_have_only_the_specifications_members_and_no_empty_extra() {
        let requirements = PaymentRequirements {
            scheme: "exact".into(),
            network: "base".parse().unwrap(),
            amount: "10000".parse().unwrap(),
            asset: "0xa".into(),
            pay_to: "0xb".into(),
            max_timeout_seconds: 60,
            extra: Map::new(),
        };
        assert_eq!(
            serde_json::to_value(&requirements).unwrap(),
            json!({"scheme": "exact", "network": "eip155:8453", "amount": "10000", "asset": "0xa",
                   "payTo": "0xb", "maxTimeoutSeconds": 60})
        );
    }

    #[test]
    fn a_request_that_was_kept_is_sent_again_to_the_letter() {
        let requirements: PaymentRequirements = serde_json::from_value(json!({
            "scheme": "exact", "network": "eip155:8453", "amount": "10000", "asset": "0xa", "payTo": "0xb",
            "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "note": "\u{1F4B0} \"quoted\""},
        }))
        .unwrap();
        let payment = json!({"x402Version": 2, "payload": {"signature": "0x1", "n": 1.50}});
        let sent = FacilitatorRequest::new(
            Version::V2,
            requirements.clone(),
            payment.as_object().unwrap(),
            &json!(requirements),
        );
        let kept = FacilitatorRequest::from_stored(&sent.to_stored()).unwrap();
        assert_eq!((kept.body, kept.payload, kept.version), (sent.body, sent.payload, sent.version));
        assert_eq!((kept.requirements, kept.scheme, kept.network), (requirements, sent.scheme, sent.network));
        for broken in ["", "{}", "{\"requirements\":{},\"body\":{}}"] {
            assert!(FacilitatorRequest::from_stored(broken).is_none(), "{broken}");
        }
    }

    proptest! {
        #[test]
        fn a_payment_of_any_content_is_read_kept_and_sent_again_as_it_was_written(
            payload in object(), rest in object(), v1 in any::<bool>()
        ) {
            let version = if v1 { Version::V1 } else { Version::V2 };
            let mut message = rest;
            message.insert("x402Version".into(), version.number().into());
            message.insert("payload".into(), payload.clone().into());
            for (name, value) in [("accepted", json!({})), ("scheme", "exact".into()), ("network", "base".into())] {
                message.insert(name.into(), value);
            }
            let payment = PaymentPayload { version, message };
            let header = header::encode(&payment.message).unwrap();
            prop_assert_eq!(PaymentPayload::decode(version, header.as_bytes()), Ok(payment.clone()));
            let requirements = PaymentRequirements {
                scheme: "exact".into(),
                network: "base".parse().unwrap(),
                amount: "1".parse().unwrap(),
                asset: "0xa".into(),
                pay_to: "0xb".into(),
                max_timeout_seconds: 60,
                extra: payload.clone(),
            };
            let shown = serde_json::to_value(&requirements).unwrap();
            prop_assert_eq!(serde_json::from_value::<PaymentRequirements>(shown.clone()).unwrap(), requirements.clone());
            let sent = FacilitatorRequest::new(version, requirements.clone(), &payment.message, &shown);
            let kept = FacilitatorRequest::from_stored(&sent.to_stored()).unwrap();
            prop_assert_eq!((kept.body, kept.requirements, kept.payload), (sent.body, requirements, payload));
        }

        #[test]
        fn a_settlement_is_read_as_it_was_written(
            success in any::<bool>(),
            texts in prop::collection::vec(prop::option::of(any::<String>()), 3),
            transaction in any::<String>(),
            details in prop::collection::vec(prop::option::of(object()), 2),
        ) {
            let response = SettleResponse {
                success,
                error_reason: texts[0].clone(),
                payer: texts[1].clone(),
                transaction,
                network: "eip155:8453".into(),
                amount: texts[2].clone(),
                extra: details[0].clone().map(Value::Object),
                extensions: details[1].clone().map(Value::Object),
            };
            for (version, network) in [(Version::V1, "base"), (Version::V2, "eip155:8453")] {
                let message = header::decode(response.header_value(version).as_bytes()).unwrap();
                let read: SettleResponse = serde_json::from_value(Value::Object(message)).unwrap();
                prop_assert_eq!(read, SettleResponse { network: network.into(), ..response.clone() });
            }
        }
    }

    #[test]
    fn a_failed_settlement_has_an_empty_transaction_and_v1_clients_read_the_network_by_name() {
        let network: Network = "base".parse().unwrap();
        let response = SettleResponse::failed(&Reason::SETTLEMENT_FAILED, Some("0xa".into()), &network);
        let read =
            |version| Value::Object(header::decode(response.header_value(version).as_bytes()).unwrap());
        let expected = |network| {
            json!({"success": false, "errorReason": "settlement_failed", "payer": "0xa",
                   "transaction": "", "network": network})
        };
        assert_eq!(read(Version::V2), expected("eip155:8453"));
        assert_eq!(read(Version::V1), expected("base"));
    }
}
