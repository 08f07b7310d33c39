//! The state of each pool in control: its members, its strategy, and the published part of both.

mod arranged;
mod assembly;
mod members;
mod pool;

pub(super) use arranged::{PoolKey, Pools};
pub(super) use assembly::{Assembled, Assembly};
pub(super) use members::{Entry, Member, Members, Origin, Replaced, close};
pub(super) use pool::{Kept, PoolState, SlotsOf};
