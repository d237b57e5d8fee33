//! Between a facilitator and its node: lets questions through, loses them, or loses their answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::support::server::read_request_head;

/// What becomes of a question.
pub enum Way {
    /// It reaches the node, and the answer comes back.
    Pass,
    /// The connection breaks before it has reached the node.
    Lose,
    /// It reaches the node, and the connection breaks before the answer.
    LoseAnswer,
    /// It is answered with this error.
    Error(i64, &'static str),
    /// It is answered with this.
    Answer(Value),
    /// It reaches the node and the answer comes back, and then nobody is there any more.
    Last,
    /// It takes its time.
    Slow(Duration),
    /// Nothing ever comes back.
    Hang,
}

type Rule = Box<dyn Fn(&str, &Value) -> Way + Send>;

struct Shared {
    node: String,
    client: reqwest::Client,
    rule: Mutex<Rule>,
    asked: Mutex<Vec<String>>,
    listening: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    connections: Mutex<JoinSet<()>>,
}

/// What stands in the middle.
pub struct Middle {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Middle {
    /// In front of a node; everything passes.
    pub async fn before(node: &str) -> Self {
        let client = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap();
        let rule: Rule = Box::new(|_, _| Way::Pass);
        let shared = Arc::new(Shared {
            node: node.to_owned(),
            client,
            rule: Mutex::new(rule),
            asked: Mutex::default(),
            listening: tokio::sync::Mutex::default(),
            connections: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        *shared.listening.lock().await = Some(tokio::spawn(accept(listener, Arc::clone(&shared))));
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of questions from now on, by method and parameters.
    pub fn rule(&self, rule: impl Fn(&str, &Value) -> Way + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// What becomes of one method's questions; all others pass.
    pub fn rule_for(&self, method: &'static str, way: impl Fn() -> Way + Send + 'static) {
        self.rule(move |asked, _| if asked == method { way() } else { Way::Pass });
    }

    /// How often a method was asked for.
    pub fn asked(&self, method: &str) -> usize {
        self.shared.asked.lock().unwrap().iter().filter(|asked| *asked == method).count()
    }

    /// Breaks every connection and takes no new one.
    pub async fn stop(&self) {
        self.shared.stop_listening().await;
        let mut connections = std::mem::take(&mut *self.shared.connections.lock().unwrap());
        connections.shutdown().await;
    }

    /// Takes connections again.
    pub async fn go_on(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.shared.listening.lock().await = Some(tokio::spawn(accept(listener, Arc::clone(&self.shared))));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.lock().unwrap().spawn(serve(stream, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    if let Some(mut request) = read_request_head(&mut stream).await {
        let length = request.header("content-length").unwrap().parse().unwrap();
        request.body = vec![0; length];
        if stream.read_exact(&mut request.body).await.is_err() {
            return;
        }
        let question: Value = serde_json::from_slice(&request.body).unwrap();
        let method = question["method"].as_str().unwrap().to_owned();
        let way = (shared.rule.lock().unwrap())(&method, &question["params"]);
        if let Way::Slow(time) = way {
            tokio::time::sleep(time).await;
        }
        let reaches = matches!(way, Way::Pass | Way::LoseAnswer | Way::Last | Way::Slow(_));
        let answer = if reaches { shared.pass(&question).await } else { Value::Null };
        // What was counted has happened.
        shared.asked.lock().unwrap().push(method);
        if matches!(way, Way::Last) {
            shared.stop_listening().await;
        }
        let answer = match way {
            Way::Pass | Way::Last | Way::Slow(_) => answer,
            Way::Lose | Way::LoseAnswer => return,
            Way::Error(code, message) => {
                json!({"jsonrpc": "2.0", "id": question["id"], "error": {"code": code, "message": message}})
            }
            Way::Answer(result) => json!({"jsonrpc": "2.0", "id": question["id"], "result": result}),
            Way::Hang => std::future::pending().await,
        };
        let body = answer.to_string();
        // Each question comes on a connection of its own, so that none is left open by the last one.
        let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
    }
}

impl Shared {
    /// Nobody can connect any more when this returns.
    async fn stop_listening(&self) {
        if let Some(listening) = self.listening.lock().await.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    async fn pass(&self, question: &Value) -> Value {
        let request = self.client.post(&self.node).header("content-type", "application/json");
        let response = request.body(question.to_string()).send().await.unwrap();
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
    }
}
