//! A configuration in words: which requests a route is for, what it decides, where they go.

use super::Config;
use crate::facilitator::settings::FacilitatorSettings;
use crate::policy::{
    Accept, Condition, Decision, FacilitatorId, HostPattern, PathPattern, Route, SettleWhen, UpstreamId,
};

/// Which requests a route is for: `GET example.com/path header x-tier = "bulk"`.
#[must_use]
pub fn request_words(route: &Route) -> String {
    let host = |host: &HostPattern| match host {
        HostPattern::Exact(host) => host.clone(),
        HostPattern::Below(domain) => format!("*.{domain}"),
    };
    let hosts: Vec<String> = route.hosts.iter().map(host).collect();
    let path = match &route.path {
        PathPattern::Any if route.hosts.is_empty() => "every path",
        PathPattern::Any => "",
        PathPattern::Glob(_) | PathPattern::Regex(_) => route.path.as_str(),
    };
    let mut words = Vec::new();
    if !route.methods.is_empty() {
        words.push(route.methods.join("|"));
    }
    words.push(format!("{}{path}", hosts.join("|")));
    let conditions = |kind: &'static str, conditions: &[Condition]| {
        conditions.iter().map(|condition| format!("{kind} {condition}")).collect::<Vec<_>>()
    };
    words.extend(conditions("header", &route.headers));
    words.extend(conditions("query", &route.query));
    words.join(" ")
}

/// What a route decides: `free`, `denied`, or its prices.
#[must_use]
pub fn decision_words(config: &Config, route: &Route) -> String {
    match &route.decision {
        Decision::Free => "free".to_owned(),
        Decision::Deny => "denied".to_owned(),
        Decision::Paid(offer) => {
            let mut prices: Vec<String> = offer.accepts.iter().map(Accept::price).collect();
            if prices.len() > 3 {
                let more = prices.len() - 2;
                prices.truncate(2);
                prices.push(format!("{more} more"));
            }
            let first = offer.accepts.first().map(|accept| facilitator_names(config, accept.facilitator));
            format!("{} by {}", prices.join(" or "), first.unwrap_or_default())
        }
    }
}

/// Where requests go, and when they are settled, if that is not the usual.
#[must_use]
pub fn target_words(config: &Config, route: &Route) -> String {
    match &route.decision {
        Decision::Deny => String::new(),
        Decision::Paid(offer) if offer.settle == SettleWhen::BeforeRequest => {
            format!("-> {}, settled first", upstream_name(config, route.upstream))
        }
        Decision::Paid(_) | Decision::Free => format!("-> {}", upstream_name(config, route.upstream)),
    }
}

/// The name of an upstream.
#[must_use]
pub fn upstream_name(config: &Config, id: UpstreamId) -> &str {
    config.upstreams.get(id.0).map_or("", |upstream| &upstream.name)
}

/// The names of the facilitators of a group, in the order they stand in for each other.
#[must_use]
pub fn facilitator_names(config: &Config, id: FacilitatorId) -> String {
    let group = config.facilitator_groups.get(id.0).map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = group
        .iter()
        .filter_map(|index| config.facilitators.get(*index))
        .map(FacilitatorSettings::name)
        .collect();
    names.join(", then ")
}
