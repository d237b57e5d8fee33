//! Listeners, TLS, facilitators, secrets and limits.

use std::time::Duration;

use base64::Engine as _;

use super::{BASE, clean, first_offer, load_with, messages, messages_with, rendered};
use crate::config::{Addresses, Config, parse, parse_at};
use crate::facilitator::settings::{Auth, FacilitatorSettings, HttpSettings};
use crate::proxy::settings::Cors;

const SITE: &str = "upstream = \"demo\"\n";

/// A site that sells something, on a network.
fn selling(network: &str, lines: &str) -> String {
    format!(
        "upstream = \"demo\"\npay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"\n\
         network = \"{network}\"\ndefault = \"$1\"\n{lines}\n"
    )
}

fn cdp_key() -> String {
    let seed = [7u8; 32];
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = ring::signature::KeyPair::public_key(&pair).as_ref();
    base64::engine::general_purpose::STANDARD.encode([&seed, public].concat())
}

fn http(config: &Config) -> &HttpSettings {
    match config.facilitators.as_slice() {
        [FacilitatorSettings::Http(http)] => http,
        other => panic!("{other:?}"),
    }
}

#[test]
fn listeners_are_addresses_that_can_be_told_apart() {
    let config = clean("upstream = \"demo\"\nlisten = [\"127.0.0.1:80\", \"[::1]:80\"]\n");
    assert_eq!((config.listeners.len(), config.public_url.as_str()), (2, "http://127.0.0.1"));
    for (line, message) in [
        ("listen = \"8402\"", "E 2: listen: is not an IP address and a port"),
        ("listen = \":8402\"", "E 2: listen: is not an IP address and a port"),
        ("listen = \"127.0.0.1:0\"", "E 2: listen: port 0 is not a port clients can connect to"),
        ("listen = []", "E 2: listen: is an empty list"),
        (
            "listen = [\"127.0.0.1:80\", \"127.0.0.1:80\"]",
            "E 2: listen[1]: 127.0.0.1:80 is already listened on",
        ),
        (
            "listen = [\"127.0.0.1:80\", \"0.0.0.0:80\"]",
            "E 2: listen[1]: 127.0.0.1:80 and 0.0.0.0:80 are the same port",
        ),
        (
            "listen = \"127.0.0.1:80\"\n[[listeners]]\naddress = \"127.0.0.1:81\"",
            "E 3: listeners: stands next to `listen`",
        ),
        ("[[listeners]]\nh2c = true", "E 2: listeners[0]: has no address"),
        (
            "listen = \"127.0.0.1:9402\"",
            "E 0: admin.listen: the private address 127.0.0.1:9402 is also that of a listener, 127.0.0.1:9402",
        ),
        ("[admin]\nlisten = true", "E 3: admin.listen: expected an address in quotes or false, found true"),
        (
            "listen = \"0.0.0.0:80\"",
            "W 0: public_url: not set, so clients are told that they pay for http://0.0.0.0/…",
        ),
        ("public_url = \"https://a/b\"", "E 2: public_url: has a path, \"/b\""),
        ("public_url = \"ftp://a\"", "E 2: public_url: is not an http or https URL"),
        ("public_url = \"https://me@a\"", "E 2: public_url: has user information before the host"),
        ("public_url = \"a.example\"", "E 2: public_url: is not a URL"),
    ] {
        assert_eq!(messages(&format!("{SITE}{line}\n")), [message], "{line}");
    }
    assert_eq!(clean(&format!("{SITE}[admin]\nlisten = false\n")).admin, None);
    assert_eq!(
        clean(&format!("{SITE}public_url = \"HTTPS://A.example:443/\"\n")).public_url,
        "https://a.example"
    );
}

#[test]
fn a_process_may_listen_elsewhere_than_its_file_says() {
    let at = |text: &str, listen: &[&str], admin: Option<&str>| {
        let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
        let admin = admin.map(|text| text.parse().unwrap());
        parse_at(text, "gateway.toml", &|_| None, &Addresses { listen, admin })
    };
    let told = |text: &str, listen: &[&str], admin: Option<&str>| {
        let all = at(text, listen, admin).unwrap_err();
        all.iter().map(|one| one.message.clone()).collect::<Vec<_>>()
    };
    let written = "upstream = \"demo\"\nlisten = \"127.0.0.1:80\"\npublic_url = \"https://a.example\"\n";
    let (config, warnings) = at(written, &["127.0.0.1:81", "[::1]:82"], Some("127.0.0.1:83")).unwrap();
    assert!(warnings.is_empty(), "{}", rendered(&warnings));
    let listens: Vec<String> = config.listeners.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(listens, ["127.0.0.1:81", "[::1]:82"]);
    assert_eq!(
        (config.admin, config.public_url.as_str()),
        ("127.0.0.1:83".parse().ok(), "https://a.example")
    );
    // What a process is not told it has from the file.
    let (config, _) = at(written, &[], Some("127.0.0.1:83")).unwrap();
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:80");
    let (config, _) = at(&format!("{written}[admin]\nlisten = false\n"), &["127.0.0.1:81"], None).unwrap();
    assert_eq!(config.admin, None);
    let off = format!("{written}[admin]\nlisten = false\n");
    assert_eq!(at(&off, &[], Some("127.0.0.1:83")).unwrap().0.admin, "127.0.0.1:83".parse().ok());
    // Nothing is forwarded to the gateway itself.
    let looped = "upstream = \"http://127.0.0.1:81\"\npublic_url = \"https://a.example\"\n";
    assert!(at(looped, &[], None).is_ok());
    assert_eq!(told(looped, &["127.0.0.1:81"], None).len(), 1);
    let tls = "upstream = \"demo\"\n[[listeners]]\naddress = \"127.0.0.1:80\"\n";
    assert_eq!(
        told(tls, &["127.0.0.1:81"], None),
        ["--listen: stands in for `listen`, and this file has [[listeners]]"]
    );
    assert_eq!(
        told(SITE, &["127.0.0.1:81", "0.0.0.0:81"], None),
        ["--listen: 0.0.0.0:81 is already listened on"]
    );
    assert_eq!(
        told(SITE, &["127.0.0.1:81"], Some("127.0.0.1:81")),
        ["--admin: the private address 127.0.0.1:81 is also that of a listener, 127.0.0.1:81"]
    );
    assert!(told("listen = \"x\"\nupstream = \"demo\"", &["127.0.0.1:81"], None)[0].starts_with("listen: "));
}

#[test]
fn certificates_are_read_while_the_configuration_loads() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    for name in ["one", "two"] {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.example")]).unwrap();
        write(&format!("{name}.pem"), &made.cert.pem());
        write(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }
    write("empty.pem", "nothing");
    let file = folder.path().join("gateway.toml");
    let load = |cert: &str, key: &str, more: &str| {
        let text = format!(
            "{SITE}[[listeners]]\naddress = \"127.0.0.1:443\"\n{more}tls = [{{ cert = \"{cert}\", key = \"{key}\" }}]\n"
        );
        parse(&text, &file.display().to_string(), &|_| None)
    };
    let (config, _) = load("one.pem", "one.key", "").unwrap();
    assert_eq!(config.listeners[0].tls[0].cert, folder.path().join("one.pem"), "relative to the file");
    assert_eq!(config.public_url, "https://127.0.0.1");
    for (cert, key, more, message) in [
        ("one.pem", "two.key", "", "is not the key of"),
        ("empty.pem", "one.key", "", "has no certificate that can be read"),
        ("one.pem", "empty.pem", "", "has no private key that can be read"),
        ("gone.pem", "one.key", "", "there is no such file"),
        (".", "one.key", "", "is a folder"),
        ("one.pem", "one.key", "h2c = true\n", "stands next to `h2c = true`, which is HTTP/2 without TLS"),
    ] {
        let shown = rendered(&load(cert, key, more).unwrap_err());
        assert!(shown.contains(message), "{cert} {key}: {shown}");
    }
}

#[test]
fn the_default_facilitator_depends_on_network_and_environment() {
    assert_eq!(http(&clean(&selling("base", ""))).url, "https://facilitator.payai.network");
    assert_eq!(http(&clean(&selling("base-sepolia", ""))).url, "https://x402.org/facilitator");
    let key = cdp_key();
    let env = [("CDP_API_KEY_ID", "id"), ("CDP_API_KEY_SECRET", key.as_str())];
    let (config, warnings) = load_with(&selling("base", ""), &env).unwrap();
    assert!(warnings.is_empty(), "{}", rendered(&warnings));
    assert_eq!(
        (http(&config).name.as_str(), http(&config).url.as_str()),
        ("cdp", "https://api.cdp.coinbase.com/platform/v2/x402")
    );
    assert!(matches!(&http(&config).auth, Auth::Cdp { key_id, .. } if key_id == "id"));
    let (named, _) = load_with(&selling("base", "facilitator = \"cdp\""), &env).unwrap();
    assert_eq!(named.facilitators, config.facilitators);
    let unset = messages(&selling("base", "facilitator = \"cdp\""));
    assert_eq!(unset, ["E 5: facilitator: Coinbase's facilitator needs a key"]);
    let half = messages_with(&selling("base", ""), &env[..1]);
    assert_eq!(
        half,
        [
            "W 0: facilitator: CDP_API_KEY_ID is set and CDP_API_KEY_SECRET is not, so Coinbase's facilitator is not used"
        ]
    );
    let bad = messages_with(&selling("base", ""), &[env[0], ("CDP_API_KEY_SECRET", "hunter2")]);
    assert!(
        bad[0].starts_with("E 3: facilitator: the key in CDP_API_KEY_SECRET cannot be used: "),
        "{bad:?}"
    );
    assert!(!bad[0].contains("hunter2"));
    let text = selling(
        "eip155:999999",
        "asset = \"T\"\n[assets.T]\nnetwork = \"eip155:999999\"\n\
        address = \"0x0000000000000000000000000000000000000002\"\ndecimals = 6\nname = \"T\"\nversion = \"1\"",
    );
    let unknown = messages(&text.replace("$1", "1"));
    assert_eq!(unknown, ["E 3: facilitator: missing; there is no default for eip155:999999"]);
}

#[test]
fn facilitators_stand_in_for_each_other_in_the_order_written() {
    let config = clean(&selling(
        "base",
        "facilitator = [\"https://a.example/x402/\", \"own\"]\n[facilitators.own]\nurl = \"https://b.example\"\nverify_timeout_ms = 1\n\
         settle_timeout_ms = 2\nsupported_ttl_seconds = 3",
    ));
    assert_eq!(config.facilitator_groups, [vec![0, 1]]);
    let [FacilitatorSettings::Http(first), FacilitatorSettings::Http(own)] = config.facilitators.as_slice()
    else {
        panic!("{:?}", config.facilitators);
    };
    assert_eq!((first.name.as_str(), first.url.as_str()), ("a.example", "https://a.example/x402"));
    assert_eq!(
        (own.name.as_str(), own.verify_timeout, own.settle_timeout),
        ("own", Duration::from_millis(1), Duration::from_millis(2))
    );
    assert_eq!(own.supported_ttl, Duration::from_secs(3));
    let same_host =
        clean(&selling("base", "facilitator = [\"https://a.example/one\", \"https://a.example/two\"]"));
    let names = same_host.facilitators.iter().map(FacilitatorSettings::name);
    assert_eq!(names.collect::<Vec<_>>(), ["a.example", "https://a.example/two"]);
}

#[test]
fn facilitators_that_cannot_be_meant_are_refused() {
    for (lines, message) in [
        ("facilitator = \"sandbx\"", "E 5: facilitator: no facilitator is named \"sandbx\""),
        (
            "facilitator = \"http://10.0.0.1\"",
            "E 5: facilitator: payments would go to another machine unencrypted",
        ),
        ("facilitator = \"ftp://a\"", "E 5: facilitator: has the unknown scheme \"ftp\""),
        (
            "facilitator = [\"sandbox\", \"https://a\"]",
            "E 5: facilitator: the sandbox cannot stand in for another facilitator",
        ),
        ("facilitator = [\"https://a\", \"https://a/\"]", "E 5: facilitator[1]: is named twice"),
        (
            "[facilitators.sandbox]\nurl = \"https://a\"",
            "E 5: facilitators.sandbox: cannot be the name of a facilitator",
        ),
        ("[facilitators.a]\nauth = { kind = \"none\" }", "E 5: facilitators.a: has no `url`"),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"header\", name = \"Host\", value_env = \"V\" }",
            "E 8: facilitators.a.auth.name: is a header the gateway sets itself",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\", token_env = \"V\", name = \"X\" }",
            "E 8: facilitators.a.auth.name: means nothing with kind = \"bearer\"",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\", token_env = \"V\", token_file = \"f\" }",
            "E 8: facilitators.a.auth.token_file: is one of several places for one secret",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\" }",
            "E 8: facilitators.a.auth: has no `token_env`",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\", token_env = \"W\" }",
            "E 8: facilitators.a.auth.token_env: the environment variable W is not set",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\", token_env = \"EMPTY\" }",
            "E 8: facilitators.a.auth.token_env: the environment variable EMPTY is empty",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"bearer\", token_file = \"gone\" }",
            "E 8: facilitators.a.auth.token_file: cannot read gone: there is no such file",
        ),
        (
            "facilitator = \"a\"\n[facilitators.a]\nurl = \"https://a\"\nauth = { kind = \"cdp\", key_id = \"k\", secret_env = \"V\" }",
            "E 8: facilitators.a.auth.secret_env: the key cannot be used",
        ),
    ] {
        let found = messages_with(&selling("base-sepolia", lines), &[("V", "v"), ("EMPTY", " ")]);
        let errors: Vec<_> = found.iter().filter(|found| found.starts_with('E')).collect();
        assert_eq!(errors.len(), 1, "{lines}: {found:?}");
        assert!(errors[0].starts_with(message), "{lines}: {found:?}");
    }
}

#[test]
fn secrets_come_from_the_environment_from_files_or_if_insisted_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token.txt"), "from-file\n").unwrap();
    let file = folder.path().join("gateway.toml").display().to_string();
    let token = |auth: &str, more: &str| {
        let text = selling(
            "base",
            &format!(
                "facilitator = \"a\"\n{more}\n[facilitators.a]\nurl = \"http://10.0.0.1\"\ninsecure = true\nauth = {{ {auth} }}"
            ),
        );
        let env = |name: &str| (name == "TOKEN").then(|| "from-env\n".to_owned());
        parse(&text, &file, &env).map(|(config, _)| http(&config).auth.clone()).map_err(|all| rendered(&all))
    };
    for (auth, more, expected) in [
        ("kind = \"bearer\", token_env = \"TOKEN\"", "", "from-env"),
        ("kind = \"bearer\", token_file = \"token.txt\"", "", "from-file"),
        ("kind = \"bearer\", token = \"in-clear\"", "allow_plaintext_secrets = true", "in-clear"),
    ] {
        let Ok(Auth::Bearer(secret)) = token(auth, more) else { panic!("{:?}", token(auth, more)) };
        assert_eq!(secret.expose(), expected);
    }
    let Ok(Auth::Header { name, value }) =
        token("kind = \"header\", name = \"X-Key\", value_env = \"TOKEN\"", "")
    else {
        panic!("no header");
    };
    assert_eq!((name.as_str(), value.expose().as_str()), ("x-key", "from-env"));
    assert!(
        token("kind = \"bearer\", token = \"in-clear\"", "")
            .unwrap_err()
            .contains("a secret stands in the file in clear")
    );
    assert!(matches!(token("kind = \"none\"", ""), Ok(Auth::None)));
}

#[test]
fn coinbases_facilitator_needs_no_url() {
    let text = selling(
        "base",
        "facilitator = \"cdp\"\n[facilitators.cdp]\nauth = { kind = \"cdp\", key_id_env = \"ID\", secret_env = \"KEY\" }",
    );
    let key = cdp_key();
    let (config, _) = load_with(&text, &[("ID", "id"), ("KEY", &key)]).unwrap();
    assert_eq!(http(&config).url, "https://api.cdp.coinbase.com/platform/v2/x402");
    assert!(!format!("{config:?}").contains(&key), "secrets do not print");
}

#[test]
fn a_facilitator_for_test_networks_is_warned_of_on_others() {
    let found = messages(&selling("base", "facilitator = \"https://x402.org/facilitator\""));
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("W 3: network: x402.org settles on test networks only, and base is none"),
        "{found:?}"
    );
}

#[test]
fn limits_have_sound_defaults_and_bounds() {
    let lines = "[limits]\nheader_timeout_ms = 5\nverify_in_flight = 7\norigin_time_seconds = 1\n";
    let config = clean(&format!("{BASE}{lines}"));
    assert_eq!(
        (config.limits.header_timeout, config.verify_in_flight, config.origin_time_seconds),
        (Duration::from_millis(5), 7, 1)
    );
    for (line, message) in [
        ("header_bytes = 100", "E 6: limits.header_bytes: must be from 1024 to 1048576"),
        ("read_timeout_ms = 0", "E 6: limits.read_timeout_ms: must be from 1 to 3600000"),
        ("verify_in_flight = -1", "E 6: limits.verify_in_flight: must be from 1 to 1000000"),
        (
            "min_body_rate = 1.5",
            "E 6: limits.min_body_rate: expected a whole number, found a number with a point",
        ),
        (
            "payment_header_bytes = 100000",
            "E 6: limits.payment_header_bytes: a payment header of 100000 bytes does not fit into a head of 65536",
        ),
    ] {
        assert_eq!(messages(&format!("{BASE}[limits]\n{line}\n")), [message], "{line}");
    }
}

#[test]
fn cors_log_and_sandbox_are_read() {
    let cors = |value: &str| clean(&format!("{SITE}[cors]\nallow_origins = {value}\n")).cors;
    assert_eq!((cors("[\"*\"]"), cors("[]")), (Cors::Any, Cors::Off));
    assert_eq!(cors("\"https://App.example:443\""), Cors::Origins(vec!["https://app.example".into()]));
    let config =
        clean(&format!("{SITE}[log]\nformat = \"json\"\nlevel = \"debug\"\n[sandbox]\nbalance = \"5\"\n"));
    assert_eq!((config.log.json, config.log.level), (true, tracing::Level::DEBUG));
    assert_eq!(config.sandbox_balance.to_atomic(6).unwrap().to_string(), "5000000");
    for (lines, message) in [
        (
            "[cors]\nallow_origins = [\"*\", \"https://a\"]",
            "E 3: cors.allow_origins[0]: \"*\" stands next to other origins",
        ),
        ("[cors]\nallow_origins = \"https://a/b\"", "E 3: cors.allow_origins: is not an origin"),
        ("[log]\nlevel = \"loud\"", "E 3: log.level: unknown value \"loud\""),
        (
            "[sandbox]\nbalance = \"1 USDC\"",
            "E 3: sandbox.balance: names an asset; it is given in every test asset",
        ),
        ("[sandbox]\nbalance = \"$0\"", "E 3: sandbox.balance: is not an amount tokens can have"),
    ] {
        assert_eq!(messages(&format!("{SITE}{lines}\n")), [message], "{lines}");
    }
}

#[test]
fn one_offer_per_priced_route_is_numbered_in_order() {
    let config = clean(&format!(
        "{BASE}default = \"$3\"\n[[routes]]\npath = \"/a\"\nprice = \"$1\"\n[[routes]]\npath = \"/b\"\nprice = \"$2\"\n"
    ));
    assert_eq!(first_offer(&config).index, 0);
    let indexes: Vec<_> = config
        .routes
        .routes()
        .chain([config.routes.default()])
        .map(|route| route.offer().unwrap().index)
        .collect();
    assert_eq!(indexes, [0, 1, 2]);
    assert_eq!((config.facilitators.len(), config.facilitator_groups.len()), (1, 1));
}
