//! How the gateway says to facilitators who it is.

use std::collections::HashSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::ecdsa::signature::Verifier as _;
use ring::signature::KeyPair as _;
use serde_json::{Value, json};

use crate::support::gateway::{PAID, base};
use crate::support::{Act, Gateway, Origin, Request, Server, get, payment_for};

/// Buys one page through a facilitator with this `auth`, whose API lives below a path as most do, and
/// returns the calls it got.
async fn calls_with(auth: &str) -> (Vec<Request>, Gateway) {
    let origin = Origin::site().await;
    let facilitator = Server::start(|request| {
        let answer = match request.target.as_str() {
            "/x402/supported" => json!({"kinds": [
                {"x402Version": 2, "scheme": "exact", "network": "eip155:84532"},
            ]}),
            "/x402/verify" => json!({"isValid": true}),
            _ => json!({"success": true, "transaction": "0x1"}),
        };
        Act::json(200, &answer)
    })
    .await;
    let table = format!("[facilitators.known]\nurl = \"{}/x402/\"\nauth = {auth}\n", facilitator.url());
    let config = format!("{}allow_plaintext_secrets = true\n{PAID}{table}", base(&origin.url(), "known"));
    let gateway = Gateway::with_config(&config).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    let paid = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
    assert_eq!(paid.status, 200, "{}", paid.text());
    let calls = facilitator.requests();
    let targets: Vec<&str> = calls.iter().map(|call| call.target.as_str()).collect();
    assert_eq!(targets, ["/x402/supported", "/x402/verify", "/x402/settle"]);
    (calls, gateway)
}

fn secret_file(folder: &Path, text: &str) -> String {
    let file = folder.join("secret");
    std::fs::write(&file, text).unwrap();
    format!("'{}'", file.display())
}

#[tokio::test]
async fn a_bearer_token_is_sent_with_every_call_and_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = secret_file(folder.path(), "hunter2\n");
    for auth in [
        format!("{{ kind = \"bearer\", token_file = {file} }}"),
        "{ kind = \"bearer\", token = \"hunter2\" }".to_owned(),
    ] {
        let (calls, gateway) = calls_with(&auth).await;
        for call in calls {
            assert_eq!(call.header("authorization"), Some("Bearer hunter2"), "{}", call.target);
        }
        assert!(!gateway.log().contains("hunter2") && !gateway.metrics().await.contains("hunter2"));
    }
}

#[tokio::test]
async fn a_header_of_the_facilitators_choice_is_sent_with_every_call() {
    let folder = tempfile::tempdir().unwrap();
    let file = secret_file(folder.path(), "hunter2");
    let auth = format!("{{ kind = \"header\", name = \"X-Api-Key\", value_file = {file} }}");
    let (calls, gateway) = calls_with(&auth).await;
    for call in calls {
        assert_eq!(call.header("x-api-key"), Some("hunter2"), "{}", call.target);
        assert_eq!(call.header("authorization"), None);
    }
    assert!(!gateway.log().contains("hunter2"));
}

#[tokio::test]
async fn without_auth_nothing_is_sent() {
    let (calls, _gateway) = calls_with("{ kind = \"none\" }").await;
    assert!(calls.iter().all(|call| call.header("authorization").is_none()));
}

struct Token {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

fn token(call: &Request) -> Token {
    let bearer = call.header("authorization").unwrap().strip_prefix("Bearer ").unwrap();
    let (signed, signature) = bearer.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let json = |part: &str| serde_json::from_slice(&decode(part)).unwrap();
    let (header, claims) = (json(header), json(claims));
    Token { header, claims, signed: signed.to_owned(), signature: decode(signature) }
}

fn check(calls: &[Request], algorithm: &str, verify: impl Fn(&Token) -> bool) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut nonces = HashSet::new();
    for call in calls {
        let token = token(call);
        let nonce = token.header["nonce"].as_str().unwrap().to_owned();
        assert!(nonce.len() >= 16 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
        let expected = json!({"alg": algorithm, "typ": "JWT", "kid": "organizations/o/apiKeys/k",
                              "nonce": nonce});
        assert_eq!(token.header, expected);
        let (issued, expires) =
            (token.claims["iat"].as_u64().unwrap(), token.claims["exp"].as_u64().unwrap());
        assert!(issued <= now && issued + 60 > now && expires > now && expires <= issued + 120);
        let host = call.header("host").unwrap();
        let expected = json!({"iss": "cdp", "sub": "organizations/o/apiKeys/k", "iat": issued,
            "nbf": issued, "exp": expires, "uris": [format!("{} {host}{}", call.method, call.target)]});
        assert_eq!(token.claims, expected);
        assert!(verify(&token), "{}", call.target);
        nonces.insert(nonce);
    }
    assert_eq!(nonces.len(), calls.len(), "each call has a token of its own");
}

/// Compliance 28.
#[tokio::test]
async fn a_cdp_key_signs_a_fresh_token_for_each_call() {
    let folder = tempfile::tempdir().unwrap();
    let seed: [u8; 32] = rand_bytes();
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let public = pair.public_key().as_ref().to_vec();
    let secret = STANDARD.encode([seed.as_slice(), &public].concat());
    let auth = |file: &str| {
        format!("{{ kind = \"cdp\", key_id = \"organizations/o/apiKeys/k\", secret_file = {file} }}")
    };
    let (calls, gateway) = calls_with(&auth(&secret_file(folder.path(), &secret))).await;
    let key = ring::signature::UnparsedPublicKey::new(&ring::signature::ED25519, public);
    check(&calls, "EdDSA", |token| key.verify(token.signed.as_bytes(), &token.signature).is_ok());
    assert!(!gateway.log().contains(&secret) && !gateway.log().contains("eyJ"));

    let key = p256::SecretKey::from_slice(&rand_bytes()).unwrap();
    let pem = key.to_sec1_pem(p256::pkcs8::LineEnding::LF).unwrap();
    let (calls, gateway) = calls_with(&auth(&secret_file(folder.path(), &pem))).await;
    let public = p256::ecdsa::VerifyingKey::from(key.public_key());
    check(&calls, "ES256", |token| {
        let signature = p256::ecdsa::Signature::from_slice(&token.signature).unwrap();
        public.verify(token.signed.as_bytes(), &signature).is_ok()
    });
    assert!(!gateway.log().contains("eyJ"));
}

/// 32 random bytes, well below the order of every curve.
fn rand_bytes() -> [u8; 32] {
    let mut bytes = alloy_primitives::B256::random().0;
    bytes[0] = 1;
    bytes
}
