//! Price lists: what one configuration quotes, as text, so that whoever holds another configuration can
//! tell what a request was quoted.

use std::collections::HashMap;
use std::hash::Hash;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::host::HostPattern;
use super::matcher::{Condition, ValueMatch};
use super::offer::{Accept, FacilitatorId, Offer, SettleWhen, V1Mode};
use super::pattern::{PathPattern, PatternError};
use super::route::{Decision, Route, RouteFacts, UpstreamId};
use super::table::RouteTable;
use crate::x402::{AtomicAmount, Network, PaymentRequirements, ResourceInfo};

/// The shape of the text. Another one is not read.
const VERSION: u32 = 1;

/// What one configuration quotes: which requests are priced, and at which terms. Facilitators go by
/// name in it, because every configuration numbers its own.
///
/// It has no secrets, and nothing of what is only told beside a price, such as descriptions.
#[derive(Debug)]
pub struct PriceList {
    public_url: String,
    facilitators: Vec<String>,
    terms: Vec<Terms>,
    extensions: Vec<Map<String, Value>>,
    offers: Vec<ListedOffer>,
    /// Its offers have no ways to pay; they are in `offers`, by [`Offer::index`], so that a long list
    /// takes little room.
    table: RouteTable,
}

/// What a price list quotes for a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Quote<'a> {
    /// Name of its route in that list.
    pub route: &'a str,
    /// What was asked for, without what is only told beside a price.
    pub offer: Offer,
}

/// Why a text is not a price list.
#[derive(Debug, thiserror::Error)]
pub enum PriceListError {
    /// It is not of the shape this version writes.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// It is written in another version's way.
    #[error("it is of version {0}")]
    Version(u32),
    /// A host, path or condition is none.
    #[error("route {route}: {cause}")]
    Route {
        /// The route's name.
        route: String,
        /// What is wrong with it.
        cause: String,
    },
    /// It points to something that is not in it.
    #[error("it names terms, extensions, facilitators or offers that it does not have")]
    Dangling,
}

/// Everything of a way to pay but the amount: long lists differ in amounts mostly.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    scheme: String,
    network: Network,
    asset: String,
    pay_to: String,
    max_timeout_seconds: u64,
    extra: Map<String, Value>,
    facilitator: usize,
    symbol: String,
    decimals: u8,
    v1: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListedOffer {
    accepts: Vec<(usize, AtomicAmount)>,
    extensions: usize,
    settle: SettleWhen,
    v1: V1Mode,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    public_url: String,
    facilitators: Vec<String>,
    terms: Vec<Terms>,
    extensions: Vec<Map<String, Value>>,
    offers: Vec<ListedOffer>,
    routes: Vec<WrittenRoute>,
    default: WrittenRoute,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRoute {
    name: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
    path: WrittenPath,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, WrittenValue)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    query: Vec<(String, WrittenValue)>,
    decision: WrittenDecision,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenPath {
    Any,
    Glob(String),
    Regex(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenValue {
    Equals(String),
    Present(bool),
    Regex(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenDecision {
    Free,
    Deny,
    Paid(usize),
}

impl PriceList {
    /// Writes down what a table quotes. `facilitators` are the names of its facilitators, by
    /// [`FacilitatorId`]. The same configuration always gives the same text.
    #[must_use]
    pub fn write(table: &RouteTable, public_url: &str, facilitators: &[&str]) -> String {
        let mut writer = Writer::default();
        let written = Written {
            version: VERSION,
            public_url: public_url.to_owned(),
            facilitators: facilitators.iter().map(|name| (*name).to_owned()).collect(),
            routes: table.routes().map(|route| writer.route(route)).collect(),
            default: writer.route(table.default()),
            terms: writer.terms.values,
            extensions: writer.extensions.values,
            offers: writer.offers.values,
        };
        // Texts, numbers and maps with texts for keys always serialise.
        serde_json::to_string(&written).unwrap_or_default()
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// [`PriceListError`]; nothing of such a text may be relied on.
    pub fn read(text: &str) -> Result<Self, PriceListError> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_str(text)?;
        if version != VERSION {
            return Err(PriceListError::Version(version));
        }
        let Written { public_url, facilitators, terms, extensions, offers, routes, default, .. } =
            serde_json::from_str(text)?;
        let is_whole = terms.iter().all(|terms| terms.facilitator < facilitators.len())
            && offers.iter().all(|offer| {
                let has_terms = |(index, _): &(usize, AtomicAmount)| *index < terms.len();
                offer.extensions < extensions.len() && offer.accepts.iter().all(has_terms)
            });
        if !is_whole {
            return Err(PriceListError::Dangling);
        }
        let routes = routes.into_iter().map(|route| route.read(&offers)).collect::<Result<_, _>>()?;
        let table = RouteTable::new(routes, default.read(&offers)?);
        Ok(Self { public_url, facilitators, terms, extensions, offers, table })
    }

    /// What clients saw of the site: the beginning of every quoted resource's URL.
    #[must_use]
    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// What was quoted for a request; `None` when nothing was, or in ways of which none can be told by
    /// now. `facilitator` says which of today's facilitators has a name; ways to pay through others
    /// are left out.
    #[must_use]
    pub fn quote(
        &self,
        facts: &RouteFacts<'_>,
        facilitator: impl Fn(&str) -> Option<FacilitatorId>,
    ) -> Option<Quote<'_>> {
        let route = self.table.find(facts).ok()?;
        let listed = self.offers.get(route.offer()?.index)?;
        let accept = |(terms, amount): &(usize, AtomicAmount)| {
            let terms = self.terms.get(*terms)?;
            let name = self.facilitators.get(terms.facilitator)?;
            Some(terms.accept(*amount, facilitator(name)?))
        };
        let accepts: Vec<Accept> = listed.accepts.iter().filter_map(accept).collect();
        let extensions = self.extensions.get(listed.extensions)?.clone();
        let offer = Offer { accepts, extensions, ..listed.bare(route.offer()?.index) };
        (!offer.accepts.is_empty()).then_some(Quote { route: &route.name, offer })
    }
}

impl RouteTable {
    /// How long the quote that stays valid longest does, in seconds; `None` when nothing is priced.
    #[must_use]
    pub fn longest_quote_seconds(&self) -> Option<u64> {
        let offers = self.all().filter_map(|route| route.offer());
        offers.flat_map(|offer| &offer.accepts).map(|accept| accept.requirements.max_timeout_seconds).max()
    }
}

impl Terms {
    fn of(accept: &Accept) -> Self {
        let PaymentRequirements { scheme, network, amount: _, asset, pay_to, max_timeout_seconds, extra } =
            accept.requirements.clone();
        Self {
            scheme,
            network,
            asset,
            pay_to,
            max_timeout_seconds,
            extra,
            facilitator: accept.facilitator.0,
            symbol: accept.symbol.clone(),
            decimals: accept.decimals,
            v1: accept.v1,
        }
    }

    fn accept(&self, amount: AtomicAmount, facilitator: FacilitatorId) -> Accept {
        let requirements = PaymentRequirements {
            scheme: self.scheme.clone(),
            network: self.network.clone(),
            amount,
            asset: self.asset.clone(),
            pay_to: self.pay_to.clone(),
            max_timeout_seconds: self.max_timeout_seconds,
            extra: self.extra.clone(),
        };
        Accept {
            requirements,
            facilitator,
            symbol: self.symbol.clone(),
            decimals: self.decimals,
            v1: self.v1,
        }
    }
}

impl ListedOffer {
    /// The offer at an index, without its ways to pay and its extensions.
    fn bare(&self, index: usize) -> Offer {
        Offer {
            index,
            accepts: Vec::new(),
            resource: ResourceInfo::default(),
            extensions: Map::new(),
            settle: self.settle,
            v1: self.v1,
        }
    }
}

/// Values in the order they first came in, each once.
struct Distinct<T> {
    values: Vec<T>,
    places: HashMap<T, usize>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { values: Vec::new(), places: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    fn place(&mut self, value: T) -> usize {
        if let Some(place) = self.places.get(&value) {
            return *place;
        }
        let place = self.values.len();
        self.values.push(value.clone());
        self.places.insert(value, place);
        place
    }
}

#[derive(Default)]
struct Writer {
    terms: Distinct<Terms>,
    extensions: Distinct<Map<String, Value>>,
    offers: Distinct<ListedOffer>,
}

impl Writer {
    fn route(&mut self, route: &Route) -> WrittenRoute {
        WrittenRoute {
            name: route.name.clone(),
            hosts: route.hosts.iter().map(written_host).collect(),
            methods: route.methods.clone(),
            path: match &route.path {
                PathPattern::Any => WrittenPath::Any,
                PathPattern::Glob(_) => WrittenPath::Glob(route.path.as_str().to_owned()),
                PathPattern::Regex(_) => WrittenPath::Regex(route.path.as_str().to_owned()),
            },
            headers: route.headers.iter().map(written_condition).collect(),
            query: route.query.iter().map(written_condition).collect(),
            decision: match &route.decision {
                Decision::Free => WrittenDecision::Free,
                Decision::Deny => WrittenDecision::Deny,
                Decision::Paid(offer) => WrittenDecision::Paid(self.offer(offer)),
            },
        }
    }

    fn offer(&mut self, offer: &Offer) -> usize {
        let accepts = offer.accepts.iter();
        let accepts =
            accepts.map(|accept| (self.terms.place(Terms::of(accept)), accept.requirements.amount)).collect();
        let extensions = self.extensions.place(offer.extensions.clone());
        self.offers.place(ListedOffer { accepts, extensions, settle: offer.settle, v1: offer.v1 })
    }
}

impl WrittenRoute {
    fn read(self, offers: &[ListedOffer]) -> Result<Route, PriceListError> {
        let Self { name, hosts, methods, path, headers, query, decision } = self;
        let wrong = |cause: String| PriceListError::Route { route: name.clone(), cause };
        let host =
            |text: String| HostPattern::parse(&text).ok_or_else(|| wrong(format!("{text:?} is no host")));
        let path = match path {
            WrittenPath::Any => Ok(PathPattern::Any),
            WrittenPath::Glob(text) => PathPattern::parse(&text),
            WrittenPath::Regex(text) => PathPattern::regex(&text),
        };
        let conditions = |written: Vec<(String, WrittenValue)>| -> Result<Vec<Condition>, _> {
            written.into_iter().map(|condition| read_condition(condition).map_err(&wrong)).collect()
        };
        Ok(Route {
            hosts: hosts.into_iter().map(host).collect::<Result<_, _>>()?,
            methods,
            path: path.map_err(|error: PatternError| wrong(error.to_string()))?,
            headers: conditions(headers)?,
            query: conditions(query)?,
            decision: match decision {
                WrittenDecision::Free => Decision::Free,
                WrittenDecision::Deny => Decision::Deny,
                WrittenDecision::Paid(index) => {
                    let offer = offers.get(index).ok_or(PriceListError::Dangling)?;
                    Decision::Paid(Box::new(offer.bare(index)))
                }
            },
            // Where a request goes is today's configuration's to say.
            upstream: UpstreamId(0),
            name,
        })
    }
}

fn written_host(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(domain) => format!("*.{domain}"),
    }
}

fn written_condition(condition: &Condition) -> (String, WrittenValue) {
    let value = match &condition.value {
        ValueMatch::Equals(text) => WrittenValue::Equals(text.clone()),
        ValueMatch::Present(present) => WrittenValue::Present(*present),
        ValueMatch::Regex(regex) => WrittenValue::Regex(regex.as_str().to_owned()),
    };
    (condition.name.clone(), value)
}

fn read_condition((name, value): (String, WrittenValue)) -> Result<Condition, String> {
    let value = match value {
        WrittenValue::Equals(text) => ValueMatch::Equals(text),
        WrittenValue::Present(present) => ValueMatch::Present(present),
        WrittenValue::Regex(text) => {
            ValueMatch::Regex(regex::Regex::new(&text).map_err(|error| error.to_string())?)
        }
    };
    Ok(Condition { name, value })
}
