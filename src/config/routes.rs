//! `[[routes]]` and `default`: which requests cost what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::accepts::Builder;
use super::conditions::{self, Conditions};
use super::keys::ROUTE;
use super::offers;
use super::resource::RESOURCE;
use super::terms::{Setting, TERMS, Terms};
use super::upstreams::Upstreams;
use super::walk::{Node, Section};
use crate::policy::{Decision, HostPattern, PathPattern, Route, RouteTable, Shadow, UpstreamId};

/// The name of the route for what matches no other.
const DEFAULT: &str = "default";

/// Longest name of a route, in characters.
const NAME_MAX: usize = 100;

/// Whether a mode is the shadow's.
const MODES: &[(&str, bool)] = &[("enforce", false), ("shadow", true)];

/// Keys of which a route has exactly one.
const DECISIONS: &[&str] = &["price", "accepts", "free", "deny"];

/// Reads all routes, those of included files behind the others; `None` when something was reported.
pub(super) fn read<'a>(
    top: &Section<'a>,
    included: &[Section<'a>],
    builder: &mut Builder<'_, 'a>,
    upstreams: &mut Upstreams<'a>,
    terms: &Terms<'a>,
) -> Option<(Arc<RouteTable>, Option<Arc<Shadow>>)> {
    let upstream = match top.get("upstream") {
        None => Setting::Unset,
        Some(node) => upstreams.resolve(&node).map_or(Setting::Wrong, Setting::Is),
    };
    let shadow = top.get("mode").and_then(|node| node.choice(MODES)).unwrap_or(false);
    let (names, derived) = (HashSet::new(), HashMap::new());
    let mut reader = Reader { top, builder, upstreams, terms, upstream, shadow, names, derived };
    let lists: Vec<Node<'a>> =
        std::iter::once(top).chain(included).filter_map(|file| file.get("routes")).collect();
    let items: Vec<Node<'a>> = lists.iter().filter_map(Node::items).flatten().collect();
    let sections: Vec<Option<Section<'a>>> = items.iter().map(|item| item.section(&ROUTE)).collect();
    // Names are given first, so that a name an operator chose is never taken by a derived one.
    let chosen: Vec<Option<String>> =
        sections.iter().map(|table| table.as_ref().and_then(|table| reader.chosen_name(table))).collect();
    let mut routes: Vec<(Section<'a>, (Route, bool))> = Vec::new();
    for (table, name) in sections.iter().flatten().zip(chosen) {
        if let Some(route) = reader.route(table, name) {
            let in_shadow = reader.in_shadow(table) && route.decision != Decision::Free;
            routes.push((table.clone(), (route, in_shadow)));
        }
    }
    let default = reader.default()?;
    let default_in_shadow = reader.shadow && default.decision != Decision::Free;
    if routes.len() != items.len() || lists.iter().any(|node| !node.value().is_array()) {
        return None;
    }
    let (tables, routes): (Vec<_>, Vec<_>) = routes.into_iter().unzip();
    let (table, shadow) = Shadow::part(routes, (default, default_in_shadow));
    for found in table.unreachable() {
        if let (Some(hidden), Some(hiding)) = (tables.get(found.route), tables.get(found.because_of)) {
            hidden.warning(
                format!(
                    "can never match: {} in {} takes all its requests",
                    hiding.path(),
                    hiding.place_from(hidden)
                ),
                "delete it, write it before the other, or give it a condition the other lacks",
            );
        }
    }
    Some((Arc::new(table), shadow.map(Arc::new)))
}

struct Reader<'r, 'b, 'a> {
    top: &'r Section<'a>,
    builder: &'r mut Builder<'b, 'a>,
    upstreams: &'r mut Upstreams<'a>,
    terms: &'r Terms<'a>,
    upstream: Setting<UpstreamId>,
    /// Whether what says nothing else is in shadow.
    shadow: bool,
    /// Names that are taken.
    names: HashSet<String>,
    /// How often a name was derived.
    derived: HashMap<String, usize>,
}

impl<'a> Reader<'_, '_, 'a> {
    fn route(&mut self, table: &Section<'a>, name: Option<String>) -> Option<Route> {
        let conditions = conditions::read(table);
        let decision = self.decision(table);
        let is_denied = matches!(decision, Some(Decision::Deny)) || table.get("deny").is_some();
        let upstream = self.upstream(table.get("upstream"), is_denied);
        let Conditions { hosts, methods, path, headers, query } = conditions?;
        let name = name.unwrap_or_else(|| self.derived_name(table, &hosts, &methods, &path));
        let (decision, upstream) = (decision?, upstream?);
        Some(Route { name, hosts, methods, path, headers, query, decision, upstream })
    }

    fn in_shadow(&self, table: &Section<'a>) -> bool {
        table.get("mode").and_then(|node| node.choice(MODES)).unwrap_or(self.shadow)
    }

    fn decision(&mut self, table: &Section<'a>) -> Option<Decision> {
        let terms = Terms::read(table, self.builder.facilitators).or(self.terms);
        let written: Vec<Node<'a>> = DECISIONS.iter().filter_map(|key| table.get(key)).collect();
        let mut decisions: Vec<Option<Decision>> = Vec::new();
        for node in &written {
            decisions.push(match node.name() {
                "price" => offers::priced(self.builder, node, &terms, Some(table)).map(paid),
                "accepts" => offers::written_out(self.builder, node, &terms, table).map(paid),
                "free" => only_true(node).map(|()| Decision::Free),
                _ => only_true(node).map(|()| Decision::Deny),
            });
        }
        match written.as_slice() {
            [] => {
                table.missing(
                    "says neither what a request costs nor that it is free",
                    "add price = \"$0.01\", free = true or deny = true",
                );
                None
            }
            [node] => {
                if matches!(node.name(), "free" | "deny") {
                    warn_of_terms(table, node.name());
                }
                decisions.pop().flatten()
            }
            [first, second, ..] => {
                second.key_error(
                    format!("contradicts `{}`", first.name()),
                    "keep one of `price`, `accepts`, `free` and `deny`",
                );
                None
            }
        }
    }

    fn default(&mut self) -> Option<Route> {
        let decision = match self.top.get("default") {
            None => Some(Decision::Free),
            Some(node) => match node.value().as_str() {
                Some("free") => Some(Decision::Free),
                Some("deny") => Some(Decision::Deny),
                _ => offers::priced(self.builder, &node, self.terms, None).map(paid),
            },
        };
        let is_denied = matches!(decision, Some(Decision::Deny));
        let upstream = self.upstream(None, is_denied);
        Some(Route {
            name: DEFAULT.to_owned(),
            hosts: Vec::new(),
            methods: Vec::new(),
            path: PathPattern::Any,
            headers: Vec::new(),
            query: Vec::new(),
            decision: decision?,
            upstream: upstream?,
        })
    }

    fn upstream(&mut self, own: Option<Node<'a>>, is_denied: bool) -> Option<UpstreamId> {
        if let Some(node) = own {
            return self.upstreams.resolve(&node);
        }
        match self.upstream {
            Setting::Is(id) => Some(id),
            Setting::Wrong => None,
            // Nothing is forwarded there.
            Setting::Unset if is_denied => Some(UpstreamId(0)),
            Setting::Unset => {
                report_no_upstream(self.top);
                None
            }
        }
    }

    fn chosen_name(&mut self, table: &Section<'a>) -> Option<String> {
        let node = table.get("name")?;
        let text = node.text()?;
        if text.chars().count() > NAME_MAX {
            node.error(format!("is longer than {NAME_MAX} characters"), "write a shorter name");
            return None;
        }
        // The name is sent to the site in a header.
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || text.trim() != text {
            node.error(
                "has characters outside printable ASCII, or spaces around it",
                "write it in plain letters",
            );
            return None;
        }
        if text == DEFAULT {
            node.error("is the name of the route for what matches no other", "choose another name");
            return None;
        }
        if !self.names.insert(text.to_owned()) {
            node.error(format!("another route is named \"{text}\""), "give each route a name of its own");
            return None;
        }
        Some(text.to_owned())
    }

    /// A name for a route without one: what it is for, as far as that is short.
    fn derived_name(
        &mut self,
        table: &Section<'a>,
        hosts: &[HostPattern],
        methods: &[String],
        path: &PathPattern,
    ) -> String {
        let host = match hosts.first() {
            None => String::new(),
            Some(HostPattern::Exact(host)) => host.clone(),
            Some(HostPattern::Below(domain)) => format!("*.{domain}"),
        };
        let path = match path {
            PathPattern::Any if hosts.is_empty() => table.path(),
            PathPattern::Any => "",
            PathPattern::Glob(_) | PathPattern::Regex(_) => path.as_str(),
        };
        let method = if let [method] = methods { format!("{method} ") } else { String::new() };
        let escaped: String = format!("{method}{host}{path}").escape_default().take(NAME_MAX).collect();
        let times = self.derived.entry(escaped.clone()).or_insert(0);
        loop {
            *times += 1;
            let name = if *times == 1 { escaped.clone() } else { format!("{escaped} #{times}") };
            if name != DEFAULT && self.names.insert(name.clone()) {
                return name;
            }
        }
    }
}

/// Reports that there is nothing to forward to.
pub(super) fn report_no_upstream(top: &Section<'_>) {
    top.missing(
        "upstream: missing, so nothing could be forwarded",
        "write upstream = \"http://127.0.0.1:8080\", the address of the site, at the top of the file",
    );
}

fn paid(offer: crate::policy::Offer) -> Decision {
    Decision::Paid(Box::new(offer))
}

fn only_true(node: &Node<'_>) -> Option<()> {
    if node.boolean()? {
        return Some(());
    }
    let help = "leave it out; a route says what it is, not what it is not";
    node.error("can only be true", help);
    None
}

fn warn_of_terms(table: &Section<'_>, decision: &str) {
    let kind = if decision == "free" { "free" } else { "denied" };
    let upstream: &[&str] = if decision == "deny" { &["upstream"] } else { &[] };
    for node in [TERMS, RESOURCE, upstream].concat().into_iter().filter_map(|key| table.get(key)) {
        node.key_warning(
            format!("has no effect on a {kind} route"),
            format!("leave it out, or `{decision} = true`"),
        );
    }
}
