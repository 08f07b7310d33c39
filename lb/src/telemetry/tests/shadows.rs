//! The series of shadows: sums over workers, and their end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::*;
use super::{hub_with_clock, scrape};

#[test]
fn counts_of_all_workers_are_summed_and_since_an_earlier_reading() {
    let metrics = Metrics::new();
    let pick = |worker, result| {
        let shard = metrics.shadow(worker, "p", "s");
        shard.pick(1_000, || ());
        shard.result(result);
        metrics.shadow_backend(worker, "p", "s", "b").picked.inc();
    };
    (0..3).for_each(|worker| pick(worker, ShadowResult::Same));
    let before = metrics.shadow_totals("p", "s");
    metrics.shadow(0, "p", "s").panicked();
    pick(0, ShadowResult::Fault);
    pick(1, ShadowResult::Fault);
    let now = metrics.shadow_totals("p", "s");
    let since = now.since(&before);
    assert_eq!((now.picks.picks, since.picks.picks), (5, 2));
    assert_eq!((since.picks.panics, since.picks.senseless), (1, 1), "a fault is a panic or another one");
    assert_eq!((since.of(ShadowResult::Same), since.of(ShadowResult::Fault)), (0, 2));
    assert_eq!(since.backends["b"], (2, 0));
    assert_eq!(metrics.shadow_totals("p", "other"), ShadowTotals::default());
    let (p, s) = (("pool", "p"), ("shadow", "s"));
    metrics.shadow_begins("p", "s", "ring", "1");
    let text = scrape(&metrics);
    assert_eq!(text.value("lb_shadow_picks_total", &[p, s, ("result", "fault")]), 2.0);
    assert_eq!(text.value("lb_shadow_picks_total", &[p, s, ("result", "wait")]), 0.0, "each result from the start");
    assert_eq!(text.value("lb_shadow_backend_picks_total", &[p, s, ("backend", "b")]), 5.0);
    assert_eq!(text.value("lb_shadow_off", &[p, s]), 0.0);
    metrics.shadow_is_off("p", "s");
    assert_eq!(scrape(&metrics).value("lb_shadow_off", &[p, s]), 1.0);
}

#[test]
fn series_of_a_shadow_and_a_backend_that_are_gone_stay_for_a_while() {
    let (metrics, seconds) = hub_with_clock();
    metrics.shadow_begins("p", "s", "ring", "1");
    metrics.shadow_backend(0, "p", "s", "b1").picked.inc();
    metrics.shadow_backend(0, "p", "s", "b2").picked.inc();
    metrics.backend(0, "p", "b1");
    let picks = |backend: &str| {
        let labels = [("pool", "p"), ("shadow", "s"), ("backend", backend)];
        scrape(&metrics).find("lb_shadow_backend_picks_total", &labels)
    };
    metrics.retire_backend("p", "b1");
    assert_eq!((picks("b1"), picks("b2")), (Some(1.0), Some(1.0)));
    seconds.fetch_add(RETIRED_SERIES_STAY.as_secs(), Ordering::Relaxed);
    assert_eq!((picks("b1"), picks("b2")), (None, Some(1.0)));
    let off = || scrape(&metrics).find("lb_shadow_off", &[("pool", "p"), ("shadow", "s")]);
    metrics.shadow_ends("p", "s");
    assert_eq!((off(), picks("b2")), (None, Some(1.0)), "it is neither on nor off, and its last counts can be scraped");
    seconds.fetch_add(RETIRED_SERIES_STAY.as_secs(), Ordering::Relaxed);
    assert_eq!(picks("b2"), None);
    metrics.shadow_begins("p", "s", "ring", "1");
    assert_eq!((off(), metrics.shadow_totals("p", "s").picks.picks), (Some(0.0), 0));
}

#[test]
fn a_worker_hangs_in_a_pick_that_has_not_ended_for_long() {
    let metrics = Metrics::new();
    let shard = metrics.shadow(0, "p", "s");
    let hangs = |now_ns| metrics.shadow_hangs("p", "s", now_ns, Duration::from_nanos(100));
    assert_eq!(hangs(1_000), 0, "no pick yet");
    shard.pick(500, || assert_eq!([hangs(599), hangs(600), hangs(10_000)], [0, 1, 1]));
    assert_eq!(hangs(10_000), 0);
}
