//! `[chains.NAME]`.

use std::time::Duration;

use super::{BASE, clean, load_with, messages, messages_with, rendered};
use crate::secret::Secret;

/// A site that sells on base-sepolia and Solana, and a chain.
fn with_chain(lines: &str) -> String {
    format!("{BASE}default = \"$1\"\n{lines}\n")
}

#[test]
fn a_chain_is_asked_through_a_node_of_its_network() {
    let config = clean(&with_chain("[chains.base-sepolia]\nrpc = \"https://node.example/v2/KEY?x=1\""));
    let [chain] = config.chains.as_slice() else { panic!("{:?}", config.chains) };
    assert_eq!(chain.network, "eip155:84532".parse().unwrap());
    assert_eq!(chain.rpc, Secret::new("https://node.example/v2/KEY?x=1".to_owned()));
    assert_eq!((chain.confirmations, chain.timeout, chain.accept_used), (1, Duration::from_secs(10), true));
    let all = "[chains.\"eip155:84532\"]\nrpc_env = \"NODE\"\ninsecure = true\nconfirmations = 12\n\
               timeout_ms = 2500\naccept_used = false";
    let (config, warnings) = load_with(&with_chain(all), &[("NODE", "http://10.0.0.1:8545")]).unwrap();
    assert!(warnings.is_empty(), "{}", rendered(&warnings));
    let chain = &config.chains[0];
    assert_eq!(chain.rpc, Secret::new("http://10.0.0.1:8545".to_owned()));
    assert_eq!((chain.confirmations, chain.timeout), (12, Duration::from_millis(2500)));
    assert!(!chain.accept_used);
    assert!(clean(&with_chain("")).chains.is_empty());
}

#[test]
fn chains_that_cannot_be_meant_are_refused() {
    let local = "rpc = \"http://127.0.0.1:8545\"";
    for (lines, expected) in [
        (format!("[chains.bse]\n{local}"), vec!["E 6: chains.bse: is not a network"]),
        (format!("[chains.solana]\n{local}"), vec!["E 6: chains.solana: is not an EVM network"]),
        (
            format!("[chains.base-sepolia]\n{local}\n[chains.\"eip155:84532\"]\n{local}"),
            vec!["E 8: chains.eip155:84532: is the same network as another entry"],
        ),
        (format!("[chains.base]\n{local}"), vec!["W 6: chains.base: no route takes payments on base"]),
        ("[chains.base-sepolia]".to_owned(), vec!["E 6: chains.base-sepolia: has no `rpc`"]),
        (
            format!("[chains.base-sepolia]\n{local}\nrpc_env = \"NODE\""),
            vec!["E 8: chains.base-sepolia.rpc_env: stands next to `rpc`"],
        ),
        (
            "[chains.base-sepolia]\nrpc = \"wss://node.example\"".to_owned(),
            vec!["E 7: chains.base-sepolia.rpc: is neither http:// nor https://"],
        ),
        (
            "[chains.base-sepolia]\nrpc = \"node.example\"".to_owned(),
            vec!["E 7: chains.base-sepolia.rpc: is not a URL: relative URL without a base"],
        ),
        (
            "[chains.base-sepolia]\nrpc = \"http://10.0.0.1:8545\"".to_owned(),
            vec![
                "E 7: chains.base-sepolia.rpc: another machine would be asked without encryption, and \
                 anybody between could answer",
            ],
        ),
        (
            format!(
                "[chains.base-sepolia]\n{local}\nconfirmations = 0\ntimeout_ms = 0\naccept_used = 1\nrcp = 1"
            ),
            vec![
                "E 8: chains.base-sepolia.confirmations: must be from 1 to 10000",
                "E 9: chains.base-sepolia.timeout_ms: must be from 1 to 3600000",
                "E 10: chains.base-sepolia.accept_used: expected true or false, found a whole number",
                "E 11: unknown key `rcp` in [chains.NAME]",
            ],
        ),
        (
            "[chains.bse]\nrpc = \"ftp://a\"".to_owned(),
            vec!["E 6: chains.bse: is not a network", "E 7: chains.bse.rpc: is neither http:// nor https://"],
        ),
        ("[chains]\nbase-sepolia = 1".to_owned(), vec!["E 7: chains.base-sepolia: expected text"]),
    ] {
        let found = messages(&with_chain(&lines));
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}");
        }
    }
    let unset = messages_with(&with_chain("[chains.base-sepolia]\nrpc_env = \"NODE\""), &[]);
    assert_eq!(unset, ["E 7: chains.base-sepolia.rpc_env: the environment variable NODE is not set"]);
}

#[test]
fn the_key_in_a_url_is_never_shown() {
    for lines in [
        "rpc = \"http://node.example/v2/hunter2\"",
        "rpc = \"ws://node.example/v2/hunter2\"",
        "rpc = \"https://me:hunter2@node.example\"\nconfirmations = 0",
        "rpc_env = \"https://node.example/v2/hunter2\"",
    ] {
        let text = with_chain(&format!("[chains.base-sepolia]\n{lines}"));
        let shown = rendered(&load_with(&text, &[]).unwrap_err());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let (config, _) =
        load_with(&with_chain("[chains.base-sepolia]\nrpc_env = \"N\""), &[("N", "https://hunter2.example")])
            .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
