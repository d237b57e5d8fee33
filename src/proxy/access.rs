//! The access log: one line per request, whatever became of it.

use std::borrow::Cow;
use std::fmt::Write as _;

use pingora::Error;
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::context::{Payment, RequestContext};

/// Writes the line and counts the request.
pub(super) fn log(session: &Session, error: Option<&Error>, ctx: &RequestContext) {
    let took = ctx.started.elapsed();
    let label = ctx.site.route_label(ctx.route.as_deref());
    ctx.site.metrics.request(&label, ctx.outcome, took);
    if !tracing::enabled!(tracing::Level::INFO) {
        return;
    }
    let request = session.req_header();
    let path = path(request, ctx);
    let status = session.response_written().map_or(0, |response| response.status.as_u16());
    let (payment, payer, transaction, amount) = match &ctx.payment {
        Payment::Settled(settled) => (
            Some(settled.id.to_string()),
            settled.receipt.response.payer.as_deref(),
            Some(settled.receipt.response.transaction.as_str()),
            Some(settled.terms.amount.to_string()),
        ),
        Payment::Admitted(permit) => (Some(permit.id().to_string()), permit.payer(), None, None),
        Payment::None | Payment::Settling | Payment::Released | Payment::Refused(..) => {
            (None, None, None, None)
        }
    };
    tracing::info!(
        method = request.method.as_str(),
        path = &*path,
        status,
        route = &*label,
        outcome = ctx.outcome.label(),
        would = ctx.would.as_ref().map(|would| would.outcome.label()),
        would_route = ctx.would.as_ref().map(|would| &*would.route),
        would_cost = ctx.would.as_ref().map(|would| would.cost.as_str()),
        agent = ctx.would.as_ref().map(|would| would.agent.as_str()),
        client = session.client_addr().map(tracing::field::display),
        bytes = session.body_bytes_sent(),
        micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        payment,
        payer,
        amount,
        transaction,
        detail = ctx.detail.as_deref(),
        error = error.map(tracing::field::display),
        "request"
    );
}

/// What is written of a request's target. Only the path: queries carry secrets, and payment headers
/// are never written at all.
pub(super) fn path<'a>(request: &'a RequestHeader, ctx: &'a RequestContext) -> Cow<'a, str> {
    match &ctx.plan {
        Some(plan) => Cow::Borrowed(plan.target.path.as_str()),
        None => printable(request.uri.path()),
    }
}

/// A path as it came, with what is not plain ASCII escaped: other letters steer terminals, or turn the
/// direction of what is read. Canonical paths have none.
fn printable(path: &str) -> Cow<'_, str> {
    if path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Cow::Borrowed(path);
    }
    let mut shown = String::with_capacity(path.len() + 16);
    for byte in path.bytes() {
        if byte.is_ascii_graphic() {
            shown.push(char::from(byte));
        } else {
            // A text takes whatever is written to it.
            let _ = write!(shown, "%{byte:02X}");
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_plain_is_escaped() {
        assert!(matches!(printable("/a%20b//c;x"), Cow::Borrowed("/a%20b//c;x")));
        assert_eq!(printable("//a\u{9b}31m\u{202e}é"), "//a%C2%9B31m%E2%80%AE%C3%A9");
    }
}
