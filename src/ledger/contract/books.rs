//! What the books promise.

use super::super::{Accounts as _, Claimed, Filter, Ledger as _, PaymentState};
use super::{NOW, Store, claim, new_claim, settled, settling};

pub(super) async fn the_books_can_be_searched_and_paged<S: Store>(store: &S) {
    let ledger = store.open().await;
    for byte in 1..=9_u8 {
        let mut new = claim(byte);
        new.particulars.route = if byte % 2 == 0 { "even" } else { "odd" }.into();
        let at = NOW.plus(u64::from(byte) / 3);
        assert!(matches!(ledger.claim(&new, at).await, Ok(Claimed::New(_))));
    }
    let ids = async |filter: Filter| {
        let found = ledger.list(&filter, None, 100).await.unwrap();
        found.iter().map(|record| record.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(ids(Filter::default()).await, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(ids(Filter { route: Some("even".into()), ..Filter::default() }).await, [2, 4, 6, 8]);
    let time = Filter { since: Some(NOW.plus(1)), until: Some(NOW.plus(2)), ..Filter::default() };
    assert_eq!(ids(time).await, [3, 4, 5]);
    let payer = claim(1).particulars.payer.map(|payer| payer.to_lowercase());
    assert_eq!(ids(Filter { payer, ..Filter::default() }).await.len(), 9);
    assert_eq!(ids(Filter { payer: Some("0x1".into()), ..Filter::default() }).await, [0_u8; 0]);
    let states = vec![PaymentState::Settled, PaymentState::Unresolved];
    assert_eq!(ids(Filter { states, ..Filter::default() }).await, [0_u8; 0]);
    let states = vec![PaymentState::Claimed];
    assert_eq!(ids(Filter { states, ..Filter::default() }).await.len(), 9);

    let mut paged = Vec::new();
    let mut after = None;
    loop {
        let page = ledger.list(&Filter::default(), after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.claimed_at, last.id));
        paged.extend(page.iter().map(|record| record.id.0[0]));
    }
    assert_eq!(paged, [1, 2, 3, 4, 5, 6, 7, 8, 9]);

    let between = async |first: u8, last: u8, limit| {
        let found = ledger.between(claim(first).id, claim(last).id, limit).await.unwrap();
        found.iter().map(|record| record.id.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(between(3, 5, 100).await, [3, 4, 5]);
    assert_eq!(between(0, 255, 2).await, [1, 2]);
    assert_eq!(between(10, 255, 2).await, [0_u8; 0]);
}

pub(super) async fn what_is_held_is_counted<S: Store>(store: &S) {
    let ledger = store.open().await;
    new_claim(&ledger, &claim(1)).await;
    settling(&ledger, &claim(2)).await;
    settling(&ledger, &claim(3)).await;
    let token = settling(&ledger, &claim(4)).await;
    ledger.unresolved(token, "timeout", "", NOW, NOW.plus(9)).await.unwrap();
    settled(&ledger, &claim(5)).await;
    let counts = ledger.counts().await.unwrap();
    assert_eq!((counts.claimed, counts.settling, counts.unresolved), (1, 2, 1));
    assert_eq!(counts.oldest_unresolved, Some(NOW));
}
