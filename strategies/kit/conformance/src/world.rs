//! A pool of a few backends. A test sets all their numbers.
//!
//! Invariants: a backend of weight 0 is never eligible, as in the host. Two worlds have the same `members_epoch` if and
//! only if they have the same names, weights and labels in the same order.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use lb_strategy::abi::{LB_BACKEND_ELIGIBLE, LB_BACKEND_HEALTHY, LbStrategyTable};
use lb_strategy_host::{
    BackendList, BackendSpec, Picker, Plugin, Slot, Stats, Strategy, backend_id, plugin_from_table,
};
use serde_json::Value;

use crate::pulse;

/// Backends of the largest small world.
pub const SMALL_WORLD_BACKENDS: usize = 4;
/// Loads in small worlds are below this.
const SMALL_WORLD_LOADS: usize = 4;

/// The values of the label `rank` in [`World::labelled`]. With two zones they give six different labels.
const RANKS: usize = 3;

/// Backends with their weights, health and loads. Clones share the live loads and slots.
#[derive(Clone, Debug)]
pub struct World {
    members: Vec<Member>,
    epoch: u64,
}

#[derive(Clone, Debug)]
struct Member {
    name: Arc<str>,
    /// A JSON object; "" without labels.
    labels: Arc<str>,
    weight: u32,
    /// The part of the weight to pick by, in thousandths.
    share: u32,
    is_up: bool,
    stats: Arc<Stats>,
    slot: Arc<Slot>,
}

/// The source of instances: a table that is linked into the test, or a plugin that was loaded from a file.
pub trait Subject: Copy {
    fn plugin(self) -> Result<Arc<Plugin>, String>;
}

/// An instance of a strategy, made through the host.
pub fn strategy(subject: impl Subject, options: &Value) -> Result<Arc<Strategy>, String> {
    Strategy::new(subject.plugin()?, options).map_err(|error| error.to_string())
}

/// Every world of up to 4 backends with these weights, loads of 0 to 3 and every set of healthy backends: 4,681 worlds.
pub fn small_worlds(weights: [u32; SMALL_WORLD_BACKENDS]) -> impl Iterator<Item = World> {
    (0..=SMALL_WORLD_BACKENDS).flat_map(move |n| {
        let loads = SMALL_WORLD_LOADS.pow(n as u32);
        (0..loads << n).map(move |number| {
            let (mut load, up) = (number >> n, number & ((1 << n) - 1));
            let world = World::of(n).weights(&weights[..n]).up(&(0..n).map(|i| up >> i & 1 == 1).collect::<Vec<_>>());
            for index in 0..n {
                world.set_load(index, (load % SMALL_WORLD_LOADS) as u32);
                load /= SMALL_WORLD_LOADS;
            }
            world
        })
    })
}

/// As `lb` writes them: sorted keys, no spaces.
fn labels_of(index: usize) -> String {
    format!(r#"{{"rank":{},"zone":"{}"}}"#, index % RANKS, ["a", "b"][index % 2])
}

// === impl Subject ===

impl Subject for &'static LbStrategyTable {
    fn plugin(self) -> Result<Arc<Plugin>, String> {
        plugin_from_table(self, 4)
    }
}

impl Subject for &Arc<Plugin> {
    fn plugin(self) -> Result<Arc<Plugin>, String> {
        Ok(self.clone())
    }
}

// === impl World ===

impl World {
    /// `n` backends `b0`, `b1`, … of weight 1, all up, nothing in flight.
    pub fn of(n: usize) -> Self {
        Self::named((0..n).map(|index| format!("b{index}")))
    }

    /// The same with labels: the zones `a` and `b` in turn, and the number `rank` from 0 to 2.
    pub fn labelled(n: usize) -> Self {
        let labels: Vec<String> = (0..n).map(labels_of).collect();
        Self::of(n).labels(&labels.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Backends with these names, of weight 1, all up, nothing in flight.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let member = |name: String| Member {
            name: name.into(),
            labels: Arc::default(),
            weight: 1,
            share: 1000,
            is_up: true,
            stats: Arc::default(),
            slot: Arc::default(),
        };
        Self { members: names.into_iter().map(|name| member(name.into())).collect(), epoch: 1 }
    }

    pub fn weights(mut self, weights: &[u32]) -> Self {
        assert_eq!(weights.len(), self.len(), "one weight for each backend");
        self.members.iter_mut().zip(weights).for_each(|(member, &weight)| member.weight = weight);
        self
    }

    /// The labels of each backend: JSON objects such as `{"zone":"a"}`, or "" for none.
    pub fn labels(mut self, labels: &[&str]) -> Self {
        assert_eq!(labels.len(), self.len(), "one text for each backend");
        self.members.iter_mut().zip(labels).for_each(|(member, labels)| member.labels = (*labels).into());
        self
    }

    /// The parts of their weights to pick by, in thousandths, as in a slow start. Members stay the same.
    pub fn shares(mut self, shares: &[u32]) -> Self {
        assert_eq!(shares.len(), self.len(), "one share for each backend");
        self.members.iter_mut().zip(shares).for_each(|(member, &share)| member.share = share);
        self.epoch += 1;
        self
    }

    /// Which backends are healthy.
    pub fn up(mut self, up: &[bool]) -> Self {
        assert_eq!(up.len(), self.len(), "one value for each backend");
        self.members.iter_mut().zip(up).for_each(|(member, &is_up)| member.is_up = is_up);
        self.epoch += 1;
        self
    }

    /// The same world without backend `index`.
    pub fn without(mut self, index: usize) -> Self {
        self.members.remove(index);
        self
    }

    /// The same backends in the opposite order.
    pub fn reversed(mut self) -> Self {
        self.members.reverse();
        self
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    pub fn weight(&self, index: usize) -> u32 {
        self.members[index].weight
    }

    pub fn is_eligible(&self, index: usize) -> bool {
        self.members[index].is_up && self.members[index].weight > 0
    }

    pub fn load(&self, index: usize) -> u32 {
        self.members[index].stats.in_flight.load(Relaxed)
    }

    /// Existing pickers see the change at once.
    pub fn set_load(&self, index: usize, in_flight: u32) {
        self.members[index].stats.in_flight.store(in_flight, Relaxed);
    }

    /// A load report with this utilisation, which is new at any time; `None`: no report. Existing pickers see it at
    /// once.
    pub fn set_report(&self, index: usize, utilization: Option<f64>) {
        let stats = &self.members[index].stats;
        stats.utilization.store(utilization.unwrap_or_default().to_bits(), Relaxed);
        // A time far ahead of the clock, so that the report has no age.
        stats.report_at_ns.store(utilization.map_or(0, |_| u64::MAX), Relaxed);
    }

    /// The indexes that may be picked for a request that has tried `tried`.
    pub fn candidates(&self, tried: &[u32]) -> Vec<usize> {
        (0..self.len()).filter(|&index| self.is_eligible(index) && !tried.contains(&(index as u32))).collect()
    }

    pub fn list(&self) -> BackendList {
        let specs = self.members.iter().map(|member| BackendSpec {
            name: member.name.clone(),
            address: "127.0.0.1:9".into(),
            labels: member.labels.clone(),
            weight: member.weight,
            effective: member.weight * member.share,
            flags: if member.is_up && member.weight > 0 { LB_BACKEND_ELIGIBLE | LB_BACKEND_HEALTHY } else { 0 },
            stats: member.stats.clone(),
            slot: member.slot.clone(),
        });
        BackendList::new(specs.collect(), self.epoch, self.members_epoch())
    }

    /// The picker of `strategy` for this world.
    pub fn picker(&self, strategy: &Arc<Strategy>) -> Result<Picker, String> {
        let picker = Picker::new(strategy.clone(), self.list()).map_err(|error| error.to_string());
        pulse::beat(1);
        picker
    }

    fn members_epoch(&self) -> u64 {
        let members =
            self.members.iter().map(|member| format!("{}\0{}\0{}\0", member.name, member.weight, member.labels));
        backend_id(&members.collect::<String>())
    }
}
