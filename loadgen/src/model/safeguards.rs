//! The safeguards of lb: what it does about failing and full backends, beside its strategy.
//!
//! A safeguard that ejects a backend or sends a request twice changes counts and latencies. So all are off in an
//! experiment, unless its plan studies one. [`SAFEGUARDS`] is the list: loadgen writes the configuration, reads the
//! running lb and explains a report by it. Invariant: a new safeguard of lb is one line here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A section of lb.toml with a key that switches it off.
#[derive(Clone, Copy, Debug)]
pub struct Safeguard {
    pub section: &'static str,
    /// The key, and its value that means off.
    pub switch: &'static str,
    pub off: Off,
    /// Its name in reports.
    pub name: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Off {
    False,
    Number(i64),
}

/// The safeguards, in the order of reports.
pub const SAFEGUARDS: &[Safeguard] = &[
    Safeguard { section: "outlier", switch: "enabled", off: Off::False, name: "outlier detection" },
    Safeguard { section: "panic", switch: "below_percent", off: Off::Number(0), name: "panic" },
    Safeguard { section: "slow_start", switch: "enabled", off: Off::False, name: "slow start" },
    Safeguard { section: "retry", switch: "attempts", off: Off::Number(1), name: "retries" },
    Safeguard { section: "queue", switch: "length", off: Off::Number(0), name: "queue" },
];

/// The keys of safeguards by section, as a running lb reported them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Safeguards(pub BTreeMap<String, Map<String, Value>>);

// === impl Safeguard ===

impl Safeguard {
    pub fn of(section: &str) -> Option<&'static Self> {
        SAFEGUARDS.iter().find(|safeguard| safeguard.section == section)
    }

    /// The sections in their order.
    pub fn sections() -> Vec<&'static str> {
        SAFEGUARDS.iter().map(|safeguard| safeguard.section).collect()
    }

    /// Whether these keys of its section switch it off.
    pub fn is_off(&self, keys: &Map<String, Value>) -> bool {
        keys.get(self.switch).is_some_and(|value| *value == Value::from(self.off))
    }
}

impl From<Off> for Value {
    fn from(off: Off) -> Self {
        match off {
            Off::False => false.into(),
            Off::Number(number) => number.into(),
        }
    }
}

impl From<Off> for toml::Value {
    fn from(off: Off) -> Self {
        match off {
            Off::False => false.into(),
            Off::Number(number) => number.into(),
        }
    }
}

// === impl Safeguards ===

impl Safeguards {
    /// The safeguards that are on, with their keys. One that lb did not report is in neither list.
    pub fn on(&self) -> Vec<(&'static Safeguard, &Map<String, Value>)> {
        let of = |safeguard: &'static Safeguard| Some((safeguard, self.0.get(safeguard.section)?));
        SAFEGUARDS.iter().filter_map(of).filter(|(safeguard, keys)| !safeguard.is_off(keys)).collect()
    }

    /// The differences to `wanted`, which has keys by section: for example `outlier.enabled is true, not false`. A key
    /// of a section that is off in both has no effect and is not compared.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (section, keys) in &wanted.0 {
            let nothing = Map::new();
            let found = self.0.get(section).unwrap_or(&nothing);
            let are_both_off = Safeguard::of(section).is_some_and(|it| it.is_off(keys) && it.is_off(found));
            for (key, value) in keys.iter().filter(|_| !are_both_off) {
                match found.get(key) {
                    Some(found) if found == value => {}
                    Some(found) => differences.push(format!("{section}.{key} is {found}, not {value}")),
                    None => differences.push(format!("{section}.{key} is not reported, and must be {value}")),
                }
            }
        }
        differences
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn safeguards(json: Value) -> Safeguards {
        serde_json::from_value(json).expect("sections of keys")
    }

    #[test]
    fn a_safeguard_is_on_unless_its_switch_says_off() {
        let found = safeguards(json!({
            "outlier": { "enabled": false }, "panic": { "below_percent": 50 }, "retry": { "attempts": 2, "on": ["500"] },
            "of_another_version": { "enabled": true },
        }));
        assert_eq!(found.on().iter().map(|(it, _)| it.name).collect::<Vec<_>>(), ["panic", "retries"]);
        assert!(Safeguards::default().on().is_empty(), "unknown is not on");
    }

    #[test]
    fn each_key_that_was_asked_for_must_be_in_force() {
        let wanted = safeguards(json!({ "outlier": { "enabled": true, "eject_ms": 9 }, "retry": { "attempts": 1 } }));
        let same = json!({ "outlier": { "enabled": true, "eject_ms": 9, "more": 1 }, "retry": { "attempts": 1 } });
        assert_eq!(safeguards(same).differences(&wanted), Vec::<String>::new());
        let other = json!({ "outlier": { "enabled": false }, "retry": { "attempts": 2 } });
        let said = [
            "outlier.eject_ms is not reported, and must be 9",
            "outlier.enabled is false, not true",
            "retry.attempts is 2, not 1",
        ];
        let mut found = safeguards(other).differences(&wanted);
        found.sort_unstable();
        assert_eq!(found, said);
    }

    #[test]
    fn keys_of_a_section_that_is_off_are_not_compared() {
        let wanted = safeguards(json!({ "outlier": { "enabled": false, "eject_ms": 9 } }));
        assert!(safeguards(json!({ "outlier": { "enabled": false } })).differences(&wanted).is_empty());
    }
}
