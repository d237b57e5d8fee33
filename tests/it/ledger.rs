//! The ledger in a file, as operators meet it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::gateway::{Gateway, PAID, base, free_address};
use crate::support::server::Origin;
use crate::support::shop::Shop;

/// A small disk of its own, in memory; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Panics where the tests may not mount anything: a full disk cannot be had otherwise.
    fn mount(options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder.path()).output();
        let mounted = mounted.expect("this test needs the program mount");
        assert!(
            mounted.status.success(),
            "this test must be allowed to mount a file system in memory; run it as root: {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that leaves no room.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = fs::File::create(self.path("filler")).unwrap();
        while file.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.path("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

fn ledger_at(path: &Path) -> String {
    format!("[ledger]\nurl = \"sqlite://{}\"\n", path.display())
}

/// Compliance 58: what cannot be remembered is not let through.
#[tokio::test]
async fn a_full_disk_makes_priced_routes_unavailable_and_free_ones_go_on() {
    let disk = SmallDisk::mount("size=1m");
    let config = format!("{PAID}{}", ledger_at(&disk.path("ledger.db")));
    let shop = Shop::with(Origin::site().await, "", &config).await;
    assert_eq!(shop.buy("/paid/a").await.status, 200);
    disk.fill();
    for _ in 0..3 {
        let full = shop.buy("/paid/a").await;
        assert_eq!((full.status, full.header("payment-required")), (503, None));
        assert!(full.header("retry-after").is_some());
    }
    assert_eq!((shop.origin.requests().len(), shop.settlements()), (1, 1), "nothing was sold");
    assert_eq!(shop.ask("/free/a").await.status, 200);
    shop.gateway.wait_for_log("the disk is full").await;
    disk.make_room();
    assert_eq!(shop.buy("/paid/a").await.status, 200);
    shop.gateway.wait_for_log("the ledger can be written again").await;
}

#[tokio::test]
async fn a_payment_is_remembered_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!("{PAID}{}", ledger_at(&folder.path().join("ledger.db")));
    let mut shop = Shop::with(Origin::site().await, "", &config).await;
    let payment = shop.payment("/paid/a").await;
    assert_eq!(shop.present("/paid/a", &payment).await.status, 200);
    shop.gateway.signal("-KILL");
    shop.gateway.wait().await;
    let options = format!("\n[facilitators.scripted]\nurl = \"{}\"\n", shop.facilitator.url());
    let config = format!("{}{config}{options}", base(&shop.origin.url(), "scripted"));
    shop.gateway = Gateway::with_config(&config).await;
    assert_eq!(shop.present("/paid/b", &payment).await.status, 402);
    assert_eq!((shop.settlements(), shop.origin.requests().len()), (1, 1));
}

async fn refused(config: &str) -> String {
    let (address, admin) = (free_address(), free_address());
    let config = format!(
        "listen = \"{address}\"\n{}{config}\n[admin]\nlisten = \"{admin}\"\n",
        base("demo", "sandbox")
    );
    let mut gateway = Gateway::with_file(&config, address, admin);
    assert_eq!(gateway.wait().await.code(), Some(1), "{}", gateway.log());
    gateway.log()
}

#[tokio::test]
async fn a_ledger_that_cannot_be_used_keeps_the_gateway_from_starting_and_says_why() {
    let disk = SmallDisk::mount("size=1m,ro");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "no database\n".repeat(100)).unwrap();
    for (path, words) in [
        (disk.path("ledger.db"), "it is on a file system that is mounted read-only"),
        (folder.path().join("gone/ledger.db"), "for the ledger does not exist; create it"),
        (folder.path().join("notes.txt"), "the file is not an SQLite database"),
    ] {
        let log = refused(&ledger_at(&path)).await;
        assert!(log.contains("error: ") && log.contains(words), "{log}");
    }
}

#[tokio::test]
async fn a_second_gateway_on_one_file_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let config = format!("{PAID}{}", ledger_at(&file));
    let shop = Shop::with(Origin::site().await, "", &config).await;
    let log = refused(&ledger_at(&file)).await;
    assert!(log.contains("error: another gateway (process ") && log.contains("ledger.db"), "{log}");
    assert_eq!(shop.buy("/paid/a").await.status, 200);
}
