//! The rules of a payment's life, as pure functions over its record: the same for every
//! implementation, which only reads and writes records.

use std::time::Duration;

use super::step::{Answer, Step};
use super::{
    ClaimToken, Claimed, DeliveryEnd, EXPIRY_GRACE_SECONDS, GatewayId, HURRY_SECONDS, Intended, Intent,
    LedgerError, NewClaim, PayerLimits, PaymentRecord, PaymentState, Recorded, TakenOver, ToldPayer,
    Unresolved,
};
use crate::clock::UnixSeconds;
use crate::scheme::PaymentId;
use crate::x402::{AtomicAmount, SettleResponse};

/// What is known beside the payment's own record when a step is decided.
#[derive(Debug, Clone, Default)]
pub(super) struct Beside {
    /// For a claim with an identifier: the payment in use or settled that has it.
    pub(super) same_identifier: Option<Box<PaymentRecord>>,
    /// For a claim with limits, and an intent that counts: other payments their payer has pledged on the
    /// network.
    pub(super) pledged_count: u32,
    /// For the same: sum of those in the same asset.
    pub(super) pledged_sum: AtomicAmount,
    /// For a settlement with a unique transaction: whether it settled another payment.
    pub(super) transaction_used: bool,
}

/// What a step writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing.
    None,
    /// This record, in place of the one with its identity.
    Put(Box<PaymentRecord>),
    /// The record goes.
    Delete(PaymentId),
}

/// Who decides, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) me: GatewayId,
    pub(super) now: UnixSeconds,
}

/// Decides a step on a payment, given its record.
pub(super) fn decide(
    step: &Step,
    record: Option<PaymentRecord>,
    beside: Beside,
    moment: Moment,
) -> Result<(Change, Answer), LedgerError> {
    match step {
        Step::Claim(claim) => {
            let (change, claimed) = decide_claim(claim, record, beside, moment);
            Ok((change, Answer::Claimed(claimed)))
        }
        Step::Recant(claim) => Ok((recant(claim, record, beside, moment), Answer::Done)),
        Step::Release { token, reason } => {
            let record = granted(record, *token);
            let record = held(record, *token, "released", &[PaymentState::Claimed], Some(moment.me))?;
            Ok((release(record, reason.as_deref(), moment.now), Answer::Done))
        }
        Step::Settling { token, intent } => {
            let record = granted(record, *token);
            let from = [PaymentState::Claimed, PaymentState::Settling];
            let record = held(record, *token, "settling", &from, Some(moment.me))?;
            let (change, intended) = intend(record, intent, &beside, moment.now);
            Ok((change, Answer::Intended(intended)))
        }
        Step::Abandoned { token, reason } => {
            let record = granted(record, *token);
            let from = [PaymentState::Claimed, PaymentState::Settling];
            let record = held(record, *token, "abandoned", &from, Some(moment.me))?;
            let change = match record.state {
                PaymentState::Claimed => release(record, Some(reason), moment.now),
                _ => Change::Put(decline(record, reason, moment.now)),
            };
            Ok((change, Answer::Done))
        }
        Step::Settled { token, response, deliver, unique_transaction } => {
            let known = [
                PaymentState::Settling,
                PaymentState::Unresolved,
                PaymentState::Settled,
                PaymentState::Delivered,
                // A no that proves wrong later gives way to the truth.
                PaymentState::Declined,
            ];
            let record = held(record, *token, "settled", &known, None)?;
            if *unique_transaction && response.transaction.is_empty() {
                let (id, found) = (token.id, Some(record.state));
                return Err(LedgerError::WrongState { id, wanted: "settled without a transaction", found });
            }
            let used = *unique_transaction && beside.transaction_used;
            let deliver = deliver.then_some(token.grant);
            let (change, recorded) = settle(record, response, deliver, used, moment);
            Ok((change, Answer::Recorded(recorded)))
        }
        Step::Declined { token, reason } => {
            let from = [PaymentState::Settling, PaymentState::Unresolved];
            let record = held(granted(record, *token), *token, "declined", &from, None)?;
            Ok((Change::Put(decline(record, reason, moment.now)), Answer::Done))
        }
        Step::Unresolved { token, reason, transaction, next_try } => {
            let from = [PaymentState::Settling, PaymentState::Unresolved];
            let record = held(granted(record, *token), *token, "unresolved", &from, None)?;
            Ok((Change::Put(leave_open(record, reason, transaction, *next_try, moment.now)), Answer::Done))
        }
        Step::Delivered { token, end } => {
            let record = granted(record, *token);
            let record = held(record, *token, "delivered", &[PaymentState::Settled], Some(moment.me))?;
            Ok((Change::Put(end_delivery(record, *end, moment.now)), Answer::Done))
        }
    }
}

/// The record, if it is still what this token was granted; the truth about the money alone is
/// taken from whoever knows it.
fn granted(record: Option<PaymentRecord>, token: ClaimToken) -> Option<PaymentRecord> {
    record.filter(|record| record.grant == token.grant)
}

/// The record, if the token is that of its present attempt, its state is one of `from`, and `owner`
/// holds it where that matters.
fn held(
    record: Option<PaymentRecord>,
    token: ClaimToken,
    wanted: &'static str,
    from: &[PaymentState],
    owner: Option<GatewayId>,
) -> Result<Box<PaymentRecord>, LedgerError> {
    let wrong = |found| LedgerError::WrongState { id: token.id, wanted, found };
    let record = record.filter(|record| record.attempt == token.attempt).ok_or_else(|| wrong(None))?;
    if !from.contains(&record.state) {
        return Err(wrong(Some(record.state)));
    }
    if owner.is_some() && record.owner != owner {
        return Err(wrong(None));
    }
    Ok(Box::new(record))
}

fn moved(mut record: Box<PaymentRecord>, state: PaymentState, now: UnixSeconds) -> Box<PaymentRecord> {
    record.state = state;
    record.changed_at = now;
    record
}

fn decide_claim(
    claim: &NewClaim,
    record: Option<PaymentRecord>,
    beside: Beside,
    moment: Moment,
) -> (Change, Claimed) {
    let attempt = match record {
        Some(record) if !record.state.is_free() => return present(Box::new(record), claim, moment),
        Some(record) => record.attempt.saturating_add(1),
        None => 1,
    };
    if let Some(same) = beside.same_identifier {
        if same.request_hash != claim.request {
            return (Change::None, Claimed::IdentifierUsed);
        }
        return present(same, claim, moment);
    }
    if exceeds(claim.limits, &beside, claim.particulars.amount) {
        return (Change::None, Claimed::PayerLimit);
    }
    let record = Box::new(PaymentRecord {
        id: claim.id,
        attempt,
        state: PaymentState::Claimed,
        particulars: claim.particulars.clone(),
        expires: claim.expires,
        request_hash: claim.request,
        repeatable: claim.repeatable,
        identifier: claim.identifier,
        redelivery: claim.redelivery,
        request: None,
        unique_transaction: false,
        response: None,
        transaction: String::new(),
        reason: String::new(),
        deliveries: 0,
        owner: Some(moment.me),
        grant: claim.grant,
        tries: 0,
        tried_at: None,
        next_try: None,
        claimed_at: moment.now,
        settling_at: None,
        settled_at: None,
        delivered_at: None,
        changed_at: moment.now,
    });
    let claimed = Claimed::New(record.token());
    (Change::Put(record), claimed)
}

fn intend(
    record: Box<PaymentRecord>,
    intent: &Intent,
    beside: &Beside,
    now: UnixSeconds,
) -> (Change, Intended) {
    if let Some(told) = counting(&record, intent)
        && exceeds(told.limits, beside, record.particulars.amount)
    {
        return (Change::None, Intended::PayerLimit);
    }
    let is_first = record.state == PaymentState::Claimed;
    let mut record = moved(record, PaymentState::Settling, now);
    record.particulars.facilitator.clone_from(&intent.facilitator);
    if is_first {
        record.settling_at = Some(now);
        record.request = Some(intent.request.clone());
        record.unique_transaction = intent.unique_transaction;
        let told = intent.payer.as_ref().map(|told| told.name.clone());
        record.particulars.payer = record.particulars.payer.take().or(told);
    }
    (Change::Put(record), Intended::Recorded)
}

/// The payer who becomes known by an intent, if what the payment pledges counts from then on.
pub(super) fn counting<'i>(record: &PaymentRecord, intent: &'i Intent) -> Option<&'i ToldPayer> {
    let becomes_known = record.state == PaymentState::Claimed && record.particulars.payer.is_none();
    intent.payer.as_ref().filter(|_| becomes_known && !intent.unique_transaction)
}

fn exceeds(limits: PayerLimits, beside: &Beside, amount: AtomicAmount) -> bool {
    let too_many = limits.count > 0 && beside.pledged_count >= limits.count;
    let too_much = limits
        .sum
        .is_some_and(|sum| beside.pledged_sum.0.checked_add(amount.0).is_none_or(|pledged| pledged > sum.0));
    too_many || too_much
}

/// A payment that is in use or was settled is presented again.
fn present(mut record: Box<PaymentRecord>, claim: &NewClaim, moment: Moment) -> (Change, Claimed) {
    let same_request = record.request_hash == claim.request;
    if same_request
        && may_deliver_again(&record, claim, moment.now)
        && let Some(response) = record.response.clone()
    {
        record = moved(record, PaymentState::Settled, moment.now);
        record.deliveries = record.deliveries.saturating_add(1);
        (record.owner, record.grant) = (Some(moment.me), claim.grant);
        let token = record.token();
        return (Change::Put(record), Claimed::Owed { token, response });
    }
    let delivering = record.state == PaymentState::Settled && record.owner.is_some();
    let answer = Claimed::Held { state: record.state, same_request, delivering };
    let waits = record.state == PaymentState::Unresolved && record.owner.is_none();
    if waits && same_request {
        // Its payer asks for it: driven soon, however long the back-off has become.
        let earliest = record.tried_at.map_or(moment.now, |tried| tried.plus(HURRY_SECONDS)).max(moment.now);
        if record.next_try.is_none_or(|next| next > earliest) {
            record.next_try = Some(earliest);
            return (Change::Put(record), answer);
        }
    }
    (Change::None, answer)
}

/// Whether a settled payment, presented for its own request, is delivered without another charge.
fn may_deliver_again(record: &PaymentRecord, claim: &NewClaim, now: UnixSeconds) -> bool {
    let in_time = record.settled_at.is_some_and(|at| now <= at.plus(record.redelivery.window_seconds));
    // The first delivery is not a try.
    let has_tries = record.deliveries <= record.redelivery.tries;
    let repeats = record.repeatable && in_time && has_tries;
    match record.state {
        PaymentState::Settled => record.owner.is_none() && (record.deliveries == 0 || repeats),
        PaymentState::Delivered => {
            repeats && record.identifier.is_some() && record.identifier == claim.identifier
        }
        PaymentState::Claimed
        | PaymentState::Settling
        | PaymentState::Unresolved
        | PaymentState::Declined
        | PaymentState::Released => false,
    }
}

/// Gives back whatever exactly this claim was granted: the payment, or a delivery that is owed.
fn recant(claim: &NewClaim, record: Option<PaymentRecord>, beside: Beside, moment: Moment) -> Change {
    let granted = |record: &PaymentRecord| record.owner == Some(moment.me) && record.grant == claim.grant;
    let own = record.filter(granted).map(Box::new);
    match own.or_else(|| beside.same_identifier.filter(|same| granted(same))) {
        Some(record) if record.state == PaymentState::Claimed => release(record, None, moment.now),
        Some(record) if record.state == PaymentState::Settled => {
            Change::Put(end_delivery(record, DeliveryEnd::NotBegun, moment.now))
        }
        _ => Change::None,
    }
}

fn release(record: Box<PaymentRecord>, reason: Option<&str>, now: UnixSeconds) -> Change {
    // An earlier attempt was recorded: the count goes on, so that its token stays worthless.
    if reason.is_none() && record.attempt == 1 {
        return Change::Delete(record.id);
    }
    let mut record = moved(record, PaymentState::Released, now);
    record.owner = None;
    reason.unwrap_or_default().clone_into(&mut record.reason);
    Change::Put(record)
}

fn settle(
    record: Box<PaymentRecord>,
    response: &SettleResponse,
    deliver: Option<u64>,
    transaction_used: bool,
    moment: Moment,
) -> (Change, Recorded) {
    let was_settled = matches!(record.state, PaymentState::Settled | PaymentState::Delivered);
    if was_settled && (deliver.is_none() || record.deliveries > 0) {
        return (Change::None, Recorded::Taken);
    }
    if transaction_used {
        let reason = "its transaction settled another payment";
        return (Change::Put(decline(record, reason, moment.now)), Recorded::TransactionUsed);
    }
    let mut record = moved(record, PaymentState::Settled, moment.now);
    if !was_settled {
        record.settled_at = Some(moment.now);
        record.response = Some(Box::new(response.clone()));
        record.transaction.clone_from(&response.transaction);
        let particulars = &mut record.particulars;
        particulars.payer = particulars.payer.take().or_else(|| response.payer.clone());
        record.reason.clear();
        record.request = None;
        record.next_try = None;
    }
    let Some(grant) = deliver else {
        (record.owner, record.deliveries) = (None, 0);
        return (Change::Put(record), Recorded::Owed);
    };
    (record.owner, record.grant, record.deliveries) = (Some(moment.me), grant, 1);
    (Change::Put(record), Recorded::Deliver)
}

fn decline(record: Box<PaymentRecord>, reason: &str, now: UnixSeconds) -> Box<PaymentRecord> {
    let mut record = moved(record, PaymentState::Declined, now);
    reason.clone_into(&mut record.reason);
    (record.owner, record.request, record.next_try) = (None, None, None);
    record
}

fn leave_open(
    record: Box<PaymentRecord>,
    reason: &str,
    transaction: &str,
    next_try: UnixSeconds,
    now: UnixSeconds,
) -> Box<PaymentRecord> {
    let again = record.state == PaymentState::Unresolved;
    let changed_at = if again { record.changed_at } else { now };
    let mut record = moved(record, PaymentState::Unresolved, changed_at);
    record.tries = record.tries.saturating_add(u32::from(again));
    record.tried_at = Some(now);
    record.next_try = Some(next_try);
    record.owner = None;
    reason.clone_into(&mut record.reason);
    if !transaction.is_empty() {
        transaction.clone_into(&mut record.transaction);
    }
    record
}

fn end_delivery(record: Box<PaymentRecord>, end: DeliveryEnd, now: UnixSeconds) -> Box<PaymentRecord> {
    let state = match end {
        DeliveryEnd::Complete => PaymentState::Delivered,
        DeliveryEnd::BrokenOff | DeliveryEnd::NotBegun => PaymentState::Settled,
    };
    let mut record = moved(record, state, now);
    record.owner = None;
    match end {
        DeliveryEnd::Complete => record.delivered_at = Some(now),
        DeliveryEnd::BrokenOff => {}
        DeliveryEnd::NotBegun => record.deliveries = record.deliveries.saturating_sub(1),
    }
    record
}

/// An unresolved payment that is due, taken by `me`: the record to write, and what to drive.
/// `None`: it is not due.
pub(super) fn take(
    mut record: PaymentRecord,
    lease: Duration,
    moment: Moment,
) -> Option<(Box<PaymentRecord>, Unresolved)> {
    let is_due = record.next_try.is_none_or(|next| next <= moment.now);
    if record.state != PaymentState::Unresolved || !is_due {
        return None;
    }
    record.owner = Some(moment.me);
    record.tried_at = Some(moment.now);
    record.next_try = Some(moment.now.plus(lease.as_secs().max(1)));
    let taken = Unresolved {
        token: record.token(),
        request: record.request.clone().unwrap_or_default(),
        facilitator: record.particulars.facilitator.clone(),
        settling_at: record.settling_at.unwrap_or(record.claimed_at),
        expires: record.expires,
        tries: record.tries,
        transaction: record.transaction.clone(),
        unique_transaction: record.unique_transaction,
    };
    Some((Box::new(record), taken))
}

/// What becomes of a payment whose gateway is gone; `None`: nothing, it held nothing.
pub(super) fn take_over(
    record: PaymentRecord,
    now: UnixSeconds,
    taken: &mut TakenOver,
) -> Option<Box<PaymentRecord>> {
    record.owner?;
    let record = Box::new(record);
    let mut record = match record.state {
        PaymentState::Claimed => {
            taken.released += 1;
            let mut record = moved(record, PaymentState::Released, now);
            "its gateway ended before settlement was asked for".clone_into(&mut record.reason);
            record
        }
        PaymentState::Settling => {
            taken.unresolved += 1;
            let mut record = moved(record, PaymentState::Unresolved, now);
            "its gateway ended during settlement".clone_into(&mut record.reason);
            record.next_try = Some(now);
            record
        }
        PaymentState::Unresolved => {
            taken.broken_off += 1;
            let mut record = record;
            record.next_try = Some(now);
            record
        }
        PaymentState::Settled | PaymentState::Delivered | PaymentState::Declined | PaymentState::Released => {
            taken.broken_off += 1;
            record
        }
    };
    record.owner = None;
    Some(record)
}

/// Whether a payment may be forgotten.
pub(super) fn is_forgettable(record: &PaymentRecord, retention_seconds: u64, now: UnixSeconds) -> bool {
    let at_rest = match record.state {
        PaymentState::Declined | PaymentState::Released => true,
        PaymentState::Settled | PaymentState::Delivered => {
            let over = record.expires.is_some_and(|expires| expires.plus(EXPIRY_GRACE_SECONDS) <= now);
            over && record.owner.is_none()
        }
        PaymentState::Claimed | PaymentState::Settling | PaymentState::Unresolved => false,
    };
    at_rest && record.changed_at.plus(retention_seconds) <= now
}
