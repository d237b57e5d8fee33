//! A ledger that is lost takes with it what was delivered. Payments of which only the chain still knows
//! buy nothing at the next one; those that somebody else submits later buy what they are for, once.

use serde_json::{Value, json};

use crate::onchain::till::Till;
use crate::support::gateway::base;
use crate::support::payer::encode;
use crate::support::shop::assert_refused;
use crate::support::{Gateway, Origin, Payer, Response, get};

const NONCE_USED: &str = "invalid_exact_evm_nonce_already_used";
const BEFORE: &str = "a payment is used, perhaps before the ledger was created";

/// A gateway that settles on a chain, and asks the same chain what became of payments.
struct Shop {
    till: Till,
    origin: Origin,
    gateway: Gateway,
}

impl Shop {
    async fn open() -> Self {
        let (till, origin) = (Till::open().await, Origin::site().await);
        let url = &till.anvil.url;
        let config = format!(
            "allow_plaintext_secrets = true\n{}max_timeout_seconds = 900\n\
             [[routes]]\npath = \"/late/*\"\nprice = \"$0.01\"\n\
             [[routes]]\npath = \"/early/*\"\nprice = \"$0.01\"\nsettle = \"before-request\"\n\
             [facilitators.own]\nkind = \"onchain\"\nkey = \"{}\"\n[chains.base-sepolia]\nrpc = \"{url}\"\n",
            base(&origin.url(), "own"),
            till.key,
        );
        let gateway = Gateway::with_config(&config).await;
        Self { till, origin, gateway }
    }

    /// A payment for a path, by somebody who can pay it.
    async fn payment(&self, path: &str) -> (Payer, Value) {
        let payer = self.till.payer().await;
        let payment = payer.message(&get(self.gateway.address, path, &[]).await.required());
        (payer, payment)
    }

    async fn present(&self, path: &str, payment: &Value) -> Response {
        get(self.gateway.address, path, &[("PAYMENT-SIGNATURE", &encode(payment))]).await
    }

    /// Somebody who saw a payment on its way submits it.
    async fn submit(&self, payer: &Payer, payment: &Value) {
        let signed = &payment["payload"];
        let text = |name: &str| signed["authorization"][name].as_str().unwrap();
        let message = tollgate::scheme::TransferWithAuthorization {
            from: payer.address(),
            to: text("to").parse().unwrap(),
            value: text("value").parse().unwrap(),
            validAfter: text("validAfter").parse().unwrap(),
            validBefore: text("validBefore").parse().unwrap(),
            nonce: text("nonce").parse().unwrap(),
        };
        self.till.anvil.submit(&message, signed["signature"].as_str().unwrap()).await;
    }

    /// How often the site was asked for a path.
    fn served(&self, path: &str) -> usize {
        self.origin.requests().iter().filter(|request| request.target == path).count()
    }
}

#[tokio::test]
async fn what_a_lost_ledger_delivered_is_not_delivered_again() {
    // Whatever the chain's clock says, in seconds more than the machine's.
    for ahead in [0, 50, 600] {
        lose_the_ledger(ahead).await;
    }
}

async fn lose_the_ledger(ahead: u32) {
    let mut shop = Shop::open().await;
    shop.till.anvil.rpc("evm_increaseTime", json!([ahead])).await;
    let mut payments = Vec::new();
    for path in ["/late/a", "/early/a"] {
        let (_, payment) = shop.payment(path).await;
        assert_eq!(shop.present(path, &payment).await.status, 200, "{path}");
        payments.push((path, payment));
    }
    let income = shop.till.income().await;
    shop.gateway.wait_until_idle().await;
    shop.gateway.crash().await;
    shop.gateway.lose_ledger();
    shop.gateway.start_again().await;
    for (path, payment) in &payments {
        // Asked to settle, the facilitator would find its own transaction of before, and say so. Without
        // a verification before it, the chain is asked first.
        let reason = if *path == "/early/a" { "duplicate_settlement" } else { NONCE_USED };
        for _ in 0..2 {
            assert_refused(&shop.present(path, payment).await, reason);
        }
        assert_eq!(shop.gateway.held("unresolved").await, 0, "it is not found out later, and owed then");
        assert_eq!(shop.served(path), 1, "{path}");
    }
    shop.gateway.wait_for_logs(BEFORE, 4).await;
    assert_eq!(shop.till.income().await, income);
}

#[tokio::test]
async fn what_somebody_else_submits_buys_one_delivery_at_a_ledger_that_has_just_been_created() {
    let shop = Shop::open().await;
    // The next blocks are not of the second in which the ledger was created.
    shop.till.anvil.rpc("evm_increaseTime", json!([5])).await;
    for path in ["/late/b", "/early/b"] {
        let (payer, payment) = shop.payment(path).await;
        shop.submit(&payer, &payment).await;
        let income = shop.till.income().await;
        let served = shop.present(path, &payment).await;
        assert_eq!((served.status, served.text()), (200, format!("content of {path}")), "{path}");
        shop.gateway.wait_until_idle().await;
        assert_refused(&shop.present(path, &payment).await, "duplicate_settlement");
        assert_eq!((shop.served(path), shop.till.income().await), (1, income), "{path}");
    }
}
