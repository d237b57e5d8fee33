//! Beginning and end: what keeps a gateway from starting, and how it stops.

use tokio::net::TcpStream;

use crate::support::client::PATIENCE;
use crate::support::gateway::{PAID, base, free_address};
use crate::support::http2::{Http2, whole};
use crate::support::tls::Authority;
use crate::support::{Connection, Facilitator, Gateway, LiveOrigin, Origin, get, line_for, payment_for};

async fn live(more: &str) -> (LiveOrigin, Facilitator, Gateway) {
    let origin = LiveOrigin::start().await;
    let facilitator = Facilitator::start().await;
    let gateway = Gateway::start(&origin.url(), &facilitator.url(), &format!("{PAID}{more}")).await;
    (origin, facilitator, gateway)
}

/// Waits until new connections are refused.
async fn refused(gateway: &Gateway) {
    let connect = async { while TcpStream::connect(gateway.address).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, connect).await.expect("new connections to be refused in time");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_on_either_signal() {
    for signal in ["-TERM", "-INT"] {
        let (_origin, _facilitator, mut gateway) = live("").await;
        // Idle connections do not count.
        let mut idle = Connection::open(gateway.address).await;
        idle.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(idle.response().await.status, 402);
        let began = std::time::Instant::now();
        gateway.signal(signal);
        assert_eq!(gateway.wait().await.code(), Some(0));
        // The grace period of 60 seconds is not waited for.
        assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
        assert_eq!(idle.rest().await, b"");
        assert!(gateway.log().contains("stopped: nothing in flight"), "{}", gateway.log());
    }
}

#[tokio::test]
async fn requests_in_flight_are_finished_and_new_connections_refused() {
    let cases = [("/free/a", "-TERM"), ("/free/a", "-INT"), ("/paid/a", "-TERM"), ("/paid/a", "-INT")];
    for (path, signal) in cases {
        let (origin, facilitator, mut gateway) = live("").await;
        let payment = line_for(gateway.address, path).await;
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        gateway.signal(signal);
        refused(&gateway).await;
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200, "{path}");
        exchange.write("to the ").await;
        client.read_until("to the ").await;
        exchange.write("end").await;
        client.read_until("end").await;
        assert_eq!(gateway.wait().await.code(), Some(0));
        assert_eq!(facilitator.calls("/settle").len(), usize::from(path == "/paid/a"));
    }
}

#[tokio::test]
async fn a_settlement_in_flight_is_finished_and_its_content_delivered() {
    let (origin, facilitator, mut gateway) = live("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let release = facilitator.will_settle_when_told();
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    origin.exchange().await.answer(200, &[], "content").await;
    facilitator.wait_for_settlements(1).await;
    gateway.terminate();
    refused(&gateway).await;
    release.send(()).unwrap();
    let served = client.response().await;
    assert_eq!((served.status, served.text().as_str()), (200, "content"));
    assert_eq!(served.decoded("payment-response")["success"], true);
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// Compliance 43: nobody waits for this settlement any more, except the gateway.
#[tokio::test]
async fn a_settlement_whose_client_left_is_finished_too() {
    let (origin, facilitator, mut gateway) = live("").await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let release = facilitator.will_settle_when_told();
    let mut client = Connection::open(gateway.address).await;
    client.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    origin.exchange().await.answer(200, &[], "content").await;
    facilitator.wait_for_settlements(1).await;
    client.reset();
    gateway.terminate();
    refused(&gateway).await;
    release.send(()).unwrap();
    assert_eq!(gateway.wait().await.code(), Some(0));
    assert!(gateway.log().contains("transaction=\"0xabc\""), "{}", gateway.log());
}

#[tokio::test]
async fn what_outlasts_the_grace_period_is_cut_off() {
    let (origin, _facilitator, mut gateway) = live("[limits]\nshutdown_grace_seconds = 1\n").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let _exchange = origin.exchange().await;
    gateway.terminate();
    gateway.wait().await;
    client.rest().await;
}

#[tokio::test]
async fn http2_requests_in_flight_are_finished_and_the_connection_is_closed() {
    let (origin, _facilitator, mut gateway) = live("[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n").await;
    let mut client = Http2::open(gateway.address).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let request = client.request("GET", "/paid/a", &[("payment-signature", &payment)]);
    let (response, _) = client.start(request, true).await;
    let mut exchange = origin.exchange().await;
    gateway.terminate();
    refused(&gateway).await;
    exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n").await;
    let (sent, served) = tokio::join!(exchange.try_write(vec![b'x'; 2_000_000]), whole(response));
    sent.unwrap();
    // Told to go away gracefully, the client still has all of it.
    assert_eq!(served.unwrap().response.body.len(), 2_000_000);
    client.ended().await;
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// Everything is sent before the process ends, also to a client that is slow to read it.
#[tokio::test]
async fn an_answer_on_its_way_to_a_slow_http2_client_is_not_lost() {
    const SIZE: usize = 12_000_000;
    let (origin, _facilitator, mut gateway) = live("[[listeners]]\naddress = \"LISTEN\"\nh2c = true\n").await;
    // Between the client and the gateway lies a way on which the test decides what moves.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (mut from_gateway, mut to_gateway) = TcpStream::connect(gateway.address).await.unwrap().into_split();
    let (mut from_client, mut to_client) = tokio::io::split(far);
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_gateway).await });
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(16_000_000).initial_connection_window_size(16_000_000);
    let (mut send, connection) = builder.handshake::<_, bytes::Bytes>(near).await.unwrap();
    tokio::spawn(connection);
    let request =
        http::Request::builder().uri(format!("http://{}/free/a", gateway.address)).body(()).unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let response = tokio::spawn(whole(response));
    let mut exchange = origin.exchange().await;
    tokio::spawn(async move {
        exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n")).await;
        exchange.write(vec![b'x'; SIZE]).await;
        exchange.rest().await;
    });
    // The client reads just until the gateway believes that everything is sent.
    let mut buffer = vec![0; 16 * 1024];
    while !gateway.log().contains("path=\"/free/a\"") {
        let read = tokio::io::AsyncReadExt::read(&mut from_gateway, &mut buffer);
        if let Ok(count) = tokio::time::timeout(std::time::Duration::from_millis(50), read).await {
            tokio::io::AsyncWriteExt::write_all(&mut to_client, &buffer[..count.unwrap()]).await.unwrap();
        }
    }
    gateway.terminate();
    refused(&gateway).await;
    tokio::spawn(async move { tokio::io::copy(&mut from_gateway, &mut to_client).await });
    assert_eq!(response.await.unwrap().unwrap().response.body.len(), SIZE);
    drop(send);
    assert_eq!(gateway.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_gateway_that_is_stopping_is_not_ready_any_more() {
    let (origin, _facilitator, mut gateway) = live("").await;
    let mut client = Connection::open(gateway.address).await;
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut exchange = origin.exchange().await;
    gateway.terminate();
    refused(&gateway).await;
    let ready = get(gateway.admin, "/readyz", &[]).await;
    assert_eq!((ready.status, ready.text().as_str()), (503, "shutting down\n"));
    assert_eq!(get(gateway.admin, "/healthz", &[]).await.status, 200);
    exchange.answer(200, &[], "").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(gateway.wait().await.code(), Some(0));
}

/// Starts a gateway that cannot start, and returns what it says.
async fn failure(config: &str) -> String {
    let mut gateway = Gateway::spawn(config);
    assert_eq!(gateway.wait().await.code(), Some(1), "{}", gateway.log());
    gateway.log()
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listeners = format!("[[listeners]]\naddress = \"LISTEN\"\n[[listeners]]\naddress = \"{address}\"\n");
    let said = failure(&format!("{}{listeners}", base("demo", "sandbox"))).await;
    let expected = format!("error: cannot listen on {address}: Address already in use (os error 98)\n");
    assert!(said.ends_with(&expected), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn a_private_address_that_is_taken_is_named() {
    let other = Gateway::start("demo", "sandbox", "").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let config = format!(
        "listen = \"{}\"\n{}[admin]\nlisten = \"{}\"\n",
        free_address(),
        base("demo", "sandbox"),
        other.admin
    );
    std::fs::write(&file, config).unwrap();
    let output =
        std::process::Command::new(env!("CARGO_BIN_EXE_tollgate")).arg("-c").arg(&file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("error: cannot listen on {}: Address already in use (os error 98)\n", other.admin);
    assert!(said.ends_with(&expected), "{said}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let (cert, key) = authority.issue(&["one.example"]).write(folder.path(), "one");
    let (_, other_key) = authority.issue(&["two.example"]).write(folder.path(), "two");
    let nonsense = folder.path().join("nonsense.pem");
    std::fs::write(&nonsense, "nonsense").unwrap();
    let missing = folder.path().join("missing.pem");
    for (cert, key, named) in [
        (&missing, &key, &missing),
        (&cert, &missing, &missing),
        (&nonsense, &key, &nonsense),
        (&cert, &nonsense, &nonsense),
        (&cert, &other_key, &other_key),
    ] {
        let tls = format!(
            "[[listeners]]\naddress = \"LISTEN\"\ntls = [{{ cert = \"{}\", key = \"{}\" }}]\n",
            cert.display(),
            key.display()
        );
        let said = failure(&format!("{}{tls}", base("demo", "sandbox"))).await;
        assert!(said.contains("error: "), "{said}");
        assert!(said.contains(&named.display().to_string()), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    for ca in [&missing, &nonsense] {
        let upstream =
            format!("[upstreams.tls]\nurl = \"https://localhost:1\"\nca_file = \"{}\"\n", ca.display());
        let said = failure(&format!("{}{upstream}", base("tls", "sandbox"))).await;
        assert!(said.contains("error: ") && said.contains(&ca.display().to_string()), "{said}");
    }
}

#[tokio::test]
async fn a_configuration_that_is_wrong_or_missing_is_named() {
    let said = failure("upstream = 5\nnonsense = true\n").await;
    assert!(said.contains("upstream") && said.contains("nonsense"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("gateway.toml") && said.contains("error: "), "{said}");
}

#[tokio::test]
async fn an_address_can_be_listened_on_again_at_once() {
    let origin = Origin::site().await;
    let mut first = Gateway::start(&origin.url(), "sandbox", PAID).await;
    // A connection that the gateway closes first leaves its port in TIME_WAIT.
    assert_eq!(get(first.address, "/free/a", &[]).await.status, 200);
    first.terminate();
    first.wait().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    let config = format!(
        "listen = \"{}\"\n{}[admin]\nlisten = false\n",
        first.address,
        base(&origin.url(), "sandbox")
    );
    std::fs::write(&file, config).unwrap();
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("-c")
        .arg(&file)
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let connect = async { while TcpStream::connect(first.address).await.is_err() {} };
    let up = tokio::time::timeout(PATIENCE, connect).await;
    let served = get(first.address, "/free/a", &[]).await.status;
    second.kill().unwrap();
    second.wait().unwrap();
    assert!(up.is_ok());
    assert_eq!(served, 200);
}
