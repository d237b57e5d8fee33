//! `ledger resolve`: an operator decides about a payment nobody can find out about.

use std::sync::Arc;

use super::coins::Coins;
use super::text::clean;
use super::{Exit, Stop, World, show, when};
use crate::clock::UnixSeconds;
use crate::ledger::{Ledger, LedgerError, PaymentRecord, PaymentState, Recorded, Settlement};
use crate::x402::SettleResponse;

/// Characters a reason may have.
const REASON_CHARACTERS_MAX: usize = 500;
/// Characters a transaction may have; those of networks in use have 66 or 88.
const TRANSACTION_CHARACTERS_MAX: usize = 128;

/// What the operator knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// The money moved, perhaps by a known transaction.
    Settled(Option<String>),
    /// No money moved, and how that is known.
    Declined(String),
}

impl Decision {
    /// Checks what was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn new(
        declined: bool,
        transaction: Option<&str>,
        reason: Option<&str>,
    ) -> Result<Self, String> {
        let checked = |text: &str, what: &str, characters_max: usize| {
            let text = text.trim();
            if text.is_empty() {
                return Err(format!("{what} is empty"));
            }
            if text.chars().count() > characters_max {
                return Err(format!("{what} is longer than {characters_max} characters"));
            }
            if text.chars().any(char::is_control) {
                return Err(format!("{what} is more than one line"));
            }
            Ok(text.to_owned())
        };
        if declined {
            return checked(reason.unwrap_or_default(), "--reason", REASON_CHARACTERS_MAX)
                .map(Self::Declined);
        }
        let transaction = transaction.map(|text| checked(text, "--transaction", TRANSACTION_CHARACTERS_MAX));
        transaction.transpose().map(Self::Settled)
    }

    /// The question whether to go on.
    fn question(&self, record: &PaymentRecord, now: UnixSeconds) -> String {
        match self {
            Self::Settled(_) => {
                "Record that the money moved? Whoever presents the payment again gets what it bought; this cannot \
                 be taken back."
                    .to_owned()
            }
            Self::Declined(_) => match record.expires {
                Some(expires) if expires <= now => {
                    "Record that no money moved? The payment can no longer be settled.".to_owned()
                }
                expires => {
                    let end = expires.map_or_else(String::new, |end| format!(" until {}", when::shown(end)));
                    format!(
                        "Record that no money moved? Careful: the payment can still be settled{end} by whoever \
                         has seen it, and the gateway will no longer look whether it was."
                    )
                }
            },
        }
    }
}

/// What is asked before anything is changed.
pub(super) type Confirm<'a> = &'a mut dyn FnMut(&str) -> Result<bool, Stop>;

/// Records the decision about an unresolved payment, in a ledger that is opened once it was confirmed.
///
/// # Errors
/// When the payment is not unresolved, the ledger cannot be used, or the operator cannot be asked.
pub(super) async fn resolve(
    record: &PaymentRecord,
    decision: &Decision,
    coins: &mut Coins,
    world: &mut World<'_>,
    confirm: Confirm<'_>,
    open: impl AsyncFnOnce() -> Result<Arc<dyn Ledger>, Stop>,
) -> Result<Exit, Stop> {
    if record.state != PaymentState::Unresolved {
        let message = format!("{} is not unresolved; it is {}", record.id, show::state(record));
        return Err(Stop::Not(message));
    }
    show::show(record, coins, world.err)?;
    writeln!(world.err)?;
    let now = world.clock.now();
    if !confirm(&decision.question(record, now))? {
        return Err(Stop::Not("nothing was changed".to_owned()));
    }
    let ledger = open().await?;
    let done = match decision {
        Decision::Settled(transaction) => settle(&*ledger, record, transaction.as_deref(), now).await,
        Decision::Declined(reason) => {
            let reason = format!("declined by the operator: {reason}");
            let declined = ledger.declined(record.token(), &reason, now).await;
            declined.map(|()| "recorded as declined; it may be presented anew".to_owned())
        }
    };
    match done {
        Ok(words) => {
            writeln!(world.out, "{} {words}", record.id)?;
            Ok(Exit::Done)
        }
        // A gateway found out, or somebody else decided, between the question and the answer.
        Err(LedgerError::WrongState { found, .. }) => {
            let found = found.map_or("in use again", PaymentState::as_str);
            Err(Stop::Not(format!("nothing was changed: {} is {found} meanwhile", record.id)))
        }
        Err(error @ LedgerError::Unavailable(_)) => Err(error.into()),
    }
}

async fn settle(
    ledger: &dyn Ledger,
    record: &PaymentRecord,
    transaction: Option<&str>,
    now: UnixSeconds,
) -> Result<String, LedgerError> {
    let transaction = transaction.unwrap_or(&record.transaction).to_owned();
    let response = SettleResponse {
        success: true,
        error_reason: None,
        payer: record.particulars.payer.clone(),
        transaction,
        network: record.particulars.network.as_str().to_owned(),
        amount: None,
        extra: None,
        extensions: None,
    };
    let unique_transaction = record.unique_transaction;
    let settlement = Settlement { response: &response, deliver: false, unique_transaction };
    Ok(match ledger.settled(record.token(), settlement, now).await? {
        Recorded::Deliver | Recorded::Owed => {
            "recorded as settled; it is delivered when its payer presents it again".to_owned()
        }
        Recorded::Taken => "was settled meanwhile; nothing was changed".to_owned(),
        Recorded::TransactionUsed => {
            let transaction = clean(&response.transaction);
            format!("recorded as declined: {transaction} settled another payment already")
        }
    })
}
