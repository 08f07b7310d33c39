//! What control knows of each pool: its members, its strategy, and what of both is published.

mod arranged;
mod assembly;
mod members;
mod pool;

pub(super) use arranged::{PoolKey, Pools};
pub(super) use assembly::{Assembled, Assembly};
pub(super) use members::{Entry, Member, Members, Origin, Replaced, close};
pub(super) use pool::{Kept, PoolState, SlotsOf};
