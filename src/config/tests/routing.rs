//! Conditions, names and upstreams of routes.

use super::{BASE, clean, messages};
use crate::policy::{HostPattern, PathPattern, ValueMatch};
use crate::proxy::settings::{HostPolicy, UpstreamAddress, UpstreamHttp};

fn route(lines: &str) -> String {
    format!("{BASE}[[routes]]\nfree = true\n{lines}\n")
}

#[test]
fn every_condition_of_a_route_is_read() {
    let config = clean(&route(
        "name = \"bulk\"\nhost = [\"API.example.com\", \"*.example.org\", \"[::1]\"]\nmethod = [\"GET\", \"POST\"]\n\
         path = \"/v1/{id}/**\"\nheader = { X-Tier = \"bulk\", X-Debug = false, User-Agent = { regex = \"(?i)bot\" } }\n\
         query = { Format = \"\", page = true }",
    ));
    let route = config.routes.routes().next().unwrap();
    assert_eq!(route.name, "bulk");
    assert_eq!(
        route.hosts,
        [
            HostPattern::Exact("api.example.com".into()),
            HostPattern::Below("example.org".into()),
            HostPattern::Exact("[::1]".into())
        ]
    );
    assert_eq!(route.methods, ["GET", "POST"]);
    assert!(matches!(&route.path, PathPattern::Glob(_)) && route.path.as_str() == "/v1/{id}/**");
    let headers: Vec<String> = route.headers.iter().map(ToString::to_string).collect();
    assert_eq!(headers, ["x-tier = \"bulk\"", "x-debug is not there", "user-agent matches \"(?i)bot\""]);
    assert_eq!(route.query[0].name, "Format", "parameters keep their letter case");
    assert!(matches!(&route.query[0].value, ValueMatch::Equals(text) if text.is_empty()));
    assert!(matches!(route.query[1].value, ValueMatch::Present(true)));
}

#[test]
fn conditions_that_cannot_hold_or_be_read_are_refused() {
    for (lines, message) in [
        ("host = \"*\"", "host: every host is what a route without `host` is for"),
        ("host = \"a.*.com\"", "host: can have a `*` only as its whole first part"),
        ("host = \"example.com:80\"", "host: has a port"),
        ("host = \"http://example.com\"", "host: is not a host"),
        ("host = \"bücher.example\"", "host: has letters outside ASCII"),
        ("host = []", "host: is an empty list"),
        ("host = [\"a.com\", \"A.com\"]", "host[1]: is written twice"),
        ("method = \"get\"", "method: methods are written in capitals"),
        ("method = \"*\"", "method: every method is what a route without `method` is for"),
        ("method = \"GE T\"", "method: is not a method"),
        ("path = \"a\"", "path: a path pattern begins with `/`"),
        (
            "path = \"/a?b\"",
            "path: a path has no `?`; conditions on the query have their own key, and `%3F` is the character",
        ),
        ("path = \"\"", "path: is empty"),
        ("path_regex = \"(\"", "path_regex: is not a regular expression: unclosed group"),
        ("path = \"/a\"\npath_regex = \"/b\"", "path_regex: stands next to `path`"),
        ("header = {}", "header: is an empty table"),
        ("header = { \"X Y\" = \"1\" }", "header.X Y: is not the name of a header"),
        ("header = { X-A = \"1\", x-a = \"2\" }", "header.x-a: is written twice, in different letter case"),
        ("header = { X-A = 1 }", "header.X-A: is neither a text, nor true or false, nor { regex = \"…\" }"),
        (
            "query = { a = { regex = \"[\" } }",
            "query.a.regex: is not a regular expression: unclosed character class",
        ),
        ("query = { a = {} }", "query.a: has no `regex`"),
    ] {
        let found = messages(&route(lines));
        assert_eq!(found.len(), 1, "{lines}: {found:?}");
        assert!(
            found[0].starts_with('E') && found[0].ends_with(&format!("routes[0].{message}")),
            "{lines}: {found:?}"
        );
    }
}

#[test]
fn a_route_decides_exactly_one_thing() {
    for (lines, message) in [
        ("path = \"/\"", "E 5: routes[0]: says neither what a request costs nor that it is free"),
        ("path = \"/\"\nfree = true\nprice = \"$1\"", "E 7: routes[0].free: contradicts `price`"),
        ("path = \"/\"\ndeny = true\nfree = true", "E 7: routes[0].deny: contradicts `free`"),
        ("path = \"/\"\nfree = false", "E 7: routes[0].free: can only be true"),
        (
            "path = \"/\"\nfree = true\nsettle = \"before-request\"",
            "W 8: routes[0].settle: has no effect on a free route",
        ),
        (
            "path = \"/\"\ndeny = true\nupstream = \"demo\"",
            "W 8: routes[0].upstream: has no effect on a denied route",
        ),
    ] {
        let found = messages(&format!("{BASE}[[routes]]\n{lines}\n"));
        assert!(found.iter().any(|found| found == message), "{lines}: {found:?}");
    }
}

#[test]
fn a_route_without_conditions_is_warned_of() {
    assert_eq!(
        messages(&format!("{BASE}[[routes]]\nfree = true\n")),
        ["W 5: routes[0]: has no condition, so it is for every request that no other route is for"]
    );
}

#[test]
fn a_route_that_can_never_match_is_warned_of() {
    let text =
        format!("{BASE}[[routes]]\npath = \"/a\"\nprice = \"$1\"\n[[routes]]\npath = \"/A/\"\nfree = true\n");
    assert_eq!(
        messages(&text),
        ["W 8: routes[1]: can never match: routes[0] in line 5 takes all its requests"]
    );
}

#[test]
fn names_of_routes_are_unique_and_derived_where_none_is_given() {
    let text = format!(
        "{BASE}[[routes]]\nname = \"/a\"\npath = \"/b\"\nfree = true\n\
         [[routes]]\npath = \"/a\"\nfree = true\n\
         [[routes]]\nhost = \"*.example.com\"\nmethod = \"GET\"\npath = \"/é\"\nfree = true\n\
         [[routes]]\nheader = {{ a = true }}\nfree = true\n"
    );
    let config = clean(&text);
    let names: Vec<&str> = config.routes.routes().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["/a", "/a #2", "GET *.example.com/\\u{e9}", "routes[3]"]);
    assert_eq!(config.routes.default().name, "default");
    for (name, message) in [
        ("default", "is the name of the route for what matches no other"),
        ("ä", "has characters outside printable ASCII, or spaces around it"),
        ("/b", "another route is named \"/b\""),
    ] {
        let text = format!(
            "{BASE}[[routes]]\nname = \"/b\"\npath = \"/x\"\nfree = true\n[[routes]]\nname = \"{name}\"\npath = \"/y\"\nfree = true\n"
        );
        assert_eq!(messages(&text), [format!("E 10: routes[1].name: {message}")]);
    }
}

#[test]
fn every_form_of_upstream_is_understood() {
    for (url, address, http) in [
        ("demo", UpstreamAddress::Demo, UpstreamHttp::Auto),
        ("http://Example.com", tcp("example.com", 80, false), UpstreamHttp::Auto),
        ("https://10.0.0.5:8443/", tcp("10.0.0.5", 8443, true), UpstreamHttp::Auto),
        ("https://[::1]", tcp("::1", 443, true), UpstreamHttp::Auto),
        ("h2c://localhost:50051", tcp("localhost", 50051, false), UpstreamHttp::Http2),
        ("unix:/run/site.sock", UpstreamAddress::Unix("/run/site.sock".into()), UpstreamHttp::Auto),
        ("unix:///run/site.sock", UpstreamAddress::Unix("/run/site.sock".into()), UpstreamHttp::Auto),
    ] {
        let config = clean(&format!("upstream = \"{url}\"\n"));
        let upstream = &config.upstreams[0];
        assert_eq!((&upstream.address, upstream.http, upstream.verify), (&address, http, true), "{url}");
    }
}

fn tcp(host: &str, port: u16, tls: bool) -> UpstreamAddress {
    UpstreamAddress::Tcp { host: host.into(), port, tls }
}

#[test]
fn a_named_upstream_has_everything_that_can_be_said_of_one() {
    let text = "upstream = \"api\"\n[upstreams.api]\nurl = \"https://10.0.0.5\"\nhttp = \"2\"\nhost = \"Site.example:80\"\n\
        sni = \"site.example\"\nconnect_timeout_ms = 1\nread_timeout_ms = 2\nwrite_timeout_ms = 3\nidle_timeout_ms = 4\n\
        reuse_after_body = true\n";
    let config = clean(text);
    let api = &config.upstreams[0];
    assert_eq!(
        (api.name.as_str(), api.http, api.sni.as_deref()),
        ("api", UpstreamHttp::Http2, Some("site.example"))
    );
    assert_eq!(api.host, HostPolicy::Fixed("site.example:80".into()));
    let timeouts = [api.connect_timeout, api.read_timeout, api.write_timeout, api.idle_timeout];
    assert_eq!(timeouts.map(|timeout| timeout.as_millis()), [1, 2, 3, 4]);
    assert!(api.reuse_after_body);
    assert!(!clean("upstream = \"http://site\"\n").upstreams[0].reuse_after_body);
}

#[test]
fn upstreams_that_cannot_be_meant_are_refused() {
    for (text, message) in [
        ("upstream = \"ftp://a\"", "E 1: upstream: has the unknown scheme \"ftp\""),
        ("upstream = \"http://a/b\"", "E 1: upstream: has a path, \"/b\""),
        ("upstream = \"http://a?b\"", "E 1: upstream: has a query"),
        ("upstream = \"http://me:pw@a\"", "E 1: upstream: has user information before the host"),
        ("upstream = \"localhost:8080\"", "E 1: upstream: no upstream is named \"localhost:8080\""),
        ("upstream = \"dmo\"", "E 1: upstream: no upstream is named \"dmo\""),
        ("upstream = \"unix:site.sock\"", "E 1: upstream: is not an absolute path of a Unix socket"),
        (
            "upstream = \"a\"\n[upstreams.a]\nurl = \"h2c://b\"\nhttp = \"1\"",
            "E 4: upstreams.a.http: contradicts the URL, which begins with h2c://",
        ),
        (
            "upstream = \"a\"\n[upstreams.a]\nurl = \"https://b\"\nsni = \"1.2.3.4\"",
            "E 4: upstreams.a.sni: is not a DNS name",
        ),
        (
            "upstream = \"a\"\n[upstreams.a]\nurl = \"http://b\"\nhost = \"b/c\"",
            "E 4: upstreams.a.host: is not a host",
        ),
        ("upstream = \"a\"\n[upstreams.a]\nhttp = \"1\"", "E 2: upstreams.a: has no `url`"),
        (
            "upstream = \"demo\"\n[upstreams.demo]\nurl = \"http://b\"",
            "E 2: upstreams.demo: cannot be the name of an upstream",
        ),
        (
            "upstream = \"a\"\n[upstreams.a]\nurl = \"https://b\"\nverify = false",
            "W 4: upstreams.a.verify: the certificate is not checked, so anyone in between can pose as the site",
        ),
        (
            "upstream = \"a\"\n[upstreams.a]\nurl = \"http://b\"\nverify = false",
            "W 4: upstreams.a.verify: has no effect, because the URL is not https",
        ),
        (
            "upstream = \"demo\"\n[upstreams.a]\nurl = \"http://b\"",
            "W 2: upstreams.a: no route uses this upstream",
        ),
        (
            "default = \"deny\"\n[[routes]]\npath = \"/\"\nfree = true",
            "E 0: upstream: missing, so nothing could be forwarded",
        ),
    ] {
        assert_eq!(messages(text), [message], "{text}");
    }
}

#[test]
fn an_upstream_that_is_the_gateway_itself_is_refused() {
    for (listen, upstream, is_loop) in [
        ("127.0.0.1:8402", "http://127.0.0.1:8402", true),
        ("127.0.0.1:8402", "http://localhost:8402", true),
        ("0.0.0.0:8402", "http://127.0.0.1:8402", true),
        ("[::]:80", "http://[::1]", true),
        ("127.0.0.1:8402", "http://0.0.0.0:8402", true),
        ("127.0.0.1:8402", "http://127.0.0.1:9402", true),
        ("127.0.0.1:8402", "http://127.0.0.1:8403", false),
        ("127.0.0.1:8402", "http://10.0.0.1:8402", false),
        ("127.0.0.1:8402", "http://example.com:8402", false),
    ] {
        let text = format!("listen = \"{listen}\"\npublic_url = \"https://a\"\nupstream = \"{upstream}\"\n");
        let found = messages(&text);
        assert_eq!(
            found.iter().any(|found| found.contains("is the gateway itself")),
            is_loop,
            "{text}{found:?}"
        );
    }
}

#[test]
fn a_denied_site_needs_no_upstream_where_nothing_is_forwarded() {
    let text = "default = \"deny\"\n[[routes]]\npath = \"/a\"\nfree = true\nupstream = \"demo\"\n";
    assert_eq!(clean(text).upstreams.len(), 1);
    assert_eq!(messages("default = \"deny\"\n"), ["E 0: upstream: missing, so nothing could be forwarded"]);
}
