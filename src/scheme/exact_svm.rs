//! `exact` on Solana (`scheme_exact_svm.md`): a partly signed transaction with one transfer.
//!
//! Checked here: that it can be read, who pays the fee, that every signature but the fee payer's is
//! there and right, and that it moves the offered amount of the offered token with its owner's
//! signature. Programs, accounts, balances and the recipient's token account are the facilitator's to
//! check by simulation.

use base64::Engine as _;
use serde_json::{Map, Value};

use super::ed25519::is_signed;
use super::{Authorization, Moment, PaymentId, Scheme};
use crate::x402::{Network, PaymentRequirements, Reason};

/// Seconds for which a transaction could still land: a blockhash lives 60 to 90 of them; a wide
/// margin costs nothing.
const LIFETIME_SECONDS: u64 = 600;
/// Solana's limit for a serialised transaction.
const TRANSACTION_BYTES_MAX: usize = 1232;
/// Most required signatures in a payment: fee payer, authority, and a few for smart wallets.
const SIGNERS_MAX: usize = 8;
/// Discriminator of `TransferChecked` in the Token and Token-2022 programs.
const TRANSFER_CHECKED: u8 = 12;
const TOKEN_PROGRAM: &str = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA";
const TOKEN_2022_PROGRAM: &str = "TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb";

/// `exact` on Solana.
#[derive(Debug, Clone, Copy)]
pub struct ExactSvm;

impl Scheme for ExactSvm {
    fn name(&self) -> &'static str {
        "exact"
    }

    fn serves(&self, network: &Network) -> bool {
        network.namespace() == "solana"
    }

    fn advertised_extra(&self) -> &'static [&'static str] {
        &["feePayer"]
    }

    fn inspect(
        &self,
        requirements: &PaymentRequirements,
        payload: &Map<String, Value>,
        moment: Moment,
    ) -> Result<Authorization, Reason> {
        let encoded = payload.get("transaction").and_then(Value::as_str).ok_or(Reason::INVALID_PAYLOAD)?;
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| Reason::SVM_TRANSACTION)?;
        let transaction = Transaction::read(&bytes).ok_or(Reason::SVM_TRANSACTION)?;
        let fee_payer = requirements.extra.get("feePayer").and_then(Value::as_str);
        let first = transaction.accounts.first().map(|account| bs58::encode(account).into_string());
        if first.is_none() || first.as_deref() != fee_payer {
            return Err(Reason::SVM_FEE_PAYER);
        }
        transaction.check_signatures()?;
        let (authority, proven) = transaction.check_transfer(requirements)?;
        Ok(Authorization {
            // The message, not the transaction: its fee payer signature is still to come and free to vary.
            id: PaymentId(alloy_primitives::keccak256(transaction.message)),
            payer: authority.map(|account| bs58::encode(account).into_string()),
            proven,
            expires: Some(moment.now.plus(LIFETIME_SECONDS)),
            malleable: false,
            too_late: None,
        })
    }
}

type Account = [u8; 32];

struct Instruction<'a> {
    program: u8,
    accounts: &'a [u8],
    data: &'a [u8],
}

/// A transaction's parts, borrowed (Solana's wire format; legacy and v0 messages).
struct Transaction<'a> {
    signatures: Vec<&'a [u8; 64]>,
    message: &'a [u8],
    signers: usize,
    accounts: Vec<&'a Account>,
    instructions: Vec<Instruction<'a>>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// A length in Solana's compact form; one byte in everything that can be a payment, and the
    /// longer spellings of small numbers are not canonical.
    fn length(&mut self) -> Option<usize> {
        let low = self.byte()?;
        if low < 0x80 {
            return Some(low.into());
        }
        let high = self.byte()?;
        (0x01..0x80).contains(&high).then_some(usize::from(low & 0x7f) | usize::from(high) << 7)
    }
}

impl<'a> Transaction<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > TRANSACTION_BYTES_MAX {
            return None;
        }
        let mut reader = Reader(bytes);
        let count = reader.length().filter(|count| (1..=SIGNERS_MAX).contains(count))?;
        let signatures = (0..count).map(|_| reader.array::<64>()).collect::<Option<Vec<_>>>()?;
        let message = reader.0;
        let mut first = reader.byte()?;
        let versioned = first & 0x80 != 0;
        if versioned {
            if first != 0x80 {
                return None;
            }
            first = reader.byte()?;
        }
        let signers = usize::from(first);
        reader.take(2)?;
        let count = reader.length()?;
        let accounts = (0..count).map(|_| reader.array::<32>()).collect::<Option<Vec<_>>>()?;
        reader.take(32)?;
        let count = reader.length()?;
        let instructions = (0..count).map(|_| read_instruction(&mut reader)).collect::<Option<Vec<_>>>()?;
        if versioned {
            let tables = reader.length()?;
            for _ in 0..tables {
                reader.take(32)?;
                for _ in 0..2 {
                    let count = reader.length()?;
                    reader.take(count)?;
                }
            }
        }
        let whole = reader.0.is_empty() && signers == signatures.len() && signers <= accounts.len();
        whole.then_some(Self { signatures, message, signers, accounts, instructions })
    }

    /// Every required signature but the fee payer's, which the facilitator adds.
    fn check_signatures(&self) -> Result<(), Reason> {
        let mut others = 1..self.signers;
        let signed =
            others.all(|index| is_signed(self.accounts[index], self.message, self.signatures[index]));
        if signed { Ok(()) } else { Err(Reason::SVM_SIGNATURE) }
    }

    /// The one `TransferChecked` at top level, against the terms; gives the authority. Smart
    /// wallets transfer in inner instructions that only a simulation shows; those have none.
    fn check_transfer(&self, terms: &PaymentRequirements) -> Result<(Option<&'a Account>, bool), Reason> {
        let is_token = |instruction: &&Instruction<'_>| {
            self.accounts.get(usize::from(instruction.program)).is_some_and(|program| {
                let program = bs58::encode(program).into_string();
                program == TOKEN_PROGRAM || program == TOKEN_2022_PROGRAM
            })
        };
        let mut transfers = self.instructions.iter().filter(is_token);
        let Some(transfer) = transfers.next() else { return Ok((None, false)) };
        if transfers.next().is_some() || transfer.data.first() != Some(&TRANSFER_CHECKED) {
            return Err(Reason::SVM_TRANSACTION);
        }
        let amount = transfer.data.get(1..9).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        if amount.map(alloy_primitives::U256::from) != Some(terms.amount.0) {
            return Err(Reason::SVM_AMOUNT);
        }
        // Accounts of TransferChecked: source, mint, destination, authority.
        let account = |position: usize| {
            let index = transfer.accounts.get(position)?;
            self.accounts.get(usize::from(*index)).copied()
        };
        let mint = account(1).ok_or(Reason::SVM_TRANSACTION)?;
        if bs58::encode(mint).into_string() != terms.asset {
            return Err(Reason::SVM_MINT);
        }
        let position = usize::from(*transfer.accounts.get(3).ok_or(Reason::SVM_TRANSACTION)?);
        let authority = self.accounts.get(position).copied().ok_or(Reason::SVM_TRANSACTION)?;
        // The fee payer must never be the one who pays.
        if authority == self.accounts[0] {
            return Err(Reason::SVM_FEE_PAYER);
        }
        // A multisig account does not sign itself; its signers stand behind it.
        let signed = position < self.signers;
        if signed || transfer.accounts.len() > 4 {
            Ok((Some(authority), signed))
        } else {
            Err(Reason::SVM_SIGNATURE)
        }
    }
}

fn read_instruction<'a>(reader: &mut Reader<'a>) -> Option<Instruction<'a>> {
    let program = reader.byte()?;
    let count = reader.length()?;
    let accounts = reader.take(count)?;
    let count = reader.length()?;
    let data = reader.take(count)?;
    Some(Instruction { program, accounts, data })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;
    use crate::scheme::testing::MOMENT;

    /// Index of each account in [`Draft::new`]'s message.
    const PAYER: u8 = 1;
    const MINT: u8 = 4;
    const TOKEN: u8 = 5;

    fn key(seed: u8) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
    }

    fn account(seed: u8) -> [u8; 32] {
        key(seed).public_key().as_ref().try_into().unwrap()
    }

    fn terms() -> PaymentRequirements {
        let text = |bytes: [u8; 32]| bs58::encode(bytes).into_string();
        PaymentRequirements {
            scheme: "exact".into(),
            network: "solana".parse().unwrap(),
            amount: "10000".parse().unwrap(),
            asset: text([44; 32]),
            pay_to: text(account(3)),
            max_timeout_seconds: 60,
            extra: [("feePayer".to_owned(), text(account(1)).into())].into_iter().collect(),
        }
    }

    /// A transaction before it is signed: fee payer and payer sign, and the payer transfers.
    struct Draft {
        version: Vec<u8>,
        accounts: Vec<[u8; 32]>,
        instructions: Vec<(u8, Vec<u8>, Vec<u8>)>,
        tables: Vec<u8>,
    }

    impl Draft {
        fn new() -> Self {
            let token = bs58::decode(TOKEN_PROGRAM).into_vec().unwrap().try_into().unwrap();
            let transfer = [&[TRANSFER_CHECKED][..], &10_000_u64.to_le_bytes(), &[6]].concat();
            Self {
                version: vec![0x80],
                accounts: vec![account(1), account(2), [42; 32], [43; 32], [44; 32], token],
                instructions: vec![(TOKEN, vec![2, MINT, 3, PAYER], transfer)],
                tables: vec![0],
            }
        }

        fn message(&self) -> Vec<u8> {
            let count = |length: usize| u8::try_from(length).unwrap();
            let mut message = [self.version.as_slice(), &[2, 0, 2, count(self.accounts.len())]].concat();
            message.extend(self.accounts.iter().flatten());
            message.extend([9; 32]);
            message.push(count(self.instructions.len()));
            for (program, accounts, data) in &self.instructions {
                message.extend([*program, count(accounts.len())]);
                message.extend(accounts);
                message.push(count(data.len()));
                message.extend(data);
            }
            message.extend(&self.tables);
            message
        }

        fn signed(&self) -> Vec<u8> {
            let message = self.message();
            [&[2][..], &[0; 64], key(2).sign(&message).as_ref(), &message].concat()
        }
    }

    fn inspect(bytes: &[u8]) -> Result<Authorization, Reason> {
        let encoded = base64::engine::general_purpose::STANDARD.encode(bytes);
        ExactSvm.inspect(&terms(), json!({"transaction": encoded}).as_object().unwrap(), MOMENT)
    }

    #[test]
    fn a_right_transaction_is_understood() {
        let found = inspect(&Draft::new().signed()).unwrap();
        assert_eq!(found.payer, Some(bs58::encode(account(2)).into_string()));
        assert_eq!(found.expires, Some(MOMENT.now.plus(LIFETIME_SECONDS)));
        let legacy = Draft { version: vec![], tables: vec![], ..Draft::new() };
        assert_ne!(inspect(&legacy.signed()).unwrap().id, found.id);
    }

    #[test]
    fn the_fee_payers_signature_is_no_part_of_the_identity_and_every_other_byte_counts() {
        let right = Draft::new().signed();
        let id = inspect(&right).unwrap().id;
        for position in 0..right.len() {
            let mut changed = right.clone();
            changed[position] ^= 1;
            let found = inspect(&changed);
            if (1..65).contains(&position) {
                assert_eq!(found.unwrap().id, id, "byte {position}");
            } else {
                assert!(found.is_err(), "byte {position}");
            }
        }
    }

    #[test]
    fn a_transaction_is_read_whole_or_not_at_all() {
        let right = Draft::new().signed();
        for length in 0..right.len() {
            assert_eq!(inspect(&right[..length]), Err(Reason::SVM_TRANSACTION), "{length} bytes");
        }
        assert_eq!(inspect(&[right.as_slice(), &[0]].concat()), Err(Reason::SVM_TRANSACTION));
        let mut large = Draft::new();
        large.instructions.extend((0..10).map(|_| (PAYER, vec![], vec![0; 100])));
        assert!(large.signed().len() > TRANSACTION_BYTES_MAX);
        assert_eq!(inspect(&large.signed()), Err(Reason::SVM_TRANSACTION));
    }

    #[test]
    fn what_a_lookup_table_hides_is_not_believed() {
        let with_table = |change: fn(&mut Draft)| {
            // One table, of which the first entry is account 6 of the message.
            let mut draft = Draft::new();
            draft.tables = [&[1][..], &[50; 32], &[1, 0, 0]].concat();
            change(&mut draft);
            inspect(&draft.signed())
        };
        assert!(with_table(|_| {}).is_ok(), "a table for other accounts does no harm");
        let hidden = Err(Reason::SVM_TRANSACTION);
        assert_eq!(with_table(|draft| draft.instructions[0].1[1] = 6), hidden, "the mint");
        assert_eq!(with_table(|draft| draft.instructions[0].1[3] = 6), hidden, "the owner");
        assert_eq!(with_table(|draft| draft.instructions[0].1.truncate(3)), hidden, "no owner at all");
    }

    #[test]
    fn the_owner_must_sign_and_must_not_be_the_fee_payer() {
        let owned_by = |position: u8, signers: &[u8]| {
            let mut draft = Draft::new();
            draft.instructions[0].1[3] = position;
            draft.instructions[0].1.extend(signers);
            inspect(&draft.signed()).map(|found| found.payer)
        };
        assert_eq!(owned_by(0, &[]), Err(Reason::SVM_FEE_PAYER));
        assert_eq!(owned_by(2, &[]), Err(Reason::SVM_SIGNATURE));
        let multisig = Some(bs58::encode([42; 32]).into_string());
        assert_eq!(owned_by(2, &[PAYER]), Ok(multisig), "a multisig account's signers sign for it");
    }

    #[test]
    fn an_account_whose_key_is_nobodys_pays_nothing() {
        // The first of few messages for which nothing at all is a signature of such a key.
        for memo in 0..32 {
            let mut draft = Draft::new();
            draft.accounts[1] = [0; 32];
            draft.instructions.push((PAYER, vec![], vec![memo]));
            let unsigned = [&[2][..], &[0; 128], &draft.message()].concat();
            assert_eq!(inspect(&unsigned), Err(Reason::SVM_SIGNATURE), "memo {memo}");
        }
    }

    #[test]
    fn what_is_no_transaction_or_has_no_offered_fee_payer_is_refused() {
        for payload in [json!({}), json!({"transaction": 7}), json!({"transaction": null})] {
            let inspected = ExactSvm.inspect(&terms(), payload.as_object().unwrap(), MOMENT);
            assert_eq!(inspected, Err(Reason::INVALID_PAYLOAD));
        }
        for text in ["", "AA", "!!!!", "AQ=="] {
            let payload = json!({ "transaction": text });
            let inspected = ExactSvm.inspect(&terms(), payload.as_object().unwrap(), MOMENT);
            assert_eq!(inspected, Err(Reason::SVM_TRANSACTION), "{text:?}");
        }
        let mut without = terms();
        without.extra.clear();
        let encoded = base64::engine::general_purpose::STANDARD.encode(Draft::new().signed());
        let payload = json!({ "transaction": encoded });
        let inspected = ExactSvm.inspect(&without, payload.as_object().unwrap(), MOMENT);
        assert_eq!(inspected, Err(Reason::SVM_FEE_PAYER));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(inspect(&bytes).is_err());
        }

        #[test]
        fn any_change_of_a_transaction_is_refused_without_panic(
            position in 65_usize..400, bytes in proptest::collection::vec(any::<u8>(), 1..4)
        ) {
            let right = Draft::new().signed();
            let mut changed = right.clone();
            let position = position % (right.len() - 65) + 65;
            changed.splice(position..(position + bytes.len()).min(right.len()), bytes);
            prop_assume!(changed != right);
            prop_assert!(inspect(&changed).is_err());
        }
    }
}
