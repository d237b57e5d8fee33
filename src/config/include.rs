//! `include`: files with more routes, so that each team can own its own.

use std::path::{Path, PathBuf};

use super::walk::{Node, Section};

/// Most files that one configuration may include.
const FILES_MAX: usize = 1_000;
/// What makes a path a pattern.
const WILDCARDS: [char; 3] = ['*', '?', '['];

/// A file that is included.
#[derive(Debug)]
pub(super) struct Included {
    /// Its path, as messages call it.
    pub(super) name: String,
    pub(super) text: String,
}

/// Reads the files that the configuration includes, each once: in the order written, and of a pattern in
/// the order of their names.
pub(super) fn read(top: &Section<'_>) -> Vec<Included> {
    let Some(node) = top.get("include") else { return Vec::new() };
    let mut paths: Vec<PathBuf> = Vec::new();
    for item in node.one_or_many() {
        for path in matching(&item).unwrap_or_default() {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    if paths.len() > FILES_MAX {
        node.error(
            format!("names {} files, more than {FILES_MAX}", paths.len()),
            "put several routes into each",
        );
        paths.clear();
    }
    paths.into_iter().filter_map(|path| included(&node, &path)).collect()
}

/// The files of a path or pattern.
fn matching(node: &Node<'_>) -> Option<Vec<PathBuf>> {
    let text = node.text()?;
    if !text.contains(WILDCARDS) {
        return node.file().map(|path| vec![path]);
    }
    let pattern = node.report().source().resolve(text);
    // Whole trees are not searched.
    let is_of_names =
        !Path::new(text).parent().is_some_and(|folder| folder.to_string_lossy().contains(WILDCARDS));
    let found = pattern.to_str().filter(|_| is_of_names).and_then(|pattern| glob::glob(pattern).ok());
    let Some(found) = found else {
        node.error("is not a pattern of file names", "write it like \"routes.d/*.toml\"");
        return None;
    };
    // A file that is added later is noticed by its folder.
    if let Some(folder) = pattern.parent().filter(|folder| folder.is_dir()) {
        node.report().rests_on(folder);
    }
    let mut paths = Vec::new();
    for path in found {
        match path {
            Ok(path) if !path.is_file() => {}
            Ok(path) => {
                node.report().rests_on(&path);
                paths.push(path);
            }
            Err(error) => {
                let help = "make it readable for the user the gateway runs as";
                node.error(
                    format!("cannot read {}: {}", error.path().display(), super::io_error(error.error())),
                    help,
                );
            }
        }
    }
    if paths.is_empty() {
        node.warning("no file matches", "relative paths start at the folder of the configuration file");
    }
    Some(paths)
}

fn included(node: &Node<'_>, path: &Path) -> Option<Included> {
    if !path.is_file() {
        node.error(
            format!("{} is no file", path.display()),
            "name a file, or a pattern like \"routes.d/*.toml\"",
        );
        return None;
    }
    match super::read(path) {
        Ok(text) => Some(Included { name: path.display().to_string(), text }),
        Err(error) => {
            node.error(error.message, "an included file is like this one, with [[routes]] alone");
            None
        }
    }
}
