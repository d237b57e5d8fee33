//! The books of gateways that really took payments: `tollgate ledger`.

mod reconcile;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::client::PATIENCE;
use crate::support::gateway::{PAID, base};
use crate::support::postgres::Postgres;
use crate::support::shop::{IMPATIENT, Shop};
use crate::support::{Act, Gateway, Origin};

/// A folder with a configuration, and the ledger it names.
struct Office {
    folder: tempfile::TempDir,
    ledger: String,
}

impl Office {
    /// With a ledger in a file.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ledger = format!("sqlite://{}", folder.path().join("books.db").display());
        Self { folder, ledger }
    }

    /// With a ledger in a database.
    async fn with_database() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), ledger: Postgres::shared().database().await }
    }

    /// The part of a configuration that says what is sold and where the ledger is.
    fn config(&self) -> String {
        format!("{PAID}[ledger]\nurl = \"{}\"\n", self.ledger)
    }

    /// Writes a configuration and gives its path.
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    async fn open(&self) -> Shop {
        let shop = Shop::with(Origin::site().await, IMPATIENT, &self.config()).await;
        self.write("gateway.toml", &self.whole(&shop));
        shop
    }

    /// A whole configuration for the same shop.
    fn whole(&self, shop: &Shop) -> String {
        let facilitator =
            format!("[facilitators.scripted]\nurl = \"{}\"\n{IMPATIENT}", shop.facilitator.url());
        format!("{}{}\n{facilitator}", base(&shop.origin.url(), "scripted"), self.config())
    }

    /// Runs `tollgate ledger` in this folder.
    async fn run(&self, line: &str) -> Ran {
        let mut command = ledger(self.folder.path());
        command.args(line.split(' ').filter(|word| !word.is_empty()));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        Ran::from(output)
    }

    /// What a command that must succeed says, once it says so many times what it should.
    async fn wait_for(&self, line: &str, word: &str, count: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ran = self.run(line).await;
            assert_eq!(ran.status, 0, "{line}: {}", ran.err);
            if ran.out.matches(word).count() == count {
                return ran.out;
            }
            assert!(Instant::now() < deadline, "{line} does not say {word:?} {count} times:\n{}", ran.out);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn ledger(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.arg("ledger").current_dir(folder).stdin(Stdio::null());
    command
}

#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { status: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Settlements whose answer is lost, more often than any test asks.
fn lost() -> impl Iterator<Item = Act> {
    std::iter::repeat_with(|| Act::Close).take(100)
}

#[tokio::test]
async fn the_books_of_a_running_gateway_say_what_was_sold_declined_and_left_open() {
    let office = Office::new();
    let shop = office.open().await;
    for path in ["/paid/a", "/paid/b"] {
        assert_eq!(shop.buy(path).await.status, 200);
    }
    let no = json!({"success": false, "errorReason": "insufficient_funds"});
    shop.facilitator.will_settle([Act::json(200, &no)]);
    assert_eq!(shop.buy("/paid/c").await.status, 402);
    shop.facilitator.will_settle(lost());
    assert_eq!(shop.buy("/paid/d?token=hidden").await.status, 503);

    office.wait_for("list", " delivered ", 2).await;
    let list = office.run("list --since 1h").await;
    for word in [" declined ", " unresolved ", " 0.01 USDC "] {
        assert!(list.out.contains(word), "{}", list.out);
    }
    assert!(list.out.ends_with("  0.02 USDC\n"), "{}", list.out);
    let unresolved = office.run("list --state unresolved").await.out;
    assert!(unresolved.contains("1 payment\n"), "{unresolved}");
    let id = unresolved.lines().nth(1).unwrap().split_whitespace().last().unwrap();
    let shown = office.run(&format!("show {id}")).await.out;
    for words in [
        "\nstate        unresolved: ",
        "\nrequest      GET https://shop.example/paid/d\n",
        "settlement asked for",
    ] {
        assert!(shown.contains(words), "{shown}");
    }
    assert!(!shown.contains("hidden"));

    let lines = office.run("export --format jsonl").await;
    assert_eq!(lines.err, "4 payments\n");
    let lines: Vec<Value> = lines.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let csv = office.run("export").await.out;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows: Vec<std::collections::HashMap<String, String>> =
        reader.deserialize().map(Result::unwrap).collect();
    assert_eq!((lines.len(), rows.len()), (4, 4));
    for (line, row) in lines.iter().zip(&rows) {
        assert_eq!((line["id"].as_str(), line["amount"].as_str()), (Some(row["id"].as_str()), Some("0.01")));
        assert_eq!((row["route"].as_str(), row["facilitator"].as_str()), ("paid", "scripted"));
    }
    let declined = lines.iter().find(|line| line["state"] == "declined").unwrap();
    assert_eq!(declined["reason"], "insufficient_funds");
    let delivered = lines.iter().find(|line| line["state"] == "delivered").unwrap();
    assert_eq!(
        (&delivered["transaction"], &delivered["settlement"]["success"]),
        (&json!("0xabc"), &json!(true))
    );
}

#[tokio::test]
async fn sums_of_days_that_follow_each_other_add_up() {
    let office = Office::new();
    let shop = office.open().await;
    for _ in 0..3 {
        assert_eq!(shop.buy("/paid/a").await.status, 200);
    }
    office.wait_for("list", " delivered ", 3).await;
    let list = office.run("list --sums").await.out;
    assert!(list.contains("  paid   base-sepolia  ") && list.ends_with("  0.03 USDC\n"), "{list}");
    let newest = office.run("list --limit 1").await.out;
    let time = newest.lines().nth(1).unwrap().split("  ").next().unwrap().to_owned();
    let count = |text: &str| -> u64 {
        let total = text.lines().find(|line| line.starts_with("total"));
        total.map_or(0, |line| line.split_whitespace().nth(2).unwrap().parse().unwrap())
    };
    let before = office.run(&format!("list --sums --until {time}")).await.out;
    let after = office.run(&format!("list --sums --since {time}")).await.out;
    assert_eq!(count(&before) + count(&after), 3, "{before}{after}");
    assert!(count(&after) >= 1, "{after}");
    assert_eq!(office.run("list --sums --until 1h").await.out, "no money moved\n");
}

#[tokio::test]
async fn what_cannot_be_found_read_or_written_ends_with_its_code_and_says_why() {
    let office = Office::new();
    let shop = office.open().await;
    assert_eq!(shop.buy("/paid/a").await.status, 200);
    office.wait_for("list", " delivered ", 1).await;
    let other = office.folder.path().join("none.db");
    let named = &office.ledger;
    for (line, status, words) in [
        ("show 0xffffffffffffffff".to_owned(), 1, "error: no payment with this id is remembered\n"),
        (format!("list --ledger sqlite://{}", other.display()), 2, "there is no ledger at "),
        (
            "list --ledger mysql://a".to_owned(),
            2,
            "error: --ledger is not the URL of a ledger: write sqlite://FILE",
        ),
        ("list --config none.toml".to_owned(), 2, "cannot read none.toml: there is no such file"),
        ("list --since 1h --until 2h".to_owned(), 2, "error: --until is not after --since\n"),
        ("reconcile".to_owned(), 2, "error: the configuration has no chain to compare with"),
        ("resolve 0x1 --settled --yes --config none.toml".to_owned(), 2, "there is no such file"),
    ] {
        let ran = office.run(&line).await;
        assert_eq!((ran.status, ran.out.as_str()), (status, ""), "{line}: {}", ran.err);
        assert!(ran.err.contains(words), "{line}: {}", ran.err);
    }
    assert!(!other.exists(), "looking creates nothing");
    // A ledger that is named needs no configuration; its assets are those known everywhere.
    let elsewhere = Office::new();
    let ran = elsewhere.run(&format!("list --ledger {named}")).await;
    assert!(ran.status == 0 && ran.out.contains("0.01 USDC"), "{ran:?}");
    let ran = elsewhere.run(&format!("reconcile --ledger {named}")).await;
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("name it with --config FILE"), "{}", ran.err);
    // A configuration with mistakes is not half used.
    let wrong = office.write("wrong.toml", "upstream = 7\n");
    let ran = office.run(&format!("list --config {wrong}")).await;
    assert!(ran.status == 2 && ran.err.contains("upstream: "), "{ran:?}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure_and_a_full_disk_is_one() {
    let office = Office::new();
    let shop = office.open().await;
    assert_eq!(shop.buy("/paid/a").await.status, 200);
    office.wait_for("list", " delivered ", 1).await;
    for arguments in [vec!["export"], vec!["list"], vec!["export", "--format", "jsonl"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let gone = ledger(office.folder.path()).args(&arguments).stdout(writer).output().unwrap();
        let gone = Ran::from(gone);
        assert_eq!((gone.status, gone.err.as_str()), (0, ""), "{arguments:?}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = Ran::from(ledger(office.folder.path()).args(&arguments).stdout(full).output().unwrap());
        assert_eq!(full.status, 2, "{arguments:?}");
        assert!(full.err.contains("error: the output cannot be written: "), "{}", full.err);
    }
}

/// A payment that nobody can find out about, and its id.
async fn left_open(office: &Office, shop: &Shop) -> (Value, String) {
    shop.facilitator.will_settle(lost());
    let payment = shop.payment("/paid/a").await;
    assert_eq!(shop.present("/paid/a", &payment).await.status, 503);
    let lines =
        office.wait_for("export --format jsonl --state unresolved", "\"state\":\"unresolved\"", 1).await;
    let record: Value = serde_json::from_str(&lines).unwrap();
    (payment, record["id"].as_str().unwrap().to_owned())
}

/// Stops the gateway, does something, and starts another one on the same ledger.
async fn meanwhile<T>(office: &Office, shop: &mut Shop, work: impl AsyncFnOnce() -> T) -> T {
    shop.gateway.terminate();
    shop.gateway.wait().await;
    let done = work().await;
    shop.gateway = Gateway::with_config(&office.whole(shop)).await;
    done
}

#[tokio::test]
async fn a_payment_resolved_as_settled_is_delivered_once_without_another_charge() {
    let office = Office::new();
    let mut shop = office.open().await;
    let (payment, id) = left_open(&office, &shop).await;
    let line = format!("resolve {id} --settled --transaction 0xfeed");
    // Without a terminal and without --yes nothing is asked and nothing done.
    let asked = office.run(&line).await;
    assert_eq!((asked.status, asked.out.as_str()), (2, ""));
    assert!(
        asked.err.contains("unresolved: settlement was asked for") && asked.err.contains("add --yes"),
        "{}",
        asked.err
    );
    let beside = office.run(&format!("{line} --yes")).await;
    assert_eq!((beside.status, beside.out.as_str()), (2, ""));
    assert!(beside.err.contains("another gateway") && beside.err.contains("stop it first"), "{}", beside.err);
    let settled = meanwhile(&office, &mut shop, async || office.run(&format!("{line} --yes")).await).await;
    assert_eq!(settled.status, 0, "{}", settled.err);
    assert!(settled.out.starts_with(&id) && settled.out.contains("recorded as settled"), "{}", settled.out);
    let asked_before = shop.settlements();
    let delivered = shop.present("/paid/a", &payment).await;
    assert_eq!((delivered.status, delivered.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(delivered.decoded("payment-response")["transaction"], "0xfeed");
    office.wait_for("list --state delivered", "0xfeed", 1).await;
    assert_eq!(shop.settlements(), asked_before, "no further charge");
    let again = meanwhile(&office, &mut shop, async || office.run(&format!("{line} --yes")).await).await;
    assert_eq!(again.status, 1);
    assert!(again.err.contains("is not unresolved; it is delivered"), "{}", again.err);
}

#[tokio::test]
async fn a_ledger_in_a_database_is_read_and_decided_about_beside_its_gateway() {
    let office = Office::with_database().await;
    let shop = office.open().await;
    assert_eq!(shop.buy("/paid/b").await.status, 200);
    let (payment, id) = left_open(&office, &shop).await;
    let list = office.wait_for("list", " delivered ", 1).await;
    assert!(list.contains(" unresolved ") && list.ends_with("  0.01 USDC\n"), "{list}");
    assert!(office.run(&format!("show {}", &id[..14])).await.out.contains(&id));
    let resolved = office.run(&format!("resolve {id} --settled --transaction 0xfeed --yes")).await;
    assert_eq!(resolved.status, 0, "{}", resolved.err);
    let delivered = shop.present("/paid/a", &payment).await;
    assert_eq!((delivered.status, delivered.text().as_str()), (200, "content of /paid/a"));
    assert_eq!(delivered.decoded("payment-response")["transaction"], "0xfeed");
    office.wait_for("list --sums", "  0.02 USDC", 2).await;
    let again = office.run(&format!("resolve {id} --declined --reason x --yes")).await;
    assert_eq!((again.status, again.out.as_str()), (1, ""));
    assert!(again.err.contains("is not unresolved; it is delivered"), "{}", again.err);
}

#[tokio::test]
async fn a_payment_resolved_as_declined_buys_nothing_until_it_is_settled() {
    let office = Office::new();
    let mut shop = office.open().await;
    let (payment, id) = left_open(&office, &shop).await;
    let mut command = ledger(office.folder.path());
    command.args(["resolve", &id[..14], "--declined", "--yes", "--reason", "=never arrived"]);
    let declined = meanwhile(&office, &mut shop, async || Ran::from(command.output().unwrap())).await;
    assert_eq!(declined.status, 0, "{}", declined.err);
    let shown = office.run(&format!("show {id}")).await.out;
    assert!(shown.contains("\nreason       declined by the operator: =never arrived\n"), "{shown}");
    // What is left of the script answers this one: it is asked for anew and lost again.
    let asked_before = shop.settlements();
    assert_eq!(shop.present("/paid/a", &payment).await.status, 503);
    assert!(shop.settlements() > asked_before);
    office.wait_for("list --state unresolved", &id[..14], 1).await;
}
