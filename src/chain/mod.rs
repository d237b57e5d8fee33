//! What became of a payment, as the chain itself tells: the contract, and EVM chains through a node.

pub mod rpc;
