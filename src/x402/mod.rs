//! The x402 protocol as data: types, the header codec, networks and assets, amounts, reason codes.
//!
//! Nothing here performs I/O or knows the gateway. Names are the specification's
//! (`x402-specification-v2.md` and `transports-v2/http.md` of the x402 Foundation); the
//! first generation of the protocol, still spoken by many clients, lives in [`v1`].

pub mod amount;
pub mod asset;
pub mod header;
pub mod identifier;
pub mod network;
pub mod reason;
pub mod supported;
#[cfg(test)]
pub(crate) mod testing;
pub mod types;
pub mod v1;

pub use amount::{AtomicAmount, Money};
pub use asset::{Asset, TransferMethod};
pub use network::Network;
pub use reason::Reason;
pub use supported::{Supported, SupportedKind};
pub use types::{PaymentPayload, PaymentRequirements, ResourceInfo, SettleResponse, VerifyResponse};

/// Generation of the protocol a message belongs to (`x402Version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `X-PAYMENT` / `X-PAYMENT-RESPONSE`, offers in the response body, networks by name.
    V1,
    /// `PAYMENT-REQUIRED` / `PAYMENT-SIGNATURE` / `PAYMENT-RESPONSE`, networks by CAIP-2.
    V2,
}

impl Version {
    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// The request header that carries a payment of this generation, lower case.
    #[must_use]
    pub const fn payment_header(self) -> &'static str {
        match self {
            Self::V1 => header::X_PAYMENT,
            Self::V2 => header::PAYMENT_SIGNATURE,
        }
    }

    /// The response header that carries the settlement of this generation, lower case.
    #[must_use]
    pub const fn response_header(self) -> &'static str {
        match self {
            Self::V1 => header::X_PAYMENT_RESPONSE,
            Self::V2 => header::PAYMENT_RESPONSE,
        }
    }
}
