//! A price list says the same as the table it was written from.

use proptest::prelude::*;

use super::reference::{some_request, some_route};
use super::*;
use crate::x402::{AtomicAmount, PaymentRequirements, ResourceInfo};

const NAMES: [&str; 2] = ["one", "two+three"];
const URL: &str = "https://shop.example";

fn by_name(name: &str) -> Option<FacilitatorId> {
    NAMES.iter().position(|known| *known == name).map(FacilitatorId)
}

fn some_accept() -> impl Strategy<Value = Accept> {
    let network = prop::sample::select(vec!["base", "base-sepolia", "solana", "xrpl:0"]);
    let extra = prop::sample::select(vec![
        serde_json::json!({}),
        serde_json::json!({"name": "USDC", "version": "2", "b": [1.5, null, "\u{1F4B0}\0"], "a": {"z": -7}}),
    ]);
    let numbers = (1..1_000_u64, 30..900_u64, any::<u8>(), 0..NAMES.len());
    (network, extra, numbers, any::<bool>()).prop_map(|(network, extra, numbers, v1)| {
        let (amount, max_timeout_seconds, decimals, facilitator) = numbers;
        let requirements = PaymentRequirements {
            scheme: "exact".to_owned(),
            network: network.parse().unwrap(),
            amount: AtomicAmount(alloy_primitives::U256::from(amount)),
            asset: "0xAb".to_owned(),
            pay_to: "0xCd".to_owned(),
            max_timeout_seconds,
            extra: extra.as_object().unwrap().clone(),
        };
        let symbol = "USDC".to_owned();
        Accept { requirements, facilitator: FacilitatorId(facilitator), symbol, decimals, v1 }
    })
}

fn some_offer() -> impl Strategy<Value = Offer> {
    let accepts = prop::collection::vec(some_accept(), 1..3);
    let settle = prop::sample::select(vec![SettleWhen::BeforeRequest, SettleWhen::BeforeResponse]);
    let v1 = prop::sample::select(vec![V1Mode::Both, V1Mode::Off, V1Mode::Only]);
    (accepts, settle, v1, any::<bool>()).prop_map(|(accepts, settle, v1, extended)| {
        let mut extensions = serde_json::Map::new();
        if extended {
            extensions.insert("bazaar".to_owned(), serde_json::json!({"info": {"x": 1}}));
        }
        Offer { index: 0, accepts, resource: ResourceInfo::default(), extensions, settle, v1 }
    })
}

/// A table whose priced routes have offers of their own; its default too.
fn some_table() -> impl Strategy<Value = RouteTable> {
    let routes = prop::collection::vec((some_route(), some_offer()), 0..14);
    let default = prop::sample::select(vec![Decision::Free, priced(), Decision::Deny]);
    (routes, default, some_offer()).prop_map(|(routes, default, offer)| {
        let default = route(PathPattern::Any, default);
        let all = routes.into_iter().chain([(default, offer)]).enumerate();
        let mut all: Vec<Route> = all
            .map(|(index, (mut route, offer))| {
                route.name = format!("{index} {}", route.name);
                if let Decision::Paid(bare) = &mut route.decision {
                    **bare = Offer { index, ..offer };
                }
                route
            })
            .collect();
        let default = all.pop().unwrap();
        RouteTable::new(all, default)
    })
}

/// What a table quotes, as a price list says it.
fn quoted_by(table: &RouteTable, request: &Request) -> Option<(String, Offer)> {
    let route = table.find(&request.facts()).ok()?;
    Some((route.name.clone(), Offer { index: 0, ..route.offer()?.clone() }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_list_that_was_written_and_read_quotes_what_its_table_does_and_nothing_else(
        table in some_table(),
        requests in prop::collection::vec(some_request(), 1..12),
    ) {
        let text = PriceList::write(&table, URL, &NAMES);
        let list = PriceList::read(&text).unwrap();
        prop_assert_eq!(list.public_url(), URL);
        for request in &requests {
            let quote = list.quote(&request.facts(), by_name);
            let quote = quote.map(|quote| (quote.route.to_owned(), Offer { index: 0, ..quote.offer }));
            prop_assert_eq!(quote, quoted_by(&table, request), "{:?}", request);
            let known = |name: &str| by_name(name).filter(|id| id.0 == 1);
            let partly = list.quote(&request.facts(), known).map(|quote| quote.offer.accepts);
            let expected = quoted_by(&table, request).map(|(_, offer)| offer.accepts);
            let expected: Vec<_> =
                expected.into_iter().flatten().filter(|accept| accept.facilitator.0 == 1).collect();
            prop_assert_eq!(partly.unwrap_or_default(), expected);
        }
        prop_assert_eq!(PriceList::write(&table, URL, &NAMES), text, "the same always gives the same text");
    }
}

fn usd(cents: u64) -> Offer {
    let requirements = PaymentRequirements {
        amount: AtomicAmount(alloy_primitives::U256::from(cents * 10_000)),
        ..crate::scheme::testing::terms()
    };
    let accept = Accept {
        requirements,
        facilitator: FacilitatorId(0),
        symbol: "USDC".to_owned(),
        decimals: 6,
        v1: true,
    };
    Offer {
        index: 0,
        accepts: vec![accept],
        resource: ResourceInfo { description: Some("An article".to_owned()), ..ResourceInfo::default() },
        extensions: serde_json::Map::new(),
        settle: SettleWhen::default(),
        v1: V1Mode::default(),
    }
}

fn paid_at(path: PathPattern, cents: u64) -> Route {
    route(path, Decision::Paid(Box::new(usd(cents))))
}

#[test]
fn every_kind_of_condition_is_written_and_read() {
    let conditions = |value: ValueMatch| vec![Condition { name: "x".to_owned(), value }];
    let mut routes = Vec::new();
    for (cents, value) in [
        (1, ValueMatch::Regex(::regex::Regex::new("(?i)^a\u{1}\\d+$").unwrap())),
        (2, ValueMatch::Present(true)),
        (3, ValueMatch::Equals(" \"\u{2028}".to_owned())),
    ] {
        for (path, in_query) in [("/header", false), ("/query", true)] {
            let mut route = paid_at(pattern(path), cents);
            let place = if in_query { &mut route.query } else { &mut route.headers };
            *place = conditions(value.clone());
            routes.push(route);
        }
    }
    routes.push(paid_at(regex("/(?x) files / [0-9]+ # all"), 4).host("[::1]").host("*.Example.com"));
    let table = table(routes);
    let list = PriceList::read(&PriceList::write(&table, URL, &NAMES)).unwrap();
    for request in [
        Request::to("/header").header("x", "A\t12"),
        Request::to("/header").header("x", "a12"),
        Request::to("/header"),
        Request::to("/query").query("x=a%0112"),
        Request::to("/query").query("x=%20%22%E2%80%A8"),
        Request::to("/query").query("x"),
        Request::to("/files/7").host("[::1]"),
        Request::to("/files/7").host("a.example.com"),
        Request::to("/files/7").host("example.com"),
    ] {
        let quoted = list.quote(&request.facts(), by_name).map(|quote| quote.offer.accepts);
        let expected = quoted_by(&table, &request).map(|(_, offer)| offer.accepts);
        assert_eq!(quoted, expected, "{request:?}");
    }
}

#[test]
fn what_is_only_told_beside_a_price_is_not_in_the_list() {
    let text = PriceList::write(&table(vec![paid_at(pattern("/a"), 1)]), URL, &NAMES);
    assert!(!text.contains("An article") && !text.contains("description"), "{text}");
}

#[test]
fn the_longest_quote_counts() {
    assert_eq!(table(vec![free_at("/a")]).longest_quote_seconds(), None);
    let mut long = paid_at(pattern("/b"), 1);
    let Decision::Paid(offer) = &mut long.decision else { unreachable!("it is paid") };
    offer.accepts[0].requirements.max_timeout_seconds = 9_000;
    let table = table(vec![paid_at(pattern("/a"), 1), long, denied_at("/c")]);
    assert_eq!(table.longest_quote_seconds(), Some(9_000));
}

#[test]
fn a_text_that_is_no_price_list_is_not_believed() {
    let right = PriceList::write(&table(vec![paid_at(pattern("/a"), 1)]), URL, &NAMES);
    assert!(PriceList::read(&right).is_ok());
    for (part, broken) in [
        ("\"version\":1", "\"version\":2"),
        ("\"version\":1", "\"version\":1,\"more\":1"),
        ("\"paid\":0", "\"paid\":1"),
        ("\"facilitator\":0", "\"facilitator\":2"),
        ("[[0,\"10000\"]]", "[[1,\"10000\"]]"),
        ("[[0,\"10000\"]]", "[[0,\"1e4\"]]"),
        ("\"glob\":\"/a\"", "\"glob\":\"a\""),
        ("\"glob\":\"/a\"", "\"regex\":\"(\""),
        ("\"decision\":\"free\"", "\"decision\":\"cheap\""),
        ("\"extensions\":0", "\"extensions\":7"),
    ] {
        assert!(right.contains(part), "{part} is not in {right}");
        assert!(PriceList::read(&right.replacen(part, broken, 1)).is_err(), "{broken}");
    }
    assert!(PriceList::read("").is_err());
}

/// The largest configuration that is read has some 100,000 routes.
#[test]
fn a_hundred_thousand_routes_make_a_list_of_a_few_megabytes() {
    let routes = (0..100_000_u64).map(|number| {
        let mut offer = usd(1 + number % 500);
        let accept = offer.accepts[0].clone();
        for network in ["base", "polygon", "avalanche"] {
            let mut accept = accept.clone();
            accept.requirements.network = network.parse().unwrap();
            offer.accepts.push(accept);
        }
        route(pattern(&format!("/{number}")), Decision::Paid(Box::new(offer)))
    });
    let table = table(routes.collect());
    let text = PriceList::write(&table, URL, &NAMES);
    assert!(text.len() < 12 * 1024 * 1024, "{} bytes", text.len());
    let list = PriceList::read(&text).unwrap();
    let request = Request::to("/99999");
    let quoted = list.quote(&request.facts(), by_name).unwrap();
    assert_eq!((quoted.route, quoted.offer.accepts.len()), ("/99999", 4));
    assert_eq!(quoted.offer.accepts[0].requirements.amount.to_string(), "5000000");
}
