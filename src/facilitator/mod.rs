//! Who verifies and settles payments: the contract; its implementations are the siblings.
//!
//! The contract separates *told no* from *answer lost*, because only the first makes it safe to
//! give a payment back to its payer.

pub mod cdp;
#[cfg(test)]
pub(crate) mod contract;
mod failover;
#[cfg(test)]
pub(crate) mod fake;
mod http;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{SettleResponse, Supported, VerifyResponse};

pub use failover::Failover;
pub use http::HttpFacilitator;

use settings::FacilitatorSettings;

/// Target of every log event of this module.
const TARGET: &str = "tollgate::facilitator";

/// Why a facilitator gave no usable answer to a question that changes nothing (`/verify`,
/// `/supported`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("facilitator {facilitator}: {cause}")]
pub struct Unavailable {
    /// Name of the facilitator.
    pub facilitator: String,
    /// What happened, for the operator; never shown to clients.
    pub cause: String,
    /// When it may be worth trying again.
    pub retry_after: Duration,
}

/// What came of a settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettleOutcome {
    /// `success: true`: the money moved.
    Settled(SettleResponse),
    /// `success: false`, told in so many words: the money did not move and will not.
    Declined(SettleResponse),
    /// `settlement_pending` with a transaction: sent, outcome not known yet.
    Pending(SettleResponse),
    /// The request provably never left the gateway: nothing can have happened.
    Unreachable(Unavailable),
    /// Sent, and no answer that can be believed came back: the money may have moved.
    AnswerLost(Unavailable),
}

/// A facilitator.
///
/// Promises every implementation keeps: each call ends within its deadline; an answer that cannot
/// be understood is an error, never a yes; [`SettleOutcome::Unreachable`] and
/// [`SettleOutcome::Declined`] are only given when the payment cannot have been settled by the call.
#[async_trait]
pub trait Facilitator: Send + Sync {
    /// Name in the configuration, for logs and metrics.
    fn name(&self) -> &str;

    /// What it settles.
    ///
    /// # Errors
    /// [`Unavailable`] when it is not known; an answer may be a cached one.
    async fn supported(&self) -> Result<Arc<Supported>, Unavailable>;

    /// Asks whether a payment could be settled. Changes nothing.
    ///
    /// # Errors
    /// [`Unavailable`] when there is no answer that can be believed.
    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable>;

    /// Settles a payment.
    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome;
}

/// Tries of [`supported_at_start`].
const START_TRIES: u32 = 3;
/// The longest pause between them.
const START_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Asks what a facilitator supports with some patience, for the start of the gateway: three tries,
/// pausing as the facilitator asks for (`Retry-After`), at most half a minute each time.
///
/// # Errors
/// [`Unavailable`] after the last try; requests ask again.
pub async fn supported_at_start(facilitator: &dyn Facilitator) -> Result<Arc<Supported>, Unavailable> {
    let mut tries = 1;
    loop {
        match facilitator.supported().await {
            Err(unavailable) if tries < START_TRIES => {
                tracing::warn!(
                    target: TARGET,
                    facilitator = facilitator.name(),
                    cause = unavailable.cause,
                    "does not say what it supports, will be asked again"
                );
                tokio::time::sleep(unavailable.retry_after.min(START_PAUSE_MAX)).await;
                tries += 1;
            }
            result => return result,
        }
    }
}

/// Builds every group of facilitators of a configuration, in order. A facilitator that is in several
/// groups is the same one in all of them. `groups` holds indexes into `settings`.
///
/// # Errors
/// Settings that cannot be used, or an index out of range.
pub fn build(
    settings: &[FacilitatorSettings],
    groups: &[Vec<usize>],
    sandbox: &Arc<dyn Facilitator>,
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Arc<dyn Facilitator>>, String> {
    let single = |settings: &FacilitatorSettings| -> Result<Arc<dyn Facilitator>, String> {
        match settings {
            FacilitatorSettings::Sandbox => Ok(Arc::clone(sandbox)),
            FacilitatorSettings::Http(http) => {
                Ok(Arc::new(HttpFacilitator::new(http.clone(), Arc::clone(clock))?))
            }
        }
    };
    let singles = settings.iter().map(single).collect::<Result<Vec<_>, _>>()?;
    let member = |index: &usize| singles.get(*index).cloned().ok_or("no such facilitator");
    let group = |group: &Vec<usize>| group.iter().map(member).collect::<Result<Vec<_>, _>>();
    groups.iter().map(|members| Ok(Failover::group(group(members)?))).collect()
}

/// Identity of a request: SHA-256 of what is sent.
fn body_digest(request: &FacilitatorRequest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, &request.body).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::settings::{Auth, HttpSettings};
    use super::*;
    use crate::clock::SystemClock;

    fn http(name: &str, url: &str) -> FacilitatorSettings {
        FacilitatorSettings::Http(HttpSettings {
            name: name.into(),
            url: url.into(),
            auth: Auth::None,
            ca_file: None,
            verify_timeout: Duration::from_secs(5),
            settle_timeout: Duration::from_secs(5),
            supported_ttl: Duration::from_secs(5),
        })
    }

    fn built(
        settings: &[FacilitatorSettings],
        groups: &[Vec<usize>],
    ) -> Result<Vec<Arc<dyn Facilitator>>, String> {
        let sandbox: Arc<dyn Facilitator> = Arc::new(Failover::new(Vec::new()));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        build(settings, groups, &sandbox, &clock)
    }

    #[test]
    fn a_facilitator_in_several_groups_is_one_facilitator() {
        let settings =
            [http("a", "http://127.0.0.1"), FacilitatorSettings::Sandbox, http("b", "http://[::1]/x")];
        let groups = built(&settings, &[vec![0], vec![2, 0], vec![0], vec![1]]).unwrap();
        let names: Vec<&str> = groups.iter().map(|group| group.name()).collect();
        assert_eq!(names, ["a", "b+a", "a", ""]);
        assert!(Arc::ptr_eq(&groups[0], &groups[2]));
    }

    #[test]
    fn what_cannot_be_built_is_an_error() {
        assert!(built(&[http("a", "ftp://127.0.0.1")], &[vec![0]]).is_err());
        assert!(built(&[FacilitatorSettings::Sandbox], &[vec![1]]).is_err());
    }
}
