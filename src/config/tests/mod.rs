//! What a configuration file means, and how mistakes in it are told.

mod chains;
mod include;
mod ledger;
mod mistakes;
mod money;
mod own;
mod routing;
mod settings;
mod shipped;

use super::{Config, Diagnostic, Severity, parse};
use crate::policy::{Accept, Offer};

pub(super) const PAYEE: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
pub(super) const SOLANA_PAYEE: &str = "2wKupLR9q6wXYppw8Gr2NvWxKBUqm4PPJKkQfoxHDBg4";

/// What every test begins with; a file of one route more is complete.
pub(super) const BASE: &str = "\
upstream = \"http://127.0.0.1:8080\"
pay_to = \"0x209693Bc6afc0C5328bA36FaF03C514EF312287C\"
network = \"base-sepolia\"
facilitator = \"sandbox\"
";

pub(super) fn load_with(text: &str, env: &[(&str, &str)]) -> super::Loaded {
    let lookup =
        |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    parse(text, "gateway.toml", &lookup)
}

pub(super) fn load(text: &str) -> super::Loaded {
    load_with(text, &[])
}

/// A configuration without a single warning.
pub(super) fn clean(text: &str) -> Config {
    match load(text) {
        Ok((config, warnings)) if warnings.is_empty() => config,
        Ok((_, diagnostics)) | Err(diagnostics) => panic!("{text}\n{}", rendered(&diagnostics)),
    }
}

pub(super) fn rendered(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(Diagnostic::to_string).collect()
}

/// Messages of a file, each with its severity's first letter: `E 3: message`.
pub(super) fn messages(text: &str) -> Vec<String> {
    messages_with(text, &[])
}

pub(super) fn messages_with(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let (Ok((_, diagnostics)) | Err(diagnostics)) = load_with(text, env);
    let letter = |severity| if severity == Severity::Error { 'E' } else { 'W' };
    let line = |one: &Diagnostic| one.place.as_ref().map_or(0, |place| place.line);
    diagnostics.iter().map(|one| format!("{} {}: {}", letter(one.severity), line(one), one.message)).collect()
}

/// The offer of the first route.
pub(super) fn first_offer(config: &Config) -> Offer {
    config.routes.routes().next().and_then(|route| route.offer()).cloned().unwrap()
}

/// The ways to pay of the first route of a file that has no warnings.
pub(super) fn accepts(text: &str) -> Vec<Accept> {
    first_offer(&clean(text)).accepts
}
