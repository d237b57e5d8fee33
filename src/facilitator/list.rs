//! Facilitators that stand in for each other. A list can say who would settle a payment; to settle
//! one, a single facilitator is asked, by whoever has written down that it is this one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;

use super::{Facilitator, TARGET, Unavailable};
use crate::x402::types::FacilitatorRequest;
use crate::x402::{Supported, VerifyResponse};

/// Members of `extra` that name an account of the facilitator: a payment made out for one
/// facilitator's account cannot be settled by another.
const OWN_ACCOUNTS: [&str; 3] = ["feePayer", "facilitatorAddress", "receiverAuthorizer"];
/// When to try again, if no facilitator says.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// One or more facilitators in order of preference.
///
/// Verification moves on to the next when one gives no answer. A list cannot be asked to settle: whose
/// turn that is, [`turns`](Self::turns) tells, and who is asked must be remembered first.
pub struct FacilitatorList {
    name: String,
    members: Vec<Arc<dyn Facilitator>>,
    merged: Mutex<Option<Merged>>,
}

/// What verification found.
pub struct Verified {
    /// The answer.
    pub verdict: VerifyResponse,
    /// Whose answer it is.
    pub by: Arc<dyn Facilitator>,
}

/// Whose turn it is to settle one payment: first who verified it, then the others in order. A turn may
/// be taken when every one before it provably reached nobody.
pub struct Turns<'a> {
    list: &'a FacilitatorList,
    request: &'a FacilitatorRequest,
    verified_by: Option<Arc<dyn Facilitator>>,
    begun: bool,
    /// Those after who verified it, looked up when they are needed.
    others: Option<std::vec::IntoIter<Arc<dyn Facilitator>>>,
    failures: Vec<Unavailable>,
}

type Listings = Vec<Result<Arc<Supported>, Unavailable>>;

/// The last merged list, and what it was made of.
struct Merged {
    parts: Vec<Option<Arc<Supported>>>,
    whole: Arc<Supported>,
}

impl FacilitatorList {
    /// A list of these. Without any, every call is answered with [`Unavailable`].
    #[must_use]
    pub fn new(members: Vec<Arc<dyn Facilitator>>) -> Self {
        let names: Vec<&str> = members.iter().map(|member| member.name()).collect();
        Self { name: names.join("+"), members, merged: Mutex::default() }
    }

    /// The names of its members, joined by `+`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What any of them supports; a kind belongs to the first that lists it. Members whose list is
    /// not known are left out, as long as one is.
    ///
    /// # Errors
    /// [`Unavailable`] when no member's list is known.
    pub async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        if let [only] = self.members.as_slice() {
            return only.supported().await;
        }
        let listings = self.listings().await;
        if listings.iter().any(Result::is_ok) {
            return Ok(self.merge(listings.into_iter().map(Result::ok).collect()));
        }
        Err(self.all_failed(listings.into_iter().filter_map(Result::err).collect()))
    }

    /// Asks whether a payment could be settled: the first, and the next when one gives no answer.
    ///
    /// # Errors
    /// [`Unavailable`] when none gives an answer that can be believed.
    pub async fn verify(&self, request: &FacilitatorRequest) -> Result<Verified, Unavailable> {
        let mut failures = Vec::new();
        for by in self.candidates(request).await? {
            match by.verify(request).await {
                Ok(verdict) => return Ok(Verified { verdict, by }),
                Err(unavailable) => {
                    self.log_moving_on("verify", &unavailable);
                    failures.push(unavailable);
                }
            }
        }
        Err(self.all_failed(failures))
    }

    /// Who is to settle a payment, one after the other.
    #[must_use]
    pub fn turns<'a>(
        &'a self,
        request: &'a FacilitatorRequest,
        verified_by: Option<Arc<dyn Facilitator>>,
    ) -> Turns<'a> {
        Turns { list: self, request, verified_by, begun: false, others: None, failures: Vec::new() }
    }

    async fn listings(&self) -> Listings {
        join_all(self.members.iter().map(|member| member.supported())).await
    }

    /// Members that may serve a request, in order.
    async fn candidates(
        &self,
        request: &FacilitatorRequest,
    ) -> Result<Vec<Arc<dyn Facilitator>>, Unavailable> {
        if self.members.len() == 1 {
            return Ok(self.members.clone());
        }
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
        let chosen = if fitting.is_empty() { all } else { fitting };
        Ok(chosen.into_iter().map(|index| Arc::clone(&self.members[index])).collect())
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
        if self.members.len() > 1 {
            tracing::warn!(
                target: TARGET,
                list = self.name,
                facilitator = unavailable.facilitator,
                call,
                cause = unavailable.cause,
                "not available, the next in the list is asked"
            );
        }
    }

    fn all_failed(&self, mut failures: Vec<Unavailable>) -> Unavailable {
        match failures.pop() {
            Some(only) if failures.is_empty() => return only,
            last => failures.extend(last),
        }
        let causes: Vec<String> =
            failures.iter().map(|failure| format!("{}: {}", failure.facilitator, failure.cause)).collect();
        let retry_after = failures.iter().map(|failure| failure.retry_after).min().unwrap_or(RETRY_AFTER);
        self.unavailable(causes.join("; "), retry_after)
    }

    fn unavailable(&self, cause: String, retry_after: Duration) -> Unavailable {
        Unavailable { facilitator: self.name.clone(), cause, retry_after }
    }
}

impl Turns<'_> {
    /// Whose turn it is now; `None`: there is nobody left.
    pub async fn next(&mut self) -> Option<Arc<dyn Facilitator>> {
        let begun = std::mem::replace(&mut self.begun, true);
        if let Some(first) = self.verified_by.as_ref().filter(|_| !begun) {
            return Some(Arc::clone(first));
        }
        if self.others.is_none() {
            let mut others = match self.list.candidates(self.request).await {
                Ok(candidates) => candidates,
                Err(unavailable) => {
                    self.failures.push(unavailable);
                    Vec::new()
                }
            };
            others.retain(|other| self.verified_by.as_ref().is_none_or(|first| !Arc::ptr_eq(first, other)));
            self.others = Some(others.into_iter());
        }
        self.others.as_mut()?.next()
    }

    /// Takes note that whose turn it was provably was not reached.
    pub fn not_reached(&mut self, unavailable: Unavailable) {
        self.list.log_moving_on("settle", &unavailable);
        self.failures.push(unavailable);
    }

    /// Why nobody was reached.
    #[must_use]
    pub fn nobody_reached(self) -> Unavailable {
        self.list.all_failed(self.failures)
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
#[path = "list_tests.rs"]
mod tests;
