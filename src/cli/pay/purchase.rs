//! Paying: sends the payment, again where the server asks for it, and says what became of it.

use std::time::Duration;

use reqwest::{Response, StatusCode, Url};

use super::arguments::Request;
use super::choice::Payable;
use super::fetch::{Fetcher, location, retry_after, shown_url};
use super::key::Payer;
use super::payment::Payment;
use super::receipt::{self, Receipt};
use super::terminal::{Console, Output};
use super::{Exit, Stop, deliver};
use crate::clock::Clock;
use crate::x402::AtomicAmount;

/// A server that wants to be asked again later than this is not waited for.
const WAIT_SECONDS_MAX: u64 = 300;

/// A payment on its way.
pub(super) struct Purchase<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) request: &'a Request,
    pub(super) url: &'a Url,
    pub(super) payable: &'a Payable<'a>,
    pub(super) payer: &'a Payer,
    pub(super) payment: &'a Payment,
    pub(super) clock: &'a dyn Clock,
    pub(super) retries: u8,
}

/// What is known of the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Money {
    /// The server says that it moved.
    Moved,
    /// The server says that it did not.
    NotMoved,
    /// The server said nothing of it, and by the protocol takes nothing with such an answer.
    Untold,
    /// It may have moved.
    Unknown,
}

/// The last answer to a payment.
#[derive(Debug)]
struct Answer {
    response: Response,
    /// Whether an earlier answer left open what became of the payment.
    doubt: bool,
}

impl Purchase<'_> {
    /// Pays and delivers the page.
    ///
    /// # Errors
    /// A page that broke off, or could not be written.
    pub(super) async fn run(&self, mut output: Output<'_>, console: &mut Console<'_>) -> Result<Exit, Stop> {
        let mut answer = match self.send(console).await {
            Ok(answer) => answer,
            Err(exit) => {
                output.discard();
                return Ok(exit);
            }
        };
        let status = answer.response.status();
        let receipt = receipt::read(answer.response.headers());
        if status.is_success() {
            let money = judge(status, &receipt, None, answer.doubt).1;
            self.report(money, &receipt, console);
            deliver(&mut answer.response, &mut output).await.map_err(|problem| {
                Stop::new(Exit::Failed, format!("{problem}; what is said above of the money holds"))
            })?;
            return Ok(Exit::Done);
        }
        output.discard();
        Ok(self.refused(answer, &receipt, console).await)
    }

    /// Sends the payment until there is an answer that is not "ask again".
    async fn send(&self, console: &mut Console<'_>) -> Result<Answer, Exit> {
        let (mut doubt, mut again) = (false, 0);
        loop {
            again += 1;
            let response = match self.fetcher.send(self.request, self.url, Some(self.payment)).await {
                Ok(response) => response,
                Err(no_answer) => {
                    console.field("failed", &no_answer.cause);
                    let money = if doubt || no_answer.maybe_sent { Money::Unknown } else { Money::NotMoved };
                    self.report(money, &Ok(None), console);
                    return Err(if money == Money::Unknown { Exit::Unknown } else { Exit::Failed });
                }
            };
            let Some(seconds) = self.wait_before_retry(&response).filter(|_| again <= self.retries) else {
                return Ok(Answer { response, doubt });
            };
            doubt = true;
            let count = format!("{again} of {}", self.retries);
            let plan = format!("sending the same payment again in {seconds} s ({count})");
            console.field("busy", &format!("the server answered 503; {plan}"));
            drop(response);
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// Seconds after which the same payment is sent again: when the server asks for that, and the
    /// payment will still be valid.
    fn wait_before_retry(&self, response: &Response) -> Option<u64> {
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return None;
        }
        if receipt::read(response.headers())
            .is_ok_and(|receipt| receipt.is_some_and(|receipt| receipt.success))
        {
            return None;
        }
        let now = self.clock.now();
        let seconds = retry_after(response.headers(), now)?;
        (seconds <= WAIT_SECONDS_MAX && now.plus(seconds) < self.payment.expires).then_some(seconds)
    }

    async fn refused(
        &self,
        answer: Answer,
        receipt: &Result<Option<Receipt>, String>,
        console: &mut Console<'_>,
    ) -> Exit {
        let Answer { mut response, doubt } = answer;
        let status = response.status();
        let body = self.fetcher.beginning(&mut response).await;
        let known = receipt.as_ref().ok().and_then(Option::as_ref);
        let reason = receipt::reason(known, response.headers(), &body);
        console.field("refused", &format!("the server answered the payment with {status}"));
        if let Some(reason) = &reason {
            let meaning = receipt::in_plain_words(reason).map(|meaning| format!(": {meaning}"));
            console.field("reason", &format!("{reason}{}", meaning.unwrap_or_default()));
        }
        if status.is_redirection()
            && let Some(target) = location(self.url, response.headers())
        {
            console.field("moved to", &format!("{} (a payment is not carried there)", shown_url(&target)));
        }
        let (exit, money) = judge(status, receipt, reason.as_deref(), doubt);
        self.report(money, receipt, console);
        exit
    }

    /// Says what became of the money, with the receipt as far as there is one.
    fn report(&self, money: Money, receipt: &Result<Option<Receipt>, String>, console: &mut Console<'_>) {
        if let Err(problem) = receipt {
            console.field("receipt", &format!("cannot be read: {problem}"));
        }
        let known = receipt.as_ref().ok().and_then(Option::as_ref);
        let price = self.payable.price();
        let held = format!(
            "the server holds a signed payment and can take {price} within the next {} seconds",
            self.payment.expires.0.saturating_sub(self.clock.now().0)
        );
        match money {
            Money::Moved => {
                console.field("paid", &known.map_or_else(|| price.clone(), |receipt| self.moved(receipt)));
            }
            Money::NotMoved if known.is_some() => {
                console.field("not paid", "no money moved, says the server");
            }
            Money::NotMoved => console.field("not paid", "no money moved: the payment never left"),
            Money::Untold => {
                console.field("no receipt", &format!("nothing says that money moved, but {held}"));
            }
            Money::Unknown => {
                console.field("unknown", &format!("money may have moved: {held}, or has taken it"));
                console.line(
                    "Running this command again would sign a second payment: look at the account first.",
                );
            }
        }
        if let Some(receipt) = known {
            self.details(receipt, console);
        }
    }

    /// The amount that a receipt says was moved.
    fn moved(&self, receipt: &Receipt) -> String {
        let amount = receipt.amount.as_deref().and_then(|text| text.parse::<AtomicAmount>().ok());
        match (amount, &self.payable.known) {
            (Some(amount), Some(asset)) if amount != self.payable.amount => {
                let (moved, price) = (amount.to_decimal(asset.decimals), self.payable.price());
                format!("{moved} {}, says the receipt; {price} was signed", asset.symbol)
            }
            (Some(amount), None) => format!("{amount} units of the token {}", self.payable.asset),
            (Some(_) | None, _) => self.payable.price(),
        }
    }

    fn details(&self, receipt: &Receipt, console: &mut Console<'_>) {
        let rows =
            [("transaction", &receipt.transaction), ("network", &receipt.network), ("payer", &receipt.payer)];
        for (label, value) in rows {
            if let Some(value) = value {
                console.field(label, value);
            }
        }
        let own = self.payer.address();
        if receipt.payer.as_ref().is_some_and(|payer| payer.parse() != Ok(own)) {
            console.field("note", &format!("the receipt names another payer than {own}, who signed"));
        }
    }
}

/// What an answer to a payment means. `doubt`: an earlier answer left the outcome open, so that
/// only a receipt of success closes it.
fn judge(
    status: StatusCode,
    receipt: &Result<Option<Receipt>, String>,
    reason: Option<&str>,
    doubt: bool,
) -> (Exit, Money) {
    let served = status.is_success();
    let money = match receipt {
        Ok(Some(receipt)) if receipt.success => Money::Moved,
        Ok(Some(receipt)) if receipt.is_open() || doubt => Money::Unknown,
        Ok(Some(_)) => Money::NotMoved,
        Ok(None) | Err(_) if served => Money::Untold,
        Ok(None)
            if !doubt && !status.is_server_error() && !reason.is_some_and(receipt::leaves_outcome_open) =>
        {
            Money::Untold
        }
        Ok(None) | Err(_) => Money::Unknown,
    };
    let exit = match money {
        _ if served => Exit::Done,
        Money::Unknown => Exit::Unknown,
        Money::Moved | Money::NotMoved | Money::Untold => Exit::Failed,
    };
    (exit, money)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(success: bool, reason: &str, transaction: &str) -> Receipt {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (reason, transaction) = (text(reason), text(transaction));
        Receipt { success, reason, transaction, ..Receipt::default() }
    }

    #[test]
    fn what_became_of_the_money_is_never_guessed() {
        let settled = Ok(Some(receipt(true, "", "0xabc")));
        let failed = Ok(Some(receipt(false, "insufficient_funds", "")));
        let pending = Ok(Some(receipt(false, "settlement_pending", "0xabc")));
        let unreadable = Err("?".to_owned());
        for (status, receipt, reason, doubt, expected) in [
            (200, &settled, None, false, (Exit::Done, Money::Moved)),
            (200, &settled, None, true, (Exit::Done, Money::Moved)),
            (200, &Ok(None), None, false, (Exit::Done, Money::Untold)),
            (200, &unreadable, None, false, (Exit::Done, Money::Untold)),
            (500, &settled, None, false, (Exit::Failed, Money::Moved)),
            (402, &failed, None, false, (Exit::Failed, Money::NotMoved)),
            (402, &failed, None, true, (Exit::Unknown, Money::Unknown)),
            (402, &pending, None, false, (Exit::Unknown, Money::Unknown)),
            (402, &unreadable, None, false, (Exit::Unknown, Money::Unknown)),
            (402, &Ok(None), Some("insufficient_funds"), false, (Exit::Failed, Money::Untold)),
            (402, &Ok(None), Some("duplicate_settlement"), false, (Exit::Unknown, Money::Unknown)),
            (402, &Ok(None), Some("insufficient_funds"), true, (Exit::Unknown, Money::Unknown)),
            (404, &Ok(None), None, false, (Exit::Failed, Money::Untold)),
            (301, &Ok(None), None, false, (Exit::Failed, Money::Untold)),
            (500, &Ok(None), None, false, (Exit::Unknown, Money::Unknown)),
            (503, &Ok(None), None, true, (Exit::Unknown, Money::Unknown)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                judge(status, receipt, reason, doubt),
                expected,
                "{status} {receipt:?} {reason:?} {doubt}"
            );
        }
    }
}
