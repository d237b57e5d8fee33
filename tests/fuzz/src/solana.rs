//! Solana transactions as payments.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::{Map, Value};
use tollgate::scheme::{self, Authorization};
use tollgate::x402::Reason;

use crate::shop::{FEE_PAYER, MOMENT, terms};

/// Seeds of the keys that sign, each 32 times: the fee payer's, the payer's, those of two others.
const SEEDS: [u8; 4] = [1, 2, 3, 4];
const SIGNERS_MAX: usize = 8;

/// The bytes are a transaction as it is, and a message that everybody signs whose key is known. A
/// message that is accepted has the fee payer of the offer, is signed by who pays, transfers the amount
/// and the token of the offer, and stays the same payment whatever stands in the fee payer's place.
pub fn hold(data: &[u8]) {
    let _ = inspect(data);
    let Some(signers) = signers(data) else { return };
    let signatures: Vec<[u8; 64]> = (0..signers).map(|index| signature(data, index)).collect();
    let Ok(found) = inspect(&transaction(&signatures, data)) else { return };
    let mut other = signatures;
    other[0] = [7; 64];
    let again = inspect(&transaction(&other, data)).map(|again| again.id);
    assert_eq!(again, Ok(found.id), "the fee payer's signature makes it another payment");
    holds(data, &found, signers);
}

fn holds(message: &[u8], found: &Authorization, signers: usize) {
    let fee_payer = bs58::decode(FEE_PAYER).into_vec().unwrap();
    assert_eq!(account(message, 0), Some(fee_payer.as_slice()));
    for index in 1..signers {
        let account = account(message, index).unwrap();
        assert!(key_of(account).is_some(), "nobody has signed for account {index}");
    }
    if !found.proven {
        return;
    }
    let payer = bs58::decode(found.payer.as_deref().unwrap()).into_vec().unwrap();
    assert!((1..signers).any(|index| account(message, index) == Some(payer.as_slice())));
    // `TransferChecked` of 10000 units, and the token somewhere among the accounts.
    let transfer = [&[12][..], &10_000_u64.to_le_bytes()].concat();
    assert!(message.windows(transfer.len()).any(|window| window == transfer));
    let token = bs58::decode(&terms()[2].asset).into_vec().unwrap();
    assert!(message.windows(token.len()).any(|window| window == token));
}

fn inspect(transaction: &[u8]) -> Result<Authorization, Reason> {
    let terms = &terms()[2];
    let encoded = Value::from(STANDARD.encode(transaction));
    let mut terms = terms.clone();
    terms.extra.insert("feePayer".to_owned(), FEE_PAYER.into());
    let payload = Map::from_iter([("transaction".to_owned(), encoded)]);
    scheme::find("exact", &terms.network).inspect(&terms, &payload, MOMENT)
}

/// Where a message's header begins: behind the version, if there is one.
fn start(message: &[u8]) -> usize {
    usize::from(message.first().is_some_and(|first| first & 0x80 != 0))
}

fn signers(message: &[u8]) -> Option<usize> {
    let signers = usize::from(*message.get(start(message))?);
    (1..=SIGNERS_MAX).contains(&signers).then_some(signers)
}

/// An account by its place, where their number is written in one byte.
fn account(message: &[u8], index: usize) -> Option<&[u8]> {
    let first = start(message) + 4;
    message.get(first + 32 * index..first + 32 * index + 32)
}

fn key_of(account: &[u8]) -> Option<Ed25519KeyPair> {
    let keys = SEEDS.iter().filter_map(|seed| Ed25519KeyPair::from_seed_unchecked(&[*seed; 32]).ok());
    keys.into_iter().find(|key| key.public_key().as_ref() == account)
}

fn signature(message: &[u8], index: usize) -> [u8; 64] {
    let key = account(message, index).and_then(key_of);
    let signed = key.and_then(|key| key.sign(message).as_ref().try_into().ok());
    signed.unwrap_or([0; 64])
}

fn transaction(signatures: &[[u8; 64]], message: &[u8]) -> Vec<u8> {
    let count = u8::try_from(signatures.len()).unwrap();
    [&[count], signatures.concat().as_slice(), message].concat()
}
