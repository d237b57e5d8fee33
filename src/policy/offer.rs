//! What is offered for money.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::x402::{PaymentRequirements, ResourceInfo};

/// Index of a facilitator in the configuration's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FacilitatorId(pub usize);

/// When a payment is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleWhen {
    /// After the origin's success is known and before any of its answer is released: no money, no
    /// body; an origin's error costs nothing.
    #[default]
    BeforeResponse,
    /// Before the origin is asked (`paymentFlow: "upfront"`): the origin never works unpaid.
    BeforeRequest,
}

/// Which protocol generations a route answers in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum V1Mode {
    /// `PAYMENT-REQUIRED` and a v1 body.
    #[default]
    Both,
    /// `PAYMENT-REQUIRED` and an empty object as body.
    Off,
    /// Only the v1 body, for clients that cannot pay a server that sends `PAYMENT-REQUIRED`.
    Only,
}

/// One way to pay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    /// The terms, without what the facilitator's `/supported` adds.
    pub requirements: PaymentRequirements,
    /// Who verifies and settles.
    pub facilitator: FacilitatorId,
    /// Ticker of the asset, for people.
    pub symbol: String,
    /// Decimal places of the asset, for people.
    pub decimals: u8,
    /// Whether v1 clients are shown it.
    pub v1: bool,
}

/// What a priced route asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// Position among the configuration's offers, counted from zero.
    pub index: usize,
    /// Ways to pay, in the operator's order of preference; at least one.
    pub accepts: Vec<Accept>,
    /// What is sold.
    pub resource: ResourceInfo,
    /// Extensions advertised in the 402, as the operator wrote them.
    pub extensions: Map<String, Value>,
    /// When the payment is settled.
    pub settle: SettleWhen,
    /// Which generations are answered.
    pub v1: V1Mode,
}

impl Offer {
    /// The first way to pay, as people write it: `0.01 USDC on base`.
    #[must_use]
    pub fn price(&self) -> String {
        self.accepts.first().map_or_else(String::new, Accept::price)
    }
}

impl Accept {
    /// The price as people write it: `0.01 USDC on base`.
    #[must_use]
    pub fn price(&self) -> String {
        let terms = &self.requirements;
        format!("{} {} on {}", terms.amount.to_decimal(self.decimals), self.symbol, terms.network.name())
    }
}
