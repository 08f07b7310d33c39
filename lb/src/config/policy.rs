//! The sections that pools and routes may set for themselves, level by level: lb, pool, route.
//!
//! A level is checked as a whole, in full form. So a value is checked where it was typed. A key that limits another one
//! is also checked with an inherited value, and the error is at the level that sets the other.
//!
//! Invariants: the policy of pool N is the one at N; those of routes follow. A key whose scope
//! ([`Scope`](super::section::Scope)) forbids it at a level has the value of the level above.

use std::sync::Arc;

use lb_balance::{OutlierRules, PanicRules, Ramp};

use super::error::Fault;
use super::failing::{Outlier, Panic, PartialOutlier, PartialPanic, PartialRetry, Retry};
use super::file;
use super::health::check_health;
use super::key_path::KeyPath;
use super::queue::{PartialQueue, Queue};
use super::section::{Owner, Partial, check_scopes};
use super::slow_start::{PartialSlowStart, SlowStart};
use super::sticky::{PartialSticky, Sticky};
use super::validate::{Surroundings, milliseconds, size, small, within};
use super::validated::{Health, Limits, PRIORITY_DEFAULT, Policy, Timeouts};

/// The sections of one level that rule requests, in full form.
#[derive(Clone, Debug)]
pub(super) struct Sections {
    pub(super) timeouts: file::Timeouts,
    pub(super) limits: file::Limits,
    pub(super) retry: Retry,
    pub(super) queue: Queue,
}

/// The same of a pool or a route, as typed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Own<'f> {
    pub(super) timeouts: &'f file::PartialTimeouts,
    pub(super) limits: &'f file::PartialLimits,
    pub(super) retry: &'f PartialRetry,
    /// A route has none.
    pub(super) queue: &'f PartialQueue,
}

/// The rules of all levels that were checked so far.
#[derive(Debug)]
pub(super) struct Rules {
    /// By pool. The first are the global ones, which the pool `default` has.
    sections: Vec<Sections>,
    /// By pool, then those of routes.
    policies: Vec<Policy>,
    /// The global section.
    health: file::Health,
    checked_health: Arc<Health>,
    /// The global sections.
    failing: (Outlier, Panic),
    /// The global section.
    sticky: Sticky,
    slow_start: SlowStart,
}

// === impl Rules ===

impl Rules {
    /// The rules of lb, which are those of the pool `default`.
    pub(super) fn global(
        sections: Sections,
        health: &file::Health,
        failing: (Outlier, Panic),
        slow_start: SlowStart,
        sticky: Sticky,
    ) -> Result<Self, Fault> {
        let top = KeyPath::default();
        let policies = vec![sections.check(&top)?];
        let own = file::PartialHealth::changed_in(health);
        let checked_health = Arc::new(check_health(health, &own, &top.key("health"))?);
        let (sections, health) = (vec![sections], health.clone());
        Ok(Self { sections, policies, health, checked_health, failing, slow_start, sticky })
    }

    /// Adds the rules of the next pool, which is at `key`.
    pub(super) fn add_pool(&mut self, own: Own<'_>, key: &KeyPath) -> Result<(), Fault> {
        let sections = own.over(&self.sections[0], key, Owner::Pool)?;
        self.policies.push(sections.check(key)?);
        self.sections.push(sections);
        Ok(())
    }

    /// Adds the rules of a route to `pool`, which is at `key`, if it has its own. Returns the place of its policy. All
    /// pools must be there.
    pub(super) fn add_route(&mut self, own: Own<'_>, priority: u8, key: &KeyPath, pool: usize) -> Result<usize, Fault> {
        if own == Own::NONE && priority == PRIORITY_DEFAULT {
            return Ok(pool);
        }
        let sections = own.over(&self.sections[pool], key, Owner::Route)?;
        let sticky = self.policies[pool].sticky.clone();
        self.policies.push(Policy { sticky, priority, ..sections.check(key)? });
        Ok(self.policies.len() - 1)
    }

    /// Adds the sessions of `pool`, which is at `key`. Call it before [`Self::add_route`].
    pub(super) fn add_sticky(
        &mut self,
        pool: usize,
        (own, key): (&PartialSticky, &KeyPath),
        around: &Surroundings,
        warnings: &mut Vec<String>,
    ) -> Result<(), Fault> {
        let sticky = own.over(&self.sticky).check(&key.key("sticky"), around, warnings)?;
        self.policies[pool].sticky = sticky.map(Arc::new);
        Ok(())
    }

    /// The rules for the checks of the backends of lb, or of a pool, if it has its own.
    pub(super) fn health(&self, pool: Option<(&file::PartialHealth, &KeyPath)>) -> Result<Arc<Health>, Fault> {
        match pool {
            Some((own, key)) if *own != file::PartialHealth::NONE => {
                check_health(&own.over(&self.health), own, &key.key("health")).map(Arc::new)
            }
            _ => Ok(self.checked_health.clone()),
        }
    }

    /// The rules for failing backends of lb, or of a pool.
    pub(super) fn failing(
        &self,
        pool: Option<(&PartialOutlier, &PartialPanic, &KeyPath)>,
    ) -> Result<(OutlierRules, PanicRules), Fault> {
        let (outlier, panic) = &self.failing;
        let (own_outlier, own_panic, key) = match pool {
            Some((outlier, panic, key)) => (outlier, panic, key.clone()),
            None => (&PartialOutlier::NONE, &PartialPanic::NONE, KeyPath::default()),
        };
        let outlier = own_outlier.over(outlier).check(&key.key("outlier"))?;
        Ok((outlier, own_panic.over(panic).check(&key.key("panic"))?))
    }

    /// The rules for the shares of new and returning backends of lb, or of a pool.
    pub(super) fn slow_start(&self, pool: Option<(&PartialSlowStart, &KeyPath)>) -> Result<Option<Ramp>, Fault> {
        let (own, key) = pool.map_or((&PartialSlowStart::NONE, KeyPath::default()), |(own, key)| (own, key.clone()));
        own.over(&self.slow_start).check(&key.key("slow_start"))
    }

    /// The global policy.
    pub(super) fn policy(&self) -> &Policy {
        &self.policies[0]
    }

    /// Those of lb, of the pools and of the routes.
    pub(super) fn policies(&self) -> &[Policy] {
        &self.policies
    }

    pub(super) fn into_policies(self) -> Arc<[Policy]> {
        self.policies.into()
    }
}

// === impl Own ===

impl Own<'_> {
    /// Without a key.
    const NONE: Own<'static> = Own {
        timeouts: &file::PartialTimeouts::NONE,
        limits: &file::PartialLimits::NONE,
        retry: &PartialRetry::NONE,
        queue: &PartialQueue::NONE,
    };

    /// The sections `above` with the keys that are set here, which are those of `owner` at `key`.
    fn over(self, above: &Sections, key: &KeyPath, owner: Owner) -> Result<Sections, Fault> {
        let Self { timeouts, limits, retry, queue } = self;
        check_scopes(timeouts, &key.key("timeouts"), owner)?;
        check_scopes(limits, &key.key("limits"), owner)?;
        check_scopes(retry, &key.key("retry"), owner)?;
        check_scopes(queue, &key.key("queue"), owner)?;
        Ok(Sections {
            timeouts: timeouts.over(&above.timeouts),
            limits: limits.over(&above.limits),
            retry: retry.over(&above.retry),
            queue: queue.over(&above.queue),
        })
    }
}

// === impl Sections ===

impl Sections {
    /// Checks the sections, which are those at `key`.
    fn check(&self, key: &KeyPath) -> Result<Policy, Fault> {
        let Self { timeouts, limits, retry, queue } = self;
        Ok(Policy {
            timeouts: check_timeouts(timeouts, &key.key("timeouts"))?,
            limits: check_limits(limits, &key.key("limits"))?,
            retry: retry.check(&key.key("retry"))?,
            sticky: None,
            queue: queue.check(&key.key("queue"))?,
            priority: PRIORITY_DEFAULT,
        })
    }
}

fn check_timeouts(form: &file::Timeouts, section: &KeyPath) -> Result<Timeouts, Fault> {
    let file::Timeouts {
        connect_ms,
        head_ms,
        response_head_ms,
        idle_ms,
        body_grace_ms,
        tunnel_idle_ms,
        half_closed_ms,
        client_keep_alive_ms,
        upstream_idle_ms,
        total_ms,
        drain_ms,
    } = *form;
    let at_least_1 = |name: &str, value: i64| milliseconds(section.key(name), value, 1);
    let total = milliseconds(section.key("total_ms"), total_ms, 0)?;
    Ok(Timeouts {
        connect: at_least_1("connect_ms", connect_ms)?,
        head: at_least_1("head_ms", head_ms)?,
        response_head: at_least_1("response_head_ms", response_head_ms)?,
        idle: at_least_1("idle_ms", idle_ms)?,
        body_grace: at_least_1("body_grace_ms", body_grace_ms)?,
        tunnel_idle: at_least_1("tunnel_idle_ms", tunnel_idle_ms)?,
        half_closed: at_least_1("half_closed_ms", half_closed_ms)?,
        client_keep_alive: at_least_1("client_keep_alive_ms", client_keep_alive_ms)?,
        upstream_idle: at_least_1("upstream_idle_ms", upstream_idle_ms)?,
        total: (!total.is_zero()).then_some(total),
        drain: at_least_1("drain_ms", drain_ms)?,
    })
}

fn check_limits(form: &file::Limits, section: &KeyPath) -> Result<Limits, Fault> {
    let file::Limits {
        head_bytes,
        headers,
        body_bytes,
        body_min_bytes_per_s: rate,
        connections,
        requests_in_flight_per_backend: in_flight,
        connections_per_backend: open,
        upstream_idle_connections: idle,
    } = *form;
    let limit = |name: &str, value: i64, min: i64, max: i64| within(section.key(name), value, min, max);
    let body_bytes = limit("body_bytes", body_bytes, 0, i64::MAX)?;
    let rate = limit("body_min_bytes_per_s", rate, 0, 1_000_000_000)?;
    let in_flight = limit("requests_in_flight_per_backend", in_flight, 0, 1_000_000)?;
    let open = limit("connections_per_backend", open, 0, 1_000_000)?;
    Ok(Limits {
        head_bytes: size(limit("head_bytes", head_bytes, 8_192, 1_048_576)?),
        headers: size(limit("headers", headers, 1, 4_096)?),
        body_bytes: (body_bytes > 0).then_some(body_bytes.unsigned_abs()),
        body_min_bytes_per_s: (rate > 0).then_some(rate.unsigned_abs()),
        connections: size(limit("connections", connections, 1, 1_000_000)?),
        requests_in_flight_per_backend: (in_flight > 0).then_some(small(in_flight)),
        connections_per_backend: (open > 0).then_some(small(open)),
        upstream_idle_connections: size(limit("upstream_idle_connections", idle, 0, 65_536)?),
    })
}
