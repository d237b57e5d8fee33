//! `[facilitator_service]`: this gateway as a facilitator for others.

use std::net::SocketAddr;
use std::time::Duration;

use super::auth::{self, Secrets};
use super::facilitators::Facilitators;
use super::keys::SERVICE;
use super::listeners::{address, overlap};
use super::walk::{Node, Section};
use crate::facilitator::settings::{FacilitatorSettings, ServiceSettings};
use crate::policy::FacilitatorId;

/// How long a connection is kept on which nothing happens, besides the time that a settlement takes.
const IDLE: Duration = Duration::from_secs(60);

/// Reads `[facilitator_service]`; `None` when it is not written, or wrong. `own` are the addresses the
/// gateway listens on besides.
pub(super) fn read(
    top: &Section<'_>,
    facilitators: &mut Facilitators<'_>,
    secrets: Secrets<'_>,
    own: &[SocketAddr],
) -> Option<(FacilitatorId, ServiceSettings)> {
    let table = top.get("facilitator_service")?.section(&SERVICE)?;
    let listen = listen(&table, own);
    let facilitator = if let Some(node) = table.get("facilitator") {
        facilitator(&node, facilitators)
    } else {
        let help = "write facilitator = \"own\", the name of one that settles on chain, or \"sandbox\"";
        table.missing("has no `facilitator`", help);
        None
    };
    let written = ["token", "token_env", "token_file"].iter().any(|name| table.get(name).is_some());
    let token = if written { Some(auth::secret(&table, "token", secrets)?) } else { None };
    let count = |name: &str, range, usual: usize| match table.get(name) {
        None => Some(usual),
        Some(node) => node.number(range).and_then(|number| usize::try_from(number).ok()),
    };
    let (body_bytes, in_flight) =
        (count("body_bytes", 1024..=1_048_576, 65_536), count("in_flight", 1..=100_000, 64));
    let listen = listen?;
    if token.is_none() && !listen.ip().is_loopback() {
        let help = "write token_env = \"…\", the name of an environment variable with the token that callers\n\
                    show, or listen on a loopback address such as 127.0.0.1:9403";
        table.missing(format!("has no `token_env`, and {listen} is not for this machine alone"), help);
        return None;
    }
    let facilitator = facilitator?;
    let settles_in = facilitators.of(facilitator).into_iter().map(|settings| match settings {
        FacilitatorSettings::Onchain(own) => own.settle_timeout,
        FacilitatorSettings::Sandbox | FacilitatorSettings::Http(_) => Duration::ZERO,
    });
    let idle_timeout = IDLE + settles_in.max().unwrap_or_default();
    let settings =
        ServiceSettings { listen, token, body_bytes: body_bytes?, in_flight: in_flight?, idle_timeout };
    Some((facilitator, settings))
}

fn listen(table: &Section<'_>, own: &[SocketAddr]) -> Option<SocketAddr> {
    let Some(node) = table.get("listen") else {
        table.missing("has no `listen`", "add a line such as listen = \"127.0.0.1:9403\"");
        return None;
    };
    let chosen = address(&node)?;
    if let Some(taken) = own.iter().find(|other| overlap(**other, chosen)) {
        node.error(format!("{taken} is already listened on"), "choose another port");
        return None;
    }
    Some(chosen)
}

fn facilitator(node: &Node<'_>, facilitators: &mut Facilitators<'_>) -> Option<FacilitatorId> {
    let id = facilitators.resolve(node)?;
    let of = facilitators.of(id);
    if let [FacilitatorSettings::Sandbox | FacilitatorSettings::Onchain(_)] = of.as_slice() {
        return Some(id);
    }
    let help = "name one with kind = \"onchain\", or the sandbox";
    node.error("only what this gateway settles itself can be offered to others", help);
    None
}
