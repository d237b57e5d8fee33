//! What operators see: health, readiness, metrics, and one line of log per request.

use serde_json::{Value, json};

use crate::support::gateway::{PAID, base, free_address};
use crate::support::{Act, Facilitator, Gateway, Origin, get, payment_for, send};

const TWO: &str = "[[routes]]\nname = \"articles\"\npath = \"/articles/*\"\nprice = \"$0.01\"\n\
                   [[routes]]\nname = \"api\"\npath = \"/api/*\"\nprice = \"$0.02\"\n\
                   [[routes]]\nname = \"secret\"\npath = \"/secret\"\ndeny = true\n";

/// Compliance 35, 77.
#[tokio::test]
async fn until_the_facilitator_is_known_the_gateway_runs_and_is_not_ready() {
    let origin = Origin::site().await;
    let address = free_address();
    let gateway = Gateway::spawn(&format!("{}{TWO}", base(&origin.url(), &format!("http://{address}"))));
    gateway.wait_for_log("operator").await;
    let unready = loop {
        // The listeners come up a moment after the private address.
        let answer = get(gateway.admin, "/readyz", &[]).await;
        assert_eq!(answer.status, 503);
        if !answer.text().contains("does not answer yet") {
            break answer;
        }
    };
    assert_eq!(unready.text(), "no facilitator is known to settle: articles, api\n");
    assert_eq!(get(gateway.admin, "/healthz", &[]).await.text(), "ok\n");
    assert_eq!(get(gateway.address, "/free", &[]).await.status, 200);
    let closed = get(gateway.address, "/articles/1", &[]).await;
    assert_eq!(closed.status, 503, "{}", closed.text());
    assert!(closed.header("retry-after").is_some());

    let facilitator = Facilitator::start_at(address).await;
    gateway.wait_until_ready().await;
    assert_eq!(get(gateway.admin, "/readyz", &[]).await.text(), "ready\n");
    get(gateway.address, "/articles/1", &[]).await.required();
    drop(facilitator);
}

#[tokio::test]
async fn the_private_address_is_not_part_of_the_site() {
    let origin = Origin::site().await;
    let gateway = Gateway::start(&origin.url(), "sandbox", PAID).await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(gateway.address, path, &[]).await.text(), format!("content of {path}"));
    }
    assert_eq!(get(gateway.admin, "/free/a", &[]).await.status, 404);
}

async fn site(more: &str) -> (Origin, Facilitator, Gateway) {
    let origin = Origin::start(|request| match request.target.split('?').next() {
        Some("/articles/missing") => Act::answer(404, &[], "no such article"),
        Some("/broken") => Act::Close,
        _ => Act::answer(200, &[], "content"),
    })
    .await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &format!("{TWO}{more}")).await;
    (origin, facilitator, gateway)
}

/// One request of every outcome that needs no special facilitator; returns the secrets it carried.
async fn one_of_each(gateway: &Gateway, facilitator: &Facilitator) -> Vec<String> {
    let address = gateway.address;
    let mut secrets = vec!["hunter2".to_owned(), "Bearer-token-1".to_owned(), "cookie-secret".to_owned()];
    let private = [("Authorization", "Bearer Bearer-token-1"), ("Cookie", "s=cookie-secret")];
    assert_eq!(get(address, "/free?password=hunter2", &private).await.status, 200);
    assert_eq!(get(address, "/articles/1?password=hunter2", &private).await.status, 402);
    for path in ["/articles/1?password=hunter2", "/articles/missing?password=hunter2"] {
        let payment = payment_for(address, path).await;
        let expected = if path.contains("missing") { 404 } else { 200 };
        assert_eq!(get(address, path, &[("PAYMENT-SIGNATURE", &payment)]).await.status, expected);
        secrets.push(payment);
    }
    let payment = payment_for(address, "/api/1?password=hunter2").await;
    facilitator
        .will_settle([Act::json(200, &json!({"success": false, "errorReason": "insufficient_funds"}))]);
    assert_eq!(get(address, "/api/1?password=hunter2", &[("PAYMENT-SIGNATURE", &payment)]).await.status, 402);
    secrets.push(payment);
    let garbage = "Z2FyYmFnZSBzZWNyZXQ=";
    assert_eq!(get(address, "/api/1?password=hunter2", &[("X-PAYMENT", garbage)]).await.status, 402);
    secrets.push(garbage.to_owned());
    assert_eq!(get(address, "/secret?password=hunter2", &[]).await.status, 403);
    let twice = [("X-PAYMENT", "dHdpY2Utc2VjcmV0"), ("X-PAYMENT", "dHdpY2Utc2VjcmV0")];
    assert_eq!(get(address, "/api/1?password=hunter2", &twice).await.status, 400);
    secrets.push("dHdpY2Utc2VjcmV0".to_owned());
    assert_eq!(get(address, "/broken?password=hunter2", &[]).await.status, 502);
    let bad = b"GET /%zz?password=hunter2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send(address, bad).await.status, 400);
    secrets
}

/// What `one_of_each` must have left: (path, route, outcome, status), challenges for payments included.
const EXPECTED: [(&str, &str, &str, u16); 13] = [
    ("/free", "default", "free", 200),
    ("/articles/1", "articles", "challenged", 402),
    ("/articles/1", "articles", "challenged", 402),
    ("/articles/1", "articles", "paid", 200),
    ("/articles/missing", "articles", "challenged", 402),
    ("/articles/missing", "articles", "not_charged", 404),
    ("/api/1", "api", "challenged", 402),
    ("/api/1", "api", "payment_refused", 402),
    ("/api/1", "api", "payment_refused", 402),
    ("/secret", "secret", "denied", 403),
    ("/api/1", "api", "bad_request", 400),
    ("/broken", "default", "upstream_failed", 502),
    ("/%zz", "none", "bad_request", 400),
];

/// Compliance 75.
#[tokio::test]
async fn every_request_is_one_line_of_json_without_secrets() {
    let (_origin, facilitator, gateway) = site("[log]\nformat = \"json\"\nlevel = \"trace\"\n").await;
    let secrets = one_of_each(&gateway, &facilitator).await;
    gateway.wait_for_logs("\"message\":\"request\"", EXPECTED.len()).await;
    let log = gateway.log();
    let lines: Vec<Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    let mut seen: Vec<_> = requests
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().unwrap_or_default();
            (
                text("path"),
                text("route"),
                text("outcome"),
                u16::try_from(line["status"].as_u64().unwrap()).unwrap(),
            )
        })
        .collect();
    // Lines come when answers are complete, which clients may see a moment earlier.
    seen.sort_unstable();
    let mut expected = EXPECTED;
    expected.sort_unstable();
    assert_eq!(seen, expected);
    let paid = requests.iter().find(|line| line["outcome"] == "paid").unwrap();
    assert_eq!(paid["method"], "GET");
    assert_eq!(paid["amount"], "10000");
    assert_eq!(paid["transaction"], "0xabc");
    assert_eq!(paid["payer"], "0x00000000000000000000000000000000000000aa");
    assert!(paid["payment"].is_string() && paid["micros"].is_u64() && paid["bytes"] == 7, "{paid}");
    assert!(paid["client"].as_str().unwrap().starts_with("127.0.0.1"), "{paid}");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
}

/// Compliance 75.
#[tokio::test]
async fn every_request_is_one_line_of_text_without_secrets() {
    let (_origin, facilitator, gateway) = site("[log]\nformat = \"text\"\n").await;
    let secrets = one_of_each(&gateway, &facilitator).await;
    gateway.wait_for_logs(" request ", EXPECTED.len()).await;
    let log = gateway.log();
    let mut requests: Vec<&str> = log.lines().filter(|line| line.contains(" request ")).collect();
    assert!(requests.iter().all(|line| !line.contains('\x1b')), "colours in a file: {log:?}");
    for (path, route, outcome, status) in EXPECTED {
        let fields = [
            format!(" path=\"{path}\" "),
            format!(" route=\"{route}\" "),
            format!(" outcome=\"{outcome}\" "),
            format!(" status={status} "),
        ];
        let line = requests.iter().position(|line| fields.iter().all(|field| line.contains(field)));
        requests.remove(line.unwrap_or_else(|| panic!("no line with {fields:?} in:\n{log}")));
    }
    assert_eq!(requests, Vec::<&str>::new());
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log:\n{log}");
    }
}

/// What a client writes cannot forge a line of its own.
#[tokio::test]
async fn a_request_cannot_write_lines_of_the_log() {
    let (_origin, _facilitator, gateway) = site("").await;
    let ask = b"GET /free/%0Aforged%1b[31m HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(send(gateway.address, ask).await.status, 400);
    let ask = "GET /free/\u{85}\u{2028}forged HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    send(gateway.address, ask.as_bytes()).await;
    gateway.wait_for_logs(" request ", 2).await;
    assert!(gateway.log().lines().all(|line| !line.starts_with("forged")), "{}", gateway.log());
}

/// Compliance 76, as far as `exact` goes.
#[tokio::test]
async fn metrics_count_what_happened() {
    let (_origin, facilitator, gateway) = site("").await;
    one_of_each(&gateway, &facilitator).await;
    gateway.wait_for_logs(" request ", EXPECTED.len()).await;
    gateway.wait_until_idle().await;
    let page = gateway.metrics().await;
    let mut counts = std::collections::BTreeMap::new();
    for (_, route, outcome, _) in EXPECTED {
        *counts.entry((route, outcome)).or_insert(0) += 1;
    }
    let mut lines: Vec<String> = counts
        .into_iter()
        .map(|((route, outcome), count)| {
            format!("tollgate_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}} {count}")
        })
        .collect();
    lines.extend(
        [
            "tollgate_request_duration_seconds_count 13",
            "tollgate_requests_in_flight 0",
            "tollgate_settlements_in_flight 0",
            "tollgate_payments_held{state=\"claimed\"} 0",
            "tollgate_payments_held{state=\"settling\"} 0",
            "tollgate_payments_held{state=\"unresolved\"} 0",
            "tollgate_oldest_unresolved_payment_seconds 0",
            "# EOF",
        ]
        .map(str::to_owned),
    );
    for line in lines {
        assert!(page.lines().any(|found| found == line), "{line} is missing in:\n{page}");
    }
    let revenue = "tollgate_revenue_atomic_units_total{route=\"articles\",network=\"eip155:84532\",asset=\"";
    assert!(page.lines().any(|line| line.starts_with(revenue) && line.ends_with("\"} 10000.0")), "{page}");
    let calls =
        page.lines().filter(|line| line.starts_with("tollgate_facilitator_call_duration_seconds_count"));
    assert!(calls.clone().any(|line| line.contains("call=\"settle\"")), "{page}");
    assert!(calls.clone().any(|line| line.contains("call=\"verify\"")), "{page}");
}

/// C1 controls steer terminals, and others turn the direction of what is read.
#[tokio::test]
async fn a_path_that_is_refused_is_written_in_plain_letters() {
    for format in ["json", "text"] {
        let (_origin, _facilitator, gateway) = site(&format!("[log]\nformat = \"{format}\"\n")).await;
        let before = gateway.log();
        let ask = "GET //articles/a\u{9b}31m\u{85}\u{202e}x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 400);
        gateway.wait_for_log("//articles/a%C2%9B31m%C2%85%E2%80%AEx").await;
        let written = gateway.log();
        assert!(written[before.len()..].is_ascii(), "{written:?}");
    }
}

/// What is refused before it is a request is one line, too, and counted.
#[tokio::test]
async fn refused_heads_are_in_the_log_and_in_the_metrics() {
    let (origin, _facilitator, gateway) =
        site("[limits]\nheader_bytes = 2048\npayment_header_bytes = 1024\nheader_timeout_ms = 300\n").await;
    let secret = "secret-of-a-refused-head";
    for (head, status) in [
        (format!("GET /free?{secret} HTTP/1.1\r\nHost: a\r\nHost: {secret}\r\n\r\n"), 400),
        (format!("GET /free HTTP/1.1\r\nHost: a\r\nX: {secret}{}\r\n\r\n", "x".repeat(3000)), 431),
        (format!("GET /free HTTP/1.1\r\nHost: a\r\nX: {secret}"), 408),
    ] {
        assert_eq!(send(gateway.address, head.as_bytes()).await.status, status);
        gateway.wait_for_log(&format!("status={status} route=\"none\" outcome=\"bad_request\"")).await;
    }
    assert!(!gateway.log().contains(secret), "{}", gateway.log());
    let counted = "tollgate_requests_total{route=\"none\",outcome=\"bad_request\"} 3";
    let page = gateway.metrics().await;
    assert!(page.lines().any(|line| line == counted), "{page}");
    assert!(origin.requests().is_empty());
}
