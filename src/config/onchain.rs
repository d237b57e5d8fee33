//! Facilitators that settle on a chain themselves: `kind = "onchain"`.

use std::time::Duration;

use alloy_primitives::{Address, U256};

use super::auth::{self, Secrets};
use super::settings::DEADLINE_MS;
use super::walk::{Node, Section};
use crate::facilitator::onchain::{key, rpc_url};
use crate::facilitator::settings::{FacilitatorSettings, OnchainSettings};
use crate::secret::Secret;
use crate::x402::{Money, Network};

/// Decimal places of a gwei, and of the coins of EVM networks.
const GWEI_DECIMALS: u8 = 9;
const COIN_DECIMALS: u8 = 18;

/// What the rest of the file says that a facilitator may leave out.
#[derive(Debug)]
pub(super) struct Usual {
    /// The file's network, where it has one alone.
    network: Option<Network>,
    /// Nodes of networks, which `[chains.NAME]` names.
    nodes: Vec<(Network, Secret<String>)>,
}

impl Usual {
    /// Reads what can be left out.
    pub(super) fn read(top: &Section<'_>, nodes: Vec<(Network, Secret<String>)>) -> Self {
        Self { network: only_network(top), nodes }
    }
}

/// The kinds of facilitators that can be declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Onchain,
}

/// Which keys belong to one kind alone.
const HTTP_KEYS: &[&str] = &["url", "ca_file", "supported_ttl_seconds", "auth"];
const ONCHAIN_KEYS: &[&str] = &[
    "network",
    "rpc",
    "rpc_env",
    "key",
    "key_env",
    "key_file",
    "confirmations",
    "max_fee_gwei",
    "gas_limit",
    "low_balance",
    "replace_after_seconds",
    "wallet_factories",
];

/// Reads the kind of a facilitator, and reports keys of the other one.
pub(super) fn kind(table: &Section<'_>) -> Option<Kind> {
    let kind = match table.get("kind") {
        None => Kind::Http,
        Some(node) => node.choice(&[("http", Kind::Http), ("onchain", Kind::Onchain)])?,
    };
    let (others, shown) = match kind {
        Kind::Http => (ONCHAIN_KEYS, "http"),
        Kind::Onchain => (HTTP_KEYS, "onchain"),
    };
    for name in others {
        if let Some(node) = table.get(name) {
            let help = "leave it out, or write the other `kind`";
            node.key_error(format!("means nothing with kind = \"{shown}\""), help);
        }
    }
    Some(kind)
}

/// The network of the whole file, where it is one alone and an EVM network. What is wrong with it is
/// reported where it is read.
fn only_network(top: &Section<'_>) -> Option<Network> {
    let node = top.get("network").or_else(|| top.get("networks"))?;
    let text = match node.value().as_array() {
        None => node.value().as_str(),
        Some(items) if items.len() == 1 => items.first().and_then(|item| item.get_ref().as_str()),
        Some(_) => None,
    };
    text?.parse().ok().filter(|network: &Network| network.chain_id().is_some())
}

/// Reads a facilitator of this kind. One without a name is called by its network.
pub(super) fn read(
    name: Option<&str>,
    table: &Section<'_>,
    secrets: Secrets<'_>,
    usual: &Usual,
) -> Option<OnchainSettings> {
    let network = network(table, usual.network.as_ref());
    let rpc = rpc(table, secrets, network.as_ref(), usual);
    let key = auth::secret(table, "key", secrets).filter(|key| check_key(table, key));
    let number = |key: &str, range| table.get(key).map(|node| node.number(range));
    let confirmations = number("confirmations", 1..=1000);
    let gas_limit = number("gas_limit", 50_000..=30_000_000);
    let replace_after = number("replace_after_seconds", 1..=86_400);
    let deadline =
        |key: &str| table.get(key).and_then(|node| node.number(DEADLINE_MS)).map(Duration::from_millis);
    let (verify, settle) = (deadline("verify_timeout_ms"), deadline("settle_timeout_ms"));
    let max_fee = table.get("max_fee_gwei").map(|node| max_fee(&node));
    let low_balance = table.get("low_balance").map(|node| low_balance(&node));
    let factories = table.get("wallet_factories").map(|node| factories(&node));

    let network = network?;
    let name = name.map_or_else(|| format!("onchain-{}", network.name()), str::to_owned);
    let defaults = OnchainSettings::new(&name, network, rpc?, key?);
    Some(OnchainSettings {
        confirmations: confirmations.unwrap_or(Some(defaults.confirmations))?,
        max_fee: max_fee.unwrap_or(Some(defaults.max_fee))?,
        gas_limit: gas_limit.unwrap_or(Some(defaults.gas_limit))?,
        low_balance: match low_balance {
            None => None,
            Some(written) => Some(written?),
        },
        replace_after: replace_after
            .map_or(Some(defaults.replace_after), |written| written.map(Duration::from_secs))?,
        wallet_factories: factories.unwrap_or(Some(Vec::new()))?,
        verify_timeout: verify.unwrap_or(defaults.verify_timeout),
        settle_timeout: settle.unwrap_or(defaults.settle_timeout),
        ..defaults
    })
}

/// Whether two facilitators send from one account on one network.
pub(super) fn share_account(one: &FacilitatorSettings, other: &FacilitatorSettings) -> bool {
    let sender = |settings: &FacilitatorSettings| match settings {
        FacilitatorSettings::Onchain(onchain) => {
            key::address(&onchain.key).ok().map(|account| (onchain.network.clone(), account))
        }
        FacilitatorSettings::Sandbox | FacilitatorSettings::Http(_) => None,
    };
    sender(one).is_some_and(|sender_of_one| sender(other) == Some(sender_of_one))
}

fn network(table: &Section<'_>, file: Option<&Network>) -> Option<Network> {
    let Some(node) = table.get("network") else {
        if file.is_none() {
            let help = "write network = \"base\", the one network it settles on";
            table.missing("has no `network`", help);
        }
        return file.cloned();
    };
    match node.text()?.parse::<Network>() {
        Ok(network) if network.chain_id().is_some() => Some(network),
        Ok(network) => {
            let message = format!("{} is no EVM network", network.name());
            node.error(message, "write one such as \"base\"; others need a facilitator that settles there");
            None
        }
        Err(error) => {
            node.error(error, "write the one network it settles on");
            None
        }
    }
}

fn rpc(
    table: &Section<'_>,
    secrets: Secrets<'_>,
    network: Option<&Network>,
    usual: &Usual,
) -> Option<Secret<String>> {
    let Some(node) = table.either("rpc", "rpc_env") else {
        let usual = usual.nodes.iter().find(|(of, _)| Some(of) == network);
        if usual.is_none() && network.is_some() {
            table.missing("has no `rpc`", "write rpc = \"https://…\", the URL of a node, or rpc_env");
        }
        return usual.map(|(_, rpc)| rpc.clone());
    };
    let by_env = node.name() == "rpc_env";
    let text = if by_env { auth::variable(&node, secrets.env)? } else { node.text()?.to_owned() };
    let insecure = table.get("insecure").and_then(|node| node.boolean()).unwrap_or(false);
    if let Err(problem) = rpc_url(&text, insecure) {
        let whose = if by_env { "the URL in it " } else { "" };
        node.error(format!("{whose}{problem}"), "write it like \"https://base.example.com/KEY\"");
        return None;
    }
    Some(Secret::new(text))
}

fn check_key(table: &Section<'_>, written: &Secret<String>) -> bool {
    let Err(error) = key::address(written) else { return true };
    let node = ["key", "key_env", "key_file"].iter().find_map(|name| table.get(name));
    if let Some(node) = node {
        let help = "it is the private key of the account that pays for gas: 64 hexadecimal digits";
        node.error(format!("the key cannot be used: {error}"), help);
    }
    false
}

fn max_fee(node: &Node<'_>) -> Option<u128> {
    let fee = amount(node, GWEI_DECIMALS, "gwei").and_then(|fee| u128::try_from(fee).ok());
    // A slip of a few digits here is paid in coins.
    if fee.is_some_and(|fee| fee > 1_000_000_000_000_000) {
        node.error(
            "is more than a million gwei",
            "write what a unit of gas may cost at most, such as \"0.5\"",
        );
        return None;
    }
    fee
}

fn low_balance(node: &Node<'_>) -> Option<U256> {
    // Zero is a way to say: never.
    if node.value().as_str() == Some("0") {
        return Some(U256::ZERO);
    }
    amount(node, COIN_DECIMALS, "coins")
}

fn amount(node: &Node<'_>, decimals: u8, unit: &str) -> Option<U256> {
    let money = node.text()?.parse::<Money>().ok().filter(|money| money.symbol.is_none());
    let amount = money.and_then(|money| money.to_atomic(decimals).ok());
    if amount.is_none() {
        let message = format!("is not an amount of {unit}");
        node.error(
            message,
            format!("write a number above zero with at most {decimals} decimals, such as \"0.5\""),
        );
    }
    amount.map(|amount| amount.0)
}

fn factories(node: &Node<'_>) -> Option<Vec<Address>> {
    let items = node.items()?;
    let read = |item: &Node<'_>| {
        let address = item.text()?.parse::<Address>().ok();
        if address.is_none() {
            item.error("is not an address", "write it like \"0x0BA5ED0c6AA8c49038F819E587E2633c4A9F428a\"");
        }
        address
    };
    let found: Vec<Address> = items.iter().filter_map(read).collect();
    (found.len() == items.len()).then_some(found)
}
