//! `exact` on Solana (`scheme_exact_svm.md`): a partly signed transaction with one transfer.
//!
//! Checked here: that it can be read, who pays the fee, that every signature but the fee payer's is
//! there and right, and that it moves the offered amount of the offered token with its owner's
//! signature. Programs, accounts, balances and the recipient's token account are the facilitator's to
//! check by simulation.

use base64::Engine as _;
use serde_json::{Map, Value};

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
        let authority = transaction.check_transfer(requirements)?;
        Ok(Authorization {
            // The message, not the transaction: its fee payer signature is still to come and free to vary.
            id: PaymentId(alloy_primitives::keccak256(transaction.message)),
            payer: authority.map(|account| bs58::encode(account).into_string()),
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
        for index in 1..self.signers {
            let key =
                ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, self.accounts[index]);
            key.verify(self.message, self.signatures[index]).map_err(|_| Reason::SVM_SIGNATURE)?;
        }
        Ok(())
    }

    /// The one `TransferChecked` at top level, against the terms; gives the authority. Smart
    /// wallets transfer in inner instructions that only a simulation shows; those have none.
    fn check_transfer(&self, terms: &PaymentRequirements) -> Result<Option<&'a Account>, Reason> {
        let is_token = |instruction: &&Instruction<'_>| {
            self.accounts.get(usize::from(instruction.program)).is_some_and(|program| {
                let program = bs58::encode(program).into_string();
                program == TOKEN_PROGRAM || program == TOKEN_2022_PROGRAM
            })
        };
        let mut transfers = self.instructions.iter().filter(is_token);
        let Some(transfer) = transfers.next() else { return Ok(None) };
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
        let signed = position < self.signers || transfer.accounts.len() > 4;
        if signed { Ok(Some(authority)) } else { Err(Reason::SVM_SIGNATURE) }
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
