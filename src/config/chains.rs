//! Chains that are asked what became of payments: `[chains.NAME]`.

use std::time::Duration;

use super::auth::{self, Secrets};
use super::keys::CHAIN_TABLE;
use super::settings::DEADLINE_MS;
use super::suggest::nearest;
use super::walk::{Node, Section};
use crate::chain::rpc;
use crate::chain::settings::ChainSettings;
use crate::policy::RouteTable;
use crate::secret::Secret;
use crate::x402::Network;
use crate::x402::network::KNOWN_NETWORKS;

/// The deepest a block may have to be; nodes forget old states.
const CONFIRMATIONS_MAX: u64 = 10_000;

/// The chains of a configuration.
pub(super) struct Chains<'a> {
    declared: Vec<Declared<'a>>,
}

struct Declared<'a> {
    network: Network,
    node: Node<'a>,
    /// `None` when it is wrong; that was reported.
    settings: Option<ChainSettings>,
}

impl<'a> Chains<'a> {
    /// Reads `[chains.…]`.
    pub(super) fn read(top: &Section<'a>, secrets: Secrets<'a>) -> Self {
        let entries = top.get("chains").and_then(|node| node.entries()).unwrap_or_default();
        let mut declared: Vec<Declared<'a>> = Vec::new();
        for (name, node) in entries {
            let network = network(name, &node);
            // What the table holds is read even when nothing can come of it, so that every mistake is told.
            let table = node.section(&CHAIN_TABLE);
            let read = table.and_then(|table| settings(network.as_ref(), &table, secrets));
            let Some(network) = network else { continue };
            if declared.iter().any(|other| other.network == network) {
                node.key_error("is the same network as another entry", "keep one of them");
                continue;
            }
            declared.push(Declared { network, node, settings: read });
        }
        Self { declared }
    }

    /// The node of each network, for settling there as well.
    pub(super) fn nodes(&self) -> Vec<(Network, Secret<String>)> {
        let settings = self.declared.iter().filter_map(|chain| chain.settings.as_ref());
        settings.map(|settings| (settings.network.clone(), settings.rpc.clone())).collect()
    }

    /// The chains; warns of those no route takes payments on.
    pub(super) fn finish(self, routes: Option<&RouteTable>) -> Vec<ChainSettings> {
        let sells_on = |routes: &RouteTable, network: &Network| {
            let mut accepts =
                routes.all().filter_map(|route| route.offer()).flat_map(|offer| offer.accepts.iter());
            accepts.any(|accept| accept.requirements.network == *network)
        };
        for chain in &self.declared {
            if routes.is_some_and(|routes| !sells_on(routes, &chain.network)) {
                let message = format!("no route takes payments on {}", chain.network.name());
                chain.node.key_warning(message, "delete it, or name the network where it is meant");
            }
        }
        self.declared.into_iter().filter_map(|chain| chain.settings).collect()
    }
}

/// The network a table's name means.
fn network(name: &str, node: &Node<'_>) -> Option<Network> {
    let names = || KNOWN_NETWORKS.iter().filter(|known| known.caip2.starts_with("eip155:"));
    let Ok(network) = name.parse::<Network>() else {
        let help = match nearest(name, names().map(|known| known.name)) {
            Some(meant) => format!("did you mean [chains.{meant}]?"),
            None => "write [chains.base], or [chains.\"eip155:8453\"] for networks without a name".to_owned(),
        };
        node.key_error("is not a network", help);
        return None;
    };
    if network.chain_id().is_none() {
        node.key_error("is not an EVM network", "delete it; only EVM networks can be asked");
        return None;
    }
    Some(network)
}

fn settings(network: Option<&Network>, table: &Section<'_>, secrets: Secrets<'_>) -> Option<ChainSettings> {
    let insecure = table.get("insecure").and_then(|node| node.boolean()).unwrap_or(false);
    let rpc = match table.either("rpc", "rpc_env") {
        None => {
            let help = "write rpc = \"https://…\", the URL of a node, or rpc_env = \"NAME\", the name of an\n\
                        environment variable with it";
            table.missing("has no `rpc`", help);
            None
        }
        Some(node) if node.name() == "rpc" => {
            node.text().and_then(|text| url(text.to_owned(), &node, insecure))
        }
        Some(node) => auth::variable(&node, secrets.env).and_then(|text| url(text, &node, insecure)),
    };
    let number =
        |name: &str, range: std::ops::RangeInclusive<u64>| table.get(name).map(|node| node.number(range));
    let confirmations = number("confirmations", 1..=CONFIRMATIONS_MAX).unwrap_or(Some(1));
    let timeout_ms = number("timeout_ms", DEADLINE_MS).unwrap_or(Some(10_000));
    let accept_used = table.get("accept_used").map_or(Some(true), |node| node.boolean());
    Some(ChainSettings {
        network: network?.clone(),
        rpc: rpc?,
        confirmations: confirmations?,
        timeout: Duration::from_millis(timeout_ms?),
        accept_used: accept_used?,
    })
}

/// The URL of a node. It may hold a key, so no message repeats it.
fn url(text: String, node: &Node<'_>, insecure: bool) -> Option<Secret<String>> {
    match rpc::parse_url(&text) {
        Err(error) => {
            node.error(error, "write it like \"https://mainnet.base.org\"");
            None
        }
        // Whoever sits between could say that payments were made.
        Ok(url) if url.scheme() == "http" && !insecure && !rpc::is_loopback(&url) => {
            node.error(
                "another machine would be asked without encryption, and anybody between could answer",
                "write \"https://…\", or insecure = true for a node in a network of your own",
            );
            None
        }
        Ok(_) => Some(Secret::new(text)),
    }
}
