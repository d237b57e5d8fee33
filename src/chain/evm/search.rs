//! Finding blocks by their time, and events in many blocks.

use std::sync::atomic::Ordering;

use super::node::{Block, Filter, Log, Node};
use crate::chain::ChainError;

/// Blocks that are searched at a time before anything is known of the node. Most providers allow
/// 10,000, some 500 or 10.
pub(super) const SPAN_FIRST: u64 = 2_000;
/// Most blocks that are searched at a time.
const SPAN_MAX: u64 = 10_000;
/// A block this near to the one that was looked for is good enough.
const NEAR: u64 = 256;
/// Questions after which a block is not found by its time.
const STEPS_MAX: usize = 100;

/// The blocks around a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Around {
    /// A block of that time or before, no further away than needed; `None`: the chain began later.
    pub(super) before: Option<Block>,
    /// The first block that may be later.
    pub(super) first: u64,
    /// A block that is later, or the latest one.
    pub(super) last: u64,
}

/// Looks for the blocks around `time`, in seconds since 1970, up to `latest`.
pub(super) async fn around(node: &Node, time: u64, latest: Block) -> Result<Around, ChainError> {
    if latest.timestamp <= time {
        return Ok(Around { before: Some(latest), first: latest.number + 1, last: latest.number });
    }
    let mut high = latest;
    let mut low: Option<Block> = None;
    let mut step = NEAR;
    for _ in 0..STEPS_MAX {
        let number = match low {
            Some(low) if high.number - low.number <= NEAR => {
                return Ok(Around { before: Some(low), first: low.number + 1, last: high.number });
            }
            Some(low) => between(low, high, time),
            None if high.number == 0 => return Ok(Around { before: None, first: 0, last: 0 }),
            None => high.number.saturating_sub(step),
        };
        let block = node.block(number).await?;
        let in_order =
            block.timestamp <= high.timestamp && low.is_none_or(|low| low.timestamp <= block.timestamp);
        if !in_order {
            return Err(ChainError::new(format!("the times of blocks {number} and around are not in order")));
        }
        if block.timestamp <= time {
            low = Some(block);
        } else {
            high = block;
            step = step.saturating_mul(2).max(distance(high, latest, time));
        }
    }
    Err(ChainError::new("the node's blocks cannot be found by their time"))
}

/// How many blocks to go back from `high` to be before `time`, at the pace since then.
fn distance(high: Block, latest: Block, time: u64) -> u64 {
    let blocks = u128::from(latest.number - high.number);
    let seconds = u128::from(latest.timestamp - high.timestamp).max(1);
    let wanted = u128::from(high.timestamp - time);
    // A tenth further, so that the next block is on the other side.
    u64::try_from(blocks * wanted * 11 / (seconds * 10)).unwrap_or(u64::MAX)
}

/// A block between two, where `time` is expected, but at least an eighth away from both ends.
fn between(low: Block, high: Block, time: u64) -> u64 {
    let width = high.number - low.number;
    let seconds = u128::from(high.timestamp - low.timestamp).max(1);
    let expected = u128::from(width) * u128::from(time - low.timestamp) / seconds;
    let expected = u64::try_from(expected).unwrap_or(width);
    low.number + expected.clamp(width / 8, width - width / 8)
}

/// A search for events in many blocks, page by page, earliest first.
pub(super) struct Scan<'a> {
    node: &'a Node,
    filter: Filter,
    next: u64,
    last: u64,
    span: u64,
    queries_left: usize,
    refused: bool,
    full_pages: bool,
}

impl<'a> Scan<'a> {
    /// A search from one block to another, both included, with so many questions at most.
    pub(super) fn new(node: &'a Node, filter: Filter, first: u64, last: u64, queries_max: usize) -> Self {
        let span = node.span.load(Ordering::Relaxed);
        Self {
            node,
            filter,
            next: first,
            last,
            span,
            queries_left: queries_max,
            refused: false,
            full_pages: false,
        }
    }

    /// The events of the next blocks, perhaps none; `None` when every block was searched.
    pub(super) async fn page(&mut self) -> Result<Option<Vec<Log>>, ChainError> {
        while self.next <= self.last {
            if self.queries_left == 0 {
                return Err(ChainError::new(format!(
                    "there are too many blocks to search, {} to {}, at {} blocks a question",
                    self.next, self.last, self.span
                )));
            }
            self.queries_left -= 1;
            let end = self.last.min(self.next.saturating_add(self.span - 1));
            match self.node.logs(&self.filter, self.next, end).await {
                Ok(logs) => {
                    self.full_pages |= end - self.next + 1 == self.span;
                    if self.refused {
                        self.node.span.store(self.span, Ordering::Relaxed);
                    }
                    self.next = end + 1;
                    return Ok(Some(logs));
                }
                Err(failure) if failure.may_be_too_much && end > self.next => {
                    self.refused = true;
                    self.span = (end - self.next).div_ceil(2);
                }
                Err(failure) => return Err(failure.error),
            }
        }
        // Nothing was refused: perhaps the node can do more.
        if self.full_pages && !self.refused {
            self.node.span.store((self.span * 2).min(SPAN_MAX), Ordering::Relaxed);
        }
        Ok(None)
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
