//! What the README shows works as printed.

use std::path::Path;
use std::process::Command;

use crate::support::Gateway;
use crate::support::gateway::free_address;

fn readme() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    text.split(&open).skip(1).map(|after| after.split("```").next().unwrap().to_owned()).collect()
}

fn tollgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tollgate"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("CDP_API_KEY_ID", "organizations/o/apiKeys/k");
    // The first account of the development chains.
    command.env("GAS_KEY", "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
    // 64 bytes: the first Ed25519 test vector of RFC 8032 §7.1, seed and public key.
    command.env(
        "CDP_API_KEY_SECRET",
        "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==",
    );
    command
}

#[test]
fn every_configuration_in_the_readme_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["shop", "api"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example")]).unwrap();
        std::fs::write(folder.path().join(format!("{name}.pem")), made.cert.pem()).unwrap();
        std::fs::write(folder.path().join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    let configurations = blocks(&readme(), "toml");
    assert_eq!(configurations.len(), 6);
    for configuration in configurations {
        let file = folder.path().join("gateway.toml");
        std::fs::write(&file, &configuration).unwrap();
        let checked = tollgate().arg("check").arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned();
        assert!(checked.status.success() && said.is_empty(), "{said}\n{configuration}");
    }
}

#[test]
fn commands_print_what_the_readme_shows() {
    let sessions = blocks(&readme(), "console");
    assert!(!sessions.is_empty());
    for session in sessions {
        for part in session.split("$ tollgate ").skip(1) {
            let (line, expected) = part.split_once('\n').unwrap();
            let mut command = tollgate();
            command.env_remove("CDP_API_KEY_ID").env_remove("CDP_API_KEY_SECRET");
            let output = command.args(line.split(' ')).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "tollgate {line}");
        }
    }
}

/// What a run prints, with what differs between runs left out.
fn steady(text: &str) -> Vec<String> {
    let varies = |line: &&str| {
        !line.starts_with("paid by") && !line.starts_with("transaction") && !line.starts_with("payer")
    };
    text.lines().filter(varies).map(str::to_owned).collect()
}

#[tokio::test]
async fn the_first_run_goes_as_the_readme_says() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.toml");
    let (listen, admin) = (free_address(), free_address());
    let configuration = std::fs::read_to_string(shipped)
        .unwrap()
        .replace("127.0.0.1:8402", &listen.to_string())
        .replace("127.0.0.1:9402", &admin.to_string());
    let gateway = Gateway::with_file(&configuration, listen, admin);
    gateway.wait_until_ready().await;
    let url = format!("http://{listen}/api/weather?city=Lisbon");
    let paid =
        tokio::task::spawn_blocking(move || tollgate().args(["pay", &url]).output().unwrap()).await.unwrap();
    let said = [paid.stderr, paid.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let as_printed = |text: &str| {
        text.replace(&listen.to_string(), "127.0.0.1:8402").replace(&admin.to_string(), "127.0.0.1:9402")
    };
    let shown = blocks(&readme(), "text");
    assert!(steady(&shown[1]).len() > 10);
    assert_eq!(steady(&as_printed(&said)), steady(&shown[1]));
    let log = as_printed(&gateway.log());
    let banner: Vec<&str> = shown[0].lines().skip(1).collect();
    assert!(log.contains(&banner.join("\n")), "{log}");
    assert!(log.starts_with("tollgate "), "{log}");
}
