//! What reports say: that their numbers are those of results.csv, and that their sentences follow from them.

use std::fs;

use loadgen::model::{Comparison, Conclusion, Failures, Mark, Ratio, Results, Run, Scenario, Verdict};
use loadgen::report::{Kind, Row, from_csv, text};

use crate::synthetic::{a1, a1_round_robin, a2, a3, a4, b, invalid, late, partial, reports};

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
    let limited = "From N = 1 on throughput hardly grows: lb, the servers and the generator share 2 cores, which are then the likely limit.";
    assert_told(&flat, &[limited]);
    flat.manifest.host.cores = 64;
    assert_told(
        &flat,
        &["From N = 1 on throughput hardly grows, so the backends are not what limits it there; lb, the servers and"],
    );
    assert_told(&a2(), &["From N = 5 on throughput hardly grows: lb, the servers and the generator share 2 cores"]);
    let mut growing = a2();
    growing.results.cells.retain(|cell| cell.n < 5);
    assert!(!told(&growing).contains("hardly grows"));
    assert_told(
        &a2(),
        &[
            "round_robin keeps the balance at every N",
            "The mean load, which the sheet asks for, says nothing of a balancer",
            "round_robin: from N = 1 to N = 6 throughput went from",
            "times as much with 6 times the backends",
        ],
    );
}

#[test]
fn a3_tells_when_it_was_noticed_and_what_users_had_of_it() {
    assert_told(
        &a3(),
        &[
            "Server 2 was killed at 20.000 s, and 1,240 ms later it was back and got requests again; 3 of the",
            "Times count from the first measured request, as those of a plan do",
            "20.000 s Server 2 killed Server 2",
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
    comparison.verdict_measures.clear();
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

/// The sentence that says which arm is better follows the explanation of percentiles and precedes the table.
#[test]
fn verdicts_are_told_in_sentences() {
    assert_told(
        &with_verdict(Verdict::Better, 0.62, 0.58, 0.66, None),
        &[
            "did not exceed. least_connections is better than round_robin at p99 (latency 38 % lower). Verdicts against the baseline",
            "least_connections better 0.62 (0.58 to 0.66)",
            "least_connections p99 latency better 0.620 0.580 to 0.660 between 34 and 42 % lower",
            "How sure: from 6 blocks, in each of which every arm ran once, in random order, with the same requests. Of 100 runs without a \
             difference at most 5 call one better or worse, and the interval holds the true ratio with a confidence of 95 %.",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Worse, 2.4, 2.1, 2.7, None),
        &[
            "least_connections is worse than round_robin at p99 (latency 2.4 times as high).",
            "between 2.10 and 2.70 times as high",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Equivalent, 1.01, 0.98, 1.04, None),
        &[
            "There is no difference that matters: least_connections is equivalent to round_robin at p99 (any difference is within ±5 %).",
            "equivalent: the whole interval lies within that zone",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Undecided, 0.963, 0.939, 0.981, Some(55)),
        &[
            "least_connections differs from round_robin at p99 (latency 3.7 % lower), but not surely by more than ±5 %.",
            "Undecided: the p99 latency of least_connections is between 1.9 and 6.1 % lower, so not surely by more than ±5 %, where it \
             begins to matter; about 55 more blocks would probably decide it.",
        ],
    );
    assert_told(
        &with_verdict(Verdict::Undecided, 0.97, 0.9, 1.05, Some(14)),
        &[
            "Undecided: this run cannot tell whether least_connections is better or worse than round_robin at p99.",
            "is anything from 10 % lower to 5.0 % higher; about 14 more blocks would probably decide it.",
        ],
    );
}

/// Two arms with verdicts at three percentiles, in the order p50, p90, p99.
fn with_verdicts(scenario: Scenario, verdicts: [(Verdict, f64); 3]) -> Run {
    let mut run = with_verdict(Verdict::Better, 0.9, 0.85, 0.95, None);
    run.manifest.scenario = scenario;
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    let one = comparison.ratios.remove(0);
    let measures = ["latency_p50", "latency_p90", "latency_p99"];
    comparison.verdict_measures = measures.map(str::to_owned).into();
    comparison.ratios = measures
        .iter()
        .zip(verdicts)
        .map(|(measure, (verdict, ratio))| {
            let (low, high) = if verdict == Verdict::Undecided { (0.9, 1.1) } else { (ratio / 1.02, ratio * 1.02) };
            Ratio { measure: (*measure).into(), verdict, ratio, low, high, ..one.clone() }
        })
        .collect();
    run
}

#[test]
fn the_headline_says_at_which_percentiles_an_arm_is_better() {
    use Verdict::{Better, Equivalent, Undecided, Worse};
    let told = |verdicts| with_verdicts(Scenario::B, verdicts);
    assert_told(
        &told([(Better, 0.89), (Better, 0.908), (Undecided, 0.97)]),
        &[
            "least_connections is better than round_robin at p50 (latency 11 % lower) and p90 (9.2 % lower); at p99 this run cannot tell.",
        ],
    );
    assert_told(
        &told([(Better, 0.8), (Equivalent, 1.01), (Worse, 1.3)]),
        &[
            "least_connections is better than round_robin at p50 (latency 20 % lower); it is worse at p99 (latency 30 % higher); it is \
             equivalent at p90 (any difference is within ±5 %).",
            "round_robin baseline 20.9 ms 48.0 ms 83.9 ms",
        ],
    );
    assert_told(
        &told([(Equivalent, 1.0), (Equivalent, 0.99), (Equivalent, 1.01)]),
        &["There is no difference that matters: least_connections is equivalent to round_robin at p50, p90 and p99"],
    );
    assert_told(
        &told([(Undecided, 1.0), (Undecided, 1.0), (Undecided, 1.0)]),
        &[
            "Undecided: this run cannot tell whether least_connections is better or worse than round_robin at p50, p90 or p99.",
        ],
    );
    assert_told(
        &b(),
        &[
            "The baseline is round_robin: each other arm is compared with it.",
            "p50, p90 and p99 are what 50, 90 and 99 of 100 requests did not exceed.",
            "consistent_hash is worse than round_robin at p50 (latency ",
        ],
    );
}

#[test]
fn the_best_of_many_arms_is_named_and_the_others_are_counted() {
    let many = crate::synthetic::many();
    assert_told(
        &many,
        &[
            "round_robin is the best: every other arm is worse at p50, p90 and p99. Of 7 arms, compared with round_robin, 7",
        ],
    );
    let mut run = many;
    for ratio in &mut run.results.comparison.as_mut().expect("a comparison").ratios {
        if ratio.arm == "p2c" {
            (ratio.verdict, ratio.ratio) = (Verdict::Better, 0.5);
        }
    }
    assert_told(
        &run,
        &[
            "p2c is better than round_robin at p50 (latency 50 % lower), p90 (50 % lower) and p99 (50 % lower).",
            "Of the other 6, compared with round_robin, 6 are worse than it at one percentile or more. The table has each.",
        ],
    );
}

/// The intervals of Holm's procedure are no simultaneous ones, and the report does not call them that.
#[test]
fn intervals_are_called_what_holms_procedure_makes_them() {
    assert_told(
        &b(),
        &[
            "The chance of any false \"better\" or \"worse\" among all 6 verdicts (3 percentiles × 2 arms) is at most 5 % (Holm's correction). \
             Each interval has the level that Holm's procedure held it to, 95 % or more; together they are not simultaneous 95 % \
             intervals.",
        ],
    );
}

#[test]
fn dropped_blocks_are_told_with_the_arms_in_which_the_generator_was_late() {
    assert_told(
        &b(),
        &[
            "How sure: from 6 blocks",
            "Dropped: 2 of 8 blocks, because the generator was late (2 under consistent_hash, 1 under round_robin; in block 3 by 1.2 ms at \
             p90, where 0.8 ms are allowed). No latency of these blocks is used, of any arm; counts are kept.",
        ],
    );
    let mut run = b();
    run.results.comparison.as_mut().expect("a comparison").dropped.clear();
    assert!(!told(&run).contains("Dropped"));
    // latencies of dropped blocks are in no percentile of the whole
    let samples = |run: &Run| loadgen::report::rows(run).last().and_then(|row| row.samples);
    assert_eq!((samples(&b()), samples(&run)), (Some(6 * 2_500), Some(8 * 2_500)));
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
            "did not exceed. Some failed more than others, and that is the difference that matters: of the requests that were due, so many \
             had no good answer: 50.0 % with round_robin, 71.8 % with least_connections and 100.0 % with consistent_hash.",
            "least_connections: not comparable. Only good answers have a latency and are throughput",
            "consistent_hash: not comparable. Only good answers have a latency",
            "consistent_hash: too few of its requests had a good answer to say its p99 latency in two blocks.",
            "least_connections not comparable 0.30 (0.24 to 0.35) 71.8 %",
            "least_connections p99 latency not comparable 0.300 0.240 to 0.350 of other requests 2",
            "consistent_hash not comparable 100.0 %",
        ],
    );
    let told = told(&run);
    for wrong in ["is better than", "latency better", "is the best", "equivalent to", "How sure"] {
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
    comparison.verdict_measures.clear();
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
            "least_connections is worse than round_robin at p99 (latency ",
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
            "Undecided: this run cannot tell whether least_connections is better or worse than round_robin at p99; there are too few blocks.",
            "Too few blocks: it takes 6; until then intervals are for orientation.",
            "too few blocks 2.850 2.680 to 3.030, for orientation too few blocks: it takes 6",
        ],
    );
    let told = told(&run);
    for wrong in ["not surely", "How sure", "between 2.68"] {
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

/// As they were stored before failures were judged, before more than one measure had a verdict, and before windows counted what ended.
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
fn a_run_that_cannot_be_trusted_says_so_first() {
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

/// Asserts that a figure's caption has these words.
#[track_caller]
fn assert_captioned(run: &Run, figure: &str, words: &str) {
    let (_place, folder) = crate::damaged::stored(run);
    loadgen::report::write(&folder).expect("a report");
    let page = fs::read_to_string(folder.file("report.md")).expect("markdown");
    let caption = page.split(&format!("](plots/{figure}.svg)\n\n")).nth(1).and_then(|rest| rest.lines().next());
    assert!(caption.is_some_and(|caption| caption.contains(words)), "{figure}: {caption:?}");
}

#[test]
fn a_late_generator_takes_verdicts_on_latency_and_leaves_shares_counts_and_recovery() {
    let fallen = "Latency and throughput are not to be believed: the generator was late in 5 of 24 segments";
    assert_told(
        &late(a4()),
        &[
            fallen,
            "What stands in spite of that: shares of the backends and counts of requests.",
            "shares most evenly: its fullest backend got 1.30 times the mean. Least evenly: sheet, 2.53 times the mean.",
            "What that costs is not told: the generator was late in 5 of 24 segments",
            "sheet 84.3 % 4.54 % 11.1 % 2.530 yes, p 0.45",
            "Not to be believed: the generator was late in 5 of 24 segments, by 4.1 ms at p90, where 0.8 ms are allowed. Times in milliseconds",
        ],
    );
    assert_told(
        &late(a3()),
        &[
            fallen,
            "What stands in spite of that: shares of the backends, times of faults and recovery and counts of requests.",
            "Server 2 was killed at 20.000 s, and 1,240 ms later it was back",
            "3 of 33,600 requests failed (0.01 %).",
        ],
    );
    assert!(!told(&late(a3())).contains("in the 2 s before the kill"), "that is of latency");
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
fn counts_that_are_void_take_shares_and_leave_latency() {
    let mut run = a4();
    let void = [Conclusion::Shares, Conclusion::Counts];
    run.manifest.marks.push(Mark::invalid("accounting", "client 2,500, balancer 2,498", &void));
    assert_told(
        &run,
        &[
            "Shares of the backends and counts of requests are not to be believed: client 2,500, balancer 2,498.",
            "What stands in spite of that: latency and throughput.",
            "This run does not tell how even the strategies are: client 2,500, balancer 2,498.",
            "is better than sheet at p50 (latency ",
        ],
    );
    assert!(!told(&run).contains("shares most evenly"));
}

#[test]
fn a4_tells_how_even_each_arm_is_and_what_that_costs() {
    assert_told(
        &a4(),
        &[
            "How even are other hash functions, and what does that cost?",
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

/// Least connections gives more to who answers sooner: that is its work.
#[test]
fn counts_under_a_strategy_that_shares_by_load_are_not_called_uneven() {
    let mut run = a1();
    run.manifest.arms[0].expectation = r#"{"balance":"by_load"}"#.into();
    run.results.cells[0].chi_square_p = None;
    assert_told(
        &run,
        &[
            "assignment_ring shares by load: a faster server gets more requests, so uneven counts are its work, not a fault.",
        ],
    );
    let told = told(&run);
    assert!(!told.contains("shared unevenly") && !told.contains("What that costs"), "{told}");
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
