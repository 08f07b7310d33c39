//! The summary at the end of the terminal output: the answer, the verdicts and the warnings, in few lines.

use loadgen::model::Mark;
use loadgen::report::{SUMMARY_LINES, summary};

use crate::synthetic::{a3, b, late, many, reports};

const PATH: &str = "runs/2026-11-22-b/report.html";

#[test]
fn the_summary_has_at_most_twenty_lines_and_ends_with_the_path_of_the_report() {
    let mut long = many();
    long.results.comparison = None; // So that sentences describe the shares of eight arms.
    long.manifest.marks =
        (0..9).map(|number| Mark::warning(&format!("check {number}"), "of this ".repeat(20))).collect();
    let all = reports().iter().map(|report| (report.name, &report.run)).chain([("long", &long)]);
    for (name, run) in all {
        let summary = summary(run, PATH);
        let lines: Vec<&str> = summary.lines().collect();
        assert!(lines.len() <= SUMMARY_LINES && SUMMARY_LINES == 20, "{name}: {} lines\n{summary}", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 102), "{name}: wider than the report\n{summary}");
        assert_eq!(lines.last(), Some(&"report: runs/2026-11-22-b/report.html"), "{name}");
    }
    assert!(
        summary(&long, PATH).contains("… more of this is in the report"),
        "the summary says that lines are left out"
    );
}

#[test]
fn the_summary_has_the_answer_the_verdicts_and_the_warnings() {
    let mut run = b();
    run.manifest.marks.push(Mark::warning("host", "other programs were running before it began"));
    let told = summary(&run, PATH);
    let wanted = [
        "  least_connections is better than round_robin at p50 (latency ",
        "  arm ",
        "  round_robin baseline ",
        "  least_connections ",
        "better 0.5",
        "worse 1.2",
        "! Before you read on: other programs were running before it began.",
    ];
    for wanted in wanted {
        assert!(told.contains(wanted), "{wanted:?} is not in\n{told}");
    }
}

#[test]
fn a_summary_without_verdicts_names_void_and_valid_conclusions() {
    let told = summary(&late(b()), PATH);
    assert!(told.contains("This run does not tell which strategy is better") && !told.contains("better 0.5"), "{told}");
    assert!(told.contains("! Latency and throughput are not to be believed"), "{told}");
    assert!(told.contains("Still valid: shares of the backends and counts of requests."), "{told}");
    assert!(summary(&late(a3()), PATH).contains("Server 2 was killed at 20.000"), "the recovery is still valid");
}
