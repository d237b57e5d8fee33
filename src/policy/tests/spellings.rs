//! The bypass corpus: spellings of one priced article on a site where everything else is free.

use super::origins::serving_the_article;
use super::*;

/// Paid for: these are the article under its canonical path or in another letter case.
const PRICED: &[&str] = &[
    "/articles/secret",
    // Letter case.
    "/Articles/secret",
    "/articles/SECRET",
    "/ARTICLES/SECRET",
    "/aRtIcLeS/sEcReT",
    "/article\u{17F}/secret",
    "/articles/\u{17F}ecret",
    "/articles/%C5%BFecret",
    "/art\u{131}cles/secret",
    "/art%C4%B1cles/secret",
    "/art\u{130}cles/secret",
    "/ART%c4%b0CLES/SECRET",
    "/arti\u{307}cles/secret",
    // Other encodings of the same letters.
    "/\u{FF41}rticles/secret",
    "/articles/%EF%BD%93ecret",
    "/articles/\u{FF33}ecret",
    "/articles/se\u{217D}ret",
    // Accents, which databases leave out of account.
    "/articles/s\u{E9}cret",
    "/articles/se%CC%81cret",
    "/artic\u{142}es/SECR\u{CA}T",
    // Characters without a shape.
    "/art\u{200D}icles/secret",
    "/articles/%E2%80%8Bsecret",
    "/articles/secret\u{FEFF}",
    // Trailing slash.
    "/articles/secret/",
    "/ARTICLES/secret/",
    // Escapes of letters.
    "/%61rticles/secret",
    "/articles/%73ecret",
    "/articles/secre%74",
    "/articles/%73%65%63%72%65%74",
    "/%61%72%74%69%63%6c%65%73/%73%65%63%72%65%74",
    "/%61%72%74%69%63%6C%65%73/%73%65%63%72%65%74/",
    "/articles/%53ECRET",
    "/%41rticles/secret",
    // Dot segments, which are resolved before anyone reads them.
    "/./articles/secret",
    "/articles/./secret",
    "/articles/secret/.",
    "/articles/secret/./",
    "/articles/secret/x/..",
    "/articles/x/../secret",
    "/x/../articles/secret",
    "/x/y/../../articles/secret",
    "/x/./../articles/secret",
    "/articles/../articles/secret",
    "/%2e/articles/secret",
    "/articles/%2E/secret",
    "/x/%2e%2e/articles/secret",
    "/x/.%2e/articles/secret",
    "/x/%2E./articles/secret",
    "/articles/secret/%2e",
    "/articles/secret/x/%2e%2E",
    "/articles/secret/x/../",
    "/articles/secret//..",
    "//../articles/secret",
    "/articles//../secret",
    "/x/..//../articles/secret",
];

/// Answered 400: some origin could find the article there, or nobody can say what it means.
const REFUSED: &[&str] = &[
    // Slashes.
    "//articles/secret",
    "///articles/secret",
    "/articles//secret",
    "/articles///secret",
    "/articles/secret//",
    "//articles//secret//",
    "/articles//SECRET",
    "/x/..//articles/secret",
    // Read as URLs with a host.
    "//host/articles/secret",
    "//localhost:8402/articles/secret",
    "///host/articles/secret",
    "//host//host/articles/secret",
    "//://localhost/articles/secret",
    "//host;x/articles/secret",
    "//host%2Fx/articles%2Fsecret",
    "//user@host/articles/secret/",
    "//x//articles/secret",
    // Escaped slashes.
    "/articles%2Fsecret",
    "/articles%2fsecret",
    "/articles%2F/secret",
    "/articles/%2Fsecret",
    "/%2Farticles/secret",
    "%2Farticles/secret",
    "/articles/secret%2F",
    "/articles/secret%2f%2F",
    "/%2f%2farticles%2fsecret",
    "/ARTICLES%2FSECRET",
    "/articles%252Fsecret",
    "/articles%252fsecret",
    "/articles/secret%252F",
    "/articles%25252Fsecret",
    "/articles%25%32%46secret",
    "/articles%2%66secret",
    // Slashes of other alphabets.
    "/articles\u{FF0F}secret",
    "/articles%EF%BC%8Fsecret",
    "/articles\u{2215}secret",
    "/articles\u{2044}SECRET",
    "/articles%25EF%25BC%258Fsecret",
    "\u{2F}\u{FF0F}host/articles/secret",
    "/articles\u{FF3C}secret",
    "/articles/secret\u{FF1B}x",
    "/articles/secret%EF%BC%9Fx",
    "/articles/secret\u{FF0E}",
    "/articles/secret\u{A0}",
    "/x/\u{FF0E}\u{FF0E}/articles/secret",
    "/x/\u{2025}/articles/secret",
    // Backslashes.
    "\\articles\\secret",
    "/articles\\secret",
    "/articles/secret\\",
    "/\\articles/secret",
    "/x\\..\\articles/secret",
    "/articles%5Csecret",
    "/articles%5csecret",
    "/articles/secret%5C",
    "/articles%255Csecret",
    "/articles%25255csecret",
    // Escaped more than once.
    "/articles/%2573ecret",
    "/%2561rticles/secret",
    "/articles/%252573ecret",
    "/articles/%25%37%33ecret",
    "/articles/%25%32%35%37%33ecret",
    "/articles/%2573%2565%2563%2572%2565%2574",
    "/articles/%2553ECRET",
    "/articles/%25252573ecret",
    "/articles/%2525252573ecret",
    // Dot segments that appear late.
    "/x/%252e%252e/articles/secret",
    "/x/%25%32%65%25%32%65/articles/secret",
    "/x/..%2Farticles/secret",
    "/x%2F../articles/secret",
    "/x%2f..%2farticles/secret",
    "/x/%2e%2e%2farticles/secret",
    "/x/..%252Farticles/secret",
    "/articles/.%2Fsecret",
    "/articles/x%2F..%2Fsecret",
    "/x/..;/articles/secret",
    "/x/..;a=b/articles/secret",
    "/x/..%3B/articles/secret",
    "/x/..%253Ba/articles/secret",
    "/articles/.;/secret",
    "/x/..%20/articles/secret",
    "/x/.. /articles/secret",
    "/x/.../articles/secret",
    "/x/..::$DATA/articles/secret",
    "/x/..\\articles/secret",
    "/x/..%5Carticles/secret",
    // Above the root.
    "/../articles/secret",
    "/x/../../articles/secret",
    "/%2e%2e/articles/secret",
    "/articles/../../articles/secret",
    // Parameters.
    "/articles/secret;x",
    "/articles/secret;x=1",
    "/articles/secret;",
    "/articles;x/secret",
    "/articles;x=1;y=2/secret",
    "/articles;x/secret;y",
    "/;x/articles/secret",
    "/articles/;x/secret",
    "/articles/secret/;x",
    "/ARTICLES/SECRET;jsessionid=1",
    "/articles/secret%3Bx",
    "/articles%3bx/secret",
    "/articles/secret%253Bx",
    "/articles/secret;%2Fx",
    "/articles;%2Fx/secret",
    "/articles/secret;x%2F..",
    "/articles/secret;/",
    // Ends that Windows drops.
    "/articles/secret.",
    "/articles/secret..",
    "/articles/secret...",
    "/articles./secret",
    "/articles/secret%20",
    "/articles/secret ",
    "/articles%20/secret",
    "/articles/secret.%20.",
    "/articles/secret%2E",
    "/articles/secret%252E",
    "/articles/secret./",
    "/articles/%20/secret",
    "/articles/secret::$DATA",
    "/articles/secret::$data",
    "/articles::$INDEX_ALLOCATION/secret",
    "/articles:$I30:$INDEX_ALLOCATION/secret",
    "/articles/secret.;x",
    "/articles/SECRET.",
    // Ends of the path that appear late.
    "/articles/secret%3F",
    "/articles/secret%3Fx=1",
    "/articles/secret%3f/x",
    "/articles/secret%23",
    "/articles/secret%23x/y",
    "/articles/secret%253F",
    "/ARTICLES/SECRET%253Fx",
    "/articles%2Fsecret%23x",
    "/articles/secret;x%3Fy",
    // Control characters.
    "/articles/secret%00",
    "/articles/secret%00.html",
    "/articles/sec%00ret",
    "/articles/secret%0A",
    "/articles/secret%0d%0a",
    "/articles/secret%09",
    "/articles/secret%7F",
    "/articles/secret\0",
    "/articles/secret\n",
    "/articles/se\tcret",
    "/articles/secret\u{7F}",
    "/articles/secret%2500",
    "/articles/secret%252500",
    "/%0Aarticles/secret",
    // Malformed escapes.
    "/articles/secret%",
    "/articles/%7ecret%7",
    "/articles/%zzsecret",
    "/articles/%u0073ecret",
    "/articles/%%73ecret",
    "/articles/%-73ecret",
    "/articles/%0x73ecret",
    // Overlong UTF-8.
    "/articles%C0%AFsecret",
    "/articles%c1%9csecret",
    "/articles%E0%80%AFsecret",
    "/articles%F0%80%80%AFsecret",
    "/articles%F8%80%80%80%AFsecret",
    "/articles%FC%80%80%80%80%AFsecret",
    "/articles/%C1%B3ecret",
    "/articles/%E0%81%B3ecret",
    "/articles%25C0%25AFsecret",
    "/x/%C0%AE%C0%AE/articles/secret",
    "/articles/secret%ED%A0%80",
    // Not paths, or not paths alone.
    "",
    "articles/secret",
    "*",
    "http://host/articles/secret",
    "/articles/secret?x",
    "/articles/secret#x",
    "/articles/%73ecret#",
    // Everything together.
    "//ARTICLES;x%2F%2e./%2573ECRET%20.",
    "/articles;a%2Fsecret;b//..%2F",
];

/// Let through: other resources, to origins of every habit.
const FREE: &[&str] = &[
    "/",
    "/articles",
    "/articles/",
    "/articles/secrets",
    "/articles/secre",
    "/articles/secret/x",
    "/articles/secret.html",
    "/articles/secret~",
    "/articles/secret,x",
    "/articles/secret+",
    "/articles/secret:x",
    "/articles/-secret",
    "/articles/secret/../public",
    "/articles/x/secret",
    "/x/articles/secret",
    "/articles/.secret",
    "/articles/..secret",
    "/articles/sec/ret",
    "/articlessecret",
    "/articles/%20secret",
    "/articles/se%20cret",
    "/articles/%C3%9Fecret",
    // Look-alikes that no normal form and no code page takes for the same.
    "/articles/secret\u{3002}",
    "/articles/\u{455}ecret",
    "/articles\u{2571}secret",
    "/articles/secret%A0",
    // Strange, and harmless.
    "/articles;secret",
    "/articles/public;x",
    "/articles/public%2Fx",
    "/articles//public",
    "/articles/100%25",
    "/articles/se%2525cret",
    "/articles/(secret)",
    "/articles/{secret}",
    "/articles/secret'",
    "/articles/secret%27",
];

fn site() -> RouteTable {
    table(vec![priced_at("/articles/secret")])
}

#[test]
fn every_spelling_of_the_article_is_paid_for_or_refused() {
    let site = site();
    for path in PRICED {
        assert_eq!(verdict(&site, path), Verdict::Priced, "{path:?}");
    }
    for path in REFUSED {
        assert_eq!(verdict(&site, path), Verdict::Refused, "{path:?}");
    }
    assert!(PRICED.len() + REFUSED.len() >= 150);
}

#[test]
fn what_no_origin_takes_for_the_article_stays_free() {
    let site = site();
    for path in FREE {
        assert_eq!(verdict(&site, path), Verdict::Free, "{path:?}");
        let serving = serving_the_article(&RoutePath::parse(path).unwrap());
        assert!(serving.is_empty(), "{path:?} is the article to {serving:?}");
    }
}

#[test]
fn no_spelling_passes_a_wildcard_a_regular_expression_or_a_free_list_either() {
    let everything_priced =
        |free: &str| RouteTable::new(vec![free_at(free)], route(PathPattern::Any, priced()));
    let tables = [
        table(vec![priced_at("/articles/*")]),
        table(vec![priced_at("/articles/{slug}")]),
        table(vec![priced_at("/**/secret")]),
        table(vec![priced_at("/articles/sec*")]),
        table(vec![route(regex("/articles/[a-z]+"), priced())]),
        table(vec![route(regex("^/articles/[a-z]+$"), priced())]),
        table(vec![route(regex("\\A/articles/secret/\\z"), priced())]),
        table(vec![denied_at("/articles/**")]),
        everything_priced("/public/*"),
        everything_priced("/"),
    ];
    for (number, table) in tables.iter().enumerate() {
        for path in PRICED.iter().chain(REFUSED) {
            assert_ne!(verdict(table, path), Verdict::Free, "{path:?} under table {number}");
        }
    }
}

#[test]
fn a_free_route_is_free_in_the_exact_spelling_only() {
    let site = table(vec![priced_at("/docs/*"), free_at("/docs/intro"), free_at("/docs/faq/")]);
    for (path, expected) in [
        ("/docs/intro", Verdict::Free),
        ("/docs/%69ntro", Verdict::Free),
        ("/docs/./intro", Verdict::Free),
        ("/docs/INTRO", Verdict::Priced),
        ("/DOCS/intro", Verdict::Priced),
        ("/docs/intro/", Verdict::Priced),
        ("/docs/\u{131}ntro", Verdict::Priced),
        ("/docs/faq/", Verdict::Free),
        ("/docs/faq", Verdict::Priced),
        ("/docs/intro;x", Verdict::Refused),
        ("/docs/intro.", Verdict::Refused),
        ("/docs//intro", Verdict::Refused),
        ("/docs%2FINTRO", Verdict::Refused),
        // Free both for origins that split there and, as nothing in particular, for the others.
        ("/docs%2Fintro", Verdict::Free),
        ("/docs", Verdict::Priced),
    ] {
        assert_eq!(verdict(&site, path), expected, "{path}");
    }
}

#[test]
fn sites_that_use_strange_paths_harmlessly_stay_whole() {
    let site = table(vec![priced_at("/paid/**"), free_at("/static/*"), denied_at("/private/*")]);
    for (path, expected) in [
        ("/gitlab/group%2Fproject", Verdict::Free),
        ("/proxy/https%3A%2F%2Fexample.com%2Fa%20b", Verdict::Free),
        ("/proxy/https://example.com//a", Verdict::Free),
        ("/static/app;v=1/main..js", Verdict::Free),
        ("/static//x", Verdict::Free),
        ("/caf%E9/men%FA", Verdict::Free),
        ("/paid/group%2Fproject;x=1//y.", Verdict::Priced),
        ("/paid/100%25%20off", Verdict::Priced),
        ("/private/a%2Fb", Verdict::Denied),
        // Two different free routes, or two denied ones, do no harm.
        ("/static;v=1/x", Verdict::Free),
        ("/x/%2Fpaid", Verdict::Free),
    ] {
        assert_eq!(verdict(&site, path), expected, "{path}");
    }
}
