//! A facilitator that answers as scripted; without a script everything is valid and settles.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::{Act, Request, Server};

type Script = Arc<Mutex<VecDeque<Act>>>;

/// What a facilitator does with a settlement for which nothing is scripted.
type Habit = Arc<dyn Fn(&Facilitator, &Request) -> Act + Send + Sync>;

/// What it says that it supports, each time it is asked.
type Advertising = Arc<dyn Fn() -> Value + Send + Sync>;

/// A scripted facilitator.
#[derive(Clone)]
pub struct Facilitator {
    server: Server,
    books: Arc<Books>,
}

/// What it does, and what it has done.
struct Books {
    verify: Script,
    settle: Script,
    habit: Mutex<Habit>,
    supported: Mutex<Advertising>,
    charged: Mutex<Vec<String>>,
}

impl Facilitator {
    /// Starts one that supports `exact` on base-sepolia in both generations.
    pub async fn start() -> Self {
        Self::supporting(usual()).await
    }

    /// Starts one on an address.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::listen(address, usual()).await
    }

    /// Starts one with a `/supported` of its own.
    pub async fn supporting(supported: Value) -> Self {
        Self::listen(SocketAddr::from(([127, 0, 0, 1], 0)), supported).await
    }

    async fn listen(address: SocketAddr, supported: Value) -> Self {
        let books = Arc::new(Books {
            verify: Script::default(),
            settle: Script::default(),
            habit: Mutex::new(Arc::new(Self::settled)),
            supported: Mutex::new(Arc::new(move || supported.clone())),
            charged: Mutex::default(),
        });
        let known = Arc::new(OnceLock::<Self>::new());
        let own = Arc::clone(&known);
        let server = Server::start_at(address, move |request| own.wait().answer(request)).await;
        let facilitator = Self { server, books };
        let _ = known.set(facilitator.clone());
        facilitator
    }

    fn answer(&self, request: &Request) -> Act {
        let next = |script: &Script| script.lock().unwrap().pop_front();
        match request.target.as_str() {
            "/verify" => next(&self.books.verify).unwrap_or_else(|| {
                Act::json(
                    200,
                    &json!({"isValid": true, "payer": "0x00000000000000000000000000000000000000aa"}),
                )
            }),
            "/settle" => next(&self.books.settle).unwrap_or_else(|| {
                let habit = Arc::clone(&self.books.habit.lock().unwrap());
                habit(self, request)
            }),
            "/supported" => {
                let advertising = Arc::clone(&self.books.supported.lock().unwrap());
                Act::json(200, &advertising())
            }
            _ => Act::answer(404, &[], ""),
        }
    }

    /// Charges a payment, if that was not done before, and says so: the same however often it is asked.
    pub fn settled(&self, request: &Request) -> Act {
        self.charge(request);
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let network = &body["paymentRequirements"]["network"];
        Act::json(
            200,
            &json!({"success": true, "transaction": "0xabc", "network": network,
                    "payer": "0x00000000000000000000000000000000000000aa"}),
        )
    }

    /// Moves the money of a payment, once.
    pub fn charge(&self, request: &Request) {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let payment = body["paymentPayload"]["payload"].to_string();
        let mut charged = self.books.charged.lock().unwrap();
        if !charged.contains(&payment) {
            charged.push(payment);
        }
    }

    /// Payments whose money it moved, without those of scripted answers.
    pub fn charged(&self) -> usize {
        self.books.charged.lock().unwrap().len()
    }

    /// What it does with settlements from now on, behind what is scripted.
    pub fn settles_so(&self, habit: impl Fn(&Self, &Request) -> Act + Send + Sync + 'static) {
        *self.books.habit.lock().unwrap() = Arc::new(habit);
    }

    /// Settles from now on as it should.
    pub fn recovers(&self) {
        self.settles_so(Self::settled);
    }

    /// Stops listening, as a process that ended.
    pub async fn go_away(&self) {
        self.server.go_away().await;
    }

    /// Listens again.
    pub async fn come_back(&self) {
        self.server.come_back().await;
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What it does with its next verifications.
    pub fn will_verify(&self, acts: impl IntoIterator<Item = Act>) {
        self.books.verify.lock().unwrap().extend(acts);
    }

    /// What it does with its next settlements.
    pub fn will_settle(&self, acts: impl IntoIterator<Item = Act>) {
        self.books.settle.lock().unwrap().extend(acts);
    }

    /// What it supports from now on.
    pub fn will_support(&self, supported: Value) {
        self.advertises_so(move || supported.clone());
    }

    /// What it says that it supports from now on, anew each time it is asked.
    pub fn advertises_so(&self, advertising: impl Fn() -> Value + Send + Sync + 'static) {
        *self.books.supported.lock().unwrap() = Arc::new(advertising);
    }

    /// What it does with its next settlement, once it is told to; the call counts as arrived before.
    pub fn will_settle_when_told(&self) -> oneshot::Sender<()> {
        let settled = json!({"success": true, "transaction": "0xabc", "network": "eip155:84532",
                             "payer": "0x00000000000000000000000000000000000000aa"});
        let (release, act) = Act::json(200, &settled).held();
        self.will_settle([act]);
        release
    }

    /// Waits until so many settlements were asked for.
    pub async fn wait_for_settlements(&self, count: usize) {
        loop {
            let seen = self.server.requests().len();
            if self.calls("/settle").len() >= count {
                return;
            }
            self.server.wait_for_requests(seen + 1).await;
        }
    }

    /// Calls of a path that have arrived.
    pub fn calls(&self, path: &str) -> Vec<Request> {
        self.server.requests().into_iter().filter(|request| request.target == path).collect()
    }
}

fn usual() -> Value {
    json!({"kinds": [
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
    ]})
}
