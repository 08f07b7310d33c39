//! The comparison of a replay with its original run: the text of each line, and the judgement at its end.

use loadgen::model::{Conclusion, EventKind, Mark, Run};
use loadgen::report::replayed;

use crate::synthetic::{a1, a1_round_robin, a2, a3, b};

const JUDGEMENTS: [&str; 3] = ["agrees", "differs", "cannot tell"];

fn lines(old: &Run, new: &Run) -> Vec<String> {
    let lines = replayed(old, new);
    for line in &lines {
        assert!(JUDGEMENTS.iter().any(|word| line.ends_with(&format!(": {word}"))), "{line}");
    }
    lines
}

/// The judgement of the line that contains all `parts`.
fn judgement(lines: &[String], parts: &[&str]) -> String {
    let line = lines.iter().find(|line| parts.iter().all(|part| line.contains(part)));
    let line = line.unwrap_or_else(|| panic!("{parts:?} is not among {lines:#?}"));
    line.rsplit(": ").next().expect("a word").to_owned()
}

#[test]
fn equal_runs_do_not_differ() {
    for run in [a1(), a1_round_robin(), a2(), a3(), b()] {
        let lines = lines(&run, &run);
        assert!(!lines.is_empty() && lines.iter().all(|line| !line.ends_with("differs")), "{lines:#?}");
    }
}

#[test]
fn counts_are_judged_by_the_declared_law() {
    let mut exact = a1_round_robin();
    exact.results.cells[0].chi_square_p = Some(1.0);
    assert_eq!(judgement(&lines(&exact, &exact), &["round_robin, N = 3, counts: ", "exactly"]), "agrees");
    let mut broken = exact.clone();
    broken.results.cells[0].chi_square_p = Some(0.0);
    assert_eq!(judgement(&lines(&exact, &broken), &["as declared then and not now"]), "differs");

    // Counts drawn by a law: a small difference on one backend is chance, a large one is not.
    let drawn = a1();
    let moved = |by: u64| {
        let mut run = drawn.clone();
        let backends = &mut run.results.cells[0].backends;
        let (most, least) = (
            (0..backends.len()).max_by_key(|at| backends[*at].requests).expect("one"),
            (0..backends.len()).min_by_key(|at| backends[*at].requests).expect("one"),
        );
        backends[most].requests -= by;
        backends[least].requests += by;
        run
    };
    assert_eq!(judgement(&lines(&drawn, &moved(5)), &["counts: ", "the same law"]), "agrees");
    assert_eq!(judgement(&lines(&drawn, &moved(300)), &["counts: ", "the same law"]), "differs");

    // The strategy declares nothing about the variation of counts.
    let mut unknown = drawn.clone();
    unknown.results.cells[0].chi_square_p = None;
    assert_eq!(judgement(&lines(&unknown, &moved(5)), &["counts: ", "is not declared"]), "cannot tell");
}

#[test]
fn times_of_single_runs_differ_only_beyond_a_factor_of_two() {
    let run = a2();
    assert_eq!(judgement(&lines(&run, &run), &["N = 3, good responses/s"]), "cannot tell");
    let mut slow = run.clone();
    slow.results.cells.iter_mut().for_each(|cell| cell.duration_ns *= 3);
    assert_eq!(judgement(&lines(&run, &slow), &["N = 3, good responses/s", "beyond 2 times"]), "differs");
    // The rate of an open loop is given, so it is not compared.
    assert!(lines(&a3(), &a3()).iter().all(|line| !line.contains("responses/s")));
}

#[test]
fn kills_are_compared_by_recovery_and_failures() {
    let run = a3();
    let same = lines(&run, &run);
    assert_eq!(judgement(&same, &["killed, back after"]), "agrees");
    assert_eq!(judgement(&same, &["killed, out of rotation"]), "agrees");
    let mut late = run.clone();
    let recovered =
        late.results.events.iter_mut().find(|event| event.kind == EventKind::Recovered).expect("the server came back");
    recovered.at_ms += 10_000;
    assert_eq!(judgement(&lines(&run, &late), &["killed, back after", "beyond 2 times"]), "differs");
    let mut lost = run.clone();
    lost.results.events.retain(|event| event.kind != EventKind::Recovered);
    assert_eq!(judgement(&lines(&run, &lost), &["killed, back after", "never now"]), "differs");
    let mut failing = run.clone();
    failing.results.cells[0].errors = failing.results.cells[0].requests / 3;
    assert_eq!(judgement(&lines(&run, &failing), &["failed: ", "beyond 2 times"]), "differs");
}

#[test]
fn void_conclusions_are_not_judged() {
    let run = a1();
    let mut void = run.clone();
    void.manifest.marks.push(Mark::invalid("generator", "late", &Conclusion::OF_TIME));
    let lines = lines(&run, &void);
    assert_eq!(
        judgement(&lines, &["good responses/s", "the new run must not be believed here (generator)"]),
        "cannot tell"
    );
    assert_eq!(judgement(&lines, &["counts: ", "the same law"]), "agrees");
}

#[test]
fn every_verdict_of_a_comparison_is_compared_with_the_original() {
    let run = b();
    let comparison = run.results.comparison.as_ref().expect("a comparison");
    let wanted = comparison.ratios.iter().filter(|ratio| comparison.judged().contains(&ratio.measure.as_str())).count();
    let same = lines(&run, &run);
    assert_eq!(same.len(), wanted);
    assert!(same.iter().any(|line| line.ends_with(": agrees")), "{same:#?}");
}
