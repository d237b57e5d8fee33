use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use alloy_primitives::{Address, B256, U256, address};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::super::coins::Coins;
use super::super::tests::book::{Book, NOON, USDC, network, settlement};
use super::*;
use crate::chain::{ChainError, Finding as OnChainFinding, NonceUse, Received};
use crate::clock::SystemClock;
use crate::ledger::contract::{claim as claim_of, intent};
use crate::ledger::{Intent, Ledger as _, NewClaim, PaymentState, Settlement};
use crate::scheme::OnChain;
use crate::x402::types::FacilitatorRequest;
use crate::x402::{PaymentRequirements, Version};

const PAYER: Address = address!("F39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
const PAY_TO: Address = address!("209693Bc6afc0C5328bA36FaF03C514EF312287C");
const PERIOD: Period = Period { since: NOON, until: UnixSeconds(NOON.0 + 3600) };

/// A chain that says what it was told.
struct Told {
    network: Network,
    received: Vec<(Address, Received)>,
    findings: HashMap<B256, Result<OnChainFinding, &'static str>>,
    /// Most transfers in one answer.
    most: usize,
    questions: Mutex<u32>,
}

impl Told {
    fn new() -> Self {
        Self {
            network: network("base-sepolia"),
            received: Vec::new(),
            findings: HashMap::new(),
            most: usize::MAX,
            questions: Mutex::new(0),
        }
    }

    /// Money arrives, by default that of the usual payment; gives the transaction.
    fn receives(&mut self, byte: u8, change: impl FnOnce(&mut Received)) -> String {
        let log_index = self.received.len() as u64;
        let mut received = Received {
            from: PAYER,
            value: U256::from(10_000),
            transaction: B256::repeat_byte(byte),
            log_index,
            block: 1,
            time: NOON.plus(5),
        };
        change(&mut received);
        self.received.push((PAY_TO, received));
        B256::repeat_byte(byte).to_string()
    }
}

#[async_trait]
impl Chain for Told {
    fn network(&self) -> &Network {
        &self.network
    }

    async fn look(
        &self,
        payment: &OnChain,
        since: UnixSeconds,
        _: &str,
    ) -> Result<OnChainFinding, ChainError> {
        let OnChain::Eip3009 { nonce, .. } = payment else { panic!("{payment:?}") };
        assert_eq!(since, NOON.plus(1), "when settlement was asked for");
        self.findings[nonce].clone().map_err(|cause| ChainError { cause: cause.to_owned() })
    }

    async fn head(&self) -> Result<UnixSeconds, ChainError> {
        Err(ChainError { cause: "not asked in a comparison".to_owned() })
    }

    async fn received(
        &self,
        asset: Address,
        to: Address,
        from: UnixSeconds,
        until: UnixSeconds,
    ) -> Result<Vec<Received>, ChainError> {
        *self.questions.lock().unwrap() += 1;
        let is_meant = |(payee, received): &&(Address, Received)| {
            *payee == to
                && (from..=until).contains(&received.time)
                && asset == USDC.parse::<Address>().unwrap()
        };
        let found: Vec<Received> =
            self.received.iter().filter(is_meant).map(|(_, found)| found.clone()).collect();
        if found.len() > self.most {
            return Err(ChainError { cause: "more than one answer holds".to_owned() });
        }
        Ok(found)
    }

    async fn nonce_use(
        &self,
        _: Address,
        _: Address,
        _: B256,
        _: UnixSeconds,
    ) -> Result<Option<NonceUse>, ChainError> {
        Err(ChainError { cause: "not asked in a comparison".to_owned() })
    }
}

/// A payment that a facilitator other than the sandbox settles.
fn claim(byte: u8) -> NewClaim {
    let mut claim = claim_of(byte);
    claim.particulars.facilitator = "cdp".into();
    claim
}

/// How it ended, standard output, standard error.
async fn compared_as(book: &Book, chain: Told, json: bool) -> (Exit, String, String) {
    let payees = BTreeSet::from([Payee { asset: USDC.parse().unwrap(), to: PAY_TO }]);
    let place = Place { chain: Box::new(chain), payees };
    let places = BTreeMap::from([(network("base-sepolia"), place)]);
    let (mut out, mut err, mut coins) = (Vec::new(), Vec::new(), Coins::default());
    let mut world = World { out: &mut out, err: &mut err, colour: false, clock: &SystemClock };
    let mut report = Report::new(&mut coins, json, &mut world);
    let exit = compare_all(&book.ledger, &places, PERIOD, &mut report).await.unwrap();
    (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

/// The findings as JSON: name, whether it is a difference, payment, transaction of the transfer.
async fn compared(book: &Book, chain: Told) -> (Exit, Vec<(String, bool, String, String)>) {
    let (exit, out, _) = compared_as(book, chain, true).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let finding = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap();
        let payment = text(&object["payment"]["id"]).chars().skip(2).take(2).collect();
        let transfer = text(&object["transfer"]["transaction"]).chars().skip(2).take(2).collect();
        (text(&object["finding"]), object["difference"].as_bool().unwrap(), payment, transfer)
    };
    (exit, out.lines().map(finding).collect())
}

fn finding(name: &str, difference: bool, payment: &str, transfer: &str) -> (String, bool, String, String) {
    (name.into(), difference, payment.into(), transfer.into())
}

#[tokio::test]
async fn books_and_chain_that_agree_have_no_differences() {
    let (book, mut chain) = (Book::new(), Told::new());
    for byte in 1..=3 {
        let transaction = chain.receives(byte, |_| {});
        book.deliver(&claim(byte), NOON.plus(byte.into()), &transaction).await;
    }
    // One transaction may settle several payments.
    for byte in [4, 5] {
        let transaction = chain.receives(9, |received| received.time = NOON.plus(7));
        book.deliver(&claim(byte), NOON.plus(byte.into()), &transaction).await;
    }
    // The chain's block may lie outside of the period, and so may the claim.
    let early = chain.receives(6, |received| received.time = UnixSeconds(NOON.0 - 1));
    book.deliver(&claim(6), NOON, &early).await;
    let late = chain.receives(7, |received| received.time = NOON.plus(1));
    book.deliver(&claim(7), UnixSeconds(NOON.0 - 1), &late).await;
    // What did not move has no transfer.
    let token = book.settling(&claim(8), NOON).await;
    book.ledger.declined(token, "insufficient_funds", NOON).await.unwrap();
    let (exit, out, err) = compared_as(&book, chain, false).await;
    assert_eq!((exit, err.as_str()), (Exit::Done, ""));
    assert_eq!(
        out,
        "base-sepolia: compared 6 payments and 7 transfers from 2026-07-31T12:00:00Z until 2026-07-31T13:00:00Z: \
         no differences\n"
    );
}

#[tokio::test]
async fn a_settled_payment_without_its_own_transfer_is_a_difference() {
    let (book, mut chain) = (Book::new(), Told::new());
    book.deliver(&claim(1), NOON, &B256::repeat_byte(0xf1).to_string()).await;
    book.deliver(&claim(2), NOON.plus(1), "paid, trust me").await;
    let less = chain.receives(3, |received| received.value = U256::from(9_999));
    book.deliver(&claim(3), NOON.plus(2), &less).await;
    let other = chain.receives(4, |received| received.from = PAY_TO);
    book.deliver(&claim(4), NOON.plus(3), &other).await;
    let shared = chain.receives(5, |_| {});
    book.deliver(&claim(5), NOON.plus(4), &shared).await;
    book.deliver(&claim(6), NOON.plus(5), &shared).await;
    let (exit, found) = compared(&book, chain).await;
    assert_eq!(exit, Exit::Not);
    assert_eq!(
        found,
        [
            finding("no_transfer", true, "01", ""),
            finding("no_transfer", true, "02", ""),
            finding("other_amount", true, "03", "03"),
            finding("other_payer", true, "04", "04"),
            finding("transaction_reused", true, "06", ""),
        ]
    );
}

#[tokio::test]
async fn money_that_no_payment_explains_is_a_difference() {
    let (book, mut chain) = (Book::new(), Told::new());
    chain.receives(1, |_| {});
    // Of the time before and after, other comparisons tell.
    chain.receives(2, |received| received.time = UnixSeconds(NOON.0 - 1));
    chain.receives(3, |received| received.time = PERIOD.until);
    // It fits a payment that is not said to be settled.
    chain.receives(4, |received| received.value = U256::from(77));
    let mut declined = claim(4);
    declined.particulars.amount.0 = U256::from(77);
    let token = book.settling(&declined, NOON).await;
    book.ledger.declined(token, "timeout", NOON.plus(2)).await.unwrap();
    let (exit, found) = compared(&book, chain).await;
    assert_eq!(exit, Exit::Not);
    assert_eq!(
        found,
        [finding("not_recorded", true, "04", "04"), finding("unknown_transfer", true, "", "01")]
    );
}

/// A payment with a nonce, of which nobody knows whether it was settled.
async fn leave_open(book: &Book, byte: u8, now: UnixSeconds) {
    let requirements: PaymentRequirements = serde_json::from_value(json!({
        "scheme": "exact", "network": "eip155:84532", "amount": "10000", "asset": USDC, "payTo": PAY_TO,
        "maxTimeoutSeconds": 60, "extra": {"name": "USDC", "version": "2"},
    }))
    .unwrap();
    let payload = json!({"x402Version": 2, "payload": {"signature": "0x00", "authorization": {
        "from": PAYER, "to": PAY_TO, "value": "10000", "validAfter": "0", "validBefore": "9999999999",
        "nonce": B256::repeat_byte(byte),
    }}});
    let terms = serde_json::to_value(&requirements).unwrap();
    let request = FacilitatorRequest::new(Version::V2, requirements, payload.as_object().unwrap(), &terms);
    let token = book.claim_at(&claim(byte), now).await;
    let facilitator = claim(byte).particulars.facilitator;
    let intent = Intent { facilitator, ..intent(&request.to_stored(), false) };
    book.ledger.settling(token, intent, NOON.plus(1)).await.unwrap();
    book.ledger.unresolved(token, "no answer", "", now.plus(60), now.plus(31)).await.unwrap();
}

#[tokio::test]
async fn every_unresolved_payment_is_looked_up_however_old_and_its_transfer_is_its_own() {
    let (book, mut chain) = (Book::new(), Told::new());
    let paid = chain.receives(1, |_| {});
    let answers = [
        Ok(OnChainFinding::Paid { transaction: paid, payer: PAYER.to_string(), time: NOON }),
        Ok(OnChainFinding::Spent { transaction: None }),
        Ok(OnChainFinding::Expired),
        Ok(OnChainFinding::Open),
    ];
    let long_ago = UnixSeconds(NOON.0 - 90 * 24 * 3600);
    for (byte, answer) in (1..).zip(answers) {
        chain.findings.insert(B256::repeat_byte(byte), answer);
        leave_open(&book, byte, long_ago.plus(byte.into())).await;
    }
    // What the facilitator was asked for cannot be told apart on the chain.
    book.leave_open(&claim(5), NOON.plus(9)).await;
    let (exit, found) = compared(&book, chain).await;
    assert_eq!(exit, Exit::Not);
    assert_eq!(
        found,
        [
            finding("unresolved_paid", true, "01", ""),
            finding("unresolved_spent", true, "02", ""),
            finding("unresolved_expired", true, "03", ""),
            finding("unresolved_open", false, "04", ""),
            finding("unresolved_unknown", true, "05", ""),
        ]
    );
}

#[tokio::test]
async fn a_payment_that_can_still_go_either_way_is_told_and_is_no_difference() {
    let (book, mut chain) = (Book::new(), Told::new());
    chain.findings.insert(B256::repeat_byte(1), Ok(OnChainFinding::Open));
    leave_open(&book, 1, NOON).await;
    let (exit, out, _) = compared_as(&book, chain, false).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.contains("0x010101010101  unresolved; not settled so far, and it still can be\n"), "{out}");
    assert!(out.contains(": no differences\n"), "{out}");
}

#[tokio::test]
async fn a_chain_that_does_not_answer_is_an_error_and_never_agreement() {
    let (book, mut chain) = (Book::new(), Told::new());
    chain.findings.insert(B256::repeat_byte(1), Err("the node is away"));
    leave_open(&book, 1, NOON).await;
    let (exit, found) = compared(&book, chain).await;
    assert_eq!((exit, found), (Exit::Failed, vec![finding("unresolved_failed", false, "01", "")]));

    let (book, mut chain) = (Book::new(), Told::new());
    let transaction = chain.receives(1, |_| {});
    book.deliver(&claim(1), NOON, &transaction).await;
    chain.most = 0;
    let (exit, out, err) = compared_as(&book, chain, false).await;
    assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
    assert_eq!(err, "error: base-sepolia: its chain cannot be read: more than one answer holds\n");
}

#[tokio::test]
async fn what_is_too_much_for_one_answer_is_asked_in_parts() {
    let (book, mut chain) = (Book::new(), Told::new());
    for number in 0..200_u64 {
        let byte = u8::try_from(number).unwrap();
        let transaction = chain.receives(byte, |received| received.time = NOON.plus(number * 18));
        book.deliver(&claim(byte), NOON.plus(number), &transaction).await;
    }
    chain.most = 40;
    let (exit, out, err) = compared_as(&book, chain, false).await;
    assert_eq!((exit, err.as_str()), (Exit::Done, ""), "{out}");
    assert!(out.contains("compared 200 payments and 200 transfers"), "{out}");
}

#[tokio::test]
async fn what_is_not_compared_is_said() {
    let (book, chain) = (Book::new(), Told::new());
    // Claims of the contract's tests are the sandbox's.
    book.deliver(&claim_of(1), NOON, "0x1").await;
    let mut elsewhere = claim(2);
    elsewhere.particulars.network = network("solana-devnet");
    book.deliver(&elsewhere, NOON, "5xT").await;
    elsewhere.id = claim(3).id;
    book.leave_open(&elsewhere, NOON).await;
    let mut odd = claim(4);
    odd.particulars.pay_to = "shop".into();
    book.deliver(&odd, NOON, "0x1").await;
    let (exit, out, _) = compared_as(&book, chain, false).await;
    assert_eq!(exit, Exit::Done);
    for words in [
        "not compared: 1 payment of the sandbox, which moves no money\n",
        "not compared: 2 payments on solana-devnet, which has no [chains.NAME]\n",
        "not compared: 1 payment on base-sepolia to what is no account there\n",
    ] {
        assert!(out.contains(words), "{out}");
    }
}

#[tokio::test]
async fn a_payment_whose_transaction_nobody_knows_takes_one_transfer_that_fits() {
    let (book, mut chain) = (Book::new(), Told::new());
    chain.receives(1, |_| {});
    let transaction = chain.receives(2, |_| {});
    book.deliver(&claim(2), NOON.plus(5), &transaction).await;
    for byte in [1, 3] {
        let token = book.leave_open(&claim(byte), NOON.plus(byte.into())).await;
        let response = settlement("");
        let settled = Settlement { response: &response, deliver: false, unique_transaction: false };
        book.ledger.settled(token, settled, NOON.plus(50)).await.unwrap();
    }
    let (exit, found) = compared(&book, chain).await;
    assert_eq!((exit, found), (Exit::Not, vec![finding("no_transfer", true, "03", "")]));
}

#[tokio::test]
async fn a_comparison_changes_nothing_and_asks_for_an_account_that_only_the_books_name() {
    let (book, mut chain) = (Book::new(), Told::new());
    let former = address!("00000000000000000000000000000000000000bb");
    let transaction = chain.receives(1, |_| {});
    chain.received[0].0 = former;
    let mut bought = claim(1);
    bought.particulars.pay_to = former.to_string();
    let token = book.deliver(&bought, NOON, &transaction).await;
    // Other money of an account that is no longer the gateway's is no business of the books.
    chain.receives(2, |_| {});
    chain.received[1].0 = former;
    let before = book.record(token).await;
    assert_eq!(compared(&book, chain).await, (Exit::Done, vec![]));
    assert_eq!(book.record(token).await, before);
    assert_eq!(before.state, PaymentState::Delivered);
}

#[tokio::test]
async fn findings_are_told_to_people_with_amounts_accounts_and_transactions() {
    let (book, mut chain) = (Book::new(), Told::new());
    book.deliver(&claim(1), NOON, &B256::repeat_byte(0xf1).to_string()).await;
    chain.receives(2, |received| received.value = U256::from(2_500_000));
    let (_, out, _) = compared_as(&book, chain, false).await;
    let (missing, unknown) = (B256::repeat_byte(0xf1), B256::repeat_byte(2));
    assert_eq!(
        out,
        format!(
            "\
2026-07-31T12:00:00Z  base-sepolia  0x010101010101  delivered, but transaction {missing} is not there or has not \
moved 0.01 USDC to {PAY_TO}
2026-07-31T12:00:05Z  base-sepolia  -               2.50 USDC from {PAYER} to {PAY_TO} by transaction {unknown}: no \
payment in the books
base-sepolia: compared 1 payment and 1 transfer from 2026-07-31T12:00:00Z until 2026-07-31T13:00:00Z: 2 differences
"
        )
    );
}
