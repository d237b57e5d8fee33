//! A configuration that changes while clients are served: by its file, or at SIGHUP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::gateway::{base, free_address};
use crate::support::payer::encode;
use crate::support::tls::Authority;
use crate::support::{Connection, Facilitator, Gateway, LiveOrigin, Origin, Payer, Response, get, line_for};

const APPLIED: &str = "tollgate_config_reloads_total{result=\"applied\"}";
const REFUSED: &str = "tollgate_config_reloads_total{result=\"refused\"}";
const SUCCESSFUL: &str = "tollgate_config_last_reload_successful";
/// Read again at SIGHUP alone.
const UNWATCHED: &str = "watch = false\n";

fn priced(price: &str) -> String {
    format!("[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nprice = \"{price}\"\n")
}

async fn asked(gateway: &Gateway) -> String {
    amount(&get(gateway.address, "/paid/a", &[]).await)
}

fn amount(challenge: &Response) -> String {
    challenge.required()["accepts"][0]["amount"].as_str().unwrap().to_owned()
}

async fn present(gateway: &Gateway, payment: &Value) -> Response {
    get(gateway.address, "/paid/a", &[("PAYMENT-SIGNATURE", &encode(payment))]).await
}

/// What settlement was asked for, in order.
fn settled(facilitator: &Facilitator) -> Vec<String> {
    let amount = |call: &crate::support::Request| {
        let body: Value = serde_json::from_slice(&call.body).unwrap();
        body["paymentRequirements"]["amount"].as_str().unwrap().to_owned()
    };
    facilitator.calls("/settle").iter().map(amount).collect()
}

#[tokio::test]
async fn a_price_that_is_changed_in_the_file_is_asked_for_soon_and_no_connection_is_lost() {
    let origin = Origin::site().await;
    let start = base(&origin.url(), "sandbox");
    let gateway = Gateway::with_config(&format!("{start}{}", priced("$0.01"))).await;
    let mut client = Connection::open(gateway.address).await;
    for (price, atomic, reloads) in [("$0.01", "10000", 0), ("$0.02", "20000", 1), ("$0.03", "30000", 2)] {
        gateway.rewrite(&format!("{start}{}", priced(price)));
        if reloads > 0 {
            gateway.wait_for_metric(APPLIED, reloads).await;
        }
        client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(amount(&client.response().await), atomic);
    }
    assert_eq!(gateway.metric(SUCCESSFUL).await, Some(1));
    gateway.wait_for_logs("the configuration was read again", 2).await;
}

#[tokio::test]
async fn what_was_quoted_before_a_change_is_taken_at_the_old_price_and_at_no_other() {
    for ledger in ["", "[ledger]\nurl = \"sqlite::memory:\"\n"] {
        let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
        let start = format!("{UNWATCHED}{}", base(&origin.url(), &facilitator.url()));
        let gateway = Gateway::with_config(&format!("{start}{}{ledger}", priced("$0.01"))).await;
        let old = Payer::new().message(&get(gateway.address, "/paid/a", &[]).await.required());
        gateway.reload(&format!("{start}{}{ledger}", priced("$0.02"))).await;
        assert_eq!(asked(&gateway).await, "20000");
        let new = Payer::new().message(&get(gateway.address, "/paid/a", &[]).await.required());
        gateway.reload(&format!("{start}{}{ledger}", priced("$0.03"))).await;
        // Nobody was ever asked for this.
        let mut required = get(gateway.address, "/paid/a", &[]).await.required();
        required["accepts"][0]["amount"] = "15000".into();
        assert_eq!(present(&gateway, &Payer::new().message(&required)).await.status, 402);
        for payment in [&old, &new] {
            assert_eq!(present(&gateway, payment).await.text(), "content of /paid/a");
            gateway.wait_until_idle().await;
            assert_eq!(present(&gateway, payment).await.status, 402, "once is enough");
        }
        assert_eq!(settled(&facilitator), ["10000", "20000"]);
    }
}

#[tokio::test]
async fn a_wrong_file_changes_nothing_and_is_explained_as_check_explains_it() {
    let origin = Origin::site().await;
    let start = format!("{UNWATCHED}{}", base(&origin.url(), "sandbox"));
    let gateway = Gateway::with_config(&format!("{start}{}", priced("$0.01"))).await;
    gateway.rewrite(&format!("{start}[[routes]]\npath = \"/paid/*\"\nprise = \"$0.02\"\n"));
    gateway.signal("-HUP");
    gateway.wait_for_metric(REFUSED, 1).await;
    assert_eq!(asked(&gateway).await, "10000");
    assert_eq!(gateway.metric(SUCCESSFUL).await, Some(0));
    let check = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("check")
        .arg(gateway.file())
        .output()
        .unwrap();
    let explained = String::from_utf8(check.stderr).unwrap();
    assert!(explained.contains("unknown key `prise`"), "{explained}");
    gateway.wait_for_log("was not taken over, and nothing has changed").await;
    let log = gateway.log();
    // The last line counts the mistakes.
    let mistakes = explained.trim_end().rsplit_once('\n').unwrap().0;
    for line in mistakes.lines() {
        assert!(log.lines().any(|logged| logged == line), "{line:?} is not in the log:\n{log}");
    }

    std::fs::remove_file(gateway.file()).unwrap();
    gateway.signal("-HUP");
    gateway.wait_for_metric(REFUSED, 2).await;
    assert_eq!(asked(&gateway).await, "10000");

    gateway.reload(&format!("{start}{}", priced("$0.02"))).await;
    assert_eq!(asked(&gateway).await, "20000");
    assert_eq!(gateway.metric(SUCCESSFUL).await, Some(1));
}

#[tokio::test]
async fn what_only_a_start_can_change_is_named_and_nothing_changes() {
    let origin = Origin::site().await;
    let start = format!("{UNWATCHED}{}", base(&origin.url(), "sandbox"));
    let gateway = Gateway::with_config(&format!("{start}{}", priced("$0.01"))).await;
    let elsewhere = free_address();
    let changed = [
        (format!("[[listeners]]\naddress = \"{elsewhere}\"\n"), "[[listeners]]"),
        ("[ledger]\nurl = \"sqlite://other.db\"\n".to_owned(), "[ledger] url"),
        ("[log]\nformat = \"json\"\n".to_owned(), "[log]"),
        ("[limits]\nheader_bytes = 32768\n".to_owned(), "[limits] header_bytes"),
        ("[sandbox]\nbalance = \"$5\"\n".to_owned(), "[sandbox] balance"),
    ];
    for (number, (more, named)) in (1..).zip(changed) {
        gateway.rewrite(&format!("{start}{}{more}", priced("$0.02")));
        gateway.signal("-HUP");
        gateway.wait_for_metric(REFUSED, number).await;
        gateway.wait_for_logs("can only change with a restart", usize::try_from(number).unwrap()).await;
        let log = gateway.log();
        let line = log.lines().rfind(|line| line.contains("can only change with a restart"));
        assert!(line.unwrap().contains(named), "{named} is not in {line:?}");
        assert_eq!(asked(&gateway).await, "10000");
    }
}

#[tokio::test]
async fn a_file_of_routes_that_is_added_or_changed_takes_effect_and_a_wrong_one_does_not() {
    let origin = Origin::site().await;
    let config = format!("include = \"routes.d/*.toml\"\n{}", base(&origin.url(), "sandbox"));
    let gateway = Gateway::with_config(&config).await;
    let routes = gateway.file().with_file_name("routes.d");
    std::fs::create_dir(&routes).unwrap();
    // Nothing tells of a folder that was not there.
    std::fs::write(routes.join("a.toml"), priced("$0.01")).unwrap();
    gateway.reload(&config).await;
    assert_eq!(asked(&gateway).await, "10000");
    let applied = gateway.metric(APPLIED).await.unwrap();
    std::fs::write(routes.join("b.toml"), "[[routes]]\npath = \"/other\"\nprice = \"$2\"\n").unwrap();
    gateway.wait_for_metric(APPLIED, applied + 1).await;
    assert_eq!(get(gateway.address, "/other", &[]).await.status, 402);
    std::fs::write(routes.join("c.toml"), "[[routes]]\npath = \"/paid/*\"\nfree = maybe\n").unwrap();
    gateway.wait_for_metric(REFUSED, 1).await;
    gateway.wait_for_log("routes.d/c.toml:3").await;
    assert_eq!(
        (asked(&gateway).await.as_str(), get(gateway.address, "/other", &[]).await.status),
        ("10000", 402)
    );
}

/// What `tollgate plan` says, and its exit code.
fn plan(gateway: &Gateway, new: &str) -> (String, i32) {
    let file = gateway.file().with_file_name("new.toml");
    std::fs::write(&file, new).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("plan").arg(&file).arg("--running").arg(format!("http://{}", gateway.admin));
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8(output.stdout).unwrap(), output.status.code().unwrap())
}

#[tokio::test]
async fn a_plan_says_what_the_running_gateway_would_change_and_the_log_what_it_changed() {
    let origin = Origin::site().await;
    let start = format!("{UNWATCHED}{}", base(&origin.url(), "sandbox"));
    let old = format!("{start}{}", priced("$0.01"));
    let gateway = Gateway::with_config(&old).await;
    let dearer = format!("{start}{}", priced("$0.02"));
    let free = format!("{start}[[routes]]\nname = \"paid\"\npath = \"/paid/*\"\nfree = true\n");
    assert_eq!(plan(&gateway, &old), ("2 routes stay\n".to_owned(), 0));
    let (words, code) = plan(&gateway, &dearer);
    let change = "~ /paid/*: 0.01 USDC on base-sepolia by sandbox => 0.02 USDC on base-sepolia by sandbox";
    assert_eq!((words.as_str(), code), (format!(" {change}\n1 route changes, 1 route stays\n").as_str(), 3));
    let (words, code) = plan(&gateway, &free);
    assert_eq!(code, 4, "{words}");
    assert!(words.starts_with("!~ /paid/*: "), "{words}");
    let (words, code) = plan(&gateway, &start);
    assert_eq!(code, 4, "{words}");
    assert!(words.contains("GET /paid/example falls under everything else: free"), "{words}");

    gateway.reload(&dearer).await;
    gateway.wait_for_log(change).await;
    assert_eq!(plan(&gateway, &dearer).1, 0);
}

#[tokio::test]
async fn requests_under_way_end_as_they_began() {
    let (origin, facilitator) = (LiveOrigin::start().await, Facilitator::start().await);
    let (elsewhere, other) = (Origin::site().await, Facilitator::start().await);
    let config = |origin: &str, facilitator: &Facilitator, price: &str| {
        format!("{UNWATCHED}{}{}", base(origin, &facilitator.url()), priced(price))
    };
    let gateway = Gateway::with_config(&config(&origin.url(), &facilitator, "$0.01")).await;
    let payment = line_for(gateway.address, "/paid/a").await;
    let (mut paying, mut reading) =
        (Connection::open(gateway.address).await, Connection::open(gateway.address).await);
    paying.write(format!("GET /paid/a HTTP/1.1\r\nHost: a\r\n{payment}\r\n")).await;
    let mut paid = origin.exchange().await;
    reading.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let mut free = origin.exchange().await;
    free.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nto the ").await;
    reading.read_until("to the ").await;

    let deny = "[[routes]]\npath = \"/free/*\"\ndeny = true\n";
    gateway.reload(&format!("{}{deny}", config(&elsewhere.url(), &other, "$0.02"))).await;
    assert_eq!(get(gateway.address, "/free/b", &[]).await.status, 403);
    assert_eq!(asked(&gateway).await, "20000");

    free.write("end").await;
    reading.read_until("end").await;
    paid.answer(200, &[], "content").await;
    assert_eq!(paying.response().await.text(), "content");
    assert_eq!(settled(&facilitator), ["10000"]);
    assert!(other.calls("/settle").is_empty());
    // The same connections, by the configuration of now.
    paying.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(amount(&paying.response().await), "20000");
    let payment = Payer::new().message(&get(gateway.address, "/paid/a", &[]).await.required());
    assert_eq!(present(&gateway, &payment).await.text(), "content of /paid/a");
    assert_eq!(settled(&other), ["20000"]);
}

#[tokio::test]
async fn certificates_are_read_again_when_their_files_change() {
    let (origin, address, folder) = (Origin::site().await, free_address(), tempfile::tempdir().unwrap());
    let (before, after) = (Authority::new(), Authority::new());
    let (cert, key) = before.issue(&["one.example"]).write(folder.path(), "site");
    let listeners = format!(
        "[[listeners]]\naddress = \"LISTEN\"\n[[listeners]]\naddress = \"{address}\"\n\
         tls = [{{ cert = \"{}\", key = \"{}\" }}]\n",
        cert.display(),
        key.display()
    );
    let gateway = Gateway::start(&origin.url(), "sandbox", &listeners).await;
    before.connect(address, "one.example", &[]).await.unwrap();
    after.issue(&["one.example"]).write(folder.path(), "site");
    gateway.wait_for_metric(APPLIED, 1).await;
    after.connect(address, "one.example", &[]).await.unwrap();
    before.connect(address, "one.example", &[]).await.unwrap_err();
    // A file that is no certificate does not end the service.
    std::fs::write(&cert, "no certificate").unwrap();
    gateway.wait_for_metric(REFUSED, 1).await;
    after.connect(address, "one.example", &[]).await.unwrap();
}

/// Ten thousand requests and a hundred purchases while prices change all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_load_every_request_is_answered_by_one_of_the_configurations_whole() {
    let (origin, facilitator) = (Origin::site().await, Facilitator::start().await);
    let start = format!("{UNWATCHED}{}", base(&origin.url(), &facilitator.url()));
    let configs = ["$0.01", "$0.02"].map(|price| format!("{start}{}", priced(price)));
    let gateway = Arc::new(Gateway::with_config(&configs[0]).await);
    let done = Arc::new(AtomicBool::new(false));
    let browsing: Vec<_> = (0..4)
        .map(|_| {
            let gateway = Arc::clone(&gateway);
            tokio::spawn(async move {
                let mut client = Connection::open(gateway.address).await;
                for _ in 0..1_250 {
                    client.write("GET /free/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    assert_eq!(client.response().await.text(), "content of /free/a");
                    client.write("GET /paid/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
                    let asked = amount(&client.response().await);
                    assert!(["10000", "20000"].contains(&asked.as_str()), "{asked}");
                }
            })
        })
        .collect();
    let buying = {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let mut quoted = Vec::new();
            for _ in 0..100 {
                let required = get(gateway.address, "/paid/a", &[]).await.required();
                quoted.push(required["accepts"][0]["amount"].as_str().unwrap().to_owned());
                let bought = present(&gateway, &Payer::new().message(&required)).await;
                assert_eq!((bought.status, bought.text()), (200, "content of /paid/a".to_owned()));
            }
            quoted
        })
    };
    let changing = {
        let (gateway, done) = (Arc::clone(&gateway), Arc::clone(&done));
        tokio::spawn(async move {
            let mut changes = 0;
            while !done.load(Ordering::Acquire) {
                changes += 1;
                gateway.reload(&configs[changes % 2]).await;
            }
            changes
        })
    };
    for client in browsing {
        client.await.unwrap();
    }
    let quoted = buying.await.unwrap();
    done.store(true, Ordering::Release);
    assert!(changing.await.unwrap() > 3, "it changed hardly ever");
    assert_eq!(settled(&facilitator), quoted);
    assert_eq!(gateway.metric(REFUSED).await, None);
}
