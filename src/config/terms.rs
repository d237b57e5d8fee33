//! What can be written for the whole file and for one route alike: networks, assets, `pay_to`,
//! `facilitator`, `settle`, `max_timeout_seconds`, `v1`, `payment_identifier`.

use toml::de::DeValue;

use super::accounts::{self, Payees};
use super::facilitators::Facilitators;
use super::walk::{Node, Section};
use crate::policy::{FacilitatorId, SettleWhen, V1Mode};
use crate::x402::Network;

/// Keys of [`Terms`], which mean nothing on a route that takes no payment.
pub(super) const TERMS: &[&str] = &[
    "network",
    "networks",
    "asset",
    "assets",
    "pay_to",
    "facilitator",
    "settle",
    "max_timeout_seconds",
    "v1",
    "payment_identifier",
];

/// A key that may be left out, and may be wrong.
#[derive(Debug, Clone)]
pub(super) enum Setting<T> {
    /// Not written.
    Unset,
    /// Written, but wrong; that was reported.
    Wrong,
    /// Written.
    Is(T),
}

impl<T: Clone> Setting<T> {
    fn read<'a>(node: Option<Node<'a>>, read: impl FnOnce(&Node<'a>) -> Option<T>) -> Self {
        match node {
            None => Self::Unset,
            Some(node) => read(&node).map_or(Self::Wrong, Self::Is),
        }
    }

    fn or(&self, other: &Self) -> Self {
        if let Self::Unset = self { other.clone() } else { self.clone() }
    }
}

/// The terms written in one place, or those of a route together with those of the file.
#[derive(Debug, Clone)]
pub(super) struct Terms<'a> {
    pub(super) networks: Setting<Vec<(Network, Node<'a>)>>,
    pub(super) assets: Setting<Vec<Node<'a>>>,
    /// Those of the route, then those of the file.
    pub(super) pay_to: Vec<Payees<'a>>,
    pub(super) pay_to_wrong: bool,
    pub(super) facilitator: Setting<FacilitatorId>,
    pub(super) settle: Setting<SettleWhen>,
    pub(super) max_timeout: Setting<(u64, Node<'a>)>,
    pub(super) v1: Setting<(V1Mode, Node<'a>)>,
    pub(super) identifier: Setting<Identifier>,
}

/// Whether clients name their requests (`payment-identifier` extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identifier {
    /// It is not advertised.
    None,
    Optional,
    Required,
}

impl<'a> Terms<'a> {
    /// Reads the terms written in a table.
    pub(super) fn read(table: &Section<'a>, facilitators: &mut Facilitators<'_>) -> Self {
        let pay_to = Setting::read(table.get("pay_to"), Payees::read);
        let pay_to_wrong = matches!(pay_to, Setting::Wrong);
        let pay_to = if let Setting::Is(payees) = pay_to { vec![payees] } else { Vec::new() };
        // At the top of the file, `assets` may be the parent of [assets.NAME] instead.
        let is_list =
            |node: &Node<'a>| !matches!(node.value(), DeValue::Table(_)) || !table.path().is_empty();
        let assets = match table.get("assets").filter(is_list) {
            Some(_) => table.either("asset", "assets"),
            None => table.get("asset"),
        };
        Self {
            networks: Setting::read(table.either("network", "networks"), accounts::networks),
            assets: Setting::read(assets, names),
            pay_to,
            pay_to_wrong,
            facilitator: Setting::read(table.get("facilitator"), |node| facilitators.resolve(node)),
            settle: Setting::read(table.get("settle"), settle),
            max_timeout: Setting::read(table.get("max_timeout_seconds"), |node| {
                node.number(1..=86_400).map(|seconds| (seconds, node.clone()))
            }),
            v1: Setting::read(table.get("v1"), |node| v1(node).map(|mode| (mode, node.clone()))),
            identifier: Setting::read(table.get("payment_identifier"), identifier),
        }
    }

    /// These terms, completed by those of the file.
    pub(super) fn or(&self, file: &Self) -> Self {
        Self {
            networks: self.networks.or(&file.networks),
            assets: self.assets.or(&file.assets),
            pay_to: self.pay_to.iter().chain(&file.pay_to).cloned().collect(),
            pay_to_wrong: self.pay_to_wrong || file.pay_to_wrong,
            facilitator: self.facilitator.or(&file.facilitator),
            settle: self.settle.or(&file.settle),
            max_timeout: self.max_timeout.or(&file.max_timeout),
            v1: self.v1.or(&file.v1),
            identifier: self.identifier.or(&file.identifier),
        }
    }
}

fn names<'a>(node: &Node<'a>) -> Option<Vec<Node<'a>>> {
    let nodes = node.one_or_many();
    let mut seen: Vec<&str> = Vec::new();
    for item in &nodes {
        let name = item.text()?;
        if seen.iter().any(|other| other.eq_ignore_ascii_case(name)) {
            item.error(format!("\"{}\" is named twice", name.escape_debug()), "name each asset once");
            return None;
        }
        seen.push(name);
    }
    (!nodes.is_empty()).then_some(nodes)
}

fn settle(node: &Node<'_>) -> Option<SettleWhen> {
    node.choice(&[
        ("before-response", SettleWhen::BeforeResponse),
        ("before-request", SettleWhen::BeforeRequest),
    ])
}

fn identifier(node: &Node<'_>) -> Option<Identifier> {
    node.choice(&[
        ("optional", Identifier::Optional),
        ("required", Identifier::Required),
        ("none", Identifier::None),
    ])
}

fn v1(node: &Node<'_>) -> Option<V1Mode> {
    match node.value() {
        DeValue::Boolean(true) => Some(V1Mode::Both),
        DeValue::Boolean(false) => Some(V1Mode::Off),
        DeValue::String(text) if text == "only" => Some(V1Mode::Only),
        _ => {
            node.error(
                "is neither true nor false nor \"only\"",
                "\"only\" is a v1 body without PAYMENT-REQUIRED",
            );
            None
        }
    }
}
