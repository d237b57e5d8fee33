//! What other gateways quote, as this one knows it from the notices that are up.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use alloy_primitives::B256;
use serde_json::Value;
use tokio::time::Instant;

use super::notice::{Advertised, Posting, key_of};
use crate::ledger::{LedgerError, Posted};
use crate::payment::gate::Shared;
use crate::policy::PriceList;

/// Price lists of others that are remembered at a time.
const LISTS_MAX: usize = 16;
/// Their length together, in bytes of their texts.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// Texts of listed notices that are read at a time, and parts of price lists.
const POSTINGS_AT_ONCE: usize = 200;
const PARTS_AT_ONCE: usize = 4;
/// Price lists longer than this are understood on a thread of their own, in bytes.
const LONG_BYTES: usize = 256 * 1024;

/// What other gateways quote, or did so a short while ago; those that were heard of last come first.
#[derive(Debug, Default)]
pub(in crate::payment) struct Heard {
    lists: Vec<Remembered<PriceList>>,
    values: Vec<Remembered<Advertised>>,
    /// Notices that say nothing to this gateway.
    strange: HashSet<B256>,
}

#[derive(Debug)]
struct Remembered<T> {
    key: B256,
    /// When the notice runs out.
    until: Instant,
    bytes: usize,
    said: Arc<T>,
}

impl<T> Remembered<T> {
    fn until(&self, until: Instant) -> Self {
        let Self { key, bytes, said, .. } = self;
        Self { key: *key, until, bytes: *bytes, said: Arc::clone(said) }
    }
}

fn up<T>(remembered: &[Remembered<T>]) -> impl Iterator<Item = &T> {
    let now = Instant::now();
    remembered.iter().filter(move |one| one.until > now).map(|one| one.said.as_ref())
}

fn find<T>(remembered: &[Remembered<T>], key: B256) -> Option<&Remembered<T>> {
    remembered.iter().find(|one| one.key == key)
}

impl Heard {
    /// Price lists whose quotes are to be honoured now.
    pub(in crate::payment) fn lists(&self) -> impl Iterator<Item = &PriceList> {
        up(&self.lists)
    }

    /// Whether anything is known of what facilitators advertised to others.
    pub(in crate::payment) fn has_values(&self) -> bool {
        up(&self.values).next().is_some()
    }

    /// What a facilitator advertised to others for a member of `extra`.
    pub(in crate::payment) fn values(
        &self,
        facilitator: &str,
        scheme: &str,
        network: &str,
        member: &str,
    ) -> Vec<Value> {
        let is_meant = |said: &&Advertised| {
            said.facilitator == facilitator
                && said.scheme == scheme
                && said.network.as_str() == network
                && said.member == member
        };
        up(&self.values).filter(is_meant).map(|said| said.value.clone()).collect()
    }

    fn knows(&self, key: B256) -> bool {
        find(&self.lists, key).is_some() || find(&self.values, key).is_some() || self.strange.contains(&key)
    }

    /// Whether there is room for another price list.
    fn has_room(&self) -> bool {
        let bytes: usize = self.lists.iter().map(|list| list.bytes).sum();
        self.lists.len() < LISTS_MAX && bytes < BYTES_MAX
    }
}

impl Shared {
    /// Reads which notices are up, and what those say that are new.
    pub(super) async fn read_notices(&self, began: Instant) -> Result<(), LedgerError> {
        let mine: HashSet<B256> = self.quoted_keys().into_iter().collect();
        let mut posted = self.ledger.notices(self.clock.now()).await?;
        posted.retain(|posted| !mine.contains(&posted.key));
        let before = self.quotes.heard.load_full();
        let new: Vec<B256> =
            posted.iter().map(|posted| posted.key).filter(|key| !before.knows(*key)).collect();
        let texts = self.read_texts(&new, POSTINGS_AT_ONCE).await?;
        let mut heard = Heard::default();
        for Posted { key, lifetime } in posted {
            // A notice is never believed for longer than it is up: this was before its rest was told.
            let until = began + lifetime;
            if let Some(list) = find(&before.lists, key) {
                heard.lists.push(list.until(until));
            } else if let Some(value) = find(&before.values, key) {
                heard.values.push(value.until(until));
            } else if before.strange.contains(&key) {
                heard.strange.insert(key);
            } else if let Some(text) = texts.get(&key) {
                self.take_in(&mut heard, key, until, text).await?;
            }
        }
        self.quotes.heard.store(Arc::new(heard));
        Ok(())
    }

    async fn take_in(
        &self,
        heard: &mut Heard,
        key: B256,
        until: Instant,
        text: &str,
    ) -> Result<(), LedgerError> {
        match Posting::read(text) {
            Some(Posting::Advertised(said)) => {
                heard.values.push(Remembered { key, until, bytes: text.len(), said: Arc::new(said) });
            }
            Some(Posting::Prices(parts)) if heard.has_room() => {
                let texts = self.read_texts(&parts, PARTS_AT_ONCE).await?;
                let whole: Option<String> =
                    parts.iter().map(|part| texts.get(part).map(String::as_str)).collect();
                // One whose parts are not all there yet is read again the next time.
                let Some(whole) = whole else { return Ok(()) };
                let bytes = whole.len();
                match understand(whole).await {
                    Ok(list) => {
                        heard.lists.push(Remembered { key, until, bytes, said: Arc::new(list) });
                    }
                    Err(cause) => {
                        tracing::warn!(
                            cause,
                            "what another gateway quotes is not understood, and not honoured"
                        );
                        heard.strange.insert(key);
                    }
                }
            }
            Some(Posting::Prices(_)) => {
                tracing::warn!("there are too many different price lists; one is not honoured here");
                heard.strange.insert(key);
            }
            None => {
                heard.strange.insert(key);
            }
        }
        Ok(())
    }

    /// What notices say, by key; those that are not up are left out, and texts that are not their own.
    async fn read_texts(&self, keys: &[B256], at_once: usize) -> Result<HashMap<B256, String>, LedgerError> {
        let mut texts = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(at_once) {
            let found = self.ledger.texts(keys, self.clock.now()).await?;
            texts.extend(found.into_iter().filter(|(key, text)| *key == key_of(text)));
        }
        Ok(texts)
    }
}

async fn understand(text: String) -> Result<PriceList, String> {
    let read = |text: &str| PriceList::read(text).map_err(|error| error.to_string());
    if text.len() < LONG_BYTES {
        return read(&text);
    }
    let task = tokio::task::spawn_blocking(move || read(&text));
    task.await.unwrap_or_else(|lost| Err(lost.to_string()))
}
