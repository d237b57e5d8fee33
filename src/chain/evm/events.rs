//! What the events and calls of a transaction say of a payment.

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};

use super::node::{Call, Log, Receipt, Transaction};
use crate::scheme::EXACT_PROXY;

sol! {
    event Transfer(address indexed from, address indexed to, uint256 value);
    event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
    event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);
    event UnorderedNonceInvalidation(address indexed owner, uint256 word, uint256 mask);
    event Settled();
    event SettledWithPermit();

    function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
    function nonceBitmap(address owner, uint256 word) external view returns (uint256);

    struct TokenPermissions {
        address token;
        uint256 amount;
    }

    struct PermitTransferFrom {
        TokenPermissions permitted;
        uint256 nonce;
        uint256 deadline;
    }

    struct Witness {
        address to;
        uint256 validAfter;
    }

    struct Eip2612Permit {
        uint256 value;
        uint256 deadline;
        bytes32 r;
        bytes32 s;
        uint8 v;
    }

    function settle(PermitTransferFrom permit, address owner, Witness witness, bytes signature) external;
    function settleWithPermit(
        Eip2612Permit permit2612,
        PermitTransferFrom permit,
        address owner,
        Witness witness,
        bytes signature
    ) external;
}

/// A transfer that is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) from: Address,
    pub(crate) to: Address,
    pub(crate) value: U256,
}

/// An event of a token that tells of authorizations and transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenEvent {
    Moved(Wanted),
    Used(Address, B256),
    Cancelled(Address, B256),
}

/// What a transaction did with an authorization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Made the transfer that was looked for.
    Paid,
    /// Used the nonce for another transfer.
    Elsewhere,
    /// Cancelled it.
    Cancelled,
    /// Nothing.
    Nothing,
    /// Used it, for one of several transfers that cannot be told apart.
    Unclear,
}

/// The transfer that an event tells of.
pub(super) fn transfer(log: &Log) -> Option<Wanted> {
    moved(&log.topics, &log.data)
}

fn moved(topics: &[B256], data: &Bytes) -> Option<Wanted> {
    let event = decode_parts::<Transfer>(topics, data)?;
    Some(Wanted { from: event.from, to: event.to, value: event.value })
}

/// The word and bits of nonces that an event of Permit2 tells to be spent without a transfer.
pub(super) fn invalidation(log: &Log) -> Option<(U256, U256)> {
    decode::<UnorderedNonceInvalidation>(log).map(|event| (event.word, event.mask))
}

/// Whether an event tells that an authorization was cancelled.
pub(super) fn is_cancellation(log: &Log) -> bool {
    decode::<AuthorizationCanceled>(log).is_some()
}

fn decode<E: SolEvent>(log: &Log) -> Option<E> {
    decode_parts(&log.topics, &log.data)
}

fn decode_parts<E: SolEvent>(topics: &[B256], data: &Bytes) -> Option<E> {
    // Without the signature as first topic it is another event with the same parameters.
    E::decode_raw_log_validate(topics.iter().copied(), data).ok()
}

fn token_event(topics: &[B256], data: &Bytes) -> Option<TokenEvent> {
    if let Some(moved) = moved(topics, data) {
        return Some(TokenEvent::Moved(moved));
    }
    if let Some(used) = decode_parts::<AuthorizationUsed>(topics, data) {
        return Some(TokenEvent::Used(used.authorizer, used.nonce));
    }
    let cancelled = decode_parts::<AuthorizationCanceled>(topics, data)?;
    Some(TokenEvent::Cancelled(cancelled.authorizer, cancelled.nonce))
}

/// What a transaction that succeeded did with the authorization of `wanted.from` with this nonce.
pub(super) fn deed(receipt: &Receipt, asset: Address, wanted: Wanted, nonce: B256) -> Deed {
    let mut logs: Vec<&Log> = receipt.logs.iter().filter(|log| log.address == asset).collect();
    logs.sort_by_key(|log| log.index);
    deed_in(logs.into_iter().map(|log| (log.topics.as_slice(), &log.data)), wanted, nonce)
}

/// What a transaction that succeeded did with the authorization of `wanted.from` with this nonce, by the
/// topics and data of all events of the token, in their order.
///
/// One transaction may use several authorizations, and move money in other ways too, so the transfer
/// must be the one that belongs to the nonce. Tokens emit the two events one after the other; which
/// comes first is not laid down (EIP-3009's own example emits `AuthorizationUsed` first), but it is
/// the same for all of a token's.
pub(crate) fn deed_in<'a>(
    logs: impl Iterator<Item = (&'a [B256], &'a Bytes)>,
    wanted: Wanted,
    nonce: B256,
) -> Deed {
    let events: Vec<TokenEvent> = logs.filter_map(|(topics, data)| token_event(topics, data)).collect();
    deed_among(&events, wanted, nonce)
}

fn deed_among(events: &[TokenEvent], wanted: Wanted, nonce: B256) -> Deed {
    if events.contains(&TokenEvent::Cancelled(wanted.from, nonce)) {
        return Deed::Cancelled;
    }
    let used = TokenEvent::Used(wanted.from, nonce);
    let Some(place) = events.iter().position(|event| *event == used) else { return Deed::Nothing };
    let after = |place: usize| events.get(place + 1);
    let before = |place: usize| place.checked_sub(1).and_then(|place| events.get(place));
    // In which order every use of an authorization has its transfer.
    let every_use = events.iter().enumerate().filter_map(|(place, event)| match event {
        TokenEvent::Used(authorizer, _) => Some((place, *authorizer)),
        TokenEvent::Moved(_) | TokenEvent::Cancelled(..) => None,
    });
    let is_from = |event: Option<&TokenEvent>, payer: Address| matches!(event, Some(TokenEvent::Moved(moved)) if moved.from == payer);
    let all_after = every_use.clone().all(|(place, payer)| is_from(after(place), payer));
    let all_before = every_use.clone().all(|(place, payer)| is_from(before(place), payer));
    let is_wanted = |event: Option<&TokenEvent>| event == Some(&TokenEvent::Moved(wanted));
    let (paid_after, paid_before) = (is_wanted(after(place)), is_wanted(before(place)));
    let paid = match (all_after, all_before) {
        (true, false) => paid_after,
        (false, true) => paid_before,
        (true, true) if paid_after == paid_before => paid_after,
        (true, true) | (false, false) => return Deed::Unclear,
    };
    if paid { Deed::Paid } else { Deed::Elsewhere }
}

/// Whether a transaction made this transfer of an asset.
pub(super) fn has_transfer(receipt: &Receipt, asset: Address, wanted: Wanted) -> bool {
    transfers(receipt, asset, wanted) > 0
}

/// How often a transaction made this transfer of an asset.
pub(super) fn transfers(receipt: &Receipt, asset: Address, wanted: Wanted) -> usize {
    receipt.logs.iter().filter(|log| log.address == asset && transfer(log) == Some(wanted)).count()
}

/// Whether the x402 proxy says that a payment was settled in a transaction.
pub(super) fn has_settlement(receipt: &Receipt) -> bool {
    let settled = |log: &Log| decode::<Settled>(log).is_some() || decode::<SettledWithPermit>(log).is_some();
    receipt.logs.iter().any(|log| log.address == EXACT_PROXY && settled(log))
}

/// A permit that the proxy spends, and what for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spent {
    pub(super) owner: Address,
    pub(super) nonce: U256,
    pub(super) token: Address,
    amount: U256,
    to: Address,
}

impl Spent {
    /// The transfer that it makes.
    pub(super) const fn wanted(&self) -> Wanted {
        Wanted { from: self.owner, to: self.to, value: self.amount }
    }
}

/// Which permit a transaction spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spends {
    /// This one, and no other.
    Permit(Spent),
    /// None at all.
    None,
    /// That cannot be seen: it calls a contract that may call the proxy.
    Unclear,
}

/// Which permit a transaction spends that moved `token`. Permit2 emits no event that names a nonce,
/// so only a transaction that calls the proxy itself shows it.
pub(super) fn spends(transaction: &Transaction, token: Address) -> Spends {
    match transaction.to {
        Some(to) if to == EXACT_PROXY => spent(&transaction.input).map_or(Spends::Unclear, Spends::Permit),
        // A transfer by the token's own means.
        Some(to) if to == token => Spends::None,
        _ => Spends::Unclear,
    }
}

/// The permit that a call of the proxy spends.
fn spent(input: &Bytes) -> Option<Spent> {
    let settle = || {
        let call = settleCall::abi_decode_validate(input).ok()?;
        Some((call.permit, call.owner, call.witness))
    };
    let settle_with_permit = || {
        let call = settleWithPermitCall::abi_decode_validate(input).ok()?;
        Some((call.permit, call.owner, call.witness))
    };
    let (permit, owner, witness) = settle().or_else(settle_with_permit)?;
    let PermitTransferFrom { permitted, nonce, .. } = permit;
    Some(Spent { owner, nonce, token: permitted.token, amount: permitted.amount, to: witness.to })
}

/// Every permit that was spent by a call of the proxy within a call, itself included. What was taken
/// back, because the call or one around it failed, was not spent; and a call that only borrows the
/// proxy's code is none of the proxy's.
pub(super) fn all_spent(call: &Call) -> Vec<Spent> {
    let (mut found, mut open) = (Vec::new(), vec![call]);
    while let Some(call) = open.pop() {
        if call.failed() {
            continue;
        }
        if call.kind == "CALL" && call.to == Some(EXACT_PROXY) {
            found.extend(spent(&call.input));
        }
        open.extend(&call.calls);
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PAYER: Address = Address::repeat_byte(1);
    const PAYEE: Address = Address::repeat_byte(2);
    const NONCE: B256 = B256::repeat_byte(7);

    fn to(to: Address, value: u64) -> TokenEvent {
        TokenEvent::Moved(Wanted { from: PAYER, to, value: U256::from(value) })
    }

    fn used(nonce: u8) -> TokenEvent {
        TokenEvent::Used(PAYER, B256::repeat_byte(nonce))
    }

    fn judge(events: &[TokenEvent]) -> Deed {
        deed_among(events, Wanted { from: PAYER, to: PAYEE, value: U256::from(5) }, NONCE)
    }

    #[test]
    fn the_transfer_that_belongs_to_a_nonce_is_told_from_others() {
        let other = Address::repeat_byte(3);
        let foreign = TokenEvent::Moved(Wanted { from: other, to: PAYEE, value: U256::from(5) });
        for (events, expected) in [
            (vec![used(7), to(PAYEE, 5)], Deed::Paid),
            (vec![to(PAYEE, 5), used(7)], Deed::Paid),
            (vec![used(7), to(PAYEE, 4)], Deed::Elsewhere),
            (vec![used(7), to(other, 5)], Deed::Elsewhere),
            (vec![foreign, used(7), to(PAYEE, 5)], Deed::Paid),
            // Somebody else's money, although it is the same sum to the same payee.
            (vec![used(7), foreign], Deed::Unclear),
            (vec![used(7)], Deed::Unclear),
            (vec![to(PAYEE, 5)], Deed::Nothing),
            (vec![used(8), to(PAYEE, 5)], Deed::Nothing),
            (vec![TokenEvent::Used(other, NONCE), foreign], Deed::Nothing),
            (vec![TokenEvent::Cancelled(PAYER, NONCE)], Deed::Cancelled),
            (vec![TokenEvent::Cancelled(PAYER, B256::ZERO)], Deed::Nothing),
            // The nonce was used for the payer's own account, beside another payment's transfer.
            (vec![used(7), to(other, 5), used(8), to(PAYEE, 5)], Deed::Elsewhere),
            (vec![used(8), to(PAYEE, 5), used(7), to(other, 5)], Deed::Elsewhere),
            (vec![to(PAYEE, 5), used(8), to(other, 5), used(7)], Deed::Elsewhere),
            (vec![used(8), to(PAYEE, 4), used(7), to(PAYEE, 5)], Deed::Paid),
            (vec![used(8), to(PAYEE, 5), used(7), to(PAYEE, 5)], Deed::Paid),
            // Which comes first with this token cannot be told.
            (vec![to(PAYEE, 5), used(7), to(other, 5)], Deed::Unclear),
            (vec![to(other, 5), used(7), to(PAYEE, 5)], Deed::Unclear),
        ] {
            assert_eq!(judge(&events), expected, "{events:?}");
        }
    }

    #[test]
    fn a_permit_shows_in_calls_of_the_proxy_only() {
        let permit = PermitTransferFrom {
            permitted: TokenPermissions { token: PAYEE, amount: U256::from(5) },
            nonce: U256::from(9),
            deadline: U256::MAX,
        };
        let witness = Witness { to: PAYEE, validAfter: U256::ZERO };
        let permit2612 =
            Eip2612Permit { value: U256::MAX, deadline: U256::MAX, r: B256::ZERO, s: B256::ZERO, v: 27 };
        let settle = settleCall {
            permit: permit.clone(),
            owner: PAYER,
            witness: witness.clone(),
            signature: [1; 65].into(),
        };
        let with_permit =
            settleWithPermitCall { permit2612, permit, owner: PAYER, witness, signature: [1; 65].into() };
        let token = Address::repeat_byte(9);
        let call = |to: Option<Address>, input: Vec<u8>| {
            spends(&Transaction { hash: B256::ZERO, to, input: input.into() }, token)
        };
        let ours = Spends::Permit(Spent {
            owner: PAYER,
            nonce: U256::from(9),
            token: PAYEE,
            amount: U256::from(5),
            to: PAYEE,
        });
        assert_eq!(call(Some(EXACT_PROXY), settle.abi_encode()), ours);
        assert_eq!(call(Some(EXACT_PROXY), with_permit.abi_encode()), ours);
        assert_eq!(call(Some(PAYEE), settle.abi_encode()), Spends::Unclear);
        assert_eq!(call(Some(EXACT_PROXY), vec![1, 2, 3, 4]), Spends::Unclear);
        assert_eq!(call(None, vec![]), Spends::Unclear);
        assert_eq!(call(Some(token), vec![]), Spends::None);
    }

    /// A call of a contract with others in it, as nodes tell it.
    fn call(to: Address, input: &[u8], calls: &[Value]) -> Value {
        json!({"type": "CALL", "from": PAYER, "to": to, "input": Bytes::copy_from_slice(input), "calls": calls})
    }

    fn with(mut call: Value, member: &str, value: &str) -> Value {
        call[member] = value.into();
        call
    }

    #[test]
    fn of_the_calls_within_a_transaction_those_count_that_the_proxy_got_and_that_were_not_taken_back() {
        let settle = |nonce: u64| {
            let permitted = TokenPermissions { token: PAYEE, amount: U256::from(5) };
            let permit = PermitTransferFrom { permitted, nonce: U256::from(nonce), deadline: U256::MAX };
            let witness = Witness { to: PAYEE, validAfter: U256::ZERO };
            settleCall { permit, owner: PAYER, witness, signature: [1; 65].into() }.abi_encode()
        };
        let (ours, other) = (call(EXACT_PROXY, &settle(9), &[]), call(EXACT_PROXY, &settle(8), &[]));
        let within = |calls: Vec<Value>| call(PAYEE, &[], &calls);
        let failed = |call: Value| with(call, "error", "execution reverted");
        for (trace, nonces) in [
            (ours.clone(), vec![9]),
            (within(vec![ours.clone()]), vec![9]),
            (within(vec![within(vec![within(vec![ours.clone()]), other.clone()])]), vec![8, 9]),
            (within(vec![ours.clone(), ours.clone()]), vec![9, 9]),
            // Taken back, with all that is within.
            (failed(ours.clone()), vec![]),
            (within(vec![failed(ours.clone()), other.clone()]), vec![8]),
            (within(vec![failed(within(vec![ours.clone()])), other]), vec![8]),
            // Somebody else, who was sent the same.
            (within(vec![call(PAYEE, &settle(9), &[])]), vec![]),
            // The proxy's code, and not the proxy.
            (within(vec![with(ours.clone(), "type", "DELEGATECALL")]), vec![]),
            (within(vec![with(ours, "type", "CALLCODE")]), vec![]),
            (within(vec![call(EXACT_PROXY, &[1, 2, 3, 4], &[])]), vec![]),
        ] {
            let read: Call = serde_json::from_value(trace.clone()).unwrap();
            let mut found: Vec<u64> = all_spent(&read).iter().map(|spent| spent.nonce.to()).collect();
            found.sort_unstable();
            assert_eq!(found, nonces, "{trace}");
        }
    }
}
