//! Prices as an operator writes them.

use toml::de::DeValue;

use super::keys::PRICE;
use super::walk::Node;
use crate::x402::amount::{AmountError, MoneyError};
use crate::x402::{Asset, AtomicAmount, Money};

/// A price.
#[derive(Debug, Clone)]
pub(super) enum Price {
    /// Decimal money.
    Money {
        /// Its value, and the asset if one is named.
        money: Money,
        /// Whether dollars are meant.
        dollars: bool,
    },
    /// So many of the smallest unit of an asset.
    Atomic(AtomicAmount),
}

/// Reads a price, and the asset that it names, if it does.
pub(super) fn read<'a>(node: &Node<'a>) -> Option<(Price, Option<Named<'a>>)> {
    if node.value().is_table() {
        let table = node.section(&PRICE)?;
        let amount = table.get("amount");
        if amount.is_none() {
            table.missing(
                "has no `amount`",
                "write { amount = \"10000\", asset = \"USDC\" }, or \"0.01 USDC\"",
            );
        }
        let asset = match table.get("asset") {
            None => Some(None),
            Some(node) => node.text().map(|name| Some(Named { name: name.to_owned(), node: node.clone() })),
        };
        let amount = amount.and_then(|node| atomic(&node));
        return Some((Price::Atomic(amount?), asset?));
    }
    let text = node.text()?;
    let money: Money = match text.parse() {
        Ok(money) => money,
        Err(error) => {
            malformed(node, text, &error);
            return None;
        }
    };
    let dollars =
        text.trim_start().starts_with('$') || text.trim_end().to_ascii_lowercase().ends_with(" usd");
    if dollars && let Some(symbol) = &money.symbol {
        // "$0.01 EURC" would be read by some as dollars and by others as euros.
        if !symbol.to_ascii_uppercase().contains("USD") {
            let help = format!(
                "write \"{} {symbol}\" without the $",
                text.trim_start_matches(['$', ' ']).split(' ').next().unwrap_or_default()
            );
            node.error(format!("names dollars and {symbol}"), help);
            return None;
        }
    }
    let asset = money.symbol.clone().map(|name| Named { name, node: node.clone() });
    Some((Price::Money { money, dollars }, asset))
}

/// An asset named by a price.
#[derive(Debug, Clone)]
pub(super) struct Named<'a> {
    pub(super) name: String,
    pub(super) node: Node<'a>,
}

/// Reads an amount in the smallest unit of an asset.
pub(super) fn atomic(node: &Node<'_>) -> Option<AtomicAmount> {
    let help = "write the number of smallest units in digits: \"10000\" is 0.01 USDC";
    let parsed = match node.value() {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse(),
        _ => node.text()?.parse::<AtomicAmount>(),
    };
    match parsed {
        Ok(amount) if amount.is_zero() => {
            zero(node);
            None
        }
        Ok(amount) => Some(amount),
        Err(error @ (AmountError::NotDigits | AmountError::TooLarge)) => {
            node.error(format!("is {error}"), help);
            None
        }
    }
}

impl Price {
    /// The price in the smallest unit of an asset; `node` is where it is written.
    pub(super) fn in_units_of(&self, asset: &Asset, node: &Node<'_>) -> Option<AtomicAmount> {
        let (money, dollars) = match self {
            Self::Atomic(amount) => return Some(*amount),
            Self::Money { money, dollars } => (money, *dollars),
        };
        if dollars && !asset.symbol.to_ascii_uppercase().contains("USD") {
            let symbol = &asset.symbol;
            node.warning(
                format!("is charged as that many {symbol}, which may not be worth a dollar each"),
                format!("write the price in {symbol}, such as \"0.01 {symbol}\""),
            );
        }
        match money.to_atomic(asset.decimals) {
            Ok(amount) => Some(amount),
            Err(MoneyError::Zero) => {
                zero(node);
                None
            }
            Err(MoneyError::TooPrecise { decimals }) => {
                let smallest = AtomicAmount(alloy_primitives::U256::ONE).to_decimal(decimals);
                node.error(
                    format!("more decimals than {} has ({decimals})", asset.symbol),
                    format!("the smallest price in {} is {smallest}", asset.symbol),
                );
                None
            }
            Err(MoneyError::TooLarge | MoneyError::Malformed) => {
                node.error("is more than can be paid", "write a smaller price");
                None
            }
        }
    }
}

fn zero(node: &Node<'_>) {
    let help = if node.name() == "default" { "write default = \"free\"" } else { "write `free = true`" };
    node.error("a price of zero", format!("{help} if nothing is to be paid"));
}

fn malformed(node: &Node<'_>, text: &str, error: &MoneyError) {
    let form = "write it like \"$0.01\", \"0.01\" or \"0.01 USDC\"";
    let (message, help) = match error {
        MoneyError::TooLarge => ("has too many digits".to_owned(), form.to_owned()),
        _ if text == "free" => {
            ("\"free\" is not a price".to_owned(), "write `free = true` instead".to_owned())
        }
        _ if text == "deny" => {
            ("\"deny\" is not a price".to_owned(), "write `deny = true` instead".to_owned())
        }
        _ if text.trim_start_matches(['$', ' ']).starts_with('-') => {
            ("a price cannot be negative".to_owned(), form.to_owned())
        }
        _ if text.contains(',') => {
            ("has a comma".to_owned(), format!("write decimals after a point, and no separators: {form}"))
        }
        _ if text.contains(['€', '£', '¥']) => (
            "is in a currency that no asset stands for".to_owned(),
            "write the price in an asset, such as \"0.01 EURC\", and declare it with [assets.EURC]"
                .to_owned(),
        ),
        _ => (format!("\"{}\" is not a price", text.escape_debug()), form.to_owned()),
    };
    let help = if node.name() == "default" { format!("{help}; or \"free\" or \"deny\"") } else { help };
    node.error(message, help);
}
