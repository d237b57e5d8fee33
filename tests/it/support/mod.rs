//! What the tests share: a gateway process, servers that act as scripted, a raw client, a payer.

pub mod client;
pub mod facilitator;
pub mod gateway;
pub mod payer;
pub mod server;

pub use client::{Response, get, send};
pub use facilitator::Facilitator;
pub use gateway::Gateway;
pub use payer::Payer;
pub use server::{Act, Origin, Request, Server};
