//! The ring that a strategy exports, checked: the live page draws it.
//!
//! Why lb asks the strategy: only the strategy knows where a key begins on its ring. Dry picks over the space of hashes
//! would show which backend gets a hash. They would show no points, nor the real circle if the strategy computes a
//! number of its own from the key. The convention is in `lb_strategy::Strategy::explain`, the same for all strategies.
//!
//! Invariant: a ring that is returned can be drawn. Indexes are inside the list, ends ascend from 0 to 1, arcs are few.

use lb_strategy::RING_ARCS_MAX;
use lb_strategy_host::PickRequest;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generation::PoolGeneration;

/// The ring of one pool, as of its newest list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Ring {
    pub pool: String,
    pub strategy: String,
    /// As in `PoolStatus`: the ring changes only with one of these two.
    pub strategy_instance: u64,
    pub members_epoch: u64,
    /// Ids, in the order of the list.
    pub backends: Vec<String>,
    /// `None` for a strategy without a ring.
    pub arcs: Option<Vec<RingArc>>,
    /// Why the exported ring cannot be drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// `[end, backend]` or `[end, backend, requests]`, as the strategy exports it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RingArc {
    Weighed(f64, usize, f64),
    Plain(f64, usize),
}

/// The part of an explanation that is read here.
#[derive(Deserialize)]
struct Explanation {
    #[serde(default)]
    ring: Option<Vec<RingArc>>,
}

// === impl Ring ===

impl Ring {
    /// Calls into the plugin.
    pub(in crate::control) fn of(pool: &PoolGeneration) -> Self {
        let picker = &pool.picker;
        let backends: Vec<String> = picker.backends().specs().iter().map(|spec| spec.name.to_string()).collect();
        let (arcs, problem) = match arcs(pool, backends.len()) {
            Ok(arcs) => (arcs, None),
            Err(problem) => (None, Some(problem)),
        };
        Self {
            pool: pool.name.to_string(),
            strategy: picker.strategy().plugin().name().to_owned(),
            strategy_instance: picker.strategy().instance(),
            members_epoch: picker.backends().members_epoch(),
            backends,
            arcs,
            problem,
        }
    }
}

fn arcs(pool: &PoolGeneration, backends: usize) -> Result<Option<Vec<RingArc>>, String> {
    let request = PickRequest {
        worker: None,
        attempt: 0,
        tried: &[],
        key: None,
        random: 0,
        now_ns: 0,
        dry: true,
        body_length: Some(0),
        lookup: &(),
    };
    match pool.picker.explain(&request) {
        None => Ok(None),
        Some(words) => read(&words.map_err(|error| error.to_string())?, backends),
    }
}

/// The ring in an explanation, if there is one.
fn read(words: &str, backends: usize) -> Result<Option<Vec<RingArc>>, String> {
    // an explanation that is not JSON contains no ring
    if words.parse::<serde_json::Value>().map_or(true, |words| words.get("ring").is_none()) {
        return Ok(None);
    }
    let Explanation { ring } =
        serde_json::from_str(words).map_err(|error| format!("its ring is not a list of arcs: {error}"))?;
    let Some(arcs) = ring else { return Ok(None) };
    if arcs.len() > RING_ARCS_MAX {
        return Err(format!("its ring has {} arcs and {RING_ARCS_MAX} is the limit", arcs.len()));
    }
    let mut begin = 0.0;
    for (number, arc) in arcs.iter().enumerate() {
        let (end, backend, requests) = arc.parts();
        if !(begin..=1.0).contains(&end) || !(0.0..=1.0).contains(&requests) {
            return Err(format!("arc {number} of its ring, {arc:?}, does not continue the circle"));
        }
        if backend >= backends {
            return Err(format!("arc {number} of its ring is of backend {backend}, and there are {backends}"));
        }
        begin = end;
    }
    Ok(Some(arcs))
}

// === impl RingArc ===

impl RingArc {
    /// End, backend and requests; a plain arc has 0 requests.
    fn parts(self) -> (f64, usize, f64) {
        match self {
            Self::Weighed(end, backend, requests) => (end, backend, requests),
            Self::Plain(end, backend) => (end, backend, 0.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_read_with_and_without_requests() {
        let arcs = read(r#"{"x":1,"ring":[[0.25,1],[0.25,0,0.5],[1,2,1]]}"#, 3).unwrap().unwrap();
        let wanted = [RingArc::Plain(0.25, 1), RingArc::Weighed(0.25, 0, 0.5), RingArc::Weighed(1.0, 2, 1.0)];
        assert_eq!(arcs, wanted);
        assert_eq!(serde_json::to_string(&arcs).unwrap(), "[[0.25,1],[0.25,0,0.5],[1.0,2,1.0]]");
        assert_eq!(read(r#"{"ring":[]}"#, 0), Ok(Some(Vec::new())));
    }

    #[test]
    fn an_explanation_without_a_ring_gives_none() {
        for words in ["", "because", "{}", "[]", r#"{"backend":"b1"}"#, r#"{"ring":null}"#] {
            assert_eq!(read(words, 3), Ok(None), "{words}");
        }
    }

    #[test]
    fn a_ring_that_cannot_be_drawn_is_refused_with_a_reason() {
        for (ring, word) in [
            ("5", "not a list"),
            ("[[0.5]]", "not a list"),
            ("[[0.5,1.5]]", "not a list"),
            ("[[0.5,-1]]", "not a list"),
            ("[[0.5,3]]", "of backend 3, and there are 3"),
            ("[[0.5,0],[0.4,1]]", "arc 1"),
            ("[[1.5,0]]", "arc 0"),
            ("[[-0.5,0]]", "arc 0"),
            ("[[0.5,0,2]]", "arc 0"),
        ] {
            let problem = read(&format!(r#"{{"ring":{ring}}}"#), 3).unwrap_err();
            assert!(problem.contains(word), "{ring}: {problem}");
        }
        let many = vec!["[1,0]"; RING_ARCS_MAX + 1].join(",");
        assert!(read(&format!(r#"{{"ring":[{many}]}}"#), 1).unwrap_err().contains("16384 is the limit"));
    }
}
