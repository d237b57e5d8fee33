//! What the proxy is told by the configuration.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A listener for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address it listens on.
    pub address: SocketAddr,
    /// Whether HTTP/2 without TLS (prior knowledge) is answered.
    pub h2c: bool,
    /// Certificates, chosen by SNI from the names they are for; empty: no TLS. The first is used
    /// for clients that name no or an unknown host.
    pub tls: Vec<CertificateFiles>,
}

/// A certificate chain and its key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key (PKCS#8, PKCS#1 or SEC1).
    pub key: PathBuf,
}

/// Where an upstream is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// The built-in demo site.
    Demo,
    /// A host (name or address) and port.
    Tcp {
        /// Host name or IP address.
        host: String,
        /// Port.
        port: u16,
        /// Whether it speaks TLS.
        tls: bool,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Demo => formatter.write_str("the built-in demo site"),
            Self::Tcp { host, port, tls: true } => write!(formatter, "https://{host}:{port}"),
            Self::Tcp { host, port, tls: false } => write!(formatter, "http://{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// HTTP versions spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum UpstreamHttp {
    /// HTTP/2 where TLS negotiates it, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// The `Host` an upstream sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub enum HostPolicy {
    /// The client's.
    #[default]
    Preserve,
    /// The upstream's own.
    Upstream,
    /// This one.
    Fixed(String),
}

/// An upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upstream {
    /// Name in the configuration.
    pub name: String,
    /// Where it is.
    pub address: UpstreamAddress,
    /// HTTP versions.
    pub http: UpstreamHttp,
    /// What it sees as `Host`.
    pub host: HostPolicy,
    /// Server name for TLS; by default the host of the address.
    pub sni: Option<String>,
    /// PEM file with the certificate authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether the certificate is verified.
    pub verify: bool,
    /// Limit for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Limit for each read.
    pub read_timeout: Duration,
    /// Limit for each write.
    pub write_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// Whether a connection of HTTP/1 is used again after a request with a body.
    pub reuse_after_body: bool,
}

/// Limits on clients; each has a sound default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head.
    pub header_bytes: usize,
    /// Bytes of one payment header.
    pub payment_header_bytes: usize,
    /// Time for a request's head to arrive, from its first byte.
    pub header_timeout: Duration,
    /// How long an idle connection is kept.
    pub keepalive_timeout: Duration,
    /// Time between two reads of a body.
    pub read_timeout: Duration,
    /// Time for a write to a client.
    pub write_timeout: Duration,
    /// Bytes per second below which a body is given up, upload and download alike; 0: no limit.
    pub min_body_rate: usize,
    /// Time requests and settlements get to finish at shutdown.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 64 * 1024,
            payment_header_bytes: 16 * 1024,
            header_timeout: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(60),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            min_body_rate: 0,
            shutdown_grace: Duration::from_secs(60),
        }
    }
}

/// Cross-origin policy of the gateway's own answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cors {
    /// Every origin may read them, without credentials.
    Any,
    /// These origins may read them, with credentials.
    Origins(Vec<String>),
    /// No CORS headers.
    Off,
}
