//! Money: integers of the asset's smallest unit, and the exact decimals operators write.

use std::fmt;
use std::str::FromStr;

use alloy_primitives::U256;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An amount in atomic units of an asset (USDC: 1 = 0.000001), a decimal string on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct AtomicAmount(pub U256);

/// Why a text is not an atomic amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Empty, signed, fractional or otherwise not a run of decimal digits.
    #[error("not a whole number of atomic units in decimal digits")]
    NotDigits,
    /// More than 2^256 - 1.
    #[error("larger than 2^256 - 1")]
    TooLarge,
}

impl AtomicAmount {
    /// Nothing.
    pub const ZERO: Self = Self(U256::ZERO);

    /// Whether this is nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    /// Writes the amount as decimal money of an asset with `decimals`, without trailing zeros
    /// beyond two places: 10000 at 6 decimals is `0.01`.
    #[must_use]
    pub fn to_decimal(self, decimals: u8) -> String {
        let digits = self.0.to_string();
        let places = usize::from(decimals);
        let padded = format!("{digits:0>width$}", width = places + 1);
        let (whole, fraction) = padded.split_at(padded.len() - places);
        let mut fraction = fraction.trim_end_matches('0').to_owned();
        while fraction.len() < 2.min(places) {
            fraction.push('0');
        }
        if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
    }
}

impl FromStr for AtomicAmount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(AmountError::NotDigits);
        }
        U256::from_str_radix(text, 10).map(Self).map_err(|_| AmountError::TooLarge)
    }
}

impl fmt::Display for AtomicAmount {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl Serialize for AtomicAmount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AtomicAmount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Money as an operator writes it: `$0.01`, `0.01`, `0.01 USDC`. Exact: a mantissa and a scale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money {
    mantissa: U256,
    scale: usize,
    /// The asset's symbol, when one was written; `USD` and `$` leave the choice to the route.
    pub symbol: Option<String>,
}

/// Why a text is not money, or cannot be expressed in an asset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not of the form `$0.01`, `0.01` or `0.01 USDC`.
    #[error("not a price: write \"$0.01\", \"0.01\" or \"0.01 USDC\"")]
    Malformed,
    /// More digits than fit into 256 bits.
    #[error("too many digits")]
    TooLarge,
    /// More decimal places than the asset has; rounding a price silently is never right.
    #[error("more decimal places than the asset has ({decimals})")]
    TooPrecise {
        /// Decimal places of the asset.
        decimals: u8,
    },
    /// Zero is written as `free = true`, so that nothing becomes free by a slip.
    #[error("a price of zero: write `free = true` if that is meant")]
    Zero,
}

impl Money {
    /// Converts to atomic units of an asset with `decimals` places.
    ///
    /// # Errors
    /// [`MoneyError::TooPrecise`] instead of rounding, [`MoneyError::Zero`], [`MoneyError::TooLarge`].
    pub fn to_atomic(&self, decimals: u8) -> Result<AtomicAmount, MoneyError> {
        if self.mantissa.is_zero() {
            return Err(MoneyError::Zero);
        }
        let places = usize::from(decimals);
        let missing = places.checked_sub(self.scale).ok_or(MoneyError::TooPrecise { decimals })?;
        let factor = U256::from(10).checked_pow(U256::from(missing)).ok_or(MoneyError::TooLarge)?;
        self.mantissa.checked_mul(factor).map(AtomicAmount).ok_or(MoneyError::TooLarge)
    }
}

impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let text = text.trim();
        let text = text.strip_prefix('$').map_or(text, str::trim_start);
        let (number, symbol) = match text.split_once(char::is_whitespace) {
            Some((number, symbol)) => (number, Some(symbol.trim())),
            None => (text, None),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((_, "")) => return Err(MoneyError::Malformed),
            Some((whole, fraction)) => (whole, fraction),
            None => (number, ""),
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
            return Err(MoneyError::Malformed);
        }
        let fraction = fraction.trim_end_matches('0');
        let mantissa =
            U256::from_str_radix(&format!("{whole}{fraction}"), 10).map_err(|_| MoneyError::TooLarge)?;
        let symbol = match symbol {
            None => None,
            Some(symbol) if symbol.eq_ignore_ascii_case("usd") => None,
            Some(symbol) if is_symbol(symbol) => Some(symbol.to_owned()),
            Some(_) => return Err(MoneyError::Malformed),
        };
        Ok(Self { mantissa, scale: fraction.len(), symbol })
    }
}

fn is_symbol(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn atomic(text: &str, decimals: u8) -> Result<String, MoneyError> {
        text.parse::<Money>()?.to_atomic(decimals).map(|amount| amount.to_string())
    }

    #[test]
    fn prices_become_exact_atomic_amounts() {
        for (text, decimals, expected) in [
            ("$0.01", 6, "10000"),
            ("0.01", 6, "10000"),
            ("0.01 USDC", 6, "10000"),
            (" $ 1 ", 6, "1000000"),
            ("0.000001", 6, "1"),
            ("0.0100000000", 6, "10000"),
            ("1.5 usd", 18, "1500000000000000000"),
            ("3", 0, "3"),
        ] {
            assert_eq!(atomic(text, decimals).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn prices_that_cannot_be_exact_are_refused() {
        for (text, error) in [
            ("0.0000001", MoneyError::TooPrecise { decimals: 6 }),
            ("$0", MoneyError::Zero),
            ("0.00", MoneyError::Zero),
            ("-1", MoneyError::Malformed),
            ("1e3", MoneyError::Malformed),
            ("1,5", MoneyError::Malformed),
            ("1.", MoneyError::Malformed),
            (".5", MoneyError::Malformed),
            ("", MoneyError::Malformed),
            ("1 U$D", MoneyError::Malformed),
            ("1 USDC extra", MoneyError::Malformed),
        ] {
            assert_eq!(atomic(text, 6), Err(error), "{text}");
        }
        let huge = "9".repeat(80);
        assert_eq!(atomic(&huge, 6), Err(MoneyError::TooLarge));
        assert_eq!(atomic("1", 255), Err(MoneyError::TooLarge));
    }

    #[test]
    fn atomic_amounts_take_only_digits() {
        for text in ["", "-1", "+1", "1.0", "0x10", " 1", "1_000"] {
            assert_eq!(text.parse::<AtomicAmount>(), Err(AmountError::NotDigits), "{text:?}");
        }
        let above = format!("{}0", U256::MAX);
        assert_eq!(above.parse::<AtomicAmount>(), Err(AmountError::TooLarge));
    }

    #[test]
    fn amounts_are_shown_as_decimal_money() {
        for (units, decimals, shown) in
            [(10_000, 6, "0.01"), (1_000_000, 6, "1.00"), (1, 6, "0.000001"), (7, 0, "7"), (25, 1, "2.5")]
        {
            assert_eq!(AtomicAmount(U256::from(units)).to_decimal(decimals), shown);
        }
    }

    proptest! {
        #[test]
        fn a_price_is_exact_in_atomic_units_or_is_refused(
            whole in "[0-9]{1,80}", fraction in "[0-9]{0,30}0{0,3}", decimals in any::<u8>()
        ) {
            let text = if fraction.is_empty() { whole.clone() } else { format!("{whole}.{fraction}") };
            let places = usize::from(decimals);
            let (kept, rest) = fraction.split_at(fraction.len().min(places));
            // The point moved to the right on paper, with no arithmetic at all.
            let moved = format!("{whole}{kept:0<places$}");
            let moved = moved.trim_start_matches('0');
            match atomic(&text, decimals) {
                Ok(amount) => {
                    prop_assert_eq!(amount.as_str(), moved);
                    prop_assert!(rest.bytes().all(|digit| digit == b'0'));
                }
                Err(MoneyError::TooPrecise { .. }) => prop_assert!(rest.bytes().any(|digit| digit != b'0')),
                Err(MoneyError::Zero) => prop_assert!(moved.is_empty()),
                // With or without the zeros behind it, there are more digits than fit.
                Err(MoneyError::TooLarge) => {
                    prop_assert!(moved.len().max(whole.len() + fraction.len()) >= U256::MAX.to_string().len());
                }
                Err(MoneyError::Malformed) => prop_assert!(false, "{} is a number", text),
            }
        }

        #[test]
        fn showing_and_reading_an_amount_is_the_identity(limbs in any::<[u64; 4]>(), shift in 0_usize..256, decimals in 0_u8..100) {
            let amount = AtomicAmount(U256::from_limbs(limbs) >> shift);
            prop_assume!(!amount.is_zero());
            let money: Money = amount.to_decimal(decimals).parse().unwrap();
            prop_assert_eq!(money.to_atomic(decimals).unwrap(), amount);
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text in ".{0,40}") {
            let _ = text.parse::<Money>().map(|money| money.to_atomic(6));
            let _ = text.parse::<AtomicAmount>();
        }
    }
}
