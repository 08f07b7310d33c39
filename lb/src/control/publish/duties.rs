//! Duties: the hooks that the builder calls at regular times, `tick` and `metrics`, for each strategy in charge and
//! each shadow. `ends` adds `on_probe` for the ends of periodic probes.
//!
//! Why on the builder: all of them may be slow, and the contract allows one such call at a time.
//!
//! Invariants: only strategies in use have duties. A late call is not made up for. After a call the builder is free
//! for at least as long as the call took. However often a strategy asks for a new picker, the actor gets one request.

mod ends;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_strategy_host::{HookError, PluginPage, Strategy};
use parking_lot::Mutex;
use tokio::sync::Notify;

use self::ends::Ends;
use super::complaints::Complaints;
use crate::control::pools::{PoolKey, PoolState};
use crate::telemetry::{DutyHook, Metrics};

pub(super) use self::ends::Probed;

/// Between two calls of `metrics`.
const METRICS_EVERY: Duration = Duration::from_secs(1);

/// The duties of all pools. They belong to the builder's thread.
#[derive(Default)]
pub(super) struct Duties {
    regular: Vec<Duty>,
    ends: Ends,
}

/// The instance in charge of a pool, or a shadow.
#[derive(Clone)]
pub(super) struct Post {
    pool: PoolKey,
    name: Arc<str>,
    /// The label `strategy` of its metrics.
    label: Arc<str>,
    strategy: Arc<Strategy>,
}

/// Where duties report.
pub(super) struct Office {
    pub(super) metrics: Arc<Metrics>,
    pub(super) rebuilds: Rebuilds,
    /// Zero of the clock that strategies see.
    pub(super) opened: Instant,
}

/// The instances that ask for a new picker, until the actor takes them.
#[derive(Default)]
pub(super) struct Rebuilds {
    asking: Mutex<Vec<(PoolKey, u64)>>,
    changed: Notify,
}

/// One hook of one instance.
struct Duty {
    post: Post,
    office: Arc<Office>,
    hook: DutyHook,
    every: Duration,
    due: Instant,
    complaints: Complaints,
}

// === impl Post ===

impl Post {
    /// Those of a pool that have such hooks. A shadow has no probes.
    pub(super) fn all(key: PoolKey, pool: &PoolState) -> impl Iterator<Item = Self> {
        let post = move |label: &str, strategy: &Arc<Strategy>| Self {
            pool: key,
            name: pool.name.clone(),
            label: label.into(),
            strategy: strategy.clone(),
        };
        let in_charge = post(pool.strategy.plugin().name(), &pool.strategy);
        let has_probes = pool.strategy.plugin().probe_ms() > 0;
        let in_charge = Some(in_charge).filter(|post| has_probes || post.has_hooks());
        let shadows = pool.shadows.on().map(move |shadow| post(&shadow.label(), &shadow.strategy));
        in_charge.into_iter().chain(shadows.filter(Self::has_hooks))
    }

    /// Whether both are the same instance in the same pool.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.pool == other.pool && self.strategy.instance() == other.strategy.instance()
    }

    fn has_hooks(&self) -> bool {
        self.hooks().next().is_some()
    }

    /// The hooks that it has for regular calls, and the time between two of them.
    fn hooks(&self) -> impl Iterator<Item = (DutyHook, Duration)> + use<> {
        let plugin = self.strategy.plugin();
        let tick = Duration::from_millis(plugin.tick_ms().into());
        let tick = (!tick.is_zero()).then_some((DutyHook::Tick, tick));
        let metrics = plugin.has_metrics().then_some((DutyHook::Metrics, METRICS_EVERY));
        tick.into_iter().chain(metrics)
    }
}

// === impl Duties ===

impl Duties {
    /// The instances of `posts` have the duties from now on. Duties of others end, and their metrics are removed. An
    /// instance that stays keeps its times.
    pub(super) fn replace(&mut self, posts: Vec<Post>, office: &Arc<Office>, now: Instant) {
        let is_of = |duty: &Duty, posts: &[Post]| posts.iter().any(|post| post.is(&duty.post));
        let (stay, end) = std::mem::take(&mut self.regular).into_iter().partition(|duty| is_of(duty, &posts));
        self.regular = stay;
        end.into_iter().for_each(Duty::end);
        self.ends.keep(&posts);
        for post in posts {
            if !self.regular.iter().any(|duty| duty.post.is(&post)) {
                self.regular.extend(post.hooks().map(|(hook, every)| Duty::begin(&post, office, hook, every, now)));
            }
        }
    }

    /// A periodic probe has ended.
    pub(super) fn probed(&mut self, probed: Probed, now: Instant) {
        self.ends.push(probed, now);
    }

    /// When the next call is due; `None` without duties.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.next_regular().into_iter().chain(self.ends.next_due()).min()
    }

    /// Makes the call that is due longest, if one is due. One at a time, so that jobs come in between.
    pub(super) fn run_one(&mut self, now: Instant) {
        let Some(due) = self.next_due().filter(|due| *due <= now) else { return };
        match self.regular.iter_mut().find(|duty| duty.due == due) {
            Some(duty) => duty.run(now),
            None => self.ends.tell_one(now),
        }
    }

    fn next_regular(&self) -> Option<Instant> {
        self.regular.iter().map(|duty| duty.due).min()
    }
}

// === impl Duty ===

impl Duty {
    /// Metrics are due at once, so that a scrape finds them soon. The first tick is due after its time.
    fn begin(post: &Post, office: &Arc<Office>, hook: DutyHook, every: Duration, now: Instant) -> Self {
        let due = match hook {
            DutyHook::Tick => now + every,
            DutyHook::Metrics => now,
        };
        office.metrics.duty_failures(&post.name, &post.label, hook, 0);
        Self { post: post.clone(), office: office.clone(), hook, every, due, complaints: Complaints::default() }
    }

    fn end(self) {
        if self.hook == DutyHook::Metrics {
            self.office.metrics.plugin_page_ends(&self.post.name, &self.post.label);
        }
    }

    fn run(&mut self, now: Instant) {
        let began = Instant::now();
        match self.hook {
            DutyHook::Tick => self.tick(now),
            DutyHook::Metrics => self.collect(now),
        }
        let took = began.elapsed();
        let ended = now + took;
        let in_time = self.due + self.every;
        self.due = if in_time > ended { in_time } else { ended + self.every }.max(ended + took);
    }

    fn tick(&mut self, now: Instant) {
        let Post { pool, strategy, .. } = &self.post;
        match strategy.tick((now - self.office.opened).as_nanos() as u64) {
            Ok(false) => {}
            Ok(true) => self.office.rebuilds.ask(*pool, strategy.instance()),
            Err(error) => self.failed(&error, now),
        }
    }

    fn collect(&mut self, now: Instant) {
        let (metrics, Post { name, label, strategy, .. }) = (&self.office.metrics, &self.post);
        match strategy.metrics() {
            None => {}
            Some(Ok(text)) => {
                let page = PluginPage::read(&text);
                if let Some(first) = page.first_dropped()
                    && let Some(untold) = self.complaints.may_tell(now)
                {
                    let dropped = page.dropped();
                    tracing::warn!(pool = %name, strategy = %label, dropped, untold, "metrics of the strategy are dropped: {first}");
                }
                metrics.plugin_page(name, label, page);
            }
            Some(Err(error)) => {
                // Old numbers would look like new ones.
                metrics.plugin_page_ends(name, label);
                self.failed(&error, now);
            }
        }
    }

    fn failed(&mut self, error: &HookError, now: Instant) {
        let Post { name, label, .. } = &self.post;
        self.office.metrics.duty_failures(name, label, self.hook, 1);
        if let Some(untold) = self.complaints.may_tell(now) {
            tracing::error!(pool = %name, untold, "{error}; requests go on");
        }
    }
}

// === impl Rebuilds ===

impl Rebuilds {
    fn ask(&self, pool: PoolKey, instance: u64) {
        let mut asking = self.asking.lock();
        if !asking.contains(&(pool, instance)) {
            asking.push((pool, instance));
            self.changed.notify_one();
        }
    }

    /// Waits until an instance asks. Can be dropped and called again.
    pub(super) async fn asked(&self) {
        self.changed.notified().await;
    }

    /// The instances that ask. They may ask again.
    pub(super) fn take(&self) -> Vec<(PoolKey, u64)> {
        std::mem::take(&mut self.asking.lock())
    }
}

#[cfg(test)]
mod tests;
