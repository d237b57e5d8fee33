//! One way to pay: from what is written to what goes on the wire.

use serde_json::{Map, Value};

use super::accounts::{self, Payee};
use super::assets::Assets;
use super::facilitators::{self, Facilitators};
use super::terms::{Setting, Terms};
use super::walk::{Node, Section};
use crate::facilitator::settings::FacilitatorSettings;
use crate::policy::{Accept, FacilitatorId, SettleWhen};
use crate::x402::asset::same_address;
use crate::x402::{Asset, AtomicAmount, Network, PaymentRequirements, TransferMethod};

/// Seconds a quote is valid when nothing else is written.
const MAX_TIMEOUT_DEFAULT: u64 = 300;

/// Seconds that facilitators want a payment to be valid beyond the moment they see it
/// (`scheme_exact_evm.md`, as the reference facilitators have it).
const FACILITATOR_MARGIN: u64 = 6;

/// Longest `extra.memo`, in bytes (`scheme_exact_svm.md`).
const MEMO_MAX: usize = 256;

/// What every offer of a configuration is built with.
pub(super) struct Builder<'b, 'a> {
    pub(super) facilitators: &'b mut Facilitators<'a>,
    pub(super) assets: &'b Assets,
    pub(super) v1_networks: &'b [Network],
    pub(super) origin_time_seconds: u64,
    pub(super) public_url: &'b str,
    /// Offers built so far.
    pub(super) offers: usize,
    /// What is missing for the whole file is told once and not for every route.
    pub(super) told: Vec<String>,
}

/// A way to pay as read, before its parts are checked against each other.
pub(super) struct Draft<'a> {
    pub(super) scheme: String,
    pub(super) network: Network,
    pub(super) network_node: Node<'a>,
    pub(super) asset: Asset,
    pub(super) amount: AtomicAmount,
    pub(super) pay_to: String,
    pub(super) facilitator: FacilitatorId,
    pub(super) max_timeout: u64,
    /// What the operator wrote as `extra`.
    pub(super) extra: Map<String, Value>,
    /// Where it is written.
    pub(super) node: Node<'a>,
}

impl<'a> Builder<'_, 'a> {
    /// The terms written in an entry of `accepts`.
    pub(super) fn own_terms(&mut self, table: &Section<'a>) -> Terms<'a> {
        Terms::read(table, self.facilitators)
    }

    /// Who is paid on a network; `node` is what makes it necessary to know.
    pub(super) fn payee(&mut self, terms: &Terms<'a>, network: &Network, node: &Node<'a>) -> Option<String> {
        for payees in &terms.pay_to {
            match payees.of(network) {
                Payee::Is(address) => return Some(address),
                Payee::Wrong => return None,
                Payee::Unnamed => {}
            }
        }
        if terms.pay_to_wrong {
            return None;
        }
        let name = network.name();
        let example = if network.chain_id().is_some() { "0x…" } else { "…" };
        let (place, message, help) = match terms.pay_to.first() {
            Some(payees) => (
                payees.node(),
                format!("pay_to: says nothing of {name}, which is one of the networks"),
                format!("add an entry such as {} = \"{example}\"", network.namespace()),
            ),
            None => (
                node,
                format!("pay_to: missing, so nobody would be paid on {name}"),
                format!("write pay_to = \"{example}\" at the top of the file"),
            ),
        };
        self.tell_once(place, message, help);
        None
    }

    /// Who settles on a network.
    pub(super) fn facilitator(
        &mut self,
        terms: &Terms<'a>,
        network: &Network,
        node: &Node<'a>,
    ) -> Option<FacilitatorId> {
        match terms.facilitator {
            Setting::Is(id) => Some(id),
            Setting::Wrong => None,
            Setting::Unset => self.facilitators.default_for(network, node),
        }
    }

    /// How long a quote is valid; long enough for a payment to be used.
    pub(super) fn max_timeout(&mut self, terms: &Terms<'a>, node: &Node<'a>) -> Option<u64> {
        let least = self.origin_time_seconds + FACILITATOR_MARGIN;
        let why = format!(
            "a payment must stay valid for {} seconds when it arrives \
             (limits.origin_time_seconds) and {FACILITATOR_MARGIN} more",
            self.origin_time_seconds
        );
        match &terms.max_timeout {
            Setting::Wrong => None,
            Setting::Is((seconds, _)) if *seconds >= least => Some(*seconds),
            Setting::Is((_, node)) => {
                node.error(
                    format!("too short, every payment would be refused: {why}"),
                    format!("write at least {least}, or lower limits.origin_time_seconds"),
                );
                None
            }
            Setting::Unset if MAX_TIMEOUT_DEFAULT >= least => Some(MAX_TIMEOUT_DEFAULT),
            Setting::Unset => {
                let message =
                    format!("max_timeout_seconds: {MAX_TIMEOUT_DEFAULT}, the default, is too short: {why}");
                let help =
                    format!("write max_timeout_seconds = {least}, or lower limits.origin_time_seconds");
                self.tell_once(node, message, help);
                None
            }
        }
    }

    /// The asset of an entry of `accepts`, which may be one that nobody but its facilitator knows.
    pub(super) fn asset(&mut self, wanted: &Wanted<'_, 'a>) -> Option<Asset> {
        let network = wanted.network;
        let Some((name, node)) = &wanted.name else {
            let asset = self.assets.default_of(network);
            if asset.is_none() {
                let message = format!("has no `asset`, and {} has no default one", network.name());
                wanted.node.error(message, "add asset = \"…\", a symbol or address");
            }
            return asset;
        };
        if let Some(asset) = self.assets.find(network, name) {
            return Some(asset);
        }
        let is_evm = network.chain_id().is_some();
        let address = match accounts::parse(name, network.namespace()) {
            Ok(address) => address,
            Err(wrong) if name.starts_with("0x") && is_evm => {
                node.error(wrong.message, wrong.help);
                return None;
            }
            Err(_) => {
                self.assets.report_unknown(node, name, &[network]);
                return None;
            }
        };
        if !wanted.is_atomic {
            let help =
                "write `amount` in smallest units instead of `price`, or declare it with [assets.NAME]";
            node.error("has decimals that the gateway does not know", help);
            return None;
        }
        let method = match (wanted.scheme, network.namespace()) {
            ("exact", "solana") => TransferMethod::SolanaTransfer,
            ("exact", "eip155") => TransferMethod::Eip3009,
            _ => TransferMethod::Opaque,
        };
        Some(Asset {
            network: network.clone(),
            symbol: name.clone(),
            address,
            decimals: 0,
            eip712: None,
            method,
        })
    }

    /// Reports what is missing for the file as a whole, at the first place that needs it.
    pub(super) fn tell_once(&mut self, node: &Node<'_>, message: String, help: String) {
        if !self.told.contains(&message) {
            node.missing(&message, help);
            self.told.push(message);
        }
    }

    /// Checks the parts of a way to pay against each other. `v1` is left to the offer.
    pub(super) fn accept(&self, draft: Draft<'a>, settle: SettleWhen) -> Option<Accept> {
        let mut method = draft.asset.method;
        let extra = extra(&draft, &mut method, settle)?;
        self.check_facilitator(&draft, method)?;
        if same_address(&draft.pay_to, &draft.asset.address) {
            let message = format!(
                "pay_to is the contract of {} itself: what is sent there is lost",
                draft.asset.symbol
            );
            draft.node.error(message, "write the address of a wallet of yours");
            return None;
        }
        if method == TransferMethod::SolanaTransfer && u64::try_from(draft.amount.0).is_err() {
            draft.node.error("is more than a Solana token can have", "write a smaller price");
            return None;
        }
        let requirements = PaymentRequirements {
            scheme: draft.scheme,
            network: draft.network,
            amount: draft.amount,
            asset: draft.asset.address,
            pay_to: draft.pay_to,
            max_timeout_seconds: draft.max_timeout,
            extra,
        };
        let v1 = method == TransferMethod::Eip3009
            && requirements.scheme == "exact"
            && !requirements.extra.contains_key("assetTransferMethod")
            && requirements.network.v1_name().is_some()
            && self.v1_networks.contains(&requirements.network);
        Some(Accept {
            requirements,
            facilitator: draft.facilitator,
            symbol: draft.asset.symbol,
            decimals: draft.asset.decimals,
            v1,
        })
    }

    fn check_facilitator(&self, draft: &Draft<'a>, method: TransferMethod) -> Option<()> {
        let group = self.facilitators.of(draft.facilitator);
        let name = draft.network.name();
        if group.contains(&&FacilitatorSettings::Sandbox) {
            if !draft.network.is_testnet() {
                draft.network_node.error(
                    format!("the sandbox cannot be used with {name}, where signatures are worth real money"),
                    "write a test network such as \"base-sepolia\", or another `facilitator`: the sandbox\n\
                     would keep what payers sign for and never settle it",
                );
                return None;
            }
            let is_evm = matches!(method, TransferMethod::Eip3009 | TransferMethod::Permit2);
            if draft.scheme != "exact" || !is_evm {
                draft.node.error(
                    format!(
                        "the sandbox does not understand {} payments in {} on {name}",
                        draft.scheme, draft.asset.symbol
                    ),
                    "it takes `exact` payments on EVM test networks, such as USDC on \"base-sepolia\"",
                );
                return None;
            }
        }
        let is_evm = matches!(method, TransferMethod::Eip3009 | TransferMethod::Permit2);
        let settles = |settings: &&FacilitatorSettings| match settings {
            FacilitatorSettings::Onchain(own) => {
                own.network == draft.network && draft.scheme == "exact" && is_evm
            }
            FacilitatorSettings::Sandbox | FacilitatorSettings::Http(_) => true,
        };
        if !group.iter().any(settles) {
            let names: Vec<&str> = group.iter().map(|settings| settings.name()).collect();
            draft.node.error(
                format!(
                    "{} does not settle {} payments in {} on {name}",
                    names.join(" or "), draft.scheme, draft.asset.symbol
                ),
                "kind = \"onchain\" settles `exact` payments on the one EVM network that its `network` names;\n\
                 declare one for each network, and list them",
            );
            return None;
        }
        let is_mainnet = draft.network.known().is_some_and(|known| !known.testnet);
        if is_mainnet && group.iter().any(|settings| facilitators::is_testnet_only(settings)) {
            draft.network_node.warning(
                format!(
                    "x402.org settles on test networks only, and {name} is none: \
                     unless that has changed, payments are refused"
                ),
                "write another `facilitator`, or leave it out for the default",
            );
        }
        Some(())
    }
}

/// What is known of the asset of an entry of `accepts`.
pub(super) struct Wanted<'b, 'a> {
    pub(super) network: &'b Network,
    /// Symbol or address, and where it is written; `None`: the network's default.
    pub(super) name: Option<(String, Node<'a>)>,
    pub(super) scheme: &'b str,
    /// Whether the price is in smallest units.
    pub(super) is_atomic: bool,
    /// The entry.
    pub(super) node: &'b Node<'a>,
}

/// `extra` as it goes on the wire, and how the asset is moved with it.
fn extra(draft: &Draft<'_>, method: &mut TransferMethod, settle: SettleWhen) -> Option<Map<String, Value>> {
    let mut extra = Map::new();
    let is_exact = draft.scheme == "exact";
    if is_exact {
        if *method == TransferMethod::Permit2 {
            extra.insert("assetTransferMethod".into(), "permit2".into());
        }
        if let Some((name, version)) = &draft.asset.eip712 {
            extra.insert("name".into(), name.as_str().into());
            extra.insert("version".into(), version.as_str().into());
        }
    }
    extra.extend(draft.extra.clone());
    if draft.extra.contains_key("paymentFlow") {
        draft.node.error(
            "`extra.paymentFlow` is set by `settle`",
            "write settle = \"before-request\" on the route instead",
        );
        return None;
    }
    if is_exact && draft.network.chain_id().is_some() {
        exact_evm(draft, &extra, method)?;
    }
    if is_exact && *method == TransferMethod::SolanaTransfer {
        memo(draft, &extra)?;
    }
    if settle == SettleWhen::BeforeRequest {
        extra.insert("paymentFlow".into(), "upfront".into());
    }
    Some(extra)
}

fn exact_evm(draft: &Draft<'_>, extra: &Map<String, Value>, method: &mut TransferMethod) -> Option<()> {
    match extra.get("assetTransferMethod").map(Value::as_str) {
        None => {}
        Some(Some("eip3009")) => *method = TransferMethod::Eip3009,
        Some(Some("permit2")) => *method = TransferMethod::Permit2,
        Some(other) => {
            let shown = other.unwrap_or("…").escape_debug();
            draft.node.error(
                format!("`extra.assetTransferMethod` cannot be \"{shown}\""),
                "write \"permit2\", or leave it out for EIP-3009",
            );
            return None;
        }
    }
    let is_text = |name: &str| extra.get(name).is_some_and(Value::is_string);
    if *method == TransferMethod::Eip3009 && !(is_text("name") && is_text("version")) {
        draft.node.error(
            "the token's name and version are not known, without which nobody can sign a payment",
            "add extra = { name = \"…\", version = \"…\" } as the contract's EIP-712 domain has them",
        );
        return None;
    }
    Some(())
}

fn memo(draft: &Draft<'_>, extra: &Map<String, Value>) -> Option<()> {
    let (message, help) = match extra.get("memo") {
        None => return Some(()),
        Some(Value::String(memo)) if memo.len() <= MEMO_MAX => return Some(()),
        Some(Value::String(memo)) => {
            (format!("`extra.memo` has {} bytes, {MEMO_MAX} are allowed", memo.len()), "write a shorter one")
        }
        Some(_) => ("`extra.memo` is not a text".to_owned(), "write it in quotes"),
    };
    draft.node.error(message, help);
    None
}
