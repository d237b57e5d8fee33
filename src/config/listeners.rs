//! Where the gateway listens, and what clients see of it: `listen`, `[[listeners]]`, `[admin]`,
//! `public_url`.

use std::net::SocketAddr;

use super::keys::{ADMIN, LISTENER, TLS};
use super::tls;
use super::url::{Url, is_localhost};
use super::walk::{Node, Section};
use crate::proxy::settings::{CertificateFiles, Listener};

const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 8402));
const DEFAULT_ADMIN: SocketAddr =
    SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 9402));

/// Reads `listen` or `[[listeners]]`; at least one listener, unless something was reported. `instead`
/// are the addresses the process was given to listen on.
pub(super) fn listeners(top: &Section<'_>, instead: &[SocketAddr]) -> Vec<Listener> {
    let written = written(top);
    if instead.is_empty() {
        return written;
    }
    // What else [[listeners]] says, TLS above all, must not get lost on the way.
    if top.get("listeners").is_some() {
        let help = "write `listen` in place of [[listeners]], or run without --listen";
        top.missing("--listen: stands in for `listen`, and this file has [[listeners]]", help);
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for address in instead {
        if listeners.iter().any(|other| overlap(other.address, *address)) {
            top.missing(format!("--listen: {address} is already listened on"), "name each address once");
        }
        listeners.push(plain(*address));
    }
    listeners
}

fn written(top: &Section<'_>) -> Vec<Listener> {
    let mut found: Vec<(Node<'_>, Listener)> = Vec::new();
    match top.either("listen", "listeners") {
        None => return vec![plain(DEFAULT_LISTEN)],
        Some(node) if node.name() == "listen" => {
            for node in node.one_or_many() {
                found.extend(address(&node).map(|address| (node, plain(address))));
            }
        }
        Some(node) => {
            for node in node.items().unwrap_or_default() {
                found.extend(listener(&node));
            }
            if node.value().as_array().is_some_and(|items| items.is_empty()) {
                node.error("is an empty list", "write at least one [[listeners]] or leave the key out");
            }
        }
    }
    let mut listeners: Vec<Listener> = Vec::new();
    for (node, listener) in found {
        match listeners.iter().find(|other| overlap(other.address, listener.address)) {
            Some(other) if other.address == listener.address => {
                node.error(format!("{} is already listened on", other.address), "name each address once");
            }
            Some(other) => {
                let message = format!("{} and {} are the same port", other.address, listener.address);
                node.error(
                    message,
                    "0.0.0.0 and [::] mean every address of this machine; leave the other out",
                );
            }
            None => listeners.push(listener),
        }
    }
    listeners
}

/// Reads `[admin]`; `None` when the operator switched it off. `instead` is the address the process was
/// given for it.
pub(super) fn admin(
    top: &Section<'_>,
    instead: Option<SocketAddr>,
    listeners: &[Listener],
) -> Option<SocketAddr> {
    let taken = |chosen: SocketAddr| listeners.iter().find(|listener| overlap(listener.address, chosen));
    let message = |chosen: SocketAddr, taken: &Listener| {
        format!("the private address {chosen} is also that of a listener, {}", taken.address)
    };
    if let Some(chosen) = instead {
        if let Some(taken) = taken(chosen) {
            let help = "choose another port, such as --admin 127.0.0.1:9402";
            top.missing(format!("--admin: {}", message(chosen, taken)), help);
        }
        return Some(chosen);
    }
    let table = top.get("admin").and_then(|node| node.section(&ADMIN));
    let node = table.and_then(|table| table.get("listen"));
    let chosen = match &node {
        None => DEFAULT_ADMIN,
        Some(node) if node.value().as_bool() == Some(false) => return None,
        Some(node) if node.value().is_bool() => {
            node.wrong_type();
            return None;
        }
        Some(node) => address(node)?,
    };
    if let Some(taken) = taken(chosen) {
        let message = message(chosen, taken);
        let help = "choose another port, such as listen = \"127.0.0.1:9402\" below [admin]";
        match &node {
            Some(node) => node.error(message, help),
            None => top.missing(format!("admin.listen: {message}"), help),
        }
    }
    Some(chosen)
}

/// Reads `public_url`, by default the address of the first listener.
pub(super) fn public_url(top: &Section<'_>, listeners: &[Listener]) -> Option<String> {
    let Some(node) = top.get("public_url") else { return default_url(top, listeners) };
    let text = node.text()?;
    let example = "https://example.com";
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            node.error(error, error.help(example));
            return None;
        }
    };
    if !matches!(url.scheme.as_str(), "http" | "https") {
        node.error("is not an http or https URL", format!("write it like \"{example}\""));
        return None;
    }
    if !matches!(url.path.as_str(), "" | "/") {
        let help = format!("the path of a request is added to it; write \"{}\"", url.origin());
        node.error(format!("has a path, \"{}\"", url.path), help);
        return None;
    }
    Some(url.origin())
}

fn default_url(top: &Section<'_>, listeners: &[Listener]) -> Option<String> {
    let first = listeners.first()?;
    let scheme = if first.tls.is_empty() { "http" } else { "https" };
    let url = Url::parse(&format!("{scheme}://{}", first.address)).ok()?.origin();
    if !first.address.ip().is_loopback() {
        let message = format!("public_url: not set, so clients are told that they pay for {url}/…");
        top.warning(message, "write public_url = \"https://…\", the address people know the site by");
    }
    Some(url)
}

/// An IP address and a port.
pub(super) fn address(node: &Node<'_>) -> Option<SocketAddr> {
    let text = node.text()?;
    if let Ok(address) = text.parse::<SocketAddr>() {
        if address.port() == 0 {
            node.error("port 0 is not a port clients can connect to", "choose one, such as 8402");
            return None;
        }
        return Some(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let port = port.parse::<u16>().unwrap_or(8402);
    let help = match host.to_ascii_lowercase().as_str() {
        "" | "*" => format!("write \"0.0.0.0:{port}\" for every IPv4 address of this machine"),
        host if is_localhost(host) => format!("write \"127.0.0.1:{port}\""),
        host if host.parse::<std::net::IpAddr>().is_ok() => format!("add a port: \"{host}:{port}\""),
        _ => "write it like \"127.0.0.1:8402\", or \"0.0.0.0:8402\" for every address of this machine".into(),
    };
    node.error("is not an IP address and a port", help);
    None
}

fn listener<'a>(node: &Node<'a>) -> Option<(Node<'a>, Listener)> {
    let table = node.section(&LISTENER)?;
    let h2c = table.get("h2c").and_then(|node| node.boolean()).unwrap_or(false);
    let written = table.get("address");
    if written.is_none() {
        table.missing("has no address", "add a line such as address = \"0.0.0.0:443\"");
    }
    let address = written.as_ref().and_then(address);
    let tls = match table.get("tls") {
        None => Some(Vec::new()),
        Some(list) => {
            if h2c {
                list.key_error(
                    "stands next to `h2c = true`, which is HTTP/2 without TLS",
                    "leave out `h2c`: with TLS, clients get HTTP/2 anyway",
                );
            }
            certificates(&list)
        }
    };
    Some((written?, Listener { address: address?, h2c, tls: tls? }))
}

fn certificates(list: &Node<'_>) -> Option<Vec<CertificateFiles>> {
    let entries = list.items()?;
    if entries.is_empty() {
        list.error("is an empty list", "write a certificate or leave the key out");
    }
    let certificates: Vec<CertificateFiles> = entries.iter().filter_map(certificate).collect();
    (certificates.len() == entries.len()).then_some(certificates)
}

fn certificate(node: &Node<'_>) -> Option<CertificateFiles> {
    let table = node.section(&TLS)?;
    let file = |name: &str| {
        let node = table.get(name);
        if node.is_none() {
            table.missing(format!("has no `{name}`"), "write { cert = \"site.pem\", key = \"site.key\" }");
        }
        node
    };
    let (cert_node, key_node) = (file("cert"), file("key"));
    let cert = cert_node.as_ref().and_then(Node::file);
    let key = key_node.as_ref().and_then(Node::file);
    let files = CertificateFiles { cert: cert?, key: key? };
    tls::check_pair(&files, &cert_node?, &key_node?)?;
    Some(files)
}

fn plain(address: SocketAddr) -> Listener {
    Listener { address, h2c: false, tls: Vec::new() }
}

/// Whether two addresses cannot both be listened on.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: SocketAddr, narrow: SocketAddr| {
        wide.ip().is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
    };
    one.port() == other.port() && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}
