//! From a request to the gate's decision, and from the origin's answer to settlement.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use super::context::{Payment, Plan, RequestContext, Settled};
use super::facts::{self, BadRequest, Target};
use super::headers;
use super::respond::{ALLOWED, Refused};
use super::service::plan;
use super::{Site, arrival};
use crate::payment::{Admission, Owed, Permit, Refusal};
use crate::policy::{Decision, Route, SettleWhen};
use crate::telemetry::Outcome;

impl Site {
    pub(super) fn find_route(
        &self,
        request: &RequestHeader,
        target: &Target,
    ) -> Result<Arc<Route>, crate::policy::RouteError> {
        let facts = target.facts(request);
        let facts = match announced_method(request) {
            Some(method) => self.routes.preflight(facts, method),
            None => facts,
        };
        self.routes.find(&facts).cloned()
    }

    pub(super) async fn answer_bad(
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
    pub(super) async fn admit_preflight(
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

    pub(super) async fn admit(
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
        let facts = plan.target.facts(session.req_header());
        match self.gate.admit(&plan.route, &facts, &plan.resource, payment).await {
            Admission::Free => {
                ctx.plan = Some(plan);
                Ok(false)
            }
            Admission::Refused(refusal) => {
                self.answer_refusal(session, ctx, &plan, &refusal, version).await?;
                Ok(true)
            }
            Admission::Paid(permit, settle) => self.start_paid(session, ctx, plan, permit, settle).await,
            Admission::Owed(owed) => {
                let Owed { id, requirements: terms, receipt } = *owed;
                session.as_downstream_mut().set_ignore_info_resp(true);
                let when = SettleWhen::BeforeRequest;
                ctx.payment = Payment::Settled(Box::new(Settled { receipt, when, id, terms }));
                ctx.outcome = Outcome::Redelivered;
                ctx.plan = Some(plan);
                Ok(false)
            }
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
                if let Err(gone) = arrival::still_there(session) {
                    ctx.payment = Payment::Admitted(permit);
                    return Err(gone);
                }
                let version = permit.version();
                match self.settle(&plan.route, permit, settle).await {
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

    async fn settle(&self, route: &Route, permit: Permit, when: SettleWhen) -> Result<Settled, Refusal> {
        let (id, terms) = (permit.id(), permit.requirements().clone());
        let receipt = self.gate.settle(permit).await?;
        self.count_revenue(route, &terms);
        Ok(Settled { receipt, when, id, terms })
    }

    /// Settles an admitted request for the origin's final answer, or gives the payment back.
    pub(super) async fn settle_for(
        &self,
        response: &ResponseHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let permit = match std::mem::replace(&mut ctx.payment, Payment::Settling) {
            Payment::Admitted(permit) => permit,
            other => {
                ctx.payment = other;
                return Ok(());
            }
        };
        if !is_success(response) {
            ctx.outcome = Outcome::NotCharged;
            let reason = format!("the origin answered {}", response.status.as_u16());
            self.gate.release(permit, &reason).await;
            ctx.payment = Payment::Released;
            return Ok(());
        }
        let version = permit.version();
        let route = Arc::clone(&plan(ctx)?.route);
        match self.settle(&route, permit, SettleWhen::BeforeResponse).await {
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
        ctx.outcome = outcome_of(refusal);
        ctx.detail = refusal.detail().map(str::to_owned);
        let offer = self.gate.offer(&plan.route);
        let refused = Refused { refusal, offer, resource: &plan.resource, version };
        self.responder.refuse(session, &refused).await
    }
}

/// The method of the request that a CORS preflight announces (Fetch standard §3.2.2); `None`: it is
/// no preflight.
pub(super) fn announced_method(request: &RequestHeader) -> Option<&str> {
    let has = |name: &header::HeaderName| request.headers.contains_key(name);
    // A handshake or a body would be more than a question.
    let is_question = !has(&header::UPGRADE) && !has(&header::TRANSFER_ENCODING);
    if request.method != http::Method::OPTIONS || !has(&header::ORIGIN) || !is_question {
        return None;
    }
    request.headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?.to_str().ok()
}

/// Keeps only what a preflight is about, and lets payments through where the origin lets anything.
pub(super) fn complete_preflight(response: &mut ResponseHeader) -> pingora::Result<()> {
    if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
        return Error::e_explain(ErrorType::InternalError, "a switch of protocols nobody asked for");
    }
    let kept = |name: &str| {
        name.starts_with("access-control-")
            || matches!(name, "vary" | "allow" | "date" | "server" | "cache-control" | "connection")
    };
    headers::keep(response, |name| kept(name.as_str()));
    response.set_reason_phrase(None)?;
    if response.headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers::append(response, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED)?;
    }
    if response.status != http::StatusCode::NO_CONTENT {
        response.insert_header(header::CONTENT_LENGTH, 0)?;
    }
    Ok(())
}

/// Only success is charged: 2xx, and 101 of an upgrade; not a gRPC error, which is a 200 whose
/// status stands in the header when there is no message (gRPC over HTTP/2, "Trailers-Only").
pub(super) fn is_success(response: &ResponseHeader) -> bool {
    let kind = response.headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    let grpc_failed = kind.starts_with(b"application/grpc")
        && response.headers.get("grpc-status").is_some_and(|status| status != "0");
    let success = response.status.is_success() || response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    success && !grpc_failed
}

pub(super) const fn outcome_of(refusal: &Refusal) -> Outcome {
    match refusal {
        Refusal::PaymentRequired => Outcome::Challenged,
        Refusal::Invalid { .. }
        | Refusal::AlreadyUsed
        | Refusal::IdentifierMissing
        | Refusal::IdentifierMalformed
        | Refusal::IdentifierUsed
        | Refusal::PayerLimit
        | Refusal::SettlementFailed(_) => Outcome::PaymentRefused,
        Refusal::InUse => Outcome::InUse,
        Refusal::Unresolved => Outcome::Unresolved,
        Refusal::Unavailable { .. } => Outcome::Unavailable,
        Refusal::Denied => Outcome::Denied,
    }
}
