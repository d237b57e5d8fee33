//! What the tests of this module share.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::Now;

/// Monotonic time that moves only when it is told to.
#[derive(Clone)]
pub(super) struct ManualTime(Arc<Mutex<Instant>>);

impl ManualTime {
    pub(super) fn start() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }

    pub(super) fn source(&self) -> Now {
        let time = Arc::clone(&self.0);
        Arc::new(move || *time.lock().unwrap())
    }
}
