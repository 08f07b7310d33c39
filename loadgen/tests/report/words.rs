//! What reports say: that their numbers are those of results.csv, and that their sentences follow from them.

use std::fs;

use loadgen::model::{Comparison, Failures, Ratio, Results, Run, Verdict};
use loadgen::report::{Kind, Row, from_csv, text};

use crate::synthetic::{a1, a1_round_robin, a2, a3, a4, b, invalid, partial, reports};

/// The report for a terminal with every run of white space as one blank.
fn told(run: &Run) -> String {
    text(run).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn assert_told(run: &Run, sentences: &[&str]) {
    let told = told(run);
    for sentence in sentences {
        assert!(told.contains(sentence), "{sentence:?} is not in\n{}", text(run));
    }
}

fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let (head, tail) = digits.split_at(digits.len() % 3);
    let groups = tail.as_bytes().chunks(3).map(|chunk| String::from_utf8_lossy(chunk).into_owned());
    Some(head.to_owned()).into_iter().filter(|head| !head.is_empty()).chain(groups).collect::<Vec<_>>().join(",")
}

/// The lines of a table of report.md by the start of its first column title row.
fn table(markdown: &str, first: &str) -> Vec<Vec<String>> {
    let lines = markdown.lines().skip_while(|line| !line.starts_with(first)).skip(2);
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            line.replace(" \\| ", " / ")
                .trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().replace('*', ""))
                .collect()
        })
        .collect()
}

#[test]
fn numbers_of_the_tables_are_those_of_results_csv() {
    for report in reports().iter().filter(|report| report.name != "many") {
        let markdown = fs::read_to_string(report.folder.file("report.md")).expect("markdown");
        let rows = from_csv(&fs::read(report.folder.file("results.csv")).expect("csv")).expect("rows");
        let summaries: Vec<&Row> = rows.iter().filter(|row| row.kind == Kind::Summary).collect();
        let requests = table(&markdown, "| arm | N | requests | errors");
        assert_eq!(requests.len(), summaries.len(), "{}", report.name);
        for (line, row) in requests.iter().zip(&summaries) {
            assert_eq!(line[1..4], [row.n.to_string(), grouped(row.requests), grouped(row.errors)], "{}", report.name);
        }
        let times = table(&markdown, "| arm | N | latency p50");
        for (line, row) in times.iter().zip(&summaries) {
            let stored =
                [row.latency_p50_ms, row.latency_p90_ms, row.latency_p99_ms, row.latency_p999_ms, row.service_p50_ms];
            for (cell, stored) in line[2..7].iter().zip(stored) {
                let shown: Option<f64> = cell.replace(',', "").parse().ok();
                match (shown, stored) {
                    (Some(shown), Some(stored)) => {
                        assert!((shown - stored).abs() <= stored * 0.006, "{cell} is not {stored}")
                    }
                    (shown, stored) => assert!(shown.is_none() && stored.is_none(), "{cell} is not {stored:?}"),
                }
            }
        }
        assert_eq!(times.len(), summaries.len());
        let backends = table(&markdown, "| arm | N | backend | requests");
        for line in &backends {
            let (arm, n) = (line[0].replace('\\', ""), &line[1]);
            let own = rows.iter().filter(|row| {
                row.kind == Kind::Backend
                    && row.arm == arm
                    && row.n.to_string() == *n
                    && row.backend.as_ref() == Some(&line[2])
            });
            assert_eq!(line[3], grouped(own.map(|row| row.requests).sum()), "{}: {line:?}", report.name);
        }
        assert!(!backends.is_empty(), "{}", report.name);
    }
}

#[test]
fn a1_tells_who_got_how_much_and_why() {
    let run = a1();
    let counts = run.results.cells[0].counts();
    let share = counts[0] as f64 / 100.0;
    assert_told(
        &run,
        &[
            &format!(
                "assignment_ring shared unevenly: Server 1 got {share:.1} % of the requests, 2.53 times the mean."
            ),
            "This agrees with what the strategy declares",
            "a chance of 0.43",
            "H(i) = i^2 + 2i + 17 modulo 512 sends all 6-digit ids to 87 of the 512 slots.",
            "puts the 27 virtual servers into slots 26 to 114",
            "go round to the first one, in slot 26, which is Server 1's.",
        ],
    );
    assert_told(
        &a1_round_robin(),
        &["round_robin shared evenly: each of the 3 backends got 3,333 or one request more."],
    );
    assert!(!told(&a1_round_robin()).contains("slots"));
}

#[test]
fn an_explanation_that_does_not_fit_the_counts_says_so() {
    let doubt = "The counts are not what these functions make of uniform 6-digit ids";
    assert!(!told(&a1()).contains(doubt) && !told(&a4()).contains(doubt));
    let mut run = a1();
    run.results.cells[0].backends[1].requests += 300;
    assert_told(&run, &[doubt]);
}

/// The explanation follows the options of the run, not the strategy's name.
#[test]
fn a1_explains_only_what_the_options_say() {
    let mut run = a1();
    run.manifest.arms[0].options = serde_json::json!({"first_virtual_index": 1});
    assert_told(&run, &["into slots 29 to 133"]);
    run.manifest.arms[0].options = serde_json::json!({"request": "no expression"});
    assert!(!told(&run).contains("virtual servers into slots"));
}

#[test]
fn a1_says_when_counts_contradict_the_declaration() {
    let mut run = a1();
    run.results.cells[0].chi_square_p = Some(0.000_002);
    assert_told(&run, &["This is not what the strategy declares", "would come up with a chance of < 0.0001."]);
}

#[test]
fn a2_tells_that_the_mean_load_tells_nothing() {
    let mut flat = a2();
    for cell in &mut flat.results.cells {
        cell.duration_ns = 5_000_000_000;
    }
    assert_told(&flat, &["says that they were not what limited it; everything here shared 2 cores."]);
    assert!(!told(&a2()).contains("not what limited it"));
    assert_told(
        &a2(),
        &[
            "round_robin keeps the balance at every N",
            "The mean load, which the sheet asks for, says nothing of a balancer",
            "times as much with 6 times the backends",
        ],
    );
}

#[test]
fn a3_tells_when_it_was_noticed_and_what_users_had_of_it() {
    assert_told(
        &a3(),
        &[
            "Server 2 was killed, and 1,240 ms later it was back and got requests again; 3 of the",
            "The balancer took it out of rotation 31.0 ms after the kill.",
            "11 requests had to be tried on a second backend",
            "3 of 33,600 requests failed (0.01 %).",
            "is a lower bound",
        ],
    );
    let mut run = a3();
    run.results.events.truncate(2);
    assert_told(&run, &["did not come back before the run ended"]);
}

/// Of two arms.
fn with_verdict(verdict: Verdict, ratio: f64, low: f64, high: f64, further_blocks: Option<u32>) -> Run {
    let mut run = b();
    run.manifest.arms.truncate(2);
    run.results.cells.retain(|cell| cell.arm != "consistent_hash");
    let comparison: &mut Comparison = run.results.comparison.as_mut().expect("a comparison");
    comparison.ratios = vec![Ratio {
        arm: "least_connections".into(),
        measure: "latency_p99".into(),
        more_is_better: false,
        ratio,
        low,
        high,
        left_out: 0,
        is_sound: true,
        p: None,
        verdict,
        further_blocks,
    }];
    run
}

#[test]
fn verdicts_are_told_in_sentences() {
    assert_told(
        &with_verdict(Verdict::Better, 0.62, 0.58, 0.66, None),
        &[
            "least_connections is better than round_robin: its p99 latency is 38 % lower.",
            "0.62 times that of round_robin (95 % interval 0.58 to 0.66): between 34 and 42 % lower.",
            "How sure: each interval comes from 8 blocks",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Worse, 2.4, 2.1, 2.7, None),
        &["round_robin is the best: least_connections is worse.", "between 2.10 and 2.70 times as high"],
    );
    assert_told(
        &with_verdict(Verdict::Equivalent, 1.01, 0.98, 1.04, None),
        &["There is no difference that matters", "inside ±5 %, where a difference does not matter"],
    );
    assert_told(
        &with_verdict(Verdict::Undecided, 0.963, 0.939, 0.981, Some(55)),
        &[
            "It is lower, but not surely by more than ±5 %, where it matters; about 55 more blocks would probably decide it.",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Undecided, 0.97, 0.9, 1.05, Some(14)),
        &[
            "Undecided: this run cannot tell",
            "anything from 10 % lower to 5.0 % higher; about 14 more blocks would probably decide it",
        ],
    );
}

fn failed(arm: &str, failed: u64, is_comparable: bool) -> Failures {
    Failures { arm: arm.into(), due: 1000, failed, unsent: 0, is_comparable }
}

/// The first sentence of the answer follows the question and what must be known before.
#[test]
fn an_arm_that_failed_more_is_not_better_and_that_is_told_first() {
    let mut run = with_verdict(Verdict::NotComparable, 0.3, 0.24, 0.35, None);
    run.manifest.arms = b().manifest.arms; // the third of which has no ratio
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    comparison.ratios[0].left_out = 2;
    comparison.failures = vec![
        failed("round_robin", 500, true),
        failed("least_connections", 718, false),
        failed("consistent_hash", 1000, false),
    ];
    assert_told(
        &run,
        &[
            "on 3 backends. Some failed more than others, and that is the difference that matters: of the requests that were due, so many \
             had no good answer: 50.0 % with round_robin, 71.8 % with least_connections and 100.0 % with consistent_hash.",
            "least_connections: not comparable. Its p99 latency is 0.30 times that of round_robin (95 % interval 0.24 to 0.35), which says \
             nothing of which is better",
            "2 of 8 blocks had too few good answers to say it, and are left out.",
            "consistent_hash: not comparable: only good answers have a latency",
            "least_connections not comparable 71.8 % 0.300 0.240 to 0.350 of other requests 2",
            "consistent_hash not comparable 100.0 %",
        ],
    );
    let told = told(&run);
    for wrong in ["is better than", ": better", "is the best", "equivalent to", "of 100 experiments"] {
        assert!(!told.contains(wrong), "{wrong:?} is in\n{told}");
    }
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    comparison.failures = vec![failed("round_robin", 500, true), failed("least_connections", 40, false)];
    assert_told(
        &run,
        &[
            "round_robin failed more than least_connections, and that is the difference that matters: 50.0 % of the requests that were due \
             had no good answer, and 4.00 % with least_connections.",
        ],
    );
}

#[test]
fn who_is_best_is_not_said_where_one_cannot_be_compared() {
    let mut run = b();
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    comparison.ratios.retain(|ratio| ratio.measure == comparison.primary);
    for (ratio, verdict) in comparison.ratios.iter_mut().zip([Verdict::Worse, Verdict::NotComparable]) {
        ratio.verdict = verdict;
    }
    comparison.failures = vec![
        failed("round_robin", 0, true),
        failed("least_connections", 0, true),
        failed("consistent_hash", 300, false),
    ];
    assert_told(
        &run,
        &[
            "consistent_hash failed more than round_robin",
            "No arm is shown to be better than round_robin: least_connections is worse.",
        ],
    );
    assert!(!told(&run).contains("is the best"));
}

#[test]
fn too_few_blocks_are_called_that_and_nothing_is_said_to_be_sure() {
    let mut run = with_verdict(Verdict::Undecided, 2.85, 2.68, 3.03, Some(4));
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    (comparison.blocks, comparison.ratios[0].is_sound) = (2, false);
    assert_told(
        &run,
        &[
            "Undecided: this run cannot tell",
            "least_connections: undecided, too few blocks: it takes 6. Its p99 latency is 2.85 times that of round_robin (for orientation: \
             2.68 to 3.03).",
            "undecided 2.850 2.680 to 3.030, for orientation too few blocks: it takes 6",
        ],
    );
    let told = told(&run);
    for wrong in ["95 % interval 2.68", "not surely", "of 100 experiments", "between 2.68"] {
        assert!(!told.contains(wrong), "{wrong:?} is in\n{told}");
    }
}

#[test]
fn the_ribbon_has_the_confidence_of_its_comparison() {
    let mut run = b();
    run.results.comparison.as_mut().expect("a comparison").confidence = 0.99;
    let (_place, folder) = crate::damaged::stored(&run);
    loadgen::report::write(&folder).expect("a report");
    let page = fs::read_to_string(folder.file("report.md")).expect("markdown");
    assert!(page.contains("is the 99 % interval over blocks") && !page.contains("the 95 % interval over"), "{page}");
}

/// As they were stored before failures were judged.
#[test]
fn comparisons_of_older_runs_are_read() {
    let run = b();
    let mut stored = serde_json::to_value(&run.results).expect("JSON");
    stored["comparison"].as_object_mut().expect("a comparison").remove("failures");
    for ratio in stored["comparison"]["ratios"].as_array_mut().expect("ratios") {
        for key in ["left_out", "is_sound"] {
            ratio.as_object_mut().expect("a ratio").remove(key).expect(key);
        }
    }
    let results: Results = serde_json::from_value(stored).expect("an older run");
    assert_told(&Run { results, ..run }, &["Verdicts against round_robin", "of 100 experiments like this"]);
}

#[test]
fn a_run_that_cannot_be_trusted_says_so_first() {
    let invalid = told(&invalid());
    assert!(invalid.contains("This run is invalid") && invalid.contains("client 2,500, balancer 2,498"), "{invalid}");
    for verdict in ["is better than", ": better", "worse", "equivalent to", "Verdicts"] {
        assert!(!invalid.contains(verdict), "{verdict:?} is in\n{invalid}");
    }
    assert_told(
        &partial(),
        &[
            "This run is partial: interrupted (Ctrl-C) after 1 of 8 blocks.",
            "This run decides nothing: fewer blocks were measured",
        ],
    );
}

#[test]
fn marks_of_one_check_are_told_once() {
    let mut run = invalid();
    let mark = run.manifest.marks[0].clone();
    run.manifest.marks.extend([mark.clone(), mark]);
    let told = told(&run);
    assert_eq!(told.matches("This run is invalid").count(), 1, "{told}");
    assert!(told.contains("16 ms. 2 more of this kind"), "{told}");
}

#[test]
fn the_loop_and_both_clocks_are_explained() {
    assert_told(
        &b(),
        &["Open loop: 840 requests per second at random moments", "70.0 % of the 1,200 requests per second"],
    );
    assert_told(&a1(), &["Closed loop: 64 connections", "Service time counts from the moment of sending"]);
    assert_told(&b(), &["loadgen b --arms round_robin,least_connections,consistent_hash --budget 240s --out runs/b"]);
}
