//! A crash of an earlier run, and the last proven strategy of a pool, as the state directory has them.
//!
//! Invariant: bytes, options and pool together identify what crashed or was proven. A changed plugin or changed options
//! begin anew.

use std::path::PathBuf;

use lb_strategy_host::Strategy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::api::CrashStatus;

/// In place of a signal, for a hook that did not return.
const HANG: &str = "hang";

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

    /// Whether both are crashes of one strategy in one pool.
    pub(in crate::control) fn is_same(&self, other: &Self) -> bool {
        (&self.pool, &self.sha256, &self.options) == (&other.pool, &other.sha256, &other.options)
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
        let Self { strategy, version, sha256, signal, hook, proven: _, unix_s, .. } = self.clone();
        let at = jiff::Timestamp::from_second(unix_s).unwrap_or_default();
        let (name, at) = (format!("{strategy} {version}"), at.to_string());
        let what = if signal == HANG { "hung" } else { "crashed" };
        let crashed = format!("pool {pool}: strategy {} {what} at {at}: {}", name.trim_end(), self.cause());
        let is_loaded = instead.is_none();
        let message = match instead {
            Some(instead) => {
                format!("{crashed}. It was on probation, so it is not loaded: {instead}. `lb reload` loads it again")
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
             so it is not loaded: b 2 decides instead. `lb reload` loads it again"
        );
        assert!(crash.status("p", None).message.ends_with("ended lb. It was proven, so it is loaded again"));
    }
}
