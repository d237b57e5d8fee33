//! Quotes outlive the configuration they were made with, and the gateway that made them.
//!
//! A gateway puts up what it quotes as notices of the ledger: its price list, and what facilitators
//! advertised to it, before clients are told. It leaves them up while it runs. A payment that fits
//! nothing this gateway quotes itself is looked up in what others put up.
//!
//! Who quotes last leaves its notices up for as long as its longest quote is valid, and
//! [`SPARE_SECONDS`] more.

mod heard;
mod notice;

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use alloy_primitives::B256;
use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use self::heard::Heard;
use self::notice::{Advertised, Posting};
use super::gate::{RETRY_SOON, Shared};
use super::offers::Rotating;
use super::refusal::Refusal;
use crate::ledger::{LedgerError, Notice};
use crate::policy::{FacilitatorId, PriceList};

/// Time between two times that what is quoted is left up for longer.
const LEAVE_UP_EVERY: Duration = Duration::from_secs(20);
/// Until it is tried again, when the ledger was away.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// How long notices stay up beyond the longest quote: for the time since they were last left up, for
/// attempts that failed, and for clients that take their time to sign.
const SPARE_SECONDS: u64 = 80;
/// Quotes that are valid for longer are honoured for no more than thirty days.
const LONGEST_SECONDS: u64 = 30 * 24 * 3600;
/// Times that notices are looked at until all are up; another gateway may take down what ran out.
const LOOKS: usize = 3;
/// Bytes of notices that are put up in one go.
const PUT_UP_BYTES: usize = 512 * 1024;

/// Time between two times that notices are read, on average.
const READ_EVERY: Duration = Duration::from_secs(1);
/// How many times they may be read without waiting, after a while without any.
const READS_AT_ONCE: u32 = 8;
/// Payments that wait until notices are read.
const WAITING_MAX: usize = 512;

/// What this gateway quotes for others to know, and what it knows of their quotes.
pub(super) struct Quotes {
    listing: OnceLock<Listing>,
    advertised: Mutex<HashMap<FacilitatorId, Vec<Rotating>>>,
    /// There is something to be put up.
    news: Notify,
    heard: ArcSwap<Heard>,
    last_read: tokio::sync::Mutex<Option<LastRead>>,
    waiting: Arc<Semaphore>,
}

/// The price list of this gateway, without its text.
struct Listing {
    /// Keys of its notices; none when it is not put up.
    keys: Vec<B256>,
    /// How long notices stay up; `None`: nothing is quoted.
    lifetime: Option<Duration>,
}

struct LastRead {
    began: Instant,
    /// `None`: it was broken off.
    outcome: Option<Result<(), LedgerError>>,
    /// When as many reads would have been due as there were.
    due: Instant,
}

impl Default for Quotes {
    fn default() -> Self {
        Self {
            listing: OnceLock::new(),
            advertised: Mutex::default(),
            news: Notify::new(),
            heard: ArcSwap::default(),
            last_read: tokio::sync::Mutex::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }
}

impl Quotes {
    /// What other gateways are known to quote.
    pub(super) fn heard(&self) -> Arc<Heard> {
        self.heard.load_full()
    }

    /// Takes note of what a facilitator advertised and will be quoted; whether others should know more
    /// than before.
    pub(super) fn will_quote(&self, facilitator: FacilitatorId, rotating: Vec<Rotating>) -> bool {
        let mut advertised = self.advertised.lock().unwrap_or_else(PoisonError::into_inner);
        let before = advertised.get(&facilitator).map(Vec::as_slice).unwrap_or_default();
        let is_more = rotating.iter().any(|value| !before.contains(value));
        advertised.insert(facilitator, rotating);
        is_more
    }

    /// Has what is not up yet put up soon.
    pub(super) fn hurry(&self) {
        self.news.notify_one();
    }
}

impl Shared {
    /// Leaves up what this gate quotes until another takes its place.
    pub(super) async fn keep_quotes_up(&self) {
        let mut failing = false;
        while !self.retired.load(Ordering::Acquire) {
            let done = self.put_quotes_up().await;
            if let Err(error) = &done
                && !failing
            {
                tracing::warn!(%error, "other gateways cannot be told at present what this one quotes");
            }
            failing = done.is_err();
            let wait = if failing { TRY_AGAIN } else { LEAVE_UP_EVERY };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.quotes.news.notified(), if !failing => {}
            }
        }
    }

    /// Leaves up what this gateway quotes, and puts up what of it is not there.
    pub(super) async fn put_quotes_up(&self) -> Result<(), LedgerError> {
        let Some(lifetime) = self.listing().lifetime else { return Ok(()) };
        for _ in 0..LOOKS {
            let keys = self.quoted_keys();
            let missing = self.ledger.leave_up(&keys, lifetime, self.clock.now()).await?;
            if missing.is_empty() {
                return Ok(());
            }
            let missing: HashSet<B256> = missing.into_iter().collect();
            let mut notices = self.quoted_notices(&missing);
            while !notices.is_empty() {
                let some: Vec<Notice> = notices.drain(..batch_of(&notices)).collect();
                self.ledger.put_up(&some, lifetime, self.clock.now()).await?;
            }
        }
        Ok(())
    }

    /// Reads what is up, unless somebody began to do so after `came`, and only every so often: junk may
    /// wait, but costs the ledger no more. Where there are no other gateways, it is read once.
    pub(super) async fn hear_quotes(self: &Arc<Self>, came: Instant) -> Result<(), Refusal> {
        let unavailable =
            |cause: &str| Refusal::Unavailable { cause: cause.to_owned(), retry_after: RETRY_SOON };
        let Ok(place) = Arc::clone(&self.quotes.waiting).try_acquire_owned() else {
            return Err(unavailable("too many payments are for what this gateway does not quote"));
        };
        // In a task of its own, so that what was begun for one client serves all, whoever leaves.
        let shared = Arc::clone(self);
        let task = self.runtime.spawn(async move {
            let outcome = shared.read_after(came).await;
            drop(place);
            outcome
        });
        let outcome = task.await.map_err(|_| unavailable("what others quote could not be read"))?;
        outcome.map_err(Refusal::from)
    }

    async fn read_after(&self, came: Instant) -> Result<(), LedgerError> {
        let mut last = self.quotes.last_read.lock().await;
        if let Some(LastRead { began, outcome: Some(outcome), .. }) = &*last
            && (*began > came || (outcome.is_ok() && !self.ledger.is_shared()))
        {
            return outcome.clone();
        }
        let now = Instant::now();
        let due = last.as_ref().map_or(now, |last| last.due.max(now));
        tokio::time::sleep(due.duration_since(now).saturating_sub(READ_EVERY * READS_AT_ONCE)).await;
        let (began, due) = (Instant::now(), due + READ_EVERY);
        *last = Some(LastRead { began, outcome: None, due });
        let outcome = self.read_notices(began).await;
        *last = Some(LastRead { began, outcome: Some(outcome.clone()), due });
        outcome
    }

    fn listing(&self) -> &Listing {
        self.quotes.listing.get_or_init(|| {
            let seconds = self.offers.routes().longest_quote_seconds();
            let lifetime =
                seconds.map(|seconds| Duration::from_secs(seconds.min(LONGEST_SECONDS) + SPARE_SECONDS));
            let notices = lifetime.and_then(|_| self.listing_notices()).unwrap_or_default();
            if lifetime.is_some() && notices.is_empty() {
                tracing::warn!("the price list is too long to be put up: quotes end with this configuration");
            }
            Listing { keys: notices.iter().map(|notice| notice.key).collect(), lifetime }
        })
    }

    fn listing_notices(&self) -> Option<Vec<Notice>> {
        let names: Vec<&str> = self.facilitators.iter().map(|facilitator| facilitator.name()).collect();
        notice::notices_of(&PriceList::write(self.offers.routes(), self.offers.public_url(), &names))
    }

    /// Keys of all that this gateway quotes.
    fn quoted_keys(&self) -> Vec<B256> {
        let advertised = self.advertised_notices();
        self.listing().keys.iter().copied().chain(advertised.iter().map(|notice| notice.key)).collect()
    }

    /// The notices of all that this gateway quotes that have these keys; parts of the price list come
    /// before the notice that names them.
    fn quoted_notices(&self, keys: &HashSet<B256>) -> Vec<Notice> {
        let is_listing = self.listing().keys.iter().any(|key| keys.contains(key));
        // The text is made again for the rare time that it is needed; it may be long.
        let listing = if is_listing { self.listing_notices().unwrap_or_default() } else { Vec::new() };
        let all = listing.into_iter().chain(self.advertised_notices());
        all.filter(|notice| keys.contains(&notice.key)).collect()
    }

    fn advertised_notices(&self) -> Vec<Notice> {
        let advertised = self.quotes.advertised.lock().unwrap_or_else(PoisonError::into_inner);
        let notices = advertised.iter().flat_map(|(facilitator, values)| {
            let name = self.facilitators(*facilitator).name();
            values.iter().map(move |value| Posting::Advertised(Advertised::by(name, value)).notice())
        });
        notices.collect()
    }
}

/// How many of these notices are put up in one go, at least one.
fn batch_of(notices: &[Notice]) -> usize {
    let mut bytes = 0;
    let fits = |notice: &&Notice| {
        bytes += notice.text.len();
        bytes <= PUT_UP_BYTES
    };
    notices.iter().take_while(fits).count().max(1)
}
