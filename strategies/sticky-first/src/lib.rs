//! Sticky by first choice: a key stays on the backend that served it first.
//!
//! Idea: a table remembers the backend of each key. A new key gets the better of two random backends: the one with
//! fewer requests in flight for its weight. So keys go where there is room, and no algorithm moves them later.
//!
//! Sources: the table is that of nginx Plus, `sticky learn`. The choice is from Mitzenmacher, "The Power of Two Choices
//! in Randomized Load Balancing", 2001.
//!
//! How it differs from the section `[sticky]` of lb: that one gives each client a cookie and needs no memory. The
//! client must keep cookies. This strategy needs only a key, and memory for each key.
//!
//! The table has `keys` places of 8 bytes, in sets of 8. A hash leads to one set. If a set is full, a key that was not
//! used since the last such search is forgotten. Its next request is that of a new key. Keys that came only once are
//! forgotten first. Sets fill unevenly: with a key for every fourth place, 1 set in 4,000 is too small. A key is taken
//! for another one with a probability of about 8 in 2^32.
//!
//! When a key moves: if its backend may not serve (down, drained, removed), the key gets a new one, and stays there. A
//! retry goes elsewhere, but does not change the table, so one failed request does not move a key.
//!
//! What it cannot do: the backend of a key depends on the past, so two processes disagree. It declares
//! `"consistent":"history"`. A swap and a restart with `[state] keep` keep the table, if `keys` is the same.
//!
//! Invariants: a pick neither allocates nor locks; a place of the table is one atomic word. A dry pick changes nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use lb_hashing::mix;
use lb_strategy::{Backend, Backends, Error, Host, Pick, Request, StateSchema, Strategy};
use serde::Deserialize;
use serde_json::json;

/// Places of a set: one cache line.
const WAYS: usize = 8;
/// The export of a full table must fit into the 16 MiB that the host takes.
const KEYS_MAX: usize = 1 << 20;
/// The bytes of a place in the export: its number and its word.
const ENTRY_BYTES: usize = 12;
const _: () = assert!(4 + ENTRY_BYTES * KEYS_MAX <= 16 << 20);
const STATE_VERSION: u32 = 1;
/// An empty bucket of [`Numbers`].
const EMPTY: u64 = u64::MAX;

pub struct StickyFirst {
    places: Box<[Set]>,
}

/// `[strategy.config.sticky_first]`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The number of keys to remember. It is rounded up to a power of two.
    #[serde(default = "default_keys")]
    keys: usize,
}

#[derive(Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A place: the upper half is a part of the hash of the key, then comes the bit `USED`, then the number of the backend.
/// 0 is a free place.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place(u64);

/// The view of one list.
pub struct View {
    numbers: Numbers,
    /// The eligible backends with the sum of the effective weights up to and with each of them.
    sums: Box<[(u64, u32)]>,
}

/// From the number of a backend to its index in the list: a hash table with linear probing, half full at most.
struct Numbers(Box<[u64]>);

/// What a pick found, and whether the table knew it.
struct Found {
    backend: usize,
    is_known: bool,
}

lb_strategy::export!(StickyFirst);

fn default_keys() -> usize {
    1 << 16
}

// === impl StickyFirst ===

impl Strategy for StickyFirst {
    const NAME: &'static str = "sticky_first";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const STATE: Option<StateSchema> = Some(StateSchema { schema: "sticky_first", version: STATE_VERSION });
    const EXPECTATION: &'static str = r#"{"balance":"by_load","weights":true,"consistent":"history"}"#;
    type Config = Options;
    type Picker = View;

    fn new(options: Options, _: Host) -> Result<Self, Error> {
        let keys = options.keys;
        if !(WAYS..=KEYS_MAX).contains(&keys) {
            return Err(format!("keys is {keys}: it may be {WAYS} to {KEYS_MAX}").into());
        }
        let sets = keys.next_power_of_two() / WAYS;
        Ok(Self { places: (0..sets).map(|_| Set::default()).collect() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<View, Error> {
        let mut sum = 0;
        let eligible = backends.eligible().iter().filter_map(|index| Some((*index, backends.get(*index as usize)?)));
        let sums = eligible.map(|(index, backend)| {
            sum += u64::from(backend.effective_weight().max(1));
            (sum, index)
        });
        Ok(View { sums: sums.collect(), numbers: Numbers::of(backends) })
    }

    fn pick(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        let Some(found) = self.find(hash, view, backends, request) else { return Pick::NoBackend };
        if !found.is_known && !request.is_dry() && request.tried().is_empty() {
            self.set_of(hash).put(Place::new(hash, number_of(backends, found.backend)), request.random());
        }
        Pick::Backend(found.backend)
    }

    fn explain(&self, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let remembered = self.set_of(hash).get(hash).map(|place| view.numbers.index(place.number()));
        let found = self.find(hash, view, backends, request);
        json!({
            "remembered": remembered.map(|index| index.map_or("a backend that has left", name)),
            "is_new": found.as_ref().map(|found| !found.is_known),
            "backend": found.map(|found| name(found.backend)),
            "keys": self.places.len() * WAYS,
        })
        .to_string()
    }

    /// The number of sets. Then for each place that is not free: its number, and its word.
    fn export(&self) -> Vec<u8> {
        let mut bytes = (self.places.len() as u32).to_le_bytes().to_vec();
        for (number, place) in (0_u32..).zip(self.places.iter().flat_map(|set| &set.0)) {
            let word = place.load(Relaxed);
            if word != 0 {
                bytes.extend(number.to_le_bytes());
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes
    }

    fn import(&self, version: u32, bytes: &[u8]) -> Result<(), Error> {
        if version != STATE_VERSION {
            return Err(format!("it knows version {STATE_VERSION} of its table, not {version}").into());
        }
        let sets = bytes.first_chunk().map(|sets| u32::from_le_bytes(*sets) as usize);
        let (entries, rest) = bytes.get(4..).unwrap_or_default().as_chunks::<ENTRY_BYTES>();
        if sets != Some(self.places.len()) || !rest.is_empty() {
            return Err("its table has another number of keys, or is damaged: it starts with an empty one".into());
        }
        for entry in entries {
            let [a, b, c, d, word @ ..] = *entry;
            let number = u32::from_le_bytes([a, b, c, d]) as usize;
            let set = self.places.get(number / WAYS).ok_or("its table is damaged: it starts with an empty one")?;
            set.0[number % WAYS].store(u64::from_le_bytes(word), Relaxed);
        }
        Ok(())
    }
}

impl StickyFirst {
    #[inline]
    fn set_of(&self, hash: u64) -> &Set {
        // The number of sets is a power of two. The lower half of the hash chooses the set, the upper one is in the
        // place.
        &self.places[mix(hash, 0) as u32 as usize & (self.places.len() - 1)]
    }

    fn find(&self, hash: u64, view: &View, backends: &Backends<'_>, request: &Request<'_>) -> Option<Found> {
        let may_serve = |index: usize| backends.get(index).is_some_and(|backend| backend.is_eligible());
        let set = self.set_of(hash);
        let known =
            set.get(hash).and_then(|place| view.numbers.index(place.number())).filter(|index| may_serve(*index));
        if let Some(backend) = known.filter(|index| !request.is_tried(*index)) {
            if !request.is_dry() {
                set.mark(hash);
            }
            return Some(Found { backend, is_known: true });
        }
        view.better_of_two(backends, request).map(|backend| Found { backend, is_known: false })
    }
}

// === impl Set ===

impl Set {
    #[inline]
    fn get(&self, hash: u64) -> Option<Place> {
        let mut places = self.0.iter().map(|place| Place(place.load(Relaxed)));
        places.find(|place| place.is_of(hash))
    }

    /// Marks the place of the key as used. It writes only if it is not marked yet.
    #[inline]
    fn mark(&self, hash: u64) {
        for place in &self.0 {
            let seen = Place(place.load(Relaxed));
            if seen.is_of(hash) && seen.0 & Place::USED == 0 {
                // If another worker has changed the place in between, that change stays.
                let _ = place.compare_exchange(seen.0, seen.0 | Place::USED, Relaxed, Relaxed);
            }
        }
    }

    /// Puts `new` in the place of the same key, in a free place, or in that of a key that is not in use. The search
    /// begins at a random place. It takes the mark from the places that it passes, so the second round finds one.
    fn put(&self, new: Place, random: u64) {
        let of_key = self.0.iter().find(|place| Place(place.load(Relaxed)).has_key_of(new));
        if let Some(place) = of_key.or_else(|| self.0.iter().find(|place| place.load(Relaxed) == 0)) {
            place.store(new.0, Relaxed);
            return;
        }
        for step in 0..=WAYS {
            let place = &self.0[(random as usize).wrapping_add(step) % WAYS];
            if step == WAYS || place.fetch_and(!Place::USED, Relaxed) & Place::USED == 0 {
                place.store(new.0, Relaxed);
                return;
            }
        }
    }
}

// === impl Place ===

impl Place {
    const USED: u64 = 1 << 31;
    const NUMBER: u64 = Self::USED - 1;
    const KEY: u64 = u64::MAX << 32;

    /// A key is marked as used at its second request. So keys that come once displace each other.
    fn new(hash: u64, number: u32) -> Self {
        Self(mix(hash, 0) & Self::KEY | u64::from(number))
    }

    #[inline]
    fn is_of(self, hash: u64) -> bool {
        self.0 != 0 && (self.0 ^ mix(hash, 0)) & Self::KEY == 0
    }

    fn has_key_of(self, other: Self) -> bool {
        self.0 != 0 && (self.0 ^ other.0) & Self::KEY == 0
    }

    #[inline]
    fn number(self) -> u32 {
        (self.0 & Self::NUMBER) as u32
    }
}

// === impl View ===

impl View {
    /// Two backends, drawn by weight from the random bits of the request: the one with fewer requests in flight for its
    /// weight. Of equal ones the first. A retry takes a candidate if both were tried.
    fn better_of_two(&self, backends: &Backends<'_>, request: &Request<'_>) -> Option<usize> {
        let random = request.random();
        let drawn = [random >> 32, random & u64::from(u32::MAX)].map(|bits| self.draw(bits));
        let able = drawn.into_iter().flatten().filter(|index| !request.is_tried(*index));
        let lighter = able.min_by(|one, two| compare_loads(backends.get(*one), backends.get(*two)));
        lighter.or_else(|| backends.draw(request, random as u32).map(|(index, _)| index))
    }

    /// A backend by 32 random bits.
    fn draw(&self, bits: u64) -> Option<usize> {
        let at = (self.sums.last()?.0 * bits) >> 32;
        let place = self.sums.partition_point(|(sum, _)| *sum <= at);
        self.sums.get(place).map(|(_, index)| *index as usize)
    }
}

/// Requests in flight, with the new one, by weight: `a/b < c/d` as `a·d < c·b`.
fn compare_loads(one: Option<Backend<'_>>, two: Option<Backend<'_>>) -> std::cmp::Ordering {
    let load = |it: Option<Backend<'_>>| it.map_or((1, 1), |it| (u64::from(it.in_flight()) + 1, it.effective_weight()));
    let ((one, by), (two, by_two)) = (load(one), load(two));
    (one * u64::from(by_two)).cmp(&(two * u64::from(by)))
}

// === impl Numbers ===

impl Numbers {
    fn of(backends: &Backends<'_>) -> Self {
        let mut buckets = vec![EMPTY; (2 * backends.len()).max(2).next_power_of_two()].into_boxed_slice();
        for (index, backend) in backends.iter().enumerate() {
            let number = number(backend.id());
            let mut at = number as usize & (buckets.len() - 1);
            while buckets[at] != EMPTY {
                at = (at + 1) & (buckets.len() - 1);
            }
            buckets[at] = u64::from(number) << 32 | index as u64;
        }
        Self(buckets)
    }

    #[inline]
    fn index(&self, number: u32) -> Option<usize> {
        let mut at = number as usize & (self.0.len() - 1);
        while self.0[at] != EMPTY {
            if (self.0[at] >> 32) as u32 == number {
                return Some(self.0[at] as u32 as usize);
            }
            at = (at + 1) & (self.0.len() - 1);
        }
        None
    }
}

/// The 31 bits of a backend's id that a place has room for.
fn number(id: u64) -> u32 {
    (id >> 33) as u32
}

fn number_of(backends: &Backends<'_>, index: usize) -> u32 {
    backends.get(index).map_or(0, |backend| number(backend.id()))
}

#[cfg(test)]
mod tests;
