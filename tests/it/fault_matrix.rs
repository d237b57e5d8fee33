//! The fault matrix of the facilitator: what it does wrong with a settlement, and what the client, the
//! origin, the ledger and the facilitator itself must see, for both moments of settlement.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::gateway::{base, free_address};
use crate::support::payer::encode;
use crate::support::shop::{assert_refused, assert_unresolved};
use crate::support::{Act, Connection, Facilitator, Gateway, LiveOrigin, Payer, Request, Response, get};

const DUPLICATE: &str = "duplicate_settlement";

type Habit = Arc<dyn Fn(&Facilitator, &Request) -> Act + Send + Sync>;

/// What goes wrong with a settlement.
#[derive(Clone)]
enum Fault {
    /// The facilitator does this.
    Does(Habit),
    /// The facilitator does this once; then it is gone.
    DoesAndDies(Habit),
    /// The facilitator is gone before it is asked.
    Gone,
}

/// What the client is answered first.
#[derive(Clone, Copy, PartialEq)]
enum First {
    Served,
    /// 402 with `PAYMENT-RESPONSE`: told no, for this reason.
    Refused(&'static str),
    /// 503: nobody was asked to settle.
    NotCharged,
    /// 503: nobody knows.
    Unresolved,
}

/// What becomes of the payment when the fault is over.
#[derive(Clone, Copy, PartialEq)]
enum After {
    /// It was used up before.
    Used,
    /// It was settled, and its delivery is owed.
    Owed,
    /// No money moved; it can be used as if nothing had happened.
    Free,
    /// Nobody can tell, so it is kept, and neither served nor asked for anew.
    Open,
}

struct Row {
    name: &'static str,
    fault: Fault,
    first: First,
    /// Settlements the facilitator gets for the first request, at least.
    asked: usize,
    /// What it does later, if it does not just recover.
    then: Option<Habit>,
    after: After,
    /// Whether the money moved although nobody can tell.
    charged: bool,
}

fn does(habit: impl Fn(&Facilitator, &Request) -> Act + Send + Sync + 'static) -> Habit {
    Arc::new(habit)
}

/// Always the same answer.
fn says(status: u16, answer: Value) -> Habit {
    does(move |_, _| Act::json(status, &answer))
}

fn no(reason: &str, transaction: &str) -> Habit {
    says(200, json!({"success": false, "errorReason": reason, "transaction": transaction}))
}

fn pending() -> Habit {
    no("settlement_pending", "0xabc")
}

/// One after the other, the last one from then on.
fn in_turn<const N: usize>(habits: [Habit; N]) -> Habit {
    let count = AtomicUsize::new(0);
    does(move |facilitator, request| {
        let turn = count.fetch_add(1, Ordering::SeqCst).min(N - 1);
        habits[turn](facilitator, request)
    })
}

fn charges_and_loses_the_answer() -> Habit {
    does(|facilitator, request| {
        facilitator.charge(request);
        Act::Close
    })
}

const NONCE_USED: &str = "invalid_exact_evm_nonce_already_used";
const FAILED: &str = "invalid_transaction_state";

/// A row whose facilitator is asked once and just recovers.
fn row(name: &'static str, fault: Habit, first: First, after: After) -> Row {
    Row { name, fault: Fault::Does(fault), first, asked: 1, then: None, after, charged: false }
}

fn text(status: u16, text: &'static str) -> Habit {
    does(move |_, _| Act::answer(status, &[], text))
}

/// Faults that leave no doubt: no money moved.
fn known() -> Vec<Row> {
    let refused = First::Refused;
    vec![
        Row { fault: Fault::Gone, asked: 0, ..row("it is gone", pending(), First::NotCharged, After::Free) },
        row(
            "it is busy",
            does(|_, _| Act::answer(429, &[("Retry-After", "3")], "")),
            First::NotCharged,
            After::Free,
        ),
        row("it says no", no("insufficient_funds", ""), refused("insufficient_funds"), After::Free),
        row("its transaction failed", no(FAILED, "0xdead"), refused(FAILED), After::Free),
        Row {
            asked: 2,
            ..row(
                "pending, then settled",
                in_turn([pending(), does(Facilitator::settled)]),
                First::Served,
                After::Used,
            )
        },
        Row {
            asked: 2,
            ..row(
                "pending, then failed",
                in_turn([pending(), no(FAILED, "0xabc")]),
                refused(FAILED),
                After::Free,
            )
        },
    ]
}

/// Faults after which nobody knows whether the money moved, and which are found out about.
fn found_out() -> Vec<Row> {
    let doubt = |name, fault| row(name, fault, First::Unresolved, After::Owed);
    let dies = |name, fault| Row { fault: Fault::DoesAndDies(fault), ..doubt(name, pending()) };
    let elsewhere = json!({"success": true, "transaction": "0xabc", "network": "eip155:8453"});
    vec![
        doubt("it stalls", does(|_, _| Act::Hang)),
        doubt("it answers garbage", text(200, "<h1>It works!</h1>")),
        doubt("it answers half", text(200, "{\"success\": tr")),
        doubt("it answers 500", text(500, "Internal Server Error")),
        doubt("it answers 500 in JSON", says(500, json!({"error": "internal"}))),
        doubt("it closes after receiving", does(|_, _| Act::Close)),
        dies("it dies after receiving", does(|_, _| Act::Close)),
        dies("it settles and dies", charges_and_loses_the_answer()),
        doubt("it settles but loses the answer", charges_and_loses_the_answer()),
        doubt("it says no behind a transaction", no("odd", "0xabc")),
        doubt("it says that something went wrong", no("unexpected_settle_error", "")),
        doubt("its yes comes as an error", says(500, json!({"success": true, "transaction": "0xabc"}))),
        doubt("its yes is for another network", says(200, elsewhere)),
        Row { asked: 2, ..doubt("pending for long, then settled", pending()) },
        Row {
            asked: 2,
            then: Some(no(FAILED, "0xabc")),
            ..row("pending for long, then failed", pending(), First::Unresolved, After::Free)
        },
    ]
}

/// Faults after which the facilitator alone cannot tell whether the money moved.
fn kept() -> Vec<Row> {
    let kept =
        |name, fault, then| Row { then: Some(then), ..row(name, fault, First::Unresolved, After::Open) };
    let charges = charges_and_loses_the_answer();
    vec![
        Row { charged: true, ..kept("it settles and cannot tell any more", charges, no(NONCE_USED, "")) },
        kept("the nonce was used", no(NONCE_USED, ""), no(NONCE_USED, "")),
        Row { asked: 2, ..kept("it stays pending", pending(), pending()) },
    ]
}

/// When a route settles, and what that makes of the order of things.
#[derive(Clone, Copy, PartialEq)]
enum When {
    BeforeResponse,
    BeforeRequest,
}

/// A gateway, and a payment for `/paid/a`.
struct Case {
    row: Row,
    when: When,
    origin: LiveOrigin,
    facilitator: Facilitator,
    gateway: Gateway,
    payment: String,
    /// The same without the member that says what it is for.
    bearer: String,
}

impl Case {
    async fn open(row: Row, when: When) -> Self {
        let origin = LiveOrigin::start().await;
        let facilitator = Facilitator::start_at(free_address()).await;
        let settle = if when == When::BeforeRequest { "settle = \"before-request\"\n" } else { "" };
        // Stalling costs this long; everything else must have time on a slow machine.
        let timeout = if row.name == "it stalls" { 1_000 } else { 20_000 };
        let config = format!(
            "{}[[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\n{settle}\
             [facilitators.scripted]\nurl = \"{}\"\nsettle_timeout_ms = {timeout}\n",
            base(&origin.url(), "scripted"),
            facilitator.url()
        );
        let gateway = Gateway::with_config(&config).await;
        let required = get(gateway.address, "/paid/a", &[]).await.required();
        let mut message = Payer::new().message(&required);
        let payment = encode(&message);
        message.as_object_mut().unwrap().remove("resource");
        let bearer = encode(&message);
        Self { row, when, origin, facilitator, gateway, payment, bearer }
    }

    async fn send(&self, method: &str, path: &str, payment: &str) -> Connection {
        let mut client = Connection::open(self.gateway.address).await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nPAYMENT-SIGNATURE: {payment}\r\n\r\n");
        client.write(head).await;
        client
    }

    /// Lets the origin answer the request it got.
    async fn deliver(&self) {
        self.origin.exchange().await.answer(200, &[("Connection", "close")], "content").await;
    }

    /// Presents the payment for what it is for; the origin must not be asked.
    async fn present_in_vain(&self) -> Response {
        let response = self.send("GET", "/paid/a", &self.payment).await.response().await;
        assert!(!self.origin.has_connection().await, "the origin was asked");
        response
    }

    fn settlements(&self) -> usize {
        self.facilitator.calls("/settle").len()
    }

    async fn begin(&self) {
        match &self.row.fault {
            Fault::Gone => self.facilitator.go_away().await,
            Fault::Does(habit) | Fault::DoesAndDies(habit) => {
                let habit = Arc::clone(habit);
                self.facilitator.settles_so(move |facilitator, request| habit(facilitator, request));
            }
        }
    }

    async fn end(&self) {
        match &self.row.then {
            None => self.facilitator.recovers(),
            Some(habit) => {
                let habit = Arc::clone(habit);
                self.facilitator.settles_so(move |facilitator, request| habit(facilitator, request));
            }
        }
        if matches!(self.row.fault, Fault::Gone | Fault::DoesAndDies(_)) {
            self.facilitator.come_back().await;
        }
    }

    /// The first request, with the fault between verification and settlement.
    async fn first_answer(&self) -> Response {
        match self.when {
            When::BeforeResponse => {
                let mut client = self.send("GET", "/paid/a", &self.payment).await;
                let mut exchange = self.origin.exchange().await;
                self.begin().await;
                exchange.answer(200, &[("Connection", "close")], "content").await;
                client.response().await
            }
            When::BeforeRequest => {
                self.begin().await;
                let mut client = self.send("GET", "/paid/a", &self.payment).await;
                if self.row.first == First::Served {
                    self.deliver().await;
                }
                client.response().await
            }
        }
    }

    fn check_first(&self, response: &Response) {
        match self.row.first {
            First::Served => {
                assert_eq!((response.status, response.text().as_str()), (200, "content"));
                assert_eq!(response.decoded("payment-response")["success"], true);
                return;
            }
            First::Refused(reason) => {
                assert_refused(response, reason);
                let receipt = response.decoded("payment-response");
                assert_eq!((&receipt["success"], &receipt["errorReason"]), (&json!(false), &json!(reason)));
            }
            First::NotCharged => {
                assert_eq!(response.status, 503, "{}", response.text());
                assert!(response.header("retry-after").is_some());
                assert!(response.text().contains("nothing was charged"), "{}", response.text());
            }
            First::Unresolved => assert_unresolved(response),
        }
        assert!(!response.text().contains("content"), "{}", response.text());
    }

    async fn run(self) {
        let first = self.first_answer().await;
        self.check_first(&first);
        assert!(self.settlements() >= self.row.asked, "{}", self.settlements());
        self.gateway.wait_until_idle().await;
        let is_open = self.row.first == First::Unresolved;
        assert_eq!(self.gateway.held("unresolved").await, u64::from(is_open));
        assert_eq!((self.gateway.held("claimed").await, self.gateway.held("settling").await), (0, 0));
        if let Fault::DoesAndDies(_) = self.row.fault {
            self.facilitator.go_away().await;
        }
        if is_open {
            for _ in 0..2 {
                assert_unresolved(&self.present_in_vain().await);
            }
            // Also for something else: whoever is told to pay anew might pay twice.
            let elsewhere = self.send("GET", "/paid/b", &self.bearer).await.response().await;
            assert_unresolved(&elsewhere);
        }
        self.end().await;
        match self.row.after {
            After::Used => {}
            After::Owed => self.check_owed().await,
            After::Free => self.check_free(is_open).await,
            After::Open => return self.check_open().await,
        }
        assert_refused(&self.present_in_vain().await, DUPLICATE);
        assert_eq!(self.facilitator.charged(), 1);
        let bodies: Vec<_> = self.facilitator.calls("/settle").into_iter().map(|call| call.body).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "it was asked in different words");
        for state in ["claimed", "settling", "unresolved"] {
            assert_eq!(self.gateway.held(state).await, 0, "{state}");
        }
    }

    /// It becomes known by itself, and then the payment is served once without another charge.
    async fn check_owed(&self) {
        self.gateway.wait_until_held("unresolved", 0).await;
        let settlements = self.settlements();
        let elsewhere = self.send("GET", "/paid/b", &self.bearer).await.response().await;
        assert_refused(&elsewhere, DUPLICATE);
        let mut client = self.send("GET", "/paid/a", &self.payment).await;
        self.deliver().await;
        let served = client.response().await;
        assert_eq!((served.status, served.text().as_str()), (200, "content"));
        let receipt = served.decoded("payment-response");
        assert_eq!((&receipt["success"], &receipt["transaction"]), (&json!(true), &json!("0xabc")));
        self.gateway.wait_until_idle().await;
        assert_eq!(self.settlements(), settlements, "it was settled before");
    }

    /// The payment is as good as before.
    async fn check_free(&self, was_open: bool) {
        if was_open {
            self.gateway.wait_until_held("unresolved", 0).await;
            assert_eq!(self.facilitator.charged(), 0);
            self.facilitator.recovers();
        }
        let settlements = self.settlements();
        let mut client = self.send("GET", "/paid/a", &self.payment).await;
        self.deliver().await;
        let served = client.response().await;
        assert_eq!((served.status, served.text().as_str()), (200, "content"));
        self.gateway.wait_until_idle().await;
        assert_eq!(self.settlements(), settlements + 1);
    }

    /// However often it is tried, nobody can tell.
    async fn check_open(&self) {
        self.facilitator.wait_for_settlements(self.settlements() + 2).await;
        assert_unresolved(&self.present_in_vain().await);
        assert_eq!(self.gateway.held("unresolved").await, 1);
        assert_eq!(self.facilitator.charged(), usize::from(self.row.charged));
    }
}

/// Runs every row at once, each with a gateway of its own, and names those that failed.
async fn run_all(when: When) {
    let rows = [known(), found_out(), kept()].into_iter().flatten();
    let cases: Vec<_> = rows
        .map(|row| (row.name, tokio::spawn(async move { Case::open(row, when).await.run().await })))
        .collect();
    let mut failed = Vec::new();
    for (name, case) in cases {
        if case.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "see above: {failed:#?}");
}

#[tokio::test]
async fn whatever_the_facilitator_does_no_payment_is_lost_or_charged_twice() {
    run_all(When::BeforeResponse).await;
}

#[tokio::test]
async fn nor_is_one_where_settlement_comes_first() {
    run_all(When::BeforeRequest).await;
}
