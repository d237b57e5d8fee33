//! Routes from several files.

use std::path::Path;

use super::super::{Config, Loaded, load};
use super::{BASE, rendered};

/// A folder with these files, of which the first is the configuration.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn loaded(folder: &Path) -> Loaded {
    load(&folder.join("gateway.toml"))
}

fn names(config: &Config) -> Vec<String> {
    config.routes.routes().map(|route| route.name.clone()).collect()
}

/// What is said of the files, without the folder's name.
fn said(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let (Ok((_, diagnostics)) | Err(diagnostics)) = loaded(folder.path());
    rendered(&diagnostics).replace(&format!("{}/", folder.path().display()), "")
}

fn route(name: &str, path: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\npath = \"{path}\"\nprice = \"$0.01\"\n")
}

#[test]
fn routes_of_included_files_come_behind_the_others_in_the_order_of_the_names() {
    let main = format!("include = \"routes.d/*.toml\"\n{BASE}{}", route("main", "/main"));
    let folder = folder(&[
        ("gateway.toml", &main),
        ("routes.d/20-b.toml", &route("b", "/b")),
        ("routes.d/10-a.toml", &(route("a", "/a") + &route("a2", "/a2"))),
        ("routes.d/notes.txt", "no configuration"),
    ]);
    let (config, warnings) = loaded(folder.path()).unwrap();
    assert_eq!((names(&config), warnings.len()), (["main", "a", "a2", "b"].map(String::from).to_vec(), 0));
    // The terms of the whole file are theirs.
    assert!(config.routes.routes().all(|route| route.offer().is_some()));
    let files: Vec<_> = config.files.iter().map(|file| file.strip_prefix(folder.path()).unwrap()).collect();
    assert_eq!(files, ["routes.d", "routes.d/10-a.toml", "routes.d/20-b.toml"].map(Path::new));
}

#[test]
fn mistakes_are_told_where_they_stand() {
    let main = format!("include = [\"a.toml\", \"b.toml\"]\n{BASE}{}", route("same", "/x"));
    let shown = said(&[
        ("gateway.toml", &main),
        ("a.toml", &route("same", "/a")),
        ("b.toml", "upstream = \"demo\"\n[[routes]]\npath = \"/b\"\nprise = 1\n"),
    ]);
    for expected in [
        "another route is named \"same\"\n --> a.toml:2:8\n",
        "unknown key `upstream` in an included file\n --> b.toml:1:1\n",
        "which has [[routes]] alone\n",
        "unknown key `prise` in [[routes]]\n --> b.toml:4:1\n",
    ] {
        let flat = shown.replace("  -->", " -->");
        assert!(flat.contains(expected), "{expected}\n--- is not in ---\n{flat}");
    }
    assert!(
        said(&[("gateway.toml", &main), ("a.toml", "x")])
            .contains("cannot read b.toml: there is no such file")
    );
}

#[test]
fn a_route_that_another_file_hides_is_told_of_both() {
    let main = format!("include = \"a.toml\"\n{BASE}{}", route("main", "/x"));
    let shown = said(&[("gateway.toml", &main), ("a.toml", &route("other", "/x"))]);
    assert!(shown.contains("can never match: routes[0] in line 6 of gateway.toml takes all"), "{shown}");
}

#[test]
fn a_pattern_that_no_file_matches_is_doubtful_and_no_mistake() {
    let main = format!("include = \"routes.d/*.toml\"\n{BASE}");
    assert!(said(&[("gateway.toml", &main)]).starts_with("warning: include: no file matches\n"));
    for wrong in ["**/*.toml", "routes.*/a.toml", "[.toml"] {
        let main = format!("include = \"{wrong}\"\n{BASE}");
        assert!(
            said(&[("gateway.toml", &main)]).starts_with("error: include: is not a pattern of file names\n")
        );
    }
    assert!(
        said(&[("gateway.toml", &format!("include = \"/dev/null\"\n{BASE}"))])
            .contains("/dev/null is no file")
    );
    let nested = format!("include = \"a.toml\"\n{BASE}");
    let shown = said(&[("gateway.toml", &nested), ("a.toml", "include = \"b.toml\"\n")]);
    assert!(shown.contains("unknown key `include` in an included file"), "{shown}");
}
