//! Why the course's hash functions share so unevenly: the array of slots worked out from an arm's options.
//!
//! Only what the options say is computed: which slots requests can reach, where virtual servers lie, and the exact share of each
//! backend over all 6-digit ids. Rules as in the strategy `assignment_ring`: a server's number is the digits at the end of its name,
//! else its position from 1; a taken slot is left by linear or quadratic probing; a request goes clockwise to the next virtual server.

mod expression;

use serde_json::Value;

use crate::model::Arm;
use expression::Expression;

pub(crate) const STRATEGY: &str = "assignment_ring";
const IDS: std::ops::Range<i128> = 100_000..1_000_000;

/// The ring of one list of backends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ring {
    pub(crate) slots: usize,
    pub(crate) virtual_servers: usize,
    /// H and Phi as the options spell them.
    pub(crate) request: String,
    pub(crate) server: String,
    /// How many of the 6-digit ids begin at each slot.
    pub(crate) begins: Vec<u64>,
    /// Slots with a virtual server and the index of its backend, ascending.
    pub(crate) points: Vec<(usize, usize)>,
    /// By backend, over all 6-digit ids.
    pub(crate) shares: Vec<f64>,
    /// Share of the ids that begin beyond the last virtual server and so go round to the first.
    pub(crate) wrapped: f64,
}

/// The ring of this arm with these backends; `None` for other strategies, and for options that give none.
pub(crate) fn of(arm: &Arm, ids: &[String]) -> Option<Ring> {
    if arm.strategy != STRATEGY || ids.is_empty() {
        return None;
    }
    let number = |key: &str, default: u64| arm.options.get(key).map_or(Some(default), Value::as_u64);
    let text = |key: &str, default: &str| arm.options.get(key).map_or(Some(default), Value::as_str).map(str::to_owned);
    let slots = usize::try_from(number("slots", 512)?).ok().filter(|slots| (1..=1 << 20).contains(slots))?;
    let virtual_servers = usize::try_from(number("virtual_servers", 9)?).ok().filter(|servers| *servers > 0)?;
    let first = number("first_virtual_index", 0)?;
    let is_quadratic = text("probing", "linear")? == "quadratic";
    let (request, server) = (text("request", "i^2 + 2i + 17")?, text("server", "i^2 + j^2 + 2j + 25")?);
    let (h, phi) = (Expression::parse(&request)?, Expression::parse(&server)?);
    if ids.len().checked_mul(virtual_servers)? > slots {
        return None;
    }

    let mut servers: Vec<(i128, &str, usize)> =
        ids.iter().enumerate().map(|(at, id)| (server_number(id, at), id.as_str(), at)).collect();
    servers.sort_unstable();
    let mut taken: Vec<Option<usize>> = vec![None; slots];
    for (i, _, owner) in servers {
        for j in 0..virtual_servers as i128 {
            let wanted = phi.value(i, j + i128::from(first))?.rem_euclid(slots as i128) as usize;
            let slot = free(&taken, wanted, is_quadratic)?;
            taken[slot] = Some(owner);
        }
    }
    let points: Vec<(usize, usize)> =
        taken.iter().enumerate().filter_map(|(slot, owner)| owner.map(|owner| (slot, owner))).collect();

    let begins = begins(&h, slots)?;
    let all: u64 = begins.iter().sum();
    let (mut counts, mut wrapped) = (vec![0_u64; ids.len()], 0);
    for (slot, &count) in begins.iter().enumerate() {
        let next = points.partition_point(|point| point.0 < slot);
        wrapped += if next == points.len() { count } else { 0 };
        counts[points[next % points.len()].1] += count;
    }
    Some(Ring {
        slots,
        virtual_servers,
        request,
        server,
        points,
        begins,
        shares: counts.iter().map(|&count| count as f64 / all as f64).collect(),
        wrapped: wrapped as f64 / all as f64,
    })
}

fn server_number(id: &str, position: usize) -> i128 {
    let digits = &id[id.trim_end_matches(|last: char| last.is_ascii_digit()).len()..];
    digits[digits.len().saturating_sub(18)..].parse().unwrap_or(position as i128 + 1)
}

fn free(taken: &[Option<usize>], wanted: usize, is_quadratic: bool) -> Option<usize> {
    let slots = taken.len();
    let squares = (0..if is_quadratic { slots } else { 0 }).map(|step| (wanted + step * step) % slots);
    squares.chain((0..slots).map(|step| (wanted + step) % slots)).find(|&at| taken[at].is_none())
}

/// How many ids begin at each slot.
fn begins(h: &Expression, slots: usize) -> Option<Vec<u64>> {
    let mut counts = vec![0_u64; slots];
    let slot = |id: i128| Some(h.value(id, 0)?.rem_euclid(slots as i128) as usize);
    if h.is_polynomial() {
        // the slot depends on the id modulo the slots only
        let by_rest: Option<Vec<usize>> = (0..slots as i128).map(slot).collect();
        let by_rest = by_rest?;
        IDS.for_each(|id| counts[by_rest[(id % slots as i128) as usize]] += 1);
    } else {
        for id in IDS {
            counts[slot(id)?] += 1;
        }
    }
    Some(counts)
}

// === impl Ring ===

impl Ring {
    /// Slots at which any id begins.
    pub(crate) fn reached(&self) -> usize {
        self.begins.iter().filter(|&&count| count > 0).count()
    }

    /// The backend to which a request goes that begins here.
    pub(crate) fn owner(&self, slot: usize) -> usize {
        let next = self.points.partition_point(|point| point.0 < slot);
        self.points[next % self.points.len()].1
    }

    /// First and last slot with a virtual server.
    pub(crate) fn ends(&self) -> (usize, usize) {
        (self.points[0].0, self.points[self.points.len() - 1].0)
    }

    /// The backend to which requests beyond the last virtual server go.
    pub(crate) fn first_owner(&self) -> usize {
        self.points[0].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(options: Value) -> Arm {
        Arm {
            label: "ring".into(),
            strategy: STRATEGY.into(),
            strategy_sha256: String::new(),
            options,
            cost_factor: 1.0,
            config_sha256: String::new(),
            expectation: String::new(),
        }
    }

    /// Published shares are rounded to a hundredth of a percent.
    fn assert_percents(ring: &Ring, published: &[f64]) {
        assert_eq!(ring.shares.len(), published.len());
        for (share, published) in ring.shares.iter().zip(published) {
            assert!((share * 100.0 - published).abs() < 0.0051, "{:?} are not {published}", ring.shares);
        }
    }

    fn servers(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
        numbers.map(|number| format!("Server {number}")).collect()
    }

    /// The table of exact shares for servers 1..N, j = 0..8, linear probing.
    #[test]
    fn the_shares_of_the_sheet_are_reproduced() {
        let of_sheet = |n| of(&arm(serde_json::json!({})), &servers(1..=n)).expect("a ring");
        assert_percents(&of_sheet(2), &[95.31, 4.69]);
        let three = of_sheet(3);
        assert_percents(&three, &[84.37, 4.69, 10.94]);
        assert_percents(&of_sheet(6), &[78.91, 3.12, 9.38, 3.12, 4.69, 0.78]);
        assert_eq!((three.reached(), three.ends(), three.first_owner()), (87, (26, 114), 0));
    }

    #[test]
    fn the_other_reading_of_the_sheet_gives_its_own_shares() {
        let ring = of(&arm(serde_json::json!({"first_virtual_index": 1})), &servers(1..=3)).expect("a ring");
        assert_percents(&ring, &[83.59, 4.69, 11.72]);
        let other = serde_json::json!({"request": "i^2 + 11i + 19", "server": "16(i-1) + 57j"});
        assert_percents(&of(&arm(other), &servers(1..=3)).expect("a ring"), &[43.75, 28.13, 28.12]);
    }

    #[test]
    fn options_that_give_no_ring_are_not_explained() {
        for options in [
            serde_json::json!({"slots": 0}),
            serde_json::json!({"slots": 20}),
            serde_json::json!({"virtual_servers": 0}),
            serde_json::json!({"request": "i +"}),
            serde_json::json!({"request": "1 / (i - i)"}),
        ] {
            assert_eq!(of(&arm(options.clone()), &servers(1..=3)), None, "{options}");
        }
    }
}
