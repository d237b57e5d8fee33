use super::super::coins::Coins;
use super::super::show::show;
use super::book::{Book, NOON, amount, settled};
use crate::ledger::contract::claim;
use crate::ledger::{GatewayId, Ledger as _, PaymentRecord};

fn shown(record: &PaymentRecord) -> String {
    let mut out = Vec::new();
    show(record, &mut Coins::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn a_delivered_payment_is_shown_with_all_that_happened_to_it() {
    let book = Book::new();
    let mut bought = claim(0x40);
    bought.expires = Some(NOON.plus(60));
    let token = book.deliver(&bought, NOON, "0xabc").await;
    let id = token.id;
    let request = "GET https://shop.example/a";
    assert_eq!(
        shown(&book.record(token).await),
        format!(
            "\
payment      {id}
state        delivered: the money moved, and what it bought was sent whole
route        articles
request      {request}
price        0.01 USDC = 10000 atomic units of 0x036CbD53842c5426634e7929541eC2318f3dCF7e
network      base-sepolia (eip155:84532)
paid by      0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266
paid to      0x209693Bc6afc0C5328bA36FaF03C514EF312287C
scheme       exact, x402 version 2
facilitator  sandbox
transaction  0xabc
deliveries   1 begun; a broken one may be fetched again until 2026-07-31T12:01:42Z, 2 times in all
gateway      none holds it

2026-07-31T12:00:00Z  presented and claimed
2026-07-31T12:00:01Z  settlement asked for, from sandbox
2026-07-31T12:00:02Z  known to be settled
2026-07-31T12:00:03Z  delivered whole
2026-07-31T12:01:00Z  it ends
"
        )
    );
}

#[tokio::test]
async fn an_unresolved_payment_says_why_and_what_happens_next() {
    let book = Book::new();
    let mut bought = claim(0x50);
    bought.expires = Some(NOON.plus(300));
    let token = book.leave_open(&bought, NOON).await;
    let due = book.ledger.due(NOON.plus(60), std::time::Duration::from_secs(180), 1).await.unwrap();
    book.ledger
        .unresolved(due[0].token, "the node is away", "0xaa", NOON.plus(120), NOON.plus(61))
        .await
        .unwrap();
    let text = shown(&book.record(token).await);
    assert!(
        text.contains("\nstate        unresolved: settlement was asked for, and nobody knows yet"),
        "{text}"
    );
    assert!(text.contains("\nreason       the node is away\n"), "{text}");
    assert!(text.contains("\ntransaction  0xaa\n"), "{text}");
    let life = text.split_once("\n\n").unwrap().1;
    assert_eq!(
        life,
        "\
2026-07-31T12:00:00Z  presented and claimed
2026-07-31T12:00:01Z  settlement asked for, from sandbox
2026-07-31T12:00:31Z  its outcome became unknown: the node is away
2026-07-31T12:01:01Z  tried to find out (try 1)
2026-07-31T12:02:00Z  next try
2026-07-31T12:05:00Z  from here on it can no longer be settled
"
    );
}

#[tokio::test]
async fn every_state_is_told_in_words_and_attempts_are_counted() {
    let book = Book::of_all_states().await;
    for (byte, words) in [
        (0x10, "claimed: reserved for a request in flight; no money has moved"),
        (0x20, "settling: settlement was asked for; the answer is awaited"),
        (0x30, "settled: the money moved; its payer gets what it bought by presenting it again"),
        (0x60, "declined: settlement was refused; no money moved, and it may be presented again"),
        (0x70, "released: given back unused; no money moved, and it may be presented again"),
    ] {
        let text = shown(&book.record_of(claim(byte).id).await);
        assert!(text.contains(&format!("\nstate        {words}\n")), "{text}");
    }
    let again = book.claim_at(&claim(0x60), NOON.plus(900)).await;
    let text = shown(&book.record(again).await);
    assert!(text.contains("\n2026-07-31T12:15:00Z  presented and claimed (attempt 2)\n"), "{text}");
    let mut record = settled(1);
    assert!(shown(&record).contains("settled: the money moved; its last delivery broke off\n"));
    record.owner = Some(GatewayId(-1));
    let text = shown(&record);
    assert!(text.contains("settled: the money moved; what it bought is being delivered\n"), "{text}");
    assert!(text.contains("\ngateway      ffffffffffffffff delivers\n"), "{text}");
    record.particulars.scheme = "upto".into();
    record.response.as_mut().unwrap().amount = Some(amount(5_000).to_string());
    assert!(shown(&record).contains("\ncharged      0.005 USDC\n"), "{}", shown(&record));
}

#[test]
fn nothing_a_stranger_wrote_starts_a_line_or_hides_text() {
    let mut record = settled(1);
    record.particulars.resource = "https://shop.example/\u{1b}[2J\u{202e}".into();
    record.particulars.payer = Some("x\nstate        delivered".into());
    record.reason = "a\r\nb".into();
    let text = shown(&record);
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}'));
    assert_eq!(text.lines().filter(|line| line.starts_with("state ")).count(), 1);
}
