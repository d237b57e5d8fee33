//! The first protocol generation: networks by name, offers in the response body.
//!
//! A v1 client parses every entry of `accepts`, and one that it does not understand throws the
//! whole answer away, so an entry is only written when every strict client can read it.

use serde_json::{Map, Value, json};

use super::types::PaymentRequirements;

/// A v1 `accepts` entry without `resource`, which is the URL of the request and added to it.
///
/// Returns `None` when v1 cannot express the terms: a network without a v1 name, or an `exact`
/// EVM entry without the token's EIP-712 domain.
#[must_use]
pub fn requirements(terms: &PaymentRequirements, description: &str, mime_type: &str) -> Option<Value> {
    let network = terms.network.v1_name()?;
    if terms.scheme != "exact" {
        return None;
    }
    let evm = terms.network.chain_id().is_some();
    let has_domain = terms.extra.contains_key("name") && terms.extra.contains_key("version");
    if evm && (!has_domain || terms.extra.contains_key("assetTransferMethod")) {
        return None;
    }
    let extra: Map<String, Value> = terms
        .extra
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    Some(json!({
        "scheme": terms.scheme,
        "network": network,
        "maxAmountRequired": terms.amount,
        "description": description,
        "mimeType": mime_type,
        "payTo": terms.pay_to,
        "maxTimeoutSeconds": terms.max_timeout_seconds,
        "asset": terms.asset,
        "extra": extra,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> PaymentRequirements {
        PaymentRequirements {
            scheme: "exact".into(),
            network: "base".parse().unwrap(),
            amount: "10000".parse().unwrap(),
            asset: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".into(),
            pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
            max_timeout_seconds: 60,
            extra: [("name".into(), "USD Coin".into()), ("version".into(), "2".into())].into_iter().collect(),
        }
    }

    #[test]
    fn an_entry_has_every_member_that_strict_clients_need_and_no_null() {
        let entry = requirements(&terms(), "", "").unwrap();
        let members: Vec<&str> = entry.as_object().unwrap().keys().map(String::as_str).collect();
        for member in
            ["asset", "description", "extra", "maxAmountRequired", "maxTimeoutSeconds", "mimeType", "network"]
        {
            assert!(members.contains(&member), "{member}");
        }
        assert_eq!(entry["network"], "base");
        assert!(!entry.to_string().contains("null"));
    }

    #[test]
    fn terms_that_v1_clients_cannot_read_make_no_entry() {
        let mut other_scheme = terms();
        other_scheme.scheme = "upto".into();
        let mut other_network = terms();
        other_network.network = "arbitrum".parse().unwrap();
        let mut no_domain = terms();
        no_domain.extra.clear();
        let mut permit2 = terms();
        permit2.extra.insert("assetTransferMethod".into(), "permit2".into());
        for terms in [other_scheme, other_network, no_domain, permit2] {
            assert_eq!(requirements(&terms, "", ""), None);
        }
    }
}
