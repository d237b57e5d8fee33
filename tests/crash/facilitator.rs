//! A facilitator that lives on when the gateway dies. It is honest about the chain, and sometimes slow
//! or unlucky with its answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes as Input, U256};
use alloy_sol_types::SolCall;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Mutex as Turn;
use tollgate::scheme::TransferWithAuthorization;

use super::dice::Dice;
use super::support::anvil::{Anvil, TOKEN, transfer_call};
use super::trap::{Boundary, Trap};

/// What it knows of what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It answers the same request in the same way.
    Remembers,
    /// It looks at the chain each time, as the reference facilitator does: what it settled itself looks
    /// to it like an authorization somebody has used.
    Forgets,
}

impl Manner {
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Remembers => "remembers",
            Self::Forgets => "forgets",
        }
    }
}

/// A facilitator.
pub struct Facilitator {
    manner: Manner,
    trap: Arc<Trap>,
    anvil: Arc<Anvil>,
    /// Who sends its transactions.
    sender: Address,
    sending: Turn<()>,
    dice: Mutex<Dice>,
    /// Settlements that were asked for, by nonce: what came of them, where that is remembered.
    settlements: Mutex<HashMap<B256, Arc<Turn<Option<B256>>>>>,
}

/// What goes wrong with an answer to `/settle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mishap {
    None,
    /// The answer is a 500.
    Error,
    /// The answer breaks off.
    Cut,
    /// There is none in time.
    Late,
    /// The answer says that the transaction was sent, and not yet what became of it.
    Pending,
}

type Answer = (u16, Value);

impl Facilitator {
    /// Opens one.
    pub async fn open(
        listener: TcpListener,
        manner: Manner,
        trap: &Arc<Trap>,
        anvil: &Arc<Anvil>,
        mut dice: Dice,
    ) {
        let sender = Address::from_word(U256::from(dice.next()).into());
        anvil.give_gas(sender).await;
        let facilitator = Arc::new(Self {
            manner,
            trap: Arc::clone(trap),
            anvil: Arc::clone(anvil),
            sender,
            sending: Turn::default(),
            dice: Mutex::new(dice),
            settlements: Mutex::default(),
        });
        let router = Router::new()
            .route("/supported", get(supported))
            .route("/verify", post(verify))
            .route("/settle", post(settle))
            .with_state(facilitator);
        tokio::spawn(async move { axum::serve(listener, router).await });
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.dice.lock().unwrap())
    }

    async fn think(&self) {
        let pause = self.draw(|dice| {
            let longest = if dice.percent(15) { 50 } else { 4 };
            dice.duration(Duration::from_millis(longest))
        });
        tokio::time::sleep(pause).await;
    }

    /// Why the token would not move the money, if it would not.
    async fn simulate(&self, payment: &Signed) -> Option<String> {
        let input = Input::from(payment.call().abi_encode());
        let call = json!([{"from": self.sender, "to": TOKEN, "input": input}, "latest"]);
        let error = self.anvil.try_rpc("eth_call", call).await.err()?;
        let message = error["message"].as_str().unwrap_or_default().to_owned();
        Some(if message.contains("exceeds balance") { "insufficient_funds".to_owned() } else { message })
    }

    async fn settle(&self, payment: &Signed) -> Answer {
        let (turn, again) = {
            let mut settlements = self.settlements.lock().unwrap();
            let again = settlements.contains_key(&payment.message.nonce);
            (Arc::clone(settlements.entry(payment.message.nonce).or_default()), again)
        };
        self.trap.see(if again { Boundary::SettleAgain } else { Boundary::Settle });
        self.think().await;
        let answer = match self.manner {
            Manner::Remembers => {
                let mut settled = turn.lock().await;
                if let Some(transaction) = *settled {
                    success(payment, transaction)
                } else {
                    let answer = self.move_money(payment).await;
                    *settled = transaction_of(&answer);
                    answer
                }
            }
            Manner::Forgets => self.move_money(payment).await,
        };
        if transaction_of(&answer).is_some() {
            self.trap.see(Boundary::Moved);
        }
        self.think().await;
        self.trap.see(Boundary::Settled);
        answer
    }

    /// Simulates, sends, waits: as the reference facilitator, which does not know what it has under way.
    async fn move_money(&self, payment: &Signed) -> Answer {
        if let Some(reason) = self.simulate(payment).await {
            return failure(payment, &reason, None);
        }
        // Some are slow, long enough for a gateway to die, come back and have a second transaction sent,
        // of which only one can succeed.
        if payment.message.nonce[0] < 16 {
            let pause = self.draw(|dice| dice.duration(Duration::from_millis(1500)));
            tokio::time::sleep(pause).await;
        }
        let (transaction, receipt) = {
            // The chain gives out the nonces, and two at the same time would get the same one.
            let _turn = self.sending.lock().await;
            let transaction = self.anvil.post(self.sender, TOKEN, &payment.call()).await;
            (transaction, self.anvil.receipt(transaction).await)
        };
        if receipt["status"] == "0x1" {
            success(payment, transaction)
        } else {
            failure(payment, "invalid_transaction_state", Some(transaction))
        }
    }
}

async fn supported() -> Json<Value> {
    Json(json!({"kinds": [{"x402Version": 2, "scheme": "exact", "network": "eip155:84532"}]}))
}

async fn verify(State(facilitator): State<Arc<Facilitator>>, Json(body): Json<Value>) -> Response {
    facilitator.trap.see(Boundary::Verify);
    let payment = Signed::read(&body);
    let payer = payment.message.from;
    facilitator.think().await;
    let answer = if facilitator.draw(|dice| dice.percent(2)) {
        (500, json!({"error": "unlucky"}))
    } else {
        match facilitator.simulate(&payment).await {
            None => (200, json!({"isValid": true, "payer": payer})),
            Some(reason) => (200, json!({"isValid": false, "invalidReason": reason, "payer": payer})),
        }
    };
    facilitator.trap.see(Boundary::Verified);
    whole(&answer)
}

async fn settle(State(facilitator): State<Arc<Facilitator>>, Json(body): Json<Value>) -> Response {
    let mishap = facilitator.draw(|dice| match dice.below(100) {
        0..3 => Mishap::Error,
        3..5 => Mishap::Cut,
        5..7 => Mishap::Late,
        7..10 => Mishap::Pending,
        _ => Mishap::None,
    });
    // A task of its own: what it began it finishes, also when who asked is gone.
    let work = tokio::spawn(async move {
        let payment = Signed::read(&body);
        let answer = facilitator.settle(&payment).await;
        (payment, answer)
    });
    let (payment, answer) = work.await.unwrap();
    match (mishap, transaction_of(&answer)) {
        (Mishap::Error, _) => whole(&(500, json!({"error": "unlucky"}))),
        (Mishap::Cut, _) => cut(&answer),
        (Mishap::Late, _) => {
            tokio::time::sleep(2 * SETTLE_TIMEOUT).await;
            whole(&answer)
        }
        (Mishap::Pending, Some(transaction)) => {
            whole(&failure(&payment, "settlement_pending", Some(transaction)))
        }
        (Mishap::None | Mishap::Pending, _) => whole(&answer),
    }
}

/// How long the gateway waits for a settlement.
pub const SETTLE_TIMEOUT: Duration = Duration::from_millis(1000);

fn success(payment: &Signed, transaction: B256) -> Answer {
    let payer = payment.message.from;
    (200, json!({"success": true, "transaction": transaction, "network": "eip155:84532", "payer": payer}))
}

fn failure(payment: &Signed, reason: &str, transaction: Option<B256>) -> Answer {
    let transaction = transaction.map_or_else(String::new, |hash| hash.to_string());
    let payer = payment.message.from;
    (
        200,
        json!({"success": false, "errorReason": reason, "transaction": transaction,
               "network": "eip155:84532", "payer": payer}),
    )
}

fn transaction_of((_, answer): &Answer) -> Option<B256> {
    (answer["success"] == true).then(|| answer["transaction"].as_str().unwrap().parse().unwrap())
}

fn whole((status, body): &Answer) -> Response {
    let response = Response::builder().status(*status).header("content-type", "application/json");
    response.body(Body::from(body.to_string())).unwrap()
}

/// An answer that breaks off in its middle.
fn cut((status, body): &Answer) -> Response {
    let body = body.to_string();
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let pieces = stream::iter([Ok(half), Err(std::io::Error::other("unlucky"))]);
    let response = Response::builder().status(*status).header("content-type", "application/json");
    response.header("content-length", body.len()).body(Body::from_stream(pieces)).unwrap()
}

/// A payment as it reaches a facilitator.
struct Signed {
    message: TransferWithAuthorization,
    signature: String,
}

impl Signed {
    fn read(body: &Value) -> Self {
        let payload = &body["paymentPayload"]["payload"];
        let field = |name: &str| payload["authorization"][name].as_str().unwrap().to_owned();
        let message = TransferWithAuthorization {
            from: field("from").parse().unwrap(),
            to: field("to").parse().unwrap(),
            value: field("value").parse().unwrap(),
            validAfter: field("validAfter").parse().unwrap(),
            validBefore: field("validBefore").parse().unwrap(),
            nonce: field("nonce").parse().unwrap(),
        };
        Self { message, signature: payload["signature"].as_str().unwrap().to_owned() }
    }

    fn call(&self) -> super::support::anvil::Contracts::transferWithAuthorizationCall {
        transfer_call(&self.message, &self.signature)
    }
}
