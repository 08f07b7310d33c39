//! The failed checks of a run as lines for stderr: an error if the main conclusion is void, else a warning.

use crate::model::{Conclusion, Manifest, Mark, Severity};
use crate::report::format::list;

/// The failed checks: an error if `main`, the main conclusion of the run, is void, else a warning.
pub(super) fn complaints(manifest: &Manifest, main: Conclusion) -> Vec<String> {
    let told = |mark: &Mark| {
        let Mark { check, reason, voids, .. } = mark;
        let void = list(&voids.iter().map(|conclusion| name(*conclusion).to_owned()).collect::<Vec<_>>());
        match voids.contains(&main) {
            true => format!("not to be believed ({check}): {void}: {reason}"),
            false => format!("warning ({check}): {void} not to be believed, which leaves {}: {reason}", name(main)),
        }
    };
    manifest.marks.iter().filter(|mark| mark.severity == Severity::Invalid).map(told).collect()
}

fn name(conclusion: Conclusion) -> &'static str {
    match conclusion {
        Conclusion::Latency => "latency",
        Conclusion::Throughput => "throughput",
        Conclusion::Shares => "shares",
        Conclusion::Recovery => "recovery",
        Conclusion::Counts => "counts",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Scenario;

    #[test]
    fn a_failed_check_names_the_void_and_the_valid_conclusions() {
        let json = serde_json::json!({
            "schema": 1, "scenario": "A4", "command": [], "loadgen": {"version": "", "commit": ""}, "lb": null,
            "started": "", "duration_ms": 0, "budget_ms": 0, "arms": [],
            "load": {"loop": "closed", "connections": 1, "requests": 1},
            "backends": {"description": "", "keys": "", "target": ""}, "seeds": {},
            "host": {
                "name": "", "cpu": "", "cores": 2, "kernel": "", "load_before": 0.0, "load_after": null, "steal": null
            },
            "completeness": {"state": "complete"}, "marks": [],
        });
        let mut manifest: Manifest = serde_json::from_value(json).expect("a manifest");
        manifest.marks = vec![
            Mark::passed("accounting", "12 requests"),
            Mark::invalid("generator", "late by 2 ms at p50", &Conclusion::OF_TIME),
        ];
        let main = |manifest: &Manifest| manifest.scenario.main_conclusion();
        assert!(manifest.supports(main(&manifest)), "the main conclusion of a4 is shares");
        let late = "latency and throughput";
        assert_eq!(
            complaints(&manifest, main(&manifest)),
            [format!("warning (generator): {late} not to be believed, which leaves shares: late by 2 ms at p50")]
        );
        manifest.scenario = Scenario::B;
        assert!(!manifest.supports(main(&manifest)), "the main conclusion of b is latency");
        assert_eq!(
            complaints(&manifest, main(&manifest)),
            [format!("not to be believed (generator): {late}: late by 2 ms at p50")]
        );
    }
}
