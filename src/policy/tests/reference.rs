//! A slow route table that is easy to believe, and the promise that the fast one agrees with it.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;

/// The route for a request: tries every route on every reading and takes the greatest by a plain key.
fn choose_slowly(routes: &[Route], default: &Decision, request: &Request) -> Result<Choice, RouteError> {
    let readings: Vec<_> = request.path.readings().collect();
    let choices: Vec<_> = readings.iter().map(|reading| greatest(routes, request, reading)).collect();
    let decision = |choice: &Choice| match choice {
        Choice::Route(number) => &routes[*number].decision,
        Choice::Default => default,
    };
    let told = readings.iter().zip(&choices).all(|(reading, choice)| {
        let places = reading.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        places.filter(|at| reading.len() > at + 1).all(|at| {
            let (script, name) = (&reading[..at], reading[..at].rsplit('/').next().unwrap().to_lowercase());
            let other = greatest(routes, request, script);
            ![".php", ".cgi"].iter().any(|extension| name.ends_with(extension))
                || *choice == other
                || *decision(choice) == Decision::Deny
                || *decision(&other) == Decision::Free
                || tells(routes, *choice, other, script.matches('/').count())
        })
    });
    let same = choices.iter().all(|choice| *choice == choices[0]);
    let all = |wanted: &Decision| choices.iter().all(|choice| decision(choice) == wanted);
    if told && (same || all(&Decision::Free) || all(&Decision::Deny)) {
        Ok(choices[0])
    } else {
        Err(RouteError::Ambiguous)
    }
}

/// The greatest of the routes that fit one reading.
fn greatest(routes: &[Route], request: &Request, reading: &str) -> Choice {
    let fitting = routes.iter().enumerate().filter_map(|(number, route)| {
        let host = host_rank(route, &request.host)?;
        let fits = path_fits(route, reading) && conditions_hold(route, request);
        let conditions = usize::from(!route.methods.is_empty()) + route.headers.len() + route.query.len();
        fits.then(|| (host, path_rank(&route.path), conditions, Reverse(number)))
    });
    fitting.max().map_or(Choice::Default, |(_, _, _, Reverse(number))| Choice::Route(number))
}

/// Whether the route of a path goes on where that of a script of so many segments ends, and is as clear
/// about each of its segments.
fn tells(routes: &[Route], whole: Choice, script: Choice, depth: usize) -> bool {
    let ranks = |choice: Choice| match choice {
        Choice::Route(number) if matches!(routes[number].path, PathPattern::Glob(_)) => {
            tokens(routes[number].path.as_str()).iter().map(|token| rank(token)).collect()
        }
        Choice::Route(_) | Choice::Default => Vec::new(),
    };
    let (whole, script): (Vec<_>, Vec<_>) = (ranks(whole), ranks(script));
    let (many, literal) = ((0, 0), (3, 0));
    if whole.len() <= depth || whole[..depth].contains(&many) {
        return false;
    }
    if script.len() < depth || script[..depth].contains(&many) {
        return whole[depth - 1] == literal;
    }
    (0..depth).all(|at| whole[at] >= script[at])
}

fn host_rank(route: &Route, host: &str) -> Option<usize> {
    if route.hosts.is_empty() {
        return Some(0);
    }
    let ranks = route.hosts.iter().filter_map(|pattern| match pattern {
        HostPattern::Exact(exact) => (exact == host).then_some(usize::MAX),
        HostPattern::Below(domain) => host.ends_with(&format!(".{domain}")).then_some(domain.len()),
    });
    ranks.max()
}

fn path_rank(path: &PathPattern) -> (u8, Vec<(u8, usize)>) {
    match path {
        PathPattern::Regex(_) => (1, Vec::new()),
        PathPattern::Any => (0, vec![(0, 0)]),
        PathPattern::Glob(_) if !path.as_str().contains(['*', '{']) => (2, Vec::new()),
        PathPattern::Glob(_) => (0, tokens(path.as_str()).iter().map(|token| rank(token)).collect()),
    }
}

fn rank(token: &str) -> (u8, usize) {
    match token {
        "**" => (0, 0),
        "*" => (1, 0),
        _ if token.contains('*') => (2, token.len() - token.matches('*').count()),
        _ => (3, 0),
    }
}

/// The segments of a pattern: `*` for one of any name, `**` for any number.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let last = text.split('/').count() - 1;
    for (position, token) in text.split('/').enumerate().skip(1) {
        let token = if token.starts_with('{') { "*" } else { token };
        let token = if position == last && text.ends_with("/*") { "**" } else { token };
        let repeated = token == "**" && tokens.last().is_some_and(|before| before == "**");
        if !token.is_empty() && !repeated {
            tokens.push(token.to_owned());
        }
    }
    tokens
}

fn path_fits(route: &Route, reading: &str) -> bool {
    let free = route.decision == Decision::Free;
    let text = route.path.as_str();
    let slash = reading != "/" && reading.ends_with('/');
    match &route.path {
        PathPattern::Any => true,
        PathPattern::Regex(_) if free => fits_regex(&format!("^({text})$"), reading),
        PathPattern::Regex(_) => {
            let bare = reading.strip_suffix('/').unwrap_or(reading);
            [bare, reading, &format!("{bare}/")]
                .iter()
                .any(|path| fits_regex(&format!("(?i)^({text})$"), path))
        }
        PathPattern::Glob(_) => {
            let body = if slash { &reading[1..reading.len() - 1] } else { &reading[1..] };
            let segments: Vec<&str> = if reading == "/" { Vec::new() } else { body.split('/').collect() };
            let tokens = tokens(text);
            let open = text.ends_with('*') && tokens.last().is_some_and(|last| last == "**");
            if free {
                (open || slash == (text != "/" && text.ends_with('/')))
                    && tokens_fit(&tokens, &segments, true)
            } else {
                let tokens: Vec<_> = tokens.iter().map(|token| token.to_lowercase()).collect();
                let segments: Vec<_> = segments.iter().map(|segment| segment.to_lowercase()).collect();
                tokens_fit(&tokens, &segments.iter().map(String::as_str).collect::<Vec<_>>(), false)
            }
        }
    }
}

fn fits_regex(text: &str, path: &str) -> bool {
    ::regex::Regex::new(text).unwrap().is_match(path)
}

fn tokens_fit(tokens: &[String], segments: &[&str], free: bool) -> bool {
    match (tokens, segments) {
        ([], []) => true,
        ([many, rest @ ..], _) if many == "**" => {
            (0..=segments.len()).any(|taken| tokens_fit(rest, &segments[taken..], free))
        }
        ([token, tokens @ ..], [segment, segments @ ..]) => {
            let one = token == "*" && (!free || !segment.is_empty());
            let part = token != "*" && stars_fit(token.as_bytes(), segment.as_bytes());
            (one || part) && tokens_fit(tokens, segments, free)
        }
        ([], _) | (_, []) => false,
    }
}

fn stars_fit(token: &[u8], name: &[u8]) -> bool {
    match (token, name) {
        ([], []) => true,
        ([b'*', token @ ..], _) => (0..=name.len()).any(|taken| stars_fit(token, &name[taken..])),
        ([first, token @ ..], [letter, name @ ..]) => first == letter && stars_fit(token, name),
        ([], _) | (_, []) => false,
    }
}

fn conditions_hold(route: &Route, request: &Request) -> bool {
    let free = route.decision == Decision::Free;
    let sent: Vec<_> = request.headers.get_all("x").iter().map(|value| value.to_str().unwrap()).collect();
    let sent: Vec<_> = sent.into_iter().map(|value| (true, value)).collect();
    let header = route.headers.iter().all(|condition| holds(&condition.value, &sent, free));
    let query = route.query.iter().all(|condition| {
        holds(&condition.value, &sent_in_query(&request.query, &condition.name, free), free)
    });
    let method = request.method.as_str();
    let covers = |known: &String| known == method || (known == "GET" && method == "HEAD");
    header && query && (route.methods.is_empty() || route.methods.iter().any(covers))
}

/// What was sent under a name: whether it was spelled the same, and the value.
fn sent_in_query<'a>(query: &'a str, name: &str, free: bool) -> Vec<(bool, &'a str)> {
    let pairs = query.split(|letter| letter == '&' || (letter == ';' && !free));
    let pairs = pairs.filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs
        .filter(|(sent, _)| sent.eq_ignore_ascii_case(name))
        .map(|(sent, value)| (sent == name, value))
        .collect()
}

/// One value that fits is enough to pay; to go free there must be one under the very name, and none
/// that does not fit.
fn holds(wanted: &ValueMatch, sent: &[(bool, &str)], free: bool) -> bool {
    let named = sent.iter().any(|(same, _)| *same);
    let fits = |value: &str| match wanted {
        ValueMatch::Equals(text) => value == text,
        ValueMatch::Regex(regex) => regex.is_match(value),
        ValueMatch::Present(_) => true,
    };
    match (wanted, free) {
        (ValueMatch::Present(false), true) => sent.is_empty(),
        (ValueMatch::Present(false), false) => !named,
        (_, true) => named && (sent.iter().all(|(_, value)| fits(value))),
        (_, false) => sent.iter().any(|(_, value)| fits(value)),
    }
}

fn some_value() -> impl Strategy<Value = ValueMatch> {
    prop_oneof![
        4 => prop::sample::select(vec!["1", "2"]).prop_map(|text| ValueMatch::Equals(text.to_owned())),
        2 => any::<bool>().prop_map(ValueMatch::Present),
        2 => prop::sample::select(vec!["^1", "[12]", "^$"])
            .prop_map(|text| ValueMatch::Regex(::regex::Regex::new(text).unwrap())),
    ]
}

fn some_segment() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "a", "b", "A", "ab", "aab", "*", "*", "**", "{n}", "a*", "*b", "a*b", "*a*", "a.php", "a.php",
        "*.php", "b.cgi",
    ])
}

fn some_path_pattern() -> impl Strategy<Value = PathPattern> {
    let segments = prop::collection::vec(some_segment(), 0..5);
    let glob = (segments, prop::sample::select(vec!["", "", "", "/"])).prop_map(|(segments, slash)| {
        if segments.is_empty() { pattern("/") } else { pattern(&format!("/{}{slash}", segments.join("/"))) }
    });
    let regexes = vec!["/a.*", "/(a|b)/.*", "/[^/]*", "/a/", "/.*b"];
    prop_oneof![12 => glob, 2 => prop::sample::select(regexes).prop_map(regex), 1 => Just(PathPattern::Any)]
}

pub(super) fn some_route() -> impl Strategy<Value = Route> {
    let decision = prop_oneof![3 => Just(priced()), 2 => Just(Decision::Free), 1 => Just(Decision::Deny)];
    let hosts = prop_oneof![
        6 => Just(vec![]),
        4 => prop::collection::vec(prop::sample::select(vec!["x.com", "a.x.com", "*.x.com", "*.com", "*.a.x.com"]), 1..3),
    ];
    let methods = prop_oneof![
        3 => Just(vec![]),
        1 => prop::collection::vec(prop::sample::select(vec!["GET", "HEAD", "POST"]), 1..3),
    ];
    let header = prop::option::weighted(0.25, some_value());
    let query = prop::option::weighted(0.25, some_value());
    (some_path_pattern(), decision, hosts, methods, header, query).prop_map(
        |(path, decision, hosts, methods, header, query)| {
            let mut route = route(path, decision);
            route = hosts.into_iter().fold(route, Route::host);
            route = methods.into_iter().fold(route, Route::method);
            let condition = |name: &str, value| Condition { name: name.to_owned(), value };
            route.headers.extend(header.map(|value| condition("x", value)));
            route.query.extend(query.map(|value| condition("q", value)));
            route
        },
    )
}

pub(super) fn some_request() -> impl Strategy<Value = Request> {
    let segment = prop::sample::select(vec![
        "a",
        "b",
        "A",
        "ab",
        "aab",
        "ba",
        "c",
        "B",
        "a",
        "b",
        "",
        "a;x",
        "a%2Fb",
        "b.",
        "%2561",
        ";",
        "a.php",
        "a.php",
        "A.PHP",
        "b.cgi",
        "a%2Ephp",
        "a.php%2Fb",
    ]);
    let path = (prop::collection::vec(segment, 1..6), prop::sample::select(vec!["", "", "/"]))
        .prop_map(|(segments, slash)| format!("/{}{slash}", segments.join("/")));
    let host = prop::sample::select(vec!["", "x.com", "a.x.com", "b.a.x.com", "com", "y.org"]);
    let method = prop::sample::select(vec!["GET", "HEAD", "POST"]);
    let headers = prop::collection::vec(prop::sample::select(vec!["1", "2"]), 0..3);
    let query = prop::sample::select(vec![
        "", "q=1", "q=2", "q", "Q=1", "q=", "p=1", "q=1&q=2", "q=2;q=1", "p;q=2", "q=1&Q=2", "&q=11&",
    ]);
    let path = path.prop_filter("has too many readings", |path| RoutePath::parse(path).is_ok());
    (path, host, method, headers, query).prop_map(|(path, host, method, headers, query)| {
        let request = Request::to(&path).host(host).method(method).query(query);
        headers.into_iter().fold(request, |request, value| request.header("x", value))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_table_agrees_with_one_that_tries_every_route(
        routes in prop::collection::vec(some_route(), 0..14),
        default in prop::sample::select(vec![Decision::Free, priced(), Decision::Deny]),
        requests in prop::collection::vec(some_request(), 1..12),
    ) {
        let table = RouteTable::new(routes.clone(), route(PathPattern::Any, default.clone()));
        for request in &requests {
            let expected = choose_slowly(&routes, &default, request);
            prop_assert_eq!(table.choose(&request.facts()), expected, "{:?}", request);
            prop_assert_eq!(table.explain(&request.facts()).outcome, expected);
        }
    }

    #[test]
    fn a_route_reported_as_unreachable_is_never_chosen(
        routes in prop::collection::vec(some_route(), 0..14),
        requests in prop::collection::vec(some_request(), 1..30),
    ) {
        let table = table(routes);
        let unreachable = table.unreachable();
        for request in &requests {
            for (_, choice) in table.explain(&request.facts()).readings {
                prop_assert!(unreachable.iter().all(|hidden| Choice::Route(hidden.route) != choice));
            }
        }
    }
}
