use alloy_primitives::{B256, U256};
use alloy_sol_types::SolEvent as _;
use serde_json::{Value, json};

use super::super::abi::{Step, Token};
use super::super::check::{after_deployment, by_signer, by_wallet};
use super::super::node::Call;
use super::super::signature::{Deployment, ecdsa};
use super::*;
use crate::scheme::testing::sign;

const PAYER: Address = Address::repeat_byte(1);
const PAYEE: Address = Address::repeat_byte(2);
const ASSET: Address = Address::repeat_byte(3);
const OTHER: Address = Address::repeat_byte(4);

fn payment(message: Message) -> Payment {
    Payment {
        message,
        payer: PAYER,
        asset: ASSET,
        pay_to: PAYEE,
        amount: U256::from(5),
        signature: Bytes::new(),
        digest: B256::ZERO,
        domain: (String::new(), String::new()),
    }
}

fn permit_of(nonce: u64) -> PermitWitnessTransferFrom {
    PermitWitnessTransferFrom {
        permitted: TokenPermissions { token: ASSET, amount: U256::from(5) },
        spender: EXACT_PROXY,
        nonce: U256::from(nonce),
        deadline: U256::from(1_000),
        witness: Witness { to: PAYEE, validAfter: U256::ZERO },
    }
}

fn permit2(nonce: u64) -> Payment {
    payment(Message::Permit2(permit_of(nonce)))
}

fn authorization_of(nonce: u8) -> TransferWithAuthorization {
    TransferWithAuthorization {
        from: PAYER,
        to: PAYEE,
        value: U256::from(5),
        validAfter: U256::ZERO,
        validBefore: U256::from(1_000),
        nonce: B256::repeat_byte(nonce),
    }
}

fn eip3009(nonce: u8) -> Payment {
    payment(Message::Eip3009(authorization_of(nonce)))
}

fn sent(call: Call) -> Transaction {
    Transaction { from: OTHER, to: Some(call.to), input: call.data }
}

fn steps(steps: Vec<Step>) -> Transaction {
    sent(Call { to: MULTICALL, data: Multicall::aggregate3Call { steps }.abi_encode().into() })
}

/// A deployment whose data is chosen by the payer.
fn deployment(data: Bytes) -> Deployment {
    Deployment { factory: OTHER, data }
}

#[test]
fn every_transaction_that_is_sent_for_a_payment_asks_for_it() {
    let signature: Bytes = sign(B256::ZERO).parse().unwrap();
    for payment in [permit2(9), eip3009(9)] {
        let call = by_wallet(&payment, &signature);
        assert!(asks_for(&sent(call.clone()), &payment));
        assert!(asks_for(&sent(after_deployment(&deployment(Bytes::new()), call)), &payment));
    }
    let call = by_signer(&eip3009(9), &ecdsa(&signature).unwrap()).unwrap();
    assert!(asks_for(&sent(call), &eip3009(9)));
}

#[test]
fn a_nonce_that_is_anywhere_else_in_a_transaction_does_not_make_it_the_payments() {
    // Nonce 0 is in every call whose `validAfter` is 0, and a wallet may sign with whatever it likes.
    let honest = by_wallet(&permit2(9), &[U256::from(7).to_be_bytes::<32>(), [0; 32]].concat().into());
    for nonce in [0, 5, 7, 64, 1_000] {
        let word = U256::from(nonce).to_be_bytes::<32>();
        assert!(honest.data[4..].chunks(32).any(|part| part == word), "{nonce}");
        assert!(!asks_for(&sent(honest.clone()), &permit2(nonce)), "{nonce}");
    }
    let honest = by_wallet(&eip3009(9), &vec![7; 64].into());
    assert!(!asks_for(&sent(honest), &eip3009(7)));
}

#[test]
fn a_call_for_another_payment_in_any_part_is_not_for_this_one() {
    let payment = permit2(9);
    let other = |change: fn(&mut PermitWitnessTransferFrom)| {
        let mut message = permit_of(9);
        change(&mut message);
        sent(by_wallet(&self::payment(Message::Permit2(message)), &Bytes::new()))
    };
    let mut owner = permit2(9);
    owner.payer = OTHER;
    let mut proxy = sent(by_wallet(&payment, &Bytes::new()));
    proxy.to = Some(OTHER);
    let mut creation = sent(by_wallet(&payment, &Bytes::new()));
    creation.to = None;
    for (part, transaction) in [
        ("nonce", other(|message| message.nonce = U256::from(8))),
        ("token", other(|message| message.permitted.token = OTHER)),
        ("amount", other(|message| message.permitted.amount = U256::from(4))),
        ("payee", other(|message| message.witness.to = OTHER)),
        ("deadline", other(|message| message.deadline = U256::from(999))),
        ("owner", sent(by_wallet(&owner, &Bytes::new()))),
        ("proxy", proxy),
        ("creation", creation),
        ("method", sent(by_wallet(&eip3009(9), &Bytes::new()))),
    ] {
        assert!(!asks_for(&transaction, &payment), "{part}");
    }
    let payment = eip3009(9);
    let mut other = sent(by_wallet(&payment, &Bytes::new()));
    other.to = Some(OTHER);
    assert!(!asks_for(&other, &payment), "another token");
}

#[test]
fn what_a_payer_puts_into_the_deployment_does_not_count() {
    for (this, other) in [(permit2(9), permit2(8)), (eip3009(9), eip3009(8))] {
        let (wanted, made) = (by_wallet(&this, &Bytes::new()), by_wallet(&other, &Bytes::new()));
        let hidden = after_deployment(&deployment(wanted.data.clone()), made.clone());
        assert!(!asks_for(&sent(hidden), &this));
        let step = |call: &Call, may_fail: bool| Step {
            target: call.to,
            allowFailure: may_fail,
            callData: call.data.clone(),
        };
        assert!(!asks_for(&steps(vec![step(&wanted, false), step(&made, false)]), &this));
        assert!(!asks_for(&steps(vec![step(&wanted, true)]), &this));
        assert!(asks_for(&steps(vec![step(&made, true), step(&wanted, false)]), &this));
        assert!(!asks_for(&steps(vec![]), &this));
    }
}

fn moved(to: Address, value: u64) -> Value {
    let topics = [Token::Transfer::SIGNATURE_HASH, PAYER.into_word(), to.into_word()];
    json!({"address": ASSET, "topics": topics, "data": B256::from(U256::from(value))})
}

fn used(nonce: u8) -> Value {
    let topics = [Token::AuthorizationUsed::SIGNATURE_HASH, PAYER.into_word(), B256::repeat_byte(nonce)];
    json!({"address": ASSET, "topics": topics, "data": "0x"})
}

fn receipt(status: &str, mut logs: Vec<Value>) -> Receipt {
    for (index, log) in logs.iter_mut().enumerate() {
        log["logIndex"] = format!("{index:#x}").into();
    }
    let hash = B256::repeat_byte(1);
    // A node may tell events in any order.
    logs.reverse();
    serde_json::from_value(json!({
        "transactionHash": hash, "status": status, "blockNumber": "0x10", "logs": logs,
    }))
    .unwrap()
}

#[test]
fn only_the_transfer_that_belongs_to_the_nonce_is_its_payment() {
    for (status, logs, expected) in [
        ("0x1", vec![used(9), moved(PAYEE, 5)], Worth::Paid),
        ("0x1", vec![moved(PAYEE, 5), used(9)], Worth::Paid),
        ("0x0", vec![used(9), moved(PAYEE, 5)], Worth::Nothing),
        ("0x1", vec![used(9), moved(PAYEE, 4)], Worth::Nothing),
        // The nonce was spent for another account, beside another payment of the same sum.
        ("0x1", vec![used(9), moved(OTHER, 5), used(8), moved(PAYEE, 5)], Worth::Unclear),
        ("0x1", vec![used(8), moved(PAYEE, 5), used(9), moved(PAYEE, 5)], Worth::Paid),
        ("0x1", vec![moved(PAYEE, 5)], Worth::Unclear),
        ("0x1", vec![], Worth::Nothing),
    ] {
        let told = format!("{status} {logs:?}");
        assert_eq!(worth(&receipt(status, logs), &eip3009(9)), expected, "{told}");
    }
    for (status, logs, expected) in [
        ("0x1", vec![moved(PAYEE, 5)], Worth::Paid),
        ("0x1", vec![moved(PAYEE, 4)], Worth::Nothing),
        ("0x1", vec![moved(OTHER, 5)], Worth::Nothing),
        ("0x0", vec![moved(PAYEE, 5)], Worth::Nothing),
    ] {
        let told = format!("{status} {logs:?}");
        assert_eq!(worth(&receipt(status, logs), &permit2(9)), expected, "{told}");
    }
}
