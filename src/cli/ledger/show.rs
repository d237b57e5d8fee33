//! `ledger show`: the whole life of one payment.

use std::io::{self, Write};

use super::coins::{Coins, income};
use super::text::clean;
use super::when;
use crate::clock::UnixSeconds;
use crate::ledger::{PaymentRecord, PaymentState};

/// Writes everything that is remembered of a payment, in an operator's words.
///
/// # Errors
/// When `out` cannot be written.
pub(super) fn show(record: &PaymentRecord, coins: &mut Coins, out: &mut dyn Write) -> io::Result<()> {
    let bought = &record.particulars;
    let network = match bought.network.known() {
        Some(known) => format!("{} ({})", known.name, known.caip2),
        None => bought.network.to_string(),
    };
    let atomic = format!("{} atomic units of {}", bought.amount, clean(&bought.asset));
    let price = match coins.find(&bought.network, &bought.asset) {
        Some(coin) => {
            format!("{} {} = {atomic}", bought.amount.to_decimal(coin.decimals), clean(&coin.symbol))
        }
        None => atomic,
    };
    field(out, "payment", &record.id.to_string())?;
    field(out, "state", &state(record))?;
    if !record.reason.is_empty() {
        field(out, "reason", &record.reason)?;
    }
    field(out, "route", &bought.route)?;
    field(out, "request", &format!("{} {}", bought.method, bought.resource))?;
    field(out, "price", &price)?;
    if let Some(charged) = income(record).filter(|charged| *charged != bought.amount) {
        field(out, "charged", &coins.words(&bought.network, &bought.asset, charged))?;
    }
    field(out, "network", &network)?;
    field(out, "paid by", bought.payer.as_deref().unwrap_or("not known"))?;
    field(out, "paid to", &bought.pay_to)?;
    let scheme = format!("{}, x402 version {}", bought.scheme, bought.version.number());
    field(out, "scheme", &scheme)?;
    field(out, "facilitator", &bought.facilitator)?;
    field(
        out,
        "transaction",
        if record.transaction.is_empty() { "none known" } else { &record.transaction },
    )?;
    field(out, "deliveries", &deliveries(record))?;
    if let Some(identifier) = record.identifier {
        field(out, "identifier", &format!("{identifier} (hashed with its payer)"))?;
    }
    field(out, "gateway", &owner(record))?;
    writeln!(out)?;
    for (time, event) in life(record) {
        writeln!(out, "{}  {}", when::shown(time), clean(&event))?;
    }
    Ok(())
}

fn field(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{label:<12} {}", clean(text))
}

/// How far a payment is, and what that means.
pub(super) fn state(record: &PaymentRecord) -> String {
    let meaning = match record.state {
        PaymentState::Claimed => "reserved for a request in flight; no money has moved",
        PaymentState::Settling => "settlement was asked for; the answer is awaited",
        PaymentState::Settled if record.owner.is_some() => {
            "the money moved; what it bought is being delivered"
        }
        PaymentState::Settled if record.deliveries == 0 => {
            "the money moved; its payer gets what it bought by presenting it again"
        }
        PaymentState::Settled => "the money moved; its last delivery broke off",
        PaymentState::Delivered => "the money moved, and what it bought was sent whole",
        PaymentState::Unresolved => "settlement was asked for, and nobody knows yet whether the money moved",
        PaymentState::Declined => "settlement was refused; no money moved, and it may be presented again",
        PaymentState::Released => "given back unused; no money moved, and it may be presented again",
    };
    format!("{}: {meaning}", record.state)
}

fn deliveries(record: &PaymentRecord) -> String {
    let begun = match record.deliveries {
        0 => "none begun".to_owned(),
        count => format!("{count} begun"),
    };
    let again = record.redelivery;
    let has_money = matches!(record.state, PaymentState::Settled | PaymentState::Delivered);
    let Some(settled_at) = record.settled_at.filter(|_| has_money && record.repeatable && again.tries > 0)
    else {
        return begun;
    };
    let until = when::shown(settled_at.plus(again.window_seconds));
    format!("{begun}; a broken one may be fetched again until {until}, {} times in all", again.tries)
}

fn owner(record: &PaymentRecord) -> String {
    let Some(gateway) = record.owner else { return "none holds it".to_owned() };
    let doing = match record.state {
        PaymentState::Claimed => "holds it for a request",
        PaymentState::Settling => "settles it",
        PaymentState::Unresolved => "finds out about it",
        PaymentState::Settled | PaymentState::Delivered | PaymentState::Declined | PaymentState::Released => {
            "delivers"
        }
    };
    format!("{:016x} {doing}", gateway.0)
}

/// What happened to a payment and what is due, in the order of time.
fn life(record: &PaymentRecord) -> Vec<(UnixSeconds, String)> {
    let reason = if record.reason.is_empty() { String::new() } else { format!(": {}", record.reason) };
    let mut life = vec![(
        record.claimed_at,
        match record.attempt {
            0 | 1 => "presented and claimed".to_owned(),
            attempt => format!("presented and claimed (attempt {attempt})"),
        },
    )];
    let mut event = |time: Option<UnixSeconds>, words: String| life.extend(time.map(|time| (time, words)));
    event(record.settling_at, format!("settlement asked for, from {}", record.particulars.facilitator));
    event(record.settled_at, "known to be settled".to_owned());
    event(record.delivered_at, "delivered whole".to_owned());
    let changed = Some(record.changed_at);
    match record.state {
        PaymentState::Unresolved => {
            event(changed, format!("its outcome became unknown{reason}"));
            // A try is counted when it ends.
            let (number, next) = match record.owner {
                Some(_) => {
                    (record.tries.saturating_add(1), "its gateway is given up if nothing comes of that")
                }
                None => (record.tries, "next try"),
            };
            let tried = format!("tried to find out (try {number})");
            event(record.tried_at.filter(|tried| *tried > record.changed_at), tried);
            event(record.next_try, next.to_owned());
        }
        PaymentState::Declined => event(changed, format!("declined{reason}")),
        PaymentState::Released => event(changed, format!("released{reason}")),
        PaymentState::Settled if record.owner.is_none() && record.deliveries > 0 => {
            event(changed, "its state last changed; the delivery broke off then or later".to_owned());
        }
        PaymentState::Settled if record.deliveries > 1 => event(changed, "delivery begun anew".to_owned()),
        PaymentState::Claimed | PaymentState::Settling | PaymentState::Settled | PaymentState::Delivered => {}
    }
    let end = if record.state == PaymentState::Unresolved {
        "from here on it can no longer be settled"
    } else {
        "it ends"
    };
    event(record.expires, end.to_owned());
    // Events of one second keep the order in which they happen.
    life.sort_by_key(|(time, _)| *time);
    life
}
