//! The built-in demo site: an ordinary web site that knows nothing about payments.
//!
//! `upstream = "demo"` puts it behind the gateway, so that a first run needs no other server. It has something of
//! each kind that a paywall meets: HTML pages, a JSON API, an event stream, a download too large to hold in memory,
//! and the answers that must never be charged (a redirect, an error, a missing page).
//!
//! Every answer is deterministic: the same request always gets the same bytes.

mod api;
mod pages;
mod query;
mod streams;

#[cfg(test)]
mod probe;

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

/// The time between two events of `/events`.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);

/// The demo site's routes.
///
/// | Path | Answer |
/// |---|---|
/// | `/` | what there is to try |
/// | `/articles/{name}` | an HTML article |
/// | `/api`, `/api/weather?city=`, `/api/echo` | JSON |
/// | `/events?count=` | an event stream, one event a second, at most 120 |
/// | `/download/large.bin?mib=` | 64 MiB, or 1 to 1024 MiB, streamed |
/// | `/slow?ms=` | waits, at most 30 000 ms |
/// | `/redirect`, `/missing`, `/broken` | 302, 404, 500 |
pub fn router() -> Router {
    router_with_interval(EVENT_INTERVAL)
}

/// Serves the demo site on `listener` until the task is dropped.
pub async fn serve(listener: TcpListener) {
    if let Err(error) = axum::serve(listener, router()).await {
        tracing::error!(%error, "the built-in demo site stopped");
    }
}

fn router_with_interval(event_interval: Duration) -> Router {
    Router::new()
        .route("/", get(pages::front))
        .route("/style.css", get(pages::stylesheet))
        .route("/articles", get(pages::article_list))
        .route("/articles/", get(pages::article_list))
        .route("/articles/{name}", get(pages::article))
        .merge(api::routes())
        .merge(streams::routes(event_interval))
        .route("/redirect", get(redirect))
        .route("/broken", get(pages::broken))
        .fallback(pages::missing)
}

async fn redirect() -> impl IntoResponse {
    (StatusCode::FOUND, [(LOCATION, "/")])
}

#[cfg(test)]
mod tests {
    use super::probe::{get, request};

    #[tokio::test]
    async fn a_redirect_an_error_and_a_missing_page_keep_their_status() {
        let redirect = get("/redirect").await;
        assert_eq!(redirect.status, 302);
        assert_eq!(redirect.header("location"), Some("/"));
        assert_eq!(get("/broken").await.status, 500);
        assert_eq!(get("/missing").await.status, 404);
        assert_eq!(get("/no/such/page").await.status, 404);
    }

    #[tokio::test]
    async fn a_method_that_a_page_does_not_know_gets_405() {
        let answer = request("DELETE", "/articles/x402", &[], b"").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("GET,HEAD"));
    }
}
