//! The site behind the gateway: it answers everything, and writes down which payment came with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use futures_util::stream;
use tokio::net::TcpListener;

use super::dice::Dice;
use super::purchase::{Purchase, Size, content};
use super::trap::{Boundary, Trap};

/// Bytes of a large answer that are sent at a time, and the pause between.
const PIECE: usize = 192 * 1024;
const PAUSE: Duration = Duration::from_millis(2);

/// The site.
pub struct Origin {
    trap: Arc<Trap>,
    dice: Mutex<Dice>,
    /// What is sold, by path.
    sold: Mutex<HashMap<String, Sold>>,
}

/// Something sold, and how it was asked for.
#[derive(Clone)]
pub struct Sold {
    pub purchase: Arc<Purchase>,
    pub asked: Vec<Asked>,
}

/// One request, as the gateway described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub payer: Option<Address>,
    pub transaction: Option<B256>,
}

impl Origin {
    /// Opens a site.
    pub fn open(listener: TcpListener, trap: &Arc<Trap>, dice: Dice) -> Arc<Self> {
        let origin =
            Arc::new(Self { trap: Arc::clone(trap), dice: Mutex::new(dice), sold: Mutex::default() });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&origin));
        tokio::spawn(async move { axum::serve(listener, router).await });
        origin
    }

    /// Takes note of something that will be asked for.
    pub fn sell(&self, purchase: &Arc<Purchase>) {
        let sold = Sold { purchase: Arc::clone(purchase), asked: Vec::new() };
        let before = self.sold.lock().unwrap().insert(purchase.path.clone(), sold);
        assert!(before.is_none(), "sold twice: {}", purchase.path);
    }

    /// All that was sold.
    pub fn sold(&self) -> Vec<Sold> {
        self.sold.lock().unwrap().values().cloned().collect()
    }

    fn pause(&self) -> Duration {
        let mut dice = self.dice.lock().unwrap();
        let longest = if dice.percent(10) { 40 } else { 3 };
        dice.duration(Duration::from_millis(longest))
    }
}

async fn answer(
    State(origin): State<Arc<Origin>>,
    uri: Uri,
    headers: HeaderMap,
    _whole_body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let asked = Asked {
        payer: header("x-402-payer").and_then(|text| text.parse().ok()),
        transaction: header("x-402-transaction").and_then(|text| text.parse().ok()),
    };
    if let Some(sold) = origin.sold.lock().unwrap().get_mut(&path) {
        sold.asked.push(asked);
    }
    origin.trap.see(Boundary::Asked);
    tokio::time::sleep(origin.pause()).await;
    let body = Bytes::from(content(&path));
    let response = Response::builder().header("content-type", "text/plain");
    let response = match Size::of(&path) {
        Size::Small => response.body(Body::from(body)),
        Size::Large => response.header("content-length", body.len()).body(in_pieces(body)),
        Size::LargeChunked => response.body(in_pieces(body)),
    };
    origin.trap.see(Boundary::Answered);
    response.unwrap()
}

fn in_pieces(body: Bytes) -> Body {
    Body::from_stream(stream::unfold(body, |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(PAUSE).await;
        let piece = rest.split_to(PIECE.min(rest.len()));
        Some((Ok::<_, Infallible>(piece), rest))
    }))
}
