//! Where a key goes if its own backend may not serve: for algorithms that map a hash to exactly one place.
//!
//! The hash is mixed with 1, 2, 3 and so on, and the algorithm is asked again each time. So the keys of a backend that
//! is down are spread over the others by weight, and no other key moves. After [`SPARES`] places the winner of a
//! rendezvous among the candidates serves: with few backends up, that costs less than further places.

use lb_strategy::{Backends, Request};

use crate::mix::mix;
use crate::scores::elect;

/// The number of further places that are tried.
pub const SPARES: u32 = 16;

/// The result of [`choose`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The index of a backend that may serve.
    pub backend: usize,
    /// The places whose backends may not serve. It is `SPARES + 1` if a rendezvous decided.
    pub passed: u32,
}

/// Whether this request may go to the backend at `index`: eligible and not yet tried.
#[inline]
pub fn may_serve(backends: &Backends<'_>, request: &Request<'_>, index: usize) -> bool {
    backends.get(index).is_some_and(|backend| backend.is_eligible()) && !request.is_tried(index)
}

/// The first backend that may serve among `place(hash)` and the spare places; `None` if no backend may.
#[inline]
pub fn choose(
    hash: u64,
    backends: &Backends<'_>,
    request: &Request<'_>,
    place: impl Fn(u64) -> Option<usize>,
) -> Option<Choice> {
    let first = place(hash)?;
    if may_serve(backends, request, first) {
        return Some(Choice { backend: first, passed: 0 });
    }
    choose_spare(hash, backends, request, place)
}

#[cold]
fn choose_spare(
    hash: u64,
    backends: &Backends<'_>,
    request: &Request<'_>,
    place: impl Fn(u64) -> Option<usize>,
) -> Option<Choice> {
    if backends.candidate_count(request) == 0 {
        return None;
    }
    let spares = (1..=SPARES).map(|number| (number, place(mix(hash, u64::from(number)))));
    let mut able = spares.filter_map(|(passed, place)| Some(Choice { backend: place?, passed }));
    able.find(|choice| may_serve(backends, request, choice.backend))
        .or_else(|| elect(hash, backends, request).map(|backend| Choice { backend, passed: SPARES + 1 }))
}
