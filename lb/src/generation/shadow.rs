//! A shadow: a strategy that picks for the requests of a pool and routes none of them.
//!
//! Invariant: its list has the order of the pool's list, so an index means the same backend in both.

use std::sync::Arc;

use lb_strategy_host::{Picker, Wants};

/// See the module.
pub struct Shadow {
    /// Unique in its pool.
    pub id: Arc<str>,
    /// Made from a list like that of the pool's picker, with slots of its own.
    pub picker: Picker,
    pub wants: Wants,
}

/// What the strategy in charge, which asks for `wants`, or one of the shadows is told about attempts. With shadows
/// every end counts, because it gives back the memory of their picks.
pub fn told(wants: Wants, shadows: &[Shadow]) -> Wants {
    shadows.iter().map(|shadow| shadow.wants).fold(wants, |told, wants| Wants {
        start: told.start || wants.start,
        finish: true,
        answer: told.answer || wants.answer,
        ..told
    })
}
