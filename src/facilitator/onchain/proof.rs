//! What shows that a payment was made by a transaction of our own.
//!
//! A payer chooses nonces, and what is in signatures and deployments, so that a transaction made for one
//! payment can contain everything another one is known by. Only the parts of it that its contracts act
//! on count, read as they read them.

use alloy_primitives::{Address, Bytes};
use alloy_sol_types::SolCall as _;

use super::abi::{BySigner, ByWallet, ExactProxy, MULTICALL, Multicall};
use super::node::{Receipt, Transaction};
use super::payment::{Message, Payment};
use crate::chain::{Deed, Wanted};
use crate::scheme::TransferWithAuthorization;
use crate::scheme::permit2::{EXACT_PROXY, PermitWitnessTransferFrom, TokenPermissions, Witness};

/// What a transaction in a block did for a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// Moved its money.
    Paid,
    /// Nothing.
    Nothing,
    /// It moved money of which cannot be told whether it is the payment's.
    Unclear,
}

/// Whether a transaction calls for this very payment, be it in one go with the deployment of the
/// payer's wallet.
pub(super) fn asks_for(transaction: &Transaction, payment: &Payment) -> bool {
    let (Some(to), input) = (transaction.to, &transaction.input) else { return false };
    if to != MULTICALL {
        return is_call_for(to, input, payment);
    }
    let Ok(call) = Multicall::aggregate3Call::abi_decode_validate(input) else { return false };
    // Everything before is in the hands of the payer.
    let last = call.steps.last();
    last.is_some_and(|step| !step.allowFailure && is_call_for(step.target, &step.callData, payment))
}

/// What a transaction of our own did for a payment that it [asks for](asks_for).
pub(super) fn worth(receipt: &Receipt, payment: &Payment) -> Worth {
    if !receipt.succeeded() {
        return Worth::Nothing;
    }
    let moved = receipt.moves_money_of(payment);
    match &payment.message {
        Message::Permit2(_) if moved => Worth::Paid,
        Message::Permit2(_) => Worth::Nothing,
        Message::Eip3009(message) => {
            let wanted = Wanted { from: payment.payer, to: payment.pay_to, value: payment.amount };
            match receipt.deed(payment.asset, wanted, message.nonce) {
                Deed::Paid => Worth::Paid,
                Deed::Unclear => Worth::Unclear,
                Deed::Elsewhere | Deed::Cancelled | Deed::Nothing if moved => Worth::Unclear,
                Deed::Elsewhere | Deed::Cancelled | Deed::Nothing => Worth::Nothing,
            }
        }
    }
}

fn is_call_for(to: Address, input: &Bytes, payment: &Payment) -> bool {
    match &payment.message {
        Message::Eip3009(message) => to == payment.asset && authorization(input).as_ref() == Some(message),
        Message::Permit2(message) => {
            to == EXACT_PROXY
                && permit(input).is_some_and(|(owner, found)| owner == payment.payer && found == *message)
        }
    }
}

/// The authorization that a call of a token uses, in either form.
fn authorization(input: &Bytes) -> Option<TransferWithAuthorization> {
    if let Ok(call) = BySigner::transferWithAuthorizationCall::abi_decode_validate(input) {
        let BySigner::transferWithAuthorizationCall {
            from, to, value, validAfter, validBefore, nonce, ..
        } = call;
        return Some(TransferWithAuthorization { from, to, value, validAfter, validBefore, nonce });
    }
    let call = ByWallet::transferWithAuthorizationCall::abi_decode_validate(input).ok()?;
    let ByWallet::transferWithAuthorizationCall { from, to, value, validAfter, validBefore, nonce, .. } =
        call;
    Some(TransferWithAuthorization { from, to, value, validAfter, validBefore, nonce })
}

/// The permit that a call of the proxy spends, and whose it is.
fn permit(input: &Bytes) -> Option<(Address, PermitWitnessTransferFrom)> {
    let call = ExactProxy::settleCall::abi_decode_validate(input).ok()?;
    let message = PermitWitnessTransferFrom {
        permitted: TokenPermissions {
            token: call.permit.permitted.token,
            amount: call.permit.permitted.amount,
        },
        spender: EXACT_PROXY,
        nonce: call.permit.nonce,
        deadline: call.permit.deadline,
        witness: Witness { to: call.witness.to, validAfter: call.witness.validAfter },
    };
    Some((call.owner, message))
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
