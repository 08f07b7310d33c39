//! The text of reports: numbers equal those of results.csv, and sentences follow from the numbers.

use std::fs;

use loadgen::model::{Conclusion, Mark, Results, Run};
use loadgen::report::{Kind, Row, from_csv, text};

use crate::synthetic::{a1, a1_round_robin, a2, a3, a4, b, invalid, late, partial, reports};

/// The report for a terminal with every run of white space as one blank.
pub(crate) fn told(run: &Run) -> String {
    text(run).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
pub(crate) fn assert_told(run: &Run, sentences: &[&str]) {
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

/// The lines of the table of report.md whose title row begins with `first`.
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
fn numbers_of_the_tables_equal_those_of_results_csv() {
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
fn a1_explains_the_share_of_each_backend() {
    let run = a1();
    let counts = run.results.cells[0].counts();
    let share = counts[0] as f64 / 100.0;
    assert_told(
        &run,
        &[
            &format!(
                "assignment_ring shared unevenly: Server 1 got {share:.1} % of the requests, 2.53 times the mean."
            ),
            "This agrees with the strategy's declaration",
            "a chance of 0.43",
            "The ring has 27 points, and all of them lie between 5.27 % and 22.5 % of the circle.",
            "belongs to Server 1. The arc before it is 82.8 % of the circle, and 78.9 % of all keys are in that arc.",
            "13 of the 27 points get no key at all.",
        ],
    );
    assert_told(
        &a1_round_robin(),
        &["round_robin shared evenly: each of the 3 backends got 3,333 or one request more."],
    );
    assert!(!told(&a1_round_robin()).contains("The ring has"));
}

#[test]
fn an_explanation_that_does_not_fit_the_counts_is_doubted() {
    let doubt = "The counts differ from the computed shares.";
    assert!(!told(&a1()).contains(doubt) && !told(&a4()).contains(doubt));
    let mut run = a1();
    run.results.cells[0].backends[1].requests += 300;
    assert_told(&run, &[doubt]);
}

/// Older versions of loadgen computed the ring in the report, so their folders have no ring.
#[test]
fn without_the_ring_the_report_says_that_the_cause_is_not_known() {
    let mut run = a1();
    run.results.rings.clear();
    let (_place, folder) = crate::damaged::stored(&run);
    let mut json: serde_json::Value = serde_json::to_value(&run.results).expect("JSON");
    json.as_object_mut().expect("an object").remove("rings").expect("results.json has rings");
    run.results = serde_json::from_value(json).expect("an older results.json is read");
    assert_told(
        &run,
        &["The run's folder does not hold the ring of this strategy", "This agrees with the strategy's declaration"],
    );
    loadgen::report::write(&folder).expect("the pictures need no ring");
    assert!(!told(&run).contains("The ring has"));
}

#[test]
fn a_ring_of_another_pool_explains_nothing() {
    let mut run = a1();
    run.results.rings[0].backends[2] = "Server 4".into();
    assert!(!told(&run).contains("The ring has"));
}

#[test]
fn a1_names_counts_that_contradict_the_declaration() {
    let mut run = a1();
    run.results.cells[0].chi_square_p = Some(0.000_002);
    assert_told(&run, &["This contradicts the strategy's declaration", "would have a chance of < 0.0001."]);
}

#[test]
fn a2_says_that_the_mean_load_is_no_measure_of_a_balancer() {
    let mut flat = a2();
    for cell in &mut flat.results.cells {
        cell.duration_ns = 5_000_000_000;
    }
    let limited = "From N = 1 on throughput hardly grows: lb, the servers and the generator share 2 cores, which are then the likely limit.";
    assert_told(&flat, &[limited]);
    flat.manifest.host.cores = 64;
    assert_told(
        &flat,
        &["From N = 1 on throughput hardly grows, so the backends are not its limit there; lb, the servers and"],
    );
    assert_told(&a2(), &["From N = 5 on throughput hardly grows: lb, the servers and the generator share 2 cores"]);
    let mut growing = a2();
    growing.results.cells.retain(|cell| cell.n < 5);
    assert!(!told(&growing).contains("hardly grows"));
    assert_told(
        &a2(),
        &[
            "round_robin keeps the balance at every N",
            "The mean load, which the sheet asks for, says nothing about a balancer",
            "round_robin: from N = 1 to N = 6 throughput went from",
            "times as much with 6 times the backends",
        ],
    );
}

#[test]
fn a3_gives_the_time_of_detection_and_the_failed_requests() {
    assert_told(
        &a3(),
        &[
            "Server 2 was killed at 20.000 s, and 1,240 ms later it was back and got requests again; 3 of the",
            "Times count from the first measured request, as in a plan",
            "20.000 s Server 2 killed Server 2",
            "The balancer took it out of rotation 31.0 ms after the kill.",
            "11 requests were retried on another backend",
            "3 of 33,600 requests failed (0.01 %).",
            "gives a lower bound",
        ],
    );
    let mut run = a3();
    run.results.events.truncate(2);
    assert_told(&run, &["did not come back before the run ended"]);
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

/// Older versions did not store failures, verdicts of several measures, or the ended requests of windows.
#[test]
fn comparisons_of_older_runs_are_read() {
    let run = b();
    let mut stored = serde_json::to_value(&run.results).expect("JSON");
    for key in ["failures", "verdict_measures", "dropped"] {
        stored["comparison"].as_object_mut().expect("a comparison").remove(key).expect(key);
    }
    for ratio in stored["comparison"]["ratios"].as_array_mut().expect("ratios") {
        for key in ["left_out", "is_sound"] {
            ratio.as_object_mut().expect("a ratio").remove(key).expect(key);
        }
    }
    let results: Results = serde_json::from_value(stored).expect("an older run");
    assert_told(
        &Run { results, ..run },
        &[
            "least_connections is better than round_robin at p99 (latency ",
            "among all 2 verdicts (1 percentile × 2 arms) is at most 5 %",
            "round_robin baseline 8",
        ],
    );
    let mut old = a3();
    old.series[0].windows.iter_mut().for_each(|window| window.ended = None);
    assert_told(&old, &["Server 2 was killed at 20.000 s"]);
    assert_captioned(
        &old,
        "recovery",
        "a request that waited at a server when it was killed is an error before the kill",
    );
}

#[test]
fn an_invalid_or_partial_run_is_named_first() {
    let invalid = told(&invalid());
    assert!(invalid.contains("This run is invalid") && invalid.contains("client 2,500, balancer 2,498"), "{invalid}");
    for verdict in ["is better than", "latency better", "worse", "equivalent to", "Verdicts against"] {
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

/// Asserts that the caption of a figure has these words.
#[track_caller]
fn assert_captioned(run: &Run, figure: &str, words: &str) {
    let (_place, folder) = crate::damaged::stored(run);
    loadgen::report::write(&folder).expect("a report");
    let page = fs::read_to_string(folder.file("report.md")).expect("markdown");
    let caption = page.split(&format!("](plots/{figure}.svg)\n\n")).nth(1).and_then(|rest| rest.lines().next());
    assert!(caption.is_some_and(|caption| caption.contains(words)), "{figure}: {caption:?}");
}

#[test]
fn a_late_generator_makes_latency_void_and_leaves_shares_counts_and_recovery_valid() {
    let fallen = "Latency and throughput are not to be believed: the generator was late in 5 of 24 segments";
    assert_told(
        &late(a4()),
        &[
            fallen,
            "Still valid: shares of the backends and counts of requests.",
            "shares most evenly: its fullest backend got 1.30 times the mean. Least evenly: sheet, 2.53 times the mean.",
            "The cost in latency is not shown: the generator was late in 5 of 24 segments",
            "sheet 84.3 % 4.54 % 11.1 % 2.530 yes, p 0.45",
            "Not to be believed: the generator was late in 5 of 24 segments, by 4.1 ms at p90, where 0.8 ms are allowed. Times in milliseconds",
        ],
    );
    assert_told(
        &late(a3()),
        &[
            fallen,
            "Still valid: shares of the backends, times of faults and recovery and counts of requests.",
            "Server 2 was killed at 20.000 s, and 1,240 ms later it was back",
            "3 of 33,600 requests failed (0.01 %).",
        ],
    );
    assert!(!told(&late(a3())).contains("in the 2 s before the kill"), "that sentence is about latency");
    assert_told(
        &late(b()),
        &[fallen, "This run does not tell which strategy is better: the generator was late", "Dropped: 2 of 8"],
    );
    for run in [late(b()), late(a4())] {
        let told = told(&run);
        for wrong in
            ["is better than", "latency better", "latency worse", "equivalent to", "Verdicts against", "How sure"]
        {
            assert!(!told.contains(wrong), "{wrong:?} is in\n{told}");
        }
    }
    assert_captioned(
        &late(b()),
        "percentiles",
        "Not to be believed: latency; the generator was late in 5 of 24 segments",
    );
}

#[test]
fn void_counts_make_shares_void_and_leave_latency_valid() {
    let mut run = a4();
    let void = [Conclusion::Shares, Conclusion::Counts];
    run.manifest.marks.push(Mark::invalid("accounting", "client 2,500, balancer 2,498", &void));
    assert_told(
        &run,
        &[
            "Shares of the backends and counts of requests are not to be believed: client 2,500, balancer 2,498.",
            "Still valid: latency and throughput.",
            "This run does not tell how even the strategies are: client 2,500, balancer 2,498.",
            "is better than sheet at p50 (latency ",
        ],
    );
    assert!(!told(&run).contains("shares most evenly"));
}

#[test]
fn a4_gives_the_evenness_of_each_arm_and_its_cost() {
    assert_told(
        &a4(),
        &[
            "How even are the shares with other hash functions, and what does unevenness cost?",
            "H = i^2+11i+19 shares most evenly: its fullest backend got 1.30 times the mean.",
            "H = i^2+11i+19 is better than sheet at p50 (latency ",
            "sheet, j from 1 83.4 % 4.52 % 12.0 % 2.503 yes, p 0.24",
            "sheet baseline 54.4 ms",
        ],
    );
    let mut run = a4();
    for cell in run.results.cells.iter_mut().filter(|cell| cell.arm == "sheet") {
        cell.backends[1].requests += 60;
    }
    assert_told(&run, &["no, p < 0.0001"]);
}

/// Least connections gives more requests to faster backends by design.
#[test]
fn counts_under_a_strategy_that_shares_by_load_or_latency_are_not_called_uneven() {
    for by in ["load", "latency"] {
        let mut run = a1();
        run.manifest.arms[0].expectation = format!(r#"{{"balance":"by_{by}"}}"#);
        run.results.cells[0].chi_square_p = None;
        let sentence = format!(
            "assignment_ring shares by {by}: a faster server gets more requests, so uneven counts are intended."
        );
        assert_told(&run, &[&sentence]);
        let told = told(&run);
        assert!(!told.contains("shared unevenly") && !told.contains("The cost"), "{told}");
    }
}

#[test]
fn marks_of_one_check_are_shown_once() {
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
        &[
            "Open loop: 840 requests per second at random moments",
            "70.0 % of the capacity of these backends, 1,200 requests per second",
        ],
    );
    assert_told(&a1(), &["Closed loop: 64 connections", "Service time is measured from the actual send"]);
    assert_told(&b(), &["loadgen b --arms round_robin,least_connections,consistent_hash --budget 240s --out runs/b"]);
}
