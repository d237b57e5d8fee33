//! The sites behind the gateway: `upstream` and `[upstreams.NAME]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::DnsName;

use super::keys::UPSTREAM_TABLE;
use super::settings::DEADLINE_MS;
use super::suggest::nearest;
use super::tls;
use super::url::{Url, is_localhost, split_authority};
use super::walk::{Node, Section};
use crate::policy::UpstreamId;
use crate::proxy::settings::{HostPolicy, Upstream, UpstreamAddress, UpstreamHttp};

/// The name of the built-in demo site.
const DEMO: &str = "demo";

/// Longest path of a Unix socket, in bytes (Linux, `unix(7)`, without the closing zero).
const SOCKET_PATH_MAX: usize = 107;

/// The upstreams of a configuration: those declared, and those that routes use.
pub(super) struct Upstreams<'a> {
    declared: Vec<Declared<'a>>,
    used: Vec<Upstream>,
    own: Vec<SocketAddr>,
}

struct Declared<'a> {
    name: &'a str,
    node: Node<'a>,
    /// `None` when it is wrong; that was reported.
    upstream: Option<Upstream>,
    used: bool,
}

impl<'a> Upstreams<'a> {
    /// Reads `[upstreams.…]`. `own` are the gateway's own addresses: forwarding there is a loop.
    pub(super) fn read(top: &Section<'a>, own: Vec<SocketAddr>) -> Self {
        let entries = top.get("upstreams").and_then(|node| node.entries()).unwrap_or_default();
        let mut declared = Vec::new();
        for (name, node) in entries {
            if name == DEMO || name.contains("://") || name.starts_with("unix:") || name.trim().is_empty() {
                node.key_error("cannot be the name of an upstream", "choose another name, such as \"site\"");
                continue;
            }
            let upstream = node.section(&UPSTREAM_TABLE).and_then(|table| named(name, &table, &own));
            declared.push(Declared { name, node, upstream, used: false });
        }
        Self { declared, used: Vec::new(), own }
    }

    /// The upstream that a value names: a URL, a declared name, or `demo`.
    pub(super) fn resolve(&mut self, node: &Node<'_>) -> Option<UpstreamId> {
        let text = node.text()?;
        if let Some(declared) = self.declared.iter_mut().find(|declared| declared.name == text) {
            declared.used = true;
            let upstream = declared.upstream.clone()?;
            return Some(self.id_of(upstream));
        }
        let is_url = text == DEMO || text.contains("://") || text.starts_with("unix:");
        if !is_url {
            let names = self.declared.iter().map(|declared| declared.name).chain([DEMO]);
            let help = match nearest(text, names) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None if text.contains(['.', ':']) || text == "localhost" => {
                    format!("a URL begins with its scheme: \"http://{}\"", text.escape_debug())
                }
                None => format!("write a URL, or declare it with [upstreams.{}]", text.escape_debug()),
            };
            node.error(format!("no upstream is named \"{}\"", text.escape_debug()), help);
            return None;
        }
        let (address, http) = address(node, &self.own)?;
        Some(self.id_of(with_defaults(text.to_owned(), address, http)))
    }

    /// The upstreams that are used, in the order of their ids; warns of the others.
    pub(super) fn finish(self) -> Vec<Upstream> {
        for declared in self.declared.iter().filter(|declared| !declared.used) {
            let help = format!("write upstream = \"{}\" where it is meant, or delete it", declared.name);
            declared.node.key_warning("no route uses this upstream", help);
        }
        self.used
    }

    fn id_of(&mut self, upstream: Upstream) -> UpstreamId {
        if let Some(index) = self.used.iter().position(|used| *used == upstream) {
            return UpstreamId(index);
        }
        self.used.push(upstream);
        UpstreamId(self.used.len() - 1)
    }
}

fn with_defaults(name: String, address: UpstreamAddress, http: UpstreamHttp) -> Upstream {
    Upstream {
        name,
        address,
        http,
        host: HostPolicy::Preserve,
        sni: None,
        ca_file: None,
        verify: true,
        connect_timeout: Duration::from_secs(5),
        read_timeout: Duration::from_secs(60),
        write_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(60),
        reuse_after_body: false,
    }
}

fn named(name: &str, table: &Section<'_>, own: &[SocketAddr]) -> Option<Upstream> {
    let url = table.get("url");
    if url.is_none() {
        table.missing("has no `url`", "add a line such as url = \"http://127.0.0.1:8080\"");
    }
    let parsed = url.and_then(|url| address(&url, own));
    let http = http_version(table, parsed.as_ref());
    let host = host_policy(table);
    let is_tls = matches!(parsed, Some((UpstreamAddress::Tcp { tls: true, .. }, _)));
    if !is_tls && parsed.is_some() {
        for node in ["sni", "ca_file", "verify"].iter().filter_map(|key| table.get(key)) {
            node.key_warning("has no effect, because the URL is not https", "leave it out");
        }
    }
    let sni = match table.get("sni") {
        None => Some(None),
        Some(node) => server_name(&node).map(Some),
    };
    let ca_file = match table.get("ca_file") {
        None => Some(None),
        Some(node) => node.file().filter(|path| tls::check_authorities(path, &node).is_some()).map(Some),
    };
    let verify = table.get("verify").and_then(|node| node.boolean().map(|verify| (node, verify)));
    if let Some((node, false)) = &verify
        && is_tls
    {
        node.warning(
            "the certificate is not checked, so anyone in between can pose as the site",
            "use `ca_file` for a certificate of your own",
        );
    }
    let reuse = table.get("reuse_after_body").and_then(|node| node.boolean());
    let deadline = |key: &str, default: Duration| match table.get(key) {
        None => default,
        Some(node) => node.number(DEADLINE_MS).map_or(default, Duration::from_millis),
    };
    let defaults = with_defaults(name.to_owned(), UpstreamAddress::Demo, UpstreamHttp::Auto);
    let timed = Upstream {
        connect_timeout: deadline("connect_timeout_ms", defaults.connect_timeout),
        read_timeout: deadline("read_timeout_ms", defaults.read_timeout),
        write_timeout: deadline("write_timeout_ms", defaults.write_timeout),
        idle_timeout: deadline("idle_timeout_ms", defaults.idle_timeout),
        reuse_after_body: reuse.unwrap_or(defaults.reuse_after_body),
        ..defaults
    };
    Some(Upstream {
        address: parsed?.0,
        http: http?,
        host: host?,
        sni: sni?,
        ca_file: ca_file?,
        verify: verify.is_none_or(|(_, verify)| verify),
        ..timed
    })
}

fn address(node: &Node<'_>, own: &[SocketAddr]) -> Option<(UpstreamAddress, UpstreamHttp)> {
    let text = node.text()?;
    if text == DEMO {
        return Some((UpstreamAddress::Demo, UpstreamHttp::Auto));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(node, path).map(|path| (UpstreamAddress::Unix(path), UpstreamHttp::Auto));
    }
    let example = "http://127.0.0.1:8080";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            node.error(error, error.help(example));
            return None;
        }
    };
    let (tls, http) = match url.scheme.as_str() {
        "http" => (false, UpstreamHttp::Auto),
        "https" => (true, UpstreamHttp::Auto),
        "h2c" => (false, UpstreamHttp::Http2),
        other => {
            let help = "an upstream is reached by http://, https://, h2c:// or unix:";
            node.error(format!("has the unknown scheme \"{other}\""), help);
            return None;
        }
    };
    if !matches!(url.path.as_str(), "" | "/") {
        let help =
            format!("paths are forwarded as they come and are not rewritten; write \"{}\"", url.origin());
        node.error(format!("has a path, \"{}\"", url.path), help);
        return None;
    }
    let port = url.port_or_default();
    if let Some(own) = own.iter().find(|own| is_same(&url.host, port, **own)) {
        let message =
            format!("is the gateway itself, which listens on {own}: requests would run in a circle");
        node.error(message, "write the address of the site, or listen elsewhere");
        return None;
    }
    Some((UpstreamAddress::Tcp { host: url.host, port, tls }, http))
}

fn unix(node: &Node<'_>, path: &str) -> Option<PathBuf> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        node.error("is not an absolute path of a Unix socket", "write it like \"unix:/run/site.sock\"");
        return None;
    }
    if path.len() > SOCKET_PATH_MAX {
        let message = format!("is longer than the path of a Unix socket can be ({SOCKET_PATH_MAX} bytes)");
        node.error(message, "move the socket to a folder with a shorter path");
        return None;
    }
    Some(path.into())
}

fn is_same(host: &str, port: u16, own: SocketAddr) -> bool {
    if port != own.port() {
        return false;
    }
    match host.parse::<IpAddr>() {
        // To connect to 0.0.0.0 is to connect to this machine.
        Ok(address) if own.ip().is_unspecified() => address.is_loopback() || address.is_unspecified(),
        Ok(address) => address == own.ip() || (address.is_unspecified() && own.ip().is_loopback()),
        Err(_) => is_localhost(host) && (own.ip().is_loopback() || own.ip().is_unspecified()),
    }
}

fn http_version(
    table: &Section<'_>,
    parsed: Option<&(UpstreamAddress, UpstreamHttp)>,
) -> Option<UpstreamHttp> {
    let by_scheme = parsed.map_or(UpstreamHttp::Auto, |(_, http)| *http);
    let Some(node) = table.get("http") else { return Some(by_scheme) };
    let chosen =
        node.choice(&[("auto", UpstreamHttp::Auto), ("1", UpstreamHttp::Http1), ("2", UpstreamHttp::Http2)])?;
    if by_scheme == UpstreamHttp::Http2 && chosen == UpstreamHttp::Http1 {
        node.error(
            "contradicts the URL, which begins with h2c://",
            "write \"http://…\" in `url`, or http = \"2\"",
        );
        return None;
    }
    Some(if chosen == UpstreamHttp::Auto { by_scheme } else { chosen })
}

fn host_policy(table: &Section<'_>) -> Option<HostPolicy> {
    let Some(node) = table.get("host") else { return Some(HostPolicy::Preserve) };
    match node.text()? {
        "preserve" => Some(HostPolicy::Preserve),
        "upstream" => Some(HostPolicy::Upstream),
        text if split_authority(text).is_ok() => Some(HostPolicy::Fixed(text.to_ascii_lowercase())),
        _ => {
            let help = "write \"preserve\", \"upstream\" or a host such as \"www.example.com\"";
            node.error("is not a host", help);
            None
        }
    }
}

fn server_name(node: &Node<'_>) -> Option<String> {
    let text = node.text()?;
    if DnsName::try_from(text).is_err() {
        node.error(
            "is not a DNS name",
            "write the name in the site's certificate, such as \"www.example.com\"",
        );
        return None;
    }
    Some(text.to_ascii_lowercase())
}
