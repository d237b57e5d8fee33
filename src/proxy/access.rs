//! The access log: one line per request, whatever became of it.

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
        path,
        status,
        route = &*label,
        outcome = ctx.outcome.label(),
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
pub(super) fn path<'a>(request: &'a RequestHeader, ctx: &'a RequestContext) -> &'a str {
    match &ctx.plan {
        Some(plan) => plan.target.path.as_str(),
        None => request.uri.path(),
    }
}
