//! Nodes that are down, busy, limited, broken or dishonest.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use alloy_primitives::B256;
use serde_json::{Value, json};
use tollgate::chain::{Chain as _, ChainError, EvmChain, Finding};

use super::{Scene, chain, on_chain, settings};
use crate::support::gateway::free_address;
use crate::support::{Act, Server};

/// A node in front of the chain that does as scripted; without a word of the script, as the chain.
pub(super) async fn in_front(
    scene: &Scene,
    script: impl Fn(&Value) -> Option<Act> + Send + Sync + 'static,
) -> Server {
    let chain = scene.anvil.url.strip_prefix("http://").unwrap().to_owned();
    Server::start(move |request| {
        let question: Value = serde_json::from_slice(&request.body).unwrap();
        script(&question).unwrap_or_else(|| Act::RawThenClose(forward(&chain, &request.body)))
    })
    .await
}

fn forward(address: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

/// Another result than the chain's for a method.
fn instead(question: &Value, method: &str, result: &Value) -> Option<Act> {
    (question["method"] == method)
        .then(|| Act::json(200, &json!({"jsonrpc": "2.0", "id": question["id"], "result": result})))
}

pub(super) fn error(question: &Value, code: i64, message: &str) -> Act {
    let error = json!({"code": code, "message": message});
    Act::json(200, &json!({"jsonrpc": "2.0", "id": question["id"], "error": error}))
}

/// What a chain behind this node says of a payment that was made just now.
async fn told(scene: &Scene, url: &str) -> Result<Finding, ChainError> {
    let message = scene.authorization().await;
    scene.submit(&message).await;
    chain(url, 1).look(&on_chain(&message), scene.now().await, "").await
}

async fn told_by(
    scene: &Scene,
    script: impl Fn(&Value) -> Option<Act> + Send + Sync + 'static,
) -> Result<Finding, ChainError> {
    told(scene, &in_front(scene, script).await.url()).await
}

#[tokio::test]
async fn a_node_of_another_chain_is_never_believed() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let mut other = settings(&scene.anvil.url, 1);
    other.network = "base".parse().unwrap();
    let other = EvmChain::new(&other).unwrap();
    let mut payment = on_chain(&message);
    let tollgate::scheme::OnChain::Eip3009 { chain_id, .. } = &mut payment else { panic!("{payment:?}") };
    *chain_id = 8453;
    for _ in 0..2 {
        let cause = other.look(&payment, scene.now().await, "").await.unwrap_err().to_string();
        assert_eq!(cause, "the node serves chain 84532, not 8453 (base)");
    }
    let since = scene.now().await;
    assert!(other.received(super::TOKEN, scene.payee, since, since).await.is_err());
    // Nor is a chain asked for payments of another.
    assert!(scene.look(&payment).await.is_err());
}

#[tokio::test]
async fn a_node_that_gives_no_answer_leaves_the_payment_unknown_in_time() {
    let scene = Scene::start().await;
    let down = format!("http://{}", free_address());
    assert!(told(&scene, &down).await.unwrap_err().to_string().starts_with("eth_chainId: "));
    // A node that speaks no TLS where it was promised.
    let plain = in_front(&scene, |_| None).await.url().replace("http://", "https://");
    assert!(told(&scene, &plain).await.unwrap_err().to_string().starts_with("eth_chainId: error sending"));
    let started = Instant::now();
    let hangs = told_by(&scene, |_| Some(Act::Hang)).await.unwrap_err();
    assert_eq!(hangs.to_string(), "eth_chainId: no complete answer within 5000 ms");
    assert!(started.elapsed().as_secs() < 20);
    for (answer, cause) in [
        (Act::answer(200, &[], "<html>"), "eth_chainId: the node's answer cannot be understood"),
        (Act::answer(200, &[], "{}"), "eth_chainId: the node's answer cannot be understood"),
        (Act::answer(200, &[], "null"), "eth_chainId: the node's answer cannot be understood"),
        (Act::answer(404, &[], "/v2/hunter2"), "eth_chainId: the node answers with HTTP status 404"),
        (Act::answer(302, &[("Location", "/v2/hunter2")], ""), "eth_chainId: the node answers with HTTP"),
        (Act::Close, "eth_chainId: error sending request"),
    ] {
        let answer = std::sync::Mutex::new(Some(answer));
        let server = in_front(&scene, move |_| answer.lock().unwrap().take()).await;
        let told = told(&scene, &format!("{}/v2/hunter2", server.url())).await.unwrap_err().to_string();
        assert!(told.starts_with(cause), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
}

#[tokio::test]
async fn a_busy_node_is_asked_again_and_given_up_in_time() {
    let scene = Scene::start().await;
    let refused = std::sync::atomic::AtomicUsize::new(0);
    let paid = told_by(&scene, move |_| {
        let refuse = refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < 2;
        refuse.then(|| Act::answer(429, &[("Retry-After", "0")], ""))
    })
    .await;
    assert!(matches!(paid, Ok(Finding::Paid { .. })), "{paid:?}");
    let always = told_by(&scene, |_| Some(Act::answer(429, &[("Retry-After", "0")], ""))).await;
    assert_eq!(always.unwrap_err().to_string(), "eth_chainId: the node answers with HTTP status 429");
    let limited = told_by(&scene, |question| Some(error(question, -32_016, "over rate limit"))).await;
    let cause = "eth_chainId: the node answers with error -32016: over rate limit";
    assert_eq!(limited.unwrap_err().to_string(), cause);
}

#[tokio::test]
async fn answers_that_cannot_be_are_errors_and_never_findings() {
    type Script = fn(&Value) -> Option<Act>;
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let other = scene.submit(&message).await;
    let hash = Value::from(other.to_string());
    let scripts: [(Script, &str); 8] = [
        (|q| instead(q, "eth_call", &json!("0x")), "no contract at"),
        (
            |q| instead(q, "eth_call", &json!(B256::repeat_byte(2))),
            "does not answer authorizationState(address,bytes32)",
        ),
        (|q| instead(q, "eth_call", &json!("0x01")), "does not answer"),
        (|q| instead(q, "eth_getBlockByNumber", &Value::Null), "the node has no latest block"),
        (
            // The event's logs were dropped: who spent the nonce is not known.
            |q| instead(q, "eth_getLogs", &json!([])),
            "the nonce is spent, but the node's events of blocks",
        ),
        (|q| instead(q, "eth_getTransactionReceipt", &Value::Null), "contradict"),
        (
            |q| {
                let id = json!(q["id"].as_u64().unwrap() + 1);
                let late = json!({"jsonrpc": "2.0", "id": id, "result": B256::ZERO});
                (q["method"] == "eth_call").then(|| Act::json(200, &late))
            },
            "another question",
        ),
        (|q| (q["method"] == "eth_getLogs").then(|| error(q, -32_000, "pruned history")), "pruned history"),
    ];
    for (script, cause) in scripts {
        let told = told_by(&scene, script).await.unwrap_err().to_string();
        assert!(told.contains(cause), "{told}");
    }
    // The receipt and the events of another payment prove nothing for this one.
    let log = scene.anvil.rpc("eth_getTransactionReceipt", json!([hash])).await;
    let (receipt, logs) = (log.clone(), log["logs"].clone());
    let told = told_by(&scene, move |q| instead(q, "eth_getTransactionReceipt", &receipt));
    assert!(told.await.unwrap_err().to_string().contains("receipt of another transaction"));
    let told = told_by(&scene, move |q| instead(q, "eth_getLogs", &logs));
    assert!(told.await.unwrap_err().to_string().contains("events that it was not asked for"));
}

#[tokio::test]
async fn an_expiry_is_not_told_from_a_chain_that_changed_meanwhile() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    scene.anvil.mine_at(message.validBefore.to()).await;
    let server = in_front(&scene, |q| {
        // The block that was judged is another one when it is looked at again.
        let again = q["method"] == "eth_getBlockByNumber" && q["params"][0] != "latest";
        let number = q["params"][0].clone();
        let other = json!({"number": number, "hash": B256::repeat_byte(1), "timestamp": "0x1"});
        again.then(|| instead(q, "eth_getBlockByNumber", &other)).flatten()
    })
    .await;
    let found = chain(&server.url(), 1).look(&on_chain(&message), scene.now().await, "").await;
    assert_eq!(found, Ok(Finding::Open));
}

#[tokio::test]
async fn searches_fit_into_what_a_node_allows_and_remember_it() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let since = scene.now().await;
    scene.anvil.mine(150).await;
    let transaction = scene.submit(&message).await;
    scene.anvil.mine(150).await;
    let number = |value: &Value| u64::from_str_radix(&value.as_str().unwrap()[2..], 16).unwrap();
    let width = move |q: &Value| {
        let filter = &q["params"][0];
        number(&filter["toBlock"]) - number(&filter["fromBlock"]) + 1
    };
    let server = in_front(&scene, move |q| {
        let refused = q["method"] == "eth_getLogs" && width(q) > 10;
        refused.then(|| error(q, -32_602, "eth_getLogs is limited to a 10 block range"))
    })
    .await;
    let chain = chain(&server.url(), 1);
    let searches = || -> Vec<u64> {
        let questions = server.requests().into_iter().map(|request| {
            let question: Value = serde_json::from_slice(&request.body).unwrap();
            question
        });
        questions.filter(|question| question["method"] == "eth_getLogs").map(|q| width(&q)).collect()
    };
    assert_eq!(chain.look(&on_chain(&message), since, "").await, Ok(scene.paid(transaction).await));
    let first = searches();
    assert!(first.iter().any(|width| *width > 10) && first.last().is_some_and(|width| *width <= 10));
    assert_eq!(chain.look(&on_chain(&message), since, "").await, Ok(scene.paid(transaction).await));
    let second = &searches()[first.len()..];
    assert!(second.iter().all(|width| *width <= 10), "{second:?}");
    // A facilitator that names the transaction saves the search.
    let before = searches().len();
    let hint = transaction.to_string();
    assert_eq!(chain.look(&on_chain(&message), since, &hint).await, Ok(scene.paid(transaction).await));
    assert_eq!(searches().len(), before);
    let received = chain.received(super::TOKEN, scene.payee, since, scene.now().await).await.unwrap();
    assert_eq!(received.len(), 1);
}

#[tokio::test]
async fn a_search_that_would_take_too_many_questions_leaves_the_payment_unknown() {
    let scene = Scene::start().await;
    let message = scene.authorization().await;
    let since = scene.now().await;
    scene.anvil.mine(200).await;
    scene.submit(&message).await;
    let server = in_front(&scene, |q| {
        let filter = &q["params"][0];
        let refused = q["method"] == "eth_getLogs" && filter["toBlock"] != filter["fromBlock"];
        refused.then(|| error(q, -32_005, "query returned more than 10000 results"))
    })
    .await;
    let told = chain(&server.url(), 1).look(&on_chain(&message), since, "").await.unwrap_err().to_string();
    assert!(told.starts_with("there are too many blocks to search"), "{told}");
}
