//! Terms as they can be settled at present, and the payments that are for them.

use serde_json::{Map, Value};

use super::challenge::Resource;
use super::identifier;
use super::offers::Known;
use super::refusal::Refusal;
use crate::policy::{Accept, FacilitatorId, Offer, SettleWhen, V1Mode};
use crate::scheme::{self, Scheme};
use crate::x402::asset::same_address;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentPayload, PaymentRequirements, Version, v1};

/// One way to pay that can be settled at present.
#[derive(Debug)]
pub struct LiveAccept {
    /// The terms, complete.
    pub requirements: PaymentRequirements,
    /// How payments are understood.
    pub scheme: &'static dyn Scheme,
    /// Who settles them.
    pub facilitator: FacilitatorId,
    /// Decimal places of the asset.
    pub decimals: u8,
    /// Generations the facilitator takes for this scheme and network.
    facilitator_v1: bool,
    facilitator_v2: bool,
    /// Shown to v1 clients.
    pub(super) v1: bool,
    /// Values of rotating `extra` members that are as good: advertised before or to another gateway, or
    /// accounts that the facilitator signs with.
    as_good: Vec<(String, Vec<Value>)>,
}

/// What is asked for at present, and what a payment for it is.
#[derive(Debug)]
pub struct LiveTerms {
    /// The ways to pay, in the operator's order of preference; at least one.
    pub accepts: Vec<LiveAccept>,
    extensions: Map<String, Value>,
    /// When payments are settled.
    pub settle: SettleWhen,
    v1: V1Mode,
}

/// Values of a rotating `extra` member of a way to pay that others were told by its facilitator.
pub(super) type ToldOthers<'a> = &'a dyn Fn(&Accept, &str) -> Vec<Value>;

impl LiveTerms {
    /// The ways to pay of an offer that can be settled, by what is known of facilitators; `None`: there
    /// are none.
    pub(super) fn build<'k>(
        offer: &Offer,
        known: impl Fn(FacilitatorId) -> Option<&'k Known>,
        told_others: ToldOthers<'_>,
    ) -> Option<Self> {
        let accepts: Vec<LiveAccept> = offer
            .accepts
            .iter()
            .filter_map(|accept| LiveAccept::build(accept, known(accept.facilitator)?, told_others))
            .collect();
        let (extensions, settle, v1) = (offer.extensions.clone(), offer.settle, offer.v1);
        (!accepts.is_empty()).then_some(Self { accepts, extensions, settle, v1 })
    }

    /// The terms a payment is for, of those offered; `None` when it accepts something else.
    #[must_use]
    pub fn accepted_by(&self, payment: &PaymentPayload) -> Option<&LiveAccept> {
        match payment.version {
            Version::V2 if self.v1 == V1Mode::Only => None,
            Version::V2 => {
                let accepted = payment.accepted()?;
                self.accepts.iter().find(|accept| accept.matches(accepted))
            }
            Version::V1 if self.v1 == V1Mode::Off => None,
            Version::V1 => {
                let text = |name: &str| payment.message.get(name).and_then(Value::as_str);
                let (scheme, network) = (text("scheme")?, text("network")?);
                self.accepts.iter().find(|accept| {
                    let terms = &accept.requirements;
                    accept.v1 && terms.scheme == scheme && terms.network.v1_name() == Some(network)
                })
            }
        }
    }

    /// The identifier that the client gives its request, where the offer advertises them.
    ///
    /// # Errors
    /// [`Refusal::IdentifierMissing`], [`Refusal::IdentifierMalformed`].
    pub fn identifier_of(&self, payment: &PaymentPayload) -> Result<Option<String>, Refusal> {
        identifier::identifier_of(&self.extensions, payment)
    }

    /// Whether the advertised extensions that the client echoes are unaltered: of each, `info` must
    /// still contain every advertised member. Extensions left out or unknown do no harm.
    #[must_use]
    pub fn echoes_extensions(&self, payment: &PaymentPayload) -> bool {
        let Some(echoed) = payment.extensions() else { return true };
        self.extensions.iter().all(|(key, advertised)| match echoed.get(key) {
            None => true,
            Some(echo) => match (advertised.get("info"), echo.get("info")) {
                (None, _) => true,
                (Some(advertised), Some(echo)) => contains(echo, advertised),
                (Some(_), None) => false,
            },
        })
    }
}

impl LiveAccept {
    fn build(accept: &Accept, known: &Known, told_others: ToldOthers<'_>) -> Option<Self> {
        let mut requirements = accept.requirements.clone();
        let (name, network) = (&requirements.scheme, &requirements.network);
        let scheme = scheme::find(name, network);
        let v1_kind = known.supported.kind(Version::V1, name, network);
        let v2_kind = known.supported.kind(Version::V2, name, network);
        let kind = v2_kind.or(v1_kind)?;
        let mut as_good = Vec::new();
        for member in scheme.advertised_extra() {
            // Written by the operator, it stands; otherwise the offer cannot be made without it.
            if requirements.extra.contains_key(*member) {
                continue;
            }
            requirements.extra.insert((*member).to_owned(), kind.extra.get(*member)?.clone());
            let mut values = known.advertised_before(kind, member).to_vec();
            values.extend(known.supported.signers_of(network));
            values.extend(told_others(accept, member));
            as_good.push(((*member).to_owned(), values));
        }
        if v2_kind.is_none() && v1::requirements(&requirements, "", "").is_none() {
            // The facilitator speaks v1 alone, and v1 has no words for these terms.
            return None;
        }
        Some(Self {
            scheme,
            facilitator: accept.facilitator,
            decimals: accept.decimals,
            facilitator_v1: v1_kind.is_some(),
            facilitator_v2: v2_kind.is_some(),
            v1: accept.v1,
            as_good,
            requirements,
        })
    }

    /// Whether `accepted` is these terms: every member equal (addresses as numbers), every offered
    /// `extra` member present and equal or, where it rotates, recently advertised. Members the
    /// client adds are tolerated here and not passed on.
    fn matches(&self, accepted: &Map<String, Value>) -> bool {
        let terms = &self.requirements;
        let text = |name: &str| accepted.get(name).and_then(Value::as_str).unwrap_or_default();
        let core = text("scheme") == terms.scheme
            && text("network") == terms.network.as_str()
            && text("amount") == terms.amount.to_string()
            && same_address(text("asset"), &terms.asset)
            && same_address(text("payTo"), &terms.pay_to)
            && accepted.get("maxTimeoutSeconds").and_then(Value::as_u64) == Some(terms.max_timeout_seconds);
        let none = Map::new();
        let extra = match accepted.get("extra") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(extra)) => extra,
            Some(_) => return false,
        };
        core && terms.extra.iter().all(|(name, offered)| {
            let Some(value) = extra.get(name) else { return false };
            value == offered || self.was_advertised(name, value)
        })
    }

    fn was_advertised(&self, name: &str, value: &Value) -> bool {
        self.as_good.iter().any(|(member, values)| member == name && values.contains(value))
    }

    /// The gateway's terms with the client's choice of rotating members.
    fn agreed(&self, payment: &PaymentPayload) -> PaymentRequirements {
        let mut agreed = self.requirements.clone();
        let chosen = payment.accepted().and_then(|accepted| accepted.get("extra")?.as_object());
        for (member, _) in &self.as_good {
            if let Some(value) = chosen.and_then(|extra| extra.get(member)) {
                agreed.extra.insert(member.clone(), value.clone());
            }
        }
        agreed
    }

    /// What the facilitator is asked. The requirements are the gateway's own; a v2 client's echo
    /// of them is used to the letter when it adds nothing, because some facilitators insist that
    /// both are equal. EVM payments are put into the generation the facilitator speaks.
    #[must_use]
    pub fn request(&self, payment: &PaymentPayload, resource: &Resource) -> Option<FacilitatorRequest> {
        let agreed = self.agreed(payment);
        let to = match payment.version {
            Version::V1 if self.facilitator_v1 => Version::V1,
            Version::V2 if self.facilitator_v2 => Version::V2,
            Version::V1 => Version::V2,
            Version::V2 => Version::V1,
        };
        if to == payment.version {
            let requirements = match (to, payment.accepted()) {
                (Version::V2, Some(accepted)) if adds_nothing(accepted, &agreed) => {
                    Value::Object(accepted.clone())
                }
                (Version::V2, _) => serde_json::to_value(&agreed).ok()?,
                (Version::V1, _) => v1_requirements(&agreed, resource)?,
            };
            return Some(FacilitatorRequest::new(to, agreed, &payment.message, &requirements));
        }
        // Only where both generations carry the same signed message does translation make sense.
        if self.scheme.name() != "exact" {
            return None;
        }
        let payload = payment.message.get("payload")?;
        let (requirements, message) = match to {
            Version::V2 => {
                let requirements = serde_json::to_value(&agreed).ok()?;
                let message =
                    serde_json::json!({"x402Version": 2, "accepted": requirements, "payload": payload});
                (requirements, message)
            }
            Version::V1 => {
                let message = serde_json::json!({"x402Version": 1, "scheme": agreed.scheme,
                    "network": agreed.network.v1_name()?, "payload": payload});
                (v1_requirements(&agreed, resource)?, message)
            }
        };
        Some(FacilitatorRequest::new(to, agreed, message.as_object()?, &requirements))
    }
}

fn v1_requirements(terms: &PaymentRequirements, resource: &Resource) -> Option<Value> {
    let mut entry = v1::requirements(terms, "", "")?;
    entry["resource"] = Value::from(resource.url());
    Some(entry)
}

/// Whether the client's echo has no member that the terms do not have.
fn adds_nothing(accepted: &Map<String, Value>, terms: &PaymentRequirements) -> bool {
    const MEMBERS: [&str; 7] =
        ["scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"];
    accepted.keys().all(|name| MEMBERS.contains(&name.as_str()))
        && accepted
            .get("extra")
            .and_then(Value::as_object)
            .is_none_or(|extra| extra.keys().all(|name| terms.extra.contains_key(name)))
}

/// Whether `whole` contains every member of `part`, recursively; arrays must be equal.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|whole| contains(whole, part)))
        }
        _ => whole == part,
    }
}
