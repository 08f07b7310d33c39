//! The budget for retries and hedges of one pool in one worker: a share of the requests, and a reserve.
//!
//! Why: if every failed request is retried, a pool in trouble gets twice its load. Each request deposits a share of a
//! retry, and each retry spends a whole one. A deposit expires after 10 s. The reserve serves a start, and pools with
//! few requests.
//!
//! The form is that of Finagle (`com.twitter.finagle.service.RetryBudget`: ttl 10 s, 20 %, at least 10 a second).
//! Tower's `TpsBudget`, which Linkerd's service profiles configure, is the same. There, a retry counts against the
//! window for 10 s and then no longer, so the reserve returns every 10 s even in a storm. Here it returns only after
//! 10 s without a demand.
//!
//! Invariants: every part of a deposit is spent at most once, so retries <= share * requests + reserve while the demand
//! does not pause for 10 s. Time alone never adds more than one reserve. A clock that stands still, jumps or runs
//! backwards does not break the bound. A retry that was taken and not made is put back, and then counts as a deposit.

/// How long a deposit is valid, in slots of a second.
const WINDOW_S: usize = 10;
const SECOND_NS: u64 = 1_000_000_000;
const WINDOW_NS: u64 = WINDOW_S as u64 * SECOND_NS;
/// The price of a retry, in hundredths: a request deposits one for each per cent.
const RETRY: u64 = 100;

/// The size of the budget of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetRules {
    /// Retries for each 100 requests.
    pub percent: u32,
    /// The reserve is this number of retries a second for 10 s, over all workers. 0: there is none.
    pub reserve_per_s: u32,
}

/// See the file's head.
#[derive(Clone, Debug)]
pub struct RetryBudget {
    percent: u64,
    reserve_max: u64,
    /// The deposits of the present second.
    fresh: u64,
    /// When the present second ends.
    second_ends_ns: u64,
    /// What is left of the deposits of earlier seconds, oldest first.
    past: [u64; WINDOW_S - 1],
    reserve: u64,
    /// The last demand for a retry, allowed or not.
    asked_at_ns: u64,
}

// === impl BudgetRules ===

impl Default for BudgetRules {
    fn default() -> Self {
        Self { percent: 20, reserve_per_s: 10 }
    }
}

// === impl RetryBudget ===

impl RetryBudget {
    /// The budget of one of `workers` workers; its reserve is full. If a reserve is configured, each worker has at
    /// least one retry of it.
    pub fn new(rules: BudgetRules, workers: usize, now_ns: u64) -> Self {
        let whole = u64::from(rules.reserve_per_s) * WINDOW_S as u64 * RETRY;
        let part = whole / workers.max(1) as u64;
        let reserve_max = if whole == 0 { 0 } else { part.max(RETRY) };
        Self {
            percent: u64::from(rules.percent),
            reserve_max,
            fresh: 0,
            second_ends_ns: now_ns.saturating_add(SECOND_NS),
            past: [0; WINDOW_S - 1],
            reserve: reserve_max,
            asked_at_ns: now_ns,
        }
    }

    /// A request arrived. Not for retries.
    #[inline]
    pub fn request(&mut self, now_ns: u64) {
        if now_ns >= self.second_ends_ns {
            self.turn(now_ns);
        }
        self.fresh += self.percent;
    }

    /// Takes one retry or hedge out of the budget; false if there is none.
    pub fn take(&mut self, now_ns: u64) -> bool {
        self.refresh(now_ns);
        self.asked_at_ns = self.asked_at_ns.max(now_ns);
        if self.deposits() + self.reserve < RETRY {
            return false;
        }
        let mut due = RETRY;
        // The oldest deposits first: they expire next.
        for part in self.past.iter_mut().chain([&mut self.fresh, &mut self.reserve]) {
            let spent = due.min(*part);
            *part -= spent;
            due -= spent;
        }
        true
    }

    /// Puts back one that was taken, because no attempt followed.
    pub fn put_back(&mut self) {
        self.fresh += RETRY;
    }

    /// The retries that are left now.
    pub fn left(&mut self, now_ns: u64) -> u64 {
        self.refresh(now_ns);
        (self.deposits() + self.reserve) / RETRY
    }

    fn deposits(&self) -> u64 {
        self.past.iter().sum::<u64>() + self.fresh
    }

    fn refresh(&mut self, now_ns: u64) {
        if now_ns >= self.second_ends_ns {
            self.turn(now_ns);
        }
        if now_ns.saturating_sub(self.asked_at_ns) >= WINDOW_NS {
            self.reserve = self.reserve_max;
        }
    }

    /// Ends the present second. `now_ns` may be many seconds later.
    #[cold]
    fn turn(&mut self, now_ns: u64) {
        let late_ns = now_ns - self.second_ends_ns;
        let turns = 1 + late_ns / SECOND_NS;
        for _ in 0..turns.min(WINDOW_S as u64) {
            self.past.rotate_left(1);
            self.past[WINDOW_S - 2] = std::mem::take(&mut self.fresh);
        }
        self.second_ends_ns = self.second_ends_ns.saturating_add(turns.saturating_mul(SECOND_NS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: BudgetRules = BudgetRules { percent: 20, reserve_per_s: 10 };

    /// All retries of the budget, taken at once.
    fn drain(budget: &mut RetryBudget, now_ns: u64) -> u64 {
        let left = budget.left(now_ns);
        let taken = (0..1_000_000).take_while(|_| budget.take(now_ns)).count() as u64;
        assert_eq!(left, taken, "left() is the number that take() allows");
        taken
    }

    #[test]
    fn a_storm_of_a_minute_gets_a_fifth_of_its_requests_and_one_reserve() {
        let mut random = fastrand::Rng::with_seed(16);
        for rate in [1, 2, 10, 49, 400, 2_000, 20_000] {
            for workers in [1, 2, 8] {
                let start = random.u64(..u64::MAX / 2);
                let mut budget = RetryBudget::new(RULES, workers, start);
                let (mut requests, mut retries) = (0_u64, 0_u64);
                let mut now = start;
                while now < start + 60 * SECOND_NS {
                    budget.request(now);
                    requests += 1;
                    // Every request fails, and so does every retry.
                    retries += u64::from(budget.take(now)) + u64::from(budget.take(now));
                    now += random.u64(0..=2 * SECOND_NS / rate);
                }
                let bucket = 100.0 / workers as f64;
                let most = 0.2 * requests as f64 + bucket;
                assert!(retries as f64 <= most, "{retries} retries of {requests} requests, {workers} workers");
                let wanted = (2 * requests) as f64;
                assert!(retries as f64 >= most.min(wanted) - 1.0, "{retries} of {most}: the budget is used up");
            }
        }
    }

    #[test]
    fn no_window_of_ten_seconds_has_more_than_the_deposits_of_twenty_and_one_reserve() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut budget = RetryBudget::new(RULES, 1, 0);
            let (mut requests, mut retries) = (Vec::new(), Vec::new());
            let mut now = 0;
            for _ in 0..5_000 {
                // Busy and quiet times, some of them longer than the window.
                now += match random.u32(..1_000) {
                    0..2 => random.u64(..25 * SECOND_NS),
                    2..100 => random.u64(..SECOND_NS),
                    _ => random.u64(..2_000_000),
                };
                match random.bool() {
                    true => {
                        budget.request(now);
                        requests.push(now);
                    }
                    false if budget.take(now) => retries.push(now),
                    false => {}
                }
            }
            let within = |times: &[u64], from: u64, to: u64| {
                times.partition_point(|at| *at <= to) - times.partition_point(|at| *at < from)
            };
            for end in &retries {
                let used = within(&retries, end.saturating_sub(WINDOW_NS - 1), *end);
                let earned = within(&requests, end.saturating_sub(2 * WINDOW_NS), *end);
                assert!(used as f64 <= 0.2 * earned as f64 + 100.0, "seed {seed}, at {end}: {used} of {earned}");
            }
        }
    }

    #[test]
    fn a_deposit_expires_after_nine_to_ten_seconds() {
        let none = BudgetRules { reserve_per_s: 0, ..RULES };
        for offset in [0, 1, SECOND_NS / 2, SECOND_NS - 1] {
            for (age, expected) in
                [(9 * SECOND_NS, 1), (WINDOW_NS, 0), (1_000 * SECOND_NS, 0), (u64::MAX - SECOND_NS, 0)]
            {
                let mut budget = RetryBudget::new(none, 1, 0);
                (0..5).for_each(|_| budget.request(offset));
                assert_eq!(drain(&mut budget, offset + age), expected, "age {age}, offset {offset}");
            }
        }
    }

    #[test]
    fn what_is_put_back_can_be_taken_again_and_expires_as_a_deposit_of_now() {
        for reserve_per_s in [0, 1] {
            let mut budget = RetryBudget::new(BudgetRules { percent: 20, reserve_per_s }, 1, 0);
            (0..50).for_each(|_| budget.request(0));
            let whole = budget.left(0);
            for _ in 0..100 {
                assert!(budget.take(0));
                budget.put_back();
            }
            assert_eq!(drain(&mut budget, 0), whole);
            budget.put_back();
            assert_eq!(drain(&mut budget.clone(), 9 * SECOND_NS), 1);
            assert_eq!(drain(&mut budget, WINDOW_NS), budget.reserve_max / RETRY);
        }
    }

    #[test]
    fn the_oldest_deposits_are_spent_first() {
        for (young_s, taken_s) in (1..9).flat_map(|young| (young..=9).map(move |taken| (young, taken))) {
            let mut budget = RetryBudget::new(BudgetRules { reserve_per_s: 0, ..RULES }, 1, 0);
            (0..5).for_each(|_| budget.request(0));
            (0..5).for_each(|_| budget.request(young_s * SECOND_NS));
            assert!(budget.take(taken_s * SECOND_NS));
            assert_eq!(drain(&mut budget, WINDOW_NS), 1, "{young_s} {taken_s}: the old ones are over, and were spent");
        }
    }

    #[test]
    fn a_steady_rate_earns_a_fifth_of_ten_seconds_and_not_more() {
        let mut budget = RetryBudget::new(BudgetRules { reserve_per_s: 0, ..RULES }, 1, 0);
        for ms in 0..60_000 {
            budget.request(ms * 1_000_000);
        }
        assert_eq!(drain(&mut budget, 59_999_000_000), 2_000, "of 10,000 requests in 10 s");
    }

    #[test]
    fn without_requests_time_adds_one_reserve_and_only_after_a_pause() {
        let mut budget = RetryBudget::new(RULES, 1, 0);
        assert_eq!(budget.left(3_600 * SECOND_NS), 100, "no growth");
        assert_eq!(drain(&mut budget, 3_600 * SECOND_NS), 100);
        let mut now = 3_600 * SECOND_NS;
        for _ in 0..1_000 {
            now += WINDOW_NS - 1;
            assert!(!budget.take(now), "the demand continues");
        }
        now += WINDOW_NS;
        assert_eq!(drain(&mut budget, now), 100);
    }

    #[test]
    fn a_clock_that_stands_jumps_or_runs_backwards_keeps_the_bound() {
        for times in
            [vec![7; 20], vec![0, u64::MAX], vec![u64::MAX, 0, u64::MAX - 1], vec![5 * SECOND_NS, 0, SECOND_NS]]
        {
            let mut budget = RetryBudget::new(RULES, 1, times[0]);
            let (mut requests, mut retries) = (0, 0);
            for now in times.iter().cycle().take(1_000) {
                let is_quiet = now.saturating_sub(budget.asked_at_ns) >= WINDOW_NS;
                retries += if is_quiet { 0 } else { drain(&mut budget, *now) };
                budget.request(*now);
                requests += 1;
            }
            assert!(retries as f64 <= 0.2 * f64::from(requests) + 100.0, "{times:?}: {retries}");
        }
    }

    #[test]
    fn workers_share_the_reserve_and_each_has_at_least_one_retry() {
        let reserve =
            |reserve_per_s, workers| RetryBudget::new(BudgetRules { percent: 20, reserve_per_s }, workers, 0).left(0);
        assert_eq!([1, 2, 4, 64, 100, 1_000].map(|workers| reserve(10, workers)), [100, 50, 25, 1, 1, 1]);
        assert_eq!(reserve(0, 1), 0);
        assert_eq!(reserve(10, 0), 100);
    }
}
