//! What is answered when the origin or the client fails.

use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use super::Site;
use super::admission::outcome_of;
use super::context::{Payment, RequestContext};
use super::respond::Refused;
use crate::telemetry::Outcome;

impl Site {
    pub(super) async fn answer_failure(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut RequestContext,
    ) -> pingora::Result<u16> {
        // An answer that has begun can only be broken off.
        if session.response_written().is_some_and(|written| !written.status.is_informational()) {
            ctx.outcome = failure_outcome(error);
            return Ok(0);
        }
        session.as_downstream_mut().set_keepalive(None);
        if let Payment::Refused(refusal, version, offer) = &ctx.payment
            && let Some(plan) = &ctx.plan
        {
            ctx.outcome = outcome_of(refusal);
            ctx.detail = refusal.detail().map(str::to_owned);
            let version = Some(*version);
            let refused = Refused { refusal, offer: offer.clone(), resource: &plan.resource, version };
            return self.responder.refuse(session, &refused).await;
        }
        ctx.outcome = failure_outcome(error);
        let (status, message) = match (error.etype(), error.esource()) {
            (ErrorType::HTTPStatus(408), _) => (408, "the request's body came too slowly"),
            (ErrorType::ReadTimedout, ErrorSource::Downstream) => {
                (408, "the request's body did not arrive in time")
            }
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
            Payment::None
            | Payment::Admitted(_)
            | Payment::Settling
            | Payment::Released
            | Payment::Refused(..) => None,
        };
        self.responder.error_with(session, status, message, receipt).await
    }
}

fn failure_outcome(error: &Error) -> Outcome {
    match (error.esource(), error.etype()) {
        (ErrorSource::Downstream, _) | (_, ErrorType::HTTPStatus(408)) => Outcome::ClientLeft,
        _ => Outcome::UpstreamFailed,
    }
}
