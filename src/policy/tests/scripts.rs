//! Scripts that a path leads through: what is behind one is no way to have it run for less.

use super::origins::serving_script;
use super::*;

#[test]
fn what_is_behind_the_name_of_a_priced_script_does_not_make_it_free() {
    let tables = [
        table(vec![priced_at("/a.php")]),
        table(vec![priced_at("/*.php")]),
        table(vec![priced_at("/**/*.php")]),
        table(vec![priced_at("/{page}")]),
        table(vec![denied_at("/a.php")]),
        table(vec![route(regex("/[a-z]+\\.php"), priced())]),
        table(vec![priced_at("/a.php"), free_at("/**")]),
        table(vec![priced_at("/a.php"), free_at("/*/x")]),
        table(vec![priced_at("/a.php"), free_at("/*.php/x")]),
        table(vec![priced_at("/a.php"), route(regex("/.*/x"), Decision::Free)]),
        RouteTable::new(vec![free_at("/*/x"), free_at("/**/x")], route(PathPattern::Any, priced())),
    ];
    for path in [
        "/a.php/x",
        "/A.PHP/x",
        "/a.p%48p/x",
        "/a.php%2Fx",
        "/a.php%252Fx",
        "/a.php//x",
        "/a.php;y/x",
        "/a.php./x",
        "/a.php::$DATA/x",
        "/a%2Ephp/x",
        "/a%252Ephp/x",
        "/a.\u{FF50}hp/x",
        "//a.php/x",
        "/a.php/x/../x",
        "/b/../a.php/x",
        "//h/a.php/x",
    ] {
        for (number, table) in tables.iter().enumerate() {
            assert_ne!(verdict(table, path), Verdict::Free, "{path:?} under table {number}");
        }
    }
    let expected = Err(RouteError::Ambiguous);
    assert_eq!(tables[0].choose(&Request::to("/a.php/x").facts()), expected);
}

#[test]
fn a_script_is_not_run_for_the_lower_price_of_what_is_behind_it() {
    let everything = route(pattern("/**"), priced());
    let site = table(vec![priced_at("/render.do"), everything]);
    assert_eq!(verdict(&site, "/render.do"), Verdict::Priced);
    assert_eq!(verdict(&site, "/render.do/x"), Verdict::Refused);
    assert_eq!(verdict(&site, "/other.do/x"), Verdict::Priced);
}

#[test]
fn a_route_that_goes_on_from_a_script_by_name_says_what_that_costs() {
    let wiki = table(vec![
        priced_at("/index.php/**"),
        free_at("/index.php/public/*"),
        priced_at("/index.php/public/rare"),
    ]);
    for (path, expected) in [
        ("/index.php", Verdict::Priced),
        ("/index.php/Page", Verdict::Priced),
        ("/index.php/public/Page", Verdict::Free),
        ("/index.php/public/rare", Verdict::Priced),
        ("/INDEX.php/public/Page", Verdict::Priced),
    ] {
        assert_eq!(verdict(&wiki, path), expected, "{path}");
    }
    let files =
        table(vec![priced_at("/files/{name}"), free_at("/files/{name}/preview"), free_at("/a.php/x")]);
    for (path, expected) in [
        ("/files/a.py", Verdict::Priced),
        ("/files/a.py/preview", Verdict::Free),
        ("/files/a.py/other", Verdict::Refused),
        ("/a.php/x", Verdict::Free),
        ("/a.php/y", Verdict::Free),
    ] {
        assert_eq!(verdict(&files, path), expected, "{path}");
    }
    let closed = table(vec![priced_at("/a.php"), denied_at("/*/x")]);
    assert_eq!(verdict(&closed, "/a.php/x"), Verdict::Denied);
}

#[test]
fn scripts_that_cost_nothing_and_names_that_only_resemble_them_stay_free() {
    let site = table(vec![priced_at("/a.html"), priced_at("/v1.2"), priced_at("/b.php"), free_at("/*.cgi")]);
    for path in
        ["/a.html/x", "/v1.2/x", "/a.php/x", "/c.cgi/x/y", "/b.phpx/x", "/b/php/x", "/x/b.php/y", "/b.php~/x"]
    {
        assert_eq!(verdict(&site, path), Verdict::Free, "{path}");
    }
    let everything = RouteTable::new(vec![free_at("/index.php")], route(PathPattern::Any, priced()));
    assert_eq!(verdict(&everything, "/index.php/x"), Verdict::Priced, "the page costs what it costs");
}

#[test]
fn a_path_through_many_scripts_is_refused_instead_of_costing_a_lookup_each() {
    assert!(RoutePath::parse(&format!("{}/x", "/a.php".repeat(4))).is_ok());
    let many = format!("{}/x", "/a.php".repeat(5));
    assert_eq!(RoutePath::parse(&many), Err(PathError::TooManyReadings));
}

#[test]
fn what_is_let_through_free_has_no_origin_run_the_script() {
    let site = table(vec![priced_at("/b/a.php"), free_at("/b/a.html")]);
    let names = ["a.php", "A.php", "a%2Ephp", "a.ph%70", "a.php.", "a.php;x", "a%252Ephp", "a.html"];
    let slashes = ["/", "//", "%2F", "/;x/", "%252F"];
    let ends = ["x", "x/..", "", "a.php"];
    let mut free = 0;
    for number in 0..names.len() * ends.len() * slashes.len().pow(2) {
        let (name, rest) = (names[number % names.len()], number / names.len());
        let (end, rest) = (ends[rest % ends.len()], rest / ends.len());
        let (first, second) = (slashes[rest % slashes.len()], slashes[rest / slashes.len()]);
        let text = format!("/b{first}{name}{second}{end}");
        if verdict(&site, &text) == Verdict::Free {
            free += 1;
            let serving = serving_script(&RoutePath::parse(&text).unwrap(), &["b", "a.php"]);
            assert!(serving.is_empty(), "{text:?} is let through to {serving:?}");
        }
    }
    assert!(free > 0);
}
