//! What is offered for gas (EIP-1559), under the operator's ceiling. Amounts are wei per gas.

/// What a network asks for at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Market {
    /// Base fee of the next block.
    pub(super) base: u128,
    /// What others pay on top of it.
    pub(super) tip: u128,
}

/// What a transaction offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fees {
    /// The most that is paid, tip included.
    pub(super) max: u128,
    /// What the block's maker gets of it.
    pub(super) tip: u128,
}

impl Market {
    /// The least that gets a transaction into the next block.
    pub(super) const fn least(self) -> u128 {
        self.base.saturating_add(self.tip)
    }

    /// What to offer: twice the base fee, which then may double before the offer is too low, as far
    /// as the ceiling allows. `None` when the network asks for more than the ceiling.
    pub(super) fn offer(self, ceiling: u128) -> Option<Fees> {
        if self.least() > ceiling {
            return None;
        }
        let max = self.base.saturating_mul(2).saturating_add(self.tip).min(ceiling);
        Some(Fees { max, tip: self.tip })
    }
}

impl Fees {
    /// What to offer instead, so that nodes take it in the place of this: they want a tenth more of
    /// both; some count in fractions of it, so it is an eighth. `None` above the ceiling.
    pub(super) fn raised(self, market: Market, ceiling: u128) -> Option<Self> {
        let more = |amount: u128| amount.saturating_add(amount.div_ceil(8)).saturating_add(1);
        let least = self.max.saturating_add(self.max.div_ceil(10)).saturating_add(1);
        if least > ceiling {
            return None;
        }
        let wanted = market.base.saturating_mul(2).saturating_add(market.tip);
        let max = more(self.max).max(wanted).min(ceiling);
        Some(Self { max, tip: more(self.tip).max(market.tip).min(max) })
    }
}

/// Wei as gwei, for people: `1.5`.
pub(super) fn gwei(wei: u128) -> String {
    crate::x402::AtomicAmount(alloy_primitives::U256::from(wei)).to_decimal(9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GWEI: u128 = 1_000_000_000;

    #[test]
    fn an_offer_leaves_room_for_a_rising_base_fee_and_stays_under_the_ceiling() {
        let market = Market { base: 10 * GWEI, tip: GWEI };
        assert_eq!(market.offer(100 * GWEI), Some(Fees { max: 21 * GWEI, tip: GWEI }));
        assert_eq!(market.offer(15 * GWEI), Some(Fees { max: 15 * GWEI, tip: GWEI }));
        assert_eq!(market.offer(11 * GWEI), Some(Fees { max: 11 * GWEI, tip: GWEI }));
        assert_eq!(market.offer(11 * GWEI - 1), None);
        assert_eq!(Market { base: u128::MAX, tip: 1 }.offer(GWEI), None);
    }

    #[test]
    fn a_raised_offer_is_more_than_a_tenth_higher_in_both_parts() {
        for tip in [0, 1, 7, GWEI, 3 * GWEI] {
            for max in [tip + 1, 9 * GWEI + tip, 123_456_789 + tip] {
                let old = Fees { max, tip };
                let new = old.raised(Market { base: 0, tip: 0 }, u128::MAX).unwrap();
                assert!(new.max > old.max && new.max * 100 >= old.max * 110, "{old:?} {new:?}");
                assert!(new.tip > old.tip && new.tip * 100 >= old.tip * 110, "{old:?} {new:?}");
                assert!(new.tip <= new.max);
            }
        }
    }

    #[test]
    fn a_raised_offer_follows_the_market_up_to_the_ceiling() {
        let old = Fees { max: 10 * GWEI, tip: GWEI };
        let market = Market { base: 30 * GWEI, tip: 2 * GWEI };
        assert_eq!(old.raised(market, 100 * GWEI), Some(Fees { max: 62 * GWEI, tip: 2 * GWEI }));
        assert_eq!(old.raised(market, 20 * GWEI).unwrap().max, 20 * GWEI);
        assert!(old.raised(market, 11 * GWEI + 1).is_some());
        assert_eq!(old.raised(market, 11 * GWEI), None);
    }

    #[test]
    fn gwei_are_written_exactly() {
        assert_eq!(
            (gwei(1_500_000_000), gwei(1), gwei(0)),
            ("1.50".into(), "0.000000001".into(), "0.00".into())
        );
    }
}
