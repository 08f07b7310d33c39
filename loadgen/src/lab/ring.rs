//! The ring of the strategy in charge, read from the admin port.
//!
//! `GET /explain` gives the exact share of each backend, `GET /ring` the arcs. A ring is read only if the strategy's
//! explanation has `shares`: such a strategy knows the keys that the shares belong to.
//!
//! Invariant: shares are those of a whole pool. While a backend is out of rotation, its keys go to others, and there is
//! no ring here.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::admin::{Admin, AdminError};
use crate::model::{Ring, RingArc};

/// The used fields of an explanation.
#[derive(Deserialize)]
struct Explanation {
    eligible: Vec<String>,
    strategy_says: Option<Value>,
}

/// The used fields of `GET /ring`.
#[derive(Deserialize)]
struct Told {
    backends: Vec<String>,
    arcs: Option<Vec<Arc>>,
}

/// `[end, backend, share]`. An arc without a share has the arc's length as its share.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Arc {
    Weighed(f64, usize, f64),
    Plain(f64, usize),
}

// === impl Admin ===

impl Admin {
    /// The ring of the strategy in charge over `pool`. `None`: the strategy reports no shares, or not all of `pool` is
    /// in rotation.
    pub fn ring(&self, arm: &str, pool: &[String]) -> Result<Option<Ring>, AdminError> {
        // any key is fine: it makes lb ask the strategy about a request with a key
        let explanation: Explanation = self.json("/explain?pool=default&key=100000")?;
        let Some(shares) = shares(&explanation, pool) else { return Ok(None) };
        let told: Told = self.json("/ring?pool=default")?;
        let arcs = arcs(&told, pool).unwrap_or_default();
        Ok(Some(Ring { arm: arm.to_owned(), n: pool.len() as u32, backends: pool.to_vec(), shares, arcs })
            .filter(|ring| ring.check().is_ok()))
    }
}

/// The shares in the order of `pool`; `None` if the pool is not whole.
fn shares(explanation: &Explanation, pool: &[String]) -> Option<Vec<f64>> {
    let shares = explanation.strategy_says.as_ref()?.get("shares")?.clone();
    let shares: BTreeMap<String, f64> = serde_json::from_value(shares).ok()?;
    let is_whole = shares.len() == pool.len() && pool.iter().all(|id| explanation.eligible.contains(id));
    pool.iter().map(|id| shares.get(id).copied().filter(|_| is_whole)).collect()
}

/// The arcs with indexes into `pool`.
fn arcs(told: &Told, pool: &[String]) -> Option<Vec<RingArc>> {
    let at = |index: usize| pool.iter().position(|id| Some(id) == told.backends.get(index));
    let mut begin = 0.0;
    let arc = |arc: &Arc| {
        let (end, backend, share) = match *arc {
            Arc::Weighed(end, backend, share) => (end, backend, share),
            Arc::Plain(end, backend) => (end, backend, end - begin),
        };
        begin = end;
        Some(RingArc { end, backend: at(backend)?, share })
    };
    told.arcs.as_ref()?.iter().map(arc).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pool() -> Vec<String> {
        vec!["Server 1".into(), "Server 2".into()]
    }

    fn explanation(eligible: Value, says: Value) -> Explanation {
        serde_json::from_value(json!({ "eligible": eligible, "strategy_says": says, "pool": "default" })).expect("read")
    }

    #[test]
    fn shares_and_arcs_come_in_the_order_of_the_pool() {
        let of =
            explanation(json!(["Server 2", "Server 1"]), json!({ "shares": { "Server 2": 0.25, "Server 1": 0.75 } }));
        assert_eq!(shares(&of, &pool()), Some(vec![0.75, 0.25]));
        let told: Told = serde_json::from_value(json!({
            "backends": ["Server 2", "Server 1"], "arcs": [[0.25, 0, 0.25], [0.5, 1, 0.75]]
        }))
        .expect("read");
        let wanted = [(0.25, 1, 0.25), (0.5, 0, 0.75)].map(RingArc::from);
        assert_eq!(arcs(&told, &pool()), Some(wanted.to_vec()));
    }

    #[test]
    fn an_incomplete_pool_has_no_shares() {
        let both = json!({ "shares": { "Server 1": 0.75, "Server 2": 0.25 } });
        assert_eq!(shares(&explanation(json!(["Server 1"]), both.clone()), &pool()), None);
        let three = json!(["Server 1", "Server 2", "Server 3"]);
        assert_eq!(shares(&explanation(three.clone(), both), &[pool(), vec!["Server 3".into()]].concat()), None);
        for says in [json!(null), json!("words"), json!({}), json!({ "shares": [1] })] {
            assert_eq!(shares(&explanation(three.clone(), says), &pool()), None);
        }
    }
}
