//! Scripts in the middle of a path: what follows one is an argument to it, `PATH_INFO` (RFC 3875 §4.1.5).
//!
//! Apache, PHP-FPM, CGI, IIS and servlet containers run `/a.php` for `/a.php/x`. Whether an origin does
//! cannot be seen from outside, so the script's own route has a say: what would be cheaper than the
//! script itself is refused, unless a route says in so many words what follows the script.

use super::glob::Rank;
use super::pattern::PathPattern;
use super::readings::Reading;

/// A path that leads through more scripts than this is refused: no honest one does, and each costs a
/// lookup.
pub(super) const SCRIPTS_MAX: usize = 4;

/// Extensions that web servers run, in their usual configurations and those of the languages' manuals.
/// In alphabetical order.
const EXTENSIONS: &[&str] = &[
    "action", "adp", "ashx", "asmx", "asp", "aspx", "axd", "bat", "cfc", "cfm", "cfml", "cgi", "cmd",
    "cshtml", "dll", "do", "esp", "exe", "fcgi", "fpl", "hh", "jhtml", "jsf", "jsp", "jspx", "lasso", "lua",
    "nsf", "pcgi", "phar", "php", "php3", "php4", "php5", "php7", "php8", "pht", "phtml", "pl", "psp", "py",
    "rb", "scgi", "sh", "shtm", "shtml", "ssjs", "stm", "svc", "tcl", "vbhtml", "wsgi", "xsp",
];

/// A script that a path leads through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Script<'a> {
    /// The path up to and with the script's name.
    pub(super) path: Reading<'a>,
    /// Segments of that path.
    pub(super) depth: usize,
}

/// The scripts that a path leads through: segments with something behind them that look like the name
/// of a script in any letter case.
pub(super) fn within(path: Reading<'_>) -> impl Iterator<Item = Script<'_>> {
    // Folding adds and takes no slashes, so both texts have the same segments.
    let ends = slashes(path.text).zip(slashes(path.folded));
    let starts = std::iter::once(0).chain(slashes(path.folded));
    starts.zip(ends).enumerate().filter_map(move |(number, (start, (end, folded_end)))| {
        let script = Reading { text: &path.text[..end], folded: &path.folded[..folded_end] };
        let followed = end + 1 < path.text.len();
        let found = followed && is_script(&path.folded[start..folded_end]);
        found.then_some(Script { path: script, depth: number + 1 })
    })
}

/// Whether the name of a segment, in folded case, looks like that of a script. Any of several
/// extensions will do: Apache runs `a.php.en`, too.
pub(super) fn is_script(name: &str) -> bool {
    name.split('.').skip(1).any(|extension| EXTENSIONS.binary_search(&extension).is_ok())
}

/// Whether a pattern tells what follows a script of so many segments at least as clearly as another
/// one tells the script. Where that one stops at a `**` before the script, or is none, the script must
/// be there by name.
pub(super) fn tells(whole: &PathPattern, script: &PathPattern, depth: usize) -> bool {
    let PathPattern::Glob(whole) = whole else { return false };
    let whole = whole.specificity();
    let Some(way) = until_script(&whole, depth) else { return false };
    let script = match script {
        PathPattern::Glob(glob) => glob.specificity(),
        PathPattern::Any | PathPattern::Regex(_) => Vec::new(),
    };
    let goes_on = whole.len() > depth;
    goes_on
        && match until_script(&script, depth) {
            Some(known) => way.iter().zip(known).all(|(one, other)| one >= other),
            None => way.last() == Some(&Rank::Literal),
        }
}

/// The ranks of so many segments, if they are so many segments for sure.
fn until_script(ranks: &[Rank], depth: usize) -> Option<&[Rank]> {
    ranks.get(..depth).filter(|ranks| !ranks.contains(&Rank::Many))
}

/// Where slashes are, without the leading one.
fn slashes(text: &str) -> impl Iterator<Item = usize> {
    text.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'/').map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scripts(text: &str) -> Vec<(String, usize)> {
        let folded = super::super::text::fold(text);
        let path = Reading { text, folded: folded.as_deref().unwrap_or(text) };
        within(path).map(|script| (script.path.text.to_owned(), script.depth)).collect()
    }

    #[test]
    fn a_script_is_a_name_with_an_extension_that_servers_run_and_something_behind_it() {
        for (path, expected) in [
            ("/a.php/x", vec![("/a.php", 1)]),
            ("/A.PhP/x", vec![("/A.PhP", 1)]),
            ("/caf\u{130}/A.\u{FF30}HP/x", vec![("/caf\u{130}/A.\u{FF30}HP", 2)]),
            ("/b/a.cgi/x/y", vec![("/b/a.cgi", 2)]),
            ("/.php/x", vec![("/.php", 1)]),
            ("/a.php.en/x", vec![("/a.php.en", 1)]),
            ("//a.php//", vec![("//a.php", 2)]),
            ("/a.php/b.jsp/c.pl", vec![("/a.php", 1), ("/a.php/b.jsp", 2)]),
            ("/a.php", vec![]),
            ("/a.php/", vec![]),
            ("/php/x", vec![]),
            ("/a.html/x", vec![]),
            ("/v1.2/x", vec![]),
            ("/a.phpx/x", vec![]),
            ("/", vec![]),
        ] {
            let expected: Vec<_> =
                expected.into_iter().map(|(text, depth)| (text.to_owned(), depth)).collect();
            assert_eq!(scripts(path), expected, "{path}");
        }
    }

    #[test]
    fn the_extensions_are_in_order_so_that_they_are_found() {
        assert!(EXTENSIONS.is_sorted());
        assert!(EXTENSIONS.iter().all(|extension| is_script(&format!("a.{extension}"))));
    }

    #[test]
    fn a_pattern_tells_what_follows_a_script_when_it_goes_on_where_the_other_one_ends() {
        let pattern = |text: &str| PathPattern::parse(text).unwrap();
        for (whole, script, depth, expected) in [
            ("/a.php/x", "/a.php", 1, true),
            ("/a.php/**", "/a.php", 1, true),
            ("/a.php/*", "/*.php", 1, true),
            ("/a.php/x", "/**", 1, true),
            ("/a.php/public/*", "/a.php/**", 1, true),
            ("/{site}/a.php/x", "/**", 2, true),
            ("/files/{name}/preview", "/files/{name}", 2, true),
            ("/*.php/x", "/a.php", 1, false),
            ("/*.php/x", "/**", 1, false),
            ("/*/x", "/*.php", 1, false),
            ("/*/x", "/**", 1, false),
            ("/**/x", "/**", 1, false),
            ("/**", "/a.php", 1, false),
            ("/files/**", "/files/{name}", 2, false),
            ("/*/a.php/x", "/b/a.php", 2, false),
            ("/a.php", "/a.php", 1, false),
        ] {
            assert_eq!(tells(&pattern(whole), &pattern(script), depth), expected, "{whole} after {script}");
        }
        let regex = PathPattern::regex("/a\\.php/x").unwrap();
        assert!(!tells(&regex, &pattern("/a.php"), 1) && !tells(&PathPattern::Any, &pattern("/a.php"), 1));
        assert!(tells(&pattern("/a.php/x"), &regex, 1) && tells(&pattern("/a.php/x"), &PathPattern::Any, 1));
    }
}
