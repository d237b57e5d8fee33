//! The operator's private address: `/healthz`, `/readyz`, `/metrics` and `/routes`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::{TcpListener, TcpStream};

use crate::clock::Clock;
use crate::ledger::{Ledger, PaymentState};
use crate::payment::Gate;
use crate::telemetry::Metrics;

/// What the admin address looks at.
pub struct Admin {
    /// Decides whether offers can be settled.
    pub gate: Arc<ArcSwap<Gate>>,
    /// Its routes in words, as JSON.
    pub routes: Arc<ArcSwap<String>>,
    /// What is held, for metrics.
    pub ledger: Arc<dyn Ledger>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Listeners that must answer before the gateway is ready.
    pub listeners: Vec<SocketAddr>,
    /// Set when shutdown begins: not ready any more.
    pub closing: Arc<AtomicBool>,
}

/// Serves the admin address until the process ends.
///
/// # Errors
/// Whatever the listener reports.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/routes", get(routes))
        .with_state(admin);
    axum::serve(listener, router).await
}

async fn index() -> &'static str {
    "tollgate admin\n\n/healthz  the process runs\n/readyz   listeners answer and priced routes can be paid\n\
     /metrics  OpenMetrics\n/routes   what costs what, as JSON\n"
}

/// Ready means: clients can connect, and every priced route can take payments.
async fn ready(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    if admin.closing.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned());
    }
    for listener in &admin.listeners {
        let connect = TcpStream::connect(reachable(*listener));
        if !matches!(tokio::time::timeout(Duration::from_secs(1), connect).await, Ok(Ok(_))) {
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{listener} does not answer yet\n"));
        }
    }
    match admin.gate.load().payable() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(routes) => {
            let routes = routes.join(", ");
            (StatusCode::SERVICE_UNAVAILABLE, format!("no facilitator is known to settle: {routes}\n"))
        }
    }
}

/// Where a listener on every address can be reached from here.
fn reachable(listener: SocketAddr) -> SocketAddr {
    match listener {
        SocketAddr::V4(address) if address.ip().is_unspecified() => ([127, 0, 0, 1], address.port()).into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, address.port()).into()
        }
        address => address,
    }
}

async fn routes(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], admin.routes.load().to_string())
}

async fn metrics(State(admin): State<Arc<Admin>>) -> impl IntoResponse {
    match admin.ledger.counts().await {
        Ok(counts) => {
            let held = [
                (PaymentState::Claimed.as_str(), counts.claimed),
                (PaymentState::Settling.as_str(), counts.settling),
                (PaymentState::Unresolved.as_str(), counts.unresolved),
            ];
            let now = admin.clock.now();
            let age = counts.oldest_unresolved.map_or(0, |oldest| now.0.saturating_sub(oldest.0));
            admin.metrics.observe(admin.gate.load().under_way(), &held, Duration::from_secs(age));
        }
        Err(error) => tracing::warn!(%error, "metrics without the ledger's"),
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics.render())
}
