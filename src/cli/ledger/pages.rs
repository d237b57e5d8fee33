//! Reading the books page by page, so that memory stays flat whatever their size.

use alloy_primitives::B256;

use crate::clock::UnixSeconds;
use crate::ledger::{Accounts, Filter, LedgerError, PaymentRecord};
use crate::scheme::PaymentId;

/// Payments read at a time.
const PAGE: u32 = 1_000;

/// Hexadecimal digits of a whole identity.
const ID_DIGITS: usize = 64;

/// The payments a filter selects, oldest claim first.
///
/// A payment that is claimed anew while the books are read moves to the end and may be met twice; one
/// that was settled never moves.
pub(super) struct Pages<'a> {
    accounts: &'a dyn Accounts,
    filter: &'a Filter,
    after: Option<(UnixSeconds, PaymentId)>,
    over: bool,
}

impl<'a> Pages<'a> {
    /// Starts at the beginning.
    pub(super) const fn new(accounts: &'a dyn Accounts, filter: &'a Filter) -> Self {
        Self { accounts, filter, after: None, over: false }
    }

    /// The next payments; none: these were all.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub(super) async fn next(&mut self) -> Result<Vec<PaymentRecord>, LedgerError> {
        if self.over {
            return Ok(Vec::new());
        }
        let page = self.accounts.list(self.filter, self.after, PAGE).await?;
        self.after = page.last().map(|last| (last.claimed_at, last.id)).or(self.after);
        self.over = u32::try_from(page.len()).is_ok_and(|length| length < PAGE);
        Ok(page)
    }
}

/// A payment as an operator names it: its identity, or how that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name {
    first: PaymentId,
    last: PaymentId,
}

impl std::str::FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
        let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits.is_empty() || digits.len() > ID_DIGITS || !is_hex {
            return Err("not a payment: write its id, such as 0x2f6c…, or how that begins".to_owned());
        }
        let padded = |digit: char| -> Result<PaymentId, String> {
            let rest: String = std::iter::repeat_n(digit, ID_DIGITS - digits.len()).collect();
            format!("{digits}{rest}").parse::<B256>().map(PaymentId).map_err(|error| error.to_string())
        };
        Ok(Self { first: padded('0')?, last: padded('f')? })
    }
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// One payment.
    One(Box<PaymentRecord>),
    /// No payment is remembered under it.
    None,
    /// Several; the first two.
    Several([PaymentId; 2]),
}

/// Looks a payment up.
///
/// # Errors
/// [`LedgerError::Unavailable`].
pub(super) async fn find(accounts: &dyn Accounts, name: Name) -> Result<Found, LedgerError> {
    let found = accounts.between(name.first, name.last, 2).await?;
    let ids: Vec<PaymentId> = found.iter().map(|record| record.id).collect();
    Ok(match (ids.as_slice(), found.into_iter().next()) {
        (&[one, other, ..], _) => Found::Several([one, other]),
        (_, Some(record)) => Found::One(Box::new(record)),
        (_, None) => Found::None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::book::{Book, claim_numbered};
    use super::*;

    #[tokio::test]
    async fn every_payment_is_met_once_whatever_the_number_of_pages() {
        for count in [0_u64, 1, 999, 1_000, 1_001, 2_000, 2_345] {
            let book = Book::new();
            for number in 0..count {
                // Many of one second, so that the order by identity matters too.
                book.claim_at(&claim_numbered(number), UnixSeconds(1_000 + number / 700)).await;
            }
            let filter = Filter::default();
            let (mut pages, mut met) = (Pages::new(&book.ledger, &filter), Vec::new());
            loop {
                let page = pages.next().await.unwrap();
                if page.is_empty() {
                    break;
                }
                assert!(page.len() <= 1_000);
                met.extend(page.into_iter().map(|record| (record.claimed_at, record.id)));
            }
            assert!(met.is_sorted() && met.windows(2).all(|pair| pair[0] != pair[1]));
            assert_eq!(met.len() as u64, count);
        }
    }

    #[tokio::test]
    async fn a_payment_is_found_by_its_id_and_by_any_beginning_that_is_its_own() {
        let book = Book::new();
        for byte in [0x11, 0x12, 0xab] {
            book.claim(byte).await;
        }
        let whole = format!("0x{}", "ab".repeat(32));
        for name in ["a", "0xab", "0XAB", "ABAB", &whole, &whole[2..]] {
            let found = find(&book.ledger, name.parse().unwrap()).await.unwrap();
            assert!(
                matches!(&found, Found::One(record) if record.id.to_string() == whole),
                "{name}: {found:?}"
            );
        }
        for name in ["0xac", "2", &"ac".repeat(32)] {
            let found = find(&book.ledger, name.parse().unwrap()).await.unwrap();
            assert!(matches!(found, Found::None), "{name}: {found:?}");
        }
        let found = find(&book.ledger, "1".parse().unwrap()).await.unwrap();
        assert!(matches!(found, Found::Several(_)), "{found:?}");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        let long = "a".repeat(65);
        for text in ["", "0x", "0x2g", "é", "latest", &long, "-1"] {
            assert!(text.parse::<Name>().unwrap_err().starts_with("not a payment"), "{text:?}");
        }
    }
}
