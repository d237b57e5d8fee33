//! A facilitator that answers as scripted; without a script everything is valid and settles.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::{Act, Request, Server};

type Script = Arc<Mutex<VecDeque<Act>>>;

/// A scripted facilitator.
#[derive(Clone)]
pub struct Facilitator {
    server: Server,
    verify: Script,
    settle: Script,
    supported: Arc<Mutex<Value>>,
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
        let (verify, settle) = (Script::default(), Script::default());
        let supported = Arc::new(Mutex::new(supported));
        let script = (Arc::clone(&verify), Arc::clone(&settle), Arc::clone(&supported));
        let server = Server::start_at(address, move |request| {
            let (verify, settle, supported) = &script;
            let network = || -> Value {
                let body: Value = serde_json::from_slice(&request.body).unwrap();
                body["paymentRequirements"]["network"].clone()
            };
            match request.target.as_str() {
                "/verify" => verify.lock().unwrap().pop_front().unwrap_or_else(|| {
                    Act::json(
                        200,
                        &json!({"isValid": true, "payer": "0x00000000000000000000000000000000000000aa"}),
                    )
                }),
                "/settle" => settle.lock().unwrap().pop_front().unwrap_or_else(|| {
                    Act::json(
                        200,
                        &json!({"success": true, "transaction": "0xabc", "network": network(),
                                "payer": "0x00000000000000000000000000000000000000aa"}),
                    )
                }),
                "/supported" => Act::json(200, &supported.lock().unwrap()),
                _ => Act::answer(404, &[], ""),
            }
        })
        .await;
        Self { server, verify, settle, supported }
    }

    pub fn url(&self) -> String {
        self.server.url()
    }

    /// What it does with its next verifications.
    pub fn will_verify(&self, acts: impl IntoIterator<Item = Act>) {
        self.verify.lock().unwrap().extend(acts);
    }

    /// What it does with its next settlements.
    pub fn will_settle(&self, acts: impl IntoIterator<Item = Act>) {
        self.settle.lock().unwrap().extend(acts);
    }

    /// What it supports from now on.
    pub fn will_support(&self, supported: Value) {
        *self.supported.lock().unwrap() = supported;
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
