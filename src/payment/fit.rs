//! Whether a payment is for what is asked for.

use super::challenge::Resource;
use super::claim::Claim;
use super::identifier;
use super::live::LiveTerms;
use super::refusal::Refusal;
use crate::policy::SettleWhen;
use crate::scheme::Moment;
use crate::x402::{PaymentPayload, Reason, Version};

/// A payment that is for what is asked for.
pub(super) struct Fit {
    /// What is to be claimed. It may be too late for it, which its authorization says.
    pub(super) claim: Claim,
    /// When it is settled.
    pub(super) settle: SettleWhen,
}

/// Why a payment is not for what is asked for.
#[derive(Debug)]
pub(super) enum Misfit {
    /// It is none, or says that it is for something else; whatever is or was asked for.
    Never(Refusal),
    /// It accepts terms that are not asked for.
    OtherTerms,
    /// It may be for the same request all the same, as it was quoted at another time or elsewhere.
    Here(Refusal),
}

impl Misfit {
    /// What the client is told.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::Never(refusal) | Self::Here(refusal) => refusal,
            Self::OtherTerms => invalid(Reason::NO_MATCH),
        }
    }
}

/// Reads a payment against terms that were quoted under `public_url` for a resource.
pub(super) fn fit(
    terms: &LiveTerms,
    payment: &PaymentPayload,
    resource: &Resource,
    public_url: &str,
    moment: Moment,
) -> Result<Fit, Misfit> {
    // A payment that says what it is for buys nothing else.
    if let Some(url) = payment.resource_url()
        && !resource.is_called(url, public_url)
    {
        let refusal = invalid(Reason::NO_MATCH);
        // The site may have been called otherwise when it was quoted.
        return Err(if resource.may_be_called(url) { Misfit::Here(refusal) } else { Misfit::Never(refusal) });
    }
    let Some(accept) = terms.accepted_by(payment) else { return Err(Misfit::OtherTerms) };
    if !terms.echoes_extensions(payment) {
        return Err(Misfit::Here(invalid(Reason::EXTENSION_ECHO_MISMATCH)));
    }
    let identifier = terms.identifier_of(payment).map_err(Misfit::Here)?;
    let brought = identifier::brought_by(payment);
    let request = accept.request(payment, resource).ok_or(Misfit::Never(invalid(Reason::NO_MATCH)))?;
    let authorization = accept
        .scheme
        .inspect(&request.requirements, &request.payload, moment)
        .map_err(|reason| misfit_of(payment.version, reason))?;
    let (facilitator, decimals, version) = (accept.facilitator, accept.decimals, payment.version);
    let claim = Claim { facilitator, decimals, authorization, identifier, brought, request, version };
    Ok(Fit { claim, settle: terms.settle })
}

/// A v1 payment names no more than scheme and network: that it does not fit these terms may mean that
/// it is for others.
fn misfit_of(version: Version, reason: Reason) -> Misfit {
    let by_terms =
        [Reason::EVM_VALUE, Reason::EVM_RECIPIENT, Reason::EVM_SIGNATURE, Reason::EVM_VALID_BEFORE];
    if version == Version::V1 && by_terms.contains(&reason) {
        Misfit::Here(invalid(reason))
    } else {
        Misfit::Never(invalid(reason))
    }
}

pub(super) fn invalid(reason: Reason) -> Refusal {
    Refusal::Invalid { reason, payer: None }
}
