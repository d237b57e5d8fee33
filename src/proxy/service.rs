//! Pingora's callbacks, each translated in a few lines.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::admission::{announced_method, complete_preflight, is_success};
use super::context::{Payment, Plan, RequestContext, Settled};
use super::facts::{self, BadRequest, Target, take_hop_by_hop_away};
use super::headers::{self, PaidBy};
use super::respond::{DRAIN_TIMEOUT, EXPOSED};
use super::{Paywall, access, arrival};
use crate::payment::{DeliveryEnd, Resource};
use crate::policy::SettleWhen;
use crate::telemetry::Outcome;

/// Connections that are tried for one request.
const CONNECT_TRIES: u32 = 3;

#[async_trait]
impl ProxyHttp for Paywall {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext {
            started: Instant::now(),
            site: self.site.load_full(),
            plan: None,
            route: None,
            payment: Payment::None,
            outcome: Outcome::default(),
            would: None,
            detail: None,
            forwarded: false,
            connect_failures: 0,
            body: None,
            _in_flight: self.in_flight(),
        }
    }

    /// No modules: the origin decides about compression.
    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let limits = &ctx.site.limits;
        let downstream = session.as_downstream_mut();
        downstream.set_read_timeout(Some(limits.read_timeout));
        downstream.set_write_timeout(Some(limits.write_timeout));
        downstream.set_min_send_rate((limits.min_body_rate > 0).then_some(limits.min_body_rate));
        // A forwarded 100 (Continue) must not close the connection behind it.
        downstream.set_close_on_response_before_downstream_finish(false);
        downstream.set_total_drain_timeout(Some(DRAIN_TIMEOUT));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> pingora::Result<bool> {
        let site = Arc::clone(&ctx.site);
        if let Err(bad) = take_hop_by_hop_away(session.req_header_mut()) {
            return site.answer_bad(session, ctx, &bad).await;
        }
        if wants_websocket(session.req_header()) && facts::announces_body(session.req_header()) {
            return site.answer_bad(session, ctx, &BadRequest::HandshakeBody).await;
        }
        let target = match Target::read(session.req_header()) {
            Ok(target) => target,
            Err(bad) => return site.answer_bad(session, ctx, &bad).await,
        };
        let route = match site.find_route(session.req_header(), &target) {
            Ok(route) => route,
            Err(error) => {
                ctx.outcome = Outcome::BadRequest;
                ctx.detail = Some(error.to_string());
                site.responder.error(session, 400, &error.to_string()).await?;
                return Ok(true);
            }
        };
        if announced_method(session.req_header()).is_none() {
            ctx.would = site.would(session.req_header(), &target);
        }
        ctx.route = Some(Arc::clone(&route));
        let resource = Resource::new(&site.public_url, target.path.as_str(), &target.query);
        let resource = resource.asked_of(&target.host);
        let route_header = site.route_header(&route);
        let preflight = announced_method(session.req_header()).is_some() && route.offer().is_some();
        let plan = Plan { route, target, resource, route_header, preflight };
        if preflight {
            // An origin could act on a body, and nobody has paid for that.
            if !session.as_downstream_mut().is_body_empty() {
                return site.answer_bad(session, ctx, &BadRequest::PreflightBody).await;
            }
            return site.admit_preflight(session, ctx, plan).await;
        }
        site.admit(session, ctx, plan).await
    }

    async fn upstream_peer(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        let wants_websocket = wants_websocket(session.req_header());
        ctx.site.upstream(plan(ctx)?).peer(wants_websocket).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        ctx.forwarded = true;
        let plan = plan(ctx)?;
        let path = plan.target.path.as_str();
        if plan.target.query.is_empty() {
            request.set_raw_path(path.as_bytes())?;
        } else {
            request.set_raw_path(format!("{path}?{}", plan.target.query).as_bytes())?;
        }
        headers::strip_request(request, &ctx.site.decisive_headers);
        if plan.route.offer().is_some() {
            headers::take_conditions_away(request, plan.preflight);
        }
        let client =
            session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        let scheme = if session.digest().is_some_and(|digest| digest.ssl_digest.is_some()) {
            "https"
        } else {
            ctx.site.public_scheme
        };
        headers::forward(request, client, scheme, plan.target.host_header.as_ref())?;
        let upstream = ctx.site.upstream(plan);
        let host = upstream.host_for(plan.target.host_header.as_ref());
        request.insert_header(header::HOST, host.clone())?;
        // A site that answers without reading a body would take it for the connection's next request.
        let is_last = !upstream.reuse_after_body && request.version != http::Version::HTTP_2;
        if is_last
            && !request.headers.contains_key(header::UPGRADE)
            && !session.as_downstream_mut().is_body_empty()
        {
            request.insert_header(header::CONNECTION, "close")?;
        }
        headers::describe(request, &plan.route_header, paid_by(&ctx.payment).as_ref())
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let Some(rate) = std::num::NonZero::new(ctx.site.limits.min_body_rate) else { return Ok(()) };
        // A WebSocket is silent as long as it likes; a mere wish for one changes nothing.
        if session.was_upgraded() {
            return Ok(());
        }
        let (since, total) = ctx.body.get_or_insert_with(|| (Instant::now(), 0));
        *total += body.as_ref().map_or(0, Bytes::len);
        let due = (since.elapsed().as_secs()).saturating_sub(ctx.site.limits.read_timeout.as_secs());
        if usize::try_from(due).is_ok_and(|due| *total < due.saturating_mul(rate.get())) {
            ctx.detail = Some("the request's body came too slowly".to_owned());
            return Error::e_explain(ErrorType::HTTPStatus(408), "the request's body came too slowly");
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let (priced, preflight) = {
            let plan = plan(ctx)?;
            (plan.route.offer().is_some(), plan.preflight)
        };
        headers::strip_response(response, priced);
        // 1xx responses pass through here too; only the final one settles. A switch is final.
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            if priced {
                // A 100 that the client waits for is passed on, and nothing with it.
                headers::silence(response)?;
            }
            return Ok(());
        }
        if session.req_header().version == http::Version::HTTP_10 {
            end_with_connection(session, response);
        }
        if !priced {
            return Ok(());
        }
        if preflight {
            return complete_preflight(response);
        }
        if let Payment::Admitted(_) = &ctx.payment {
            arrival::still_there(session)?;
        }
        Arc::clone(&ctx.site).settle_for(response, ctx).await?;
        if !ctx.payment.allows_delivery() {
            // Cannot happen; if it does, nothing is given away.
            return Error::e_explain(
                ErrorType::InternalError,
                "an answer of a priced route without a payment",
            );
        }
        if let Payment::Released = &ctx.payment {
            headers::withhold_content(response)?;
        }
        if let Payment::Settled(_) = &ctx.payment {
            // Who left during settlement gets nothing: what was paid for stays owed, whole.
            arrival::still_there(session)?;
        }
        headers::make_private(response)?;
        if response.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            headers::append(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
        }
        if let Payment::Settled(settled) = &mut ctx.payment {
            if is_success(response) {
                settled.receipt.delivery.begins();
            }
            let version = settled.receipt.version;
            let value = settled.receipt.response.header_value(version);
            response.insert_header(version.response_header(), value)?;
        }
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Option<Duration>> {
        // What an origin says to a preflight of a priced route is no content that was paid for.
        if ctx.plan.as_ref().is_some_and(|plan| plan.preflight) {
            *body = None;
        }
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _session: &mut Session,
        trailers: &mut header::HeaderMap,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Option<Bytes>> {
        let plan = plan(ctx)?;
        if plan.preflight {
            trailers.clear();
        }
        headers::strip_trailers(trailers, plan.route.offer().is_some());
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        mut error: Box<Error>,
    ) -> Box<Error> {
        // Nothing was sent yet, so trying again is safe for every method.
        ctx.connect_failures += 1;
        error.set_retry(ctx.connect_failures < CONNECT_TRIES);
        error
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut RequestContext,
        client_reused: bool,
    ) -> Box<Error> {
        let mut error = error.more_context(format!("Peer: {peer}"));
        let is_safe = session.req_header().method.is_idempotent()
            && !session.as_ref().retry_buffer_truncated()
            && !ctx.payment.is_past_settlement();
        if is_safe {
            error.retry.decide_reuse(client_reused);
        } else {
            // After settlement a second try could settle twice.
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        if let Payment::Admitted(_) = &ctx.payment
            && let Payment::Admitted(permit) = std::mem::replace(&mut ctx.payment, Payment::Released)
        {
            let client_left = *error.esource() == ErrorSource::Downstream;
            let reason = if client_left { "the client left" } else { "the origin gave no answer" };
            ctx.site.gate.release(permit, reason).await;
        }
        let error_code = match Arc::clone(&ctx.site).answer_failure(session, error, ctx).await {
            Ok(status) => status,
            Err(write) => {
                tracing::debug!(%write, "an error could not be answered");
                0
            }
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// Pingora's own would write queries and hosts to the log.
    fn request_summary(&self, session: &Session, ctx: &RequestContext) -> String {
        let request = session.req_header();
        format!("{} {}", request.method, access::path(request, ctx))
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &RequestContext, error: &Error) -> bool {
        // Refusals and clients that leave are in the access log.
        matches!(ctx.payment, Payment::Refused(..)) || error.esource() == &ErrorSource::Downstream
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestContext) {
        let end = match &ctx.payment {
            Payment::Settled(settled) if is_wasted(error, settled, ctx.forwarded) => {
                Some(DeliveryEnd::BrokenOff)
            }
            Payment::Settled(_) => Some(delivery_end(session, error, ctx.site.limits.write_timeout).await),
            Payment::None
            | Payment::Admitted(_)
            | Payment::Settling
            | Payment::Released
            | Payment::Refused(..) => None,
        };
        if error.is_none() && end == Some(DeliveryEnd::BrokenOff) {
            ctx.outcome = Outcome::ClientLeft;
        }
        access::log(session, error, ctx);
        if let (Payment::Settled(settled), Some(end)) =
            (std::mem::replace(&mut ctx.payment, Payment::None), end)
        {
            settled.receipt.delivery.end(end);
        }
    }
}

/// Whether the client left while the origin worked on what was paid in advance. It must not have the
/// origin work again and again for one payment.
fn is_wasted(error: Option<&Error>, settled: &Settled, forwarded: bool) -> bool {
    let left = error.is_some_and(|error| error.esource() == &ErrorSource::Downstream);
    left && forwarded && settled.when == SettleWhen::BeforeRequest
}

/// How the delivery of what was paid for ended: complete when the answer was sent to its end and has
/// arrived.
async fn delivery_end(session: &mut Session, error: Option<&Error>, patience: Duration) -> DeliveryEnd {
    if !session.response_written().is_some_and(is_success) {
        return DeliveryEnd::NotBegun;
    }
    if error.is_none() && arrival::has_arrived(session, patience).await {
        DeliveryEnd::Complete
    } else {
        DeliveryEnd::BrokenOff
    }
}

pub(super) fn plan(ctx: &RequestContext) -> pingora::Result<&Plan> {
    // `request_filter` sets it for everything that is forwarded; without it nothing is.
    ctx.plan.as_ref().ok_or_else(|| Error::explain(ErrorType::InternalError, "a request without a plan"))
}

fn wants_websocket(request: &RequestHeader) -> bool {
    let upgrade = request.headers.get(header::UPGRADE);
    request.version == http::Version::HTTP_11
        && upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Clients of HTTP/1.0 do not know chunks: a body without a length ends with the connection.
fn end_with_connection(session: &mut Session, response: &mut ResponseHeader) {
    if response.remove_header(&header::TRANSFER_ENCODING).is_some() {
        session.as_downstream_mut().set_keepalive(None);
    }
}

fn paid_by(payment: &Payment) -> Option<PaidBy> {
    let (terms, payer, transaction) = match payment {
        Payment::Admitted(permit) => (permit.requirements(), permit.payer().map(str::to_owned), None),
        Payment::Settled(settled) => {
            let response = &settled.receipt.response;
            (&settled.terms, response.payer.clone(), Some(response.transaction.clone()))
        }
        Payment::None | Payment::Settling | Payment::Released | Payment::Refused(..) => return None,
    };
    Some(PaidBy {
        payer,
        amount: terms.amount.to_string(),
        asset: terms.asset.clone(),
        network: terms.network.to_string(),
        scheme: terms.scheme.clone(),
        transaction,
    })
}
