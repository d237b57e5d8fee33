//! "Did you mean": the known name closest to a misspelt one.

/// The candidate closest to `name`, if one is close enough to be meant.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = fold(name);
    // Of one or two letters hardly any are left when one is wrong.
    let allowed = if wanted.len() < 3 { 0 } else { wanted.len().div_ceil(4).min(3) };
    candidates
        .into_iter()
        .map(|candidate| (distance(&wanted, &fold(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The names as a sentence part: `a, b and c`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        None => String::new(),
        Some((only, [])) => (*only).to_owned(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

// Case and the choice between `-` and `_` are the commonest slips; they count for nothing. Longer
// names than any of ours are cut, so that the work stays small.
fn fold(name: &str) -> Vec<char> {
    name.chars()
        .take(64)
        .map(|character| if character == '-' { '_' } else { character.to_ascii_lowercase() })
        .collect()
}

/// Optimal string alignment distance: insertions, deletions, replacements and swapped neighbours.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=other.len()).collect();
    for (row, left) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in other.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX - 1);
            let replaced = at(&previous, column) + usize::from(left != right);
            let mut best = replaced.min(at(&previous, column + 1) + 1).min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && one.get(row - 1) == Some(right)
                && other.get(column - 1) == Some(left);
            if swapped {
                best = best.min(at(&before, column - 1) + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["upstream", "facilitator", "pay_to", "networks", "price"];
        for (written, meant) in [
            ("uptream", Some("upstream")),
            ("upstraem", Some("upstream")),
            ("payto", Some("pay_to")),
            ("Pay-To", Some("pay_to")),
            ("prize", Some("price")),
            ("facilitater", Some("facilitator")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, keys), meant, "{written}");
        }
    }

    #[test]
    fn names_are_listed_as_in_a_sentence() {
        assert_eq!(
            (list([]), list(["a"]), list(["a", "b", "c"])),
            (String::new(), "a".into(), "a, b and c".into())
        );
    }
}
