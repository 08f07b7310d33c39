//! The metrics of strategies and reloads: by name, while they exist, and how the last one ended.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::scrape;
use super::text::Text;

#[test]
fn a_swap_replaces_the_strategys_series_and_fallbacks_stay_with_their_strategy() {
    let metrics = Metrics::new();
    let (one, two) = (metrics.pool(0, "l", "p"), metrics.pool(1, "m", "p"));
    let of = |text: &Text, strategy: &str| {
        text.find("lb_strategy_fallbacks_total", &[("pool", "p"), ("strategy", strategy), ("reason", "panic")])
    };
    metrics.set_strategy("p", "old", "1");
    one.fallback(FallbackReason::Panic);
    two.fallback(FallbackReason::Panic);
    metrics.set_strategy("p", "new", "2");
    two.fallback(FallbackReason::Panic);
    let text = scrape(&metrics);
    assert_eq!((of(&text, "old"), of(&text, "new")), (Some(2.0), Some(1.0)));
    assert_eq!(text.families["lb_strategy_info"].samples.len(), 1);
    assert_eq!(text.value("lb_strategy_info", &[("pool", "p"), ("strategy", "new"), ("version", "2")]), 1.0);
    metrics.set_strategy("p", "old", "1.1");
    one.fallback(FallbackReason::Panic);
    let text = scrape(&metrics);
    assert_eq!((of(&text, "old"), of(&text, "new")), (Some(3.0), Some(1.0)));
}

#[test]
fn picks_are_charged_to_the_strategy_that_was_asked() {
    let metrics = Metrics::new();
    let pool = metrics.pool(0, "l", "p");
    metrics.set_strategy("p", "old", "1");
    let timed = (0..256).filter(|_| pool.pick_begins(1)).count();
    assert_eq!(timed, 2, "one in 128 where they come quickly");
    pool.pick_timed(Duration::from_nanos(90));
    metrics.set_strategy("p", "new", "1");
    assert_eq!((pool.pick_begins(20_000_000), pool.pick_begins(20_000_001)), (true, false), "and one in 10 ms");
    pool.pick_timed(SLOW_PICK + Duration::from_nanos(1));
    let text = scrape(&metrics);
    let of = |name: &str, strategy: &str| text.value(name, &[("pool", "p"), ("strategy", strategy)]);
    assert_eq!(["old", "new"].map(|strategy| of("lb_strategy_picks_total", strategy)), [256.0, 2.0]);
    assert_eq!(["old", "new"].map(|strategy| of("lb_strategy_pick_seconds_count", strategy)), [1.0, 1.0]);
    let totals = PickTotals { picks: 258, timed: 2, slow: 1, panics: 0, senseless: 0, held: 0 };
    assert_eq!(metrics.pick_totals("p"), totals);
}

#[test]
fn a_replaced_instance_is_counted_while_it_is_referenced() {
    let metrics = Metrics::new();
    metrics.set_strategy("p", "s", "1");
    let instance: Arc<dyn std::any::Any + Send + Sync> = Arc::new(7);
    metrics.strategy_retired("p", Arc::downgrade(&instance));
    let count = || scrape(&metrics).value("lb_strategy_retired_instances", &[("pool", "p")]);
    assert_eq!(count(), 1.0);
    drop(instance);
    assert_eq!(count(), 0.0);
}

#[test]
fn reload_metrics_show_the_last_result_and_the_time_of_the_last_change() {
    let metrics = Metrics::new();
    let of = |name: &str| scrape(&metrics).value(name, &[("kind", "strategy")]);
    let (good, at) = ("lb_reload_last_successful", "lb_reload_last_success_timestamp_seconds");
    let started = of(at);
    assert!(of(good) == 1.0 && started > 1e9, "a start counts");
    let ended = |outcome, verdict| metrics.reload_ended(end(ReloadKind::Strategy, outcome, verdict));
    ended(ReloadOutcome::Failure, FilesVerdict::NotInForce);
    assert_eq!((of(good), of(at)), (0.0, started));
    ended(ReloadOutcome::Success, FilesVerdict::InForce);
    let swapped = of(at);
    assert!(of(good) == 1.0 && swapped > started);
    ended(ReloadOutcome::RolledBack, FilesVerdict::NotInForce);
    assert!(of(good) == 0.0 && of(at) > swapped, "the one before is new again, and something is wrong");
    assert_eq!(of("lb_reload_duration_seconds_count"), 3.0);
    let rolled_back = of(at);
    let nothing_new = end(ReloadKind::Strategy, ReloadOutcome::Success, FilesVerdict::InForce);
    metrics.reload_ended(ReloadEnd { is_change: false, ..nothing_new });
    assert_eq!((of(good), of(at), of("lb_reload_duration_seconds_count")), (1.0, rolled_back, 4.0));
    let config = scrape(&metrics).value("lb_reloads_total", &[("kind", "config"), ("result", "success")]);
    assert_eq!(config, 0.0);
}

#[test]
fn only_reloads_of_the_files_set_the_last_result_and_a_good_one_of_either_kind_clears_both() {
    let metrics = Metrics::new();
    let good = || {
        let text = scrape(&metrics);
        ["config", "strategy"].map(|kind| text.value("lb_reload_last_successful", &[("kind", kind)]))
    };
    let failed = |kind| metrics.reload_ended(end(kind, ReloadOutcome::Failure, FilesVerdict::NotInForce));
    for mending in [ReloadKind::Config, ReloadKind::Strategy] {
        failed(ReloadKind::Config);
        assert_eq!(good(), [0.0, 1.0]);
        failed(ReloadKind::Strategy);
        metrics.reload_ended(end(ReloadKind::Strategy, ReloadOutcome::Failure, FilesVerdict::None));
        assert_eq!(good(), [0.0, 0.0]);
        metrics.reload_ended(end(ReloadKind::Strategy, ReloadOutcome::Success, FilesVerdict::Overridden));
        assert_eq!(good(), [1.0, 0.0], "the file was taken up, but for the strategy that it names");
        failed(ReloadKind::Config);
        metrics.reload_ended(end(mending, ReloadOutcome::Success, FilesVerdict::InForce));
        assert_eq!(good(), [1.0, 1.0]);
    }
    metrics.reload_ended(end(ReloadKind::Strategy, ReloadOutcome::Failure, FilesVerdict::None));
    assert_eq!(good(), [1.0, 1.0], "a refused override says nothing of the files");
}

fn end(kind: ReloadKind, outcome: ReloadOutcome, verdict: FilesVerdict) -> ReloadEnd {
    ReloadEnd { kind, outcome, verdict, is_change: outcome != ReloadOutcome::Failure, took: Duration::from_millis(3) }
}
