//! From the text of a file to a [`Config`].

use toml::Spanned;
use toml::de::DeTable;

use super::accepts::Builder;
use super::assets::Assets;
use super::auth::Secrets;
use super::chains::Chains;
use super::facilitators::Facilitators;
use super::keys::{INCLUDED, TOP};
use super::report::Report;
use super::source::Source;
use super::terms::Terms;
use super::upstreams::Upstreams;
use super::walk::{Node, Section};
use super::{
    Addresses, Config, Env, Loaded, accounts, include, ledger, listeners, routes, service, settings, syntax,
};
use crate::x402::Network;

/// Networks shown to v1 clients when nothing else is written: those that every one of them knows.
const V1_NETWORKS: [&str; 4] = ["base", "base-sepolia", "avalanche", "avalanche-fuji"];

/// Compiles the text of a configuration file. `file_name` is how messages call it, and relative
/// paths in it start at its folder; `env` looks up environment variables.
///
/// # Errors
/// Everything that is wrong with it, in the order of the file, warnings included.
pub fn parse(text: &str, file_name: &str, env: Env<'_>) -> Loaded {
    parse_at(text, file_name, env, &Addresses::default())
}

/// Compiles like [`parse`], for a process that listens elsewhere than the file says.
///
/// # Errors
/// As [`parse`]; and addresses that do not go with the file.
pub fn parse_at(text: &str, file_name: &str, env: Env<'_>, addresses: &Addresses) -> Loaded {
    let main = Parsed::new(file_name, text);
    let report = main.report();
    let included = include::read(&Section::top(&report, main.tree.get_ref(), &TOP));
    let included: Vec<Parsed<'_>> = included.iter().map(|file| Parsed::new(&file.name, &file.text)).collect();
    let reports: Vec<Report<'_>> = included.iter().map(Parsed::report).collect();
    let more: Vec<Section<'_>> = included
        .iter()
        .zip(&reports)
        .map(|(file, report)| Section::top(report, file.tree.get_ref(), &INCLUDED))
        .collect();
    let config = compile(&Section::top(&report, main.tree.get_ref(), &TOP), &more, env, addresses);
    let failed = report.has_errors() || reports.iter().any(Report::has_errors);
    if config.is_none() && !failed {
        // Whatever is left out was reported; should that ever not be so, this is not a configuration.
        report.missing(None, "the configuration cannot be used".into(), "please report this file".into());
    }
    let diagnostics =
        report.finish().into_iter().chain(reports.into_iter().flat_map(Report::finish)).collect();
    match config {
        Some(config) if !failed => Ok((config, diagnostics)),
        _ => Err(diagnostics),
    }
}

/// A file, parsed as far as that goes.
struct Parsed<'a> {
    tree: Spanned<DeTable<'a>>,
    errors: Vec<toml::de::Error>,
    source: Source<'a>,
}

impl<'a> Parsed<'a> {
    fn new(name: &str, text: &'a str) -> Self {
        let (tree, errors) = DeTable::parse_recoverable(text);
        let source = Source::new(name, text, syntax::secrets(text, tree.get_ref(), !errors.is_empty()));
        Self { tree, errors, source }
    }

    /// What there is to say of it; of its syntax to begin with.
    fn report(&'a self) -> Report<'a> {
        let report = Report::new(&self.source);
        syntax::report(&report, &self.errors);
        report
    }
}

fn compile<'a>(
    top: &Section<'a>,
    included: &[Section<'a>],
    env: Env<'a>,
    addresses: &Addresses,
) -> Option<Config> {
    let report = top.report();
    top.check_keys();
    included.iter().for_each(Section::check_keys);
    let limits = settings::limits(top);
    let (log, cors, sandbox_balance) =
        (settings::log(top), settings::cors(top), settings::sandbox_balance(top));
    let listeners = listeners::listeners(top, &addresses.listen);
    let admin = listeners::admin(top, addresses.admin, &listeners);
    let public_url = listeners::public_url(top, &listeners);

    let mut own: Vec<_> = listeners.iter().map(|listener| listener.address).chain(admin).collect();
    let plaintext = top.get("allow_plaintext_secrets").and_then(|node| node.boolean()).unwrap_or(false);
    let watch = top.get("watch").and_then(|node| node.boolean()).unwrap_or(true);
    let secrets = Secrets { env, plaintext };
    let chains = Chains::read(top, secrets);
    let mut facilitators = Facilitators::read(top, secrets, chains.nodes());
    let facilitator_service = service::read(top, &mut facilitators, secrets, &own);
    own.extend(facilitator_service.iter().map(|(_, service)| service.listen));
    let mut upstreams = Upstreams::read(top, own);
    let ledger = ledger::ledger(top, secrets);
    let (redelivery, pledges) = (ledger::redelivery(top), ledger::pledges(top));
    let failures = ledger::failures(top);
    let assets = Assets::read(top);
    let terms = Terms::read(top, &mut facilitators);
    let v1_networks = v1_networks(top);
    let mut builder = Builder {
        facilitators: &mut facilitators,
        assets: &assets,
        v1_networks: &v1_networks,
        origin_time_seconds: limits.origin_time_seconds,
        public_url: public_url.as_deref().unwrap_or_default(),
        offers: 0,
        told: Vec::new(),
    };
    let routes = routes::read(top, included, &mut builder, &mut upstreams, &terms);
    let (routes, shadow) = routes.map_or((None, None), |(routes, shadow)| (Some(routes), shadow));
    let upstreams = upstreams.finish();
    // A gateway that forwards nothing at all is hardly meant.
    if upstreams.is_empty() && !report.has_errors() {
        routes::report_no_upstream(top);
    }
    let (facilitators, facilitator_groups) = facilitators.finish();
    let chains = chains.finish(routes.as_ref().map(AsRef::as_ref));
    Some(Config {
        listeners,
        admin,
        public_url: public_url?,
        upstreams,
        facilitators,
        facilitator_groups,
        facilitator_service,
        chains,
        assets: assets.finish(),
        routes: routes?,
        shadow,
        limits: limits.clients,
        ledger: ledger?,
        redelivery,
        pledges,
        failures,
        verify_in_flight: limits.verify_in_flight,
        origin_time_seconds: limits.origin_time_seconds,
        cors,
        log,
        sandbox_balance: sandbox_balance?,
        watch,
        files: included
            .iter()
            .map(Section::report)
            .fold(report.files(), |files, report| [files, report.files()].concat()),
    })
}

fn v1_networks(top: &Section<'_>) -> Vec<Network> {
    let Some(node) = top.get("v1_networks") else {
        return V1_NETWORKS.iter().filter_map(|name| name.parse().ok()).collect();
    };
    // No network at all is a way to say so.
    if node.value().as_array().is_some_and(|items| items.is_empty()) {
        return Vec::new();
    }
    let networks = accounts::networks(&node).unwrap_or_default();
    for (network, node) in &networks {
        check_v1(network, node);
    }
    networks.into_iter().map(|(network, _)| network).collect()
}

fn check_v1(network: &Network, node: &Node<'_>) {
    if network.v1_name().is_none() {
        let message = format!("v1 clients do not know {}", network.name());
        node.error(message, "leave it out; one name they do not know makes them refuse the whole 402");
    } else if network.chain_id().is_none() {
        let message = format!("nothing on {} is shown to v1 clients", network.name());
        node.warning(message, "leave it out; they are shown EIP-3009 tokens only");
    }
}
