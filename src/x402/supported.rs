//! A facilitator's `/supported`: which kinds of payment it settles, and what offers need from it.

use serde_json::{Map, Value};

use super::Version;
use super::network::Network;

/// One kind of payment a facilitator settles.
#[derive(Debug, Clone, PartialEq)]
pub struct SupportedKind {
    /// Protocol generation.
    pub version: Version,
    /// `exact`, ….
    pub scheme: String,
    /// CAIP-2, also where v1 lists it by name.
    pub network: Network,
    /// Members that offers of this kind carry in `extra`, such as `feePayer`.
    pub extra: Map<String, Value>,
}

/// What a facilitator supports.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Supported {
    /// Kinds of payment.
    pub kinds: Vec<SupportedKind>,
    /// Extension keys.
    pub extensions: Vec<String>,
    /// Accounts that may sign, by CAIP-2 pattern such as `solana:*`.
    pub signers: Map<String, Value>,
}

impl Supported {
    /// The kind for a generation, scheme and network, if it is supported.
    #[must_use]
    pub fn kind(&self, version: Version, scheme: &str, network: &Network) -> Option<&SupportedKind> {
        self.kinds
            .iter()
            .find(|kind| kind.version == version && kind.scheme == scheme && kind.network == *network)
    }

    /// Whether either generation of a scheme is supported on a network. EVM `exact` payments are
    /// the same signature in both generations, so either will do.
    #[must_use]
    pub fn settles(&self, scheme: &str, network: &Network) -> bool {
        self.kinds.iter().any(|kind| kind.scheme == scheme && kind.network == *network)
    }

    /// Accounts the facilitator signs with on a network: those listed for it, or for its namespace
    /// (`solana:*`).
    pub fn signers_of(&self, network: &Network) -> impl Iterator<Item = Value> {
        let patterns = [network.as_str().to_owned(), format!("{}:*", network.namespace())];
        patterns.into_iter().filter_map(|pattern| self.signers.get(&pattern)?.as_array()).flatten().cloned()
    }

    /// Reads a `/supported` answer. Kinds this gateway cannot name (unknown versions, networks that
    /// are neither CAIP-2 nor known names) are left out; `None` when it is no such answer at all.
    #[must_use]
    pub fn parse(answer: &Value) -> Option<Self> {
        let kinds = answer.get("kinds")?.as_array()?.iter().filter_map(parse_kind).collect();
        let extensions = answer.get("extensions").and_then(Value::as_array);
        Some(Self {
            kinds,
            extensions: extensions
                .map(|list| list.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default(),
            signers: answer.get("signers").and_then(Value::as_object).cloned().unwrap_or_default(),
        })
    }
}

fn parse_kind(kind: &Value) -> Option<SupportedKind> {
    let version = match kind.get("x402Version")?.as_u64()? {
        1 => Version::V1,
        2 => Version::V2,
        _ => return None,
    };
    Some(SupportedKind {
        version,
        scheme: kind.get("scheme")?.as_str()?.to_owned(),
        network: kind.get("network")?.as_str()?.parse().ok()?,
        extra: kind.get("extra").and_then(Value::as_object).cloned().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_of_both_generations_are_read_and_strange_ones_left_out() {
        let supported = Supported::parse(&json!({"kinds": [
            {"x402Version": 1, "scheme": "exact", "network": "base"},
            {"x402Version": 2, "scheme": "exact", "network": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
             "extra": {"feePayer": "F"}},
            {"x402Version": 9, "scheme": "exact", "network": "eip155:1"},
            {"x402Version": 2, "scheme": "exact", "network": "nowhere"},
            7,
        ]}))
        .unwrap();
        assert_eq!(supported.kinds.len(), 2);
        let base = "base".parse().unwrap();
        assert!(supported.kind(Version::V1, "exact", &base).is_some());
        assert!(supported.kind(Version::V2, "exact", &base).is_none());
        let solana = "solana".parse().unwrap();
        assert_eq!(supported.kind(Version::V2, "exact", &solana).unwrap().extra["feePayer"], "F");
    }

    #[test]
    fn signers_are_listed_for_a_network_or_for_all_of_its_kind() {
        let supported = Supported::parse(&json!({"kinds": [], "signers": {
            "solana:*": ["A", "B"], "eip155:*": ["0xa"], "eip155:8453": ["0xb"], "eip155:1": "none",
        }}))
        .unwrap();
        let of = |network: &str| -> Vec<Value> { supported.signers_of(&network.parse().unwrap()).collect() };
        assert_eq!(of("solana"), ["A", "B"]);
        assert_eq!(of("base"), ["0xb", "0xa"]);
        assert_eq!(of("eip155:1"), ["0xa"]);
    }

    #[test]
    fn what_is_no_such_answer_is_refused() {
        for answer in [json!({}), json!([]), json!({"kinds": "x"}), json!(null)] {
            assert_eq!(Supported::parse(&answer), None, "{answer}");
        }
    }
}
