//! What the notice board promises.
//!
//! Some ledgers go by their own clock, so nothing here depends on one running: what is to run out is
//! put up for no time at all.

use std::time::Duration;

use alloy_primitives::{B256, keccak256};

use super::super::{Ledger, Notice};
use super::{NOW, Store};

const LONG: Duration = Duration::from_secs(600);

fn notice(byte: u8, text: &str) -> Notice {
    Notice { key: B256::repeat_byte(byte), text: text.to_owned(), listed: true }
}

/// The first bytes of the keys that are listed, in order.
async fn listed<L: Ledger>(ledger: &L) -> Vec<u8> {
    let mut listed: Vec<u8> =
        ledger.notices(NOW).await.unwrap().iter().map(|posted| posted.key.0[0]).collect();
    listed.sort_unstable();
    listed
}

async fn text<L: Ledger>(ledger: &L, byte: u8) -> Option<String> {
    let found = ledger.texts(&[B256::repeat_byte(byte)], NOW).await.unwrap();
    found.into_iter().next().map(|(_, text)| text)
}

pub(super) async fn notices_are_seen_by_everybody_while_they_are_up<S: Store>(store: &S) {
    let one = store.open().await;
    one.put_up(&[notice(2, "b"), notice(1, "a")], LONG, NOW).await.unwrap();
    one.put_up(&[notice(3, "c")], Duration::ZERO, NOW).await.unwrap();
    one.put_up(&[], LONG, NOW).await.unwrap();
    assert_eq!(one.leave_up(&[], LONG, NOW).await, Ok(vec![]));
    let other = if store.takes_several() { Some(store.open().await) } else { None };
    // Put up again for less, or left up for less, a notice stays up as long as before.
    let again = other.as_ref().unwrap_or(&one);
    again.put_up(&[notice(1, "a")], Duration::from_secs(10), NOW).await.unwrap();
    let keys = [4, 2, 1].map(B256::repeat_byte);
    let missing = again.leave_up(&keys, Duration::from_secs(10), NOW).await.unwrap();
    assert_eq!(missing, [B256::repeat_byte(4)], "nobody put that up");
    for ledger in std::iter::once(&one).chain(&other) {
        assert_eq!(listed(ledger).await, [1, 2]);
        for posted in ledger.notices(NOW).await.unwrap() {
            assert!(posted.lifetime > LONG / 2 && posted.lifetime <= LONG, "{posted:?}");
        }
        assert_eq!(text(ledger, 1).await.as_deref(), Some("a"));
        assert_eq!((text(ledger, 3).await, text(ledger, 4).await), (None, None));
    }
    // Those that stay up longest come first.
    again.leave_up(&[B256::repeat_byte(2)], LONG * 2, NOW).await.unwrap();
    let order: Vec<_> = one.notices(NOW).await.unwrap().iter().map(|posted| posted.key.0[0]).collect();
    assert_eq!(order, [2, 1]);
}

pub(super) async fn notices_outlive_the_gateway_that_put_them_up<S: Store>(store: &S) {
    let dead = store.open().await;
    dead.put_up(&[notice(1, "a")], LONG, NOW).await.unwrap();
    store.kill(dead).await;
    let ledger = store.open().await;
    assert_eq!((listed(&ledger).await, text(&ledger, 1).await.as_deref()), (vec![1], Some("a")));
    assert_eq!(ledger.leave_up(&[B256::repeat_byte(1)], LONG, NOW).await, Ok(vec![]));
}

pub(super) async fn what_is_not_listed_is_found_by_its_key<S: Store>(store: &S) {
    let ledger = store.open().await;
    let hidden = Notice { listed: false, ..notice(1, "a part") };
    ledger.put_up(&[hidden, notice(2, "the whole")], LONG, NOW).await.unwrap();
    assert_eq!(listed(&ledger).await, [2]);
    assert_eq!(text(&ledger, 1).await.as_deref(), Some("a part"));
    let both = [1, 2].map(B256::repeat_byte);
    assert_eq!(ledger.leave_up(&both, LONG, NOW).await, Ok(vec![]));
    assert_eq!(ledger.texts(&both, NOW).await.unwrap().len(), 2);
}

pub(super) async fn long_and_strange_texts_come_back_as_they_were<S: Store>(store: &S) {
    let ledger = store.open().await;
    let texts = [String::new(), "\u{1}\u{7f}\u{1F4B0} \\u0000 'quoted\"".to_owned(), "é/".repeat(80_000)];
    let notices: Vec<Notice> = texts
        .iter()
        .map(|text| Notice { key: keccak256(text.as_bytes()), text: text.clone(), listed: true })
        .collect();
    ledger.put_up(&notices, LONG, NOW).await.unwrap();
    // Twice the same in one go is the same once.
    ledger.put_up(&[notices.clone(), notices.clone()].concat(), LONG, NOW).await.unwrap();
    let keys: Vec<B256> = notices.iter().map(|notice| notice.key).collect();
    let found = ledger.texts(&keys, NOW).await.unwrap();
    assert_eq!(found.len(), texts.len());
    for (key, text) in found {
        assert_eq!(key, keccak256(text.as_bytes()));
    }
}
