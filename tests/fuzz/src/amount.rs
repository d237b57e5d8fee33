//! Amounts: what operators write as prices, what messages carry, what people are shown.

use tollgate::x402::amount::{AmountError, MoneyError};
use tollgate::x402::{AtomicAmount, Money};

/// 2^256 - 1.
const LARGEST: &str = "115792089237316195423570985008687907853269984665640564039457584007913129639935";

/// The first byte is the decimal places of an asset, the rest a price or an amount. No unit of money
/// appears or is lost between a text and a number, in either direction.
pub fn hold(data: &[u8]) {
    let Some((&decimals, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    atomic(text, decimals);
    match text.parse::<Money>() {
        Ok(money) => price(text, decimals, &money),
        // Nobody can write so many digits by a slip and mean something.
        Err(MoneyError::TooLarge) => assert!(text.len() >= LARGEST.len(), "{text}"),
        Err(MoneyError::Malformed) => {}
        Err(other) => panic!("{text}: {other} without an asset"),
    }
}

/// Digits are the number they say; anything else is refused.
fn atomic(text: &str, decimals: u8) {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = without_zeros(text);
    match text.parse::<AtomicAmount>() {
        Ok(amount) => {
            assert!(digits);
            assert_eq!(amount.to_string(), plain);
            shown(amount, decimals);
        }
        Err(AmountError::NotDigits) => assert!(!digits, "{text}"),
        Err(AmountError::TooLarge) => assert!(is_larger(plain, LARGEST), "{text}"),
    }
}

/// What is shown of an amount is that amount, whoever reads it.
fn shown(amount: AtomicAmount, decimals: u8) {
    let shown = amount.to_decimal(decimals);
    assert_eq!(units(&shown, decimals).as_deref(), Some(amount.to_string().as_str()), "{shown}");
    let read = shown.parse::<Money>().map(|money| money.to_atomic(decimals));
    match read {
        Ok(Ok(read)) => assert_eq!(read, amount, "{shown}"),
        Ok(Err(MoneyError::Zero)) => assert!(amount.is_zero(), "{shown}"),
        other => panic!("{shown} is read as {other:?}"),
    }
}

/// A price is exact in the smallest unit of the asset, or is no price.
fn price(text: &str, decimals: u8, money: &Money) {
    let number = text.trim().trim_start_matches('$').trim_start();
    let number = number.split(char::is_whitespace).next().unwrap_or_default();
    let exact = units(number, decimals);
    match money.to_atomic(decimals) {
        Ok(amount) => assert_eq!(exact.as_deref(), Some(amount.to_string().as_str()), "{text}"),
        Err(MoneyError::TooPrecise { .. }) => assert_eq!(exact, None, "{text}"),
        Err(MoneyError::Zero) => assert!(number.bytes().all(|byte| matches!(byte, b'0' | b'.')), "{text}"),
        Err(MoneyError::TooLarge) => {
            // A factor that is too large is one for any amount but zero.
            let factor_fits = usize::from(decimals) < LARGEST.len();
            assert!(!factor_fits || exact.is_some_and(|exact| is_larger(&exact, LARGEST)), "{text}");
        }
        Err(MoneyError::Malformed) => panic!("{text} was not malformed before"),
    }
}

/// A decimal number in units of `decimals` places, by moving the point; `None` when digits are left
/// behind it.
fn units(number: &str, decimals: u8) -> Option<String> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let places = usize::from(decimals);
    let (kept, rest) = fraction.split_at(fraction.len().min(places));
    rest.bytes().all(|byte| byte == b'0').then(|| {
        let moved = format!("{whole}{kept:0<places$}");
        without_zeros(&moved).to_owned()
    })
}

fn without_zeros(digits: &str) -> &str {
    let plain = digits.trim_start_matches('0');
    if plain.is_empty() { "0" } else { plain }
}

/// Compares numbers without leading zeros.
fn is_larger(one: &str, other: &str) -> bool {
    (one.len(), one) > (other.len(), other)
}
