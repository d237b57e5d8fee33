//! The command against a site over real sockets.

mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::http::Method;
use futures_util::stream;
use serde_json::{Value, json};

use super::Exit;
use crate::clock::{Clock as _, SystemClock};
use crate::scheme::{ExactEvm, Moment, Scheme as _};
use crate::x402::{PaymentPayload, Version, header};
use site::{KEY, SELLER, Site, TRANSACTION, challenge, pay, pay_into, plain, receipt, sold, terms};

const PAYER: &str = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23";

/// Reads a payment as the gateway does, and returns who signed it.
fn inspected(version: Version, value: &str) -> String {
    let payment = PaymentPayload::decode(version, value.as_bytes()).unwrap();
    let requirements = serde_json::from_value(terms()).unwrap();
    let moment = Moment { now: SystemClock.now(), margin_seconds: 20 };
    ExactEvm.inspect(&requirements, payment.payload().unwrap(), moment).unwrap().payer.unwrap()
}

#[tokio::test]
async fn a_page_is_paid_for_and_printed_byte_by_byte_with_its_receipt() {
    let body: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    let sent = body.clone();
    let site = Site::selling(move |seen| sold(seen, sent.clone())).await;
    let ran = pay(&[&site.page(), "--key", KEY]).await;
    assert_eq!((ran.exit, ran.stdout == body), (Exit::Done, true), "{}", ran.stderr);
    let payments = site.payments();
    assert_eq!(payments.len(), 1);
    assert_eq!(payments[0].0, Version::V2);
    assert_eq!(inspected(Version::V2, &payments[0].1), PAYER);
    assert_eq!(ran.field("page"), Some(site.page().as_str()));
    assert_eq!(ran.field("about"), Some("A page"));
    assert_eq!(ran.field("price"), Some("0.01 USDC"));
    assert_eq!(ran.field("network"), Some("base-sepolia (eip155:84532), a test network, no real money"));
    assert_eq!(ran.field("pay to"), Some(SELLER));
    assert_eq!(ran.field("paid by"), Some(PAYER));
    assert_eq!(ran.field("paid"), Some("0.01 USDC"));
    assert_eq!(ran.field("transaction"), Some(TRANSACTION));
}

#[tokio::test]
async fn the_first_generation_is_paid_when_asked_for_and_when_nothing_else_is_offered() {
    let site = Site::start(|seen, url| {
        if seen.payment().is_some() {
            return sold(seen, "v1 page");
        }
        let mut response = challenge(&terms(), url);
        if seen.path == "/old" {
            response.headers_mut().remove(header::PAYMENT_REQUIRED);
        }
        response
    })
    .await;
    let old = format!("{}/old", site.url);
    for line in [&[&*site.page(), "--v1", "--key", KEY][..], &[&old, "--key", KEY]] {
        let ran = pay(line).await;
        assert_eq!((ran.exit, ran.stdout.as_slice()), (Exit::Done, &b"v1 page"[..]), "{}", ran.stderr);
        assert_eq!(ran.field("transaction"), Some(TRANSACTION));
        let (version, value) = site.payments().pop().unwrap();
        assert_eq!((version, inspected(version, &value).as_str()), (Version::V1, PAYER));
    }
}

#[tokio::test]
async fn without_a_key_one_is_made_for_the_run_and_said_to_be_for_the_sandbox() {
    let site = Site::selling(|seen| sold(seen, "page")).await;
    let (one, other) = (pay(&[&site.page()]).await, pay(&[&site.page()]).await);
    for ran in [&one, &other] {
        assert_eq!(ran.exit, Exit::Done, "{}", ran.stderr);
        assert!(ran.stderr.contains("works only against a sandbox"));
    }
    assert_ne!(one.field("paid by"), other.field("paid by"));
    let (exit, stderr) = pay_into(&mut Vec::new(), &[&site.page()], Some(KEY)).await;
    assert_eq!(exit, Exit::Done);
    assert!(stderr.contains(PAYER) && !stderr.contains("sandbox"), "{stderr}");
}

#[tokio::test]
async fn a_free_page_is_printed_and_said_to_be_free_and_an_error_is_no_success() {
    let site =
        Site::start(|seen, _| plain(if seen.path == "/page" { 200 } else { 404 }, &[], "a text")).await;
    let ran = pay(&[&site.page()]).await;
    assert_eq!((ran.exit, ran.stdout.as_slice()), (Exit::Done, &b"a text"[..]));
    assert!(ran.field("free").unwrap().contains("nothing was paid"));
    let ran = pay(&[&format!("{}/none", site.url)]).await;
    assert_eq!((ran.exit, ran.stdout.as_slice()), (Exit::Failed, &b"a text"[..]));
    assert!(ran.field("failed").unwrap().contains("404 Not Found; nothing was paid"));
}

#[tokio::test]
async fn a_busy_server_is_sent_the_same_payment_again_when_it_asked_for_that() {
    let site = Site::selling(|seen| match seen.paid_before {
        0 => plain(503, &[("retry-after", "1")], ""),
        _ => sold(seen, "page"),
    })
    .await;
    let start = Instant::now();
    let ran = pay(&[&site.page()]).await;
    assert_eq!((ran.exit, ran.stdout.as_slice()), (Exit::Done, &b"page"[..]), "{}", ran.stderr);
    assert!(start.elapsed() >= Duration::from_secs(1));
    let payments = site.payments();
    assert_eq!(payments.len(), 2);
    assert_eq!(payments[0], payments[1]);
}

#[tokio::test]
async fn a_server_that_stays_busy_leaves_the_outcome_unknown_after_bounded_retries() {
    for (retry_after, retries, sent) in [("0", "2", 3), ("0", "0", 1), ("301", "3", 1), ("later", "3", 1)] {
        let site = Site::selling(move |_| plain(503, &[("retry-after", retry_after)], "")).await;
        let ran = pay(&[&site.page(), "--retries", retries]).await;
        assert_eq!(ran.exit, Exit::Unknown, "{}", ran.stderr);
        assert!(ran.field("unknown").unwrap().contains("money may have moved"));
        let mut payments = site.payments();
        assert_eq!(payments.len(), sent, "{retry_after} {retries}");
        payments.dedup();
        assert_eq!(payments.len(), 1);
    }
}

#[tokio::test]
async fn a_refusal_after_an_open_answer_does_not_close_it() {
    let site = Site::selling(|seen| match seen.paid_before {
        0 => plain(503, &[("retry-after", "0")], ""),
        _ => plain(402, &[], json!({"error": "invalid_payload"}).to_string()),
    })
    .await;
    assert_eq!(pay(&[&site.page()]).await.exit, Exit::Unknown);
}

#[tokio::test]
async fn a_refused_payment_is_explained_and_said_to_have_moved_nothing() {
    let failed = json!({"success": false, "errorReason": "insufficient_funds", "transaction": "",
                        "network": "eip155:84532"});
    let site = Site::selling(move |seen| receipt(seen, 402, &failed, "{}")).await;
    for line in [&[&*site.page()][..], &[&site.page(), "--v1"]] {
        let ran = pay(line).await;
        assert_eq!((ran.exit, ran.stdout.len()), (Exit::Failed, 0));
        assert_eq!(
            ran.field("reason"),
            Some("insufficient_funds: the paying account holds too little of the token")
        );
        assert_eq!(ran.field("not paid"), Some("no money moved, says the server"));
    }
}

#[tokio::test]
async fn a_refusal_without_a_receipt_says_what_the_server_still_holds() {
    let site = Site::selling(|_| {
        let error = json!({"x402Version": 2, "error": "invalid_exact_evm_signature", "accepts": []});
        plain(402, &[(header::PAYMENT_REQUIRED, &header::encode(&error).unwrap())], "{}")
    })
    .await;
    let ran = pay(&[&site.page()]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.field("reason").unwrap().starts_with("invalid_exact_evm_signature: the signature"));
    assert!(ran.field("no receipt").unwrap().contains("can take 0.01 USDC within the next"));
}

#[tokio::test]
async fn an_error_page_that_was_paid_for_is_a_failure_that_names_the_transaction() {
    let settled =
        json!({"success": true, "transaction": TRANSACTION, "network": "eip155:84532", "payer": SELLER});
    let site = Site::selling(move |seen| receipt(seen, 500, &settled, "oops")).await;
    let ran = pay(&[&site.page()]).await;
    assert_eq!((ran.exit, ran.stdout.len()), (Exit::Failed, 0));
    assert_eq!((ran.field("paid"), ran.field("transaction")), (Some("0.01 USDC"), Some(TRANSACTION)));
    assert!(ran.field("note").unwrap().contains("another payer"));
}

#[tokio::test]
async fn an_answer_that_never_comes_leaves_the_outcome_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page = format!("http://{}/page", listener.local_addr().unwrap());
    let offer = challenge(&terms(), &page);
    let offer = format!(
        "HTTP/1.1 402 Payment Required\r\nconnection: close\r\ncontent-length: 0\r\npayment-required: {}\r\n\r\n",
        offer.headers()[header::PAYMENT_REQUIRED].to_str().unwrap()
    );
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(connection.read_u8().await.unwrap());
            }
            // A payment is read and never answered.
            if !String::from_utf8_lossy(&request).contains(header::PAYMENT_SIGNATURE) {
                connection.write_all(offer.as_bytes()).await.unwrap();
            }
        }
    });
    let ran = pay(&[&page]).await;
    assert_eq!(ran.exit, Exit::Unknown, "{}", ran.stderr);
    assert!(ran.stderr.contains("would sign a second payment"));
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let page = format!("http://{}/page", listener.local_addr().unwrap());
    drop(listener);
    let ran = pay(&[&page]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.stderr.contains("nothing was paid"), "{}", ran.stderr);
}

#[tokio::test]
async fn a_dry_run_shows_the_offer_and_pays_nothing() {
    let site = Site::selling(|seen| sold(seen, "page")).await;
    let ran = pay(&[&site.page(), "--dry-run"]).await;
    assert_eq!((ran.exit, ran.stdout.len(), site.payments().len()), (Exit::Done, 0, 0));
    assert_eq!(ran.field("offer 1"), Some(&*format!("0.01 USDC on base-sepolia to {SELLER}: can be paid")));
    assert!(ran.stderr.contains("nothing was paid"));
}

#[tokio::test]
async fn what_the_limits_forbid_is_not_paid() {
    let base = json!({"scheme": "exact", "network": "eip155:8453", "amount": "10000", "payTo": SELLER,
                      "asset": "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913", "maxTimeoutSeconds": 60,
                      "extra": {"name": "USD Coin", "version": "2"}});
    let site = Site::start(move |seen, url| match (seen.payment(), seen.path.as_str()) {
        (Some(_), _) => sold(seen, "page"),
        (None, "/base") => challenge(&base, url),
        (None, "/other") => challenge(&terms(), "https://other.example/page"),
        (None, "/unreadable") => plain(402, &[(header::PAYMENT_REQUIRED, "?")], "{}"),
        (None, _) => challenge(&terms(), url),
    })
    .await;
    let at = |path: &str| format!("{}/{path}", site.url);
    for (line, why) in [
        (&[&*at("page"), "--max-price", "$0.009999"][..], "above the limit of 0.009999"),
        (&[&at("page"), "--network", "base"], "--network allows only base"),
        (&[&at("base")], "this is real money"),
        (&[&at("other")], "it is for `https://other.example/page`, which is not on 127.0.0.1"),
        (&[&at("unreadable")], "its PAYMENT-REQUIRED header is not standard base64"),
    ] {
        let ran = pay(line).await;
        assert_eq!((ran.exit, site.payments().len()), (Exit::NoOffer, 0), "{line:?}");
        assert!(ran.stderr.contains(why) && ran.stderr.contains("nothing was paid"), "{}", ran.stderr);
    }
    let ran = pay(&[&at("base"), "--key", KEY]).await;
    assert_eq!((ran.exit, ran.field("network")), (Exit::Done, Some("base (eip155:8453), REAL MONEY")));
    assert_eq!(pay(&[&at("other"), "--allow-other-resource"]).await.exit, Exit::Done);
}

#[tokio::test]
async fn hostile_texts_reach_the_terminal_only_as_escapes() {
    let hostile = "\u{1b}[2J\r\npaid         nothing\u{7}\u{202e}\u{9b}";
    let site = Site::start(move |seen, url| {
        let mut first = terms();
        first["scheme"] = hostile.into();
        let resource = json!({"url": url, "description": hostile});
        let message = json!({"x402Version": 2, "resource": resource, "accepts": [first, terms()]});
        let offer = header::encode(&message).unwrap();
        let failed = json!({"success": false, "errorReason": hostile, "network": hostile, "payer": hostile});
        match seen.payment() {
            None => plain(402, &[(header::PAYMENT_REQUIRED, &offer)], hostile),
            Some(_) => receipt(seen, 402, &failed, hostile),
        }
    })
    .await;
    for line in [&[&*site.page()][..], &[&site.page(), "--dry-run"], &[&site.page(), "--network", "base"]] {
        let ran = pay(line).await;
        assert!(ran.stderr.contains("\\u{1b}[2J\\u{d}\\u{a}paid"), "{}", ran.stderr);
        assert!(ran.stderr.chars().all(|character| character == '\n' || !character.is_control()));
        assert!(!ran.stderr.contains('\u{202e}'));
        assert_eq!((ran.field("paid"), ran.stdout.len()), (None, 0));
    }
}

#[tokio::test]
async fn redirects_are_followed_before_paying_on_the_same_host_and_never_with_a_payment() {
    let site = Site::start(|seen, url| match (seen.path.as_str(), seen.payment()) {
        ("/start", _) => plain(302, &[("location", "/page")], ""),
        ("/away", _) => plain(302, &[("location", &url.replace("127.0.0.1", "localhost"))], ""),
        ("/loop", _) => plain(302, &[("location", "/loop")], ""),
        ("/page", Some(_)) => plain(307, &[("location", "/elsewhere")], ""),
        _ => challenge(&terms(), url),
    })
    .await;
    let ran = pay(&[&format!("{}/start", site.url)]).await;
    assert_eq!((ran.exit, site.payments().len()), (Exit::Failed, 1), "{}", ran.stderr);
    assert!(ran.stderr.contains("/elsewhere (a payment is not carried there)"));
    assert!(site.seen().iter().all(|seen| seen.path != "/elsewhere"));
    let ran = pay(&[&format!("{}/away", site.url)]).await;
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.stderr.contains("localhost") && ran.stderr.contains("(not followed)"), "{}", ran.stderr);
    assert_eq!(pay(&[&format!("{}/loop", site.url)]).await.exit, Exit::Failed);
    assert_eq!(site.seen().iter().filter(|seen| seen.path == "/loop").count(), 6);
}

#[tokio::test]
async fn the_page_goes_to_a_file_that_is_opened_before_anything_is_paid() {
    let site = Site::selling(|seen| sold(seen, "page")).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("page.html");
    let ran = pay(&[&site.page(), "-o", path.to_str().unwrap()]).await;
    assert_eq!((ran.exit, ran.stdout.len()), (Exit::Done, 0), "{}", ran.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"page");
    let nowhere = directory.path().join("no/such/page.html");
    let ran = pay(&[&site.page(), "-o", nowhere.to_str().unwrap()]).await;
    assert_eq!((ran.exit, site.payments().len()), (Exit::Usage, 1), "{}", ran.stderr);
}

#[tokio::test]
async fn a_request_is_repeated_whole_with_its_payment() {
    let site = Site::selling(|seen| sold(seen, seen.body.clone())).await;
    let line = [&*site.page(), "-H", "X-Own: 1", "-H", "Content-Type: text/plain", "-d", "question"];
    let ran = pay(&line).await;
    assert_eq!((ran.exit, ran.stdout.as_slice()), (Exit::Done, &b"question"[..]), "{}", ran.stderr);
    let seen = site.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert_eq!((seen.method, &seen.body[..]), (Method::POST, &b"question"[..]));
        assert_eq!(
            (&seen.headers["x-own"], &seen.headers["content-type"]),
            (&"1".parse().unwrap(), &"text/plain".parse().unwrap())
        );
    }
}

/// A standard output that says when something was written.
struct Telling(tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

impl std::io::Write for Telling {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_owned()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Buys a page whose second piece is sent only after the first was printed.
async fn buy_in_two_pieces(second: fn() -> std::io::Result<Bytes>) -> (Exit, String) {
    let (printed, reader) = tokio::sync::mpsc::unbounded_channel();
    let reader = Arc::new(tokio::sync::Mutex::new(reader));
    let site = Site::selling(move |seen| {
        let reader = Arc::clone(&reader);
        let pieces = stream::unfold(0, move |piece| {
            let reader = Arc::clone(&reader);
            async move {
                match piece {
                    0 => Some((Ok(Bytes::from("first")), 1)),
                    1 => {
                        assert_eq!(reader.lock().await.recv().await.unwrap(), b"first");
                        Some((second(), 2))
                    }
                    _ => None,
                }
            }
        });
        sold(seen, Body::from_stream(pieces))
    })
    .await;
    let page = site.page();
    let (mut stdout, line) = (Telling(printed), [page.as_str()]);
    let run = pay_into(&mut stdout, &line, None);
    tokio::time::timeout(Duration::from_secs(30), run).await.unwrap()
}

#[tokio::test]
async fn a_body_is_printed_as_it_arrives() {
    let (exit, stderr) = buy_in_two_pieces(|| Ok(Bytes::from("second"))).await;
    assert_eq!(exit, Exit::Done, "{stderr}");
}

#[tokio::test]
async fn a_page_that_breaks_off_is_a_failure_with_its_receipt() {
    let (exit, stderr) = buy_in_two_pieces(|| Err(std::io::Error::other("gone"))).await;
    assert_eq!(exit, Exit::Failed, "{stderr}");
    assert!(stderr.contains(TRANSACTION) && stderr.contains("broke off after 5 bytes"), "{stderr}");
}

#[tokio::test]
async fn a_wrong_key_is_found_before_anything_is_sent() {
    let site = Site::selling(|seen| sold(seen, "page")).await;
    let ran = pay(&[&site.page(), "--key", "5ec2e7"]).await;
    assert_eq!((ran.exit, site.seen().len()), (Exit::Usage, 0));
    assert!(!ran.stderr.contains("5ec2e7"), "{}", ran.stderr);
}

#[test]
fn the_site_of_these_tests_offers_what_the_gateway_would() {
    let requirements: crate::x402::PaymentRequirements = serde_json::from_value(terms()).unwrap();
    assert_eq!(serde_json::to_value(&requirements).unwrap(), terms());
    assert_eq!(Value::from(requirements.network.name()), "base-sepolia");
}
