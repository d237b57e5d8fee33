//! What the tests share: a gateway process, servers that act as scripted, a raw client, a payer.

pub mod anvil;
pub mod client;
pub mod connection;
pub mod facilitator;
pub mod gateway;
pub mod http2;
pub mod live;
pub mod payer;
pub mod postgres;
pub mod relay;
pub mod server;
pub mod shop;
pub mod solana;
pub mod tls;

pub use client::{Response, get, send};
pub use connection::Connection;
pub use facilitator::Facilitator;
pub use gateway::Gateway;
pub use live::LiveOrigin;
pub use payer::{Payer, line_for, payment_for};
pub use postgres::Postgres;
pub use relay::{Relay, Relaying};
pub use server::{Act, Origin, Request, Server};
