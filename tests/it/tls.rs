//! TLS on both sides: certificates by name, trust in origins, protocols by ALPN.

use crate::support::gateway::{PAID, base, free_address};
use crate::support::http2::{Http2, Http2Origin, whole};
use crate::support::tls::Authority;
use crate::support::{Connection, Facilitator, Gateway, LiveOrigin, Origin, line_for, payment_for, send};

const PATHS: [&str; 2] = ["/free/a", "/paid/a"];

/// A gateway with a listener without TLS (`gateway.address`) and one with it.
struct Encrypted {
    origin: Origin,
    gateway: Gateway,
    authority: Authority,
    address: std::net::SocketAddr,
    _folder: tempfile::TempDir,
}

async fn encrypted() -> Encrypted {
    let (origin, authority, address) = (Origin::site().await, Authority::new(), free_address());
    let folder = tempfile::tempdir().unwrap();
    let mut listeners =
        format!("[[listeners]]\naddress = \"LISTEN\"\n[[listeners]]\naddress = \"{address}\"\ntls = [\n");
    for names in [&["one.example", "www.one.example"][..], &["two.example"], &["*.three.example"]] {
        let (cert, key) = authority.issue(names).write(folder.path(), names[0].trim_start_matches("*."));
        listeners.push_str(&format!("  {{ cert = \"{}\", key = \"{}\" }},\n", cert.display(), key.display()));
    }
    let gateway = Gateway::start(&origin.url(), "sandbox", &format!("{PAID}{listeners}]\n")).await;
    Encrypted { origin, gateway, authority, address, _folder: folder }
}

#[tokio::test]
async fn the_certificate_is_the_one_for_the_name_a_client_asks_for() {
    let site = encrypted().await;
    for name in ["one.example", "www.one.example", "two.example", "a.three.example", "TWO.example"] {
        for path in PATHS {
            let payment = line_for(site.gateway.address, path).await;
            let stream = site.authority.connect(site.address, name, &[]).await;
            let mut client = Connection::over(stream.unwrap_or_else(|error| panic!("{name}: {error}")));
            client.write(format!("GET {path} HTTP/1.1\r\nHost: {name}\r\n{payment}\r\n")).await;
            assert_eq!(client.response().await.text(), format!("content of {path}"));
            let request = site.origin.requests().pop().unwrap();
            assert_eq!(request.header("x-forwarded-proto"), Some("https"));
            assert_eq!(request.header("forwarded"), Some("for=127.0.0.1;proto=https"));
            assert_eq!(request.header("host"), Some(name));
        }
    }
    // An unknown name is shown the first certificate, which is not for it.
    let error = site.authority.connect(site.address, "unknown.example", &[]).await.unwrap_err();
    assert!(error.to_string().contains("one.example"), "{error}");
    // Nobody trusts the authority who was not told to.
    Authority::new().connect(site.address, "one.example", &[]).await.unwrap_err();
}

#[tokio::test]
async fn encrypted_clients_speak_the_protocol_they_agreed_on() {
    let site = encrypted().await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["h2"], Some("h2")),
        (&[], None),
    ] {
        let stream = site.authority.connect(site.address, "one.example", offered).await.unwrap();
        let chosen = stream.get_ref().1.alpn_protocol().map(|name| String::from_utf8(name.to_vec()).unwrap());
        assert_eq!(chosen.as_deref(), agreed, "{offered:?}");
        let payment = payment_for(site.gateway.address, "/paid/a").await;
        let (unpaid, paid) = if agreed == Some("h2") {
            let mut client = Http2::over(stream, "one.example").await;
            let unpaid = client.get("/paid/a", &[]).await.response;
            (unpaid, client.get("/paid/a", &[("payment-signature", &payment)]).await.response)
        } else {
            let mut client = Connection::over(stream);
            client.write("GET /paid/a HTTP/1.1\r\nHost: one.example\r\n\r\n").await;
            let unpaid = client.response().await;
            client
                .write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n"))
                .await;
            (unpaid, client.response().await)
        };
        assert_eq!(unpaid.required()["resource"]["url"], "https://shop.example/paid/a");
        assert_eq!((paid.status, paid.text().as_str()), (200, "content of /paid/a"), "{offered:?}");
    }
}

#[tokio::test]
async fn what_is_not_tls_is_not_answered_on_a_tls_listener_nor_tls_elsewhere() {
    let site = encrypted().await;
    let mut client = Connection::open(site.address).await;
    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(!answer.starts_with(b"HTTP"), "{:?}", String::from_utf8_lossy(&answer));
    site.authority.connect(site.gateway.address, "one.example", &[]).await.unwrap_err();
    assert!(site.origin.requests().is_empty());
}

/// An origin with a certificate for `names`, and the lines that make it the upstream `tls`.
async fn origin(
    authority: &Authority,
    names: &[&str],
    protocols: &[&str],
    more: &str,
) -> (LiveOrigin, String) {
    let origin = LiveOrigin::start_tls(authority.issue(names).acceptor(protocols)).await;
    let port = origin.address.port();
    (origin, format!("{PAID}[upstreams.tls]\nurl = \"https://localhost:{port}\"\n{more}\n"))
}

#[tokio::test]
async fn an_origin_with_a_trusted_certificate_is_asked() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = format!("ca_file = \"{}\"", authority.write(folder.path()).display());
    for (names, more) in [
        (["localhost"], ca.clone()),
        (["inside.example"], format!("{ca}\nsni = \"inside.example\"")),
        (["*.inside.example"], format!("{ca}\nsni = \"a.inside.example\"")),
        (["elsewhere.example"], "verify = false".to_owned()),
    ] {
        let (origin, config) = origin(&authority, &names, &[], &more).await;
        let gateway = Gateway::start("tls", "sandbox", &config).await;
        let address = gateway.address;
        for path in PATHS {
            let payment = line_for(address, path).await;
            let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
            let client = tokio::spawn(async move { send(address, ask.as_bytes()).await });
            let mut exchange = origin.exchange().await;
            assert_eq!(exchange.request.target, path);
            exchange.answer(200, &[("Connection", "close")], "over TLS").await;
            assert_eq!(client.await.unwrap().text(), "over TLS", "{more}");
        }
    }
}

#[tokio::test]
async fn an_origin_with_another_certificate_is_told_nothing() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = format!("ca_file = \"{}\"", authority.write(folder.path()).display());
    let other = tempfile::tempdir().unwrap();
    let other = format!("ca_file = \"{}\"", Authority::new().write(other.path()).display());
    for (names, more) in [
        (["localhost"], String::new()),
        (["localhost"], other),
        (["elsewhere.example"], ca.clone()),
        (["localhost"], format!("{ca}\nsni = \"inside.example\"")),
    ] {
        let (origin, config) = origin(&authority, &names, &[], &more).await;
        let facilitator = Facilitator::start().await;
        let gateway = Gateway::start("tls", &facilitator.url(), &config).await;
        for path in PATHS {
            let payment = line_for(gateway.address, path).await;
            let ask = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{payment}\r\n");
            assert_eq!(send(gateway.address, ask.as_bytes()).await.status, 502, "{more}");
        }
        assert!(!origin.has_connection().await, "{more}: the handshake succeeded");
        assert!(facilitator.calls("/settle").is_empty());
        assert!(gateway.log().contains("certificate"), "{}", gateway.log());
    }
}

#[tokio::test]
async fn an_address_without_a_name_is_verified_as_an_address() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = authority.write(folder.path());
    for (name, status) in [("127.0.0.1", 200), ("localhost", 502)] {
        let origin = LiveOrigin::start_tls(authority.issue(&[name]).acceptor(&[])).await;
        let upstream = format!(
            "[upstreams.tls]\nurl = \"https://{}\"\nca_file = \"{}\"\n",
            origin.address,
            ca.display()
        );
        let gateway = Gateway::start("tls", "sandbox", &upstream).await;
        let address = gateway.address;
        let ask = b"GET /free/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let client = tokio::spawn(async move { send(address, ask).await });
        if status == 200 {
            origin.exchange().await.answer(200, &[("Connection", "close")], "").await;
        }
        assert_eq!(client.await.unwrap().status, status, "{name}");
    }
}

#[tokio::test]
async fn an_encrypted_origin_is_spoken_to_in_the_agreed_protocol() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = authority.write(folder.path());
    for (http, protocols) in [("auto", &["h2", "http/1.1"][..]), ("2", &["h2"])] {
        let origin = Http2Origin::start_tls(authority.issue(&["localhost"]).acceptor(protocols)).await;
        let upstream = format!(
            "[upstreams.tls]\nurl = \"https://localhost:{}\"\nca_file = \"{}\"\nhttp = \"{http}\"\n",
            origin.address.port(),
            ca.display()
        );
        let gateway = Gateway::with_config(&format!("{}{PAID}{upstream}", base("tls", "sandbox"))).await;
        let address = gateway.address;
        for path in PATHS {
            let payment = line_for(address, path).await;
            let ask = format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{payment}\r\n");
            let client = tokio::spawn(async move { send(address, ask.as_bytes()).await });
            let mut exchange = origin.exchange().await;
            assert_eq!(exchange.head.uri, format!("https://a.example{path}").as_str());
            exchange.answer(200, &[], b"over http2");
            assert_eq!(client.await.unwrap().text(), "over http2", "{http}");
        }
    }
    for (http, protocols) in [("auto", &["http/1.1"][..]), ("auto", &[]), ("1", &["h2", "http/1.1"])] {
        let more = format!("ca_file = \"{}\"\nhttp = \"{http}\"", ca.display());
        let (origin, config) = origin(&authority, &["localhost"], protocols, &more).await;
        let gateway = Gateway::start("tls", "sandbox", &config).await;
        let address = gateway.address;
        let ask = b"GET /free/a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let client = tokio::spawn(async move { send(address, ask).await });
        origin.exchange().await.answer(200, &[("Connection", "close")], "over http1").await;
        assert_eq!(client.await.unwrap().text(), "over http1", "{http} {protocols:?}");
    }
}

/// HTTP/2 from end to end, encrypted on both sides.
#[tokio::test]
async fn http2_passes_through_encrypted_on_both_sides() {
    let (authority, folder, address) = (Authority::new(), tempfile::tempdir().unwrap(), free_address());
    let origin = Http2Origin::start_tls(authority.issue(&["localhost"]).acceptor(&["h2"])).await;
    let (cert, key) = authority.issue(&["one.example"]).write(folder.path(), "one");
    let config = format!(
        "[[listeners]]\naddress = \"LISTEN\"\n[[listeners]]\naddress = \"{address}\"\n\
         tls = [{{ cert = \"{}\", key = \"{}\" }}]\n{PAID}\
         [upstreams.tls]\nurl = \"https://localhost:{}\"\nca_file = \"{}\"\n",
        cert.display(),
        key.display(),
        origin.address.port(),
        authority.write(folder.path()).display()
    );
    let gateway = Gateway::start("tls", "sandbox", &config).await;
    let stream = authority.connect(address, "one.example", &["h2"]).await.unwrap();
    let mut client = Http2::over(stream, "one.example").await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let request = client.request("GET", "/paid/a", &[("payment-signature", &payment)]);
    let (response, _) = client.start(request, true).await;
    let mut exchange = origin.exchange().await;
    assert_eq!(exchange.header("x-forwarded-proto"), Some("https"));
    let mut down = exchange.start(200, &[], false);
    down.send_data("content".into(), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-end", "yes".parse().unwrap());
    down.send_trailers(trailers).unwrap();
    let served = whole(response).await.unwrap();
    assert_eq!((served.response.status, served.response.text().as_str()), (200, "content"));
    assert_eq!(served.trailers.unwrap()["x-end"], "yes");
}

/// A `WebSocket` begins with HTTP/1.1, whatever else the origin speaks.
#[tokio::test]
async fn a_websocket_reaches_an_encrypted_origin_that_also_speaks_http2() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let ca = format!("ca_file = \"{}\"", authority.write(folder.path()).display());
    let (origin, config) = origin(&authority, &["localhost"], &["h2", "http/1.1"], &ca).await;
    let gateway = Gateway::start("tls", "sandbox", &config).await;
    for path in PATHS {
        let payment = line_for(gateway.address, path).await;
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        let mut client = Connection::open(gateway.address).await;
        client.write(format!("GET {path} HTTP/1.1\r\nHost: a\r\n{upgrade}{payment}\r\n")).await;
        let mut exchange = origin.exchange().await;
        assert_eq!(exchange.request.header("upgrade"), Some("websocket"));
        exchange.write(format!("HTTP/1.1 101 Switching Protocols\r\n{upgrade}\r\nwelcome")).await;
        assert_eq!(client.head().await.status, 101);
        client.read_until("welcome").await;
        client.write("ping").await;
        exchange.read_until("ping").await;
    }
}
