//! A site that sells pages, scripted by each test, and the command run against it.

use std::convert::Infallible;
use std::io::Write;
use std::sync::{Arc, Mutex};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::pay::{Exit, World, execute};
use crate::cli::{Cli, Command};
use crate::clock::SystemClock;
use crate::secret::Secret;
use crate::x402::{Version, header};

pub(super) const SELLER: &str = "0x209693Bc6afc0C5328bA36FaF03C514EF312287C";
pub(super) const KEY: &str = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318";
pub(super) const TRANSACTION: &str = "0x8f1d000000000000000000000000000000000000000000000000000000000001";

/// A request as the site saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// How many requests with a payment came before this one.
    pub(super) paid_before: usize,
}

impl Seen {
    /// The payment header of either generation.
    pub(super) fn payment(&self) -> Option<(Version, &str)> {
        [Version::V2, Version::V1].into_iter().find_map(|version| {
            let value = self.headers.get(version.payment_header())?;
            Some((version, value.to_str().unwrap()))
        })
    }
}

/// A running site on 127.0.0.1; it ends with the test's runtime.
pub(super) struct Site {
    pub(super) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Site {
    /// Starts a site that answers requests with a payment by `paid`, and all others with a 402
    /// that offers test money.
    pub(super) async fn selling(paid: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static) -> Self {
        Self::start(
            move |seen, url| if seen.payment().is_some() { paid(seen) } else { challenge(&terms(), url) },
        )
        .await
    }

    /// Starts a site; the script is also told the URL of the request.
    pub(super) async fn start(
        script: impl Fn(&Seen, &str) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::<Seen>::new()));
        let (log, base) = (Arc::clone(&seen), url.clone());
        let answer = move |request: Request| {
            let (log, base, script) = (Arc::clone(&log), base.clone(), script.clone());
            async move {
                let (parts, body) = request.into_parts();
                let body = to_bytes(body, usize::MAX).await.unwrap();
                let mut log = log.lock().unwrap();
                let (method, path, headers) = (parts.method, parts.uri.path().to_owned(), parts.headers);
                let paid_before = log.iter().filter(|seen| seen.payment().is_some()).count();
                let seen = Seen { method, path, headers, body, paid_before };
                let response = script(&seen, &format!("{base}{}", seen.path));
                log.push(seen);
                Ok::<_, Infallible>(response)
            }
        };
        let service = tower_of(answer);
        tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        Self { url, seen }
    }

    pub(super) fn page(&self) -> String {
        format!("{}/page", self.url)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The payment headers that came, in order.
    pub(super) fn payments(&self) -> Vec<(Version, String)> {
        let seen = self.seen();
        seen.iter().filter_map(Seen::payment).map(|(version, value)| (version, value.to_owned())).collect()
    }
}

fn tower_of<F, R>(answer: F) -> axum::Router
where
    F: Fn(Request) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<Response, Infallible>> + Send + 'static,
{
    axum::Router::new().fallback(move |request: Request| answer(request))
}

/// One cent of test money.
pub(super) fn terms() -> Value {
    json!({"scheme": "exact", "network": "eip155:84532", "amount": "10000",
           "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e", "payTo": SELLER,
           "maxTimeoutSeconds": 300, "extra": {"name": "USDC", "version": "2"}})
}

/// A 402 for both generations.
pub(super) fn challenge(terms: &Value, url: &str) -> Response {
    let v2 = json!({"x402Version": 2, "error": "Payment required", "accepts": [terms],
                    "resource": {"url": url, "description": "A page"}});
    let mut entry = terms.clone();
    entry["network"] = "base-sepolia".into();
    entry["maxAmountRequired"] = entry["amount"].take();
    entry["resource"] = url.into();
    entry["description"] = "A page".into();
    let v1 = json!({"x402Version": 1, "error": "X-PAYMENT header is required", "accepts": [entry]});
    Response::builder()
        .status(StatusCode::PAYMENT_REQUIRED)
        .header(header::PAYMENT_REQUIRED, header::encode(&v2).unwrap())
        .body(Body::from(v1.to_string()))
        .unwrap()
}

/// An answer with a receipt for the generation of the payment.
pub(super) fn receipt(seen: &Seen, status: u16, receipt: &Value, body: impl Into<Body>) -> Response {
    let (version, _) = seen.payment().unwrap();
    Response::builder()
        .status(status)
        .header(version.response_header(), header::encode(receipt).unwrap())
        .body(body.into())
        .unwrap()
}

/// The page, with a receipt of success.
pub(super) fn sold(seen: &Seen, body: impl Into<Body>) -> Response {
    let network = match seen.payment().unwrap().0 {
        Version::V1 => "base-sepolia",
        Version::V2 => "eip155:84532",
    };
    let settled = json!({"success": true, "transaction": TRANSACTION, "network": network});
    receipt(seen, 200, &settled, body)
}

/// An answer without a receipt.
pub(super) fn plain(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let builder = headers
        .iter()
        .fold(Response::builder().status(status), |builder, (name, value)| builder.header(*name, *value));
    builder.body(body.into()).unwrap()
}

/// What a run of the command left behind.
pub(super) struct Ran {
    pub(super) exit: Exit,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

impl Ran {
    /// The text of the line with this label.
    pub(super) fn field(&self, label: &str) -> Option<&str> {
        self.stderr.lines().find_map(|line| line.strip_prefix(&format!("{label:<12} ")))
    }
}

/// Runs `tollgate pay` with these arguments and no key in the environment.
pub(super) async fn pay(arguments: &[&str]) -> Ran {
    let mut stdout = Vec::new();
    let (exit, stderr) = pay_into(&mut stdout, arguments, None).await;
    Ran { exit, stdout, stderr }
}

/// Runs `tollgate pay`, writing the body into `stdout`.
pub(super) async fn pay_into(
    stdout: &mut dyn Write,
    arguments: &[&str],
    key_variable: Option<&str>,
) -> (Exit, String) {
    // It is installed once for all tests of the process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::try_parse_from(["tollgate", "pay"].iter().chain(arguments)).unwrap();
    let Some(Command::Pay(arguments)) = cli.command else { panic!("not pay") };
    let mut stderr = Vec::new();
    let world = World {
        stdout,
        stderr: &mut stderr,
        key_variable: key_variable.map(|key| Secret::new(key.to_owned())),
        clock: &SystemClock,
    };
    let exit = execute(&arguments, world).await;
    (exit, String::from_utf8(stderr).unwrap())
}
