//! Offers as they can be settled at present: the operator's terms, completed by what facilitators
//! currently support, with the challenge prepared from them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::challenge::Challenge;
use super::live::{LiveTerms, ToldOthers};
use crate::policy::{FacilitatorId, Offer, RouteTable};
use crate::scheme;
use crate::x402::{Network, Supported, SupportedKind};

/// What a priced route asks for at present.
#[derive(Debug)]
pub struct LiveOffer {
    /// The terms, and which payments are for them.
    pub terms: LiveTerms,
    /// The prepared answer to unpaid requests.
    pub challenge: Challenge,
}

/// All live offers, by [`Offer::index`].
#[derive(Debug)]
pub struct OfferBook {
    routes: Arc<RouteTable>,
    public_url: String,
    /// Held while something is noted.
    noting: Mutex<()>,
    live: ArcSwap<Live>,
}

/// What is known, and the offers that follow from it.
#[derive(Debug, Default)]
struct Live {
    known: HashMap<FacilitatorId, Known>,
    offers: Vec<Option<Arc<LiveOffer>>>,
}

/// What is known of a facilitator.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) supported: Arc<Supported>,
    /// Values seen for `extra` members that rotate: `(scheme, network, member)`, newest last.
    rotating: HashMap<(String, String, String), Vec<Value>>,
}

/// A value that a facilitator advertised for a member of `extra` that rotates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rotating {
    pub(super) scheme: String,
    pub(super) network: Network,
    pub(super) member: String,
    pub(super) value: Value,
}

/// Values of a rotating member that stay acceptable.
const REMEMBERED_VALUES: usize = 32;

impl OfferBook {
    /// A book in which nothing can be settled yet.
    #[must_use]
    pub fn new(routes: Arc<RouteTable>, public_url: String) -> Self {
        let book = Self { routes, public_url, noting: Mutex::default(), live: ArcSwap::default() };
        book.rebuild(HashMap::new());
        book
    }

    /// The routes whose offers these are.
    pub(super) fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// What clients see of the site.
    pub(super) fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Takes note of what a facilitator supports, and prepares every offer anew if that changed.
    pub fn observe(&self, facilitator: FacilitatorId, supported: Arc<Supported>) {
        let _noting = self.noting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.knows(facilitator, &supported) {
            return;
        }
        let mut known = self.live.load().known.clone();
        let entry = known.entry(facilitator).or_default();
        entry.remember(&supported);
        entry.supported = supported;
        self.rebuild(known);
    }

    /// Whether this is what is known of a facilitator already.
    pub(super) fn knows(&self, facilitator: FacilitatorId, supported: &Arc<Supported>) -> bool {
        self.live.load().known.get(&facilitator).is_some_and(|known| known.supported == *supported)
    }

    /// What of an answer of a facilitator will be quoted as it is now and may be otherwise in its next.
    pub(super) fn rotating(&self, facilitator: FacilitatorId, supported: &Supported) -> Vec<Rotating> {
        let is_quoted = |kind: &SupportedKind, member: &str| {
            let mut offers = self.routes.all().filter_map(|route| route.offer());
            offers.any(|offer| {
                offer.accepts.iter().any(|accept| {
                    let terms = &accept.requirements;
                    accept.facilitator == facilitator
                        && terms.scheme == kind.scheme
                        && terms.network == kind.network
                        && !terms.extra.contains_key(member)
                })
            })
        };
        let mut rotating: Vec<Rotating> = Vec::new();
        for (kind, member, value) in advertised(supported) {
            let (scheme, network) = (kind.scheme.clone(), kind.network.clone());
            let found = Rotating { scheme, network, member: member.to_owned(), value: value.clone() };
            if !rotating.contains(&found) && is_quoted(kind, member) {
                rotating.push(found);
            }
        }
        rotating
    }

    /// The offer at an index, if anything of it can be settled.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Arc<LiveOffer>> {
        self.live.load().offers.get(index).cloned().flatten()
    }

    /// What of any offer can be settled at present, also with values that others were told.
    pub(super) fn terms_of(&self, offer: &Offer, told_others: ToldOthers<'_>) -> Option<LiveTerms> {
        let live = self.live.load();
        LiveTerms::build(offer, |facilitator| live.known.get(&facilitator), told_others)
    }

    fn rebuild(&self, known: HashMap<FacilitatorId, Known>) {
        let mut offers: Vec<Option<Arc<LiveOffer>>> = Vec::new();
        for offer in self.routes.all().filter_map(|route| route.offer()) {
            if offers.len() <= offer.index {
                offers.resize_with(offer.index + 1, || None);
            }
            offers[offer.index] = LiveOffer::build(offer, &self.public_url, &known).map(Arc::new);
        }
        self.live.store(Arc::new(Live { known, offers }));
    }
}

impl Known {
    fn remember(&mut self, supported: &Supported) {
        for (kind, member, value) in advertised(supported) {
            let values = self.rotating.entry(key(kind, member)).or_default();
            values.retain(|known| known != value);
            values.push(value.clone());
            if values.len() > REMEMBERED_VALUES {
                values.remove(0);
            }
        }
    }

    /// Values that were advertised to this gateway for a member, the present one included.
    pub(super) fn advertised_before(&self, kind: &SupportedKind, member: &str) -> &[Value] {
        self.rotating.get(&key(kind, member)).map(Vec::as_slice).unwrap_or_default()
    }
}

impl LiveOffer {
    fn build(offer: &Offer, public_url: &str, known: &HashMap<FacilitatorId, Known>) -> Option<Self> {
        let terms = LiveTerms::build(offer, |facilitator| known.get(&facilitator), &|_, _| Vec::new())?;
        let requirements: Vec<_> = terms.accepts.iter().map(|accept| &accept.requirements).collect();
        let v1_requirements: Vec<_> =
            terms.accepts.iter().filter(|accept| accept.v1).map(|accept| &accept.requirements).collect();
        let challenge = Challenge::prepare(offer, public_url, &requirements, &v1_requirements);
        Some(Self { terms, challenge })
    }
}

fn key(kind: &SupportedKind, member: &str) -> (String, String, String) {
    (kind.scheme.clone(), kind.network.to_string(), member.to_owned())
}

/// What a facilitator advertises for members that rotate.
fn advertised(supported: &Supported) -> impl Iterator<Item = (&SupportedKind, &'static str, &Value)> {
    supported.kinds.iter().flat_map(|kind| {
        let members = scheme::find(&kind.scheme, &kind.network).advertised_extra();
        members.iter().filter_map(move |member| Some((kind, *member, kind.extra.get(*member)?)))
    })
}
