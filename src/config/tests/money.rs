//! Prices become exact offers, and offers that nobody could pay are refused.

use serde_json::json;

use super::{BASE, PAYEE, SOLANA_PAYEE, accepts, clean, first_offer, messages};
use crate::policy::{Decision, SettleWhen, V1Mode};

/// A file with one route that has these lines.
fn route(lines: &str) -> String {
    format!("{BASE}[[routes]]\npath = \"/a\"\n{lines}\n")
}

/// A file for real networks with one route that has these lines.
fn mainnet(lines: &str) -> String {
    format!(
        "upstream = \"http://127.0.0.1:8080\"\n\
         pay_to = {{ eip155 = \"{PAYEE}\", solana = \"{SOLANA_PAYEE}\" }}\n\
         [[routes]]\npath = \"/a\"\n{lines}\n"
    )
}

#[test]
fn a_price_is_an_offer_as_it_goes_on_the_wire() {
    let config = clean(&route("price = \"$0.01\""));
    let offer = first_offer(&config);
    let [accept] = offer.accepts.as_slice() else { panic!("{offer:?}") };
    assert_eq!(
        serde_json::to_value(&accept.requirements).unwrap(),
        json!({
            "scheme": "exact",
            "network": "eip155:84532",
            "amount": "10000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": PAYEE,
            "maxTimeoutSeconds": 300,
            "extra": { "name": "USDC", "version": "2" },
        })
    );
    assert_eq!((accept.symbol.as_str(), accept.decimals, accept.v1), ("USDC", 6, true));
    assert_eq!((offer.index, offer.settle, offer.v1), (0, SettleWhen::BeforeResponse, V1Mode::Both));
}

#[test]
fn prices_are_exact_in_every_form() {
    for (price, amount) in [
        ("\"$0.01\"", "10000"),
        ("\"0.01\"", "10000"),
        ("\"0.01 USDC\"", "10000"),
        ("\"0.01 usdc\"", "10000"),
        ("\"$0.01 USDC\"", "10000"),
        ("\"0.0000010\"", "1"),
        ("{ amount = \"7\", asset = \"USDC\" }", "7"),
        ("{ amount = 7 }", "7"),
    ] {
        let accepts = accepts(&route(&format!("price = {price}")));
        assert_eq!(accepts[0].requirements.amount.to_string(), amount, "{price}");
    }
}

#[test]
fn prices_that_are_none_are_refused() {
    for (price, message) in [
        ("\"$0.0000001\"", "more decimals than USDC has (6)"),
        ("\"$0\"", "a price of zero"),
        ("\"-1\"", "a price cannot be negative"),
        ("\"1,50\"", "has a comma"),
        ("\"1e3\"", "\"1e3\" is not a price"),
        ("\"free\"", "\"free\" is not a price"),
        ("\"€1\"", "is in a currency that no asset stands for"),
        ("\"$1 EURC\"", "names dollars and EURC"),
        ("\"0.01 EURC\"", "no asset \"EURC\" is known on base-sepolia"),
        ("0.01", "expected a price in quotes, found a number with a point"),
        ("1", "expected a price in quotes, found a whole number"),
    ] {
        let found = messages(&route(&format!("price = {price}")));
        assert_eq!(found, [format!("E 7: routes[0].price: {message}")], "{price}");
    }
    let table = messages(&route("price = { amount = \"0x10\" }"));
    assert_eq!(
        table,
        ["E 7: routes[0].price.amount: is not a whole number of atomic units in decimal digits"]
    );
    let zero = messages(&route("price = { amount = 0 }"));
    assert_eq!(zero, ["E 7: routes[0].price.amount: a price of zero"]);
    let huge = messages(&route(&format!("price = \"{}\"", "9".repeat(75))));
    assert_eq!(huge, ["E 7: routes[0].price: is more than can be paid"]);
}

#[test]
fn every_pair_of_network_and_asset_that_exists_is_offered_in_order() {
    let text =
        mainnet("networks = [\"celo\", \"solana\", \"base\"]\nasset = [\"USDC\", \"USDT\"]\nprice = \"$1\"");
    let shown: Vec<String> = accepts(&text).iter().map(crate::policy::Accept::price).collect();
    assert_eq!(
        shown,
        [
            "1.00 USDC on celo",
            "1.00 USDT on celo",
            "1.00 USDC on solana",
            "1.00 USDT on solana",
            "1.00 USDC on base"
        ]
    );
    let missing = messages(&mainnet("networks = [\"celo\", \"base\"]\nasset = \"USDT\"\nprice = \"$1\""));
    assert_eq!(missing, ["E 5: routes[0].networks[1]: base has no asset USDT"]);
}

#[test]
fn each_network_pays_its_own_account() {
    let text = format!(
        "upstream = \"demo\"\nnetworks = [\"base\", \"polygon\", \"solana\"]\n\
         [pay_to]\neip155 = \"{}\"\n\"eip155:137\" = \"0x0000000000000000000000000000000000000001\"\n\
         solana = \"{SOLANA_PAYEE}\"\n[[routes]]\npath = \"/a\"\nprice = \"$1\"\n",
        PAYEE.to_lowercase()
    );
    let payees: Vec<String> = accepts(&text).into_iter().map(|accept| accept.requirements.pay_to).collect();
    assert_eq!(payees, [PAYEE, "0x0000000000000000000000000000000000000001", SOLANA_PAYEE]);
}

#[test]
fn who_is_paid_must_be_known_and_right() {
    let text = |pay_to: &str, networks: &str| {
        format!(
            "upstream = \"demo\"\n{pay_to}\nnetworks = [{networks}]\n[[routes]]\npath = \"/\"\nprice = \"$1\"\n"
        )
    };
    for (pay_to, networks, message) in [
        ("", "\"base\"", "E 3: pay_to: missing, so nobody would be paid on base"),
        (
            "pay_to = { solana = \"2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4\" }",
            "\"base\"",
            "E 2: pay_to: says nothing of base, which is one of the networks",
        ),
        (
            "pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"",
            "\"base\", \"solana\"",
            "E 2: pay_to: is not an address of Solana, and solana is one of the networks",
        ),
        (
            "pay_to = \"0x0000000000000000000000000000000000000000\"",
            "\"base\"",
            "E 2: pay_to: is the zero address: what is sent there is lost",
        ),
        (
            "pay_to = \"0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913\"",
            "\"base\"",
            "E 6: routes[0].price: pay_to is the contract of USDC itself: what is sent there is lost",
        ),
        (
            "pay_to = { evm = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\" }",
            "\"base\"",
            "E 2: pay_to.evm: is neither a network nor a kind of networks",
        ),
    ] {
        assert_eq!(messages(&text(pay_to, networks)), [message], "{pay_to}");
    }
}

#[test]
fn a_route_has_terms_of_its_own() {
    let text = route(
        "price = \"0.5\"\nnetwork = \"avalanche-fuji\"\nsettle = \"before-request\"\nmax_timeout_seconds = 60\n\
         pay_to = \"0x0000000000000000000000000000000000000001\"\nv1 = false\ndescription = \"A report\"\n\
         mime_type = \"text/plain\"\nservice_name = \"Reports\"\ntags = [\"a\", \"b\"]\n\
         icon_url = \"https://example.com/i.png?size=1\"\nextensions = { x = { info = { n = 1, f = 1.5, t = 1979-05-27 } } }",
    );
    let offer = first_offer(&clean(&text));
    let terms = &offer.accepts[0].requirements;
    assert_eq!((terms.network.name(), terms.max_timeout_seconds), ("avalanche-fuji", 60));
    assert_eq!(terms.pay_to, "0x0000000000000000000000000000000000000001");
    assert_eq!(terms.extra["paymentFlow"], "upfront");
    assert_eq!(
        (offer.settle, offer.v1, offer.accepts[0].v1),
        (SettleWhen::BeforeRequest, V1Mode::Off, false)
    );
    assert_eq!(offer.resource.description.as_deref(), Some("A report"));
    assert_eq!(offer.resource.tags, ["a", "b"]);
    assert_eq!(offer.extensions["x"], json!({"info": {"n": 1, "f": 1.5, "t": "1979-05-27"}}));
}

#[test]
fn v1_clients_are_shown_one_eip_3009_offer_per_network_they_all_know() {
    let shown =
        |lines: &str| -> Vec<bool> { accepts(&mainnet(lines)).iter().map(|accept| accept.v1).collect() };
    assert_eq!(shown("networks = [\"solana\", \"base\", \"polygon\"]\nprice = \"$1\""), [false, true, false]);
    assert_eq!(shown("networks = [\"celo\", \"base\"]\nv1 = false\nprice = \"$1\""), [false, false]);
    let declared = "asset = [\"USDC\", \"EURC\"]\nnetwork = \"base\"\nprice = \"1\"\n[assets.EURC]\nnetwork = \"base\"\n\
        address = \"0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42\"\ndecimals = 6\nname = \"EURC\"\nversion = \"2\"";
    assert_eq!(shown(declared), [true, false], "a v1 payment names no asset");
    let only = messages(&mainnet("network = \"solana\"\nv1 = \"only\"\nprice = \"$1\""));
    assert_eq!(
        only,
        ["E 6: routes[0].v1: is \"only\", and nothing that is offered can be paid by v1 clients"]
    );
    let polygon =
        format!("v1_networks = [\"polygon\"]\n{}", mainnet("network = \"polygon\"\nprice = \"$1\""));
    assert!(accepts(&polygon)[0].v1);
    let unknown = messages(&format!("v1_networks = [\"celo\", \"solana\"]\n{BASE}"));
    assert_eq!(
        unknown,
        [
            "E 1: v1_networks[0]: v1 clients do not know celo",
            "W 1: v1_networks[1]: nothing on solana is shown to v1 clients"
        ]
    );
}

#[test]
fn ways_to_pay_can_be_written_out() {
    let text = mainnet(
        r#"accepts = [
  { network = "base", price = "$0.01" },
  { network = "solana", asset = "USDC", price = "0.009", extra = { memo = "order" } },
  { network = "eip155:999999", asset = "0x0000000000000000000000000000000000000002", amount = "5",
    extra = { name = "X", version = "1" }, facilitator = "https://pay.example.com" },
  { network = "cloudflare:402", scheme = "batch-settlement", asset = "USD", amount = "5", pay_to = "acct:me",
    facilitator = "https://pay.example.com", max_timeout_seconds = 600, extra = { limit = 3 } },
]"#,
    );
    let accepts = accepts(&text);
    let terms: Vec<_> =
        accepts.iter().map(|accept| serde_json::to_value(&accept.requirements).unwrap()).collect();
    assert_eq!(terms[0]["amount"], "10000");
    assert_eq!((&terms[1]["amount"], &terms[1]["extra"]), (&json!("9000"), &json!({"memo": "order"})));
    assert_eq!(
        (&terms[2]["amount"], &terms[2]["extra"]),
        (&json!("5"), &json!({"name": "X", "version": "1"}))
    );
    assert_eq!(
        terms[3],
        json!({"scheme": "batch-settlement", "network": "cloudflare:402", "amount": "5", "asset": "USD",
               "payTo": "acct:me", "maxTimeoutSeconds": 600, "extra": {"limit": 3}})
    );
    assert_eq!(accepts.iter().map(|accept| accept.v1).collect::<Vec<_>>(), [true, false, false, false]);
}

#[test]
fn ways_to_pay_that_nobody_could_use_are_refused() {
    let long = "x".repeat(257);
    let memo = format!("{{ network = \"solana\", price = \"1\", extra = {{ memo = \"{long}\" }} }}");
    for (entry, message) in [
        ("{ network = \"base\" }", "has neither `price` nor `amount`"),
        ("{ price = \"1\" }", "network: missing, so nobody could pay"),
        (memo.as_str(), "`extra.memo` has 257 bytes, 256 are allowed"),
        (
            "{ network = \"base\", price = \"1\", extra = { assetTransferMethod = \"default\" } }",
            "`extra.assetTransferMethod` cannot be \"default\"",
        ),
        (
            "{ network = \"base\", price = \"1\", extra = { paymentFlow = \"upfront\" } }",
            "`extra.paymentFlow` is set by `settle`",
        ),
        (
            "{ network = \"base\", asset = \"0x0000000000000000000000000000000000000002\", amount = \"1\" }",
            "the token's name and version are not known, without which nobody can sign a payment",
        ),
        ("{ network = \"solana\", price = \"99999999999999\" }", "is more than a Solana token can have"),
        (
            "{ network = \"eip155:999999\", amount = \"1\" }",
            "has no `asset`, and eip155:999999 has no default one",
        ),
    ] {
        let found =
            messages(&mainnet(&format!("accepts = [ {entry} ]\nfacilitator = \"https://pay.example.com\"")));
        assert_eq!(found.len(), 1, "{entry}: {found:?}");
        assert!(found[0].ends_with(message), "{entry}: {found:?}");
    }
    let unknown =
        "{ network = \"base\", asset = \"0x0000000000000000000000000000000000000002\", price = \"1\" }";
    assert_eq!(
        messages(&mainnet(&format!("accepts = [ {unknown} ]"))),
        ["E 5: routes[0].accepts[0].asset: has decimals that the gateway does not know"]
    );
    assert_eq!(
        messages(&mainnet("accepts = []")),
        ["E 5: routes[0].accepts: is an empty list, so nobody could pay"]
    );
    let twice = messages(&mainnet(
        "accepts = [ { network = \"base\", price = \"1\" }, { network = \"base\", amount = 1000000 } ]",
    ));
    assert_eq!(twice, ["E 5: routes[0].accepts[1]: is the same way to pay as an entry before it"]);
}

#[test]
fn tokens_can_be_declared() {
    let eurc = "[assets.EURC]\nnetwork = \"base\"\naddress = \"0x60a3e35cc302bfa44cb288bc5a4f316fdb1adb42\"\ndecimals = 6\n";
    let domain = "name = \"EURC\"\nversion = \"2\"\n";
    let lines = format!("network = \"base\"\nprice = \"0.5 EURC\"\n{eurc}{domain}");
    let terms = accepts(&mainnet(&lines))[0].requirements.clone();
    assert_eq!(
        (terms.asset.as_str(), terms.extra["name"].as_str()),
        ("0x60a3E35Cc302bFA44Cb288Bc5a4F316Fdb1adb42", Some("EURC"))
    );
    let dollars = messages(&mainnet(&lines.replace("0.5 EURC\"", "$0.5\"\nasset = \"EURC\"")));
    assert_eq!(
        dollars,
        ["W 6: routes[0].price: is charged as that many EURC, which may not be worth a dollar each"]
    );
    let permit2 = format!("network = \"base\"\nprice = \"0.5 EURC\"\n{eurc}method = \"permit2\"\n");
    assert_eq!(
        serde_json::Value::Object(accepts(&mainnet(&permit2))[0].requirements.extra.clone()),
        json!({"assetTransferMethod": "permit2"})
    );
    let nameless = messages(&mainnet(&format!("network = \"base\"\nprice = \"0.5 EURC\"\n{eurc}")));
    assert_eq!(
        nameless,
        ["E 7: assets.EURC: has no `name` and `version`, without which nobody can sign a payment"]
    );
    let wrong =
        mainnet(&format!("network = \"base\"\nprice = \"$1\"\n{}{domain}", eurc.replace("EURC", "USDC")));
    assert_eq!(messages(&wrong).len(), 1, "another token of a known name: {:?}", messages(&wrong));
}

#[test]
fn a_payment_must_live_long_enough_to_be_used() {
    let text = route("price = \"$1\"\nmax_timeout_seconds = 25");
    let found = messages(&text);
    assert!(
        found[0].starts_with("E 8: routes[0].max_timeout_seconds: too short, every payment would be refused"),
        "{found:?}"
    );
    assert_eq!(accepts(&text.replace("25", "26"))[0].requirements.max_timeout_seconds, 26);
    let slow = messages(&route("price = \"$1\"\n[limits]\norigin_time_seconds = 400"));
    assert!(slow[0].contains("max_timeout_seconds: 300, the default, is too short"), "{slow:?}");
}

#[test]
fn the_sandbox_never_takes_signatures_that_are_worth_money() {
    for network in ["base", "eip155:999999"] {
        let found = messages(&route(&format!(
            "price = \"$1\"\nnetwork = \"{network}\"\nasset = \"T\"\n[assets.T]\nnetwork = \"{network}\"\n\
            address = \"0x0000000000000000000000000000000000000002\"\ndecimals = 6\nname = \"T\"\nversion = \"1\""
        )));
        let expected = format!(
            "routes[0].network: the sandbox cannot be used with {network}, where signatures are worth real money"
        );
        assert!(found.iter().any(|message| message.ends_with(&expected)), "{found:?}");
    }
    let text = format!(
        "upstream = \"demo\"\npay_to = \"{SOLANA_PAYEE}\"\nnetwork = \"solana-devnet\"\nfacilitator = \"sandbox\"\ndefault = \"$1\"\n"
    );
    let found = messages(&text);
    assert_eq!(
        found,
        ["E 5: default: the sandbox does not understand exact payments in USDC on solana-devnet"]
    );
}

#[test]
fn requests_are_named_where_the_file_or_the_route_says_so() {
    use crate::x402::identifier::{PAYMENT_IDENTIFIER, advertised};
    let advertises = |top: &str, lines: &str| {
        let offer = first_offer(&clean(&format!("{top}{}", route(&format!("price = \"$1\"\n{lines}")))));
        (offer.extensions.get(PAYMENT_IDENTIFIER).cloned(), offer.accepts[0].v1)
    };
    let file = "payment_identifier = \"optional\"\n";
    assert_eq!(advertises("", ""), (None, true));
    assert_eq!(advertises(file, ""), (Some(advertised(false)), true));
    assert_eq!(advertises(file, "payment_identifier = \"none\""), (None, true));
    let required = "payment_identifier = \"required\"";
    assert_eq!(advertises("", required), (Some(advertised(true)), false), "v1 payments cannot name anything");
    assert_eq!(advertises(file, required), (Some(advertised(true)), false));
    let beside = "payment_identifier = \"required\"\nextensions = { x = { info = {} } }";
    let offer = first_offer(&clean(&route(&format!("price = \"$1\"\n{beside}"))));
    assert_eq!(offer.extensions.keys().collect::<Vec<_>>(), ["payment-identifier", "x"]);
    // Written by hand it is as good.
    let own = "extensions = { payment-identifier = { info = { required = true } } }";
    assert_eq!(advertises("", own).0, Some(json!({"info": {"required": true}})));
}

#[test]
fn mistakes_in_naming_requests_are_told() {
    let own = "extensions = { payment-identifier = { info = { required = true } } }";
    for (top, lines, message) in [
        ("", "payment_identifier = \"yes\"", "E 8: routes[0].payment_identifier: unknown value \"yes\""),
        (
            "payment_identifier = \"optional\"\n",
            own,
            "E 9: routes[0].extensions.payment-identifier: is what the key `payment_identifier` advertises",
        ),
        (
            "",
            "v1 = \"only\"\npayment_identifier = \"required\"",
            "E 8: routes[0].v1: is \"only\", and nothing that is offered can be paid by v1 clients",
        ),
    ] {
        let text = format!("{top}{}", route(&format!("price = \"$1\"\n{lines}")));
        assert_eq!(messages(&text), [message], "{text}");
    }
    let free = route("free = true\npayment_identifier = \"optional\"");
    assert_eq!(messages(&free), ["W 8: routes[0].payment_identifier: has no effect on a free route"]);
}

#[test]
fn large_offers_are_warned_of() {
    let found = messages(&route(&format!(
        "price = \"$1\"\nextensions = {{ x = {{ info = {{ a = \"{}\" }} }} }}",
        "y".repeat(7000)
    )));
    assert_eq!(found.len(), 1);
    assert!(
        found[0]
            .starts_with("W 7: routes[0].price: the 402 has a PAYMENT-REQUIRED header of about 9960 bytes"),
        "{found:?}"
    );
}

#[test]
fn what_is_sold_has_limits() {
    for (lines, message) in [
        (
            "service_name = \"0123456789012345678901234567890123\"",
            "routes[0].service_name: has 34 characters, 32 are allowed",
        ),
        ("service_name = \"Bücher\"", "routes[0].service_name: has characters outside printable ASCII"),
        ("tags = [\"a\", \"b\", \"c\", \"d\", \"e\", \"f\"]", "routes[0].tags: has 6 entries, 5 are allowed"),
        ("tags = [1]", "routes[0].tags[0]: expected text in quotes, found a whole number"),
        ("icon_url = \"ftp://a\"", "routes[0].icon_url: is not an http or https URL"),
        ("mime_type = \"json\"", "routes[0].mime_type: is not a media type"),
        ("extensions = { x = 1 }", "routes[0].extensions.x: an extension is a table"),
        ("extensions = { x = { a = inf } }", "routes[0].extensions.x.a: is a number that JSON does not have"),
    ] {
        assert_eq!(
            messages(&route(&format!("price = \"$1\"\n{lines}"))),
            [format!("E 8: {message}")],
            "{lines}"
        );
    }
}

#[test]
fn what_matches_no_route_is_free_denied_or_priced() {
    let default = |line: &str| clean(&format!("{BASE}{line}")).routes.default().decision.clone();
    assert_eq!((default(""), default("default = \"free\"")), (Decision::Free, Decision::Free));
    assert_eq!(default("default = \"deny\""), Decision::Deny);
    let Decision::Paid(offer) = default("default = \"$2\"") else { panic!("not priced") };
    assert_eq!(offer.price(), "2.00 USDC on base-sepolia");
}
