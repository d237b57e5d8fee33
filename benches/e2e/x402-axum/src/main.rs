//! The reference of Rust servers: `x402-axum` as its documentation shows, on as many threads as it may use.
//!
//! ```text
//! bench-x402-axum ADDRESS FACILITATOR PAYEE FILE
//! ```
//!
//! `GET /paid/page` costs $0.01 on Base Sepolia and answers with the file, which it holds itself: no origin has to
//! be asked.

use alloy_primitives::Address;
use axum::Router;
use axum::routing::get;
use x402_axum::X402Middleware;
use x402_chain_eip155::{KnownNetworkEip155, V2Eip155Exact};
use x402_types::networks::USDC;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, facilitator, payee, file] = arguments.as_slice() else {
        return Err("bench-x402-axum ADDRESS FACILITATOR PAYEE FILE".into());
    };
    let page: &'static [u8] = std::fs::read(file)?.leak();
    let payee: Address = payee.parse()?;
    let price = V2Eip155Exact::price_tag(payee, USDC::base_sepolia().parse("0.01")?);
    let paid = X402Middleware::new(facilitator).with_price_tag(price);
    let app = Router::new().route("/paid/page", get(move || async move { page }).layer(paid));
    axum::serve(tokio::net::TcpListener::bind(address).await?, app).await?;
    Ok(())
}
