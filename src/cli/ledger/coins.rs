//! What amounts mean: symbol and decimal places of the assets in the books.

use std::collections::HashMap;

use crate::ledger::{PaymentRecord, PaymentState};
use crate::x402::asset::same_address;
use crate::x402::{Asset, AtomicAmount, Network};

use super::text::clean;

/// How amounts of an asset are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Coin {
    /// Ticker.
    pub(super) symbol: String,
    /// Decimal places.
    pub(super) decimals: u8,
}

impl From<&Asset> for Coin {
    fn from(asset: &Asset) -> Self {
        Self { symbol: asset.symbol.clone(), decimals: asset.decimals }
    }
}

/// The assets whose decimal places are known: those of the configuration, then the built-in ones.
#[derive(Debug, Default)]
pub(super) struct Coins {
    configured: Vec<(Network, String, Coin)>,
    /// What was looked up; books hold few assets and many payments.
    found: HashMap<Network, HashMap<String, Option<Coin>>>,
}

impl Coins {
    /// Adds an asset of the configuration; of two entries for one asset the first counts.
    pub(super) fn add(&mut self, network: &Network, address: &str, coin: Coin) {
        self.configured.push((network.clone(), address.to_owned(), coin));
    }

    /// How amounts of an asset are written; `None`: its decimal places are not known.
    pub(super) fn find(&mut self, network: &Network, address: &str) -> Option<&Coin> {
        let known = self.found.get(network).is_some_and(|assets| assets.contains_key(address));
        if !known {
            let coin = self.look_up(network, address);
            self.found.entry(network.clone()).or_default().insert(address.to_owned(), coin);
        }
        self.found.get(network)?.get(address)?.as_ref()
    }

    fn look_up(&self, network: &Network, address: &str) -> Option<Coin> {
        let configured = self
            .configured
            .iter()
            .find(|(on, asset, _)| on == network && same_address(asset, address))
            .map(|(_, _, coin)| coin.clone());
        // By its address alone: an asset may call itself by any symbol.
        let built_in = || Asset::find(network, address).filter(|asset| same_address(&asset.address, address));
        configured.or_else(|| built_in().as_ref().map(Coin::from))
    }

    /// The amount for people: `0.01 USDC`, or `10000 atomic units of 0x…`.
    pub(super) fn words(&mut self, network: &Network, address: &str, amount: AtomicAmount) -> String {
        match self.find(network, address) {
            Some(coin) => format!("{} {}", amount.to_decimal(coin.decimals), clean(&coin.symbol)),
            None => format!("{amount} atomic units of {}", clean(address)),
        }
    }

    /// The exact amount as a decimal number without its symbol; `None`: its decimal places are not known.
    pub(super) fn decimal(
        &mut self,
        network: &Network,
        address: &str,
        amount: AtomicAmount,
    ) -> Option<String> {
        self.find(network, address).map(|coin| amount.to_decimal(coin.decimals))
    }
}

/// What a payment brought, in atomic units; `None`: no money is known to have moved.
///
/// With `exact` that is the price; another scheme may charge less, as its settlement says.
pub(super) fn income(record: &PaymentRecord) -> Option<AtomicAmount> {
    match record.state {
        PaymentState::Settled | PaymentState::Delivered => {}
        PaymentState::Claimed
        | PaymentState::Settling
        | PaymentState::Unresolved
        | PaymentState::Declined
        | PaymentState::Released => return None,
    }
    let price = record.particulars.amount;
    if record.particulars.scheme == "exact" {
        return Some(price);
    }
    let charged = record.response.as_ref().and_then(|response| response.amount.as_deref());
    Some(charged.and_then(|amount| amount.parse().ok()).unwrap_or(price))
}

#[cfg(test)]
mod tests {
    use super::super::tests::book::{USDC, amount, network, settled};
    use super::*;

    #[test]
    fn configured_assets_come_before_the_built_in_ones_and_unknown_ones_stay_atomic() {
        let mut coins = Coins::default();
        let base = network("base-sepolia");
        assert_eq!(coins.words(&base, USDC, amount(10_000)), "0.01 USDC");
        assert_eq!(coins.words(&base, &USDC.to_lowercase(), amount(1)), "0.000001 USDC");
        // A payment's asset is an address; a token that names itself like one is still unknown.
        assert_eq!(coins.words(&base, "USDC", amount(10_000)), "10000 atomic units of USDC");
        assert_eq!(coins.decimal(&network("base"), USDC, amount(10_000)), None);
        let mut coins = Coins::default();
        coins.add(
            &base,
            &USDC.to_uppercase().replace("0X", "0x"),
            Coin { symbol: "tUSD".into(), decimals: 2 },
        );
        coins.add(&base, "odd\u{1b}[2J", Coin { symbol: "ODD".into(), decimals: 0 });
        assert_eq!(coins.words(&base, USDC, amount(10_000)), "100.00 tUSD");
        assert_eq!(coins.words(&base, "odd\u{1b}[2J", amount(7)), "7 ODD");
        assert_eq!(
            coins.words(&network("base"), "odd\u{1b}[2J", amount(7)),
            "7 atomic units of odd\\u{1b}[2J"
        );
    }

    #[test]
    fn income_is_the_price_unless_the_scheme_may_charge_less() {
        let mut record = settled(1);
        let charge = |record: &mut PaymentRecord, text: &str| {
            record.response.as_mut().unwrap().amount = Some(text.to_owned());
        };
        charge(&mut record, "7");
        assert_eq!(income(&record), Some(amount(10_000)), "exact is exact");
        record.particulars.scheme = "upto".into();
        assert_eq!(income(&record), Some(amount(7)));
        charge(&mut record, "much");
        assert_eq!(income(&record), Some(amount(10_000)));
        for state in PaymentState::ALL {
            record.state = state;
            let moved = matches!(state, PaymentState::Settled | PaymentState::Delivered);
            assert_eq!(income(&record).is_some(), moved, "{state}");
        }
    }
}
