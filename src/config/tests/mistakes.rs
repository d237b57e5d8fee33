//! Mistakes are told all at once, each at its place and with what mends it.

use proptest::prelude::*;

use super::{BASE, clean, load, messages, rendered};
use crate::config::keys::{Inner, Key, TOP, Table};

/// A file with one mistake of each common kind.
const MANY: &str = r#"listen = "localhost:8402"
uptream = "http://127.0.0.1:8080"
pay_to = "0x209693bc6afc0C5328bA36FaF03C514EF312287C"
network = "bass"
facilitator = "http://pay.example.com"
default = "fre"
settle = "before"
max_timeout_seconds = "300"

[[routes]]
path = "articles/*"
price = 0.01

[[routes]]
path = "/reports/*"
price = "$0,01"
fee = true

[[routes]]
path = "/free"
free = true
deny = true

[limits]
header_bytes = 12

[log]
level = "verbose"

[upstreams.api]
url = "https://api.example.com/v1"
ca_file = "missing.pem"
"#;

#[test]
fn a_file_with_many_mistakes_tells_them_all_at_once() {
    assert_eq!(
        messages(MANY),
        [
            "E 1: listen: is not an IP address and a port",
            "E 2: unknown key `uptream` at the top of the file",
            "E 3: pay_to: has a wrong checksum, so at least one character is not the one that was meant",
            "E 4: network: unknown network \"bass\"",
            "E 5: facilitator: payments would go to another machine unencrypted",
            "E 6: default: \"fre\" is not a price",
            "E 7: settle: unknown value \"before\"",
            "E 8: max_timeout_seconds: expected a whole number, found a text",
            "E 11: routes[0].path: a path pattern begins with `/`",
            "E 12: routes[0].price: expected a price in quotes, found a number with a point",
            "E 16: routes[1].price: has a comma",
            "E 17: unknown key `fee` in [[routes]]",
            "E 22: routes[2].deny: contradicts `free`",
            "E 25: limits.header_bytes: must be from 1024 to 1048576",
            "E 28: log.level: unknown value \"verbose\"",
            "W 30: upstreams.api: no route uses this upstream",
            "E 31: upstreams.api.url: has a path, \"/v1\"",
            "E 32: upstreams.api.ca_file: cannot read missing.pem: there is no such file",
            "E 0: upstream: missing, so nothing could be forwarded",
        ]
    );
}

#[test]
fn a_mistake_is_told_with_its_line_and_what_mends_it() {
    let text = format!("{BASE}[[routes]]\npath = \"/a\"\nprice = \"$0.0000001\"\n");
    assert_eq!(
        rendered(&load(&text).unwrap_err()),
        r#"error: routes[0].price: more decimals than USDC has (6)
 --> gateway.toml:7:9
  |
7 | price = "$0.0000001"
  |         ^^^^^^^^^^^^
  = help: the smallest price in USDC is 0.000001
"#
    );
    let text = format!("{BASE}[limits]\nheadr_bytes = 1\n");
    assert_eq!(
        rendered(&load(&text).unwrap_err()),
        "error: unknown key `headr_bytes` in [limits]
 --> gateway.toml:6:1
  |
6 | headr_bytes = 1
  | ^^^^^^^^^^^
  = help: did you mean `header_bytes`?
"
    );
    let text = BASE.replace("9693Bc", "9693bc");
    assert_eq!(
        rendered(&load(&text).unwrap_err()),
        r#"error: pay_to: has a wrong checksum, so at least one character is not the one that was meant
 --> gateway.toml:2:10
  |
2 | pay_to = "0x209693bc6afc0C5328bA36FaF03C514EF312287C"
  |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: compare it with your wallet; if every digit is right, write "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
"#
    );
}

#[test]
fn a_mistake_inside_a_path_is_marked_where_it_is() {
    let text = format!("{BASE}[[routes]]\nfree = true\npath = \"/a/:id\"\n");
    let diagnostics = load(&text).unwrap_err();
    let place = diagnostics[0].place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (7, 12), "{}", rendered(&diagnostics));
}

#[test]
fn unknown_keys_are_sent_where_they_belong() {
    for (text, help) in [
        ("[limits]\npay_to = \"0x\"", "`pay_to` belongs at the top of the file, before the first [table]"),
        ("price = \"$1\"", "`price` is a key of [[routes]]"),
        ("[cors]\nallowed_origins = []", "did you mean `allow_origins`?"),
        ("[admin]\ncolour = 1", "the keys are listen"),
        ("[[routes]]\npath = \"/\"\nfree = true\nAccepts = []", "did you mean `accepts`?"),
    ] {
        let diagnostics = load(&format!("{BASE}{text}\n")).unwrap_err();
        assert_eq!(diagnostics[0].help, help, "{text}");
    }
}

#[test]
fn syntax_errors_are_told_in_the_operators_words_and_without_conclusions() {
    for (text, expected) in [
        ("price = $0.01", "E 5: text must stand in quotes"),
        ("default = ", "E 5: a value is missing"),
        ("listen", "E 5: a key without a value"),
        ("network = \"base\"", "E 5: `network` is written twice"),
        ("default = \"free", "E 5: the text is not closed, or has a character that must be escaped"),
        ("[[routes]\npath = 1\nprice = 2", "E 5: unclosed array table"),
    ] {
        assert_eq!(messages(&format!("{BASE}{text}\n")), [expected], "{text}");
    }
    let deep = format!("{BASE}default = {}1{}\n", "[".repeat(5000), "]".repeat(5000));
    assert_eq!(messages(&deep), ["E 5: nested too deeply"]);
}

#[test]
fn syntax_errors_do_not_hide_other_mistakes() {
    let text = format!(
        "{BASE}listen = 127.0.0.1:80\n[log]\nlevel = \"all\"\n[[routes]]\npath = \"x\"\nfree = true\n"
    );
    let messages = messages(&text);
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(messages[0].starts_with("E 5: ") && messages[1].starts_with("E 7: log.level"), "{messages:?}");
    assert!(messages[2].starts_with("E 9: routes[0].path"), "{messages:?}");
}

#[test]
fn no_secret_is_repeated_in_a_message() {
    for text in [
        "[facilitators.f]\nurl = \"https://f\"\nauth = { kind = \"bearer\", token = \"hunter2\" }",
        "[facilitators.f]\nurl = \"https://f\"\nauth = { kind = \"bearer\", token_env = \"hunter2\" }",
        "[facilitators.f]\nurl = \"https://f\"\nauth = { kind = \"cdp\", key_id = \"k\", secret = \"hunter2\" }",
        "[facilitators.f]\nurl = \"https://f\"\nauth = { kind = \"header\", value = 'hunter2', colour = 1 }",
        "[facilitators.f]\nurl = \"https://me:hunter2@f\"",
        "[facilitators.f]\nauth = { kind = \"bearer\", token = \"hunter2 }",
        "[facilitators.f]\nauth = { kind = \"bearer\", token = hunter2 }",
        "token = \"hunter2\"",
        "upstream_password = hunter2",
        "allow_plaintext_secrets = true\n[facilitators.f]\nurl = \"https://f\"\nauth = { kind = \"bearer\", token = \"hunter2\u{e9}\" }",
        "allow_plaintext_secrets = true\n[facilitators.f]\nauth = { kind = \"cdp\", key_id = \"k\", secret = \"hunter2\" }",
    ] {
        let diagnostics = load(&format!("{BASE}{text}\n")).unwrap_err();
        let shown = rendered(&diagnostics);
        assert!(!shown.contains("hunter2"), "{text}\n{shown}");
        assert!(!format!("{diagnostics:?}").contains("hunter2"));
    }
}

/// A file in which a key holds a date, which no key takes.
fn with_a_date(table: &Table, key: &Key) -> (String, String) {
    let name = key.name;
    let date = format!("{name} = 1979-05-27\n");
    let route = "[[routes]]\npath = \"/a\"\n";
    let (before, path) = match table.header {
        "the top of the file" => return (date, name.to_owned()),
        "[[routes]]" if matches!(name, "path" | "path_regex") => ("[[routes]]\n".to_owned(), "routes[0]"),
        "[[routes]]" if matches!(name, "price" | "free" | "deny" | "accepts") => {
            (route.to_owned(), "routes[0]")
        }
        "[[routes]]" => (format!("{BASE}{route}price = \"$1\"\n"), "routes[0]"),
        "price" => (format!("{BASE}{route}[routes.price]\n"), "routes[0].price"),
        "accepts" => (format!("{BASE}{route}[[routes.accepts]]\n"), "routes[0].accepts[0]"),
        "the condition" => (format!("{BASE}{route}[routes.header.a]\n"), "routes[0].header.a"),
        "[[listeners]]" => ("[[listeners]]\n".to_owned(), "listeners[0]"),
        "tls" => ("[[listeners]]\n[[listeners.tls]]\n".to_owned(), "listeners[0].tls[0]"),
        "[upstreams.NAME]" => ("[upstreams.x]\n".to_owned(), "upstreams.x"),
        "[facilitators.NAME]" => ("[facilitators.x]\n".to_owned(), "facilitators.x"),
        "auth" => {
            let kind = match name {
                "token" | "token_env" | "token_file" => "bearer",
                "name" | "value" | "value_env" | "value_file" => "header",
                _ => "cdp",
            };
            let kind = if name == "kind" { String::new() } else { format!("kind = \"{kind}\"\n") };
            (format!("[facilitators.x]\n[facilitators.x.auth]\n{kind}"), "facilitators.x.auth")
        }
        "[assets.NAME]" => {
            let network = if name == "network" { "" } else { "network = \"base\"\n" };
            (format!("[assets.X]\n{network}"), "assets.X")
        }
        section => {
            let path = section.trim_matches(['[', ']']);
            return (format!("{section}\n{date}"), format!("{path}.{name}"));
        }
    };
    (format!("{before}{date}"), format!("{path}.{name}"))
}

#[test]
fn every_key_is_read_and_refuses_a_value_of_the_wrong_type() {
    let mut tables = vec![&TOP];
    let (mut count, mut silent) = (0, Vec::new());
    while let Some(table) = tables.pop() {
        for key in table.keys {
            if let Inner::Table(inner) | Inner::Named(inner) = key.inner {
                tables.push(inner);
            }
            let (text, path) = with_a_date(table, key);
            let found = messages(&text);
            let told = found.iter().any(|message| message.contains(&format!(": {path}: ")));
            if !told {
                silent.push(format!("{path}\n{text}\n{found:#?}"));
            }
            count += 1;
        }
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
    assert!(count > 100, "{count}");
}

#[test]
fn the_smallest_useful_file_works() {
    let config = clean(
        r#"
upstream = "http://127.0.0.1:8080"
pay_to   = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C"
network  = "base"

[[routes]]
path  = "/articles/*"
price = "$0.01"
"#,
    );
    assert_eq!(super::first_offer(&config).price(), "0.01 USDC on base");
    assert_eq!((config.listeners.len(), config.upstreams.len(), config.facilitators.len()), (1, 1, 1));
}

/// Pieces that configurations are made of, right and wrong.
fn pieces() -> impl Strategy<Value = String> {
    let names: Vec<String> = super::super::keys::TABLES
        .iter()
        .flat_map(|table| table.keys.iter().map(|key| key.name.to_owned()))
        .chain(
            ["[[routes]]\n", "[limits]\n", "[upstreams.a]\n", "[facilitators.a]\n", "[assets.A]\n"]
                .map(str::to_owned),
        )
        .collect();
    let values = prop::sample::select(vec![
        "\"$0.01\"",
        "\"/a/*\"",
        "\"é/**\"",
        "true",
        "false",
        "1",
        "-1",
        "0x10",
        "1.5",
        "inf",
        "1979-05-27",
        "[]",
        "[1]",
        "{}",
        "{ a = 1 }",
        "{ regex = \"(\" }",
        "\"base\"",
        "[\"base\", \"base\"]",
        "\"solana\"",
        "\"sandbox\"",
        "\"a\"",
        "\"\"",
        "\" \"",
        "\"\\u0000\"",
        "\"0x\"",
        "\"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"",
        "\"http://[::1]:80\"",
        "\"unix:/a\"",
        "\"demo\"",
        "\"127.0.0.1:80\"",
        "{ amount = \"1\" }",
        "'''",
        "\"\"\"a\nb\"\"\"",
        "99999999999999999999",
        "{ kind = \"bearer\", token = \"é\" }",
        "[{ network = \"base\" }]",
    ]);
    (prop::sample::select(names), values, any::<u8>()).prop_map(|(name, value, noise)| {
        if name.starts_with('[') {
            return name;
        }
        let end = if noise < 8 { "" } else { "\n" };
        if noise > 250 { format!("{value} = {name}{end}") } else { format!("{name} = {value}{end}") }
    })
}

proptest! {
    #[test]
    fn any_text_is_a_configuration_or_has_errors(text in ".{0,200}") {
        if let Err(diagnostics) = load(&text) {
            prop_assert!(!diagnostics.is_empty());
            prop_assert!(!rendered(&diagnostics).is_empty());
        }
    }

    #[test]
    fn any_mixture_of_keys_and_values_is_a_configuration_or_has_errors(
        lines in prop::collection::vec(pieces(), 0..40), base in any::<bool>(), cut in any::<prop::sample::Index>()
    ) {
        let text = format!("{}{}", if base { BASE } else { "" }, lines.concat());
        let mut end = cut.index(text.len() * 4 + 1).min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if let Err(diagnostics) = load(&text[..end]) {
            prop_assert!(!diagnostics.is_empty());
            for diagnostic in &diagnostics {
                prop_assert!(!diagnostic.message.is_empty() && !diagnostic.help.is_empty(), "{diagnostic}");
            }
        }
    }
}
