//! Which requests cost what, against an origin with every habit that servers have.

use crate::support::gateway::PAID;
use crate::support::shop::Shop;
use crate::support::{Act, Origin, Payer, Request, Response, get, send};

const SECRET: &str = "THE SECRET ARTICLE";

/// An origin that finds its article however it is spelled: it decodes three times over, takes
/// backslashes for slashes, merges slashes, resolves dots, cuts parameters off, drops what Windows
/// drops, reads `//host/path` as a URL, and ignores letter case.
async fn lenient_site() -> Origin {
    Origin::start(|request| {
        let path = request.target.split(['?', '#']).next().unwrap_or_default();
        let found = readings(path).iter().any(|names| names == &["articles", "secret"]);
        let obeyed = ["x-original-url", "x-rewrite-url"].iter().any(|name| request.header(name).is_some());
        Act::answer(200, &[], if found || obeyed { SECRET } else { "something else" })
    })
    .await
}

fn readings(path: &str) -> Vec<Vec<String>> {
    let mut texts = vec![path.to_owned()];
    for _ in 0..3 {
        texts.push(decoded(texts.last().unwrap()));
    }
    let below_host =
        |text: &String| text.strip_prefix("//")?.split_once('/').map(|(_, rest)| format!("/{rest}"));
    let with_host: Vec<String> = texts.iter().filter_map(below_host).collect();
    texts.extend(with_host);
    texts.iter().map(|text| names(text)).collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut all = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let digits = text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) if bytes[at] == b'%' => {
                all.push(byte);
                at += 3;
            }
            _ => {
                all.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn names(path: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for segment in path.replace('\\', "/").split('/') {
        let end = segment.find([';', '\0', '\n', '\r', '#', '?']).unwrap_or(segment.len());
        let name = segment[..end].split(":$").next().unwrap_or_default().trim_end_matches(':');
        match name.trim() {
            ".." => drop(names.pop()),
            _ => match name.trim_matches(['.', ' ', '\t']) {
                "" => {}
                name => names.push(name.to_uppercase().to_lowercase()),
            },
        }
    }
    names
}

/// Compliance 55: a corpus of spellings, each of which some server takes for the article.
const SPELLINGS: &[&str] = &[
    "/articles/secret",
    "/articles/secret/",
    "/Articles/Secret",
    "/ARTICLES/SECRET",
    "/aRTICLES/sECRET/",
    "//articles/secret",
    "///articles/secret",
    "/articles//secret",
    "/articles///secret//",
    "/./articles/secret",
    "/articles/./secret",
    "/articles/secret/.",
    "/x/../articles/secret",
    "/articles/x/../secret",
    "/articles/secret/x/..",
    "/../articles/secret",
    "/x/../../articles/secret",
    "/%2e/articles/secret",
    "/x/%2e%2e/articles/secret",
    "/x/%2E./articles/secret",
    "/x/.%2e/articles/secret",
    "/x/%252e%252e/articles/secret",
    "/x/..%2Farticles/secret",
    "/x/..%252Farticles/secret",
    "/x/..;/articles/secret",
    "/x/..;a=b/articles/secret",
    "/x/.. /articles/secret",
    "/x/..%20/articles/secret",
    "/%61rticles/secret",
    "/articles/%73ecret",
    "/articles/%53ECRET",
    "/%61%72%74%69%63%6c%65%73/%73%65%63%72%65%74",
    "/articles/%2573ecret",
    "/%2561rticles/secret",
    "/articles/%252573ecret",
    "/articles%2Fsecret",
    "/articles%2fsecret",
    "/%2Farticles/secret",
    "/articles/%2Fsecret",
    "/articles/secret%2F",
    "/articles%252Fsecret",
    "/articles%25252Fsecret",
    "/articles\\secret",
    "\\articles\\secret",
    "/articles/secret\\",
    "/articles%5Csecret",
    "/articles%5csecret",
    "/articles%255Csecret",
    "/articles/secret%00",
    "/articles/secret%00.html",
    "/articles/secret%2500",
    "/articles/secret%0A",
    "/articles/secret%0d%0aX",
    "/articles/secret%09",
    "/articles/secret;x",
    "/articles/secret;x=1",
    "/articles;x/secret",
    "/;x/articles/secret",
    "/articles/secret%3Bx",
    "/articles/secret%253Bx",
    "/articles/secret%",
    "/articles/secret%2",
    "/articles/secret%zz",
    "/articles/%u0073ecret",
    "/articles/secret.",
    "/articles/secret...",
    "/articles/secret%20",
    "/articles/secret%2E",
    "/articles./secret",
    "/articles/secret::$DATA",
    "/articles/secret?",
    "/articles/secret?x=1",
    "/articles/secret#x",
    "/articles/secret%23x",
    "/articles/secret%3Fx",
    "//host/articles/secret",
    "//articles/x/articles/secret",
    "/articles/%c0%afsecret",
    "/art\u{131}cles/secret",
    "/articles/\u{17f}ecret",
    "http://shop.example/articles/secret",
    "HTTP://shop.example//articles/secret",
    "http://other.example/articles/secret",
    "http://shop.example:80/articles/secret?x",
    "https://shop.example/x/../articles/secret",
    "articles/secret",
    "*",
];

async fn raw(shop: &Shop, method: &str, target: &str, headers: &str) -> Response {
    let host = target.split_once("://").map_or("shop.example", |(_, rest)| rest.split('/').next().unwrap());
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    send(shop.gateway.address, head.as_bytes()).await
}

async fn never_free(shop: &Shop) {
    let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW", "get"];
    for target in SPELLINGS {
        for method in methods {
            let response = raw(shop, method, target, "").await;
            assert!(!response.text().contains(SECRET), "{method} {target:?} is free");
            let gated = matches!(response.status, 400 | 402 | 404 | 405);
            let harmless = response.text() == "something else" || method == "HEAD";
            assert!(gated || harmless, "{method} {target:?}: {}", response.status);
        }
    }
    for request in shop.origin.requests() {
        let path = request.target.split('?').next().unwrap();
        assert!(
            !readings(path).iter().any(|names| names == &["articles", "secret"]),
            "{} {} reached the origin unpaid",
            request.method,
            request.target
        );
    }
}

/// Compliance 55.
#[tokio::test]
async fn no_spelling_of_a_priced_article_is_free() {
    let route = "[[routes]]\npath = \"/articles/*\"\nprice = \"$0.01\"\n";
    never_free(&Shop::with(lenient_site().await, "", route).await).await;
}

/// Compliance 55: and not where it is priced one by one, by a pattern, or by a regular expression.
#[tokio::test]
async fn no_spelling_is_free_whatever_kind_of_route_prices_it() {
    for path in [
        "path = \"/articles/secret\"",
        "path = \"/articles/{name}\"",
        "path = \"/**/secret\"",
        "path_regex = \"^/articles/[a-z]+$\"",
    ] {
        let route = format!("[[routes]]\n{path}\nprice = \"$0.01\"\n");
        never_free(&Shop::with(lenient_site().await, "", &route).await).await;
    }
}

/// Compliance 55: a free list on a site that costs, read as strictly as it is written.
#[tokio::test]
async fn no_spelling_slips_through_a_list_of_what_is_free() {
    let config = "default = \"$0.01\"\n[[routes]]\npath = \"/x/*\"\nfree = true\n[[routes]]\npath = \"/free\"\nfree = true\n";
    let shop = Shop::with(lenient_site().await, "", config).await;
    never_free(&shop).await;
    assert_eq!(raw(&shop, "GET", "/free", "").await.status, 200);
    for target in ["/Free", "/free/", "/free;x", "/free%2e", "//free", "/x/..%2ffree", "/other"] {
        assert_ne!(raw(&shop, "GET", target, "").await.status, 200, "{target}");
    }
}

/// Compliance 55: what is denied is denied in every spelling.
#[tokio::test]
async fn no_spelling_of_a_denied_article_gets_through() {
    let route = "[[routes]]\npath = \"/articles/*\"\ndeny = true\n";
    let shop = Shop::with(lenient_site().await, "", route).await;
    for target in SPELLINGS {
        let response = raw(&shop, "GET", target, "").await;
        assert!(!response.text().contains(SECRET), "{target:?}");
        let refused = matches!(response.status, 400 | 403);
        assert!(refused || response.text() == "something else", "{target:?}: {}", response.status);
    }
    let denied = raw(&shop, "GET", "/articles/secret", "").await;
    assert_eq!((denied.status, denied.header("payment-required")), (403, None));
    let payment = Payer::new().pay(&Shop::open().await.required("/paid/a").await);
    let insisting = raw(&shop, "GET", "/articles/secret", &format!("PAYMENT-SIGNATURE: {payment}\r\n")).await;
    assert_eq!(insisting.status, 403);
    assert_eq!((shop.verifications(), shop.settlements()), (0, 0));
}

/// Compliance 56.
#[tokio::test]
async fn the_origin_sees_the_path_that_was_matched() {
    let shop = Shop::open().await;
    for (sent, seen) in [
        ("/%70aid/%61", "/paid/a"),
        ("/x/../paid/a?q=/../x", "/paid/a?q=/../x"),
        ("/paid/./a%2eb", "/paid/a.b"),
        ("/PAID/a", "/PAID/a"),
        ("/paid/a%c3%a9", "/paid/a%C3%A9"),
        ("http://shop.example/paid/%61?x", "/paid/a?x"),
        ("/free/%7Euser/../%66", "/free/f"),
    ] {
        let payment = if seen.to_lowercase().contains("/paid/") {
            let required = raw(&shop, "GET", sent, "").await.required();
            assert_eq!(required["resource"]["url"], format!("https://shop.example{seen}"));
            format!("PAYMENT-SIGNATURE: {}\r\n", Payer::new().pay(&required))
        } else {
            String::new()
        };
        assert_eq!(raw(&shop, "GET", sent, &payment).await.status, 200, "{sent}");
        assert_eq!(shop.origin.requests().pop().unwrap().target, seen, "{sent}");
    }
}

/// Compliance 57.
#[tokio::test]
async fn what_is_sold_is_named_by_the_operator_and_not_by_the_client() {
    let shop = Shop::open().await;
    for headers in [
        "GET /paid/a?x=1 HTTP/1.1\r\nHost: evil.example\r\n",
        "GET /paid/a?x=1 HTTP/1.1\r\nHost: evil.example:8443\r\nX-Forwarded-Host: worse.example\r\n",
        "GET http://evil.example/paid/a?x=1 HTTP/1.1\r\nHost: evil.example\r\n",
        "GET /paid/a?x=1 HTTP/1.0\r\n",
        "GET /paid/a?x=1 HTTP/1.1\r\nHost: a\r\nForwarded: host=evil.example;proto=http\r\n\
         X-Forwarded-Proto: http\r\n",
    ] {
        let request = format!("{headers}Connection: close\r\n\r\n");
        let challenge = send(shop.gateway.address, request.as_bytes()).await;
        let url = "https://shop.example/paid/a?x=1";
        assert_eq!(challenge.required()["resource"]["url"], url, "{headers}");
        assert_eq!(challenge.json()["accepts"][0]["resource"], url);
        assert!(!challenge.text().contains("evil") && !format!("{:?}", challenge.headers).contains("evil"));
    }
}

/// Compliance 57: headers that name another path or method decide nothing and go nowhere.
#[tokio::test]
async fn headers_that_name_another_path_or_method_decide_nothing() {
    let route = "[[routes]]\npath = \"/articles/*\"\nmethod = \"POST\"\nprice = \"$0.01\"\n";
    let shop = Shop::with(lenient_site().await, "", route).await;
    let headers = "X-Original-URL: /articles/secret\r\nX-Rewrite-URL: /articles/secret\r\n\
                   X-HTTP-Method-Override: POST\r\nX-HTTP-Method: POST\r\nX-Method-Override: POST\r\n";
    let free = raw(&shop, "GET", "/free", headers).await;
    assert_eq!((free.status, free.text().as_str()), (200, "something else"));
    let request = shop.origin.only_request();
    assert_eq!(request.target, "/free");
    for name in ["x-original-url", "x-rewrite-url", "x-http-method-override", "x-http-method"] {
        assert_eq!(request.header(name), None, "{name}");
    }
    let priced =
        raw(&shop, "POST", "/articles/secret", "X-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n");
    assert_eq!(priced.await.status, 402);
}

/// Compliance 58: where servers could disagree about the route, nobody is asked.
#[tokio::test]
async fn a_path_that_falls_under_different_routes_is_a_bad_request() {
    let routes = format!("{PAID}[[routes]]\npath = \"/paid/free\"\nfree = true\n");
    let shop = Shop::with(Origin::site().await, "", &routes).await;
    for target in ["/paid%2Fa", "/paid//free", "/paid/free;x", "/x%2F..%2Fpaid/a", "//x/paid/a"] {
        let refused = raw(&shop, "GET", target, "").await;
        assert_eq!((refused.status, refused.header("payment-required")), (400, None), "{target}");
        assert!(refused.json()["error"].is_string());
    }
    assert!(shop.origin.requests().is_empty());
    assert_eq!(raw(&shop, "GET", "/paid/free", "").await.status, 200);
}

#[tokio::test]
async fn what_no_route_is_for_costs_what_the_default_says() {
    let free = "[[routes]]\npath = \"/open/*\"\nfree = true\n";
    for (default, status) in [("\"free\"", 200), ("\"deny\"", 403), ("\"$0.02\"", 402)] {
        let shop = Shop::with(Origin::site().await, "", &format!("default = {default}\n{PAID}{free}")).await;
        for path in ["/", "/other", "/open", "/favicon.ico", "/.well-known/x402"] {
            let expected = if path == "/open" { 200 } else { status };
            let response = shop.ask(path).await;
            assert_eq!(response.status, expected, "{default} {path}");
            if response.status == 402 {
                assert_eq!(response.required()["accepts"][0]["amount"], "20000");
            }
        }
        assert_eq!(shop.ask("/open/a").await.status, 200);
        assert_eq!(shop.required("/paid/a").await["accepts"][0]["amount"], "10000");
        assert_eq!(shop.buy("/paid/a").await.status, 200);
    }
    let shop = Shop::with(Origin::site().await, "", "default = \"$0.02\"\n").await;
    assert_eq!(shop.buy("/anything").await.text(), "content of /anything");
}

#[tokio::test]
async fn a_route_for_a_host_is_found_in_every_spelling_of_it() {
    let routes = "[[routes]]\nhost = \"api.example.com\"\npath = \"/**\"\nprice = \"$0.02\"\n\
                  [[routes]]\nhost = \"*.example.com\"\npath = \"/**\"\nprice = \"$0.03\"\n\
                  [[routes]]\nhost = [\"open.example.com\", \"[::1]\"]\npath = \"/**\"\nfree = true\n\
                  [[routes]]\npath = \"/**\"\nprice = \"$0.01\"\n";
    let shop = Shop::with(Origin::site().await, "", routes).await;
    for (host, amount) in [
        ("api.example.com", Some("20000")),
        ("API.Example.COM", Some("20000")),
        ("api.example.com:443", Some("20000")),
        ("api.example.com.", Some("20000")),
        ("Api.Example.Com.:8080", Some("20000")),
        ("www.example.com", Some("30000")),
        ("a.b.example.com:1", Some("30000")),
        ("example.com", Some("10000")),
        ("badexample.com", Some("10000")),
        ("127.0.0.1", Some("10000")),
        ("open.example.com", None),
        ("OPEN.example.com.:80", None),
        ("[::1]", None),
        ("[0:0:0:0:0:0:0:1]:8402", None),
    ] {
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let response = send(shop.gateway.address, request.as_bytes()).await;
        match amount {
            Some(amount) => assert_eq!(response.required()["accepts"][0]["amount"], amount, "{host}"),
            None => assert_eq!(response.status, 200, "{host}"),
        }
    }
    for host in
        ["", "a b", "user@api.example.com", "api.example.com:99999", "api..example.com", "api.example.com/x"]
    {
        let request = format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let status = send(shop.gateway.address, request.as_bytes()).await.status;
        assert!(matches!(status, 400 | 402), "{host:?}: {status}");
    }
}

#[tokio::test]
async fn routes_may_ask_for_methods_headers_and_query_parameters() {
    let routes = "[[routes]]\npath = \"/api\"\nmethod = [\"POST\", \"PUT\"]\nprice = \"$0.01\"\n\
                  [[routes]]\npath = \"/api\"\nheader = { \"X-Tier\" = \"bulk\" }\nprice = \"$0.02\"\n\
                  [[routes]]\npath = \"/api\"\nquery = { format = \"pdf\" }\nprice = \"$0.03\"\n\
                  [[routes]]\npath = \"/bots\"\nheader = { \"User-Agent\" = { regex = \"(?i)bot\" } }\nprice = \"$0.04\"\n\
                  [[routes]]\npath = \"/keys\"\nheader = { \"X-Key\" = false }\nprice = \"$0.05\"\n\
                  [[routes]]\npath = \"/get\"\nmethod = \"GET\"\nprice = \"$0.06\"\n";
    let shop = Shop::with(Origin::site().await, "", routes).await;
    for (method, path, headers, cents) in [
        ("GET", "/api", vec![], 0),
        ("POST", "/api", vec![], 1),
        ("PUT", "/api", vec![], 1),
        ("post", "/api", vec![], 1),
        ("DELETE", "/api", vec![], 0),
        ("GET", "/api", vec![("X-Tier", "bulk")], 2),
        ("GET", "/api", vec![("x-tier", " bulk ")], 2),
        ("GET", "/api", vec![("X-Tier", "basic"), ("X-Tier", "bulk")], 2),
        ("GET", "/api", vec![("X-Tier", "basic")], 0),
        ("GET", "/api?format=pdf", vec![], 3),
        ("GET", "/api?x=1&FORMAT=pdf", vec![], 3),
        ("GET", "/api?format=html&format=pdf", vec![], 3),
        ("GET", "/api?%66ormat=%70df", vec![], 3),
        ("GET", "/api?format=html", vec![], 0),
        ("GET", "/bots", vec![("User-Agent", "GoodBot/1.0")], 4),
        ("GET", "/bots", vec![("User-Agent", "Mozilla/5.0")], 0),
        ("GET", "/keys", vec![], 5),
        ("GET", "/keys", vec![("X-Key", "k")], 0),
        ("GET", "/get", vec![], 6),
        ("HEAD", "/get", vec![], 6),
        ("Get", "/get", vec![], 6),
        ("POST", "/get", vec![], 0),
    ] {
        let response = shop.request(method, path, &headers).await;
        let words = format!("{method} {path} {headers:?}");
        if cents == 0 {
            assert_eq!(response.status, 200, "{words}");
        } else {
            let amount = format!("{}", cents * 10_000);
            assert_eq!(response.required()["accepts"][0]["amount"], amount, "{words}");
        }
    }
    let requests: Vec<Request> = shop.origin.requests();
    assert!(requests.iter().all(|request| !request.target.contains("pdf")));
}

/// The gateway owns no path of the site: its own pages are on another address.
#[tokio::test]
async fn every_path_is_the_sites() {
    let shop = Shop::open().await;
    for path in ["/metrics", "/healthz", "/readyz", "/", "/.well-known/anything", "/favicon.ico"] {
        assert_eq!(get(shop.gateway.address, path, &[]).await.text(), format!("content of {path}"));
    }
}
