//! The books beside a real local chain.

use alloy_primitives::{Address, B256, U256, address};
use serde_json::{Value, json};
use tollgate::scheme::TransferWithAuthorization;

use super::{Office, lost};
use crate::support::anvil::{Anvil, Contracts, TOKEN};
use crate::support::shop::Shop;
use crate::support::{Act, Payer};

const PAY_TO: Address = address!("209693Bc6afc0C5328bA36FaF03C514EF312287C");

/// A shop whose facilitator is scripted, and the chain on which the payments are really made.
struct Scene {
    office: Office,
    shop: Shop,
    anvil: Anvil,
    /// The configuration that says where the chain is; the gateway's own does not, so that it leaves
    /// unresolved payments alone.
    config: String,
}

impl Scene {
    async fn start() -> Self {
        let (office, anvil) = (Office::new(), Anvil::start().await);
        let shop = office.open().await;
        let chain = format!("\n[chains.base-sepolia]\nrpc = \"{}\"\n", anvil.url);
        let config = office.write("with-chain.toml", &format!("{}{chain}", office.whole(&shop)));
        Self { office, shop, anvil, config }
    }

    /// A payment by somebody who has the money, and the authorization in it.
    async fn payment(&self, path: &str) -> (Value, TransferWithAuthorization, String) {
        let payer = Payer::new();
        self.anvil.mint(payer.address(), 10_000).await;
        let payment = payer.message(&self.shop.required(path).await);
        let signed = &payment["payload"];
        let number =
            |name: &str| -> U256 { signed["authorization"][name].as_str().unwrap().parse().unwrap() };
        let message = TransferWithAuthorization {
            from: payer.address(),
            to: PAY_TO,
            value: number("value"),
            validAfter: number("validAfter"),
            validBefore: number("validBefore"),
            nonce: signed["authorization"]["nonce"].as_str().unwrap().parse().unwrap(),
        };
        let signature = signed["signature"].as_str().unwrap().to_owned();
        (payment, message, signature)
    }

    /// Sells a page; the facilitator names a transaction.
    async fn sell(&self, path: &str, payment: &Value, transaction: B256) {
        let settled = json!({"success": true, "transaction": transaction, "network": "eip155:84532"});
        self.shop.facilitator.will_settle([Act::json(200, &settled)]);
        assert_eq!(self.shop.present(path, payment).await.status, 200);
    }

    /// Sells a page honestly; gives the transaction.
    async fn sell_honestly(&self, path: &str) -> B256 {
        let (payment, message, signature) = self.payment(path).await;
        let transaction = self.anvil.submit(&message, &signature).await;
        self.sell(path, &payment, transaction).await;
        transaction
    }

    /// Compares; gives the exit code, and name, payment's state and transfer's transaction of each
    /// finding.
    async fn reconcile(&self) -> (i32, Vec<(String, String, String)>) {
        let line = format!("reconcile --json --since 1h --until 2099-01-01 --config {}", self.config);
        let ran = self.office.run(&line).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let finding = |line: &str| {
            let found: Value = serde_json::from_str(line).unwrap();
            (
                text(&found["finding"]),
                text(&found["payment"]["state"]),
                text(&found["transfer"]["transaction"]),
            )
        };
        assert!(ran.err.starts_with("base-sepolia: compared "), "{}{}", ran.out, ran.err);
        (ran.status, ran.out.lines().map(finding).collect())
    }
}

fn finding(name: &str, state: &str, transaction: &str) -> (String, String, String) {
    (name.into(), state.into(), transaction.into())
}

#[tokio::test]
async fn honest_books_agree_with_the_chain() {
    let scene = Scene::start().await;
    for path in ["/paid/a", "/paid/b", "/paid/c"] {
        scene.sell_honestly(path).await;
    }
    scene.office.wait_for("list", " delivered ", 3).await;
    assert_eq!(scene.reconcile().await, (0, vec![]));
    let line = format!("reconcile --since 1h --until 2099-01-01 --config {}", scene.config);
    let ran = scene.office.run(&line).await;
    assert!(ran.out.contains("base-sepolia: compared 3 payments and 3 transfers from "), "{}", ran.out);
    assert!(ran.out.ends_with(": no differences\n"), "{}", ran.out);
}

#[tokio::test]
async fn a_lying_facilitator_and_money_from_nowhere_are_found() {
    let scene = Scene::start().await;
    let honest = scene.sell_honestly("/paid/a").await;
    let (never, _, _) = scene.payment("/paid/b").await;
    scene.sell("/paid/b", &never, B256::repeat_byte(0xee)).await;
    let (shared, _, _) = scene.payment("/paid/c").await;
    scene.sell("/paid/c", &shared, honest).await;
    let stranger = Payer::new().address();
    scene.anvil.mint(stranger, 5).await;
    let gift = Contracts::transferCall { to: PAY_TO, value: U256::from(5) };
    scene.anvil.give_gas(stranger).await;
    let gift = scene.anvil.send(stranger, TOKEN, &gift).await;
    scene.office.wait_for("list", " delivered ", 3).await;
    let (status, mut found) = scene.reconcile().await;
    found.sort();
    assert_eq!(status, 1);
    assert_eq!(
        found,
        [
            finding("no_transfer", "delivered", ""),
            finding("transaction_reused", "delivered", ""),
            finding("unknown_transfer", "", &gift.to_string()),
        ]
    );
}

#[tokio::test]
async fn an_unresolved_payment_is_looked_up_on_the_chain() {
    let scene = Scene::start().await;
    scene.shop.facilitator.will_settle(lost());
    let (payment, message, signature) = scene.payment("/paid/a").await;
    assert_eq!(scene.shop.present("/paid/a", &payment).await.status, 503);
    assert_eq!(scene.reconcile().await, (0, vec![finding("unresolved_open", "unresolved", "")]));
    scene.anvil.submit(&message, &signature).await;
    let paid = scene.reconcile().await;
    assert_eq!(paid, (1, vec![finding("unresolved_paid", "unresolved", "")]));
    // Looking changed nothing.
    assert_eq!(scene.reconcile().await, paid);
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_an_error() {
    let scene = Scene::start().await;
    scene.sell_honestly("/paid/a").await;
    let gone = crate::support::gateway::free_address();
    let chain = format!("\n[chains.base-sepolia]\nrpc = \"http://{gone}\"\n");
    let config = scene.office.write("gone.toml", &format!("{}{chain}", scene.office.whole(&scene.shop)));
    let ran = scene.office.run(&format!("reconcile --config {config}")).await;
    assert_eq!((ran.status, ran.out.as_str()), (2, ""));
    assert!(ran.err.starts_with("error: base-sepolia: its chain cannot be read: "), "{}", ran.err);
}
