//! Shadow mode: what is not in force is said, and does nothing.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::gateway::base;
use crate::support::{Facilitator, Gateway, Origin, get, payment_for};

const JSON: &str = "[log]\nformat = \"json\"\n";

async fn shadowing(routes: &str) -> (Origin, Facilitator, Gateway) {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let config = format!("{}{routes}{JSON}", base(&origin.url(), &facilitator.url()));
    (origin, facilitator, Gateway::with_config(&config).await)
}

/// What `tollgate report` says of the log.
fn report(gateway: &Gateway) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    let mut child = command.arg("report").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(gateway.log().as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn in_shadow_everything_is_let_through_and_nothing_is_charged() {
    let routes = "mode = \"shadow\"\n[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"$0.01\"\n\
                  [[routes]]\nname = \"closed\"\npath = \"/closed\"\ndeny = true\n";
    let (origin, facilitator, gateway) = shadowing(routes).await;
    // Signed for a price that is asked elsewhere: here nobody is asked for one.
    let (_site, _other, enforcing) = shadowing("[[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\n").await;
    let payment = payment_for(enforcing.address, "/paid/a").await;
    let asked = ["/paid/a", "/PAID/a", "/paid/x%2Fy", "/closed", "/free"];
    for path in asked {
        let response = get(gateway.address, path, &[("User-Agent", "bot\u{9b}")]).await;
        assert_eq!((response.status, response.text()), (200, format!("content of {path}")), "{path}");
        assert_eq!(response.header("payment-required"), None);
    }
    let paying = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
    assert_eq!((paying.status, paying.header("payment-response")), (200, None));
    assert!(facilitator.calls("/verify").is_empty() && facilitator.calls("/settle").is_empty());
    for request in origin.requests() {
        assert_eq!((request.header("payment-signature"), request.header("x-402-payer")), (None, None));
    }
    gateway.wait_until_idle().await;
    let metric = |route: &str, would: &str| {
        format!("tollgate_shadow_requests_total{{route=\"{route}\",would=\"{would}\"}}")
    };
    for (route, would, count) in [("paid", "challenged", 3), ("paid", "paid", 1), ("closed", "denied", 1)] {
        assert_eq!(gateway.metric(&metric(route, would)).await, Some(count), "{route} {would}");
    }
    let log = gateway.log();
    assert!(log.is_ascii(), "{log}");
    assert_eq!(log.matches("\"would\":").count(), 5, "{log}");
    let report = report(&gateway);
    assert!(report.contains("6 requests, 5 of them in shadow"), "{report}");
    assert!(report.contains("0.04 USDC on base-sepolia"), "{report}");
}

#[tokio::test]
async fn a_route_can_be_in_shadow_beside_others_that_are_in_force() {
    let route = |name: &str, mode: &str| {
        format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}/*\"\nprice = \"$0.01\"\nmode = \"{mode}\"\n")
    };
    let (_origin, _facilitator, gateway) =
        shadowing(&(route("new", "shadow") + &route("old", "enforce"))).await;
    assert_eq!(get(gateway.address, "/new/a", &[]).await.status, 200);
    assert_eq!(get(gateway.address, "/old/a", &[]).await.status, 402);
    gateway.wait_until_idle().await;
    assert_eq!(gateway.log().matches("\"would\":\"challenged\"").count(), 1);
    let explain = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["explain", "GET", "/new/a", "--config"])
        .arg(gateway.file())
        .output()
        .unwrap();
    let explained = String::from_utf8(explain.stdout).unwrap();
    assert!(explained.contains("shadow   402 Payment Required: 0.01 USDC on base-sepolia"), "{explained}");
}

/// Whoever was quoted a price before is not charged when it is in shadow, and prices hold again at once
/// when they are in force.
#[tokio::test]
async fn what_goes_into_shadow_is_free_and_what_leaves_it_costs() {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let config = |mode: &str| {
        let start = base(&origin.url(), &facilitator.url());
        format!("mode = \"{mode}\"\n{start}[[routes]]\npath = \"/paid/*\"\nprice = \"$0.01\"\n")
    };
    let gateway = Gateway::with_config(&config("enforce")).await;
    let payment = payment_for(gateway.address, "/paid/a").await;
    gateway.reload(&config("shadow")).await;
    assert_eq!(get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await.status, 200);
    assert!(facilitator.calls("/settle").is_empty());
    gateway.reload(&config("enforce")).await;
    assert_eq!(get(gateway.address, "/paid/a", &[]).await.status, 402);
    let bought = get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &payment)]).await;
    assert_eq!((bought.status, facilitator.calls("/settle").len()), (200, 1));
}
