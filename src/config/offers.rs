//! Priced routes: every way to pay, ready for the wire.

use serde_json::{Map, Value, json};

use super::accepts::{Builder, Draft, Wanted};
use super::json::object;
use super::keys::ACCEPT;
use super::price::{self, Price};
use super::resource;
use super::terms::{Identifier, Setting, Terms};
use super::walk::{Node, Section};
use crate::policy::{Accept, Offer, SettleWhen, V1Mode};
use crate::x402::identifier::{PAYMENT_IDENTIFIER, advertised};
use crate::x402::{Asset, Network, header};

/// Largest `PAYMENT-REQUIRED` header that common proxies and servers let pass, in bytes.
const CHALLENGE_MAX: usize = 8 * 1024;

/// The pairs of network and asset that an offer is for.
type Pairs<'a> = Vec<(Network, Node<'a>, Asset)>;

/// Builds the offer of a route with a `price`. `table` has what describes the resource.
pub(super) fn priced<'a>(
    builder: &mut Builder<'_, 'a>,
    node: &Node<'a>,
    terms: &Terms<'a>,
    table: Option<&Section<'a>>,
) -> Option<Offer> {
    let price = price::read(node);
    let networks = networks(builder, terms, node);
    let (price, named) = price?;
    let networks = networks?;
    let assets: Vec<(String, Node<'a>)> = match (named, &terms.assets) {
        (Some(named), _) => vec![(named.name, named.node)],
        (None, Setting::Wrong) => return None,
        (None, Setting::Unset) => Vec::new(),
        (None, Setting::Is(nodes)) => {
            nodes.iter().filter_map(|node| Some((node.text()?.to_owned(), node.clone()))).collect()
        }
    };
    let pairs = pairs(builder, &networks, &assets)?;
    same_units(&price, &pairs, node)?;
    let mut drafts = Vec::new();
    for (network, network_node, asset) in pairs {
        let amount = price.in_units_of(&asset, node);
        let pay_to = builder.payee(terms, &network, &network_node);
        let facilitator = builder.facilitator(terms, &network, &network_node);
        let max_timeout = builder.max_timeout(terms, node);
        let parts = amount.zip(pay_to).zip(facilitator.zip(max_timeout));
        drafts.push(parts.map(|((amount, pay_to), (facilitator, max_timeout))| Draft {
            scheme: "exact".into(),
            network,
            network_node,
            asset,
            amount,
            pay_to,
            facilitator,
            max_timeout,
            extra: Map::new(),
            node: node.clone(),
        }));
    }
    offer(builder, drafts, node, terms, table)
}

/// Builds the offer of a route with `accepts`.
pub(super) fn written_out<'a>(
    builder: &mut Builder<'_, 'a>,
    node: &Node<'a>,
    terms: &Terms<'a>,
    table: &Section<'a>,
) -> Option<Offer> {
    let items = node.items()?;
    if items.is_empty() {
        node.error("is an empty list, so nobody could pay", "write at least one way to pay, or deny = true");
        return None;
    }
    let drafts = items.iter().map(|item| draft(builder, item, terms)).collect();
    offer(builder, drafts, node, terms, Some(table))
}

fn draft<'a>(builder: &mut Builder<'_, 'a>, node: &Node<'a>, route: &Terms<'a>) -> Option<Draft<'a>> {
    let table = node.section(&ACCEPT)?;
    let terms = builder.own_terms(&table).or(route);
    let scheme = table.get("scheme").map_or(Some("exact"), |node| node.text());
    let extra = table.get("extra").map_or(Some(Map::new()), |node| object(&node));
    let network = networks(builder, &terms, node).and_then(|networks| match networks.as_slice() {
        [only] => Some(only.clone()),
        several => {
            let message = format!("is for one network, and {} are written", several.len());
            node.error(message, "add network = \"…\" to the entry; write an entry for each");
            None
        }
    });
    let price_node = table.either("price", "amount");
    let read = match &price_node {
        Some(node) if node.name() == "amount" => {
            price::atomic(node).map(|amount| (Price::Atomic(amount), None))
        }
        Some(node) => price::read(node),
        None => {
            let help = "add price = \"$0.01\", or amount = \"10000\" in smallest units";
            table.missing("has neither `price` nor `amount`", help);
            None
        }
    };
    let (network, network_node) = network?;
    let pay_to = builder.payee(&terms, &network, &network_node);
    let facilitator = builder.facilitator(&terms, &network, &network_node);
    let max_timeout = builder.max_timeout(&terms, node);
    let (price, named) = read?;
    let name = match (named, &terms.assets) {
        (Some(named), _) => Some((named.name, named.node)),
        (None, Setting::Unset) => None,
        (None, Setting::Wrong) => return None,
        (None, Setting::Is(nodes)) => {
            let [only] = nodes.as_slice() else {
                node.error("is for one asset, and several are written", "add asset = \"…\" to the entry");
                return None;
            };
            Some((only.text()?.to_owned(), only.clone()))
        }
    };
    let (scheme, extra) = (scheme?, extra?);
    let is_atomic = matches!(price, Price::Atomic(_));
    let asset = builder.asset(&Wanted { network: &network, name, scheme, is_atomic, node })?;
    Some(Draft {
        scheme: scheme.to_owned(),
        network,
        network_node,
        amount: price.in_units_of(&asset, &price_node?)?,
        asset,
        pay_to: pay_to?,
        facilitator: facilitator?,
        max_timeout: max_timeout?,
        extra,
        node: node.clone(),
    })
}

fn offer<'a>(
    builder: &mut Builder<'_, 'a>,
    drafts: Vec<Option<Draft<'a>>>,
    node: &Node<'a>,
    terms: &Terms<'a>,
    table: Option<&Section<'a>>,
) -> Option<Offer> {
    let settle = match terms.settle {
        Setting::Is(settle) => Some(settle),
        Setting::Unset => Some(SettleWhen::default()),
        Setting::Wrong => None,
    };
    let v1 = match &terms.v1 {
        Setting::Is((mode, _)) => Some(*mode),
        Setting::Unset => Some(V1Mode::default()),
        Setting::Wrong => None,
    };
    let identifier = match terms.identifier {
        Setting::Is(identifier) => Some(identifier),
        Setting::Unset => Some(Identifier::None),
        Setting::Wrong => None,
    };
    let resource = table.map(resource::read).unwrap_or_default();
    let written = table.map(resource::extensions).unwrap_or_default();
    let (settle, v1, identifier) = (settle?, v1?, identifier?);
    let extensions = with_identifier(written, identifier, table)?;
    let expected = drafts.len();
    let mut accepts: Vec<Accept> = Vec::new();
    for draft in drafts.into_iter().flatten() {
        let place = draft.node.clone();
        let Some(mut accept) = builder.accept(draft, settle) else { continue };
        if accepts.iter().any(|other| other.requirements == accept.requirements) {
            place.error("is the same way to pay as an entry before it", "keep one of them");
            continue;
        }
        // A v1 payment names no more than scheme and network, so only one offer can be told by it.
        let rival = |other: &Accept| {
            other.requirements.scheme == accept.requirements.scheme
                && other.requirements.network == accept.requirements.network
        };
        // Nor can it name the request.
        let can_be_v1 = v1 != V1Mode::Off && identifier != Identifier::Required;
        accept.v1 &= can_be_v1 && !accepts.iter().any(rival);
        accepts.push(accept);
    }
    if accepts.is_empty() || accepts.len() != expected {
        return None;
    }
    if v1 == V1Mode::Only && !accepts.iter().any(|accept| accept.v1) {
        let place = if let Setting::Is((_, node)) = &terms.v1 { node } else { node };
        place.error(
            "is \"only\", and nothing that is offered can be paid by v1 clients",
            "they pay EIP-3009 tokens, such as USDC, on the networks in `v1_networks`, and cannot bring a \
             `payment_identifier`",
        );
        return None;
    }
    let offer = Offer { index: builder.offers, accepts, resource, extensions, settle, v1 };
    warn_of_size(&offer, builder.public_url, node);
    builder.offers += 1;
    Some(offer)
}

/// The extensions of an offer with that of `payment_identifier`.
fn with_identifier(
    mut extensions: Map<String, Value>,
    identifier: Identifier,
    table: Option<&Section<'_>>,
) -> Option<Map<String, Value>> {
    let required = match identifier {
        Identifier::None => return Some(extensions),
        Identifier::Optional => false,
        Identifier::Required => true,
    };
    if extensions.insert(PAYMENT_IDENTIFIER.to_owned(), advertised(required)).is_none() {
        return Some(extensions);
    }
    let entries = table.and_then(|table| table.get("extensions")).and_then(|node| node.entries());
    let written = entries.into_iter().flatten().find(|(name, _)| *name == PAYMENT_IDENTIFIER);
    if let Some((_, node)) = written {
        node.key_error(
            "is what the key `payment_identifier` advertises",
            "keep the key, or write payment_identifier = \"none\" for this route",
        );
    }
    None
}

/// The networks an offer is for.
fn networks<'a>(
    builder: &mut Builder<'_, 'a>,
    terms: &Terms<'a>,
    node: &Node<'a>,
) -> Option<Vec<(Network, Node<'a>)>> {
    match &terms.networks {
        Setting::Is(networks) => Some(networks.clone()),
        Setting::Wrong => None,
        Setting::Unset => {
            let message = "network: missing, so nobody could pay".to_owned();
            builder.tell_once(node, message, "write network = \"base\" at the top of the file".into());
            None
        }
    }
}

/// Every pair that exists; each network must be in one, and each asset.
fn pairs<'a>(
    builder: &Builder<'_, 'a>,
    networks: &[(Network, Node<'a>)],
    names: &[(String, Node<'a>)],
) -> Option<Pairs<'a>> {
    let mut pairs = Vec::new();
    let mut complete = true;
    let all: Vec<&Network> = networks.iter().map(|(network, _)| network).collect();
    for (name, name_node) in names {
        if !all.iter().any(|network| builder.assets.find(network, name).is_some()) {
            builder.assets.report_unknown(name_node, name, &all);
            complete = false;
        }
    }
    for (network, network_node) in networks {
        let assets: Vec<Asset> = if names.is_empty() {
            builder.assets.default_of(network).into_iter().collect()
        } else {
            names.iter().filter_map(|(name, _)| builder.assets.find(network, name)).collect()
        };
        if assets.is_empty() && complete {
            let name = network.name();
            let message = match names {
                [] => format!("{name} has no default asset"),
                [(asset, _)] => format!("{name} has no asset {}", asset.escape_debug()),
                _ => format!("{name} has none of the assets"),
            };
            network_node.error(
                message,
                "name an asset it has, declare one with [assets.NAME], or leave the network out",
            );
            complete = false;
        }
        pairs.extend(assets.into_iter().map(|asset| (network.clone(), network_node.clone(), asset)));
    }
    complete.then_some(pairs)
}

/// An amount in smallest units means the same money only in assets with the same decimals.
fn same_units(price: &Price, pairs: &Pairs<'_>, node: &Node<'_>) -> Option<()> {
    let Price::Atomic(_) = price else { return Some(()) };
    let mut decimals = pairs.iter().map(|(_, _, asset)| asset.decimals);
    let first = decimals.next();
    if decimals.all(|other| Some(other) == first) {
        return Some(());
    }
    node.error(
        "is in smallest units, which are not worth the same in assets with different decimals",
        "write a decimal price such as \"$0.01\", or `accepts` with one entry for each asset",
    );
    None
}

fn warn_of_size(offer: &Offer, public_url: &str, node: &Node<'_>) {
    let accepts: Vec<_> = offer.accepts.iter().map(|accept| &accept.requirements).collect();
    // A path of a hundred characters stands for the one that a request adds.
    let url = format!("{public_url}/{}", "x".repeat(100));
    let mut resource = serde_json::to_value(&offer.resource).unwrap_or_default();
    if let Some(members) = resource.as_object_mut() {
        members.insert("url".into(), url.into());
    }
    let challenge = json!({
        "x402Version": 2,
        "error": "Payment required",
        "resource": resource,
        "accepts": accepts,
        "extensions": offer.extensions,
    });
    let size = header::encode(&challenge).map_or(0, |encoded| encoded.len());
    if size > CHALLENGE_MAX {
        node.warning(
            format!(
                "the 402 has a PAYMENT-REQUIRED header of about {size} bytes; \
                 many clients and proxies take {CHALLENGE_MAX}"
            ),
            "offer fewer ways to pay, or shorten `description` and `extensions`",
        );
    }
}
