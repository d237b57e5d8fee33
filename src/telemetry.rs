//! What operators see: the log's set-up, and the metrics with their label sets.
//!
//! Labels are bounded: route names come from the configuration, everything else from enums in the
//! code. Nothing a client sends becomes a label.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Outcome {
    /// Forwarded unpaid.
    #[default]
    Free,
    /// A CORS preflight, passed on unpaid.
    Preflight,
    /// Challenged: no payment came.
    Challenged,
    /// Paid for and delivered.
    Paid,
    /// Delivered for a payment that was settled before.
    Redelivered,
    /// Admitted for a payment, and not charged because the origin did not succeed.
    NotCharged,
    /// The payment was refused.
    PaymentRefused,
    /// The payment is in use for the same request.
    InUse,
    /// Settlement was asked for and its outcome is not known.
    Unresolved,
    /// Nobody could verify or settle.
    Unavailable,
    /// The route is closed.
    Denied,
    /// The request could not be understood.
    BadRequest,
    /// The origin could not be reached or broke off.
    UpstreamFailed,
    /// The client left before the answer was complete.
    ClientLeft,
}

impl Outcome {
    /// Label and log text.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Preflight => "preflight",
            Self::Challenged => "challenged",
            Self::Paid => "paid",
            Self::Redelivered => "redelivered",
            Self::NotCharged => "not_charged",
            Self::PaymentRefused => "payment_refused",
            Self::InUse => "in_use",
            Self::Unresolved => "unresolved",
            Self::Unavailable => "unavailable",
            Self::Denied => "denied",
            Self::BadRequest => "bad_request",
            Self::UpstreamFailed => "upstream_failed",
            Self::ClientLeft => "client_left",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

/// What would have become of a request in shadow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ShadowOutcome {
    /// It would have been challenged: no payment came.
    Challenged,
    /// A payment came, and would have been looked at.
    Paid,
    /// The route would have been closed.
    Denied,
    /// It would not have been understood.
    BadRequest,
}

impl ShadowOutcome {
    /// Label and log text.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::Paid => "paid",
            Self::Denied => "denied",
            Self::BadRequest => "bad_request",
        }
    }
}

impl EncodeLabelValue for ShadowOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.label(), encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ShadowLabels {
    route: Arc<str>,
    would: ShadowOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: Arc<str>,
    outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RevenueLabels {
    route: Arc<str>,
    network: String,
    asset: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    facilitator: String,
    call: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FacilitatorLabels {
    facilitator: String,
}

/// Every metric of the gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histogram,
    revenue: Family<RevenueLabels, Counter<f64, AtomicU64>>,
    calls: Family<CallLabels, Histogram>,
    gas: Family<FacilitatorLabels, Gauge<f64, AtomicU64>>,
    in_flight: Gauge,
    settling: Gauge,
    claims: Family<Vec<(&'static str, &'static str)>, Gauge>,
    oldest_unresolved: Gauge,
    reloads: Reloads,
    shadow: Family<ShadowLabels, Counter>,
}

/// What becomes of the configuration when it changes.
#[derive(Debug, Default)]
struct Reloads {
    ended: Family<Vec<(&'static str, &'static str)>, Counter>,
    is_current: Gauge,
    loaded_at: Gauge,
}

impl Reloads {
    fn registered(registry: &mut Registry) -> Self {
        let Self { ended, is_current, loaded_at } = Self::default();
        registry.register("config_reloads", "Times the configuration was read again", ended.clone());
        registry.register(
            "config_last_reload_successful",
            "1: the gateway runs on the configuration as it is; 0: what was read last was refused",
            is_current.clone(),
        );
        registry.register_with_unit(
            "config_last_reload_success_timestamp",
            "When the configuration was read that the gateway runs on, since 1970",
            Unit::Seconds,
            loaded_at.clone(),
        );
        Self { ended, is_current, loaded_at }
    }
}

fn call_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 17))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tollgate");
        let requests = Family::default();
        let request_seconds = Histogram::new(exponential_buckets(0.0005, 2.0, 17));
        let revenue = Family::default();
        let calls = Family::<CallLabels, Histogram>::new_with_constructor(call_histogram);
        let (in_flight, settling, claims) = (Gauge::default(), Gauge::default(), Family::default());
        let oldest_unresolved = Gauge::default();
        registry.register("requests", "Requests by route and outcome", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            request_seconds.clone(),
        );
        registry.register(
            "revenue_atomic_units",
            "Amounts settled, in atomic units of the asset",
            revenue.clone(),
        );
        registry.register_with_unit(
            "facilitator_call_duration",
            "Calls to facilitators",
            Unit::Seconds,
            calls.clone(),
        );
        let gas = Family::default();
        registry.register(
            "gas_balance",
            "What own settlement has left for gas, in the network's coin",
            gas.clone(),
        );
        registry.register("requests_in_flight", "Requests being answered", in_flight.clone());
        registry.register(
            "settlements_in_flight",
            "Settlements and steps of the ledger under way",
            settling.clone(),
        );
        registry.register("payments_held", "Payments that are in use or unresolved", claims.clone());
        registry.register_with_unit(
            "oldest_unresolved_payment",
            "Age of the oldest payment whose outcome is not known; 0: there is none",
            Unit::Seconds,
            oldest_unresolved.clone(),
        );
        let reloads = Reloads::registered(&mut registry);
        let shadow = Family::default();
        registry.register(
            "shadow_requests",
            "Requests in shadow, by what would have become of them",
            shadow.clone(),
        );
        Self {
            registry,
            requests,
            request_seconds,
            revenue,
            calls,
            gas,
            in_flight,
            settling,
            claims,
            oldest_unresolved,
            reloads,
            shadow,
        }
    }
}

impl Metrics {
    /// Counts a request that ended.
    pub fn request(&self, route: &Arc<str>, outcome: Outcome, took: Duration) {
        let labels = RequestLabels { route: Arc::clone(route), outcome };
        self.requests.get_or_create(&labels).inc();
        self.request_seconds.observe(took.as_secs_f64());
    }

    /// Counts a request in shadow.
    pub fn shadow(&self, route: &Arc<str>, would: ShadowOutcome) {
        self.shadow.get_or_create(&ShadowLabels { route: Arc::clone(route), would }).inc();
    }

    /// Adds to the revenue. The counter is a float, as Prometheus' are; exact sums come from the log.
    pub fn revenue(&self, route: &Arc<str>, network: &str, asset: &str, amount: f64) {
        let labels =
            RevenueLabels { route: Arc::clone(route), network: network.to_owned(), asset: asset.to_owned() };
        self.revenue.get_or_create(&labels).inc_by(amount);
    }

    /// Counts a call to a facilitator.
    pub fn call(&self, facilitator: &str, call: &'static str, result: &'static str, took: Duration) {
        let labels = CallLabels { facilitator: facilitator.to_owned(), call, result };
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Notes that the gateway runs on a configuration that was read at this time, in seconds since 1970.
    pub fn config_loaded(&self, at: u64) {
        self.reloads.is_current.set(1);
        self.reloads.loaded_at.set(i64::try_from(at).unwrap_or(i64::MAX));
    }

    /// Counts that the configuration was read again, and whether it took effect.
    pub fn config_reload(&self, applied: bool) {
        let result = if applied { "applied" } else { "refused" };
        self.reloads.ended.get_or_create(&vec![("result", result)]).inc();
        self.reloads.is_current.set(i64::from(applied));
    }

    /// Notes what a facilitator's account has left for gas.
    pub fn gas_balance(&self, facilitator: &str, coins: f64) {
        let labels = FacilitatorLabels { facilitator: facilitator.to_owned() };
        self.gas.get_or_create(&labels).set(coins);
    }

    /// Requests being answered.
    #[must_use]
    pub const fn in_flight(&self) -> &Gauge {
        &self.in_flight
    }

    /// Writes down what is only known when asked.
    pub fn observe(&self, under_way: usize, held: &[(&'static str, u64)], oldest_unresolved: Duration) {
        self.settling.set(i64::try_from(under_way).unwrap_or(i64::MAX));
        for (state, count) in held {
            let gauge = self.claims.get_or_create(&vec![("state", *state)]);
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.oldest_unresolved.set(i64::try_from(oldest_unresolved.as_secs()).unwrap_or(i64::MAX));
    }

    /// The text that Prometheus scrapes (`OpenMetrics` 1.0).
    #[must_use]
    pub fn render(&self) -> String {
        let mut page = String::new();
        // Writing to a String cannot fail.
        let _ = text::encode(&mut page, &self.registry);
        page
    }
}

/// Sets the log up: one line per event on standard error, text or JSON.
///
/// `RUST_LOG` overrides the level, as operators of Rust programs expect.
pub fn log(json: bool, level: tracing::Level) {
    use tracing_subscriber::EnvFilter;
    let default = format!("warn,tollgate={}", level.as_str().to_lowercase());
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.is_empty());
    let filter = wanted.and_then(|wanted| EnvFilter::try_new(wanted).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second set-up in the same process (tests) keeps the first.
    let result = if json {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    } else {
        builder.with_target(false).try_init()
    };
    if let Err(error) = result {
        tracing::debug!(%error, "the log was set up before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_their_labels() {
        let metrics = Metrics::default();
        metrics.request(&"articles".into(), Outcome::Paid, Duration::from_millis(3));
        metrics.revenue(&"articles".into(), "eip155:84532", "USDC", 10_000.0);
        metrics.call("sandbox", "verify", "valid", Duration::from_millis(1));
        metrics.observe(2, &[("claimed", 1)], Duration::from_secs(7));
        let page = metrics.render();
        for line in [
            "tollgate_requests_total{route=\"articles\",outcome=\"paid\"} 1",
            "tollgate_revenue_atomic_units_total{route=\"articles\",network=\"eip155:84532\",asset=\"USDC\"} 10000.0",
            "tollgate_settlements_in_flight 2",
            "tollgate_payments_held{state=\"claimed\"} 1",
            "tollgate_oldest_unresolved_payment_seconds 7",
            "# EOF",
        ] {
            assert!(page.contains(line), "{line} is missing in:\n{page}");
        }
    }
}
