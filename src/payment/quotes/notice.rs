//! What gateways tell each other of their quotes, as notices of the ledger.
//!
//! A price list is cut into parts, so that none is too long for a database; a notice that is listed
//! names them. Every key is a hash of its text, so gateways with the same configuration put up the same
//! notices, and what was altered on its way is not believed.

use alloy_primitives::{B256, keccak256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ledger::Notice;
use crate::payment::offers::Rotating;
use crate::x402::Network;

/// Longest part of a price list, in bytes.
const PART_BYTES_MAX: usize = 128 * 1024;
/// Longest price list that is put up, in bytes: some 300,000 routes.
const LIST_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a listed notice says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Posting {
    /// A gateway quotes from a price list: the texts behind these keys, one after the other.
    Prices(Vec<B256>),
    /// A gateway quotes what a facilitator advertised to it.
    Advertised(Advertised),
}

/// A value that a facilitator advertised for a member of `extra`, for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advertised {
    /// The facilitator's name.
    pub(super) facilitator: String,
    pub(super) scheme: String,
    pub(super) network: Network,
    pub(super) member: String,
    pub(super) value: Value,
}

impl Posting {
    /// The notice that says it.
    pub(super) fn notice(&self) -> Notice {
        // Texts, hashes and JSON always serialise.
        let text = serde_json::to_string(self).unwrap_or_default();
        Notice { key: key_of(&text), text, listed: true }
    }

    /// What a notice says; `None`: nothing that this version knows.
    pub(super) fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

impl Advertised {
    pub(super) fn by(facilitator: &str, rotating: &Rotating) -> Self {
        let Rotating { scheme, network, member, value } = rotating.clone();
        Self { facilitator: facilitator.to_owned(), scheme, network, member, value }
    }
}

/// The key of the notice with a text.
pub(super) fn key_of(text: &str) -> B256 {
    keccak256(text.as_bytes())
}

/// The notices of a price list: its parts, and behind them the one that names them. `None`: it is too
/// long.
pub(super) fn notices_of(list: &str) -> Option<Vec<Notice>> {
    if list.len() > LIST_BYTES_MAX {
        return None;
    }
    let mut notices = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.floor_char_boundary(PART_BYTES_MAX));
        notices.push(Notice { key: key_of(part), text: part.to_owned(), listed: false });
        rest = behind;
    }
    let keys = notices.iter().map(|notice| notice.key).collect();
    notices.push(Posting::Prices(keys).notice());
    Some(notices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_cut_between_characters_and_put_together_again() {
        for list in ["{}".to_owned(), "é\u{1F4B0}x".repeat(60_000), "x".repeat(PART_BYTES_MAX * 2)] {
            let notices = notices_of(&list).unwrap();
            let (head, parts) = notices.split_last().unwrap();
            assert!(head.listed && parts.iter().all(|part| !part.listed));
            assert!(notices.iter().all(|notice| notice.key == key_of(&notice.text)));
            assert!(notices.iter().all(|notice| notice.text.len() <= PART_BYTES_MAX));
            assert_eq!(parts.iter().map(|part| part.text.as_str()).collect::<String>(), list);
            let keys = parts.iter().map(|part| part.key).collect();
            assert_eq!(Posting::read(&head.text), Some(Posting::Prices(keys)));
        }
        assert_eq!(notices_of(&"x".repeat(LIST_BYTES_MAX + 1)), None);
    }

    #[test]
    fn what_is_advertised_is_written_and_read_and_what_is_not_known_is_nothing() {
        let rotating = Rotating {
            scheme: "exact".into(),
            network: "solana".parse().unwrap(),
            member: "feePayer".into(),
            value: json!("F\0\u{1F4B0}"),
        };
        let posting = Posting::Advertised(Advertised::by("a+b", &rotating));
        let notice = posting.notice();
        assert!(!notice.text.contains('\0'), "databases take no NUL");
        assert_eq!(Posting::read(&notice.text), Some(posting));
        for strange in
            ["", "{}", "7", "{\"prices\":[\"0x1\"]}", "{\"prices\":[],\"more\":1}", "{\"news\":[]}"]
        {
            assert_eq!(Posting::read(strange), None, "{strange}");
        }
    }
}
