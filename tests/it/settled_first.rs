//! Denial of settlement: whoever takes the money away while the site works does so a few times, and then
//! has nothing worked for.

use serde_json::json;

use crate::support::gateway::PAID;
use crate::support::shop::Shop;
use crate::support::{Act, Origin, Payer, Response};

fn poor() -> Act {
    Act::json(200, &json!({"success": false, "errorReason": "insufficient_funds"}))
}

/// Buys a page with a fresh payment of this payer.
async fn buy(shop: &Shop, payer: &Payer) -> Response {
    let payment = payer.message(&shop.required("/paid/a").await);
    shop.present("/paid/a", &payment).await
}

/// Has a payment's settlement fail.
async fn fail(shop: &Shop, payer: &Payer) {
    shop.facilitator.will_settle([poor()]);
    let failed = buy(shop, payer).await;
    assert_eq!((failed.status, &failed.decoded("payment-response")["success"]), (402, &json!(false)));
    assert!(!failed.text().contains("content of"), "{}", failed.text());
}

#[tokio::test]
async fn after_two_failed_settlements_of_a_payer_the_site_works_only_for_what_is_settled() {
    let shop = Shop::open().await;
    let (payer, other) = (Payer::new(), Payer::new());
    for number in 1..=2 {
        fail(&shop, &payer).await;
        assert_eq!(shop.origin.requests().len(), number, "it looked good until the site had worked");
    }
    for _ in 0..5 {
        fail(&shop, &payer).await;
        assert_eq!(shop.origin.requests().len(), 2, "the site was not asked");
    }
    // Who can pay is served, with nothing lost: this payer, and others as if nothing had been.
    let served = buy(&shop, &payer).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(served.decoded("payment-response")["success"], json!(true));
    assert!(
        shop.origin.requests()[2].header("x-402-transaction").is_some(),
        "settled before the site was asked"
    );
    let served = buy(&shop, &other).await;
    assert_eq!((served.status, served.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(
        shop.origin.requests()[3].header("x-402-transaction"),
        None,
        "settled after the site was asked"
    );
    assert_eq!(shop.facilitator.charged(), 2);
}

#[tokio::test]
async fn failures_count_for_as_long_and_as_often_as_configured() {
    let config = format!("{PAID}[limits]\npayer_failures = 1\npayer_failures_seconds = 1\n");
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let payer = Payer::new();
    fail(&shop, &payer).await;
    // A second has passed when the clock shows the one after the next.
    tokio::time::sleep(std::time::Duration::from_millis(2_100)).await;
    fail(&shop, &payer).await;
    assert_eq!(shop.origin.requests().len(), 2, "what is long past does not count");

    let shop = Shop::with(Origin::site().await, "", &format!("{PAID}[limits]\npayer_failures = 0\n")).await;
    for number in 1..=5 {
        fail(&shop, &payer).await;
        assert_eq!(shop.origin.requests().len(), number, "there is no limit");
    }
}
