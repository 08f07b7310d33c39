//! What the strategies of all pools have learnt, as the file `learnt.json` of the state directory.
//!
//! Invariants: a file is made on the builder, because the strategies in charge are asked for their state. A state that
//! would make the file larger than [`SAVED_MAX_BYTES`] is left out, and the log says so. Backends are named, so that a
//! start with other backends takes what fits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lb_strategy_host::{Slot, Strategy};
use serde::{Deserialize, Serialize};

use super::memory::{Learnt, Memory, Slots};

/// A larger file is not written.
const SAVED_MAX_BYTES: usize = 64 << 20;

/// The content of the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::control) struct Saved {
    /// By name of the pool.
    pools: BTreeMap<String, Vec<SavedState>>,
}

/// What one schema has learnt.
#[derive(Debug, Serialize, Deserialize)]
struct SavedState {
    schema: String,
    version: u32,
    /// The exported bytes in base64.
    bytes: String,
    /// The words of each backend with a word that is not 0.
    slots: BTreeMap<String, [u64; 8]>,
}

/// A pool whose state is to be saved.
pub(in crate::control) struct Learning {
    pub(super) pool: Arc<str>,
    pub(super) strategy: Arc<Strategy>,
    pub(super) slots: Slots,
    pub(super) memory: Memory,
}

/// The file's text. Calls into plugins.
pub(in crate::control) fn saved_text(pools: Vec<Learning>) -> Result<String, serde_json::Error> {
    let mut saved = Saved::default();
    let mut bytes = 0;
    for learning in pools {
        let pool = learning.pool.clone();
        for learnt in learning.finish() {
            let state = SavedState::of(&learnt);
            bytes += state.bytes.len();
            if bytes > SAVED_MAX_BYTES {
                bytes -= state.bytes.len();
                tracing::warn!(pool = %pool, schema = learnt.schema(), "the strategy's state is too large to be kept");
                continue;
            }
            saved.pools.entry(pool.to_string()).or_default().push(state);
        }
    }
    serde_json::to_string(&saved)
}

// === impl Saved ===

impl Saved {
    pub(in crate::control) fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// What the pool's strategies had learnt.
    pub(super) fn take(&mut self, pool: &str) -> Result<Memory, String> {
        let mut memory = Memory::default();
        for state in self.pools.remove(pool).unwrap_or_default() {
            memory.remember(state.learnt().map_err(|error| format!("its bytes are not base64: {error}"))?);
        }
        Ok(memory)
    }
}

// === impl SavedState ===

impl SavedState {
    fn of(learnt: &Learnt) -> Self {
        let words = |slot: &Arc<Slot>| slot.words().each_ref().map(|word| word.load(Relaxed));
        let slots = learnt.slots.iter().map(|(backend, slot)| (backend.to_string(), words(slot)));
        Self {
            schema: learnt.schema().to_owned(),
            version: learnt.version,
            bytes: BASE64_STANDARD.encode(&learnt.bytes),
            slots: slots.filter(|(_, words)| *words != [0; 8]).collect(),
        }
    }

    fn learnt(self) -> Result<Learnt, base64::DecodeError> {
        let bytes = BASE64_STANDARD.decode(self.bytes)?;
        let slot = |words: [u64; 8]| {
            let slot = Arc::<Slot>::default();
            slot.words().iter().zip(words).for_each(|(word, value)| word.store(value, Relaxed));
            slot
        };
        let slots = self.slots.into_iter().map(|(backend, words)| (backend.into(), slot(words))).collect();
        Ok(Learnt::new((&self.schema, self.version), bytes, slots))
    }
}

// === impl Learning ===

impl Learning {
    /// Asks the strategy for its state, and adds what earlier ones have left.
    fn finish(self) -> Vec<Learnt> {
        let Self { pool, strategy, slots, mut memory } = self;
        if let Some(schema) = strategy.plugin().state_schema() {
            match strategy.export_state().unwrap_or(Ok(Vec::new())) {
                Ok(bytes) => memory.remember(Learnt::new(schema, bytes, slots)),
                Err(error) => tracing::warn!(%pool, "the state of the strategy is not kept: {error}"),
            }
        }
        memory.into_states()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_brings_back_bytes_and_words_and_leaves_out_words_that_are_0() {
        let slot = Arc::<Slot>::default();
        slot.words()[7].store(u64::MAX, Relaxed);
        let slots: Slots = [("b1".into(), slot), ("b2".into(), Arc::default())].into_iter().collect();
        let state = SavedState::of(&Learnt::new(("s", 3), vec![0, 255], slots));
        let text = serde_json::to_string(&Saved { pools: [("p".to_owned(), vec![state])].into() }).unwrap();
        let mut saved = Saved::from_json(&text).unwrap();
        let memory = saved.take("p").unwrap();
        let learnt = memory.of("s").unwrap();
        assert_eq!((learnt.version, &learnt.bytes[..], learnt.slots.len()), (3, &[0, 255][..], 1));
        assert_eq!(learnt.slots["b1"].words()[7].load(Relaxed), u64::MAX);
        assert!(saved.take("p").unwrap().of("s").is_none() && saved.take("q").unwrap().of("s").is_none());
    }

    #[test]
    fn a_damaged_file_is_refused() {
        assert!(Saved::from_json("{\"pools\":{\"p\":[{}]}}").is_err());
        let text = r#"{"pools":{"p":[{"schema":"s","version":1,"bytes":"=","slots":{}}]}}"#;
        assert!(Saved::from_json(text).unwrap().take("p").is_err_and(|error| error.contains("base64")));
    }
}
