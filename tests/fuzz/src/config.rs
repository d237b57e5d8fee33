//! Configuration files, well and badly written.

use http::HeaderMap;
use tollgate::config::{self, Config, Diagnostic, Severity};
use tollgate::policy::{RouteFacts, RoutePath};

/// A token, a password, a private key: whatever it is, nobody may read it in a message.
const SECRET: &str = "5ec2e7b1a4d83f960c7e2b5d8a1f4c639e0b7d2a5f8c1e4b6d9a3c0f7e2b5d81";
/// Digits of it in a row that give it away.
const TELLING: usize = 16;

/// Lines in which operators write secrets.
const SECRET_LINES: [&str; 10] = [
    "token = \"SECRET\"",
    "auth = { kind = \"bearer\", token = \"SECRET\" }",
    "auth = { kind = \"header\", name = \"X-Api-Key\", value = \"SECRET\" }",
    "auth = { kind = \"cdp\", key_id = \"a\", secret = 'SECRET' }",
    "rpc = \"https://node.example/v2/SECRET\"",
    "key = \"0xSECRET\"",
    "url = \"https://me:SECRET@node.example/\"",
    "upstream = \"http://me:SECRET@site.example\"",
    "token_env = \"SECRET\"",
    "password = \"\"\"SECRET\"\"\"",
];

/// The bytes are a configuration file, before which two bytes say whether and where a line with a
/// secret is put into it. The file is refused with errors that can be shown, or compiled to what it is
/// compiled to the next time; its secrets are never printed.
pub fn hold(data: &[u8]) {
    let [which, place, text @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let text = &with_secret(text, usize::from(*which), usize::from(*place));
    match config::parse(text, "gateway.toml", &env) {
        Ok((config, warnings)) => {
            assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
            shown(&warnings, text);
            hides(&format!("{config:?}"));
            compiled(&config);
            let again = config::parse(text, "gateway.toml", &env).unwrap();
            assert_eq!(again.1, warnings, "other warnings the second time");
            assert_eq!(told(&again.0), told(&config), "another table the second time");
        }
        Err(diagnostics) => {
            assert!(diagnostics.iter().any(|found| found.severity == Severity::Error));
            shown(&diagnostics, text);
        }
    }
}

/// Every variable is set, to something of the kind that its name asks for.
fn env(name: &str) -> Option<String> {
    match name {
        _ if name.contains("ID") => None,
        _ if name.contains("RPC") || name.contains("URL") => {
            Some(format!("https://node.example/v2/{SECRET}"))
        }
        _ => Some(SECRET.to_owned()),
    }
}

fn with_secret(text: &str, which: usize, place: usize) -> String {
    // Inside of a text of several lines it would be a part of that.
    let whole = text.contains("\"\"\"") || text.contains("'''");
    let Some(line) = SECRET_LINES.get(which).filter(|_| !whole) else { return text.to_owned() };
    let line = line.replace("SECRET", SECRET);
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.insert(place % (lines.len() + 1), &line);
    lines.join("\n")
}

/// Every message says something, marks something that is there, and tells no secret.
fn shown(diagnostics: &[Diagnostic], text: &str) {
    for diagnostic in diagnostics {
        assert!(!diagnostic.message.is_empty() && !diagnostic.help.is_empty(), "{diagnostic:?}");
        if let Some(place) = &diagnostic.place {
            assert!(place.line >= 1 && place.line <= text.split('\n').count(), "{diagnostic:?}");
            assert!(place.column >= 1 && place.width >= 1, "{diagnostic:?}");
            assert!(place.indent <= place.text.chars().count() + 1, "{diagnostic:?}");
        }
        hides(&diagnostic.render(true));
        let lines = diagnostic.render(false);
        let control = |letter: char| letter.is_control() && letter != '\n';
        assert!(!lines.contains(control), "{lines:?}");
        hides(&lines);
    }
    let _ = config::count(diagnostics);
}

fn hides(shown: &str) {
    for start in (0..=SECRET.len() - TELLING).step_by(TELLING) {
        assert!(!shown.contains(&SECRET[start..start + TELLING]), "a secret is told: {shown}");
    }
}

/// Nothing that is priced costs nothing, and every request has a route.
fn compiled(config: &Config) {
    assert!(!config.listeners.is_empty());
    for offer in config.routes.all().filter_map(|route| route.offer()) {
        assert!(!offer.accepts.is_empty());
        for accept in &offer.accepts {
            let terms = &accept.requirements;
            assert!(!terms.amount.is_zero() && terms.max_timeout_seconds > 0 && !terms.pay_to.is_empty());
            assert!(accept.facilitator.0 < config.facilitator_groups.len());
        }
    }
    for path in ["/", "/articles/1", "/A//b;x%2F"] {
        let (path, headers) = (RoutePath::parse(path).unwrap(), HeaderMap::new());
        let facts =
            RouteFacts { method: "GET", host: "a.example", path: &path, query: "q=1", headers: &headers };
        let _ = config.routes.find(&facts);
        let _ = config.routes.explain(&facts);
    }
}

/// What a configuration says, in an order of its own.
fn told(config: &Config) -> String {
    let routes: Vec<_> = config.routes.all().collect();
    let Config { listeners, admin, public_url, upstreams, facilitators, facilitator_groups, .. } = config;
    let Config { chains, assets, limits, ledger, cors, log, sandbox_balance, .. } = config;
    format!(
        "{routes:?} {listeners:?} {admin:?} {public_url} {upstreams:?} {facilitators:?} {facilitator_groups:?} \
         {chains:?} {assets:?} {limits:?} {ledger:?} {cors:?} {log:?} {sandbox_balance:?}"
    )
}
