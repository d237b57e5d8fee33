//! Behind the load balancers of `deploy/replicas`, set up as they are there.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use super::example::Example;
use super::presenter::{End, Presenter};
use super::replicas::{Fleet, present, present_patiently, send};
use super::support::payer::encode;
use super::support::shop::{assert_in_use, assert_refused};
use super::support::{Connection, LiveOrigin, Origin, Payer, get, payment_for};

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Runs `tollgate` and returns what it wrote to standard output.
async fn tollgate(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program, which must be content and have nothing to remark.
fn is_content(program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("TOLLGATE_LEDGER", "postgres://user@host/database");
    let output = command.args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let remark = said.to_lowercase().contains("warn");
    assert!(output.status.success() && !remark, "{program} {arguments:?}: {said}");
}

#[test]
fn the_configurations_of_the_example_are_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| format!("{}/deploy/replicas/{name}", env!("CARGO_MANIFEST_DIR"));
    let (nginx, haproxy) = (file("nginx.conf"), file("haproxy.cfg"));
    is_content("nginx", &["-t", "-e", "stderr", "-p", folder.path().to_str().unwrap(), "-c", &nginx]);
    is_content("haproxy", &["-c", "-f", &haproxy]);
    for name in ["gateway.toml", "site.toml"] {
        is_content(env!("CARGO_BIN_EXE_tollgate"), &["check", &file(name)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_sells_the_demo_site_through_nginx_and_through_haproxy() {
    let example = Example::start(&[]).await;
    for (name, front) in example.fronts() {
        assert_eq!(get(front, "/", &[]).await.status, 200, "{name}");
        let required = get(front, "/articles/x402", &[]).await.required();
        let url = format!("http://{}/articles/x402", example.nginx());
        assert_eq!(required["resource"]["url"], url, "{name}: one site, whichever way in");
        let article = tollgate(&["pay", &format!("http://{front}/articles/x402")], &[]).await;
        assert!(article.contains("<h1>"), "{name}: {article}");
        a_download_is_whole(name, front).await;
        events_come_as_they_are_made(name, front).await;
        the_largest_payment_header_passes(name, front).await;
        who_has_not_paid_is_told_before_an_upload(name, front).await;
    }
    let sums = tollgate(
        &["ledger", "list", "--sums", "--config", example.folder.join("gateway.toml").to_str().unwrap()],
        &[("TOLLGATE_LEDGER", &example.ledger())],
    )
    .await;
    // For each way in two articles for a cent each and the events for two.
    let total: Vec<&str> = sums.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(total, ["total", "base-sepolia", "6", "0.08", "USDC"], "{sums}");
    let (folder, front) = (example.folder.clone(), example.nginx());
    assert!(example.end().await.success());
    assert!(!folder.exists(), "it leaves nothing behind");
    assert!(tokio::net::TcpStream::connect(front).await.is_err());
}

async fn a_download_is_whole(name: &str, front: SocketAddr) {
    let download = get(front, "/download/large.bin?mib=3", &[]).await;
    assert!(download.complete && download.body.len() == 3 << 20, "{name}: {} bytes", download.body.len());
}

/// A stream that was paid for begins while it is still being made.
async fn events_come_as_they_are_made(name: &str, front: SocketAddr) {
    let payment = payment_for(front, "/events?count=3").await;
    let mut client = send(front, "/events?count=3", &payment).await;
    assert_eq!(client.head().await.status, 200, "{name}");
    let first = client.read_until("\"number\":1").await;
    assert!(!first.contains("\"number\":3"), "{name}: held back");
    client.read_until("\"number\":3").await;
}

async fn the_largest_payment_header_passes(name: &str, front: SocketAddr) {
    let mut message = Payer::new().message(&get(front, "/articles/x402", &[]).await.required());
    message["padding"] = "x".repeat(11_000).into();
    let header = encode(&message);
    assert!((14_000..16_384).contains(&header.len()), "{}", header.len());
    let bought = present(front, "/articles/x402", &header).await;
    assert_eq!(bought.status, 200, "{name}: {}", bought.text());
}

async fn who_has_not_paid_is_told_before_an_upload(name: &str, front: SocketAddr) {
    let mut client = Connection::open(front).await;
    client
        .write("POST /api/echo HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 1000000000\r\n\r\nbegun")
        .await;
    assert_eq!(client.response().await.status, 402, "{name}");
}

/// One gateway is killed and another restarted while people read what is free and buy what is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_balancers_nobody_notices_that_a_gateway_is_killed_and_another_restarted() {
    const READERS: usize = 4;
    const BUYERS: usize = 6;
    let origin = Origin::site().await;
    let example = Example::start(&["--site", &origin.url()]).await;
    let fronts = [example.nginx(), example.haproxy()];
    let fleet = Fleet::of(example.ledger());
    let (closing, read, bought) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let reading = join_all((0..READERS).map(|reader| {
        let (closing, read) = (&closing, &read);
        async move {
            while !closing.load(Ordering::Relaxed) {
                let page = get(fronts[reader % 2], "/free", &[]).await;
                assert_eq!((page.status, page.complete), (200, true), "{}", page.text());
                read.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let required = get(fronts[0], "/articles/x", &[]).await.required();
    let buying = join_all((0..BUYERS).map(|buyer| {
        let (closing, bought, required) = (&closing, &bought, &required);
        async move {
            let mut presenter = Presenter::new(fronts.to_vec(), buyer);
            let mut receipts = Vec::new();
            while !closing.load(Ordering::Relaxed) {
                let path = format!("/articles/{buyer}-{}", receipts.len());
                let payment = sign(required, &path);
                let end = presenter.persist(&path, &payment).await;
                let End::Delivered { body, .. } = end else { panic!("{path}: {end:?}") };
                assert_eq!(body, format!("content of {path}"));
                receipts.push((path, payment));
                bought.fetch_add(1, Ordering::Relaxed);
            }
            receipts
        }
    }));
    let trouble = async {
        wait_for(&bought, 30).await;
        let killed = example.signal(2, "-KILL");
        let on_their_way = fleet.settled_by_the_silent().await;
        wait_for(&bought, 60).await;
        example.is_back(2, &killed).await;
        let stopped = example.signal(3, "-TERM");
        wait_for(&bought, 90).await;
        example.is_back(3, &stopped).await;
        wait_for(&bought, 120).await;
        closing.store(true, Ordering::Relaxed);
        on_their_way
    };
    let (_, receipts, on_their_way) = tokio::join!(reading, buying, trouble);
    let receipts: Vec<(String, String)> = receipts.into_iter().flatten().collect();
    println!("{} pages read, {} bought", read.into_inner(), receipts.len());
    assert!(example.said().contains("gateway-2 ended (status 137)"), "{}", example.said());
    // No balancer closes a connection before the arrival of what was bought is confirmed.
    let bought_from = |log: &str| log.lines().filter(|line| line.contains("/articles/")).collect::<String>();
    for gateway in 1..=3 {
        assert!(!bought_from(&example.log(gateway)).contains("client_left"), "gateway-{gateway}");
    }
    // Presented once more, a payment buys nothing more, but for those whose page was on its way from the
    // gateway that was killed.
    let mut again = 0;
    for (index, (path, payment)) in receipts.iter().enumerate() {
        if Presenter::new(fronts.to_vec(), index).persist(path, payment).await != End::Used {
            assert!(on_their_way.contains(path), "{path} is delivered twice");
            again += 1;
        }
    }
    println!("{again} of {} fetched once more", on_their_way.len());
    fleet.all_delivered(i64::try_from(receipts.len()).unwrap()).await;
}

fn sign(required: &Value, path: &str) -> String {
    let mut message = Payer::new().message(required);
    message["resource"]["url"] =
        message["resource"]["url"].as_str().unwrap().replace("/articles/x", path).into();
    encode(&message)
}

async fn wait_for(count: &AtomicUsize, least: usize) {
    let deadline = Instant::now() + Duration::from_secs(180);
    while count.load(Ordering::Relaxed) < least {
        assert!(Instant::now() < deadline, "nothing is bought any more");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The number of the gateway that works on the only request there is.
async fn busy(example: &Example) -> u16 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        for gateway in 1..=3 {
            let metrics = get(example.admin(gateway), "/metrics", &[]).await.text();
            if metrics.lines().any(|line| line == "tollgate_requests_in_flight 1") {
                return gateway;
            }
        }
        assert!(Instant::now() < deadline, "no gateway is at work");
    }
}

/// What balancers do to requests, seen from the site.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_balancers_pass_on_hosts_and_websockets_and_repeat_only_what_may_be_repeated() {
    let origin = LiveOrigin::start().await;
    let example = Example::start(&["--site", &origin.url()]).await;
    for (name, front) in example.fronts() {
        a_websocket_is_paid_for_and_flows_both_ways(name, front, &origin).await;
        whom_the_site_is_told_of(name, front, &origin).await;
        a_get_is_repeated_elsewhere(name, front, &origin, &example).await;
        a_post_is_not(name, front, &origin, &example).await;
        a_payment_waits_for_the_gateway_that_had_it(name, front, &origin, &example).await;
    }
}

async fn a_websocket_is_paid_for_and_flows_both_ways(name: &str, front: SocketAddr, origin: &LiveOrigin) {
    let payment = payment_for(front, "/articles/chat").await;
    let mut client = Connection::open(front).await;
    let head = format!("GET /articles/chat HTTP/1.1\r\nHost: shop.example\r\n{UPGRADE}");
    client.write(format!("{head}PAYMENT-SIGNATURE: {payment}\r\n\r\n")).await;
    let mut exchange = origin.exchange().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    exchange.write(switch).await;
    assert_eq!(client.head().await.status, 101, "{name}");
    exchange.write("from the site").await;
    client.read_until("from the site").await;
    client.write("from the client").await;
    assert_eq!(exchange.read_until("client").await, "from the client", "{name}");
}

async fn whom_the_site_is_told_of(name: &str, front: SocketAddr, origin: &LiveOrigin) {
    let mut client = Connection::open(front).await;
    let lies = "X-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\n";
    client.write(format!("GET /free HTTP/1.1\r\nHost: shop.example:8080\r\n{lies}\r\n")).await;
    let mut exchange = origin.exchange().await;
    let told = |header: &str| exchange.request.header(header).unwrap_or_default().to_owned();
    assert_eq!(told("host"), "shop.example:8080", "{name}");
    assert_eq!(told("x-forwarded-for"), "127.0.0.1, 127.0.0.1", "{name}");
    assert!(!told("forwarded").contains("192.0.2.1"), "{name}");
    exchange.answer(200, &[("Connection", "close")], "").await;
    assert_eq!(client.response().await.status, 200, "{name}");
}

async fn a_get_is_repeated_elsewhere(name: &str, front: SocketAddr, origin: &LiveOrigin, example: &Example) {
    let mut client = Connection::open(front).await;
    client.write("GET /free HTTP/1.1\r\nHost: shop.example\r\n\r\n").await;
    let _lost = origin.exchange().await;
    let gateway = busy(example).await;
    let killed = example.signal(gateway, "-KILL");
    origin.exchange().await.answer(200, &[("Connection", "close")], "from another").await;
    assert_eq!(client.response().await.text(), "from another", "{name}");
    example.is_back(gateway, &killed).await;
}

async fn a_post_is_not(name: &str, front: SocketAddr, origin: &LiveOrigin, example: &Example) {
    let mut client = Connection::open(front).await;
    client.write("POST /free HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 5\r\n\r\norder").await;
    let _lost = origin.exchange().await;
    let gateway = busy(example).await;
    let killed = example.signal(gateway, "-KILL");
    assert_eq!(client.response().await.status, 502, "{name}");
    example.is_back(gateway, &killed).await;
    assert!(!origin.has_connection().await, "{name}: sent twice");
}

/// The gateway dies that has a payment in use. The balancer asks another one at once, which knows of it
/// and says so, and later delivers on that payment.
async fn a_payment_waits_for_the_gateway_that_had_it(
    name: &str,
    front: SocketAddr,
    origin: &LiveOrigin,
    example: &Example,
) {
    let payment = payment_for(front, "/articles/a").await;
    let mut client = send(front, "/articles/a", &payment).await;
    let _lost = origin.exchange().await;
    let gateway = busy(example).await;
    let killed = example.signal(gateway, "-KILL");
    let mut told = client.response().await;
    // A ledger that is slow for a moment is answered with a 503 of its own, and knows no more by it.
    while told.text().contains("payments cannot be taken at present") {
        told = send(front, "/articles/a", &payment).await.response().await;
    }
    assert_in_use(&told);
    let fronts = [front];
    let (served, ()) = tokio::join!(present_patiently(&fronts, "/articles/a", &payment), async {
        origin.exchange().await.answer(200, &[("Connection", "close")], "everything").await;
    });
    assert_eq!((served.status, served.text().as_str()), (200, "everything"), "{name}");
    example.is_back(gateway, &killed).await;
    assert_refused(&present_patiently(&fronts, "/articles/a", &payment).await, "duplicate_settlement");
}
