use super::super::Stop;
use super::super::coins::Coins;
use super::super::list::{Shown, list};
use super::book::{Book, NOON, claim_numbered};
use crate::ledger::{Filter, PaymentState};

async fn listed(book: &Book, filter: &Filter, shown: Shown) -> String {
    let mut out = Vec::new();
    list(&book.ledger, filter, &mut Coins::default(), shown, &mut out).await.unwrap();
    String::from_utf8(out).unwrap()
}

const ALL: Shown = Shown { limit: 50, sums_only: false };

#[tokio::test]
async fn payments_are_listed_newest_last_with_the_sums_of_what_moved() {
    let book = Book::of_all_states().await;
    assert_eq!(
        listed(&book, &Filter::default(), ALL).await,
        "\
claimed               state       route         price  payer        transaction  id
2026-07-31T12:00:00Z  claimed     articles  0.01 USDC  0xF39F…2266  -            0x101010101010
2026-07-31T12:01:00Z  settling    articles  0.01 USDC  0xF39F…2266  -            0x202020202020
2026-07-31T12:02:00Z  settled     articles  0.01 USDC  0xF39F…2266  0x3333…3333  0x303030303030
2026-07-31T12:03:00Z  delivered   articles  0.01 USDC  0xF39F…2266  0x4444…4444  0x404040404040
2026-07-31T12:04:00Z  unresolved  articles  0.01 USDC  0xF39F…2266  -            0x505050505050
2026-07-31T12:05:00Z  declined    articles  0.01 USDC  0xF39F…2266  -            0x606060606060
2026-07-31T12:06:00Z  released    articles  0.01 USDC  0xF39F…2266  -            0x707070707070

7 payments

day (UTC)   route     network       payments        sum
2026-07-31  articles  base-sepolia         2  0.02 USDC
total                 base-sepolia         2  0.02 USDC
"
    );
    let empty = listed(&Book::new(), &Filter::default(), ALL).await;
    assert_eq!(empty, "no payments\n");
}

#[tokio::test]
async fn the_limit_keeps_the_newest_and_the_sums_are_of_all() {
    let book = Book::new();
    for number in 0..1_234 {
        book.deliver(&claim_numbered(number), NOON.plus(number), "0x1").await;
    }
    let text = listed(&book, &Filter::default(), Shown { limit: 2, sums_only: false }).await;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].starts_with("2026-07-31T12:20:32Z  delivered"), "{text}");
    assert!(lines[2].starts_with("2026-07-31T12:20:33Z  delivered"), "{text}");
    assert_eq!(lines[4], "the newest 2 of 1234 payments; the sums are of all of them");
    let sums = listed(&book, &Filter::default(), Shown { limit: 2, sums_only: true }).await;
    assert_eq!(
        sums,
        "\
day (UTC)   route     network       payments         sum
2026-07-31  articles  base-sepolia      1234  12.34 USDC
total                 base-sepolia      1234  12.34 USDC
"
    );
    assert!(text.ends_with(&format!("\n\n{sums}")), "{text}");
}

#[tokio::test]
async fn only_what_is_selected_is_listed_and_summed() {
    let book = Book::of_all_states().await;
    let filter = Filter {
        since: Some(NOON.plus(60)),
        until: Some(NOON.plus(4 * 60)),
        states: vec![PaymentState::Delivered, PaymentState::Claimed],
        payer: Some("0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266".into()),
        route: Some("articles".into()),
    };
    let text = listed(&book, &filter, ALL).await;
    assert!(text.contains("\n1 payment\n") && text.contains("0x404040404040"), "{text}");
    assert!(text.ends_with("  1  0.01 USDC\n"), "{text}");
    let none = Filter { route: Some("other".into()), ..Filter::default() };
    assert_eq!(listed(&book, &none, ALL).await, "no payments\n");
    assert_eq!(listed(&book, &none, Shown { limit: 1, sums_only: true }).await, "no money moved\n");
}

#[tokio::test]
async fn what_others_wrote_cannot_move_the_cursor_or_forge_a_line() {
    let book = Book::new();
    let mut claim = claim_numbered(1);
    claim.particulars.route = "a\u{1b}[2J\n2026".into();
    claim.particulars.payer = Some("\u{202e}x".into());
    claim.particulars.asset = "coin\r\n".into();
    book.deliver(&claim, NOON, "tx\u{7}").await;
    let text = listed(&book, &Filter::default(), ALL).await;
    assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
    assert!(!text.contains('\u{202e}') && text.contains("a\\u{1b}[2J\\u{a}2026"), "{text:?}");
}

#[tokio::test]
async fn books_that_cannot_be_read_are_an_error_and_not_an_empty_list() {
    let book = Book::of_all_states().await;
    book.ledger.set_broken(Some("the disk is gone"));
    let mut out = Vec::new();
    let stopped = list(&book.ledger, &Filter::default(), &mut Coins::default(), ALL, &mut out).await;
    assert!(matches!(&stopped, Err(Stop::Failed(why)) if why.contains("the disk is gone")), "{stopped:?}");
    assert!(out.is_empty());
}
