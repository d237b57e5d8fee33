//! From an understood payment to a claim on it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy_primitives::{B256, Keccak256};

use super::challenge::Resource;
use super::closing::UnderWay;
use super::gate::{Admission, Owed, Shared};
use super::permit::{Delivery, Permit};
use super::refusal::Refusal;
use super::settle::Receipt;
use crate::ledger::{Claimed, NewClaim, Particulars, PayerLimits, PaymentState};
use crate::policy::{FacilitatorId, SettleWhen};
use crate::scheme::Authorization;
use crate::x402::Version;
use crate::x402::types::FacilitatorRequest;

/// What a request wants to buy.
pub(super) struct Purchase<'a> {
    pub(super) route: &'a str,
    pub(super) method: &'a str,
    pub(super) resource: &'a Resource,
}

/// A payment that was understood.
pub(super) struct Claim {
    pub(super) facilitator: FacilitatorId,
    /// Decimal places of the asset.
    pub(super) decimals: u8,
    pub(super) authorization: Authorization,
    /// What the client calls its request, where the offer asks for that.
    pub(super) identifier: Option<String>,
    /// The identifier that came with it, asked for or not.
    pub(super) brought: Option<String>,
    pub(super) request: FacilitatorRequest,
    pub(super) version: Version,
}

impl Purchase<'_> {
    /// The same, bought at the terms of a route that another price list has for it.
    pub(super) fn of_route<'r>(&'r self, route: &'r str) -> Purchase<'r> {
        Purchase { route, ..*self }
    }

    /// Whether an answer that broke off may be fetched again without side effects (RFC 9110 §9.2.1).
    fn is_repeatable(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// A hash over what is bought and on which terms. HEAD asks for less of the same as GET. The host
    /// counts, because one URL of the public site may stand for several of the origins'. A payment
    /// whose signature nobody checked yet must be the very same to the letter. One that came with an
    /// identifier must come with it again: it is not on the chain, where everybody can read payments.
    fn hash(&self, claim: &Claim) -> B256 {
        let terms = &claim.request.requirements;
        let unproven = Some(&claim.request.payload).filter(|_| !claim.authorization.proven);
        let payload = unproven.map(|payload| serde_json::json!(payload).to_string());
        let method = if self.is_repeatable() { "GET" } else { self.method };
        let amount = terms.amount.to_string();
        let network = terms.network.as_str();
        let (asset, pay_to) = (terms.asset.to_ascii_lowercase(), terms.pay_to.to_ascii_lowercase());
        let mut parts = vec![
            method,
            self.resource.host(),
            self.resource.url(),
            &terms.scheme,
            network,
            &amount,
            &asset,
            &pay_to,
            payload.as_deref().unwrap_or_default(),
        ];
        parts.extend(claim.brought.as_deref());
        hash_of(&parts)
    }
}

/// A hash over texts that no other list of texts has.
fn hash_of(parts: &[&str]) -> B256 {
    let mut hasher = Keccak256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize()
}

impl Shared {
    /// Claims a payment. In a task of its own: should the request be gone when the answer comes, the
    /// permit or delivery in it is dropped, and what was claimed is given back.
    pub(super) async fn claim(
        self: &Arc<Self>,
        claim: Claim,
        purchase: &Purchase<'_>,
    ) -> Result<Admission, Refusal> {
        let new = self.new_claim(&claim, purchase);
        let Claim { facilitator, authorization, request, version, .. } = claim;
        let under_way = UnderWay::begin(self);
        let Authorization { malleable, payer, proven, .. } = authorization;
        let limits = new.limits;
        let task = self.runtime.spawn(async move {
            let shared = under_way.shared();
            let claimed = match shared.ledger.claim(&new, shared.clock.now()).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    // It may have been granted all the same, and nobody would ever give it back.
                    shared.recant_in_background(new);
                    return Err(error.into());
                }
            };
            let holder = Holder { shared, facilitator, version, malleable, payer, proven, limits };
            holder.answer(claimed, request)
        });
        match task.await {
            Ok(result) => result,
            Err(lost) => {
                let cause = format!("the claim was lost: {lost}");
                Err(Refusal::Unavailable { cause, retry_after: super::gate::RETRY_SOON })
            }
        }
    }

    fn new_claim(&self, claim: &Claim, purchase: &Purchase<'_>) -> NewClaim {
        let Claim { facilitator, decimals, authorization, identifier, request, version, .. } = claim;
        let required = &request.requirements;
        // Identifiers and limits are their payer's own: nobody else may occupy them by naming that payer.
        let payer = authorization.payer.as_ref().filter(|_| authorization.proven);
        let identifier = identifier
            .as_ref()
            .zip(payer)
            .map(|(identifier, payer)| hash_of(&[&payer.to_ascii_lowercase(), purchase.route, identifier]));
        NewClaim {
            id: authorization.id,
            grant: self.grants.fetch_add(1, Ordering::Relaxed),
            expires: authorization.expires,
            request: purchase.hash(claim),
            repeatable: purchase.is_repeatable(),
            identifier,
            limits: self.pledges.in_asset(*decimals),
            redelivery: self.redelivery,
            particulars: Particulars {
                payer: payer.cloned(),
                network: required.network.clone(),
                asset: required.asset.clone(),
                amount: required.amount,
                pay_to: required.pay_to.clone(),
                scheme: required.scheme.clone(),
                version: *version,
                route: purchase.route.to_owned(),
                method: purchase.method.to_owned(),
                resource: purchase.resource.without_query().to_owned(),
                facilitator: self.facilitators(*facilitator).name().to_owned(),
            },
        }
    }
}

/// Who will hold what was claimed.
struct Holder<'a> {
    shared: &'a Arc<Shared>,
    facilitator: FacilitatorId,
    version: Version,
    malleable: bool,
    payer: Option<String>,
    proven: bool,
    limits: PayerLimits,
}

impl Holder<'_> {
    fn answer(self, claimed: Claimed, request: FacilitatorRequest) -> Result<Admission, Refusal> {
        match claimed {
            Claimed::New(token) => {
                let permit = Permit {
                    shared: Arc::clone(self.shared),
                    token,
                    payer: self.payer,
                    facilitator: self.facilitator,
                    version: self.version,
                    request: Arc::new(request),
                    malleable: self.malleable,
                    proven: self.proven,
                    limits: self.limits,
                    verified_by: None,
                    handed_over: false,
                };
                // When it is settled the offer says; the caller puts it in.
                Ok(Admission::Paid(permit, SettleWhen::BeforeResponse))
            }
            Claimed::Owed { token, response } => {
                let delivery = Delivery::new(self.shared, token);
                let mut response = *response;
                response.payer = response.payer.or(self.payer);
                let receipt = Receipt { version: self.version, response, delivery };
                let requirements = request.requirements;
                Ok(Admission::Owed(Box::new(Owed { id: token.id, requirements, receipt })))
            }
            Claimed::Held { state, same_request, delivering } => {
                Err(refusal_of(state, same_request, delivering))
            }
            Claimed::IdentifierUsed => Err(Refusal::IdentifierUsed),
            Claimed::PayerLimit => Err(Refusal::PayerLimit),
        }
    }
}

fn refusal_of(state: PaymentState, same_request: bool, delivering: bool) -> Refusal {
    match state {
        PaymentState::Unresolved => Refusal::Unresolved,
        // Whoever lost the connection and comes back must not be asked to pay again.
        PaymentState::Claimed | PaymentState::Settling if same_request => Refusal::InUse,
        PaymentState::Settled if same_request && delivering => Refusal::InUse,
        PaymentState::Claimed
        | PaymentState::Settling
        | PaymentState::Settled
        | PaymentState::Delivered
        | PaymentState::Declined
        | PaymentState::Released => Refusal::AlreadyUsed,
    }
}
