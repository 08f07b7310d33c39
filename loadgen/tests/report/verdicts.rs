//! The text of reports about compared arms: the headline, the table of verdicts, their certainty, and dropped blocks.

use loadgen::model::{
    Comparison, Conclusion, Failures, GOOD_SHARE, Mark, Ratio, Run, Safeguards, Scenario, TypicalShare, Verdict,
};

use crate::synthetic::b;
use crate::words::{assert_told, told};

/// A comparison of two arms with this verdict.
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
fn verdicts_are_explained_in_sentences() {
    assert_told(
        &with_verdict(Verdict::Better, 0.62, 0.58, 0.66, None),
        &[
            "took no longer than p50, p90 and p99. least_connections is better than round_robin at p99 (latency 38 % lower). Verdicts against the baseline",
            "least_connections better 0.620 (0.580 to 0.660)",
            "least_connections p99 latency better 0.620 0.580 to 0.660 between 34 and 42 % lower",
            "How sure: the verdicts are from 6 blocks. In each block, every arm ran once, in random order, with the same requests. If there were no \
             difference, at most 5 of 100 such runs would report \"better\" or \"worse\". The interval contains the true ratio with a \
             confidence of 95 %.",
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
            "Undecided: the p99 latency of least_connections is between 1.9 and 6.1 % lower, so perhaps within ±5 %, which \
             does not matter; about 55 more blocks would probably decide it.",
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
fn the_headline_names_the_percentiles_at_which_an_arm_is_better() {
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
            "50, 90 and 99 of 100 requests took no longer than p50, p90 and p99.",
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

/// The intervals of Holm's procedure are not simultaneous, and the report says so.
#[test]
fn the_report_states_the_level_of_the_intervals_of_holms_procedure() {
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
fn dropped_blocks_are_listed_with_the_arms_in_which_the_generator_was_late() {
    assert_told(
        &b(),
        &[
            "How sure: the verdicts are from 6 blocks",
            "Dropped: 2 of 8 blocks, because the generator was late (2 under consistent_hash, 1 under round_robin; in block 3 by 1.2 ms at \
             p90, where 0.8 ms are allowed). No latency of these blocks is used, for any arm. Counts are used.",
        ],
    );
    let mut run = b();
    run.results.comparison.as_mut().expect("a comparison").dropped.clear();
    assert!(!told(&run).contains("Dropped"));
    // Latencies of dropped blocks are in no percentile of the whole run.
    let samples = |run: &Run| loadgen::report::rows(run).last().and_then(|row| row.samples);
    assert_eq!((samples(&b()), samples(&run)), (Some(6 * 2_500), Some(8 * 2_500)));
}

fn failed(arm: &str, failed: u64, is_comparable: bool) -> Failures {
    Failures { arm: arm.into(), due: 1000, failed, unsent: 0, is_comparable, in_a_block: None }
}

/// The first sentence of the answer follows the question and the explanations that it needs.
#[test]
fn an_arm_with_more_failures_is_not_better_and_that_comes_first() {
    let mut run = with_verdict(Verdict::NotComparable, 0.3, 0.24, 0.35, None);
    run.manifest.arms = b().manifest.arms; // The third arm has no ratio.
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
            "took no longer than p50, p90 and p99. With some arms more requests failed, and that is the difference that matters. Scheduled requests without a good \
             response: 50.0 % with round_robin, 71.8 % with least_connections and 100.0 % with consistent_hash.",
            "least_connections: not comparable. Only good responses have a latency, and the good responses of this arm",
            "consistent_hash: not comparable. Only good responses have a latency",
            "consistent_hash: too few requests with a good response for its p99 latency in two blocks.",
            "least_connections not comparable 0.300 (0.240 to 0.350) 71.8 %",
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
            "More requests failed with round_robin than with least_connections, and that is the difference that matters: 50.0 % of the \
             scheduled requests had no good response, and 4.00 % with least_connections.",
        ],
    );
}

/// Counts do not depend on the clock of the generator.
#[test]
fn a_verdict_on_good_responses_stands_although_latency_is_void() {
    let mut run = with_verdict(Verdict::Better, 1.495, 1.494, 1.497, None);
    run.manifest.scenario = Scenario::Own;
    run.manifest.marks.push(Mark::invalid("generator", "late in 30 of 32 segments", &Conclusion::OF_TIME));
    assert!(!run.answers(), "a verdict on latency is void");
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    comparison.primary = GOOD_SHARE.to_owned();
    comparison.equivalence = 0.01;
    comparison.ratios[0].measure = GOOD_SHARE.to_owned();
    comparison.ratios[0].more_is_better = true;
    let of = |arm: &str, count: u64, share: f64| Failures {
        in_a_block: Some(TypicalShare { share, low: share / 1.1, high: share * 1.1, is_sound: true }),
        ..failed(arm, count, arm == "round_robin")
    };
    comparison.failures = vec![of("round_robin", 333, 0.333), of("least_connections", 3, 0.003)];
    assert!(run.answers());
    assert_told(
        &run,
        &[
            "Which arm has more good responses, by how much, and how sure is that?",
            "least_connections is better than round_robin at the share of good responses (50 % higher). ",
            "0.90 is 10 % less. More is better; a difference within ±1 %",
            "round_robin baseline 66.7 % 33.3 % (30.3 % to 36.6 %)",
            "least_connections better 1.495 (1.494 to 1.497) 0.30 % (0.27 % to 0.33 %)",
            "How sure: the verdicts are from 8 blocks.",
        ],
    );
    let told = told(&run);
    for wrong in ["not comparable", "took no longer than p50, p90 and p99. "] {
        assert!(!told.contains(wrong), "{wrong:?} is in\n{told}");
    }
}

#[test]
fn the_safeguards_of_each_arm_are_in_the_setting() {
    let mut run = with_verdict(Verdict::Better, 0.62, 0.58, 0.66, None);
    assert!(!told(&run).contains("outlier detection"), "older runs do not know them");
    let safeguards = |json| serde_json::from_value::<Safeguards>(json).expect("sections");
    let off = safeguards(serde_json::json!({ "outlier": { "enabled": false }, "retry": { "attempts": 1 } }));
    run.manifest.arms.iter_mut().for_each(|arm| arm.safeguards = Some(off.clone()));
    assert_told(&run, &["as the running lb reported them: outlier detection and retries, all off."]);
    let on = serde_json::json!({ "outlier": { "enabled": false }, "retry": { "attempts": 2, "on": ["500"] } });
    run.manifest.arms[1].safeguards = Some(safeguards(on));
    assert_told(
        &run,
        &["arm outlier detection retries round_robin off off least_connections off on: attempts = 2, on = [\"500\"]"],
    );
}

#[test]
fn no_arm_is_called_the_best_if_one_cannot_be_compared() {
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
            "More requests failed with consistent_hash than with round_robin",
            "least_connections is worse than round_robin at p99 (latency ",
        ],
    );
    assert!(!told(&run).contains("is the best"));
}

#[test]
fn too_few_blocks_are_named_and_nothing_is_called_sure() {
    let mut run = with_verdict(Verdict::Undecided, 2.85, 2.68, 3.03, Some(4));
    let comparison = run.results.comparison.as_mut().expect("a comparison");
    (comparison.blocks, comparison.ratios[0].is_sound) = (2, false);
    assert_told(
        &run,
        &[
            "Undecided: this run cannot tell whether least_connections is better or worse than round_robin at p99; there are too few blocks.",
            "Too few blocks: a verdict needs 6; until then the intervals are only a guide.",
            "too few blocks 2.850 2.680 to 3.030, only a guide too few blocks: a verdict needs 6",
        ],
    );
    let told = told(&run);
    for wrong in ["not surely", "How sure", "between 2.68"] {
        assert!(!told.contains(wrong), "{wrong:?} is in\n{told}");
    }
}
