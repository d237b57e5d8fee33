//! A gateway that is a facilitator for others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::Address;
use serde_json::{Value, json};
use tollgate::clock::SystemClock;
use tollgate::facilitator::HttpFacilitator;
use tollgate::facilitator::settings::{Auth, HttpSettings};
use tollgate::secret::Secret;

use crate::onchain::keeps_the_contract;
use crate::onchain::till::{PRICE, Till};
use crate::support::client::{self, get, request};
use crate::support::gateway::{PAID, base, free_address};
use crate::support::{Gateway, Origin, Payer, Response};

const TOKEN: &str = "c2VzYW1lIG9wZW4";

/// A gateway that settles on the till's chain, also for those who show the token.
async fn bank(till: &Till, more: &str) -> (Gateway, SocketAddr) {
    let origin = Origin::site().await;
    let address = free_address();
    let config = format!(
        "allow_plaintext_secrets = true\n{}{PAID}\n{}\n\
         [facilitator_service]\nlisten = \"{address}\"\nfacilitator = \"own\"\ntoken = \"{TOKEN}\"\n{more}",
        base(&origin.url(), "own"),
        own(till)
    );
    (Gateway::with_config(&config).await, address)
}

fn own(till: &Till) -> String {
    format!("[facilitators.own]\nkind = \"onchain\"\nrpc = \"{}\"\nkey = \"{}\"\n", till.anvil.url, till.key)
}

/// A gateway whose payments another one settles.
async fn shop(service: SocketAddr, token: &str) -> Gateway {
    let origin = Origin::site().await;
    let config = format!(
        "allow_plaintext_secrets = true\n{}{PAID}\n[facilitators.bank]\nurl = \"http://{service}\"\n\
         auth = {{ kind = \"bearer\", token = \"{token}\" }}\n",
        base(&origin.url(), "bank")
    );
    Gateway::spawn(&config)
}

async fn buy(gateway: &Gateway, payer: &Payer) -> Response {
    let required = get(gateway.address, "/paid/a", &[]).await.required();
    let payment = payer.pay(&required);
    get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await
}

/// Waits until somebody listens.
async fn listens(address: SocketAddr) {
    let deadline = Instant::now() + client::PATIENCE;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn post(address: SocketAddr, path: &str, token: Option<&str>, body: &str) -> Response {
    let shown = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(shown.as_deref().map(|shown| ("Authorization", shown)));
    request(address, "POST", path, &headers, body.as_bytes()).await
}

#[tokio::test]
async fn a_gateway_sells_what_it_settles_itself() {
    let till = Till::open().await;
    let origin = Origin::site().await;
    let config =
        format!("allow_plaintext_secrets = true\n{}{PAID}{}", base(&origin.url(), "own"), own(&till));
    let gateway = Gateway::with_config(&config).await;
    let bought = buy(&gateway, &till.payer().await).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "content of /paid/a"));
    let receipt = bought.decoded("payment-response");
    till.assert_paid_once(receipt["transaction"].as_str().unwrap()).await;
    let poor = buy(&gateway, &Payer::new()).await;
    assert_eq!(poor.required()["error"], "invalid_exact_evm_insufficient_balance");
    assert!(!gateway.log().contains(&till.key[2..]), "the key is in the log");
}

#[tokio::test]
async fn a_gateway_killed_while_its_transaction_waits_delivers_that_payment_later_and_pays_for_it_once() {
    let till = Till::open().await;
    let origin = Origin::site().await;
    let config =
        format!("allow_plaintext_secrets = true\n{}{PAID}{}", base(&origin.url(), "own"), own(&till));
    let mut gateway = Gateway::with_config(&config).await;
    let payment = till.payer().await.pay(&get(gateway.address, "/paid/a", &[]).await.required());
    till.anvil.rpc("evm_setAutomine", json!([false])).await;
    let fetch = |address, payment: String| async move {
        get(address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await
    };
    let cut_off = tokio::spawn(fetch(gateway.address, payment.clone()));
    let sent = till.wait_for_waiting(1).await;
    gateway.crash().await;
    assert!(cut_off.await.is_err(), "nothing was delivered");
    gateway.start_again().await;
    till.anvil.rpc("evm_setAutomine", json!([true])).await;
    till.anvil.mine(1).await;
    let deadline = Instant::now() + client::PATIENCE;
    let bought = loop {
        let answer = fetch(gateway.address, payment.clone()).await;
        if answer.status == 200 {
            break answer;
        }
        assert_eq!(answer.status, 503, "{}", answer.text());
        assert!(Instant::now() < deadline, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(bought.text(), "content of /paid/a");
    assert_eq!(bought.decoded("payment-response")["transaction"], sent[0]["hash"]);
    till.assert_paid_once(sent[0]["hash"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_gateway_warns_when_its_balance_for_gas_is_low() {
    let till = Till::open().await;
    till.anvil.rpc("anvil_setBalance", json!([till.account, "0x38d7ea4c68000"])).await;
    let origin = Origin::site().await;
    let config = format!(
        "allow_plaintext_secrets = true\n{}{PAID}{}low_balance = \"0.5\"\n",
        base(&origin.url(), "own"),
        own(&till)
    );
    let gateway = Gateway::with_config(&config).await;
    gateway.wait_for_log("the balance for gas is low").await;
    assert!(gateway.log().contains("balance=\"0.001\""), "{}", gateway.log());
}

#[tokio::test]
async fn another_gateway_is_paid_through_it() {
    let till = Till::open().await;
    let (_bank, service) = bank(&till, "").await;
    let shop = shop(service, TOKEN).await;
    shop.wait_until_ready().await;
    let bought = buy(&shop, &till.payer().await).await;
    assert_eq!((bought.status, bought.text().as_str()), (200, "content of /paid/a"));
    let receipt = bought.decoded("payment-response");
    till.assert_paid_once(receipt["transaction"].as_str().unwrap()).await;
}

#[tokio::test]
async fn our_own_client_finds_the_contract_kept() {
    let till = Till::open().await;
    let (_bank, service) = bank(&till, "").await;
    let settings = HttpSettings {
        name: "bank".into(),
        url: format!("http://{service}"),
        auth: Auth::Bearer(Secret::new(TOKEN.to_owned())),
        ca_file: None,
        verify_timeout: Duration::from_secs(20),
        settle_timeout: Duration::from_secs(30),
        supported_ttl: Duration::from_secs(600),
    };
    let caller = HttpFacilitator::new(settings, Arc::new(SystemClock)).unwrap();
    keeps_the_contract(&till, Arc::new(caller)).await;
}

#[tokio::test]
async fn whoever_does_not_show_the_token_is_refused() {
    let till = Till::open().await;
    let (_bank, service) = bank(&till, "").await;
    let request = till.request().await;
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    for token in [None, Some("wrong"), Some(""), Some(&TOKEN[1..])] {
        for path in ["/verify", "/settle"] {
            let refused = post(service, path, token, &body).await;
            assert_eq!(refused.status, 401, "{path} {token:?}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        }
    }
    assert_eq!(get(service, "/supported", &[]).await.status, 401);
    assert_eq!(till.income().await, 0);
    let shop = shop(service, "wrong").await;
    shop.wait_for_log("what a facilitator supports is not known").await;
    listens(shop.address).await;
    assert_eq!(get(shop.address, "/paid/a", &[]).await.status, 503);
    assert_eq!(post(service, "/settle", Some(TOKEN), &body).await.json()["success"], json!(true));
    assert_eq!(till.income().await, PRICE);
}

#[tokio::test]
async fn its_answers_have_the_shapes_of_the_specification() {
    let till = Till::open().await;
    let (_bank, service) = bank(&till, "body_bytes = 8192\n").await;
    let bearer = format!("Bearer {TOKEN}");
    let supported = get(service, "/supported", &[("Authorization", &bearer)]).await.json();
    let expected = json!([
        {"x402Version": 1, "scheme": "exact", "network": "base-sepolia"},
        {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
    ]);
    assert_eq!(supported["kinds"], expected);
    assert_eq!(supported["signers"]["eip155:*"], json!([till.account.to_string()]));
    assert_eq!(supported["extensions"], json!([]));

    let text = |request: &tollgate::x402::types::FacilitatorRequest| {
        String::from_utf8(request.body.to_vec()).unwrap()
    };
    let good = till.request().await;
    let verdict = post(service, "/verify", Some(TOKEN), &text(&good)).await;
    let payer: Address = good.payload["authorization"]["from"].as_str().unwrap().parse().unwrap();
    assert_eq!((verdict.status, verdict.json()), (200, json!({"isValid": true, "payer": payer.to_string()})));
    let settled = post(service, "/settle", Some(TOKEN), &text(&crate::onchain::till::v1(&good))).await.json();
    assert_eq!((&settled["success"], &settled["network"]), (&json!(true), &json!("base-sepolia")));
    let again = post(service, "/settle", Some(TOKEN), &text(&good)).await.json();
    assert_eq!((&again["transaction"], &again["network"]), (&settled["transaction"], &json!("eip155:84532")));

    let mut poor: Value = serde_json::from_str(&text(&till.request().await)).unwrap();
    poor["paymentPayload"]["payload"]["signature"] = good.payload["signature"].clone();
    let refused = post(service, "/verify", Some(TOKEN), &poor.to_string()).await;
    let reason = "invalid_exact_evm_signature";
    assert_eq!((refused.status, &refused.json()["invalidReason"]), (200, &json!(reason)));
    let refused = post(service, "/settle", Some(TOKEN), &poor.to_string()).await;
    let payer = &poor["paymentPayload"]["payload"]["authorization"]["from"];
    let payer: Address = payer.as_str().unwrap().parse().unwrap();
    let shape = json!({"success": false, "errorReason": reason, "transaction": "",
                       "network": "eip155:84532", "payer": payer.to_string()});
    assert_eq!((refused.status, refused.json()), (200, shape));

    for body in ["", "{", "[]", "{}"] {
        let answer = post(service, "/verify", Some(TOKEN), body).await;
        let shape = json!({"isValid": false, "invalidReason": "invalid_payload"});
        assert_eq!((answer.status, answer.json()), (400, shape), "{body}");
        assert_eq!(post(service, "/settle", Some(TOKEN), body).await.json()["success"], json!(false));
    }
    let long = format!("{{\"x\": \"{}\"}}", "x".repeat(9000));
    assert_eq!(post(service, "/settle", Some(TOKEN), &long).await.status, 413);
    assert_eq!(get(service, "/settle", &[("Authorization", &bearer)]).await.status, 405);
    assert_eq!(get(service, "/", &[("Authorization", &bearer)]).await.status, 404);
}

#[tokio::test]
async fn the_sandbox_can_be_offered_on_a_loopback_address_without_a_token() {
    let origin = Origin::site().await;
    let address = free_address();
    let config = format!(
        "{}{PAID}\n[facilitator_service]\nlisten = \"{address}\"\nfacilitator = \"sandbox\"\n",
        base(&origin.url(), "sandbox")
    );
    let _gateway = Gateway::with_config(&config).await;
    let kinds = client::get(address, "/supported", &[]).await.json()["kinds"].as_array().unwrap().len();
    assert!(kinds > 2, "{kinds}");
}
