//! The architecture as a test: who may know whom, who may know Pingora, how large a file may be,
//! and which words do not belong in finished code; and that the threat model tells of what is there.

#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which of our modules each top-level module may use; `src/lib.rs` tells why.
const MAY_USE: &[(&str, &[&str])] = &[
    ("x402", &[]),
    ("clock", &[]),
    ("secret", &[]),
    ("telemetry", &[]),
    ("demo", &[]),
    ("scheme", &["x402", "clock"]),
    ("policy", &["x402"]),
    ("facilitator", &["x402", "clock", "secret", "scheme", "telemetry", "chain"]),
    ("ledger", &["scheme", "x402", "clock", "secret"]),
    ("chain", &["x402", "clock", "secret", "scheme"]),
    ("payment", &["x402", "clock", "scheme", "policy", "facilitator", "ledger", "chain"]),
    ("proxy", &["payment", "policy", "x402", "telemetry"]),
    ("config", &["x402", "scheme", "policy", "secret", "facilitator", "ledger", "chain", "proxy"]),
    ("admin", &["clock", "ledger", "payment", "policy", "telemetry"]),
];

/// Modules that put everything together.
const MAY_USE_ALL: &[&str] = &["gateway", "cli", "main", "lib"];

/// The only modules that know Pingora.
const MAY_USE_PINGORA: &[&str] = &["proxy", "gateway"];

/// Lines a file may have.
const LINES_MAX: usize = 500;

fn rust_files(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.') {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    assert!(!found.is_empty(), "no Rust files in {folder}");
    found
}

/// The top-level module a file of `src` belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// What the file says, without comments and without its unit tests, which may use what they need.
fn code_of(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether a file holds nothing but tests.
fn is_test(file: &Path) -> bool {
    file.components().any(|part| {
        let name = part.as_os_str().to_string_lossy();
        let stem = name.trim_end_matches(".rs");
        matches!(stem, "tests" | "testing" | "contract" | "fake" | "probe") || stem.ends_with("_tests")
    })
}

/// Top-level modules a text names as `crate::NAME`, also in groups (`crate::{a, b::c}`).
fn used_by(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for after in code.split("crate::").skip(1) {
        let identifier = |text: &str| {
            text.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect::<String>()
        };
        match after.strip_prefix('{') {
            None => used.push(identifier(after)),
            Some(group) => {
                let mut depth = 0_usize;
                let mut names = vec![String::new()];
                for letter in group.chars() {
                    match letter {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(String::new()),
                        other if depth == 0 => names.last_mut().unwrap().push(other),
                        _ => {}
                    }
                }
                used.extend(names.iter().map(|name| identifier(name.trim())));
            }
        }
    }
    used
}

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for file in rust_files("src").into_iter().filter(|file| !is_test(file)) {
        let module = module_of(&file);
        if MAY_USE_ALL.contains(&module.as_str()) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{}: module {module} is not in the table", file.display()));
            continue;
        };
        for used in used_by(&code_of(&file)) {
            if used != module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}: {module} may not use {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_proxy_and_its_start_know_pingora() {
    for file in rust_files("src") {
        let module = module_of(&file);
        let knows = code_of(&file).contains("pingora::");
        assert!(!knows || MAY_USE_PINGORA.contains(&module.as_str()), "{} knows Pingora", file.display());
    }
}

#[test]
fn of_facilitators_and_ledgers_payments_know_only_the_contracts() {
    for file in rust_files("src/payment").into_iter().filter(|file| !is_test(file)) {
        let code = code_of(&file);
        for name in ["HttpFacilitator", "Onchain", "Sandbox", "MemoryLedger"] {
            assert!(!code.contains(name), "{} knows {name}", file.display());
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

#[test]
fn finished_code_has_no_unfinished_words() {
    // In two halves, so that this file does not find itself.
    let words =
        [("TO", "DO"), ("FIX", "ME"), ("XX", "X"), ("HA", "CK"), ("unimpl", "emented!"), ("to", "do!")];
    for file in rust_files("src").into_iter().chain(rust_files("tests")) {
        let text = fs::read_to_string(&file).unwrap();
        for (one, other) in words {
            let word = format!("{one}{other}");
            assert!(!text.contains(&word), "{} says {word}", file.display());
        }
    }
}

/// The compiler refuses `unsafe` where the lint is `forbid`: nothing in the code can allow it again.
#[test]
fn no_package_may_have_unsafe_code() {
    let manifest = |folder: &str| -> toml::Table {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
        toml::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    let workspace = manifest(".")["workspace"].clone();
    assert_eq!(workspace["lints"]["rust"]["unsafe_code"].as_str(), Some("forbid"));
    let members = workspace["members"].as_array().unwrap().iter().map(|member| member.as_str().unwrap());
    for package in members.chain(["."]) {
        assert_eq!(manifest(package)["lints"]["workspace"].as_bool(), Some(true), "{package}");
    }
}

#[test]
fn every_module_of_the_table_exists() {
    for (name, allowed) in MAY_USE {
        for module in std::iter::once(name).chain(allowed.iter()) {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
            let exists = source.join(module).is_dir() || source.join(format!("{module}.rs")).is_file();
            assert!(exists, "{module}");
        }
    }
}

/// Words that a pattern with one group finds.
fn found(pattern: &str, text: &str) -> BTreeSet<String> {
    let pattern = regex::Regex::new(pattern).unwrap();
    pattern.captures_iter(text).map(|captures| captures[1].to_owned()).collect()
}

/// Everything that the Python files of a folder of the adversarial suite say.
fn python(folder: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/adversarial").join(folder);
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let python = files.filter(|file| file.extension().is_some_and(|extension| extension == "py"));
    python.map(|file| fs::read_to_string(file).unwrap()).collect()
}

#[test]
fn the_threat_model_names_every_attack_and_mutation_and_nothing_that_is_not_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("tests/adversarial/THREATS.md")).unwrap();
    let rows = found(r#"= Attack\("([a-z0-9-]+)""#, &python("attacks"));
    assert!(rows.len() > 30, "{rows:?}");
    assert_eq!(found(r"(?m)^\*\*`([a-z0-9-]+)`\*\*", &page), rows);
    let mutations = found(r#"Mutation\(\s*"([a-z0-9-]+)""#, &python("mutations"));
    assert!(mutations.len() > 40, "{mutations:?}");
    let lists = page.split("\n- mutations:").skip(1).map(|list| list.split("\n- ").next().unwrap());
    assert_eq!(found("`([a-z0-9-]+)`", &lists.collect::<String>()), mutations);
    for named in found("`((?:src|tests)/[^` ]+)`", &page) {
        let (file, test) = named.split_once("::").unwrap_or((&named, ""));
        let code = fs::read_to_string(root.join(file)).unwrap_or_default();
        assert!(!code.is_empty(), "there is no {file}");
        assert!(test.is_empty() || code.contains(&format!("fn {test}(")), "there is no {named}");
    }
}
