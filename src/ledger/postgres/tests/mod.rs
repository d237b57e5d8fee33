//! The contract, and what only a shared database can do wrong.

mod faults;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../tests/it/support/relay.rs"]
mod relay;
#[allow(dead_code, unreachable_pub)]
#[path = "../../../../tests/it/support/postgres.rs"]
mod server;
mod several;
mod start;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use sqlx::{Connection as _, PgConnection};

use alloy_primitives::{B256, U256};

use super::super::contract::intent;
use super::super::{
    Accounts as _, ClaimToken, Claimed, Ledger, LedgerError, NewClaim, PaymentState, Settlement, contract,
};
use super::PostgresLedger;
use super::database::Limits;
use crate::clock::{SystemClock, UnixSeconds};
use crate::scheme::PaymentId;
use server::Postgres;

const NOW: UnixSeconds = UnixSeconds(1_000);

/// Gateways over one database.
struct Store {
    url: String,
}

/// Nobody lapses while a test runs, unless it says so.
const LIMITS: Limits =
    Limits { lease: Duration::from_secs(600), lease_min: Duration::from_secs(600), ..Limits::USUAL };

impl Store {
    async fn new() -> Self {
        Self { url: Postgres::shared().database().await }
    }

    /// A gateway that has watched the others for long enough to judge them.
    async fn open_with(&self, limits: Limits) -> PostgresLedger {
        let ledger = PostgresLedger::with(&self.url, limits, Arc::new(SystemClock)).await.unwrap();
        ledger.beat(NOW).await.unwrap();
        let watched = "UPDATE tollgate_gateways SET since = now() - interval '1 day' WHERE id = $1";
        self.sql(watched, ledger.me.0).await;
        ledger
    }

    async fn sql(&self, sql: &'static str, gateway: i64) {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query(sql).bind(gateway).execute(&mut connection).await.unwrap();
    }
}

#[async_trait]
impl contract::Store for Store {
    type Ledger = PostgresLedger;

    async fn open(&self) -> PostgresLedger {
        self.open_with(LIMITS).await
    }

    async fn kill(&self, ledger: PostgresLedger) {
        let lapse = "UPDATE tollgate_gateways SET seen = now() - interval '1 hour' WHERE id = $1";
        self.sql(lapse, ledger.me.0).await;
    }

    fn takes_several(&self) -> bool {
        true
    }
}

/// A claim of a payment of its own.
fn numbered(number: u64) -> NewClaim {
    let mut new = contract::claim(1);
    new.id = PaymentId(B256::from(U256::from(number)));
    new.grant = number;
    new
}

async fn claimed(ledger: &PostgresLedger, new: &NewClaim) -> ClaimToken {
    match ledger.claim(new, NOW).await.unwrap() {
        Claimed::New(token) => token,
        other => panic!("{other:?}"),
    }
}

async fn settled(
    ledger: &PostgresLedger,
    token: ClaimToken,
    deliver: bool,
) -> Result<super::super::Recorded, LedgerError> {
    let response = contract::response();
    let settlement = Settlement { response: &response, deliver, unique_transaction: false };
    ledger.settled(token, settlement, NOW).await
}

async fn state(ledger: &PostgresLedger, new: &NewClaim) -> Option<PaymentState> {
    ledger.get(new.id).await.unwrap().map(|record| record.state)
}

fn is_unavailable<T>(result: &Result<T, LedgerError>) -> bool {
    matches!(result, Err(LedgerError::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract() {
    contract::holds_for(Store::new).await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn random_lives_of_payments_go_as_in_the_model(lives in contract::lives::lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            contract::lives::go_as_in_the_model(&Store::new().await, lives, true).await
        })?;
    }
}
