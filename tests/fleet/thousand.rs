//! A thousand payments, each presented twenty times at once across three replicas, of which one is
//! killed meanwhile and another restarted.
//!
//! Nobody can know whether an answer that was on its way when its gateway was killed has arrived: a GET
//! may then be fetched once more. Which payments that can concern is known to the letter, though: those
//! which the killed gateway held as settled, and of which a client has the whole answer from it. These
//! are exempt, and counted; there are none in most runs.

use std::collections::HashMap;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alloy_primitives::B256;
use futures_util::future::join_all;

use super::dice::Dice;
use super::presenter::{End, Presenter};
use super::replicas::Fleet;
use super::support::gateway::PAID;
use super::support::payer::encode;
use super::support::{Act, Origin, Payer, get};
use super::till::{Till, after};

const PAYMENTS: usize = 1_000;
const PRESENTED_AT_ONCE: usize = 20;
const REPLICAS: usize = 3;
/// Payments under way at a time.
const LANES: usize = 25;

/// One payment, and what it was for.
struct Purchase {
    path: String,
    payment: String,
    nonce: String,
}

/// What became of it.
struct Sold {
    purchase: Arc<Purchase>,
    ends: Vec<End>,
}

/// Everything that is bought, one after the other in each lane.
struct Market {
    replicas: Vec<std::net::SocketAddr>,
    waiting: Mutex<Vec<Arc<Purchase>>>,
    sold: Mutex<Vec<Sold>>,
    done: AtomicUsize,
}

impl Market {
    async fn lane(&self) {
        let presenter = |number| Presenter::new(self.replicas.clone(), number);
        let mut presenters: Vec<Presenter> = (0..PRESENTED_AT_ONCE).map(presenter).collect();
        loop {
            let Some(purchase) = self.waiting.lock().unwrap().pop() else { return };
            let Purchase { path, payment, .. } = purchase.as_ref();
            let ends = join_all(presenters.iter_mut().map(|one| one.persist(path, payment))).await;
            self.sold.lock().unwrap().push(Sold { purchase, ends });
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn wait_until_done(&self, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(600);
        while self.done.load(Ordering::Relaxed) < count {
            assert!(Instant::now() < deadline, "nothing is bought any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn seed() -> u64 {
    let given = std::env::var("TOLLGATE_FLEET_SEED").ok();
    let seed = given.map(|text| text.parse().expect("TOLLGATE_FLEET_SEED is a number"));
    seed.unwrap_or_else(|| u64::from_be_bytes(B256::random()[..8].try_into().unwrap()) >> 32)
}

/// Pauses that follow from dice, up to a longest one.
fn pauses(dice: &mut Dice, longest: u64) -> impl Fn() -> Duration + Send + Sync + use<> {
    let dice = Mutex::new(dice.fork());
    move || dice.lock().unwrap().duration(Duration::from_millis(longest))
}

async fn site(dice: &mut Dice) -> Origin {
    let pause = pauses(dice, 100);
    Origin::start(move |request| {
        let content = format!("content of {}", request.target);
        after(pause(), Act::answer(200, &[("Content-Type", "text/plain")], content))
    })
    .await
}

async fn purchases(fleet: &Fleet) -> Vec<Arc<Purchase>> {
    let required = get(fleet.address(0), "/paid/x", &[]).await.required();
    let sign = |number| {
        let path = format!("/paid/{number}");
        let mut message = Payer::new().message(&required);
        message["resource"]["url"] = format!("https://shop.example{path}").into();
        let nonce = message["payload"]["authorization"]["nonce"].as_str().unwrap().to_owned();
        Arc::new(Purchase { path, payment: encode(&message), nonce })
    };
    (0..PAYMENTS).map(sign).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_payments_presented_twenty_times_each_to_three_replicas_are_each_delivered_and_settled_once()
 {
    let seed = seed();
    println!("TOLLGATE_FLEET_SEED={seed}");
    let mut dice = Dice::new(seed);
    let pause = pauses(&mut dice, 400);
    let (origin, till) = (site(&mut dice).await, Till::open(move |_| Some(pause())).await);
    let mut fleet = Fleet::open(REPLICAS, &origin.url(), &till.url(), PAID).await;
    let market = Arc::new(Market {
        replicas: (0..REPLICAS).map(|index| fleet.address(index)).collect(),
        waiting: Mutex::new(purchases(&fleet).await),
        sold: Mutex::default(),
        done: AtomicUsize::new(0),
    });
    let mut lanes = tokio::task::JoinSet::new();
    for _ in 0..LANES {
        let market = Arc::clone(&market);
        lanes.spawn(async move { market.lane().await });
    }
    let (killed, restarted) = (0, 1 + usize::try_from(dice.below(2)).unwrap());
    market.wait_until_done(usize::try_from(100 + dice.below(300)).unwrap()).await;
    tokio::time::sleep(dice.duration(Duration::from_millis(1_500))).await;
    let held = fleet.kill(killed).await;
    market.wait_until_done(usize::try_from(500 + dice.below(300)).unwrap()).await;
    tokio::time::sleep(dice.duration(Duration::from_millis(1_500))).await;
    fleet.restart(restarted).await;
    let at_restart = market.done.load(Ordering::Relaxed);
    while let Some(lane) = lanes.join_next().await {
        lane.unwrap();
    }
    fleet.all_delivered(i64::try_from(PAYMENTS).unwrap()).await;
    let sold = std::mem::take(&mut *market.sold.lock().unwrap());
    let exempt = judge_deliveries(&sold, &held, killed);
    judge_settlements(&sold, &held, &till);
    judge_origin(&held, &origin);
    let mut states: HashMap<&str, usize> = HashMap::new();
    for state in held.values() {
        *states.entry(state).or_default() += 1;
    }
    println!(
        "held by the killed gateway: {states:?}; exempt: {exempt}; sold at the restart's end: {at_restart}"
    );
    judge_sums(&fleet, restarted);
}

/// Each is received whole by one of those who presented it, and by one only. Returns how many could
/// be fetched once more.
fn judge_deliveries(sold: &[Sold], held: &HashMap<String, String>, killed: usize) -> usize {
    assert_eq!(sold.len(), PAYMENTS);
    let mut exempt = 0;
    for Sold { purchase, ends } in sold {
        let Purchase { path, nonce, .. } = purchase.as_ref();
        assert_eq!(ends.len(), PRESENTED_AT_ONCE);
        let mut from = Vec::new();
        for end in ends {
            if let End::Delivered { replica, body, transaction } = end {
                assert_eq!((body, transaction), (&format!("content of {path}"), nonce));
                from.push(*replica);
            }
        }
        let was_on_its_way = held.get(path).is_some_and(|state| state == "settled") && from.contains(&killed);
        exempt += usize::from(was_on_its_way);
        let most = 1 + usize::from(was_on_its_way);
        assert!(
            (1..=most).contains(&from.len()),
            "{path}: delivered by {from:?}, held: {:?}",
            held.get(path)
        );
    }
    exempt
}

/// A thousand settlements; a facilitator is asked again only about what the killed gateway had asked
/// about without recording an answer, and never by two at the same time.
fn judge_settlements(sold: &[Sold], held: &HashMap<String, String>, till: &Till) {
    let calls = till.calls();
    assert_eq!((till.charged(), calls.len()), (PAYMENTS, PAYMENTS));
    assert_eq!(till.overlaps(), Vec::<String>::new());
    for Sold { purchase, .. } in sold {
        let asked = calls[&purchase.nonce].len();
        let most = if held.get(&purchase.path).is_some_and(|state| state == "settling") { 2 } else { 1 };
        assert!((1..=most).contains(&asked), "{}: settlement was asked for {asked} times", purchase.path);
    }
}

/// The site worked once for each payment, but for those that the killed gateway held.
fn judge_origin(held: &HashMap<String, String>, origin: &Origin) {
    let mut asked: HashMap<String, usize> = HashMap::new();
    for request in origin.requests() {
        *asked.entry(request.target).or_default() += 1;
    }
    assert_eq!(asked.len(), PAYMENTS);
    for (path, times) in asked {
        let most = 1 + usize::from(held.contains_key(&path));
        assert!(times <= most, "{path}: the site was asked {times} times, held: {:?}", held.get(&path));
    }
}

fn judge_sums(fleet: &Fleet, replica: usize) {
    let listed = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["ledger", "list", "--sums", "--config"])
        .arg(fleet.gateway(replica).file())
        .output()
        .unwrap();
    let said = String::from_utf8(listed.stdout).unwrap();
    let total: Vec<&str> = said.lines().last().unwrap_or_default().split_whitespace().collect();
    assert_eq!(total, ["total", "base-sepolia", "1000", "10.00", "USDC"], "{said}");
}
