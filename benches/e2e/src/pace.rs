//! A client that sends paid requests at a pace, whatever the server does, and says how long the
//! answers took: through a gateway, or directly, as a program would that asks the facilitator to
//! verify and to settle, and then the origin.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::Failure;

/// Whom is asked, by address.
#[derive(Clone)]
pub(crate) enum Way {
    Gateway { address: String, path: String },
    Direct { facilitator: String, origin: String, path: String },
}

impl Way {
    pub(crate) fn read(arguments: &[&str]) -> Result<Self, Failure> {
        let own = |text: &str| text.to_owned();
        match arguments {
            ["gateway", address, path] => Ok(Self::Gateway { address: own(address), path: own(path) }),
            ["direct", facilitator, origin, path] => {
                Ok(Self::Direct { facilitator: own(facilitator), origin: own(origin), path: own(path) })
            }
            _ => Err("gateway ADDRESS PATH, or direct FACILITATOR ORIGIN PATH".into()),
        }
    }
}

/// Sends `rate` requests a second for so many seconds; prints the quantiles in microseconds as JSON.
pub(crate) fn run(rate: f64, seconds: f64, connections: u32, file: &str, way: &Way) -> Result<(), Failure> {
    let text = std::fs::read_to_string(file)?;
    let payments: Vec<&str> = text.lines().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut times = runtime.block_on(async {
        let start = Instant::now() + Duration::from_millis(100);
        let every = Duration::from_secs_f64(f64::from(connections) / rate);
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..connections {
            // Each connection has a share of the payments, and its place in the rhythm.
            let share = payments.iter().skip(number as usize).step_by(connections as usize);
            let share: Vec<String> = share.map(|payment| (*payment).to_owned()).collect();
            let first = start + every.mul_f64(f64::from(number) / f64::from(connections));
            tasks.spawn(client(way.clone(), share, first, every, start + Duration::from_secs_f64(seconds)));
        }
        let mut times = Vec::new();
        while let Some(done) = tasks.join_next().await {
            times.extend(done??);
        }
        Ok::<_, Failure>(times)
    })?;
    times.sort_unstable();
    let quantile = |permille: usize| times.get(times.len() * permille / 1000).map(Duration::as_micros);
    println!("{}", json!({"count": times.len(), "p50": quantile(500), "p99": quantile(990)}));
    Ok(())
}

async fn client(
    way: Way,
    payments: Vec<String>,
    first: Instant,
    every: Duration,
    end: Instant,
) -> Result<Vec<Duration>, Failure> {
    let (mut one, mut other) = match &way {
        Way::Gateway { address, .. } => (Connection::open(address).await?, None),
        Way::Direct { facilitator, origin, .. } => {
            (Connection::open(facilitator).await?, Some(Connection::open(origin).await?))
        }
    };
    let mut times = Vec::new();
    let mut payments = payments.iter();
    let mut due = first;
    while due < end {
        tokio::time::sleep_until(due).await;
        due += every;
        let payment = payments.next().ok_or("too few payments")?;
        let requests = way.requests(payment)?;
        let begun = Instant::now();
        for (number, request) in requests.iter().enumerate() {
            let connection = if number == 2 { other.as_mut().unwrap_or(&mut one) } else { &mut one };
            connection.exchange(request).await?;
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

impl Way {
    /// What is sent for one payment: to the gateway, or twice to the facilitator and once to the origin.
    fn requests(&self, payment: &str) -> Result<Vec<String>, Failure> {
        let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n");
        match self {
            Self::Gateway { path, .. } => Ok(vec![get(path, &format!("PAYMENT-SIGNATURE: {payment}\r\n"))]),
            Self::Direct { path, .. } => {
                let payment: Value = serde_json::from_slice(&STANDARD.decode(payment)?)?;
                let terms = payment["accepted"].clone();
                let body = json!({"x402Version": 2, "paymentPayload": payment, "paymentRequirements": terms});
                let body = body.to_string();
                let post = |path: &str| {
                    format!(
                        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
                         Content-Length: {}\r\n\r\n{body}",
                        body.len()
                    )
                };
                Ok(vec![post("/verify"), post("/settle"), get(path, "")])
            }
        }
    }
}

struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(16 * 1024, stream)))
    }

    /// Sends a request and reads its answer, which must be a success with a length.
    async fn exchange(&mut self, request: &str) -> Result<(), Failure> {
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let mut line = String::new();
        let mut length = None;
        self.0.read_line(&mut line).await?;
        if line.split(' ').nth(1) != Some("200") {
            return Err(format!("answered {line:?}").into());
        }
        while line != "\r\n" {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err("the answer broke off".into());
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let mut body = vec![0; length.ok_or("an answer without a length")?];
        self.0.read_exact(&mut body).await?;
        Ok(())
    }
}
