//! Tokens: the built-in table, and `[assets.NAME]`.

use super::accounts;
use super::keys::ASSET_TABLE;
use super::suggest::{list, nearest};
use super::walk::{Node, Section};
use crate::x402::asset::same_address;
use crate::x402::{Asset, Network, TransferMethod};

const METHODS: &[(&str, TransferMethod)] =
    &[("eip3009", TransferMethod::Eip3009), ("permit2", TransferMethod::Permit2)];

/// The tokens declared in a configuration; they come before the built-in ones.
#[derive(Debug, Default)]
pub(super) struct Assets {
    declared: Vec<Asset>,
    /// Names whose declaration is wrong: what uses them is not to blame.
    wrong: Vec<String>,
}

impl Assets {
    /// Reads `[assets.NAME]`; one name may be declared for several networks with `[[assets.NAME]]`.
    pub(super) fn read(top: &Section<'_>) -> Self {
        let mut assets = Self::default();
        let entries =
            top.get("assets").filter(|node| node.value().is_table()).and_then(|node| node.entries());
        for (symbol, node) in entries.unwrap_or_default() {
            if !is_symbol(symbol) {
                node.key_error("cannot be the name of an asset", "use letters and digits, a letter first");
                continue;
            }
            for item in node.one_or_many() {
                match item.section(&ASSET_TABLE).and_then(|table| declared(symbol, &table)) {
                    Some(asset) => assets.add(asset, &item),
                    None => assets.wrong.push(symbol.to_owned()),
                }
            }
        }
        assets
    }

    /// A token of a network by symbol or address.
    pub(super) fn find(&self, network: &Network, name: &str) -> Option<Asset> {
        let is_named = |asset: &&Asset| {
            asset.network == *network
                && (asset.symbol.eq_ignore_ascii_case(name) || same_address(&asset.address, name))
        };
        self.declared.iter().find(is_named).cloned().or_else(|| Asset::find(network, name))
    }

    /// The token a network's prices are in when none is named.
    pub(super) fn default_of(&self, network: &Network) -> Option<Asset> {
        let declared = || self.declared.iter().filter(|asset| asset.network == *network);
        Asset::default_of(network).or_else(|| declared().next().cloned())
    }

    /// Reports that no network of an offer has this token.
    pub(super) fn report_unknown(&self, node: &Node<'_>, name: &str, networks: &[&Network]) {
        if self.wrong.iter().any(|wrong| wrong.eq_ignore_ascii_case(name)) {
            return;
        }
        let names = self.names(networks);
        let shown = name.escape_debug();
        let place = list(networks.iter().map(|network| network.name()));
        let help = match nearest(name, names.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean \"{meant}\"?"),
            None if names.is_empty() => format!("declare it with [assets.{shown}]"),
            None => format!(
                "known are {}; declare others with [assets.NAME]",
                list(names.iter().map(String::as_str))
            ),
        };
        node.error(format!("no asset \"{shown}\" is known on {place}"), help);
    }

    /// The declared tokens.
    pub(super) fn finish(self) -> Vec<Asset> {
        self.declared
    }

    fn names(&self, networks: &[&Network]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for network in networks {
            let declared = self.declared.iter().filter(|asset| asset.network == **network);
            let declared = declared.map(|asset| asset.symbol.clone());
            let known = Asset::symbols_of(network).into_iter().map(str::to_owned);
            names.extend(declared.chain(known));
        }
        names.sort();
        names.dedup();
        names
    }

    fn add(&mut self, asset: Asset, node: &Node<'_>) {
        let same = |other: &&Asset| {
            other.network == asset.network && other.symbol.eq_ignore_ascii_case(&asset.symbol)
        };
        if self.declared.iter().any(|other| same(&other)) {
            node.key_error(format!("is declared twice for {}", asset.network.name()), "keep one of them");
            return;
        }
        let by_symbol = Asset::find(&asset.network, &asset.symbol);
        let by_address = Asset::find(&asset.network, &asset.address);
        if let Some(known) = &by_address
            && (known.decimals != asset.decimals
                || known.eip712 != asset.eip712
                || known.method != asset.method)
        {
            let help = format!("leave the table out and write asset = \"{}\"", known.symbol);
            node.key_warning("is declared otherwise than the token is known to be", help);
        } else if let Some(known) = by_symbol
            && by_address.is_none()
        {
            let message = format!(
                "is another token than the {} known on {}, {}",
                known.symbol,
                known.network.name(),
                known.address
            );
            node.key_warning(message, "choose another name if both are used");
        }
        self.declared.push(asset);
    }
}

fn is_symbol(text: &str) -> bool {
    text.len() <= 32
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

fn declared(symbol: &str, table: &Section<'_>) -> Option<Asset> {
    let need = |name: &str, example: &str| {
        let node = table.get(name);
        if node.is_none() {
            table.missing(format!("has no `{name}`"), format!("add a line such as {name} = {example}"));
        }
        node
    };
    let network = need("network", "\"base\"").and_then(|node| accounts::network(&node));
    let address_node = need("address", "\"0x…\"");
    let decimals = need("decimals", "6").and_then(|node| node.number(0..=36));
    let (name, version) = (table.get("name"), table.get("version"));
    let texts = [&name, &version].map(|node| node.as_ref().map(|node| node.text().map(str::to_owned)));
    if network.is_none()
        && let Some(node) = table.get("method")
    {
        node.choice(METHODS);
    }
    let network = network?;
    let address = address_node.and_then(|node| match accounts::parse(node.text()?, network.namespace()) {
        Ok(address) => Some(address),
        Err(wrong) => {
            node.error(wrong.message, wrong.help);
            None
        }
    });
    let method = method(table, &network)?;
    let eip712 = match texts {
        [None, None] => None,
        [Some(name), Some(version)] => Some((name?, version?)),
        _ => {
            table.missing("has one of `name` and `version`", "write both, as the token contract has them");
            return None;
        }
    };
    if method == TransferMethod::Eip3009 && eip712.is_none() {
        table.missing(
            "has no `name` and `version`, without which nobody can sign a payment",
            "write both as the token contract's EIP-712 domain has them, or method = \"permit2\"",
        );
        return None;
    }
    let decimals = u8::try_from(decimals?).ok()?;
    Some(Asset { network, symbol: symbol.to_owned(), address: address?, decimals, eip712, method })
}

fn method(table: &Section<'_>, network: &Network) -> Option<TransferMethod> {
    if network.chain_id().is_some() {
        return table.get("method").map_or(Some(TransferMethod::Eip3009), |node| node.choice(METHODS));
    }
    for node in ["name", "version", "method"].iter().filter_map(|key| table.get(key)) {
        node.key_error(
            format!("means nothing on {}", network.name()),
            "leave it out; it is for EVM networks",
        );
    }
    Some(if network.namespace() == "solana" {
        TransferMethod::SolanaTransfer
    } else {
        TransferMethod::Opaque
    })
}
