//! The own metrics of strategies in the exposition: shown while their instance is in charge, valid in any mixture.

use lb_strategy_host::PluginPage;

use super::super::*;
use super::{hub_with_clock, scrape};

fn page(lines: &[&str]) -> PluginPage {
    PluginPage::read(lines.join("\n").as_bytes())
}

#[test]
fn a_page_is_exported_with_pool_and_strategy_until_the_next_one() {
    let metrics = Metrics::new();
    let waits = r#"{"name":"waits_total","type":"counter","help":"Requests that \"waited\".\nIn \\all.","value":2.5}"#;
    let load = r#"{"name":"load","type":"gauge","help":"Load.","value":-1,"backend":"b1"}"#;
    metrics.plugin_page("p", "s", page(&[waits, load, "nonsense", "more"]));
    let (p, s, b) = (("pool", "p"), ("strategy", "s"), ("backend", "b1"));
    let text = scrape(&metrics);
    assert_eq!(text.value("lb_plugin_waits_total", &[p, s]), 2.5);
    assert_eq!(text.value("lb_plugin_load", &[p, s, b]), -1.0);
    assert_eq!(text.value("lb_plugin_metrics_dropped_total", &[p, s]), 2.0);
    let family = &text.families["lb_plugin_waits_total"];
    assert_eq!((&*family.kind, &*text.families["lb_plugin_load"].kind), ("counter", "gauge"));
    assert_eq!(family.help, r#"Requests that "waited".\nIn \\all."#, "escaped as the format asks for");
    metrics.plugin_page("p", "s", page(&[load, "nonsense"]));
    let text = scrape(&metrics);
    assert!(!text.families.contains_key("lb_plugin_waits_total"));
    assert_eq!(text.value("lb_plugin_metrics_dropped_total", &[p, s]), 3.0, "drops add up");
    metrics.plugin_page_ends("p", "s");
    assert_eq!(scrape(&metrics).find("lb_plugin_load", &[p, s, b]), None);
}

#[test]
fn pools_with_the_same_name_share_a_family_also_if_type_and_help_differ() {
    let metrics = Metrics::new();
    let line = |kind: &str, help: &str| format!(r#"{{"name":"waits","type":"{kind}","help":"{help}","value":1}}"#);
    metrics.plugin_page("q", "t", page(&[&line("gauge", "Of t.")]));
    metrics.plugin_page("p", "s", page(&[&line("counter", "Of s.")]));
    let text = scrape(&metrics);
    let family = &text.families["lb_plugin_waits"];
    assert_eq!((&*family.kind, &*family.help, family.samples.len()), ("gauge", "Of s.", 2));
    assert_eq!(text.value("lb_plugin_waits", &[("pool", "q"), ("strategy", "t")]), 1.0);
}

#[test]
fn failures_of_duties_are_counted_from_zero_by_hook() {
    let metrics = Metrics::new();
    metrics.duty_failures("p", "s", DutyHook::Metrics, 0);
    let of = |hook: &str| {
        let labels = [("pool", "p"), ("strategy", "s"), ("hook", hook)];
        scrape(&metrics).find("lb_strategy_hook_failures_total", &labels)
    };
    assert_eq!((of("metrics"), of("tick")), (Some(0.0), None), "a strategy without ticks has no failures of them");
    metrics.duty_failures("p", "s", DutyHook::Tick, 1);
    metrics.duty_failures("p", "s", DutyHook::Tick, 1);
    assert_eq!((of("metrics"), of("tick")), (Some(0.0), Some(2.0)));
}

#[test]
fn a_removed_pool_takes_its_plugins_series_along() {
    let (metrics, _seconds) = hub_with_clock();
    metrics.set_strategy("p", "s", "1");
    metrics.duty_failures("p", "s", DutyHook::Tick, 1);
    metrics.plugin_page("p", "s", page(&[r#"{"name":"load","type":"gauge","help":"Load.","value":1}"#]));
    metrics.retire_pool("p");
    let text = scrape(&metrics);
    for name in ["lb_plugin_load", "lb_plugin_metrics_dropped_total", "lb_strategy_hook_failures_total"] {
        assert!(!text.families.contains_key(name), "{name}");
    }
}
