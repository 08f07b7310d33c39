//! The backend of each of many keys: what a strategy by key must keep when backends go, fail, come or start slowly.
//!
//! Invariant: the keys are always the same, and all other inputs of a pick differ from one call to the next.

use std::sync::Arc;

use lb_strategy_host::{Decision, Strategy};

use crate::request::Requests;
use crate::world::World;

/// The name of the backend of each key `key 0`, `key 1` and so on; `None` if no backend was picked. `seed` gives the
/// random bits.
pub fn homes(strategy: &Arc<Strategy>, world: &World, keys: usize, seed: u64) -> Result<Vec<Option<String>>, String> {
    let picker = world.picker(strategy)?;
    let mut requests = Requests::seeded(seed);
    let mut home = |number| match requests.ask().key(format!("key {number}")).pick(&picker) {
        Decision::Backend { index, .. } => Some(world.name(index).to_owned()),
        _ => None,
    };
    Ok((0..keys).map(&mut home).collect())
}

/// The keys that have another backend after a change, without those that must: from the backend `left`, and to the
/// backend `came`.
pub fn moved_in_vain(
    before: &[Option<String>],
    after: &[Option<String>],
    left: Option<&str>,
    came: Option<&str>,
) -> usize {
    let is = |home: &Option<String>, name: Option<&str>| name.is_some() && home.as_deref() == name;
    let pairs = before.iter().zip(after);
    pairs.filter(|(old, now)| old != now && !is(old, left) && !is(now, came)).count()
}
