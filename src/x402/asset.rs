//! Assets: what a price is paid in, and how a token is moved.

use super::network::Network;

/// How a payer's signature moves the asset (`extra.assetTransferMethod` of the `exact` scheme).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransferMethod {
    /// EIP-3009 `transferWithAuthorization`; the protocol's default, not written on the wire.
    Eip3009,
    /// Uniswap's Permit2 through the x402 proxy contract.
    Permit2,
    /// A signed Solana transaction with one `TransferChecked`.
    SolanaTransfer,
    /// Whatever the facilitator of the network defines; only it can check the payment.
    Opaque,
}

/// A token on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// Where it lives.
    pub network: Network,
    /// Ticker, such as `USDC`.
    pub symbol: String,
    /// Contract address (EIP-55), mint, or currency code: `asset` on the wire.
    pub address: String,
    /// Decimal places of one unit.
    pub decimals: u8,
    /// EIP-712 domain name and version (`extra.name`, `extra.version`), where the token signs.
    pub eip712: Option<(String, String)>,
    /// How it is moved.
    pub method: TransferMethod,
}

struct Known {
    caip2: &'static str,
    symbol: &'static str,
    address: &'static str,
    decimals: u8,
    eip712: Option<(&'static str, &'static str)>,
    method: TransferMethod,
}

const fn usdc(caip2: &'static str, address: &'static str, name: &'static str) -> Known {
    eip3009(caip2, "USDC", address, (name, "2"))
}

const fn eip3009(
    caip2: &'static str,
    symbol: &'static str,
    address: &'static str,
    domain: (&'static str, &'static str),
) -> Known {
    Known { caip2, symbol, address, decimals: 6, eip712: Some(domain), method: TransferMethod::Eip3009 }
}

const fn permit2(
    caip2: &'static str,
    symbol: &'static str,
    address: &'static str,
    decimals: u8,
    eip712: Option<(&'static str, &'static str)>,
) -> Known {
    Known { caip2, symbol, address, decimals, eip712, method: TransferMethod::Permit2 }
}

const fn solana(caip2: &'static str, symbol: &'static str, address: &'static str) -> Known {
    Known { caip2, symbol, address, decimals: 6, eip712: None, method: TransferMethod::SolanaTransfer }
}

const SOLANA: &str = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp";
const SOLANA_DEVNET: &str = "solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1";

// The first entry of a network is its default asset. Names and versions are those of the
// deployed contracts' EIP-712 domains: a wrong one makes every signature invalid.
const KNOWN: &[Known] = &[
    usdc("eip155:8453", "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "USD Coin"),
    usdc("eip155:84532", "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "USDC"),
    usdc("eip155:1", "0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48", "USD Coin"),
    usdc("eip155:43114", "0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E", "USD Coin"),
    usdc("eip155:43113", "0x5425890298aed601595a70AB815c96711a31Bc65", "USD Coin"),
    usdc("eip155:137", "0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359", "USD Coin"),
    usdc("eip155:80002", "0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582", "USDC"),
    usdc("eip155:42161", "0xaf88d065e77c8cC2239327C5EDb3A432268e5831", "USD Coin"),
    usdc("eip155:421614", "0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d", "USD Coin"),
    usdc("eip155:143", "0x754704Bc059F8C67012fEd69BC8A327a5aafb603", "USDC"),
    permit2(
        "eip155:4326",
        "MegaUSD",
        "0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7",
        18,
        Some(("MegaUSD", "1")),
    ),
    eip3009("eip155:988", "USDT0", "0x779Ded0c9e1022225f8E0630b35a9b54bE713736", ("USDT0", "1")),
    eip3009("eip155:2201", "USDT0", "0x78Cf24370174180738C5B8E352B6D14c83a6c9A9", ("USDT0", "1")),
    usdc("eip155:50", "0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1", "USDC"),
    usdc("eip155:51", "0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4", "USDC"),
    eip3009("eip155:14", "USDT0", "0xe7cd86e13AC4309349F30B3435a9d337750fC82D", ("USD\u{20ae}0", "1")),
    usdc("eip155:42220", "0xcebA9300f2b948710d2653dD7B07f33A8B32118C", "USDC"),
    eip3009("eip155:42220", "USDT", "0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e", ("Tether USD", "1")),
    usdc("eip155:11142220", "0x01C5C0122039549AD1493B8220cABEdD739BC44E", "USDC"),
    usdc("eip155:1329", "0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392", "USDC"),
    usdc("eip155:1328", "0x4fCF1784B31630811181f670Aea7A7bEF803eaED", "USDC"),
    usdc("eip155:4689", "0xcdf79194c6c285077a58da47641d4dbe51f63542", "Bridged USDC"),
    usdc("eip155:3338", "0xbbA60da06c2c5424f03f7434542280FCAd453d10", "USDC"),
    usdc("eip155:2741", "0x84a71ccd554cc1b02749b35d22f684cc8ec987e1", "Bridged USDC"),
    usdc("eip155:11124", "0xe4C7fBB0a626ed208021ccabA6Be1566905E2dFc", "Bridged USDC"),
    usdc("eip155:1514", "0xF1815bd50389c46847f0Bda824eC8da914045D14", "Bridged USDC"),
    usdc("eip155:41923", "0x12a272A581feE5577A5dFa371afEB4b2F3a8C2F8", "Bridged USDC (Stargate)"),
    usdc("eip155:324705682", "0x2e08028E3C4c2356572E096d8EF835cD5C6030bD", "Bridged USDC (SKALE Bridge)"),
    permit2("eip155:38833", "USDC", "0xA5b8BF902b2844dA17d4506cc827F7F1681735E7", 6, None),
    solana(SOLANA, "USDC", "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"),
    solana(SOLANA, "USDT", "Es9vMFrzaCERmJfrF4H2FYD4KCoNkY11McCe8BenwNYB"),
    solana(SOLANA, "USDG", "2u1tszSeqZ3qBWF3uNGPFc8TzMk2tdiwknnRMWGWjGWH"),
    solana(SOLANA, "PYUSD", "2b1kV6DkPAnxd5ixfnxCpjxmKwqjjaYmCZfHsFu24GXo"),
    solana(SOLANA_DEVNET, "USDC", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
    solana(SOLANA_DEVNET, "PYUSD", "CXk2AMBfi3TwaEL2468s6zP8xq9NxTXjp9gjMgzeUynM"),
    solana("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "USDC", "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU"),
];

impl Asset {
    /// The asset a network's prices are in when none is named.
    #[must_use]
    pub fn default_of(network: &Network) -> Option<Self> {
        KNOWN.iter().find(|known| known.caip2 == network.as_str()).map(|known| known.build(network))
    }

    /// A known asset of a network by its symbol (any letter case) or address.
    #[must_use]
    pub fn find(network: &Network, name: &str) -> Option<Self> {
        KNOWN
            .iter()
            .find(|known| {
                known.caip2 == network.as_str()
                    && (known.symbol.eq_ignore_ascii_case(name) || same_address(known.address, name))
            })
            .map(|known| known.build(network))
    }

    /// The symbols known on a network, for messages.
    #[must_use]
    pub fn symbols_of(network: &Network) -> Vec<&'static str> {
        KNOWN.iter().filter(|known| known.caip2 == network.as_str()).map(|known| known.symbol).collect()
    }
}

impl Known {
    fn build(&self, network: &Network) -> Asset {
        // Some entries are published without the EIP-55 letter case that strict clients expect.
        let address = match self.address.parse::<alloy_primitives::Address>() {
            Ok(address) => address.to_string(),
            Err(_) => self.address.to_owned(),
        };
        Asset {
            network: network.clone(),
            symbol: self.symbol.to_owned(),
            address,
            decimals: self.decimals,
            eip712: self.eip712.map(|(name, version)| (name.to_owned(), version.to_owned())),
            method: self.method,
        }
    }
}

/// Whether two `asset` or `payTo` texts name the same account: EVM addresses compare as numbers,
/// everything else letter by letter.
#[must_use]
pub fn same_address(one: &str, other: &str) -> bool {
    let is_hex = |text: &str| text.len() == 42 && (text.starts_with("0x") || text.starts_with("0X"));
    if is_hex(one) && is_hex(other) { one.eq_ignore_ascii_case(other) } else { one == other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_asset_of_a_network_is_its_first_entry() {
        let celo: Network = "celo".parse().unwrap();
        assert_eq!(Asset::default_of(&celo).unwrap().symbol, "USDC");
        assert_eq!(Asset::find(&celo, "usdt").unwrap().eip712.unwrap().0, "Tether USD");
        assert_eq!(Asset::find(&celo, "EURC"), None);
        assert_eq!(Asset::default_of(&"eip155:999999".parse().unwrap()), None);
    }

    #[test]
    fn the_table_holds_valid_networks_and_addresses() {
        for known in KNOWN {
            let network: Network = known.caip2.parse().unwrap();
            let asset = known.build(&network);
            if network.chain_id().is_some() {
                let checked = alloy_primitives::Address::parse_checksummed(&asset.address, None);
                assert!(checked.is_ok(), "{}", asset.address);
            } else {
                assert_eq!(bs58::decode(&asset.address).into_vec().unwrap().len(), 32);
            }
        }
    }

    #[test]
    fn addresses_compare_without_regard_to_letter_case_only_in_hex() {
        assert!(same_address(
            "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "0X036cbd53842c5426634e7929541ec2318f3dcf7E"
        ));
        assert!(!same_address("EPjFWdd5", "epjfwdd5"));
    }
}
