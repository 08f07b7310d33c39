//! Maglev hashing: a table of prime size that the backends fill in turns. A pick is one read of the table.
//!
//! Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4.
//!
//! Idea: each backend has its own order of all entries of the table, from two hashes of its name. These are the entries
//! `offset`, `offset + skip`, `offset + 2·skip` and so on. They count modulo the size, a prime, so none is left out.
//! The backends take turns, and each takes the first entry of its order that is free. So their shares differ by one
//! entry at most. A key goes to the backend of entry `hash · size / 2^64`.
//!
//! Weights: after round `r` a backend of weight `w` has taken about r·w/max turns, with the largest weight `max`. Each
//! backend takes one in the first round. Envoy does the same.
//!
//! What it costs: if a backend leaves, a few more keys move than must, because the turns of the others change. With
//! 65,537 entries that is 0.2 % of the keys for 10 backends and 0.6 % for 100. A ring moves none of them, but its
//! shares are less even. The table should have 100 entries or more for each backend. It needs 4 bytes for each entry.
//!
//! Outages: the table has all members with weight, eligible or not. A key whose backend may not serve goes on to spare
//! places, see `choose` of lb-hashing. So an outage moves only the keys of that backend, and they return after it.
//!
//! Invariants: the table depends only on the names and weights of the members, in any order of the list. It has no free
//! entry if a member has weight.

use std::sync::Arc;

use lb_hashing::{Choice, Kept, choose, is_prime, mix, next_prime, part_of};
use lb_strategy::{Backends, Error, Host, Pick, Request, Strategy};
use serde::Deserialize;
use serde_json::json;

const TABLE_SIZE: u32 = 65_537;
/// The limit of Envoy. So many entries need 20 MB.
const TABLE_SIZE_MAX: u32 = 5_000_011;

pub struct Maglev {
    table_size: u32,
    last: Kept<Table>,
}

/// `[strategy.config.maglev]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The number of entries, a prime number.
    #[serde(default = "default_table_size")]
    table_size: u32,
}

/// The owner of each entry, as an index into every list of these members. Empty if no member has weight.
pub struct Table(Box<[u32]>);

/// A backend while the table is filled.
struct Filler {
    /// Its index in the list.
    index: u32,
    weight: u64,
    /// The next entry of its order.
    next: u32,
    skip: u32,
    /// It takes a turn when rounds × weight has reached this.
    due: u64,
}

/// One bit for each entry: whether it is taken. 8 kB for 65,537 entries, so that it stays in the fastest cache.
struct Taken(Vec<u64>);

lb_strategy::export!(Maglev);

fn default_table_size() -> u32 {
    TABLE_SIZE
}

// === impl Maglev ===

impl Strategy for Maglev {
    const NAME: &'static str = "maglev";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","weights":true,"consistent":true}"#;
    type Config = Options;
    type Picker = Arc<Table>;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let table_size = options.table_size;
        if !is_prime(table_size) || table_size > TABLE_SIZE_MAX {
            let prime = next_prime(table_size).map_or(TABLE_SIZE_MAX, |prime| prime.min(TABLE_SIZE_MAX));
            return Err(format!(
                "table_size is {table_size}: it must be a prime number up to {TABLE_SIZE_MAX}, such as {prime}"
            )
            .into());
        }
        Ok(Self { table_size, last: Kept::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Arc<Table>, Error> {
        self.last.get(backends, || Table::of(backends, self.table_size))
    }

    #[inline]
    fn pick(&self, table: &Arc<Table>, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        table.choose(hash, backends, request).map_or(Pick::NoBackend, |choice| Pick::Backend(choice.backend))
    }

    fn explain(&self, table: &Arc<Table>, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let choice = table.choose(hash, backends, request);
        json!({
            "entry": part_of(hash, table.0.len() as u64),
            "owner": table.owner(hash).map(name),
            "passed": choice.map(|choice| choice.passed),
            "backend": choice.map(|choice| name(choice.backend)),
            "table_size": table.0.len(),
        })
        .to_string()
    }
}

// === impl Table ===

impl Table {
    fn of(backends: &Backends<'_>, size: u32) -> Result<Self, Error> {
        let mut fillers: Vec<(u64, Filler)> = Vec::new();
        for (index, backend) in backends.iter().enumerate().filter(|(_, backend)| backend.weight() > 0) {
            let id = backend.id();
            fillers.push((
                id,
                Filler {
                    index: index as u32,
                    weight: u64::from(backend.weight()),
                    next: part_of(mix(id, 0), u64::from(size)) as u32,
                    skip: part_of(mix(id, 1), u64::from(size - 1)) as u32 + 1,
                    due: 0,
                },
            ));
        }
        if fillers.len() > size as usize {
            return Err(format!(
                "its table has {size} entries for {} backends: set table_size to {} or more",
                fillers.len(),
                next_prime(fillers.len() as u32 * 100).unwrap_or(TABLE_SIZE_MAX)
            )
            .into());
        }
        // The order of turns must not depend on the order of the list.
        fillers.sort_unstable_by_key(|(id, _)| *id);
        Ok(Self(fill(fillers.into_iter().map(|(_, filler)| filler).collect(), size)))
    }

    /// The owner of the entry that `hash` leads to.
    #[inline]
    fn owner(&self, hash: u64) -> Option<usize> {
        self.0.get(part_of(hash, self.0.len() as u64) as usize).map(|owner| *owner as usize)
    }

    #[inline]
    fn choose(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<Choice> {
        choose(hash, backends, request, |hash| self.owner(hash))
    }
}

/// The paper's "Populate", with weights. The largest weight takes a turn in each round, so all rounds together need no
/// more than size × backends steps.
fn fill(mut fillers: Vec<Filler>, size: u32) -> Box<[u32]> {
    let Some(most) = fillers.iter().map(|filler| filler.weight).max() else { return Box::default() };
    let (mut table, mut taken) = (vec![0_u32; size as usize].into_boxed_slice(), Taken::none_of(size));
    let mut free = size;
    let mut round = 0;
    loop {
        round += 1;
        for filler in &mut fillers {
            if round * filler.weight < filler.due {
                continue;
            }
            filler.due += most;
            table[filler.take(&mut taken, size) as usize] = filler.index;
            free -= 1;
            if free == 0 {
                return table;
            }
        }
    }
}

// === impl Filler ===

impl Filler {
    /// Takes the first free entry of its order. There must be one.
    #[inline]
    fn take(&mut self, taken: &mut Taken, size: u32) -> u32 {
        loop {
            let entry = self.next;
            // Without overflow: both are below the size.
            self.next = if entry >= size - self.skip { entry - (size - self.skip) } else { entry + self.skip };
            if taken.take(entry) {
                return entry;
            }
        }
    }
}

// === impl Taken ===

impl Taken {
    fn none_of(size: u32) -> Self {
        Self(vec![0; size as usize / 64 + 1])
    }

    /// Takes `entry` if it is free. Returns whether it was.
    #[inline]
    fn take(&mut self, entry: u32) -> bool {
        let (word, bit) = (&mut self.0[entry as usize / 64], 1 << (entry % 64));
        let was_free = *word & bit == 0;
        *word |= bit;
        was_free
    }
}

#[cfg(test)]
mod tests;
