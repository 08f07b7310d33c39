//! The state of each pool in control: its members, its strategy, and the published part of both.

mod arranged;
mod assembly;
mod member;
mod members;
mod memory;
mod pool;
mod saved;
mod shadows;

pub(super) use arranged::{PoolKey, Pools};
pub(super) use assembly::{Assembled, Assembly};
pub(super) use member::{Entry, Member, Origin};
pub(super) use members::{Members, Replaced, close};
pub(super) use memory::Learnt;
pub(super) use pool::{Kept, PoolState, SlotsOf};
pub(super) use saved::{Saved, saved_text};
pub(super) use shadows::{ShadowChoice, ShadowState, ShadowsReplaced};
