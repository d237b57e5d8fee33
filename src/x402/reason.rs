//! Reason codes a client reads in `error`, `invalidReason` and `errorReason`.

use std::borrow::Cow;
use std::fmt;

/// A reason code, from the specification where it defines one, from a facilitator otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Cow<'static, str>);

/// Facilitators' own codes are shown to clients up to this many bytes.
const FOREIGN_REASON_BYTES: usize = 120;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl Reason {
            $($(#[$doc])* pub const $name: Self = Self(Cow::Borrowed($code));)*
        }
    };
}

reasons! {
    /// No payment came with the request.
    PAYMENT_REQUIRED = "Payment required";
    /// What v1 clients expect to read when no payment came.
    V1_HEADER_REQUIRED = "X-PAYMENT header is required";
    /// The payment header is not base64 of a JSON payment.
    INVALID_PAYLOAD = "invalid_payload";
    /// `x402Version` contradicts the header the payment came in.
    INVALID_VERSION = "invalid_x402_version";
    /// The payment accepts terms that are not offered here.
    NO_MATCH = "No matching payment requirements";
    /// The echo of an advertised extension was altered.
    EXTENSION_ECHO_MISMATCH = "extension_echo_mismatch";
    /// This payment is being used or has been used.
    DUPLICATE = "duplicate_settlement";
    /// The signature is not the payer's.
    EVM_SIGNATURE = "invalid_exact_evm_signature";
    /// The authorization pays somebody else.
    EVM_RECIPIENT = "invalid_exact_evm_recipient_mismatch";
    /// The authorization is for another amount.
    EVM_VALUE = "invalid_exact_evm_payload_authorization_value_mismatch";
    /// The authorization ends too soon to be settled after the origin's answer.
    EVM_VALID_BEFORE = "invalid_exact_evm_payload_authorization_valid_before";
    /// The authorization is not valid yet.
    EVM_VALID_AFTER = "invalid_exact_evm_payload_authorization_valid_after";
    /// The authorization was used or cancelled before.
    EVM_NONCE_USED = "invalid_exact_evm_nonce_already_used";
    /// The payment is for another scheme than is asked for.
    EVM_SCHEME = "invalid_exact_evm_scheme";
    /// The payment is for another network than is asked for.
    EVM_NETWORK = "invalid_exact_evm_network_mismatch";
    /// The offer does not name the token's EIP-712 domain.
    EVM_DOMAIN = "invalid_exact_evm_missing_eip712_domain";
    /// The payer has less of the token than the price.
    EVM_BALANCE = "invalid_exact_evm_insufficient_balance";
    /// The token's contract would refuse the transfer, for a reason it does not tell.
    EVM_SIMULATION = "invalid_exact_evm_transaction_simulation_failed";
    /// The token has another name in its EIP-712 domain than the offer.
    EVM_TOKEN_NAME = "invalid_exact_evm_token_name_mismatch";
    /// The token has another version in its EIP-712 domain than the offer.
    EVM_TOKEN_VERSION = "invalid_exact_evm_token_version_mismatch";
    /// The token knows no authorizations.
    EVM_NO_EIP3009 = "invalid_exact_evm_eip3009_not_supported";
    /// Only a contract could have made the signature, and the payer is none.
    EVM_UNDEPLOYED = "invalid_exact_evm_payload_undeployed_smart_wallet";
    /// The wallet would be deployed by a contract that the facilitator does not call.
    EVM_FACTORY = "eip6492_factory_not_allowed";
    /// There is no contract at the token's address.
    EVM_ASSET = "asset_not_deployed_contract";
    /// The transaction was included and reverted: it moved nothing.
    EVM_FAILED = "invalid_exact_evm_transaction_failed";
    /// The transaction succeeded without the transfer that was signed for.
    EVM_TRANSFER = "invalid_exact_evm_transfer_event_mismatch";
    /// The transfer needs more gas than the facilitator pays for.
    EVM_GAS_LIMIT = "invalid_exact_evm_gas_limit_exceeded";
    /// Permit2: the payer has not approved Permit2 for the price.
    PERMIT2_ALLOWANCE = "permit2_allowance_required";
    /// Permit2: the payer has less of the token than the price.
    PERMIT2_BALANCE = "permit2_insufficient_balance";
    /// Permit2: the x402 proxy does not exist on this network.
    PERMIT2_PROXY = "permit2_proxy_not_deployed";
    /// Permit2: the contracts would refuse the transfer, for a reason they do not tell.
    PERMIT2_SIMULATION = "permit2_simulation_failed";
    /// Permit2: the nonce was used or cancelled before.
    PERMIT2_NONCE = "permit2_invalid_nonce";
    /// The facilitator settles no such payments.
    UNSUPPORTED_SCHEME = "unsupported_scheme";
    /// The facilitator does not settle on this network.
    INVALID_NETWORK = "invalid_network";
    /// The facilitator cannot reach its chain; nothing was sent.
    FACILITATOR_UNAVAILABLE = "facilitator_unavailable";
    /// Permit2: the spender is not the x402 proxy contract.
    PERMIT2_SPENDER = "invalid_permit2_spender";
    /// Permit2: the witness pays somebody else.
    PERMIT2_RECIPIENT = "invalid_permit2_recipient_mismatch";
    /// Permit2: another amount.
    PERMIT2_AMOUNT = "permit2_amount_mismatch";
    /// Permit2: another token.
    PERMIT2_TOKEN = "permit2_token_mismatch";
    /// Permit2: ends too soon.
    PERMIT2_DEADLINE = "permit2_deadline_expired";
    /// Permit2: not valid yet.
    PERMIT2_NOT_YET_VALID = "permit2_not_yet_valid";
    /// Permit2: the signature is not the payer's.
    PERMIT2_SIGNATURE = "invalid_permit2_signature";
    /// The Solana transaction cannot be read.
    SVM_TRANSACTION = "invalid_exact_svm_payload_transaction";
    /// The Solana transaction names another fee payer than the one offered.
    SVM_FEE_PAYER = "invalid_exact_svm_fee_payer_mismatch";
    /// A required Solana signature is missing or wrong.
    SVM_SIGNATURE = "invalid_exact_svm_signature";
    /// The Solana transfer is of another amount.
    SVM_AMOUNT = "invalid_exact_svm_payload_amount_mismatch";
    /// The Solana transfer is of another token.
    SVM_MINT = "invalid_exact_svm_payload_mint_mismatch";
    /// The sandbox: the payer's test balance is too low.
    INSUFFICIENT_FUNDS = "insufficient_funds";
    /// The sandbox: its books are full.
    SANDBOX_FULL = "sandbox_full";
    /// The facilitator refused and gave no reason.
    UNSPECIFIED = "payment_invalid";
    /// Settlement was refused without a reason.
    SETTLEMENT_FAILED = "settlement_failed";
    /// The transaction was sent and its outcome is not known yet.
    SETTLEMENT_PENDING = "settlement_pending";
}

impl Reason {
    /// Takes over a code from a facilitator: printable ASCII of bounded length, so that nothing a
    /// facilitator writes can break out of a header, a log line or a page.
    #[must_use]
    pub fn foreign(code: &str) -> Self {
        let clean: String = code
            .chars()
            .map(|character| if character.is_ascii_graphic() || character == ' ' { character } else { '?' })
            .take(FOREIGN_REASON_BYTES)
            .collect();
        if clean.trim().is_empty() { Self::UNSPECIFIED } else { Self(Cow::Owned(clean)) }
    }

    /// The code on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_facilitators_reason_is_cut_and_cleaned() {
        assert_eq!(Reason::foreign("invalid_thing").as_str(), "invalid_thing");
        assert_eq!(Reason::foreign("a\r\nSet-Cookie: x\u{2028}").as_str(), "a??Set-Cookie: x?");
        assert_eq!(Reason::foreign(&"x".repeat(500)).as_str().len(), FOREIGN_REASON_BYTES);
        assert_eq!(Reason::foreign(" "), Reason::UNSPECIFIED);
    }
}
