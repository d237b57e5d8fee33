//! What was quoted is honoured for as long as it is valid, by every gateway, and buys nothing else.
//!
//! Time is simulated.

use super::*;
use crate::ledger::Ledger as _;
use crate::payment::Permit;
use crate::scheme::testing::payment_of;
use crate::x402::AtomicAmount;

/// How long notices stay up after they were last left up, in seconds: as long as the longest quote is
/// valid, and some more.
const UP_SECONDS: u64 = 300 + 80;

struct Ticking(tokio::time::Instant);

impl Clock for Ticking {
    fn now(&self) -> UnixSeconds {
        MOMENT.now.plus(self.0.elapsed().as_secs())
    }
}

struct Named(&'static str, Arc<Scripted>);

#[async_trait]
impl Facilitator for Named {
    fn name(&self) -> &str {
        self.0
    }

    async fn supported(&self) -> Result<Arc<Supported>, Unavailable> {
        self.1.supported().await
    }

    async fn verify(&self, request: &FacilitatorRequest) -> Result<VerifyResponse, Unavailable> {
        self.1.verify(request).await
    }

    async fn settle(&self, request: &FacilitatorRequest) -> SettleOutcome {
        self.1.settle(request).await
    }
}

/// Gateways over one ledger.
struct Fleet {
    ledger: ModelLedger,
    started: tokio::time::Instant,
    facilitator: Arc<Scripted>,
}

struct Member {
    gate: Gate,
    table: Arc<RouteTable>,
}

/// A page and what it costs in hundredths of a cent; nothing: it is closed.
type Priced = (&'static str, &'static str, Option<u64>);

fn cents(hundredths: u64) -> PaymentRequirements {
    PaymentRequirements { amount: AtomicAmount(alloy_primitives::U256::from(hundredths * 100)), ..terms() }
}

fn table_of(routes: &[Priced], change: impl Fn(&mut Offer)) -> Arc<RouteTable> {
    let mut index = 0;
    let mut route = |(name, path, price): &Priced| {
        let decision = match price {
            None => Decision::Deny,
            Some(0) => Decision::Free,
            Some(price) => {
                let mut offer = Offer { index, ..offer(cents(*price), SettleWhen::BeforeResponse) };
                change(&mut offer);
                index += 1;
                Decision::Paid(Box::new(offer))
            }
        };
        let path = PathPattern::parse(path).unwrap();
        let (name, upstream) = ((*name).to_owned(), UpstreamId(0));
        let (hosts, methods, headers, query) = (vec![], vec![], vec![], vec![]);
        Route { name, hosts, methods, path, headers, query, decision, upstream }
    };
    let routes: Vec<Route> = routes.iter().map(&mut route).collect();
    let default = route(&("default", "/**", Some(0)));
    Arc::new(RouteTable::new(routes, default))
}

impl Fleet {
    fn new() -> Self {
        let (ledger, started) = (ModelLedger::new(), tokio::time::Instant::now());
        Self { ledger, started, facilitator: Arc::default() }
    }

    /// Starts a gateway, which puts up what it quotes.
    async fn gateway(&self, routes: &[Priced]) -> Member {
        self.gateway_of(table_of(routes, |_| {}), "scripted", ORIGIN).await
    }

    async fn gateway_of(&self, table: Arc<RouteTable>, facilitator: &'static str, url: &str) -> Member {
        let member = self.silent(table, facilitator, url);
        member.gate.put_quotes_up().await.unwrap();
        member
    }

    /// A gateway that has put nothing up yet.
    fn silent(&self, table: Arc<RouteTable>, facilitator: &'static str, url: &str) -> Member {
        let offers = Arc::new(OfferBook::new(Arc::clone(&table), url.into()));
        offers.observe(FacilitatorId(0), supported(&[Version::V1, Version::V2], &json!({})));
        let gate = Gate::new(GateParts {
            offers,
            facilitators: vec![Arc::new(FacilitatorList::new(vec![Arc::new(Named(
                facilitator,
                Arc::clone(&self.facilitator),
            ))]))],
            every: vec![],
            chains: crate::payment::Chains::default(),
            ledger: Arc::new(self.ledger.another()),
            clock: Arc::new(Ticking(self.started)),
            runtime: tokio::runtime::Handle::current(),
            verify_in_flight: 10_000,
            origin_time_seconds: 30,
            pledges: Pledges::default(),
            failures: crate::payment::FailureLimit::default(),
            redelivery: Redelivery { window_seconds: 300, tries: 2 },
        });
        Member { gate, table }
    }

    fn now(&self) -> UnixSeconds {
        Ticking(self.started).now()
    }
}

fn v2_of(hundredths: u64, nonce: u8) -> Value {
    let terms = cents(hundredths);
    json!({"x402Version": 2, "accepted": terms, "payload": payment_of(&terms, nonce)})
}

fn v1_of(hundredths: u64, nonce: u8) -> Value {
    let payload = payment_of(&cents(hundredths), nonce);
    json!({"x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload})
}

impl Member {
    async fn present(&self, path: &str, message: &Value) -> Admission {
        let version = if message["x402Version"] == 1 { Version::V1 } else { Version::V2 };
        let value = header::encode(message).unwrap();
        let payment = PaymentHeader { version, value: value.as_bytes() };
        let (headers, canonical) = (http::HeaderMap::new(), RoutePath::parse(path).unwrap());
        let facts = RouteFacts { method: "GET", host: "", path: &canonical, query: "", headers: &headers };
        let route = Arc::clone(self.table.find(&facts).unwrap());
        ask(&self.gate, &route, &http::Method::GET, path, Some(payment)).await
    }

    async fn sells(&self, path: &str, message: &Value) -> Permit {
        match self.present(path, message).await {
            Admission::Paid(permit, _) => permit,
            other => panic!("{path}: {other:?}"),
        }
    }

    async fn refuses(&self, path: &str, message: &Value) -> Refusal {
        match self.present(path, message).await {
            Admission::Refused(refusal) => refusal,
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_price_that_another_gateway_quotes_is_taken_as_it_was_quoted() {
    let fleet = Fleet::new();
    let early = table_of(&[("old name", "/a", Some(100))], |offer| offer.settle = SettleWhen::BeforeRequest);
    let _old = fleet.gateway_of(early, "scripted", ORIGIN).await;
    let new = fleet.gateway(&[("new name", "/a", Some(250))]).await;
    for (message, nonce) in [(v2_of(100, 1), 1), (v1_of(100, 2), 2)] {
        let admitted = new.present("/a", &message).await;
        let Admission::Paid(permit, when) = admitted else { panic!("{nonce}: {admitted:?}") };
        assert_eq!(when, SettleWhen::BeforeRequest, "the old offer is in charge");
        assert_eq!(permit.requirements(), &cents(100));
        let claimed = fleet.ledger.get(permit.id()).await.unwrap().unwrap().particulars;
        assert_eq!((claimed.route.as_str(), claimed.amount), ("old name", cents(100).amount));
        assert_eq!(claimed.facilitator, "scripted");
        assert!(new.gate.settle(permit).await.is_ok());
    }
    // What is asked for now stays what it is.
    let now = new.sells("/a", &v2_of(250, 3)).await;
    assert_eq!(fleet.ledger.get(now.id()).await.unwrap().unwrap().particulars.route, "new name");
    drop(new.sells("/a", &v1_of(250, 4)).await);
}

#[tokio::test(start_paused = true)]
async fn a_quote_ends_with_its_validity_behind_the_last_gateway_that_made_it() {
    let fleet = Fleet::new();
    let old = fleet.gateway(&[("paid", "/a", Some(100))]).await;
    let keeping = tokio::spawn(old.gate.clone().keep_up(1_000_000));
    let new = fleet.gateway(&[("paid", "/a", Some(250))]).await;
    // As long as it runs, it quotes.
    tokio::time::sleep(Duration::from_secs(UP_SECONDS * 5)).await;
    let gate = new.gate.0.as_ref();
    let heard = async || {
        gate_hears(&new).await;
        gate.quotes.heard().lists().count()
    };
    assert_eq!(heard().await, 1);
    keeping.abort();
    tokio::time::sleep(Duration::from_secs(UP_SECONDS - 21)).await;
    assert_eq!(heard().await, 1, "its last quote is still valid");
    // Nobody has to look again for it to end.
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(gate.quotes.heard().lists().count(), 0);
    assert_eq!(heard().await, 0);
}

/// Has a gateway read what is up.
async fn gate_hears(member: &Member) {
    let came = tokio::time::Instant::now();
    member.gate.0.hear_quotes(came).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_payment_is_never_taken_at_a_price_that_was_not_quoted_for_its_request() {
    let fleet = Fleet::new();
    let old = [("low", "/low/*", Some(100)), ("high", "/low/special", Some(500)), ("free", "/free", Some(0))];
    let _old = fleet.gateway(&old).await;
    let new = [
        ("all", "/low/**", Some(200)),
        ("dear", "/dear", Some(600)),
        ("was free", "/free", Some(300)),
        ("closed", "/low/closed", None),
    ];
    let new = fleet.gateway(&new).await;
    let no_match = invalid(Reason::NO_MATCH);
    for (path, price) in [
        ("/low/special", 100),
        ("/low/page", 500),
        ("/dear", 100),
        ("/dear", 500),
        ("/dear", 200),
        ("/free", 100),
        ("/free", 200),
        ("/low/page", 300),
    ] {
        let refused = new.refuses(path, &v2_of(price, 1)).await;
        assert_eq!(refused, no_match, "{path} for {price}");
        let refused = new.refuses(path, &v1_of(price, 1)).await;
        assert_eq!(refused, invalid(Reason::EVM_VALUE), "{path} for {price}, v1");
    }
    assert_eq!(new.refuses("/low/closed", &v2_of(100, 1)).await, Refusal::Denied);
    assert_eq!(fleet.facilitator.verified.load(Ordering::SeqCst), 0);
    for (nonce, (path, price)) in
        [("/low/special", 500), ("/low/page", 100), ("/low/page", 200), ("/dear", 600)]
            .into_iter()
            .enumerate()
    {
        let nonce = u8::try_from(nonce).unwrap() * 2 + 2;
        drop(new.sells(path, &v2_of(price, nonce)).await);
        drop(new.sells(path, &v1_of(price, nonce + 1)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_quote_through_a_facilitator_that_is_not_configured_any_more_is_not_honoured() {
    let fleet = Fleet::new();
    let table = |price| table_of(&[("paid", "/a", Some(price))], |_| {});
    let _gone = fleet.gateway_of(table(100), "another", ORIGIN).await;
    let _there = fleet.gateway_of(table(150), "scripted", ORIGIN).await;
    let new = fleet.gateway_of(table(250), "scripted", ORIGIN).await;
    assert_eq!(new.refuses("/a", &v2_of(100, 1)).await, invalid(Reason::NO_MATCH));
    drop(new.sells("/a", &v2_of(150, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn what_else_was_quoted_with_a_price_is_honoured_too() {
    let fleet = Fleet::new();
    let advertised = |extension: Value| {
        table_of(&[("paid", "/a", Some(100))], move |offer| {
            offer.extensions.insert("bazaar".to_owned(), extension.clone());
        })
    };
    let old = advertised(json!({"info": {"input": {"type": "mcp"}}}));
    let _old = fleet.gateway_of(old, "scripted", "https://old.example").await;
    let id = json!({"info": {"required": true}, "schema": {}});
    let new = table_of(&[("paid", "/a", Some(100))], move |offer| {
        offer.extensions.insert("payment-identifier".to_owned(), id.clone());
    });
    let new = fleet.gateway_of(new, "scripted", ORIGIN).await;
    // Another extension, no identifier, and the site's name of then.
    let mut message = v2_of(100, 1);
    message["extensions"] = json!({"bazaar": {"info": {"input": {"type": "mcp"}}}});
    message["resource"] = json!({"url": "https://old.example/a"});
    drop(new.sells("/a", &message).await);
    for url in ["https://old.example/b", "https://other.example/a", "https://shop.example/b", "/a"] {
        message["resource"]["url"] = json!(url);
        assert_eq!(new.refuses("/a", &message).await, invalid(Reason::NO_MATCH), "{url}");
    }
    message["resource"]["url"] = json!("https://old.example/a");
    message["extensions"] = json!({"bazaar": {"info": {"input": {"type": "other"}}}});
    assert_eq!(new.refuses("/a", &message).await, invalid(Reason::NO_MATCH));
}

/// A quote that was put up a moment after others looked is found all the same, however much junk made
/// them look.
#[tokio::test(start_paused = true)]
async fn junk_neither_hides_a_quote_nor_costs_the_ledger_a_look_each() {
    let fleet = Fleet::new();
    let one = Arc::new(fleet.gateway(&[("paid", "/a", Some(100))]).await);
    let mut junk = Vec::new();
    for number in 0..3_000_u64 {
        // Right in itself, and for terms that nobody quotes.
        let message = if number % 2 == 0 { v2_of(7_777, 9) } else { v1_of(7_777, 9) };
        let one = Arc::clone(&one);
        junk.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(number * 2)).await;
            one.refuses("/a", &message).await
        }));
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let _other = fleet.gateway(&[("paid", "/a", Some(250))]).await;
    let before = tokio::time::Instant::now();
    drop(one.sells("/a", &v2_of(250, 1)).await);
    assert!(before.elapsed() <= Duration::from_secs(1), "{:?}", before.elapsed());
    drop(one.sells("/a", &v1_of(250, 2)).await);
    let mut unavailable = 0;
    for task in junk {
        match task.await.unwrap() {
            Refusal::Invalid { .. } => {}
            // Junk waits; too much of it is told to come again.
            Refusal::Unavailable { .. } => unavailable += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(unavailable < 100, "{unavailable}");
    let (looks, texts) = fleet.ledger.board_reads();
    assert!((6..=16).contains(&looks), "{looks} looks in six seconds");
    assert_eq!(texts, 2, "one list: its head, and its only part");
    // What is wrong by itself is not even waited for.
    let mut wrong = v2_of(7_777, 9);
    wrong["payload"]["signature"] = v2_of(7_777, 8)["payload"]["signature"].take();
    for _ in 0..100 {
        assert_eq!(one.refuses("/a", &wrong).await, invalid(Reason::NO_MATCH));
    }
    assert_eq!(fleet.ledger.board_reads().0, looks);
}

#[tokio::test(start_paused = true)]
async fn gateways_with_the_same_configuration_share_one_list_and_do_not_read_it() {
    let fleet = Fleet::new();
    let routes = [("paid", "/a", Some(100)), ("more", "/b/*", Some(250))];
    let one = fleet.gateway(&routes).await;
    let notices = fleet.ledger.notice_count();
    let other = fleet.gateway(&routes).await;
    assert_eq!(fleet.ledger.notice_count(), notices);
    for gateway in [&one, &other] {
        gate_hears(gateway).await;
        assert_eq!(gateway.gate.0.quotes.heard().lists().count(), 0);
    }
    assert_eq!(fleet.ledger.board_reads(), (2, 0));
    // A third one that differs reads what is new to it, once.
    let third = fleet.gateway(&[("paid", "/a", Some(99))]).await;
    for _ in 0..3 {
        gate_hears(&third).await;
        assert_eq!(third.gate.0.quotes.heard().lists().count(), 1);
    }
    assert_eq!(fleet.ledger.board_reads(), (5, 2));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_no_reason_to_say_no() {
    let fleet = Fleet::new();
    let _old = fleet.gateway(&[("paid", "/a", Some(100))]).await;
    let new = fleet.gateway(&[("paid", "/a", Some(250))]).await;
    fleet.ledger.set_broken(Some("away"));
    for message in [v2_of(100, 1), v1_of(100, 1)] {
        let refused = new.refuses("/a", &message).await;
        assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused:?}");
    }
    fleet.ledger.set_broken(None);
    drop(new.sells("/a", &v2_of(100, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_down_or_could_not_be_put_up_is_put_up_again() {
    let fleet = Fleet::new();
    fleet.ledger.set_broken(Some("away"));
    let old = fleet.silent(table_of(&[("paid", "/a", Some(100))], |_| {}), "scripted", ORIGIN);
    assert!(old.gate.put_quotes_up().await.is_err());
    let keeping = tokio::spawn(old.gate.clone().keep_up(1_000_000));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(fleet.ledger.notice_count(), 0);
    fleet.ledger.set_broken(None);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(fleet.ledger.notice_count(), 2, "a head and a part");
    // A gateway whose clock is ahead takes down what it holds to have run out.
    let ahead = fleet.now().plus(1_000_000);
    fleet.ledger.leave_up(&[], Duration::ZERO, ahead).await.unwrap();
    assert_eq!(fleet.ledger.notice_count(), 0);
    tokio::time::sleep(Duration::from_secs(21)).await;
    assert_eq!(fleet.ledger.notice_count(), 2);
    keeping.abort();
}
