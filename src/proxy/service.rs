//! Pingora's callbacks, each translated in a few lines.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http::header;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType};

use super::context::{Payment, Plan, RequestContext, Settled};
use super::facts::{self, BadRequest, Target};
use super::headers;
use super::respond::{DRAIN_TIMEOUT, EXPOSED, Refused};
use super::{Paywall, access, preflight};
use crate::payment::{Admission, Permit, Refusal, Resource};
use crate::policy::{Decision, Route, RouteFacts, SettleWhen};
use crate::telemetry::Outcome;

/// Connections that are tried for one request.
const CONNECT_TRIES: u32 = 3;

#[async_trait]
impl ProxyHttp for Paywall {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext {
            started: Instant::now(),
            plan: None,
            route: None,
            payment: Payment::None,
            outcome: Outcome::default(),
            detail: None,
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
        _ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let limits = &self.limits;
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
        let target = match Target::read(session.req_header()) {
            Ok(target) => target,
            Err(bad) => return self.answer_bad(session, ctx, &bad).await,
        };
        let route = match self.find_route(session.req_header(), &target) {
            Ok(route) => route,
            Err(error) => {
                ctx.outcome = Outcome::BadRequest;
                ctx.detail = Some(error.to_string());
                self.responder.error(session, 400, &error.to_string()).await?;
                return Ok(true);
            }
        };
        ctx.route = Some(Arc::clone(&route));
        let resource = Resource::new(&self.public_url, target.path.as_str(), &target.query);
        let route_header = self.route_header(&route);
        let preflight =
            preflight::announced_method(session.req_header()).is_some() && route.offer().is_some();
        let plan = Plan { route, target, resource, route_header, preflight };
        if preflight {
            return self.admit_preflight(session, ctx, plan).await;
        }
        self.admit(session, ctx, plan).await
    }

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Box<HttpPeer>> {
        self.upstream(plan(ctx)?).peer().await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let plan = plan(ctx)?;
        let path = plan.target.path.as_str();
        if plan.target.query.is_empty() {
            request.set_raw_path(path.as_bytes())?;
        } else {
            request.set_raw_path(format!("{path}?{}", plan.target.query).as_bytes())?;
        }
        headers::strip_request(request);
        let client =
            session.client_addr().and_then(|address| address.as_inet()).map(std::net::SocketAddr::ip);
        let scheme = if session.digest().is_some_and(|digest| digest.ssl_digest.is_some()) {
            "https"
        } else {
            self.public_scheme
        };
        headers::forward(request, client, scheme, plan.target.host_header.as_ref())?;
        let host = self.upstream(plan).host().or(plan.target.host_header.as_ref());
        if let Some(host) = host {
            request.insert_header(header::HOST, host.clone())?;
        }
        headers::describe(request, &plan.route_header, ctx.payment.paid_by().as_ref())
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let Some(rate) = std::num::NonZero::new(self.limits.min_body_rate) else { return Ok(()) };
        let (since, total) = ctx.body.get_or_insert_with(|| (Instant::now(), 0));
        *total += body.as_ref().map_or(0, Bytes::len);
        let due = (since.elapsed().as_secs()).saturating_sub(self.limits.read_timeout.as_secs());
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
        // 1xx responses pass through here too; only the final one settles. A switch is final.
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(());
        }
        let (priced, preflight) = {
            let plan = plan(ctx)?;
            (plan.route.offer().is_some(), plan.preflight)
        };
        headers::strip_response(response, priced);
        if !priced {
            return Ok(());
        }
        if preflight {
            return preflight::complete(response);
        }
        self.settle_for(response, ctx).await?;
        headers::make_private(response)?;
        if response.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
            headers::append(response, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED)?;
        }
        if let Payment::Settled(settled) = &ctx.payment {
            let version = settled.receipt.version;
            let value = settled.receipt.response.header_value(version);
            response.insert_header(version.response_header(), value)?;
        }
        session.as_downstream_mut().set_abort_on_close(true);
        Ok(())
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<Option<std::time::Duration>> {
        // What an origin says to a preflight of a priced route is no content that was paid for.
        if ctx.plan.as_ref().is_some_and(|plan| plan.preflight) {
            *body = None;
        }
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
            && !is_answered(session)
            && !ctx.payment.is_refused();
        if is_safe {
            error.retry.decide_reuse(client_reused);
        } else {
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
            && let Payment::Admitted(permit) = std::mem::replace(&mut ctx.payment, Payment::None)
        {
            self.gate.release(permit).await;
        }
        let error_code = match self.answer_failure(session, error, ctx).await {
            Ok(status) => status,
            Err(write) => {
                tracing::debug!(%write, "an error could not be answered");
                0
            }
        };
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, ctx: &RequestContext, error: &Error) -> bool {
        // Refusals and clients that leave are in the access log.
        matches!(ctx.payment, Payment::Refused(..)) || error.esource() == &ErrorSource::Downstream
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut RequestContext) {
        access::log(self, session, error, ctx);
    }
}

impl Paywall {
    fn find_route(
        &self,
        request: &RequestHeader,
        target: &Target,
    ) -> Result<Arc<Route>, crate::policy::RouteError> {
        let facts = RouteFacts {
            method: request.method.as_str(),
            host: &target.host,
            path: &target.path,
            query: &target.query,
            headers: &request.headers,
        };
        let facts = match preflight::announced_method(request) {
            Some(method) => self.routes.preflight(facts, method),
            None => facts,
        };
        self.routes.find(&facts).cloned()
    }

    async fn answer_bad(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        bad: &BadRequest,
    ) -> pingora::Result<bool> {
        ctx.outcome = Outcome::BadRequest;
        ctx.detail = Some(bad.to_string());
        self.responder.error(session, bad.status(), &bad.to_string()).await?;
        Ok(true)
    }

    /// A preflight of a priced route: unpaid, and nothing but the CORS headers of its answer is
    /// passed on.
    async fn admit_preflight(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        plan: Plan,
    ) -> pingora::Result<bool> {
        ctx.outcome = Outcome::Preflight;
        ctx.plan = Some(plan);
        if self.responder.answers_preflights() {
            self.responder.preflight(session).await?;
            return Ok(true);
        }
        session.as_downstream_mut().set_ignore_info_resp(true);
        Ok(false)
    }

    async fn admit(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        plan: Plan,
    ) -> pingora::Result<bool> {
        // Free routes do not look at payments at all: they are stripped on the way to the origin.
        let payment = match &plan.route.decision {
            Decision::Free => None,
            Decision::Deny | Decision::Paid(_) => {
                match facts::payment_header(session.req_header(), self.limits.payment_header_bytes) {
                    Ok(payment) => payment,
                    Err(bad) => return self.answer_bad(session, ctx, &bad).await,
                }
            }
        };
        let version = payment.map(|payment| payment.version);
        match self.gate.admit(&plan.route, &plan.resource, payment).await {
            Admission::Free => {
                ctx.plan = Some(plan);
                Ok(false)
            }
            Admission::Refused(refusal) => {
                self.answer_refusal(session, ctx, &plan, &refusal, version).await?;
                Ok(true)
            }
            Admission::Paid(permit, settle) => self.start_paid(session, ctx, plan, permit, settle).await,
        }
    }

    async fn start_paid(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        plan: Plan,
        permit: Permit,
        settle: SettleWhen,
    ) -> pingora::Result<bool> {
        // Early hints are part of what is paid for.
        session.as_downstream_mut().set_ignore_info_resp(true);
        match settle {
            SettleWhen::BeforeResponse => ctx.payment = Payment::Admitted(permit),
            SettleWhen::BeforeRequest => {
                let version = permit.version();
                match self.settle(&plan.route, permit).await {
                    Ok(settled) => ctx.payment = Payment::Settled(Box::new(settled)),
                    Err(refusal) => {
                        self.answer_refusal(session, ctx, &plan, &refusal, Some(version)).await?;
                        return Ok(true);
                    }
                }
            }
        }
        ctx.outcome = Outcome::Paid;
        ctx.plan = Some(plan);
        Ok(false)
    }

    async fn settle(&self, route: &Route, permit: Permit) -> Result<Settled, Refusal> {
        let (id, terms) = (permit.id(), permit.requirements().clone());
        let receipt = self.gate.settle(permit).await?;
        self.count_revenue(route, &terms);
        Ok(Settled { receipt, id, terms })
    }

    /// Settles an admitted request for the origin's final answer, or gives the payment back.
    async fn settle_for(&self, response: &ResponseHeader, ctx: &mut RequestContext) -> pingora::Result<()> {
        let permit = match std::mem::replace(&mut ctx.payment, Payment::None) {
            Payment::Admitted(permit) => permit,
            other => {
                ctx.payment = other;
                return Ok(());
            }
        };
        if !is_success(response) {
            ctx.outcome = Outcome::NotCharged;
            self.gate.release(permit).await;
            return Ok(());
        }
        let version = permit.version();
        let route = Arc::clone(&plan(ctx)?.route);
        match self.settle(&route, permit).await {
            Ok(settled) => {
                ctx.payment = Payment::Settled(Box::new(settled));
                Ok(())
            }
            Err(refusal) => {
                ctx.payment = Payment::Refused(refusal, version, self.gate.offer(&route));
                // Leads to `fail_to_proxy`, which answers in the origin's stead; its connection is dropped.
                Error::e_explain(ErrorType::HTTPStatus(402), "settlement did not succeed")
            }
        }
    }

    async fn answer_refusal(
        &self,
        session: &mut Session,
        ctx: &mut RequestContext,
        plan: &Plan,
        refusal: &Refusal,
        version: Option<crate::x402::Version>,
    ) -> pingora::Result<u16> {
        ctx.outcome = access::outcome_of(refusal);
        ctx.detail = refusal.detail().map(str::to_owned);
        let offer = self.gate.offer(&plan.route);
        let refused = Refused { refusal, offer, resource: &plan.resource, version };
        self.responder.refuse(session, &refused).await
    }

    async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> pingora::Result<u16> {
        // An answer that has begun can only be broken off.
        if is_answered(session) {
            ctx.outcome = access::failure_outcome(error);
            return Ok(0);
        }
        session.as_downstream_mut().set_keepalive(None);
        if let Payment::Refused(refusal, version, offer) = &ctx.payment
            && let Some(plan) = &ctx.plan
        {
            ctx.outcome = access::outcome_of(refusal);
            ctx.detail = refusal.detail().map(str::to_owned);
            let version = Some(*version);
            let refused = Refused { refusal, offer: offer.clone(), resource: &plan.resource, version };
            return self.responder.refuse(session, &refused).await;
        }
        ctx.outcome = access::failure_outcome(error);
        let (status, message) = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(408), _) => (408, "the request's body came too slowly"),
            (ErrorType::HTTPStatus(status), _) => (*status, "the request could not be answered"),
            (ErrorType::ConnectTimedout | ErrorType::ReadTimedout, ErrorSource::Upstream) => {
                (504, "the origin did not answer in time")
            }
            (_, ErrorSource::Upstream) => (502, "the origin could not be reached or broke off"),
            (
                ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError,
                ErrorSource::Downstream,
            ) => return Ok(0),
            (_, ErrorSource::Downstream) => (400, "the request could not be read"),
            (_, ErrorSource::Internal | ErrorSource::Unset) => (500, "the gateway failed"),
        };
        ctx.detail.get_or_insert_with(|| error.to_string());
        self.answer_error(session, ctx, status, message).await
    }

    async fn answer_error(
        &self,
        session: &mut Session,
        ctx: &RequestContext,
        status: u16,
        message: &str,
    ) -> pingora::Result<u16> {
        // What was settled before the origin failed is owed to the client in writing.
        let receipt = match &ctx.payment {
            Payment::Settled(settled) => Some(&settled.receipt),
            Payment::None | Payment::Admitted(_) | Payment::Refused(..) => None,
        };
        self.responder.error_with(session, status, message, receipt).await
    }
}

/// Whether the client has the head of an answer.
fn is_answered(session: &Session) -> bool {
    session.response_written().is_some_and(|written| !written.status.is_informational())
}

fn plan(ctx: &RequestContext) -> pingora::Result<&Plan> {
    // `request_filter` sets it for everything that is forwarded; without it nothing is.
    ctx.plan.as_ref().ok_or_else(|| Error::explain(ErrorType::InternalError, "a request without a plan"))
}

/// Only success is charged: 2xx, and 101 of an upgrade; not a gRPC error, which is a 200 whose
/// status stands in the header when there is no message (gRPC over HTTP/2, "Trailers-Only").
fn is_success(response: &ResponseHeader) -> bool {
    let grpc_failed = response.headers.get("grpc-status").is_some_and(|status| status != "0");
    let success = response.status.is_success() || response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    success && !grpc_failed
}
