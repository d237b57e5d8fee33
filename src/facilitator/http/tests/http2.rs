//! HTTP/2, where a request that failed is easily sent again by a library that means well.

use bytes::Bytes;
use h2::Reason as H2Reason;
use tokio::net::TcpListener;

use super::connecting::authority;
use super::*;

/// Serves HTTP/2 over TLS. Counts the requests; answers those to `/supported`, and does to every other
/// what `fail` says.
async fn serve(
    listener: TcpListener,
    config: rustls::ServerConfig,
    count: Arc<AtomicU32>,
    fail: fn(&mut h2::server::Connection<Tls, Bytes>, h2::server::SendResponse<Bytes>),
) {
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (tls, count) = (tls.clone(), Arc::clone(&count));
        connections.spawn(async move {
            let socket = tls.accept(socket).await.unwrap();
            let mut connection = h2::server::handshake(socket).await.unwrap();
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                if request.uri().path() == "/supported" {
                    let head = ::http::Response::new(());
                    let mut body = respond.send_response(head, false).unwrap();
                    body.send_data(listing().to_string().into(), true).unwrap();
                } else {
                    count.fetch_add(1, Ordering::SeqCst);
                    fail(&mut connection, respond);
                }
            }
        });
    }
}

type Tls = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

#[tokio::test]
async fn a_settlement_that_http2_says_may_be_repeated_is_not_repeated() {
    let refuse: fn(&mut h2::server::Connection<Tls, Bytes>, h2::server::SendResponse<Bytes>) =
        |_, mut respond| respond.send_reset(H2Reason::REFUSED_STREAM);
    let go_away = |connection: &mut h2::server::Connection<Tls, Bytes>, respond| {
        drop::<h2::server::SendResponse<Bytes>>(respond);
        connection.abrupt_shutdown(H2Reason::NO_ERROR);
    };
    for fail in [refuse, go_away] {
        let (ca, mut config) = authority("localhost");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let count = Arc::new(AtomicU32::new(0));
        let server = tokio::spawn(serve(listener, config, Arc::clone(&count), fail));
        let facilitator = client(HttpSettings { ca_file: Some(ca.path().into()), ..settings(&url) });
        assert_eq!(facilitator.supported().await.unwrap().kinds.len(), 1);
        let outcome = facilitator.settle(&request("one")).await;
        assert!(matches!(outcome, SettleOutcome::AnswerLost(_)), "{outcome:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
        server.abort();
    }
}
