//! Payments for a ledger to reserve.

use std::sync::atomic::{AtomicU64, Ordering};

use alloy_primitives::{B256, U256, keccak256};
use tollgate::clock::{Clock as _, SystemClock};
use tollgate::ledger::{NewClaim, Particulars, PayerLimits, Redelivery};
use tollgate::scheme::PaymentId;
use tollgate::x402::{AtomicAmount, Version};

/// A payment like those of a real shop, each by a payer of its own.
pub(crate) fn new_claim() -> NewClaim {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = keccak256([number.to_be_bytes(), u64::from(std::process::id()).to_be_bytes()].concat());
    NewClaim {
        id: PaymentId(id),
        grant: number,
        expires: Some(SystemClock.now().plus(300)),
        request: B256::repeat_byte(0xaa),
        repeatable: true,
        identifier: None,
        limits: PayerLimits { count: 100, sum: None },
        redelivery: Redelivery { window_seconds: 300, tries: 2 },
        particulars: Particulars {
            payer: Some(alloy_primitives::Address::from_word(id).to_string()),
            network: "eip155:8453".parse().unwrap(),
            asset: "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913".into(),
            amount: AtomicAmount(U256::from(10_000)),
            pay_to: "0x209693Bc6afc0C5328bA36FaF03C514EF312287C".into(),
            scheme: "exact".into(),
            version: Version::V2,
            route: "articles".into(),
            method: "GET".into(),
            resource: "https://shop.example/articles/2026/an-article-of-the-shop".into(),
            facilitator: "facilitator.example".into(),
        },
    }
}
