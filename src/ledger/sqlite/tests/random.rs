//! Random lives of payments go in SQLite as in the model.

use async_trait::async_trait;
use proptest::prelude::*;

use super::super::super::contract::{Store, lives};
use super::super::SqliteLedger;
use super::Folder;

/// A ledger in memory, which ends with its gateway.
struct Memory;

#[async_trait]
impl Store for Memory {
    type Ledger = SqliteLedger;

    async fn open(&self) -> SqliteLedger {
        SqliteLedger::in_memory().unwrap()
    }

    async fn kill(&self, ledger: SqliteLedger) {
        drop(ledger);
    }

    fn takes_several(&self) -> bool {
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn random_lives_of_payments_go_as_in_the_model(lives in lives::lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lives::go_as_in_the_model(&Memory, lives, false))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn random_lives_of_payments_go_as_in_the_model_across_starts(lives in lives::lives()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(lives::go_as_in_the_model(&Folder::new(), lives, true))?;
    }
}
