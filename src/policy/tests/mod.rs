//! Promises of the whole module: what is priced is paid for, however it is spelled.

mod explaining;
mod listing;
mod origins;
mod patterns;
mod precedence;
mod reference;
mod scripts;
mod spellings;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

/// What a route table does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Free,
    Denied,
    Priced,
    /// Answered 400.
    Refused,
}

fn priced() -> Decision {
    Decision::Paid(Box::new(Offer {
        index: 0,
        accepts: Vec::new(),
        resource: crate::x402::ResourceInfo::default(),
        extensions: serde_json::Map::new(),
        settle: SettleWhen::default(),
        v1: V1Mode::default(),
    }))
}

fn route(path: PathPattern, decision: Decision) -> Route {
    Route {
        name: path.as_str().to_owned(),
        hosts: Vec::new(),
        methods: Vec::new(),
        path,
        headers: Vec::new(),
        query: Vec::new(),
        decision,
        upstream: UpstreamId(0),
    }
}

fn pattern(text: &str) -> PathPattern {
    PathPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn regex(text: &str) -> PathPattern {
    PathPattern::regex(text).unwrap()
}

fn priced_at(path: &str) -> Route {
    route(pattern(path), priced())
}

fn free_at(path: &str) -> Route {
    route(pattern(path), Decision::Free)
}

fn denied_at(path: &str) -> Route {
    route(pattern(path), Decision::Deny)
}

impl Route {
    fn host(mut self, host: &str) -> Self {
        self.hosts.push(HostPattern::parse(host).unwrap());
        self
    }

    fn method(mut self, method: &str) -> Self {
        self.methods.push(method.to_owned());
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(Condition { name: name.to_owned(), value: ValueMatch::Equals(value.to_owned()) });
        self
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push(Condition { name: name.to_owned(), value: ValueMatch::Equals(value.to_owned()) });
        self
    }
}

/// A table whose default is free.
fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(routes, route(PathPattern::Any, Decision::Free))
}

/// A request, by default `GET` without host, query and headers.
#[derive(Debug, Clone)]
struct Request {
    method: String,
    host: String,
    path: RoutePath,
    query: String,
    headers: HeaderMap,
}

impl Request {
    fn to(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            host: String::new(),
            path: RoutePath::parse(path).unwrap_or_else(|error| panic!("{path}: {error}")),
            query: String::new(),
            headers: HeaderMap::new(),
        }
    }

    fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    fn query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn facts(&self) -> RouteFacts<'_> {
        RouteFacts {
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
        }
    }
}

fn verdict_on(table: &RouteTable, request: &Request) -> Verdict {
    match table.find(&request.facts()).map(|route| &route.decision) {
        Ok(Decision::Free) => Verdict::Free,
        Ok(Decision::Deny) => Verdict::Denied,
        Ok(Decision::Paid(_)) => Verdict::Priced,
        Err(RouteError::Ambiguous) => Verdict::Refused,
    }
}

/// What happens to `GET path`.
fn verdict(table: &RouteTable, path: &str) -> Verdict {
    if RoutePath::parse(path).is_err() {
        return Verdict::Refused;
    }
    verdict_on(table, &Request::to(path))
}
