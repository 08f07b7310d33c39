//! The section `[queue]`, also that of pools, and the priority of a route: the file form, and the checks.
//!
//! The rules themselves are in [`lb_balance`]. Invariant: as in [`super::file`], the struct here is the list of keys.

use std::time::Duration;

use lb_balance::ShedRules;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::Fault;
use super::key_path::KeyPath;
use super::section::{Scope, section};
use super::validate::{milliseconds, size, small, within};
use super::validated::{PRIORITY_DEFAULT, QueuePolicy};

const OF_A_QUEUE: &str = "the requests of all routes wait in the queue of their pool";

section! {
    Queue, PartialQueue {
        length: i64 = 128, Scope::Pool(OF_A_QUEUE);
        wait_ms: i64 = 1_000, Scope::Pool(OF_A_QUEUE);
        shed_from_percent: i64 = i64::from(ShedRules::default().from_percent), Scope::Pool(OF_A_QUEUE);
        adaptive: bool = false, Scope::Pool(OF_A_QUEUE);
    }
}

/// Each waiting request holds a client's connection.
const LENGTH_MAX: i64 = 1_000_000;
/// A client that waits longer has given up.
const WAIT_MS_MAX: i64 = 600_000;

// === impl Queue ===

impl Queue {
    /// Checks the section at `section`.
    pub(super) fn check(&self, section: &KeyPath) -> Result<QueuePolicy, Fault> {
        let Self { length, wait_ms, shed_from_percent, adaptive } = *self;
        let limit = |name: &str, value: i64, min: i64, max: i64| within(section.key(name), value, min, max);
        limit("wait_ms", wait_ms, 1, WAIT_MS_MAX)?;
        let percent = limit("shed_from_percent", shed_from_percent, 0, 100)?;
        Ok(QueuePolicy {
            length: size(limit("length", length, 0, LENGTH_MAX)?),
            wait: milliseconds(section.key("wait_ms"), wait_ms, 1)?,
            shed: ShedRules { from_percent: small(percent) },
            adaptive,
        })
    }
}

/// Checks the priority of a route, which is at `key`.
pub(super) fn check_priority(priority: i64, key: KeyPath) -> Result<u8, Fault> {
    within(key, priority, 0, 255).map(|priority| priority as u8)
}

impl Default for QueuePolicy {
    fn default() -> Self {
        Self { length: 128, wait: Duration::from_secs(1), shed: ShedRules::default(), adaptive: false }
    }
}

/// The default of `routes.priority`.
pub(super) fn default_priority() -> i64 {
    i64::from(PRIORITY_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_that_of_an_empty_section() {
        assert_eq!(Queue::default().check(&KeyPath::default()).unwrap(), QueuePolicy::default());
    }
}
