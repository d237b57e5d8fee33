//! Several facilitators that stand in for each other, without ever settling one payment twice.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use serde_json::Value;

use super::{Facilitator, SettleOutcome, TARGET, Unavailable, body_digest};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Supported, VerifyResponse};

/// Payments whose facilitator is remembered.
const OWNERS_MAX: u64 = 100_000;
/// For how long: longer than payments stay valid.
const OWNER_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Members of `extra` that name an account of the facilitator: a payment made out for one
/// facilitator's account cannot be settled by another.
const OWN_ACCOUNTS: [&str; 3] = ["feePayer", "facilitatorAddress", "receiverAuthorizer"];
/// When to try again, if no facilitator says.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Facilitators in order of preference.
///
/// Verification moves on to the next when one gives no answer. Settlement goes to the one that
/// verified the payment, and moves on only while the request provably reached nobody.
pub struct Failover {
    name: String,
    members: Vec<Arc<dyn Facilitator>>,
    ownerships: Cache<[u8; 32], Arc<Ownership>>,
    merged: Mutex<Option<Merged>>,
}

/// Whom a payment belongs to.
#[derive(Default)]
struct Ownership {
    owner: Mutex<Option<Owner>>,
    /// Held while a settlement is under way: a second one of the same payment waits, and then knows
    /// what came of the first.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Owner {
    member: usize,
    /// It was asked to settle, and has not said no: nobody else may be asked any more.
    bound: bool,
}

impl Ownership {
    fn get(&self) -> Option<Owner> {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, owner: Option<Owner>) {
        *self.owner.lock().unwrap_or_else(PoisonError::into_inner) = owner;
    }

    /// Unless a settlement began meanwhile.
    fn verified_by(&self, member: usize) {
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        if !owner.is_some_and(|owner| owner.bound) {
            *owner = Some(Owner { member, bound: false });
        }
    }
}

type Listings = Vec<Result<Arc<Supported>, Unavailable>>;

/// The last merged list, and what it was made of.
struct Merged {
    parts: Vec<Option<Arc<Supported>>>,
    whole: Arc<Supported>,
}

impl Failover {
    /// Groups facilitators. Without any, every call is answered with [`Unavailable`].
    #[must_use]
    pub fn new(members: Vec<Arc<dyn Facilitator>>) -> Self {
        let names: Vec<&str> = members.iter().map(|member| member.name()).collect();
        let ownerships = Cache::builder()
            .max_capacity(OWNERS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(OWNER_LIFETIME)
            .build();
        Self { name: names.join("+"), members, ownerships, merged: Mutex::default() }
    }

    /// Like [`Self::new`], but a group of one is just that one.
    #[must_use]
    pub fn group(mut members: Vec<Arc<dyn Facilitator>>) -> Arc<dyn Facilitator> {
        match members.pop() {
            Some(only) if members.is_empty() => only,
            last => {
                members.extend(last);
                Arc::new(Self::new(members))
            }
        }
    }

    async fn listings(&self) -> Listings {
        join_all(self.members.iter().map(|member| member.supported())).await
    }

    /// Members that may serve a request, in order.
    async fn candidates(&self, request: &FacilitatorRequest) -> Result<Vec<usize>, Unavailable> {
        let listings = self.listings().await;
        let lists = |index: &usize| match &listings[*index] {
            Ok(list) => list.kind(request.version, &request.scheme, &request.network).is_some(),
            Err(_) => true,
        };
        let fits = |index: &usize| match &listings[*index] {
            Ok(list) => owns_accounts(list, request),
            Err(_) => true,
        };
        let all: Vec<usize> = (0..self.members.len()).filter(lists).collect();
        if all.is_empty() {
            let cause = format!("none supports {} on {}", request.scheme, request.network);
            return Err(self.unavailable(cause, RETRY_AFTER));
        }
        // Facilitators rotate their accounts. If nobody knows one any more, order decides again.
        let fitting: Vec<usize> = all.iter().copied().filter(fits).collect();
        Ok(if fitting.is_empty() { all } else { fitting })
    }

    async fn ownership(&self, request: &FacilitatorRequest) -> Arc<Ownership> {
        self.ownerships.get_with(body_digest(request), async { Arc::default() }).await
    }

    /// Settles a payment that nobody was asked to settle yet, or that reached nobody. The members
    /// after the owner are only looked up when they are needed.
    async fn settle_in_order(&self, request: &FacilitatorRequest, ownership: &Ownership) -> SettleOutcome {
        let owner = ownership.get().map(|owner| owner.member);
        let mut failures = Vec::new();
        if let Some(member) = owner {
            match self.settle_at(member, request, ownership).await {
                SettleOutcome::Unreachable(unavailable) => failures.push(unavailable),
                outcome => return outcome,
            }
        }
        let candidates = match self.candidates(request).await {
            Ok(candidates) => candidates,
            Err(unavailable) => return SettleOutcome::Unreachable(unavailable),
        };
        for member in candidates.into_iter().filter(|member| Some(*member) != owner) {
            match self.settle_at(member, request, ownership).await {
                SettleOutcome::Unreachable(unavailable) => failures.push(unavailable),
                outcome => return outcome,
            }
        }
        SettleOutcome::Unreachable(self.all_failed(&failures))
    }

    async fn settle_at(
        &self,
        member: usize,
        request: &FacilitatorRequest,
        ownership: &Ownership,
    ) -> SettleOutcome {
        // Bound first: should this call never return, nobody else may be asked either.
        ownership.set(Some(Owner { member, bound: true }));
        let outcome = self.members[member].settle(request).await;
        match &outcome {
            SettleOutcome::Settled(_) | SettleOutcome::Pending(_) | SettleOutcome::AnswerLost(_) => {}
            SettleOutcome::Declined(_) => ownership.set(None),
            SettleOutcome::Unreachable(unavailable) => {
                ownership.set(Some(Owner { member, bound: false }));
                self.log_moving_on("settle", unavailable);
            }
        }
        outcome
    }

    fn merge(&self, parts: Vec<Option<Arc<Supported>>>) -> Arc<Supported> {
        let mut merged = self.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = merged.as_ref().filter(|last| is_same(&last.parts, &parts)) {
            return Arc::clone(&last.whole);
        }
        let lists: Vec<&Supported> = parts.iter().flatten().map(Arc::as_ref).collect();
        let whole = Arc::new(merge(&lists));
        *merged = Some(Merged { whole: Arc::clone(&whole), parts });
        whole
    }

    fn log_moving_on(&self, call: &str, unavailable: &Unavailable) {
        tracing::warn!(
            target: TARGET,
            group = self.name,
            facilitator = unavailable.facilitator,
            call,
            cause = unavailable.cause,
            "not available, the next in the group is asked"
        );
    }

    fn all_failed(&self, failures: &[Unavailable]) -> Unavailable {
        let causes: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.facilitator, failure.cause)).collect();
        let retry_after = failures.iter().map(|failure| failure.retry_after).min().unwrap_or(RETRY_AFTER);
        self.unavailable(causes.join("; "), retry_after)
    }

    fn unavailable(&self, cause: String, retry_after: Duration) -> Unavailable {
        Unavailable { facilitator: self.name.clone(), cause, retry_after }
    }
}

#[async_trait]
impl Facilitator for Failover {
    fn name(&self) -> &str {
        &self.name
    }

    /// What any of them supports; a kind belongs to the first that lists it. Members whose list is
    /// not known are left out, as long as one is.
    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        let listings = self.listings().await;
        if listings.iter().any(Result::is_ok) {
            return Ok(self.merge(listings.into_iter().map(Result::ok).collect()));
        }
        let failures: Vec<Unavailable> = listings.into_iter().filter_map(Result::err).collect();
        Err(self.all_failed(&failures))
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        let ownership = self.ownerships.get(&body_digest(request)).await;
        if let Some(Owner { member, bound: true }) = ownership.and_then(|ownership| ownership.get()) {
            return self.members[member].verify(request).await;
        }
        let mut failures = Vec::new();
        for member in self.candidates(request).await? {
            match self.members[member].verify(request).await {
                Ok(verdict) => {
                    if matches!(verdict, VerifyResponse::Valid { .. }) {
                        self.ownership(request).await.verified_by(member);
                    }
                    return Ok(verdict);
                }
                Err(unavailable) => {
                    self.log_moving_on("verify", &unavailable);
                    failures.push(unavailable);
                }
            }
        }
        Err(self.all_failed(&failures))
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        let ownership = self.ownership(request).await;
        let _turn = ownership.turn.lock().await;
        let Some(Owner { member, bound: true }) = ownership.get() else {
            return self.settle_in_order(request, &ownership).await;
        };
        // Asked before, and the outcome is open: only the same facilitator can tell, and that it
        // cannot be reached now says nothing about then.
        let outcome = self.members[member].settle(request).await;
        if matches!(outcome, SettleOutcome::Declined(_)) {
            ownership.set(None);
        }
        outcome
    }
}

fn is_same(one: &[Option<Arc<Supported>>], other: &[Option<Arc<Supported>>]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        })
}

fn merge(lists: &[&Supported]) -> Supported {
    let mut whole = Supported::default();
    for list in lists {
        let new: Vec<_> = list
            .kinds
            .iter()
            .filter(|kind| whole.kind(kind.version, &kind.scheme, &kind.network).is_none())
            .cloned()
            .collect();
        whole.kinds.extend(new);
        for (pattern, accounts) in &list.signers {
            let known = whole.signers.entry(pattern.clone()).or_insert_with(|| Value::Array(Vec::new()));
            if let (Some(known), Some(accounts)) = (known.as_array_mut(), accounts.as_array()) {
                let new: Vec<Value> =
                    accounts.iter().filter(|account| !known.contains(account)).cloned().collect();
                known.extend(new);
            }
        }
    }
    // An extension is only promised when whoever serves the payment can keep the promise.
    if let Some((first, others)) = lists.split_first() {
        let everywhere = |key: &&String| others.iter().all(|list| list.extensions.contains(key));
        whole.extensions = first.extensions.iter().filter(everywhere).cloned().collect();
    }
    whole
}

/// Whether the accounts a payment was made out for are this facilitator's own.
fn owns_accounts(list: &Supported, request: &FacilitatorRequest) -> bool {
    let Some(kind) = list.kind(request.version, &request.scheme, &request.network) else { return false };
    OWN_ACCOUNTS.iter().all(|member| {
        let Some(asked) = request.requirements.extra.get(*member).and_then(Value::as_str) else {
            return true;
        };
        let is_asked = |account: &Value| account.as_str().is_some_and(|own| same_account(own, asked));
        let is_signer = |accounts: &Value| accounts.as_array().is_some_and(|list| list.iter().any(is_asked));
        kind.extra.get(*member).is_some_and(is_asked) || list.signers.values().any(is_signer)
    })
}

/// Hex addresses have no letter case; others do.
fn same_account(one: &str, other: &str) -> bool {
    one == other || (one.starts_with("0x") && one.eq_ignore_ascii_case(other))
}

#[cfg(test)]
#[path = "failover_tests.rs"]
mod tests;
