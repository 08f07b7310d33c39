//! A crash of an earlier run, and the last proven strategy of a pool, as the state directory has them.
//!
//! Why a proven strategy may be kept out: a supervisor restarts lb, and a plugin that crashes soon after each start
//! would end every run. [`LOOP_RUNS`] runs that end so within an hour are a loop.
//!
//! Invariant: bytes, options and pool together identify what crashed or was proven. A changed plugin or changed options
//! begin anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lb_strategy_host::Strategy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::api::{CrashStatus, RolledBack};

/// In place of a signal, for a hook that did not return.
const HANG: &str = "hang";
/// A proven strategy is not loaded after so many runs in a row that it ended soon.
const LOOP_RUNS: u32 = 3;
/// A run that was shorter counts, in seconds.
const SOON_S: u64 = 60;
/// Only crashes so soon before the last one count, in seconds.
const LOOP_S: i64 = 3_600;
/// What an operator can do about a strategy that is not loaded.
const WAY_OUT: &str = "`lb reload` loads it again, and `lb reload --strategy NAME` puts another one in charge";

/// One line of the blame file. The host crate writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::control) struct Crash {
    /// `None`: while the library was opened, which belongs to no pool.
    pub(in crate::control) pool: Option<String>,
    strategy: String,
    version: String,
    file: Option<PathBuf>,
    pub(in crate::control) sha256: Option<String>,
    pub(in crate::control) options: Value,
    signal: String,
    hook: String,
    /// Its probation had ended well.
    pub(in crate::control) proven: bool,
    unix_s: i64,
    /// How long its run had lasted. A line of an older lb has no such number.
    #[serde(default)]
    up_s: Option<u64>,
    /// It ended so many runs in a row soon, so it is not loaded although it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    in_a_row: Option<u32>,
    /// A start has reported it.
    #[serde(default)]
    pub(in crate::control) is_reported: bool,
}

/// The last strategy of a pool that passed its probation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::control) struct Proven {
    pub(in crate::control) strategy: String,
    version: String,
    /// The operator's file. It may have other bytes now.
    pub(in crate::control) file: Option<PathBuf>,
    pub(in crate::control) sha256: String,
    pub(in crate::control) options: Value,
}

// === impl Crash ===

impl Crash {
    /// Whether a plugin with these bytes crashed with these options in this pool.
    pub(in crate::control) fn is_of(&self, pool: &str, sha256: Option<&str>, options: &Value) -> bool {
        let is_same_use = |own: &str| own == pool && has_same_options(&self.options, options);
        sha256.is_some() && self.sha256.as_deref() == sha256 && self.pool.as_deref().is_none_or(is_same_use)
    }

    /// A hang does not end lb, so its strategy may have been proven after it.
    pub(in crate::control) fn look_at_proven(&mut self, proven: &BTreeMap<String, Proven>) {
        let of_pool = self.pool.as_ref().and_then(|pool| Some((pool, proven.get(pool)?)));
        if let Some((pool, Proven { sha256, options, .. })) = of_pool
            && self.signal == HANG
            && self.is_of(pool, Some(sha256), options)
        {
            self.proven = true;
        }
    }

    /// Whether its strategy is not loaded until an operator's reload.
    pub(in crate::control) fn keeps_out(&self) -> bool {
        !self.proven || self.in_a_row.is_some()
    }

    /// Whether it may still count for a loop with a crash at `unix_s`.
    pub(in crate::control) fn may_count(&self, unix_s: i64) -> bool {
        self.up_s.is_some_and(|up_s| up_s < SOON_S) && unix_s.saturating_sub(self.unix_s) <= LOOP_S
    }

    /// The second in which its run began.
    fn began(&self) -> i64 {
        self.unix_s.saturating_sub_unsigned(self.up_s.unwrap_or_default())
    }

    /// Whether both are crashes of one strategy in one pool.
    pub(in crate::control) fn is_same(&self, other: &Self) -> bool {
        (&self.pool, &self.sha256, &self.options) == (&other.pool, &other.sha256, &other.options)
    }

    /// As a strategy that is not in charge.
    pub(in crate::control) fn rolled_back(&self, pool: &str, options: &Value) -> RolledBack {
        RolledBack {
            pool: pool.to_owned(),
            strategy: self.strategy.clone(),
            sha256: self.sha256.clone(),
            options: options.clone(),
            reason: self.cause(),
            generation: 1,
            at: self.at(),
        }
    }

    fn at(&self) -> String {
        jiff::Timestamp::from_second(self.unix_s).unwrap_or_default().to_string()
    }

    /// What ended the process, for messages.
    pub(in crate::control) fn cause(&self) -> String {
        match &*self.signal {
            HANG => format!("its hook {} did not return", self.hook),
            signal => format!("{signal} in its hook {} ended lb", self.hook),
        }
    }

    /// For `/status`. `instead` is the strategy that decides now, unless the one that crashed was loaded again.
    pub(in crate::control) fn status(&self, pool: &str, instead: Option<String>) -> CrashStatus {
        let Self { strategy, version, sha256, signal, hook, .. } = self.clone();
        let (name, at) = (format!("{strategy} {version}"), self.at());
        let what = if signal == HANG { "hung" } else { "crashed" };
        let crashed = format!("pool {pool}: strategy {} {what} at {at}: {}", name.trim_end(), self.cause());
        let is_loaded = instead.is_none();
        let message = match instead {
            Some(instead) => {
                let why = match self.in_a_row {
                    None => "It was on probation".to_owned(),
                    Some(runs) => {
                        format!("It was proven, but it ended {runs} runs in a row within {SOON_S} s of their start")
                    }
                };
                format!("{crashed}. {why}, so it is not loaded: {instead}. {WAY_OUT}")
            }
            None => format!("{crashed}. It was proven, so it is loaded again"),
        };
        CrashStatus { strategy, version, sha256, signal, hook, at, is_loaded, message }
    }

    pub(in crate::control) fn strategy(&self) -> &str {
        &self.strategy
    }
}

// === impl Proven ===

impl Proven {
    /// `None` for a strategy without a file.
    pub(in crate::control) fn of(strategy: &Strategy, options: &Value) -> Option<Self> {
        let plugin = strategy.plugin();
        Some(Self {
            strategy: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            file: plugin.path().map(ToOwned::to_owned),
            sha256: plugin.sha256_hex()?,
            options: options.clone(),
        })
    }

    /// Whether both are the same bytes and options. The file may have been moved.
    pub(in crate::control) fn is_same(&self, other: &Self) -> bool {
        self.sha256 == other.sha256 && has_same_options(&self.options, &other.options)
    }

    /// Name and version.
    pub(in crate::control) fn name(&self) -> String {
        format!("{} {}", self.strategy, self.version)
    }
}

/// Finds strategies that were proven and end each run soon. The newest crash of each is marked. `crashes` are in their
/// order.
pub(super) fn find_loops(crashes: &mut [Crash]) {
    for index in 0..crashes.len() {
        let (earlier, newest) = (&crashes[..=index], &crashes[index]);
        if !newest.proven || newest.in_a_row.is_some() {
            continue;
        }
        let same = earlier.iter().rev().filter(|crash| crash.is_same(newest));
        let in_a_row = same.take_while(|crash| crash.may_count(newest.unix_s));
        let (mut runs, mut last) = (0, None);
        for crash in in_a_row {
            // Several threads of one run may hang.
            let is_of_last_run = last.is_some_and(|began: i64| began.abs_diff(crash.began()) <= 1);
            runs += u32::from(crash.signal != HANG || !is_of_last_run);
            last = Some(crash.began());
        }
        if runs >= LOOP_RUNS {
            crashes[index].in_a_row = Some(runs);
        }
    }
}

/// No options are the same as an empty object.
fn has_same_options(left: &Value, right: &Value) -> bool {
    let is_none = |options: &Value| options.is_null() || options.as_object().is_some_and(serde_json::Map::is_empty);
    left == right || (is_none(left) && is_none(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(pool: Option<&str>, options: &Value) -> Crash {
        let line = serde_json::json!({
            "pool": pool, "strategy": "a", "version": "1", "file": "/a.so", "sha256": "ab", "options": options,
            "signal": "SIGSEGV", "hook": "pick", "proven": false, "unix_s": 0,
        });
        serde_json::from_value(line).unwrap()
    }

    #[test]
    fn other_bytes_options_or_pools_are_not_blamed() {
        let options = serde_json::json!({ "a": 1 });
        let crash_of = crash(Some("p"), &options);
        assert!(crash_of.is_of("p", Some("ab"), &options));
        assert!(!crash_of.is_of("q", Some("ab"), &options));
        assert!(!crash_of.is_of("p", Some("cd"), &options));
        assert!(!crash_of.is_of("p", None, &options));
        assert!(!crash_of.is_of("p", Some("ab"), &Value::Null));
        assert!(
            crash(None, &Value::Null).is_of("q", Some("ab"), &options),
            "a crash while it was opened is of all pools"
        );
        assert!(crash(Some("p"), &Value::Null).is_of("p", Some("ab"), &serde_json::json!({})));
    }

    #[test]
    fn the_message_says_what_crashed_what_decides_now_and_what_to_do() {
        let crash = crash(Some("p"), &Value::Null);
        let told = crash.status("p", Some("b 2 decides instead".to_owned()));
        assert_eq!(
            told.message,
            "pool p: strategy a 1 crashed at 1970-01-01T00:00:00Z: SIGSEGV in its hook pick ended lb. It was on probation, \
             so it is not loaded: b 2 decides instead. `lb reload` loads it again, and `lb reload --strategy NAME` puts \
             another one in charge"
        );
        assert!(crash.status("p", None).message.ends_with("ended lb. It was proven, so it is loaded again"));
        let looping = Crash { in_a_row: Some(3), proven: true, ..crash };
        let told = looping.status("p", Some("b 2 decides instead".to_owned())).message;
        assert!(
            told.contains(". It was proven, but it ended 3 runs in a row within 60 s of their start, so it"),
            "{told}"
        );
    }

    #[test]
    fn a_hang_before_its_strategy_was_proven_does_not_keep_it_out() {
        let proven = |pool: &str, sha256: &str| {
            let file = Proven {
                strategy: "a".into(),
                version: "1".into(),
                file: None,
                sha256: sha256.into(),
                options: Value::Null,
            };
            BTreeMap::from([(pool.to_owned(), file)])
        };
        let looked = |signal: &str, proven: &BTreeMap<String, Proven>| {
            let mut crash = Crash { signal: signal.into(), ..crash(Some("p"), &Value::Null) };
            crash.look_at_proven(proven);
            crash.keeps_out()
        };
        let sha256 = crash(Some("p"), &Value::Null).sha256.unwrap();
        assert!(!looked(HANG, &proven("p", &sha256)));
        assert!(looked(HANG, &proven("q", &sha256)) && looked(HANG, &proven("p", "other bytes")));
        assert!(looked("SIGSEGV", &proven("p", &sha256)), "the run ended: its probation cannot have gone on");
    }

    /// Crashes of a proven strategy: signal, second, and how long the run had lasted.
    fn proven(of: &[(&str, i64, u64)]) -> Vec<Crash> {
        let one = |(signal, unix_s, up_s): &(&str, i64, u64)| Crash {
            signal: (*signal).to_owned(),
            unix_s: *unix_s,
            up_s: Some(*up_s),
            proven: true,
            ..crash(Some("p"), &Value::Null)
        };
        of.iter().map(one).collect()
    }

    fn is_loop(of: &[(&str, i64, u64)]) -> bool {
        let mut crashes = proven(of);
        find_loops(&mut crashes);
        crashes.iter().any(Crash::keeps_out)
    }

    #[test]
    fn three_short_runs_in_a_row_within_an_hour_are_a_loop() {
        assert!(is_loop(&[("SIGSEGV", 100, 59), ("SIGABRT", 200, 0), ("SIGSEGV", 300, 7)]));
        assert!(!is_loop(&[("SIGSEGV", 100, 59), ("SIGSEGV", 200, 0)]));
        assert!(!is_loop(&[("SIGSEGV", 100, 1), ("SIGSEGV", 200, 60), ("SIGSEGV", 300, 1)]), "one run was long");
        assert!(!is_loop(&[("SIGSEGV", 100, 1), ("SIGSEGV", 3_800, 1), ("SIGSEGV", 3_900, 1)]), "the first one is old");
        assert!(is_loop(&[("SIGSEGV", 1, 70), ("SIGSEGV", 2, 0), ("SIGSEGV", 3, 0), ("SIGSEGV", 4, 0)]));
    }

    #[test]
    fn threads_of_one_run_that_hang_count_once() {
        assert!(!is_loop(&[("hang", 100, 10), ("hang", 101, 11), ("hang", 109, 19)]));
        assert!(is_loop(&[("hang", 100, 10), ("hang", 120, 10), ("hang", 140, 10)]));
        // Each signal ends a run, also if the next one begins in the same second.
        assert!(is_loop(&[("SIGSEGV", 100, 0), ("SIGSEGV", 100, 0), ("SIGSEGV", 100, 0)]));
    }
}
