//! Which of several fitting routes applies.

use super::*;

/// Asserts that for a request the routes apply in the order given, each when the ones before are gone,
/// whatever order they are written in.
fn assert_ranking(request: &Request, mut best_first: Vec<Route>) {
    while !best_first.is_empty() {
        let name = best_first[0].name.clone();
        for reversed in [false, true] {
            let mut routes = best_first.clone();
            if reversed {
                routes.reverse();
            }
            let table = table(routes);
            let found = table.find(&request.facts()).unwrap();
            assert_eq!(found.name, name, "reversed: {reversed}");
        }
        best_first.remove(0);
    }
}

#[test]
fn the_most_specific_path_wins() {
    assert_ranking(
        &Request::to("/a/b/report.pdf"),
        vec![
            priced_at("/a/b/report.pdf"),
            route(regex("/a/.*"), priced()),
            priced_at("/a/b/report.*"),
            priced_at("/a/b/*.pdf"),
            priced_at("/a/b/*r*"),
            priced_at("/a/b/{file}"),
            priced_at("/a/b/*"),
            priced_at("/a/*b/*"),
            priced_at("/a/{x}/report.pdf"),
            priced_at("/a/{x}/*"),
            priced_at("/a/**/report.pdf"),
            priced_at("/a/**/*.pdf"),
            priced_at("/a/*"),
            priced_at("/*/b/report.pdf"),
            priced_at("/**/b/report.pdf"),
            priced_at("/**/report.pdf"),
            priced_at("/*"),
        ],
    );
}

#[test]
fn the_host_counts_more_than_the_path_and_the_path_more_than_conditions() {
    assert_ranking(
        &Request::to("/a/b").host("x.api.example.com").header("x-tier", "bulk").query("f=1"),
        vec![
            priced_at("/a/b").host("x.api.example.com"),
            priced_at("/*").host("x.api.example.com"),
            priced_at("/a/b").host("*.api.example.com"),
            priced_at("/*").host("*.api.example.com").host("other.example"),
            priced_at("/a/b").host("*.example.com"),
            priced_at("/a/b").host("*.com"),
            priced_at("/a/b"),
            priced_at("/a/{b}").method("GET").header("x-tier", "bulk").query("f", "1"),
            priced_at("/a/{c}").method("GET").header("x-tier", "bulk"),
            priced_at("/a/*").method("GET"),
            priced_at("/a/**"),
        ],
    );
}

#[test]
fn between_equals_the_one_written_first_wins() {
    let table = table(vec![
        priced_at("/a/{x}").method("GET"),
        free_at("/a/{y}").header("x-tier", "bulk"),
        priced_at("/b"),
        free_at("/b"),
        free_at("/c/Secret"),
        priced_at("/c/secret"),
        route(regex("/d.*"), Decision::Deny),
        route(regex("/.*d"), priced()),
    ]);
    let both = Request::to("/a/1").header("x-tier", "bulk");
    assert_eq!(verdict_on(&table, &both), Verdict::Priced);
    assert_eq!(verdict_on(&table, &both.method("POST")), Verdict::Free);
    assert_eq!(verdict(&table, "/b"), Verdict::Priced);
    assert_eq!(verdict(&table, "/c/Secret"), Verdict::Free);
    assert_eq!(verdict(&table, "/c/SECRET"), Verdict::Priced);
    assert_eq!(verdict(&table, "/dd"), Verdict::Denied);
}

#[test]
fn a_less_specific_route_applies_when_conditions_do_not_hold() {
    let table = table(vec![
        priced_at("/a/b").host("x.com").method("POST"),
        denied_at("/a/*").host("x.com").query("raw", "1"),
        free_at("/a/b").header("x-key", "1"),
        priced_at("/a/*"),
    ]);
    let request = Request::to("/a/b").host("x.com");
    assert_eq!(table.choose(&request.clone().method("POST").facts()), Ok(Choice::Route(0)));
    assert_eq!(table.choose(&request.clone().query("raw=1").facts()), Ok(Choice::Route(1)));
    assert_eq!(table.choose(&request.clone().header("x-key", "1").facts()), Ok(Choice::Route(2)));
    assert_eq!(
        table.choose(&request.clone().header("x-key", "1").header("x-key", "2").facts()),
        Ok(Choice::Route(3))
    );
    assert_eq!(table.choose(&request.facts()), Ok(Choice::Route(3)));
    assert_eq!(table.choose(&Request::to("/").host("x.com").facts()), Ok(Choice::Default));
}

#[test]
fn every_method_needs_payment_unless_a_route_says_otherwise() {
    let any = table(vec![priced_at("/a")]);
    let get = table(vec![priced_at("/a").method("GET")]);
    for method in ["GET", "HEAD", "POST", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"] {
        assert_eq!(verdict_on(&any, &Request::to("/a").method(method)), Verdict::Priced, "{method}");
        let expected = if ["GET", "HEAD", "get"].contains(&method) { Verdict::Priced } else { Verdict::Free };
        assert_eq!(verdict_on(&get, &Request::to("/a").method(method)), expected, "{method}");
    }
}

#[test]
fn a_preflight_is_decided_like_the_priced_request_it_announces() {
    let table = table(vec![
        priced_at("/get").method("GET"),
        priced_at("/all"),
        priced_at("/closed").method("GET"),
        denied_at("/closed").method("OPTIONS"),
        denied_at("/denied"),
    ]);
    for (path, announced, expected) in [
        ("/get", "GET", Verdict::Priced),
        ("/get", "HEAD", Verdict::Priced),
        ("/get", "POST", Verdict::Free),
        ("/all", "POST", Verdict::Priced),
        ("/closed", "GET", Verdict::Denied),
        ("/denied", "GET", Verdict::Denied),
        ("/free", "GET", Verdict::Free),
    ] {
        let request = Request::to(path).method("OPTIONS");
        let facts = table.preflight(request.facts(), announced);
        let found = verdict_on(&table, &request.clone().method(facts.method));
        assert_eq!(found, expected, "{announced} {path}");
    }
    let closed =
        RouteTable::new(vec![priced_at("/get").method("GET")], route(PathPattern::Any, Decision::Deny));
    let request = Request::to("/get").method("OPTIONS");
    assert_eq!(closed.preflight(request.facts(), "GET").method, "GET", "a default is no route");
    assert_eq!(closed.preflight(request.facts(), "POST").method, "OPTIONS");
}

#[test]
fn a_table_lists_its_routes_as_written() {
    let table = table(vec![priced_at("/a"), free_at("/b/*")]);
    assert_eq!(table.routes().map(|route| route.name.as_str()).collect::<Vec<_>>(), ["/a", "/b/*"]);
    assert_eq!(table.default().decision, Decision::Free);
    assert_eq!(table.route(Choice::Route(1)).name, "/b/*");
    assert!(std::sync::Arc::ptr_eq(table.route(Choice::Default), table.default()));
}

#[test]
fn patterns_that_are_equal_up_to_a_segment_are_told_apart_by_the_next() {
    // `/a*/…` and `/*b/…` begin equally specific; the walk meets them in either order.
    let table = table(vec![
        priced_at("/a*/*").header("x-tier", "bulk"),
        priced_at("/*b/*"),
        priced_at("/*b/**/z"),
        priced_at("/a*/y"),
        priced_at("/*b/{x}/y"),
        priced_at("/a*/*"),
    ]);
    for (path, number) in
        [("/ab", 1), ("/ab/x", 1), ("/ab/x/z", 2), ("/ab/y", 3), ("/ab/y/y", 4), ("/ac/x", 5)]
    {
        assert_eq!(table.choose(&Request::to(path).facts()), Ok(Choice::Route(number)), "{path}");
    }
    let bulk = Request::to("/ab/x").header("x-tier", "bulk");
    assert_eq!(table.choose(&bulk.facts()), Ok(Choice::Route(0)));
}

#[test]
fn a_hundred_thousand_routes_keep_their_own_requests() {
    let number = 25_000;
    let shapes = ["/shop/item-#", "/shop/#/{part}", "/files/*.x#", "/deep/**/leaf-#"];
    let routes = (0..number).flat_map(|n| shapes.map(|shape| priced_at(&shape.replace('#', &n.to_string()))));
    let table = table(routes.collect());
    let requests = ["/shop/item-#", "/SHOP/#/a/", "/files/a.x#", "/deep/a/b/c/leaf-#"];
    for n in (0..number).step_by(97) {
        for (position, request) in requests.iter().enumerate() {
            let request = Request::to(&request.replace('#', &n.to_string()));
            assert_eq!(table.choose(&request.facts()), Ok(Choice::Route(n * 4 + position)));
        }
    }
}

#[test]
fn many_double_stars_cannot_slow_a_lookup_down() {
    // Trying every way to share 4,000 segments among eight `**` would outlast the test.
    let stars = format!("/a{}/b", "/**/a".repeat(8));
    let priced = table(vec![priced_at(&stars)]);
    let path = "/a".repeat(4000);
    assert_eq!(verdict(&priced, &path), Verdict::Free);
    assert_eq!(verdict(&priced, &format!("{path}/b")), Verdict::Priced);
    let free = RouteTable::new(vec![free_at(&stars)], route(PathPattern::Any, priced_at("/").decision));
    assert_eq!(verdict(&free, &path), Verdict::Priced);
    assert_eq!(verdict(&free, &format!("{path}/b")), Verdict::Free);
}
