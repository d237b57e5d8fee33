//! Addresses: who is paid (`pay_to`), and where tokens live.

use alloy_primitives::Address;

use super::suggest::{list, nearest};
use super::walk::Node;
use crate::x402::Network;
use crate::x402::network::KNOWN_NETWORKS;

/// Why an address cannot be used, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: String,
}

impl Wrong {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// An address of a network in the form that goes on the wire: EIP-55 on EVM networks, base58 of 32
/// bytes on Solana, any text elsewhere.
pub(super) fn parse(text: &str, namespace: &str) -> Result<String, Wrong> {
    match namespace {
        "eip155" => evm(text),
        "solana" => solana(text),
        _ if text.chars().count() <= 256 => Ok(text.to_owned()),
        _ => Err(Wrong::new("is longer than 256 characters", "check that it is an address")),
    }
}

fn evm(text: &str) -> Result<String, Wrong> {
    let help = "an address of an EVM network is 0x and 40 hexadecimal digits";
    if text.to_ascii_lowercase().ends_with(".eth") {
        return Err(Wrong::new("is a name; names are not looked up", help));
    }
    let Some(digits) = text.strip_prefix("0x") else {
        let is_hex = text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let help = if is_hex { format!("write \"0x{text}\"") } else { help.to_owned() };
        return Err(Wrong::new("is not an address of an EVM network", help));
    };
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Wrong::new("has characters that are not hexadecimal digits", help));
    }
    if digits.len() != 40 {
        return Err(Wrong::new(format!("has {} hexadecimal digits instead of 40", digits.len()), help));
    }
    let address: Address =
        text.parse().map_err(|_| Wrong::new("is not an address of an EVM network", help))?;
    if address.is_zero() {
        return Err(Wrong::new(
            "is the zero address: what is sent there is lost",
            "write the address of a wallet of yours",
        ));
    }
    let right = address.to_checksum(None);
    // All lower case is how an address is written without a checksum. Any other letter case is one,
    // and clients repeat the text as it is, so it must be right (EIP-55).
    let is_plain = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_plain || right == text {
        return Ok(right);
    }
    Err(Wrong::new(
        "has a wrong checksum, so at least one character is not the one that was meant",
        format!("compare it with your wallet; if every digit is right, write \"{right}\""),
    ))
}

fn solana(text: &str) -> Result<String, Wrong> {
    let help = "an address of Solana is base58 text of 32 bytes, 32 to 44 characters without 0, O, I and l";
    let wrong = || Wrong::new("is not an address of Solana", help);
    // Longer texts cannot be 32 bytes, and decoding takes quadratic time.
    if text.len() > 44 {
        return Err(wrong());
    }
    let bytes = bs58::decode(text).into_vec().map_err(|_| wrong())?;
    if bytes.len() != 32 {
        return Err(wrong());
    }
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(Wrong::new(
            "is the system program: what is sent there is lost",
            "write the address of your wallet",
        ));
    }
    Ok(text.to_owned())
}

/// Who is paid, as written in one place: one address, or a table by network.
#[derive(Debug, Clone)]
pub(super) struct Payees<'a> {
    node: Node<'a>,
    /// `None`: one address for everything.
    table: Option<Vec<(Key, Node<'a>)>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Network(Network),
    Namespace(String),
}

/// What a [`Payees`] says of a network.
pub(super) enum Payee {
    /// This address.
    Is(String),
    /// Nothing.
    Unnamed,
    /// Something wrong; it was reported.
    Wrong,
}

impl<'a> Payees<'a> {
    /// Reads `pay_to`.
    pub(super) fn read(node: &Node<'a>) -> Option<Self> {
        if node.value().is_str() {
            let text = node.text()?;
            // Checked again where it is used; here for a file in which nothing uses it. Longer ones are
            // addresses of other networks, such as Aptos.
            if text.starts_with("0x") && text.len() <= "0x".len() + 40 {
                check(node, "eip155")?;
            }
            return Some(Self { node: node.clone(), table: None });
        }
        let entries = node.entries()?;
        if entries.is_empty() {
            node.error("is an empty table", "write pay_to = { eip155 = \"0x…\", solana = \"…\" }");
            return None;
        }
        let mut table: Vec<(Key, Node<'a>)> = Vec::new();
        for (name, entry) in &entries {
            let Some(key) = key(name, entry) else { continue };
            let namespace = match &key {
                Key::Network(network) => network.namespace(),
                Key::Namespace(namespace) => namespace,
            };
            if table.iter().any(|(other, _)| *other == key) {
                entry.key_error("is the same network as another entry", "keep one of them");
            }
            if check(entry, namespace).is_some() {
                table.push((key, entry.clone()));
            }
        }
        (table.len() == entries.len()).then(|| Self { node: node.clone(), table: Some(table) })
    }

    /// Who is paid on a network: by its own name, else by its namespace.
    pub(super) fn of(&self, network: &Network) -> Payee {
        let entry = match &self.table {
            None => Some(&self.node),
            Some(table) => {
                let find = |wanted: &Key| table.iter().find(|(key, _)| key == wanted).map(|(_, node)| node);
                find(&Key::Network(network.clone()))
                    .or_else(|| find(&Key::Namespace(network.namespace().to_owned())))
            }
        };
        let Some(entry) = entry else { return Payee::Unnamed };
        let Some(text) = entry.text() else { return Payee::Wrong };
        match parse(text, network.namespace()) {
            Ok(address) => Payee::Is(address),
            Err(wrong) => {
                let looks_foreign = self.table.is_none()
                    && ["eip155", "solana"].iter().any(|other| parse(text, other).is_ok());
                if looks_foreign {
                    let message = format!("{}, and {} is one of the networks", wrong.message, network.name());
                    let help = "write a table: pay_to = { eip155 = \"0x…\", solana = \"…\" }";
                    entry.error(message, help);
                } else {
                    entry.error(wrong.message, wrong.help);
                }
                Payee::Wrong
            }
        }
    }

    /// The value, for messages about what it lacks.
    pub(super) fn node(&self) -> &Node<'a> {
        &self.node
    }
}

fn check(node: &Node<'_>, namespace: &str) -> Option<()> {
    match parse(node.text()?, namespace) {
        Ok(_) => Some(()),
        Err(wrong) => {
            node.error(wrong.message, wrong.help);
            None
        }
    }
}

fn key(name: &str, entry: &Node<'_>) -> Option<Key> {
    if let Ok(network) = name.parse::<Network>() {
        return Some(Key::Network(network));
    }
    if matches!(name, "eip155" | "solana") {
        return Some(Key::Namespace(name.to_owned()));
    }
    let known = ["eip155", "solana"].into_iter().chain(KNOWN_NETWORKS.iter().map(|known| known.name));
    let help = match nearest(name, known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => {
            "write eip155 for all EVM networks, solana, or one network as \"eip155:8453\" or base".to_owned()
        }
    };
    // CAIP-2 has more namespaces than the gateway knows; a slip in one of ours is likelier.
    let is_namespace = (3..=8).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if is_namespace && name != "evm" && !help.starts_with("did") {
        return Some(Key::Namespace(name.to_owned()));
    }
    entry.key_error("is neither a network nor a kind of networks", help);
    None
}

/// Reads networks, one or a list; `None` when something was reported.
pub(super) fn networks<'a>(node: &Node<'a>) -> Option<Vec<(Network, Node<'a>)>> {
    let nodes = node.one_or_many();
    let mut networks: Vec<(Network, Node<'a>)> = Vec::new();
    for item in &nodes {
        let Some(network) = network(item) else { continue };
        if networks.iter().any(|(other, _)| *other == network) {
            item.error(format!("{} is named twice", network.name()), "name each network once");
            continue;
        }
        networks.push((network, item.clone()));
    }
    (!nodes.is_empty() && networks.len() == nodes.len()).then_some(networks)
}

/// Reads one network by name or CAIP-2 identifier.
pub(super) fn network(node: &Node<'_>) -> Option<Network> {
    let text = node.text()?;
    if let Ok(network) = text.parse() {
        return Some(network);
    }
    let names = || KNOWN_NETWORKS.iter().map(|known| known.name);
    let help = match nearest(text, names()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => format!("write a CAIP-2 identifier such as \"eip155:8453\", or one of {}", list(names())),
    };
    node.error(format!("unknown network \"{}\"", text.escape_debug()), help);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYEE: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";

    #[test]
    fn evm_addresses_are_written_with_their_checksum() {
        assert_eq!(parse(PAYEE, "eip155").unwrap(), PAYEE);
        assert_eq!(parse(&PAYEE.to_lowercase(), "eip155").unwrap(), PAYEE);
    }

    #[test]
    fn wrong_addresses_are_refused_with_what_is_wrong() {
        let wrong_case = PAYEE.replace("0x209693Bc", "0x209693bc");
        let upper = format!("0x{}", PAYEE[2..].to_uppercase());
        for (text, namespace, message) in [
            (wrong_case.as_str(), "eip155", "has a wrong checksum"),
            (&upper, "eip155", "has a wrong checksum"),
            (&PAYEE[..41], "eip155", "has 39 hexadecimal digits instead of 40"),
            (&PAYEE[2..], "eip155", "is not an address of an EVM network"),
            ("0x0000000000000000000000000000000000000000", "eip155", "is the zero address"),
            ("0x00000000000000000000000000000000000000zz", "eip155", "has characters"),
            ("vitalik.eth", "eip155", "is a name"),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v", "eip155", "is not an address of an EVM"),
            (PAYEE, "solana", "is not an address of Solana"),
            ("EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt", "solana", "is not an address of Solana"),
            ("11111111111111111111111111111111", "solana", "is the system program"),
        ] {
            let wrong = parse(text, namespace).unwrap_err();
            assert!(wrong.message.starts_with(message), "{text}: {}", wrong.message);
        }
        assert!(parse(&wrong_case, "eip155").unwrap_err().help.contains(PAYEE));
        assert!(parse(&PAYEE[2..], "eip155").unwrap_err().help.contains(PAYEE));
    }

    #[test]
    fn solana_addresses_are_32_bytes_and_others_any_text() {
        let mint = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v";
        assert_eq!(parse(mint, "solana").unwrap(), mint);
        assert_eq!(parse("acct:someone", "cloudflare").unwrap(), "acct:someone");
        assert!(parse(&"x".repeat(257), "cloudflare").is_err());
    }
}
