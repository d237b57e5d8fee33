//! What only the chain can tell of a payment: whether its contracts would make it.
//!
//! The token is the judge. Which account may sign how is decided in its contract, so the transfer is
//! tried there (`eth_call`), in the form that will be sent; questions about the parts only find out
//! why it was refused. An ordinary account's signature is checked before, because that takes no
//! question at all.

use alloy_primitives::{Address, B256, Bytes};
use alloy_sol_types::SolCall as _;

use super::abi::{
    BySigner, ByWallet, ExactProxy, MULTICALL, Multicall, Permit2, PermitTransferFrom, Step, Token,
    TokenPermissions, VALID, Wallet, Witness,
};
use super::node::{Call, Down, Node, Tried};
use super::payment::{Message, Payment};
use super::signature::{self, Deployment, Unwrapped};
use crate::scheme::TransferWithAuthorization;
use crate::scheme::permit2::{EXACT_PROXY, PERMIT2, PermitWitnessTransferFrom};
use crate::x402::Reason;

/// What the chain says of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look {
    /// This call makes it.
    Payable(Call),
    /// Its nonce is spent: it was made, or taken back.
    Used,
    Refused(Reason),
}

/// Who asks, and what may be done for a wallet.
pub(super) struct Asker<'a> {
    pub(super) node: &'a Node,
    /// The account that will send the transaction.
    pub(super) account: Address,
    /// The most gas that a payment may take.
    pub(super) gas_limit: u64,
    /// Contracts that may be called to deploy a wallet.
    pub(super) factories: &'a [Address],
}

impl Asker<'_> {
    /// Finds out what the chain says of a payment.
    pub(super) async fn look(&self, payment: &Payment) -> Result<Look, Down> {
        let Some(unwrapped) = signature::unwrap(&payment.signature) else {
            return Ok(Look::Refused(payment.forged()));
        };
        let node = self.node;
        let (code, asset, state) = tokio::try_join!(
            node.has_code(payment.payer),
            node.is_contract(payment.asset),
            self.state(payment),
        )?;
        if !asset {
            return Ok(Look::Refused(Reason::EVM_ASSET));
        }
        match state {
            State::Unused => {}
            State::Used => return Ok(Look::Used),
            State::Refused(reason) => return Ok(Look::Refused(reason)),
        }
        let calls = match self.calls(payment, &unwrapped, code).await? {
            Ok(calls) => calls,
            Err(reason) => return Ok(Look::Refused(reason)),
        };
        for call in calls {
            match node.call(self.account, &call, self.gas_limit).await? {
                Tried::Returns(_) => return Ok(Look::Payable(call)),
                Tried::Reverts(words) if words.to_lowercase().replace(' ', "").contains("outofgas") => {
                    return Ok(Look::Refused(Reason::EVM_GAS_LIMIT));
                }
                Tried::Reverts(words) => tracing::debug!(
                    target: super::TARGET, payer = %payment.payer, words, "a transfer would be reverted"
                ),
            }
        }
        self.why(payment, &unwrapped.signature, code).await.map(Look::Refused)
    }

    /// Whether the nonce is spent, and what else the method needs.
    async fn state(&self, payment: &Payment) -> Result<State, Down> {
        match &payment.message {
            Message::Eip3009(message) => {
                let call = Token::authorizationStateCall { authorizer: message.from, nonce: message.nonce };
                Ok(match self.node.read(payment.asset, &call).await? {
                    Some(true) => State::Used,
                    Some(false) => State::Unused,
                    None => State::Refused(Reason::EVM_NO_EIP3009),
                })
            }
            Message::Permit2(message) => self.permit2_state(payment, message).await,
        }
    }

    async fn permit2_state(
        &self,
        payment: &Payment,
        message: &PermitWitnessTransferFrom,
    ) -> Result<State, Down> {
        let word = Permit2::nonceBitmapCall { owner: payment.payer, word: message.nonce >> 8 };
        let allowance = Token::allowanceCall { owner: payment.payer, spender: PERMIT2 };
        let balance = Token::balanceOfCall { account: payment.payer };
        let (proxy, bits, allowed, held) = tokio::try_join!(
            self.node.is_contract(EXACT_PROXY),
            self.node.read(PERMIT2, &word),
            self.node.read(payment.asset, &allowance),
            self.node.read(payment.asset, &balance),
        )?;
        let (Some(bits), true) = (bits, proxy) else { return Ok(State::Refused(Reason::PERMIT2_PROXY)) };
        if bits.bit(message.nonce.byte(0).into()) {
            return Ok(State::Used);
        }
        if allowed.is_none_or(|allowed| allowed < payment.amount) {
            return Ok(State::Refused(Reason::PERMIT2_ALLOWANCE));
        }
        if held.is_none_or(|held| held < payment.amount) {
            return Ok(State::Refused(Reason::PERMIT2_BALANCE));
        }
        Ok(State::Unused)
    }

    /// The calls that may make a payment, the likeliest first; or the reason why none does.
    async fn calls(
        &self,
        payment: &Payment,
        unwrapped: &Unwrapped,
        code: bool,
    ) -> Result<Result<Vec<Call>, Reason>, Down> {
        let bytes = &unwrapped.signature;
        let by_signer = signature::ecdsa(bytes);
        if code {
            // Tokens before USDC 2.2 ask no wallet; for them a delegated account (EIP-7702) still
            // signs like an ordinary one.
            let mut calls = vec![by_wallet(payment, bytes)];
            calls.extend(by_signer.and_then(|signature| self::by_signer(payment, &signature)));
            return Ok(Ok(calls));
        }
        if let Some(deployment) = &unwrapped.deployment {
            return self.deploying(payment, deployment, bytes).await;
        }
        let Some(signature) = by_signer else {
            let has_length = matches!(bytes.len(), 64 | 65);
            return Ok(Err(if has_length { payment.forged() } else { Reason::EVM_UNDEPLOYED }));
        };
        if !signature::is_by(&signature, payment.digest, payment.payer) {
            return Ok(Err(payment.forged()));
        }
        let plain = Bytes::from(signature.as_bytes().to_vec());
        Ok(Ok(vec![self::by_signer(payment, &signature).unwrap_or_else(|| by_wallet(payment, &plain))]))
    }

    /// One transaction that deploys the payer's wallet and then makes the payment. The deployment is
    /// called by Multicall3 and not by our account, which may have rights and tokens.
    async fn deploying(
        &self,
        payment: &Payment,
        deployment: &Deployment,
        signature: &Bytes,
    ) -> Result<Result<Vec<Call>, Reason>, Down> {
        if !self.factories.contains(&deployment.factory) || !self.node.is_contract(MULTICALL).await? {
            return Ok(Err(Reason::EVM_FACTORY));
        }
        let transfer = by_wallet(payment, signature);
        let steps = vec![
            // Somebody else may deploy the wallet first.
            Step { target: deployment.factory, allowFailure: true, callData: deployment.data.clone() },
            Step { target: transfer.to, allowFailure: false, callData: transfer.data },
        ];
        let data = Multicall::aggregate3Call { steps }.abi_encode().into();
        Ok(Ok(vec![Call { to: MULTICALL, data }]))
    }

    /// Why a transfer would be refused.
    async fn why(&self, payment: &Payment, signature: &Bytes, code: bool) -> Result<Reason, Down> {
        let node = self.node;
        let wallet = Wallet::isValidSignatureCall { hash: payment.digest, signature: signature.clone() };
        if code && node.read(payment.payer, &wallet).await?.is_none_or(|answer| answer.0 != VALID) {
            return Ok(payment.forged());
        }
        if let Message::Permit2(_) = payment.message {
            return Ok(Reason::PERMIT2_SIMULATION);
        }
        let balance = Token::balanceOfCall { account: payment.payer };
        let (name, version, held) = tokio::try_join!(
            node.read(payment.asset, &Token::nameCall {}),
            node.read(payment.asset, &Token::versionCall {}),
            node.read(payment.asset, &balance),
        )?;
        Ok(if name.is_some_and(|name| name != payment.domain.0) {
            Reason::EVM_TOKEN_NAME
        } else if version.is_some_and(|version| version != payment.domain.1) {
            Reason::EVM_TOKEN_VERSION
        } else if held.is_some_and(|held| held < payment.amount) {
            Reason::EVM_BALANCE
        } else {
            Reason::EVM_SIMULATION
        })
    }
}

enum State {
    Unused,
    Used,
    Refused(Reason),
}

/// The payment with the signature of an ordinary account, where the method has a form for it.
fn by_signer(payment: &Payment, signature: &alloy_primitives::Signature) -> Option<Call> {
    let Message::Eip3009(message) = &payment.message else { return None };
    let TransferWithAuthorization { from, to, value, validAfter, validBefore, nonce } = message.clone();
    let call = BySigner::transferWithAuthorizationCall {
        from,
        to,
        value,
        validAfter,
        validBefore,
        nonce,
        v: 27 + u8::from(signature.v()),
        r: B256::from(signature.r()),
        s: B256::from(signature.s()),
    };
    Some(Call { to: payment.asset, data: call.abi_encode().into() })
}

/// The payment with a signature that the payer's wallet checks.
fn by_wallet(payment: &Payment, signature: &Bytes) -> Call {
    match &payment.message {
        Message::Eip3009(message) => {
            let TransferWithAuthorization { from, to, value, validAfter, validBefore, nonce } =
                message.clone();
            let call = ByWallet::transferWithAuthorizationCall {
                from,
                to,
                value,
                validAfter,
                validBefore,
                nonce,
                signature: signature.clone(),
            };
            Call { to: payment.asset, data: call.abi_encode().into() }
        }
        Message::Permit2(message) => {
            let call = ExactProxy::settleCall {
                permit: PermitTransferFrom {
                    permitted: TokenPermissions {
                        token: message.permitted.token,
                        amount: message.permitted.amount,
                    },
                    nonce: message.nonce,
                    deadline: message.deadline,
                },
                owner: payment.payer,
                witness: Witness { to: message.witness.to, validAfter: message.witness.validAfter },
                signature: signature.clone(),
            };
            Call { to: EXACT_PROXY, data: call.abi_encode().into() }
        }
    }
}
