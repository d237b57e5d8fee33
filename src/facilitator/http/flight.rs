//! Answers that are kept for a while, and asked for only once at a time.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use tokio::time::Instant;

use super::Now;

/// An answer and until when it counts.
#[derive(Debug, Clone)]
pub(super) struct Held<V> {
    pub(super) value: V,
    pub(super) until: Instant,
}

/// A bounded cache in which concurrent callers with the same key share one call, also when the
/// caller that began it goes away. An answer without a lifetime goes to those who waited for it and
/// to nobody else.
pub(super) struct SingleFlight<K, V>(Arc<Inner<K, V>>);

struct Inner<K, V> {
    kept: Cache<K, Held<V>>,
    /// Calls under way: at most one for each caller that waits, so callers' limits bound it.
    flights: Mutex<HashMap<K, Flight<V>>>,
    flight_number: AtomicU64,
    now: Now,
}

type Call<V> = BoxFuture<'static, Held<V>>;

/// The number tells a flight from a later one of the same key. Only callers keep the call alive.
struct Flight<V> {
    number: u64,
    call: WeakShared<Call<V>>,
}

impl<K, V> SingleFlight<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Keeps at most `capacity` answers, none for longer than `longest`.
    pub(super) fn new(capacity: u64, longest: Duration, now: Now) -> Self {
        let kept = Cache::builder()
            .max_capacity(capacity)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(longest)
            .build();
        let flights = Mutex::default();
        Self(Arc::new(Inner { kept, flights, flight_number: AtomicU64::new(0), now }))
    }

    /// The kept answer, or that of `call`, which also says how long the answer counts.
    pub(super) async fn get<F>(&self, key: K, call: F) -> Held<V>
    where
        F: Future<Output = (V, Duration)> + Send + 'static,
    {
        match self.0.fresh(&key).await {
            Some(held) => held,
            None => self.join(key, call).await,
        }
    }

    /// Forgets an answer.
    pub(super) async fn forget(&self, key: &K) {
        self.0.kept.invalidate(key).await;
    }

    fn join<F>(&self, key: K, call: F) -> Shared<Call<V>>
    where
        F: Future<Output = (V, Duration)> + Send + 'static,
    {
        let mut flights = self.0.flights();
        if let Some(shared) = flights.get(&key).and_then(|flight| flight.call.upgrade()) {
            return shared;
        }
        let number = self.0.flight_number.fetch_add(1, Ordering::Relaxed);
        let landing = Landing { inner: Arc::clone(&self.0), key: key.clone(), number };
        let shared = landing.after(call).boxed().shared();
        if let Some(call) = shared.downgrade() {
            flights.insert(key, Flight { number, call });
        }
        shared
    }
}

impl<K: Eq + Hash + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Inner<K, V> {
    async fn fresh(&self, key: &K) -> Option<Held<V>> {
        self.kept.get(key).await.filter(|held| (self.now)() < held.until)
    }
}

impl<K, V> Inner<K, V> {
    fn flights(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a flight off the list when it ends, in whatever way.
struct Landing<K: Eq + Hash, V> {
    inner: Arc<Inner<K, V>>,
    key: K,
    number: u64,
}

impl<K, V> Landing<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn after<F: Future<Output = (V, Duration)>>(self, call: F) -> Held<V> {
        // An earlier flight may have landed after this caller looked and before it took off.
        if let Some(held) = self.inner.fresh(&self.key).await {
            return held;
        }
        let (value, lifetime) = call.await;
        let held = Held { value, until: (self.inner.now)() + lifetime };
        if !lifetime.is_zero() {
            self.inner.kept.insert(self.key.clone(), held.clone()).await;
        }
        held
    }
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        let mut flights = self.inner.flights();
        if flights.get(&self.key).is_some_and(|flight| flight.number == self.number) {
            flights.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::ManualTime;
    use super::*;
    use futures_util::future::join_all;
    use std::sync::atomic::AtomicUsize;
    use tokio::sync::Semaphore;

    const KEPT: Duration = Duration::from_secs(10);

    fn flights(time: &ManualTime) -> SingleFlight<u8, usize> {
        SingleFlight::new(100, Duration::from_secs(3600), time.source())
    }

    /// A call that counts itself, waits for `gate`, and answers with its number.
    fn call(
        calls: &Arc<AtomicUsize>,
        gate: &Arc<Semaphore>,
        lifetime: Duration,
    ) -> impl Future<Output = (usize, Duration)> + Send + use<> {
        let (calls, gate) = (Arc::clone(calls), Arc::clone(gate));
        async move {
            let number = calls.fetch_add(1, Ordering::SeqCst) + 1;
            gate.acquire().await.unwrap().forget();
            (number, lifetime)
        }
    }

    #[tokio::test]
    async fn concurrent_callers_share_one_call_and_later_ones_its_answer_until_it_expires() {
        let time = ManualTime::start();
        let (flights, calls) = (flights(&time), Arc::default());
        let gate = Arc::new(Semaphore::new(0));
        let waiting = join_all((0..50).map(|_| flights.get(1, call(&calls, &gate, KEPT))));
        let (answers, ()) = tokio::join!(waiting, async { gate.add_permits(1) });
        assert!(answers.iter().all(|held| held.value == 1));
        time.advance(KEPT.saturating_sub(Duration::from_millis(1)));
        assert_eq!(flights.get(1, call(&calls, &gate, KEPT)).await.value, 1);
        gate.add_permits(1);
        time.advance(Duration::from_millis(1));
        assert_eq!(flights.get(1, call(&calls, &gate, KEPT)).await.value, 2);
    }

    #[tokio::test]
    async fn an_answer_without_lifetime_is_shared_by_those_who_waited_and_not_kept() {
        let time = ManualTime::start();
        let (flights, calls) = (flights(&time), Arc::default());
        let gate = Arc::new(Semaphore::new(0));
        let both = tokio::join!(
            flights.get(1, call(&calls, &gate, Duration::ZERO)),
            flights.get(1, call(&calls, &gate, Duration::ZERO)),
            async { gate.add_permits(2) }
        );
        assert_eq!((both.0.value, both.1.value), (1, 1));
        assert_eq!(flights.get(1, call(&calls, &gate, Duration::ZERO)).await.value, 2);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_does_not_end_the_call_for_the_others() {
        let time = ManualTime::start();
        let (flights, calls) = (flights(&time), Arc::default());
        let gate = Arc::new(Semaphore::new(0));
        let mut first = Box::pin(flights.get(1, call(&calls, &gate, KEPT)));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(flights.get(1, call(&calls, &gate, KEPT)));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        gate.add_permits(1);
        assert_eq!(second.await.value, 1);
        assert_eq!(calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_call_nobody_waits_for_ends_and_leaves_nothing_behind() {
        let time = ManualTime::start();
        let (flights, calls) = (flights(&time), Arc::default());
        let gate = Arc::new(Semaphore::new(0));
        let mut only = Box::pin(flights.get(1, call(&calls, &gate, KEPT)));
        assert!(futures_util::poll!(only.as_mut()).is_pending());
        drop(only);
        assert!(flights.0.flights().is_empty());
        gate.add_permits(1);
        assert_eq!(flights.get(1, call(&calls, &gate, KEPT)).await.value, 2);
        flights.forget(&1).await;
        gate.add_permits(1);
        assert_eq!(flights.get(1, call(&calls, &gate, KEPT)).await.value, 3);
    }
}
