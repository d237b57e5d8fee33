//! The least that Pingora can do, tuned: forward everything to one place, or answer everything with
//! one prepared answer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{L4BufferSettings, ListenerConfig};
use pingora::modules::http::HttpModules;
use pingora::proxy::{ProxyHttp, Session, http_proxy};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::services::listening::Service;
use pingora::upstreams::peer::HttpPeer;

use super::Failure;

/// The same as the gateway's.
const SOCKET_BUFFER_BYTES: usize = 16 * 1024;
const UPSTREAM_POOL: usize = 1024;

/// What the proxy does with every request.
pub(crate) enum Does {
    Forward(String),
    Answer(Box<ResponseHeader>, Bytes),
}

impl Does {
    /// Answers with a file: a status line, headers, an empty line and the body.
    pub(crate) fn answer(file: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(file)?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or("no end of the headers")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no status line")?;
        let mut header = ResponseHeader::build_no_case(status.parse::<u16>()?, Some(16))?;
        for line in lines {
            let (name, value) = line.split_once(": ").ok_or("a header without a value")?;
            header.append_header(name.to_owned(), value)?;
        }
        Ok(Self::Answer(Box::new(header), Bytes::from(body.to_owned())))
    }
}

#[async_trait]
impl ProxyHttp for Does {
    type CTX = ();

    fn new_ctx(&self) {}

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, _ctx: &mut ()) -> pingora::Result<bool> {
        let Self::Answer(header, body) = self else { return Ok(false) };
        let downstream = session.as_downstream_mut();
        downstream.write_response_header(header.clone()).await?;
        downstream.write_response_body(body.clone(), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> pingora::Result<Box<HttpPeer>> {
        let address = match self {
            Self::Forward(address) => address.as_str(),
            Self::Answer(..) => "",
        };
        Ok(Box::new(HttpPeer::new(address, false, String::new())))
    }
}

/// Serves until it is ended, on as many threads as there are processors for it; with TLS and HTTP/2
/// when there is a certificate.
pub(crate) fn run(address: &str, does: Does, tls: &[&str]) -> Result<(), Failure> {
    let conf = ServerConf {
        threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        upstream_keepalive_pool_size: UPSTREAM_POOL,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf = Arc::clone(&server.configuration);
    let buffers = L4BufferSettings::new(SOCKET_BUFFER_BYTES, SOCKET_BUFFER_BYTES);
    let mut listener = ListenerConfig::tcp(address.to_owned()).l4_buffer(buffers);
    if let [certificate, key] = tls {
        let mut tls = TlsSettings::intermediate(certificate, key)?;
        tls.enable_h2();
        listener = listener.tls(tls);
    }
    let mut service = Service::new("bare".to_owned(), http_proxy(&conf, does));
    service.add_listener(listener);
    server.add_service(service);
    server.run_forever()
}
