//! A tree of patterns: finds the best of many with a walk along the path's segments.

use std::collections::HashMap;

use super::glob::{self, Glob, Partial, Segment};

/// Patterns by their segments, letter case folded.
///
/// A walk visits the nodes whose segments fit, not the patterns: with 100,000 literal patterns it
/// makes one hash lookup per segment. It allocates only when a pattern with `**` in its middle is met.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    literals: HashMap<Box<str>, usize>,
    partials: Partials,
    one: Option<usize>,
    many: Option<usize>,
    /// Routes whose pattern ends here, by rank.
    ends: Vec<End>,
    /// The best rank here and below.
    best: usize,
}

#[derive(Debug, Clone, Copy)]
struct End {
    /// Position among all patterns of the tree: the smaller wins.
    rank: usize,
    route: usize,
}

/// Segments with stars, by prefix and then suffix, so that `*.pdf` among a thousand is found without
/// looking at the others.
#[derive(Debug, Default)]
struct Partials {
    by_prefix: ByAffix<ByAffix<Vec<(Partial, usize)>>>,
}

#[derive(Debug)]
struct ByAffix<T> {
    values: HashMap<Box<str>, T>,
    /// Distinct lengths of the keys.
    lengths: Vec<usize>,
}

impl<T> Default for ByAffix<T> {
    fn default() -> Self {
        Self { values: HashMap::new(), lengths: Vec::new() }
    }
}

/// The state of a walk.
struct Walk<F> {
    accept: F,
    best: usize,
    found: Option<usize>,
    /// `**` nodes whose followers were tried at every segment; later visits can find nothing new.
    exhausted: Vec<usize>,
}

impl Tree {
    /// Builds a tree of folded patterns and their routes, the best first.
    pub(super) fn new(patterns: impl Iterator<Item = (Glob, usize)>) -> Self {
        let mut tree = Self { nodes: vec![Node::default()] };
        for (rank, (pattern, route)) in patterns.enumerate() {
            let mut at = 0;
            tree.nodes[at].best = tree.nodes[at].best.min(rank);
            for segment in &pattern.segments {
                at = tree.child(at, segment);
                tree.nodes[at].best = tree.nodes[at].best.min(rank);
            }
            tree.nodes[at].ends.push(End { rank, route });
        }
        tree
    }

    /// The route of the best pattern that fits a folded path and is accepted.
    pub(super) fn find(&self, folded: &str, accept: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut walk = Walk { accept, best: usize::MAX, found: None, exhausted: Vec::new() };
        self.visit(0, glob::body(folded), &mut walk);
        walk.found
    }

    fn child(&mut self, at: usize, segment: &Segment) -> usize {
        let new = self.nodes.len();
        let node = &mut self.nodes[at];
        let child = match segment {
            Segment::Literal(literal) => *node.literals.entry(literal.as_str().into()).or_insert(new),
            Segment::Partial(partial) => node.partials.child(partial, new),
            Segment::One => *node.one.get_or_insert(new),
            Segment::Many => *node.many.get_or_insert(new),
        };
        if child == new {
            self.nodes.push(Node::default());
        }
        child
    }

    fn visit<F: FnMut(usize) -> bool>(&self, at: usize, rest: Option<&str>, walk: &mut Walk<F>) {
        let node = &self.nodes[at];
        if node.best >= walk.best {
            return;
        }
        match rest {
            None => walk.offer(&node.ends),
            Some(body) => self.visit_children(node, body, walk),
        }
        if let Some(many) = node.many {
            self.visit_many(many, rest, walk);
        }
    }

    fn visit_children<F: FnMut(usize) -> bool>(&self, node: &Node, body: &str, walk: &mut Walk<F>) {
        let (name, rest) = glob::first_segment(body);
        if let Some(&child) = node.literals.get(name) {
            self.visit(child, rest, walk);
        }
        node.partials.each(name, |child| self.visit(child, rest, walk));
        if let Some(child) = node.one {
            self.visit(child, rest, walk);
        }
    }

    /// Visits a `**`, which takes none, one, two … of the remaining segments.
    ///
    /// Outer `**` take few segments first, so the first visit to a node is the one with the most
    /// segments left, and it tries all that later ones could. That keeps a walk linear in the path
    /// for each node, whatever the patterns.
    fn visit_many<F: FnMut(usize) -> bool>(&self, at: usize, rest: Option<&str>, walk: &mut Walk<F>) {
        let node = &self.nodes[at];
        if node.best >= walk.best {
            return;
        }
        walk.offer(&node.ends);
        if !node.has_children() || walk.exhausted.contains(&at) {
            return;
        }
        walk.exhausted.push(at);
        let mut rest = rest;
        while let Some(body) = rest {
            self.visit_children(node, body, walk);
            rest = glob::first_segment(body).1;
        }
    }
}

impl Default for Node {
    fn default() -> Self {
        Self {
            literals: HashMap::new(),
            partials: Partials::default(),
            one: None,
            many: None,
            ends: Vec::new(),
            best: usize::MAX,
        }
    }
}

impl Node {
    fn has_children(&self) -> bool {
        !self.literals.is_empty() || !self.partials.by_prefix.values.is_empty() || self.one.is_some()
    }
}

impl<F: FnMut(usize) -> bool> Walk<F> {
    fn offer(&mut self, ends: &[End]) {
        for end in ends {
            if end.rank >= self.best {
                return;
            }
            if (self.accept)(end.route) {
                self.best = end.rank;
                self.found = Some(end.route);
                return;
            }
        }
    }
}

impl Partials {
    fn child(&mut self, partial: &Partial, new: usize) -> usize {
        let same = self.by_prefix.entry(&partial.prefix).entry(&partial.suffix);
        if let Some((_, child)) = same.iter().find(|(known, _)| known == partial) {
            return *child;
        }
        same.push((partial.clone(), new));
        new
    }

    fn each(&self, name: &str, mut visit: impl FnMut(usize)) {
        for by_suffix in self.by_prefix.matching(|length| name.get(..length)) {
            for same in by_suffix.matching(|length| name.get(name.len().checked_sub(length)?..)) {
                for (partial, child) in same {
                    if partial.matches(name) {
                        visit(*child);
                    }
                }
            }
        }
    }
}

impl<T: Default> ByAffix<T> {
    fn entry(&mut self, affix: &str) -> &mut T {
        if !self.lengths.contains(&affix.len()) {
            self.lengths.push(affix.len());
        }
        self.values.entry(affix.into()).or_default()
    }

    /// The values of all keys that `cut`, which takes the key's length off the name, gives back.
    fn matching<'n>(&self, cut: impl Fn(usize) -> Option<&'n str>) -> impl Iterator<Item = &T> {
        self.lengths.iter().filter_map(move |length| self.values.get(cut(*length)?))
    }
}
