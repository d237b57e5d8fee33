//! Networks: CAIP-2 identifiers, and the names the first protocol generation gave them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A network by its CAIP-2 identifier, such as `eip155:8453` (CAIP-2, chainagnostic.org).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network(Arc<str>);

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown network: write a name such as \"base\" or a CAIP-2 identifier such as \"eip155:8453\"")]
pub struct NetworkError;

/// What is known of a network besides its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownNetwork {
    /// CAIP-2 identifier.
    pub caip2: &'static str,
    /// Name in configuration files, and on the wire where `v1` says so.
    pub name: &'static str,
    /// Whether the first protocol generation knows this name.
    pub v1: bool,
    /// Whether its tokens are worth nothing.
    pub testnet: bool,
}

const fn known(caip2: &'static str, name: &'static str, v1: bool, testnet: bool) -> KnownNetwork {
    KnownNetwork { caip2, name, v1, testnet }
}

/// Every network known by name.
pub const KNOWN_NETWORKS: &[KnownNetwork] = &[
    known("eip155:8453", "base", true, false),
    known("eip155:84532", "base-sepolia", true, true),
    known("eip155:1", "ethereum", false, false),
    known("eip155:11155111", "sepolia", false, true),
    known("eip155:43114", "avalanche", true, false),
    known("eip155:43113", "avalanche-fuji", true, true),
    known("eip155:137", "polygon", true, false),
    known("eip155:80002", "polygon-amoy", true, true),
    known("eip155:42161", "arbitrum", false, false),
    known("eip155:421614", "arbitrum-sepolia", false, true),
    known("eip155:10", "optimism", false, false),
    known("eip155:480", "world", false, false),
    known("eip155:4801", "world-sepolia", false, true),
    known("eip155:143", "monad", false, false),
    known("eip155:4326", "megaeth", false, false),
    known("eip155:988", "stable", false, false),
    known("eip155:2201", "stable-testnet", false, true),
    known("eip155:50", "xdc", false, false),
    known("eip155:51", "xdc-apothem", false, true),
    known("eip155:14", "flare", false, false),
    known("eip155:42220", "celo", false, false),
    known("eip155:11142220", "celo-sepolia", false, true),
    known("eip155:1329", "sei", true, false),
    known("eip155:1328", "sei-testnet", true, true),
    known("eip155:4689", "iotex", true, false),
    known("eip155:3338", "peaq", true, false),
    known("eip155:2741", "abstract", true, false),
    known("eip155:11124", "abstract-testnet", true, true),
    known("eip155:1514", "story", true, false),
    known("eip155:41923", "educhain", true, false),
    known("eip155:324705682", "skale-base-sepolia", true, true),
    known("solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "solana", true, false),
    known("solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1", "solana-devnet", true, true),
    known("solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z", "solana-testnet", false, true),
];

impl Network {
    /// The CAIP-2 identifier.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The namespace of the identifier: `eip155`, `solana`, …
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.split_once(':').map_or("", |(namespace, _)| namespace)
    }

    /// The EVM chain id, for `eip155` networks.
    #[must_use]
    pub fn chain_id(&self) -> Option<u64> {
        self.0.strip_prefix("eip155:")?.parse().ok()
    }

    /// What is known of this network, if it is known by name.
    #[must_use]
    pub fn known(&self) -> Option<&'static KnownNetwork> {
        KNOWN_NETWORKS.iter().find(|known| known.caip2 == &*self.0)
    }

    /// The name for people: the known name or the CAIP-2 identifier.
    #[must_use]
    pub fn name(&self) -> &str {
        self.known().map_or(&self.0, |known| known.name)
    }

    /// The name on the wire of the first protocol generation, if that generation knows it.
    #[must_use]
    pub fn v1_name(&self) -> Option<&'static str> {
        self.known().filter(|known| known.v1).map(|known| known.name)
    }

    /// Whether tokens of this network are known to be worth nothing.
    #[must_use]
    pub fn is_testnet(&self) -> bool {
        self.known().is_some_and(|known| known.testnet)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Takes a known name (any letter case) or a CAIP-2 identifier.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        if let Some(known) = KNOWN_NETWORKS.iter().find(|known| known.name.eq_ignore_ascii_case(text)) {
            return Ok(Self(known.caip2.into()));
        }
        let (namespace, reference) = text.split_once(':').ok_or(NetworkError)?;
        let plain = |part: &str, max: usize, extra: &[u8]| {
            !part.is_empty()
                && part.len() <= max
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
        };
        // CAIP-2 allows 8 and 32 characters; networks in use (`cloudflare:402`) are longer.
        if !plain(namespace, 16, b"-") || !plain(reference, 64, b"-_") {
            return Err(NetworkError);
        }
        let is_decimal = reference.parse::<u64>().is_ok_and(|id| id.to_string() == reference);
        if namespace == "eip155" && !is_decimal {
            return Err(NetworkError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_by_name_and_by_caip_2() {
        let base: Network = "base".parse().unwrap();
        assert_eq!(base, "eip155:8453".parse().unwrap());
        assert_eq!((base.chain_id(), base.v1_name(), base.is_testnet()), (Some(8453), Some("base"), false));
        let solana: Network = "Solana-Devnet".parse().unwrap();
        assert_eq!((solana.namespace(), solana.chain_id()), ("solana", None));
        let other: Network = "eip155:999999".parse().unwrap();
        assert_eq!((other.name(), other.v1_name()), ("eip155:999999", None));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in
            ["", "bass", "eip155:", ":1", "eip155:0x1", "eip155:01", "eip155:1 ", "a b:c", "eip155:1:2"]
        {
            assert_eq!(text.parse::<Network>(), Err(NetworkError), "{text:?}");
        }
    }

    #[test]
    fn names_and_identifiers_are_unique() {
        for (index, one) in KNOWN_NETWORKS.iter().enumerate() {
            for other in &KNOWN_NETWORKS[index + 1..] {
                assert!(one.caip2 != other.caip2 && one.name != other.name, "{one:?} {other:?}");
            }
        }
    }
}
