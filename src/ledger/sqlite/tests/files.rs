//! Files that are no ledgers, folders that cannot be used, and who may open one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::super::schema::{self, MIGRATIONS};
use super::{Accounts as _, Folder, Ledger as _, NOW, SqliteAccounts, SqliteLedger, claim, claimed};
use crate::clock::{Clock as _, SystemClock, UnixSeconds};

fn refusal(path: &Path) -> String {
    SqliteLedger::open(path).err().unwrap().to_string()
}

fn database(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn one_file_is_for_one_gateway() {
    let folder = Folder::new();
    let first = folder.open();
    let refused = refusal(&folder.path());
    let start = format!("another gateway (process {}) uses the ledger ", std::process::id());
    assert!(refused.starts_with(&start), "{refused}");
    assert!(refused.contains(&folder.path().canonicalize().unwrap().display().to_string()), "{refused}");
    let link = folder.0.path().join("link.db");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    assert!(refusal(&link).starts_with(&start), "by whatever name");
    claimed(&first, &claim(1)).await;
    drop(first);
    let second = SqliteLedger::open(&link).unwrap();
    assert!(second.get(claim(1).id).await.unwrap().is_some());
    assert!(refusal(&folder.path()).starts_with(&start));
}

#[tokio::test]
async fn the_file_is_for_nobody_else_to_read() {
    let folder = Folder::new();
    let ledger = folder.open();
    claimed(&ledger, &claim(1)).await;
    for name in ["tollgate.db", "tollgate.db-wal", "tollgate.db-shm", "tollgate.db.lock"] {
        let mode = folder.0.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn files_that_are_no_ledgers_are_refused_and_left_as_they_are() {
    let folder = Folder::new();
    let named = |name: &str| folder.0.path().join(name);
    std::fs::write(named("text"), "upstream = \"demo\"\n".repeat(100)).unwrap();
    database(&named("foreign"), "CREATE TABLE payments (a INTEGER)");
    database(&named("newer"), "PRAGMA application_id = 0x74674c64; PRAGMA user_version = 77");
    std::fs::create_dir(named("folder")).unwrap();
    let newer = format!(
        "was written by a newer version (schema 77; this one knows {}); use that version",
        MIGRATIONS.len()
    );
    for (name, words) in [
        ("text", "the file is not an SQLite database"),
        ("foreign", "is a database of another program; name another file for the ledger"),
        ("newer", newer.as_str()),
        ("folder", "is a folder; name a file for the ledger"),
        ("gone/ledger.db", "does not exist; create it"),
        ("text/ledger.db", "is not a folder"),
    ] {
        let before = std::fs::read(named(name)).ok();
        let refused = refusal(&named(name));
        assert!(refused.contains(words), "{name}: {refused}");
        assert!(refused.contains(name.split('/').next().unwrap()), "{name}: {refused}");
        assert_eq!(std::fs::read(named(name)).ok(), before, "{name}");
        let unread = SqliteAccounts::open(&named(name)).err().unwrap();
        assert!(name.contains('/') || unread.to_string().contains(words), "{name}: {unread}");
    }
    assert!(!named("foreign-wal").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    // Nobody can create files there, not even root.
    let refused = refusal(Path::new("/sys/tollgate.db"));
    assert!(refused.starts_with("cannot create /sys/tollgate.db.lock: "), "{refused}");
    let told = ["permission denied; the ledger's folder", "on a file system that is mounted read-only"];
    assert!(told.iter().any(|words| refused.contains(words)), "{refused}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_ledger() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "").unwrap();
    let unread = SqliteAccounts::open(&folder.path()).err().unwrap();
    assert!(unread.to_string().contains("is empty"), "{unread}");
    claimed(&folder.open(), &claim(1)).await;
}

#[tokio::test]
async fn a_damaged_file_is_told_at_the_start() {
    let folder = Folder::new();
    let ledger = folder.open();
    for byte in 1..=200 {
        claimed(&ledger, &claim(byte)).await;
    }
    drop(ledger);
    let whole = std::fs::read(folder.path()).unwrap();
    let mut damaged = whole.clone();
    // Somewhere in the middle, where only a look at every page finds it.
    let middle = damaged.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 4096].fill(0xa5);
    std::fs::write(folder.path(), &damaged).unwrap();
    let refused = refusal(&folder.path());
    assert!(refused.contains("is damaged (") && refused.contains("restore it from a backup"), "{refused}");
    std::fs::write(folder.path(), &whole[..whole.len() / 3]).unwrap();
    let refused = refusal(&folder.path());
    assert!(refused.contains("damaged"), "cut off: {refused}");
    std::fs::write(folder.path(), &whole).unwrap();
    assert!(folder.open().get(claim(200).id).await.unwrap().is_some());
}

#[tokio::test]
async fn damage_that_is_met_later_stops_everything() {
    let folder = Folder::new();
    let ledger = folder.open();
    for byte in 1..=200 {
        claimed(&ledger, &claim(byte)).await;
    }
    // The root of an index stops being one, as if its page had been overwritten.
    super::with_writer(
        &ledger,
        "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'held'; PRAGMA writable_schema = RESET",
    )
    .await;
    let refused = ledger.claim(&claim(250), NOW).await.unwrap_err().to_string();
    assert!(refused.contains("damaged"), "{refused}");
    let later = ledger.claim(&claim(251), NOW).await.unwrap_err().to_string();
    assert!(later.contains("must be started again"), "{later}");
}

#[tokio::test]
async fn a_ledger_knows_for_good_when_it_was_created() {
    let folder = Folder::new();
    let before = SystemClock.now();
    let birth = folder.open().birth().await.unwrap();
    assert!((before..=SystemClock.now()).contains(&birth), "{birth:?}");
    // It does not depend on what is in it, nor on when it is opened.
    super::with_writer(&folder.open(), "UPDATE birth SET at = at - 1000").await;
    let ledger = folder.open();
    claimed(&ledger, &claim(1)).await;
    ledger.forget(0, NOW.plus(1_000_000)).await.unwrap();
    drop(ledger);
    assert_eq!(folder.open().birth().await, Ok(UnixSeconds(birth.0 - 1000)));
}

#[tokio::test]
async fn a_ledger_of_a_version_that_took_no_note_of_it_is_as_old_as_its_oldest_payment() {
    for oldest in [None, Some(5_000), Some(u32::MAX)] {
        let folder = Folder::new();
        let file = rusqlite::Connection::open(folder.path()).unwrap();
        schema::migrate(&file, 0, &MIGRATIONS[..1]).unwrap();
        let insert = "INSERT INTO payments (id, attempt, network, asset, amount, pay_to, scheme, version, route, method,
                resource, facilitator, request_hash, repeatable, redelivery_seconds, redelivery_tries, claimed_at,
                state, unique_transaction, transaction_id, reason, deliveries, grant_number, tries, changed_at)
             VALUES (randomblob(32), 1, '', '', '', '', '', 2, '', '', '', '', x'', 0, 0, 0, ?1, 'delivered', 0, '', '',
                1, 0, 0, 0)";
        for claimed_at in oldest.into_iter().flat_map(|oldest| [u32::MAX, oldest]) {
            file.execute(insert, [claimed_at]).unwrap();
        }
        drop(file);
        let before = SystemClock.now();
        let birth = folder.open().birth().await.unwrap();
        match oldest {
            Some(5_000) => assert_eq!(birth, UnixSeconds(5_000)),
            Some(_) | None => assert!((before..=SystemClock.now()).contains(&birth), "{birth:?}"),
        }
    }
}
