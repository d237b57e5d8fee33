//! Searches in chains of any pace, through nodes of any limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use alloy::rpc::client::ClientBuilder;
use alloy::rpc::json_rpc::{RequestPacket, ResponsePacket};
use alloy::transports::{TransportError, TransportFut};
use alloy_primitives::{Address, B256, U64, U256};
use proptest::prelude::*;
use serde_json::{Value, json};
use tower_service::Service;

use super::*;

const TOKEN: Address = Address::repeat_byte(1);
const TOPIC: B256 = B256::repeat_byte(2);

/// A node that knows only the times of blocks, and events that are in some of them.
#[derive(Clone)]
struct Model {
    times: Arc<Vec<u64>>,
    events: Arc<Vec<u64>>,
    /// Blocks it searches at a time.
    limit: u64,
    asked: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (blocks, events, limit) = (self.times.len(), &self.events, self.limit);
        write!(formatter, "{blocks} blocks, events in {events:?}, searched by {limit}")
    }
}

impl Model {
    fn answer(&self, question: &Value) -> Value {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let number = |value: &Value| serde_json::from_value::<U64>(value.clone()).unwrap().to::<u64>();
        let params = &question["params"][0];
        if question["method"] == "eth_getBlockByNumber" {
            let number = number(params);
            return json!({"result": self.block(number).map(|block| {
                json!({"number": U64::from(number), "hash": block.hash, "timestamp": U64::from(block.timestamp)})
            })});
        }
        let (first, last) = (number(&params["fromBlock"]), number(&params["toBlock"]));
        if last - first + 1 > self.limit {
            return json!({"error": {"code": -32000, "message": "block range too large"}});
        }
        let inside = self.events.iter().filter(|block| (first..=last).contains(block));
        let logs: Vec<Value> = inside
            .map(|block| {
                json!({"address": TOKEN, "topics": [TOPIC], "data": "0x", "blockNumber": U64::from(*block),
                       "transactionHash": B256::from(U256::from(*block)), "logIndex": "0x0", "removed": false})
            })
            .collect();
        json!({"result": logs})
    }

    fn block(&self, number: u64) -> Option<Block> {
        let timestamp = *self.times.get(usize::try_from(number).unwrap())?;
        Some(Block { number, hash: B256::from(U256::from(number)), timestamp })
    }

    fn latest(&self) -> Block {
        self.block(self.times.len() as u64 - 1).unwrap()
    }

    fn node(&self) -> Node {
        Node::new(ClientBuilder::default().transport(self.clone(), true))
    }
}

impl Service<RequestPacket> for Model {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), TransportError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        let question = serde_json::to_value(&packet).unwrap();
        let mut answer = self.answer(&question);
        answer["jsonrpc"] = "2.0".into();
        answer["id"] = question["id"].clone();
        Box::pin(async move { Ok(serde_json::from_str(&answer.to_string()).unwrap()) })
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Chains whose pace changes, that stop at times, and that may have several blocks a second.
fn chains() -> impl Strategy<Value = Model> {
    let stretch = (1_usize..3_000, prop_oneof![Just(0_u64), 1_u64..3, 1_u64..30, Just(100_000)]);
    (prop::collection::vec(stretch, 1..8), 1_u64..5_000, prop::collection::btree_set(0_u64..12_000, 0..20))
        .prop_map(|(stretches, limit, events)| {
            let mut times = vec![1_700_000_000_u64];
            for (blocks, pace) in stretches {
                for block in 0..blocks {
                    // A halt is one long gap.
                    let gap = if pace > 1_000 { if block == 0 { pace } else { 1 } } else { pace };
                    times.push(times.last().unwrap() + gap);
                }
            }
            Model {
                times: Arc::new(times),
                events: Arc::new(events.into_iter().collect()),
                limit,
                asked: Arc::default(),
            }
        })
}

proptest! {
    #[test]
    fn blocks_are_found_by_their_time_with_few_questions(model in chains(), place in 0.0_f64..1.1) {
        let (start, latest) = (model.times[0], model.latest());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let time = start - 10 + ((latest.timestamp - start) as f64 * place) as u64;
        let found = run(around(&model.node(), time, latest)).unwrap();
        let asked = model.asked.load(Ordering::Relaxed);
        prop_assert!(asked < 60, "{asked} questions");
        match found.before {
            Some(block) => {
                prop_assert!(block.timestamp <= time);
                prop_assert_eq!(found.first, block.number + 1);
            }
            None => prop_assert!(start > time && found.first == 0),
        }
        // Nothing of that time or before comes after the last block, unless it is the chain's last.
        let after = model.block(found.last + 1);
        prop_assert!(after.is_none_or(|block| block.timestamp > time));
        prop_assert!(found.last < found.first + NEAR);
    }

    #[test]
    fn every_event_is_found_once_whatever_the_node_allows(model in chains(), range in any::<(u16, u16)>()) {
        let latest = model.latest().number;
        let first = u64::from(range.0) % (latest + 1);
        let last = (first + u64::from(range.1)).min(latest);
        let filter = Filter { addresses: vec![TOKEN], topics: vec![vec![TOPIC]] };
        let node = model.node();
        for _ in 0..3 {
            let mut scan = Scan::new(&node, filter.clone(), first, last, usize::MAX);
            let mut found = Vec::new();
            while let Some(page) = run(scan.page()).unwrap() {
                found.extend(page.into_iter().map(|log| log.block_number));
            }
            let inside = |block: &u64| (first..=last).contains(block);
            let expected: Vec<u64> = model.events.iter().copied().filter(inside).collect();
            prop_assert_eq!(found, expected);
        }
        // Once the limit is known, hardly a question is refused.
        model.asked.store(0, Ordering::Relaxed);
        let mut scan = Scan::new(&node, filter, first, last, usize::MAX);
        while run(scan.page()).unwrap().is_some() {}
        let fewest = (last - first + 1).div_ceil(model.limit.min(SPAN_MAX));
        let asked = model.asked.load(Ordering::Relaxed) as u64;
        prop_assert!(asked <= fewest * 4 + 4, "{asked} questions instead of {fewest}");
    }
}
