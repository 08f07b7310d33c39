//! The results that the course of a run collects, and their conversion to the stored run.

use super::arms::Declared;
use super::described;
use super::plan::Plan;
use super::record::Record;
use super::run::ExperimentError;
use super::seeds::Seeds;
use super::stage::Stage;
use crate::lab::Scrape;
use crate::model::{
    self, Arm, BackendsDescription, Comparison, Completeness, Disruption, Load, Manifest, Program, Results, Run, SCHEMA,
};

/// The results that the course of a run collects.
pub(super) struct Collected {
    pub(super) record: Record,
    pub(super) disruptions: Vec<Disruption>,
    pub(super) load: Load,
    pub(super) compared: Option<Comparison>,
}

/// The data of the manifest beyond plan and results.
pub(super) struct Identity<'a> {
    pub(super) command: &'a [String],
    pub(super) started: jiff::Timestamp,
    /// `None` in virtual time.
    pub(super) lb: Option<Program>,
    pub(super) seeds: &'a Seeds,
    pub(super) host: model::Host,
}

fn revision_of(scrape: &Scrape) -> String {
    let info = scrape.matching("lb_build_info", &[]).find_map(|info| info.label("revision"));
    info.unwrap_or("unknown").to_owned()
}

// === impl Collected ===

impl Collected {
    pub(super) fn new(plan: &Plan) -> Self {
        Self { record: Record::default(), disruptions: Vec::new(), load: described::load(plan), compared: None }
    }

    /// Takes events, marks and accounts from the stage. lb must still run, because the manifest has its revision.
    pub(super) fn into_run(
        self,
        stage: &mut Stage,
        plan: &Plan,
        declared: &Declared,
        mut identity: Identity<'_>,
        ended: Option<&ExperimentError>,
    ) -> Run {
        let revision = stage.balancer.admin.metrics().ok().and_then(|text| Scrape::parse(&text).ok());
        if let (Some(lb), Some(found)) = (&mut identity.lb, revision.as_ref().map(revision_of)) {
            lb.commit = found;
        }
        let arms = plan.arms.iter().map(|arm| stage.arm(declared, arm)).collect();
        let backends = described::backends(plan, &stage.balancer);
        let mut manifest = identity.manifest(plan, arms, self.load, backends, ended);
        (manifest.duration_ms, manifest.marks) = (stage.now_ms(), std::mem::take(&mut stage.marks));
        let Record { cells, series, latencies, rings } = self.record;
        let results = Results {
            cells,
            events: std::mem::take(&mut stage.events),
            accounting: std::mem::take(&mut stage.accounting),
            disruptions: self.disruptions,
            rings,
            comparison: self.compared,
        };
        Run { manifest, results, series, latencies }
    }
}

// === impl Identity ===

impl Identity<'_> {
    /// The manifest of a run without its duration and marks.
    pub(super) fn manifest(
        self,
        plan: &Plan,
        arms: Vec<Arm>,
        load: Load,
        backends: BackendsDescription,
        ended: Option<&ExperimentError>,
    ) -> Manifest {
        Manifest {
            schema: SCHEMA,
            scenario: plan.scenario,
            title: plan.title.clone(),
            command: self.command.to_vec(),
            loadgen: Program {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                commit: env!("BUILD_REVISION").to_owned(),
            },
            lb: self.lb,
            started: self.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            duration_ms: 0,
            budget_ms: u64::try_from(plan.budget.as_millis()).unwrap_or(u64::MAX),
            arms,
            load,
            backends,
            seeds: self.seeds.by_name(),
            host: self.host,
            completeness: match ended {
                None => Completeness::Complete,
                Some(error) => Completeness::Partial { reason: error.to_string() },
            },
            marks: Vec::new(),
        }
    }
}
