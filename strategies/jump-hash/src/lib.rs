//! Jump hashing: even shares, without a table, for backends that are numbered.
//!
//! Source: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", 2014, arXiv 1406.2294, figure 1.
//!
//! Idea: imagine that the buckets 0, 1, 2 and so on are added one by one. When there are `n` of them, each key moves to
//! the newest with the probability 1/n. A generator that the key seeds decides that, so the last move gives the bucket.
//! The next move of a key can be computed at once, so a pick needs about ln(n) steps and no memory.
//!
//! Buckets: a backend has as many as its weight. They are in order of name, and numbers in names count as numbers:
//! `cache-2` comes before `cache-10`.
//!
//! What it cannot do: only the last bucket may go or come with minimal moves. If a backend in the middle leaves, comes,
//! or gets another weight, all later buckets change their numbers, and most of their keys move. So give backends names
//! with numbers, add the highest and remove the highest. In front of caches whose members come and go, use `maglev` or
//! a ring. It declares `"consistent":"outages"` for that reason.
//!
//! Outages: the buckets have all members with weight, eligible or not. A key whose backend may not serve goes on to
//! spare places, see `choose` of lb-hashing. So an outage moves only the keys of that backend, and they return.
//!
//! Invariants: the buckets depend only on the names and weights of the members, in any order of the list.

use std::cmp::Ordering;
use std::sync::Arc;

use lb_hashing::{Choice, Kept, choose};
use lb_strategy::{Backends, Error, Host, NoOptions, Pick, Request, Strategy};
use serde_json::json;

pub struct JumpHash {
    last: Kept<Buckets>,
}

/// The owner of each bucket, as an index into every list of these members.
pub struct Buckets(Box<[u32]>);

lb_strategy::export!(JumpHash);

// === impl JumpHash ===

impl Strategy for JumpHash {
    const NAME: &'static str = "jump_hash";
    const WANTS_HASH: bool = true;
    const EXPLAINS: bool = true;
    const EXPECTATION: &'static str = r#"{"balance":"multinomial","weights":true,"consistent":"outages"}"#;
    type Config = NoOptions;
    type Picker = Arc<Buckets>;

    fn new(_: NoOptions, _: Host) -> Result<Self, Error> {
        Ok(Self { last: Kept::default() })
    }

    fn picker(&self, backends: &Backends<'_>) -> Result<Arc<Buckets>, Error> {
        self.last.get(backends, || Ok(Buckets::of(backends)))
    }

    fn pick(&self, buckets: &Arc<Buckets>, backends: &Backends<'_>, request: &Request<'_>) -> Pick {
        let Some(hash) = request.hash() else { return Pick::Fallback };
        buckets.choose(hash, backends, request).map_or(Pick::NoBackend, |choice| Pick::Backend(choice.backend))
    }

    fn explain(&self, buckets: &Arc<Buckets>, backends: &Backends<'_>, request: &Request<'_>) -> String {
        let Some(hash) = request.hash() else {
            return json!({ "pick": "fallback", "reason": "the request has no key" }).to_string();
        };
        let name = |index: usize| backends.get(index).map_or("", |backend| backend.name());
        let choice = buckets.choose(hash, backends, request);
        json!({
            "bucket": jump(hash, buckets.0.len() as u32),
            "owner": buckets.owner(hash).map(name),
            "passed": choice.map(|choice| choice.passed),
            "backend": choice.map(|choice| name(choice.backend)),
            "buckets": buckets.0.len(),
        })
        .to_string()
    }
}

// === impl Buckets ===

impl Buckets {
    fn of(backends: &Backends<'_>) -> Self {
        let mut members: Vec<_> = backends.iter().enumerate().collect();
        members.sort_by(|one, two| by_name(one.1.name(), two.1.name()));
        let owners = members.into_iter().flat_map(|(index, backend)| (0..backend.weight()).map(move |_| index as u32));
        Self(owners.collect())
    }

    #[inline]
    fn owner(&self, hash: u64) -> Option<usize> {
        self.0.get(jump(hash, self.0.len() as u32) as usize).map(|owner| *owner as usize)
    }

    #[inline]
    fn choose(&self, hash: u64, backends: &Backends<'_>, request: &Request<'_>) -> Option<Choice> {
        choose(hash, backends, request, |hash| self.owner(hash))
    }
}

/// The bucket of `key` among `buckets`; 0 if there are none. Figure 1 of the paper.
#[inline]
fn jump(mut key: u64, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (0_i64, 0_i64);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        // 31 random bits, so both numbers are exact.
        let divisor = (key >> 33) as i64 + 1;
        next = ((bucket + 1) as f64 * ((1_i64 << 31) as f64 / divisor as f64)) as i64;
    }
    bucket as u32
}

/// Names in order, where a run of digits counts as one number. Different names are never equal.
fn by_name(one: &str, two: &str) -> Ordering {
    let (mut rest, mut other) = (one, two);
    while let (Some(a), Some(b)) = (rest.bytes().next(), other.bytes().next()) {
        if a.is_ascii_digit() && b.is_ascii_digit() {
            let (number, after) = split_number(rest);
            let (second, after_second) = split_number(other);
            match number.len().cmp(&second.len()).then_with(|| number.cmp(second)) {
                Ordering::Equal => (rest, other) = (after, after_second),
                unequal => return unequal,
            }
        } else if a == b {
            (rest, other) = (rest.get(1..).unwrap_or_default(), other.get(1..).unwrap_or_default());
        } else {
            return a.cmp(&b);
        }
    }
    // Equal up to leading zeros, or one is the begin of the other.
    rest.len().cmp(&other.len()).then_with(|| one.cmp(two))
}

/// The digits that `text` begins with, without leading zeros, and the rest.
fn split_number(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].trim_start_matches('0'), &text[end..])
}

#[cfg(test)]
mod tests;
