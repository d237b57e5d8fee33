//! Who verifies and settles: `facilitator` and `[facilitators.NAME]`.

use std::time::Duration;

use super::auth::{self, Secrets};
use super::keys::FACILITATOR_TABLE;
use super::onchain::{self, Kind, Usual};
use super::settings::DEADLINE_MS;
use super::suggest::nearest;
use super::tls;
use super::url::Url;
use super::walk::{Node, Section};
use crate::facilitator::settings::{Auth, FacilitatorSettings, HttpSettings};
use crate::policy::FacilitatorId;
use crate::secret::Secret;
use crate::x402::Network;

/// The name of the built-in facilitator that moves no money.
const SANDBOX: &str = "sandbox";

/// The name of Coinbase's facilitator where none of that name is declared, and its keys.
const CDP: &str = "cdp";
const CDP_URL: &str = "https://api.cdp.coinbase.com/platform/v2/x402";
const CDP_KEY_ID: &str = "CDP_API_KEY_ID";
const CDP_KEY: &str = "CDP_API_KEY_SECRET";

/// The facilitator of the x402 Foundation, which settles on test networks only.
const TESTNET_URL: &str = "https://x402.org/facilitator";
const TESTNET_HOST: &str = "x402.org";

/// A public facilitator for networks with real money.
const MAINNET_URL: &str = "https://facilitator.payai.network";

/// The facilitators of a configuration: those declared, and those that routes use.
pub(super) struct Facilitators<'a> {
    declared: Vec<Declared<'a>>,
    used: Vec<FacilitatorSettings>,
    groups: Vec<Vec<usize>>,
    secrets: Secrets<'a>,
    usual: Usual,
}

struct Declared<'a> {
    name: &'a str,
    node: Node<'a>,
    /// `None` when it is wrong; that was reported.
    settings: Option<FacilitatorSettings>,
    used: bool,
}

impl<'a> Facilitators<'a> {
    /// Reads `[facilitators.…]`.
    /// `nodes` are those of networks.
    pub(super) fn read(
        top: &Section<'a>,
        secrets: Secrets<'a>,
        nodes: Vec<(Network, Secret<String>)>,
    ) -> Self {
        let usual = Usual::read(top, nodes);
        let entries = top.get("facilitators").and_then(|node| node.entries()).unwrap_or_default();
        let mut declared = Vec::new();
        for (name, node) in entries {
            if name == SANDBOX || name.contains("://") || name.trim().is_empty() {
                node.key_error("cannot be the name of a facilitator", "choose another name");
                continue;
            }
            let settings = node.section(&FACILITATOR_TABLE);
            let settings = settings.and_then(|table| declared_as(name, &table, secrets, &usual));
            declared.push(Declared { name, node, settings, used: false });
        }
        Self { declared, used: Vec::new(), groups: Vec::new(), secrets, usual }
    }

    /// The facilitators that a value names, which stand in for each other in this order: URLs,
    /// declared names, `sandbox` or tables, one or a list.
    pub(super) fn resolve(&mut self, node: &Node<'_>) -> Option<FacilitatorId> {
        let nodes = node.one_or_many();
        let mut group = Vec::new();
        for item in &nodes {
            let index = self.one(item);
            if index.is_some_and(|index| group.contains(&index)) {
                item.error("is named twice", "name each facilitator once");
            }
            group.extend(index);
        }
        if group.len() > 1
            && group.iter().any(|index| self.used.get(*index) == Some(&FacilitatorSettings::Sandbox))
        {
            let help = "name either the sandbox or facilitators that move money";
            node.error("the sandbox cannot stand in for another facilitator", help);
            return None;
        }
        if nodes.is_empty() || group.len() != nodes.len() { None } else { Some(self.group_of(group)) }
    }

    /// The facilitator for a network when none is named. `node` is what needs one.
    pub(super) fn default_for(&mut self, network: &Network, node: &Node<'_>) -> Option<FacilitatorId> {
        let url = match (self.variable(CDP_KEY_ID), self.variable(CDP_KEY)) {
            (Some(_), Some(_)) => {
                let index = self.cdp(node)?;
                return Some(self.group_of(vec![index]));
            }
            (Some(_), None) => {
                half_cdp(node, CDP_KEY_ID, CDP_KEY);
                None
            }
            (None, Some(_)) => {
                half_cdp(node, CDP_KEY, CDP_KEY_ID);
                None
            }
            (None, None) => None,
        };
        let known = network.known().map(|known| if known.testnet { TESTNET_URL } else { MAINNET_URL });
        let Some(url) = url.or(known) else {
            let message = format!("facilitator: missing; there is no default for {network}");
            node.missing(message, "write facilitator = \"https://…\", one that settles on this network");
            return None;
        };
        let settings = Url::parse(url).ok().map(|url| by_url(&url, Auth::None))?;
        let index = self.id_of(FacilitatorSettings::Http(settings));
        Some(self.group_of(vec![index]))
    }

    /// The facilitators of a group.
    pub(super) fn of(&self, id: FacilitatorId) -> Vec<&FacilitatorSettings> {
        let group = self.groups.get(id.0).map(Vec::as_slice).unwrap_or_default();
        group.iter().filter_map(|index| self.used.get(*index)).collect()
    }

    /// The facilitators that are used and their groups; warns of the others.
    pub(super) fn finish(self) -> (Vec<FacilitatorSettings>, Vec<Vec<usize>>) {
        for declared in self.declared.iter().filter(|declared| !declared.used) {
            let help = format!("write facilitator = \"{}\" where it is meant, or delete it", declared.name);
            declared.node.key_warning("no route uses this facilitator", help);
        }
        (self.used, self.groups)
    }

    fn one(&mut self, node: &Node<'_>) -> Option<usize> {
        if node.value().is_table() {
            let table = node.section(&FACILITATOR_TABLE)?;
            let settings = inline(&table, self.secrets, &self.usual)?;
            return self.own(node, settings);
        }
        let text = node.text()?;
        if text == SANDBOX {
            return Some(self.id_of(FacilitatorSettings::Sandbox));
        }
        if let Some(declared) = self.declared.iter_mut().find(|declared| declared.name == text) {
            declared.used = true;
            let settings = declared.settings.clone()?;
            return self.own(node, settings);
        }
        if text == CDP {
            return self.cdp(node);
        }
        if !text.contains("://") {
            let names = self.declared.iter().map(|declared| declared.name).chain([SANDBOX, CDP]);
            let help = match nearest(text, names) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("write a URL, or declare it with [facilitators.{}]", text.escape_debug()),
            };
            node.error(format!("no facilitator is named \"{}\"", text.escape_debug()), help);
            return None;
        }
        let url = url(node, false)?;
        Some(self.id_of(FacilitatorSettings::Http(by_url(&url, Auth::None))))
    }

    fn variable(&self, name: &str) -> Option<String> {
        (self.secrets.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// Coinbase's facilitator, with the key in the environment.
    fn cdp(&mut self, node: &Node<'_>) -> Option<usize> {
        let (Some(key_id), Some(key)) = (self.variable(CDP_KEY_ID), self.variable(CDP_KEY)) else {
            let help = format!(
                "set {CDP_KEY_ID} and {CDP_KEY} in the environment, or declare it with [facilitators.{CDP}]"
            );
            node.error("Coinbase's facilitator needs a key", help);
            return None;
        };
        if let Err(error) = auth::parse_cdp_key(&key) {
            let message = format!("facilitator: the key in {CDP_KEY} cannot be used: {error}");
            node.missing(message, format!("correct or unset {CDP_KEY}, or write facilitator = \"…\""));
            return None;
        }
        let url = Url::parse(CDP_URL).ok()?;
        let auth = Auth::Cdp { key_id, key: Secret::new(key) };
        Some(self.id_of(FacilitatorSettings::Http(HttpSettings { name: CDP.into(), ..by_url(&url, auth) })))
    }

    /// Two senders for one account would take each other's nonces.
    fn own(&mut self, node: &Node<'_>, settings: FacilitatorSettings) -> Option<usize> {
        let index = self.id_of(settings);
        let used = self.used.get(index)?;
        if self.used.iter().any(|other| other != used && onchain::share_account(other, used)) {
            node.error(
                "another facilitator sends from the same account on the same network",
                "declare it once, with [facilitators.NAME], and name it wherever it is meant",
            );
            return None;
        }
        Some(index)
    }

    fn id_of(&mut self, mut settings: FacilitatorSettings) -> usize {
        if let Some(index) = self.used.iter().position(|used| *used == settings) {
            return index;
        }
        // Two facilitators on one host differ in the path; logs and metrics must tell them apart.
        if let FacilitatorSettings::Http(http) = &mut settings {
            let taken = |name: &str| {
                let is_it = |declared: &&Declared<'_>| matches!(&declared.settings, Some(FacilitatorSettings::Http(own)) if own == http);
                let declared = self.declared.iter().filter(|declared| !is_it(declared));
                declared.map(|declared| declared.name).any(|other| other == name)
                    || self
                        .used
                        .iter()
                        .any(|used| matches!(used, FacilitatorSettings::Http(used) if used.name == name))
            };
            if taken(&http.name) {
                http.name = http.url.clone();
            }
            if let Some(index) = self.used.iter().position(|used| *used == settings) {
                return index;
            }
        }
        self.used.push(settings);
        self.used.len() - 1
    }

    fn group_of(&mut self, group: Vec<usize>) -> FacilitatorId {
        if let Some(index) = self.groups.iter().position(|other| *other == group) {
            return FacilitatorId(index);
        }
        self.groups.push(group);
        FacilitatorId(self.groups.len() - 1)
    }
}

/// Whether a facilitator settles on test networks only.
pub(super) fn is_testnet_only(settings: &FacilitatorSettings) -> bool {
    match settings {
        FacilitatorSettings::Sandbox => false,
        FacilitatorSettings::Http(http) => {
            Url::parse(&http.url).is_ok_and(|url| url.host == TESTNET_HOST || url.host == "www.x402.org")
        }
        FacilitatorSettings::Onchain(onchain) => onchain.network.is_testnet(),
    }
}

fn half_cdp(node: &Node<'_>, set: &str, unset: &str) {
    node.report().warning(
        None,
        format!("facilitator: {set} is set and {unset} is not, so Coinbase's facilitator is not used"),
        format!("set both, or write facilitator = \"…\" and leave {set} unset"),
    );
}

fn by_url(url: &Url, auth: Auth) -> HttpSettings {
    HttpSettings {
        name: url.host.clone(),
        url: url.to_string().trim_end_matches('/').to_owned(),
        auth,
        verify_timeout: Duration::from_secs(10),
        settle_timeout: Duration::from_secs(90),
        supported_ttl: Duration::from_secs(600),
        ca_file: None,
    }
}

/// What a table says of a facilitator.
fn declared_as(
    name: &str,
    table: &Section<'_>,
    secrets: Secrets<'_>,
    usual: &Usual,
) -> Option<FacilitatorSettings> {
    match onchain::kind(table)? {
        Kind::Http => http(name, table, secrets).map(FacilitatorSettings::Http),
        Kind::Onchain => onchain::read(Some(name), table, secrets, usual)
            .map(|settings| FacilitatorSettings::Onchain(Box::new(settings))),
    }
}

/// What a table says that stands where a name could: without one, there is no URL to call it by.
fn inline(table: &Section<'_>, secrets: Secrets<'_>, usual: &Usual) -> Option<FacilitatorSettings> {
    match onchain::kind(table)? {
        Kind::Http => {
            let named = http("", table, secrets)?;
            let name = Url::parse(&named.url).ok()?.host;
            Some(FacilitatorSettings::Http(HttpSettings { name, ..named }))
        }
        Kind::Onchain => onchain::read(None, table, secrets, usual)
            .map(|settings| FacilitatorSettings::Onchain(Box::new(settings))),
    }
}

fn http(name: &str, table: &Section<'_>, secrets: Secrets<'_>) -> Option<HttpSettings> {
    let auth_node = table.get("auth");
    let insecure = table.get("insecure").and_then(|node| node.boolean()).unwrap_or(false);
    let url = match table.get("url") {
        Some(node) => url(&node, insecure),
        None if auth_node.as_ref().is_some_and(auth::is_cdp) => Url::parse(CDP_URL).ok(),
        None => {
            table.missing("has no `url`", "add a line such as url = \"https://x402.org/facilitator\"");
            None
        }
    };
    let auth = match auth_node {
        None => Some(Auth::None),
        Some(node) => auth::read(&node, secrets),
    };
    let deadline =
        |key: &str| table.get(key).and_then(|node| node.number(DEADLINE_MS)).map(Duration::from_millis);
    let (verify, settle) = (deadline("verify_timeout_ms"), deadline("settle_timeout_ms"));
    let ttl = table.get("supported_ttl_seconds").and_then(|node| node.number(1..=86_400));
    let ca_file = match table.get("ca_file") {
        None => Some(None),
        Some(node) => node.file().filter(|path| tls::check_authorities(path, &node).is_some()).map(Some),
    };
    let defaults = by_url(&url?, auth?);
    Some(HttpSettings {
        name: name.to_owned(),
        ca_file: ca_file?,
        verify_timeout: verify.unwrap_or(defaults.verify_timeout),
        settle_timeout: settle.unwrap_or(defaults.settle_timeout),
        supported_ttl: ttl.map_or(defaults.supported_ttl, Duration::from_secs),
        ..defaults
    })
}

fn url(node: &Node<'_>, insecure: bool) -> Option<Url> {
    let url = match Url::parse(node.text()?) {
        Ok(url) => url,
        Err(error) => {
            node.error(error, error.help(TESTNET_URL));
            return None;
        }
    };
    match url.scheme.as_str() {
        "https" => Some(url),
        "http" if insecure || url.is_loopback() => Some(url),
        "http" => {
            node.error(
                "payments would go to another machine unencrypted",
                "write \"https://…\", or declare it with [facilitators.NAME] and insecure = true",
            );
            None
        }
        other => {
            node.error(
                format!("has the unknown scheme \"{other}\""),
                format!("write it like \"{TESTNET_URL}\""),
            );
            None
        }
    }
}
