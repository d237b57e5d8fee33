//! What an x402 gateway must do, as numbered statements, and where each is tested: a test says
//! `Compliance 37.` in the comment above it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What this version promises. Numbers that are missing belong to later versions.
const PROMISED: &[(u32, &str)] = &[
    (1, "an unpaid request to a priced route is a 402 whose PAYMENT-REQUIRED decodes to version 2"),
    (2, "that header is standard base64 in one piece"),
    (3, "the same answer's body is v1 JSON where v1 can express the offer, and {} elsewhere"),
    (4, "the v1 body has every member that strict clients need, and no null"),
    (5, "the v1 body has one entry a network, by default only of networks that all clients know"),
    (6, "v2 entries have the specification's members alone"),
    (7, "a 402 is not stored"),
    (8, "the published clients of both generations pay against the same 402"),
    (9, "a payment is answered in its own generation"),
    (10, "a payment that cannot be read is a 402, and the origin is not asked"),
    (11, "a version that contradicts the header is refused"),
    (12, "two payments in one request are a 400"),
    (13, "a payment header has a size limit"),
    (14, "padding is optional, and no spelling makes a second payment"),
    (15, "header names in any case, HTTP/1.1 and HTTP/2"),
    (16, "a preflight is not charged and allows payments"),
    (17, "answers expose the payment headers to web pages"),
    (18, "altered terms are refused"),
    (19, "added members of `extra` are tolerated, changed ones are not"),
    (20, "an empty or missing `extra` matches an offer without one"),
    (21, "letter case of hex addresses does not matter"),
    (22, "a fee payer that was advertised before or elsewhere is accepted"),
    (23, "the facilitator is asked with what the client accepted"),
    (24, "prices are exact, and impossible ones are mistakes of the configuration"),
    (25, "terms come from the configuration, never from the client"),
    (26, "an altered echo of an extension is refused, a missing one is not"),
    (27, "the facilitator is spoken to in the payment's generation, or its own"),
    (28, "CDP tokens are right and fresh for each call"),
    (29, "a facilitator's no is told with its reason"),
    (30, "its body counts on any status and in every dialect"),
    (31, "without a usable answer nothing is released"),
    (32, "a settlement that failed releases nothing"),
    (33, "a pending settlement is asked about exactly once"),
    (34, "an unknown outcome keeps the payment, and is no new purchase"),
    (35, "a facilitator that is away at start closes priced routes until it is back"),
    (36, "redirects to another host are not followed"),
    (37, "nothing of the origin's answer gets out before settlement"),
    (38, "an origin's failure is passed on and not charged"),
    (39, "a failed settlement is a 402 with its receipt, and the content is gone"),
    (40, "paid answers are kept out of shared caches"),
    (41, "paid in advance: settled before the origin is asked, the receipt on every answer"),
    (42, "bodies of any size stream in constant memory"),
    (43, "a client that leaves before settlement is not charged"),
    (44, "HEAD is gated like GET"),
    (45, "412 is never the answer to an unpaid request"),
    (46, "origins see neither payments nor forged gateway headers"),
    (47, "clients see neither internal headers nor forged receipts"),
    (54, "a payment that ends too soon is refused before the origin is asked"),
    (55, "no spelling of a priced path is free"),
    (56, "the path that was matched is the path that is forwarded"),
    (57, "foreign hosts and override headers change nothing"),
    (58, "what cannot be judged is not let through"),
    (59, "browsers get a page, everybody else JSON"),
    (60, "after a payment that failed browsers get JSON too"),
    (61, "nothing in an offer breaks out of the page"),
    (62, "what the page sends buys the page"),
];

/// Statements that no test can show yet, or only in part, and why.
const LATER: &[(u32, &str)] = &[(
    45,
    "412 is never the answer to an unpaid request because this version has no answer 412 at all: the statement \
     is about a payer's missing Permit2 allowance, which is refused with 402 until gas sponsoring is offered",
)];

/// Numbers behind `Compliance` at the start of a comment: `Compliance 37, 43.` gives both.
fn numbers(text: &str) -> Vec<u32> {
    let comments = text.lines().filter_map(|line| line.trim_start().strip_prefix("//"));
    let lists =
        comments.filter_map(|text| text.trim_start_matches('/').trim_start().strip_prefix("Compliance "));
    let number = |text: &str| text.trim_end_matches(['.', ':', ',']).parse().ok();
    lists.flat_map(|list| list.split_whitespace().map_while(number)).collect()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_source = path.extension().is_some_and(|extension| extension == "rs" || extension == "mjs");
        if path.is_dir() && name != "node_modules" && !name.starts_with('.') {
            files(&path, found);
        } else if is_source {
            found.push(path);
        }
    }
}

#[test]
fn every_promised_statement_is_tested_or_stands_in_the_list_of_what_comes_later() {
    let mut sources = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut sources);
    let covered: BTreeSet<u32> =
        sources.iter().flat_map(|path| numbers(&std::fs::read_to_string(path).unwrap())).collect();
    let later: BTreeSet<u32> = LATER.iter().map(|(number, _)| *number).collect();
    let promised: BTreeSet<u32> = PROMISED.iter().map(|(number, _)| *number).collect();
    let missing: Vec<_> =
        promised.iter().filter(|number| !covered.contains(number) && !later.contains(number)).collect();
    assert!(missing.is_empty(), "neither tested nor explained: {missing:?}");
    let both: Vec<_> = later.intersection(&covered).collect();
    assert!(both.is_empty(), "tested, so no longer to be explained: {both:?}");
    assert!(LATER.iter().all(|(_, reason)| reason.len() > 40));
}

#[test]
fn comments_are_read_as_they_are_written() {
    assert_eq!(numbers("/// Compliance 37, 43.\n    // Compliance 8: the published clients"), [37, 43, 8]);
    assert_eq!(numbers("/// Compliance 22, and 7 as far as it goes"), [22]);
    assert_eq!(numbers("let x = \"Compliance 1\"; // no Compliance 2"), Vec::<u32>::new());
}
