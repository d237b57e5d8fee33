//! Own settlement: `kind = "onchain"`, and offering it to others.

use std::time::Duration;

use alloy_primitives::U256;

use super::{PAYEE, clean, load_with, messages, messages_with, rendered};
use crate::config::Config;
use crate::facilitator::settings::{FacilitatorSettings, OnchainSettings};

const KEY: &str = "4242424242424242424242424242424242424242424242424242424242424242";

/// A site that sells something on Base.
fn selling(lines: &str) -> String {
    format!("upstream = \"demo\"\npay_to = \"{PAYEE}\"\nnetwork = \"base\"\ndefault = \"$1\"\n{lines}\n")
}

const OWN: &str = "facilitator = \"own\"\n[facilitators.own]\nkind = \"onchain\"\n";

fn with_key(text: &str) -> Config {
    let (config, warnings) =
        load_with(text, &[("GAS", KEY)]).unwrap_or_else(|all| panic!("{}", rendered(&all)));
    assert!(warnings.is_empty(), "{}", rendered(&warnings));
    config
}

fn own(config: &Config) -> &OnchainSettings {
    match config.facilitators.as_slice() {
        [FacilitatorSettings::Onchain(own)] => own,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_left_out_has_a_sound_default() {
    let config =
        with_key(&selling(&format!("{OWN}rpc = \"https://node.example/v2/abc\"\nkey_env = \"GAS\"")));
    let own = own(&config);
    assert_eq!((own.name.as_str(), own.network.as_str()), ("own", "eip155:8453"));
    assert_eq!(own.rpc.expose(), "https://node.example/v2/abc");
    assert_eq!((own.confirmations, own.max_fee, own.gas_limit), (1, 10_000_000_000, 500_000));
    assert_eq!((own.low_balance, own.wallet_factories.as_slice()), (None, &[][..]));
    assert_eq!(own.replace_after, Duration::from_secs(30));
    let shown = format!("{config:?}");
    assert!(!shown.contains(KEY) && !shown.contains("/v2/abc"), "secrets do not print");
}

#[test]
fn everything_can_be_written() {
    let config = with_key(&selling(&format!(
        "{OWN}network = \"base\"\nrpc = \"http://127.0.0.1:8545\"\nkey_env = \"GAS\"\nconfirmations = 3\n\
         max_fee_gwei = \"0.5\"\ngas_limit = 200000\nlow_balance = \"0.01\"\nreplace_after_seconds = 7\n\
         verify_timeout_ms = 1\nsettle_timeout_ms = 2\nwallet_factories = [\"{PAYEE}\"]"
    )));
    let own = own(&config);
    assert_eq!((own.confirmations, own.max_fee, own.gas_limit), (3, 500_000_000, 200_000));
    assert_eq!(own.low_balance, Some(U256::from(10_000_000_000_000_000_u64)));
    assert_eq!(own.replace_after, Duration::from_secs(7));
    assert_eq!(
        (own.verify_timeout, own.settle_timeout),
        (Duration::from_millis(1), Duration::from_millis(2))
    );
    assert_eq!(own.wallet_factories, [PAYEE.parse::<alloy_primitives::Address>().unwrap()]);
}

#[test]
fn it_can_stand_where_a_name_could_and_take_its_node_from_the_chain() {
    let config = with_key(&selling(
        "facilitator = { kind = \"onchain\", rpc = \"https://node.example\", key_env = \"GAS\" }",
    ));
    assert_eq!(own(&config).name, "onchain-base");
    let config = with_key(&selling(
        "facilitator = { kind = \"onchain\", key_env = \"GAS\" }\n[chains.base]\nrpc = \"https://node.example\"",
    ));
    assert_eq!(own(&config).rpc.expose(), "https://node.example");
    let config = with_key(
        "upstream = \"demo\"\n[[routes]]\npath = \"/a\"\nprice = \"$1\"\nnetwork = \"polygon\"\n\
         pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\n\
         facilitator = [{ kind = \"onchain\", network = \"polygon\", rpc = \"https://p.example\", key_env = \"GAS\" }, \"https://f.example\"]\n",
    );
    let names: Vec<&str> = config.facilitators.iter().map(FacilitatorSettings::name).collect();
    assert_eq!(names, ["onchain-polygon", "f.example"]);
    let FacilitatorSettings::Onchain(polygon) = &config.facilitators[0] else { panic!("{names:?}") };
    assert_eq!(polygon.max_fee, 1_000_000_000_000, "a coin that is worth little");
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let complete = format!("{OWN}rpc = \"https://node.example\"\nkey_env = \"GAS\"\n");
    for (lines, message) in [
        (format!("{OWN}key_env = \"GAS\""), "E 6: facilitators.own: has no `rpc`"),
        (format!("{OWN}rpc = \"https://a\""), "E 6: facilitators.own: has no `key_env`"),
        (
            format!("{OWN}rpc = \"http://10.0.0.1\"\nkey_env = \"GAS\""),
            "E 8: facilitators.own.rpc: leads to another machine unencrypted",
        ),
        (
            format!("{OWN}rpc = \"https://a\"\nkey_env = \"SHORT\""),
            "E 9: facilitators.own.key_env: the key cannot be used: it is not 64 hexadecimal digits",
        ),
        (
            format!("{OWN}rpc = \"https://a\"\nkey = \"{KEY}\""),
            "E 9: facilitators.own.key: a secret stands in the file in clear",
        ),
        (
            format!("{complete}url = \"https://a\""),
            "E 10: facilitators.own.url: means nothing with kind = \"onchain\"",
        ),
        (
            format!("{complete}network = \"solana\""),
            "E 10: facilitators.own.network: solana is no EVM network",
        ),
        (
            format!("{complete}confirmations = 0"),
            "E 10: facilitators.own.confirmations: must be from 1 to 1000",
        ),
        (
            format!("{complete}max_fee_gwei = 1"),
            "E 10: facilitators.own.max_fee_gwei: expected a number in quotes",
        ),
        (
            format!("{complete}max_fee_gwei = \"0\""),
            "E 10: facilitators.own.max_fee_gwei: is not an amount of gwei",
        ),
        (
            format!("{complete}max_fee_gwei = \"10000000000\""),
            "E 10: facilitators.own.max_fee_gwei: is more than a million gwei",
        ),
        (
            format!("{complete}low_balance = \"a lot\""),
            "E 10: facilitators.own.low_balance: is not an amount of coins",
        ),
        (
            format!("{complete}wallet_factories = [\"0x12\"]"),
            "E 10: facilitators.own.wallet_factories[0]: is not an address",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nkey_env = \"GAS\"".to_owned(),
            "E 8: facilitators.a.key_env: means nothing with kind = \"http\"",
        ),
        (
            format!("{complete}network = \"polygon\""),
            "E 4: default: own does not settle exact payments in USDC on base",
        ),
        (
            format!(
                "{complete}[[routes]]\npath = \"/a\"\nprice = \"$1\"\nfacilitator = {{ kind = \"onchain\", rpc = \"https://b\", key_env = \"GAS\" }}"
            ),
            "E 13: routes[0].facilitator: another facilitator sends from the same account on the same network",
        ),
    ] {
        let found = messages_with(&selling(&lines), &[("GAS", KEY), ("SHORT", "hunter2")]);
        let errors: Vec<_> = found.iter().filter(|found| found.starts_with('E')).collect();
        assert_eq!(errors.len(), 1, "{lines}: {found:?}");
        assert!(errors[0].starts_with(message), "{lines}: {found:?}");
        assert!(!rendered(&load_with(&selling(&lines), &[("GAS", KEY)]).unwrap_err()).contains(KEY));
    }
}

#[test]
fn only_what_is_settled_here_is_offered_to_others_and_not_to_everybody() {
    let site = "upstream = \"demo\"\n[facilitator_service]\n";
    let config = clean(&format!("{site}listen = \"127.0.0.1:9403\"\nfacilitator = \"sandbox\"\n"));
    let (id, service) = config.facilitator_service.unwrap();
    assert_eq!(config.facilitator_groups[id.0], [0]);
    assert_eq!((service.token, service.body_bytes, service.in_flight), (None, 65_536, 64));
    assert_eq!(clean("upstream = \"demo\"\n").facilitator_service, None, "off by default");
    for (lines, message) in [
        ("facilitator = \"sandbox\"", "E 2: facilitator_service: has no `listen`"),
        ("listen = \"127.0.0.1:9403\"", "E 2: facilitator_service: has no `facilitator`"),
        (
            "listen = \"0.0.0.0:9403\"\nfacilitator = \"sandbox\"",
            "E 2: facilitator_service: has no `token_env`, and 0.0.0.0:9403 is not for this machine alone",
        ),
        (
            "listen = \"127.0.0.1:8402\"\nfacilitator = \"sandbox\"",
            "E 3: facilitator_service.listen: 127.0.0.1:8402 is already listened on",
        ),
        (
            "listen = \"127.0.0.1:9403\"\nfacilitator = \"https://a.example\"",
            "E 4: facilitator_service.facilitator: only what this gateway settles itself can be offered",
        ),
    ] {
        let found = messages(&format!("{site}{lines}\n"));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(found[0].starts_with(message), "{lines}: {found:?}");
    }
}
