//! What the operator is told about routes.

use super::*;

#[test]
fn an_explanation_names_the_route_and_why_each_other_lost() {
    let table = table(vec![
        priced_at("/a/*"),
        free_at("/A/b"),
        priced_at("/a/b").method("POST"),
        priced_at("/a/b").header("x-tier", "bulk"),
        priced_at("/a/b").query("f", "pdf"),
        priced_at("/a/b").host("other.example"),
        free_at("/x"),
        priced_at("/a/b"),
        denied_at("/a/b"),
    ]);
    let explanation = table.explain(&Request::to("/a/b").host("example.com").facts());
    assert_eq!(explanation.outcome, Ok(Choice::Route(7)));
    assert_eq!(explanation.readings, [("/a/b".to_owned(), Choice::Route(7))]);
    let lost = |route, why| Lost { route, why };
    assert_eq!(
        explanation.others,
        [
            lost(0, Loss::LessSpecific(Choice::Route(7))),
            lost(1, Loss::Spelling),
            lost(2, Loss::Method),
            lost(3, Loss::Header("x-tier = \"bulk\"".to_owned())),
            lost(4, Loss::Query("f = \"pdf\"".to_owned())),
            lost(8, Loss::LessSpecific(Choice::Route(7))),
        ]
    );
    assert_eq!(
        explanation.others[3].why.to_string(),
        "its condition on the header x-tier = \"bulk\" does not hold"
    );
}

#[test]
fn an_explanation_shows_the_readings_that_disagree() {
    let table = table(vec![priced_at("/articles/*")]);
    let explanation = table.explain(&Request::to("/articles%2Fsecret").facts());
    assert_eq!(explanation.outcome, Err(RouteError::Ambiguous));
    assert_eq!(
        explanation.readings,
        [
            ("/articles%2Fsecret".to_owned(), Choice::Default),
            ("/articles/secret".to_owned(), Choice::Route(0))
        ]
    );
    assert_eq!(explanation.others, []);
}

#[test]
fn a_route_hidden_by_an_earlier_one_is_reported_with_it() {
    let hidden = |routes: Vec<Route>| {
        let found = table(routes).unreachable();
        found.iter().map(|found| (found.route, found.because_of)).collect::<Vec<_>>()
    };
    assert_eq!(hidden(vec![priced_at("/a/{id}"), free_at("/x"), priced_at("/A/{name}/")]), [(2, 0)]);
    assert_eq!(hidden(vec![priced_at("/a"), free_at("/a")]), [(1, 0)]);
    assert_eq!(hidden(vec![free_at("/a"), free_at("/a")]), [(1, 0)]);
    assert_eq!(hidden(vec![priced_at("/*"), route(PathPattern::Any, priced())]), [(1, 0)]);
    assert_eq!(hidden(vec![priced_at("/a").method("GET"), priced_at("/a").method("HEAD")]), [(1, 0)]);
    assert_eq!(
        hidden(vec![priced_at("/a").host("x.com").host("y.com"), priced_at("/a").host("y.com")]),
        [(1, 0)]
    );
    assert_eq!(
        hidden(vec![
            priced_at("/a").host("x.com"),
            priced_at("/a").host("y.com"),
            priced_at("/a").host("x.com").host("y.com")
        ]),
        [(2, 0)]
    );
    assert_eq!(
        hidden(vec![
            priced_at("/a").header("x", "1").query("f", "2"),
            priced_at("/a").query("f", "2").header("x", "1"),
            priced_at("/a"),
            priced_at("/a"),
        ]),
        [(1, 0), (3, 2)]
    );
    assert_eq!(hidden(vec![route(regex("/a.*"), priced()), route(regex("/a.*"), Decision::Free)]), [(1, 0)]);
}

#[test]
fn a_route_that_can_apply_is_not_reported() {
    for routes in [
        // The free one is for one spelling only, the priced one for all others too.
        vec![free_at("/a"), priced_at("/a")],
        vec![free_at("/a"), free_at("/a/")],
        vec![free_at("/a"), free_at("/A")],
        vec![priced_at("/a"), priced_at("/a").method("GET")],
        vec![priced_at("/a").method("GET"), priced_at("/a")],
        vec![priced_at("/a").method("HEAD"), priced_at("/a").method("GET")],
        vec![priced_at("/a").header("x", "1"), priced_at("/a").header("x", "2")],
        vec![priced_at("/a"), priced_at("/a").host("x.com")],
        vec![priced_at("/a").host("x.com"), priced_at("/a")],
        vec![priced_at("/a").host("x.com"), priced_at("/a").host("x.com").host("y.com")],
        vec![priced_at("/a/*"), priced_at("/a/{id}")],
        vec![priced_at("/a/%2A"), priced_at("/a/*")],
        vec![priced_at("/a*"), priced_at("/a%2A")],
    ] {
        let names: Vec<_> = routes.iter().map(|route| route.name.clone()).collect();
        assert_eq!(table(routes).unreachable(), [], "{names:?}");
    }
}
