//! A strict parser reads the output back. It checks the rules of the OpenMetrics specification that apply here.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A family as it was parsed: its type, its help, and its samples in order.
#[derive(Debug, Default)]
struct Read {
    kind: String,
    help: String,
    samples: Vec<(Sample, f64)>,
}

fn taken(at_unix_ms: u64, instance: &str) -> Taken {
    Taken { at_unix_ms, took_us: 1_500, instance: instance.to_owned(), error: None }
}

fn written(metrics: &OpenMetrics) -> String {
    let mut out = Vec::new();
    metrics.write(&mut out).expect("to memory");
    String::from_utf8(out).expect("UTF-8")
}

fn of(scrapes: &[(u64, &str, &str)]) -> BTreeMap<String, Read> {
    let mut metrics = OpenMetrics::default();
    for (at, instance, text) in scrapes {
        metrics.add(&taken(*at, instance), text).expect("well formed");
    }
    strictly_read(&written(&metrics))
}

/// Fails on everything that the specification forbids.
fn strictly_read(text: &str) -> BTreeMap<String, Read> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with EOF");
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut current = String::new();
    // by family: completed metrics, and the current one with the time and the parts of its last point
    let mut over: BTreeSet<Labels> = BTreeSet::new();
    let mut open: Option<(Labels, f64, Vec<String>)> = None;
    for line in body.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').expect("name and type");
            assert!(matches!(kind, "counter" | "gauge" | "histogram" | "summary" | "unknown"), "{line}");
            let family = Read { kind: kind.to_owned(), ..Read::default() };
            assert!(families.insert(name.to_owned(), family).is_none(), "{name} twice");
            (current, over, open) = (name.to_owned(), BTreeSet::new(), None);
            continue;
        }
        let family = families.get_mut(&current).expect("a type before all else");
        if let Some(help) = line.strip_prefix(&format!("# HELP {current} ")) {
            assert!(family.help.is_empty() && family.samples.is_empty(), "help comes once, before samples: {line}");
            assert!(!help.replace("\\\"", "").contains('"'), "quotes are escaped: {line}");
            family.help = help.to_owned();
            continue;
        }
        assert!(!line.starts_with('#') && !line.trim().is_empty(), "neither comment nor blank: {line}");
        let (head, at) = line.rsplit_once(' ').expect("a timestamp");
        let at: f64 = at.parse().expect("in seconds");
        let sample = sample(head).expect("a sample");
        let suffix = sample.name.strip_prefix(current.as_str()).expect("of this family");
        let allowed: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "summary" => &["", "_count", "_sum"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{} of a {}", sample.name, family.kind);
        let mut labels = sample.labels.clone();
        let names: BTreeSet<&String> = labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        labels.retain(|(name, _)| name != "le" && name != "quantile");
        let part = format!("{suffix} {:?}", sample.label("le").or(sample.label("quantile")));
        match &mut open {
            Some((metric, then, parts)) if *metric == labels => {
                assert!(at >= *then, "time goes back: {line}");
                if at > *then {
                    (*then, *parts) = (at, Vec::new());
                }
                assert!(!parts.contains(&part), "twice at one time: {line}");
                parts.push(part);
            }
            other => {
                let before = other.replace((labels.clone(), at, vec![part]));
                over.extend(before.map(|(labels, ..)| labels));
                assert!(!over.contains(&labels), "another metric between its points: {line}");
            }
        }
        family.samples.push((sample, at));
    }
    families
}

impl Read {
    /// Times and values of the series with this label.
    fn series(&self, label: &str, value: &str) -> Vec<(f64, f64)> {
        let of = self.samples.iter().filter(|(sample, _)| sample.label(label) == Some(value));
        of.map(|(sample, at)| (*at, sample.value)).collect()
    }
}

const ONE: &str = "# HELP lb_requests_total Requests \"answered\".\n# TYPE lb_requests_total counter\n\
    lb_requests_total{pool=\"default\",code=\"200\"} 40\nlb_requests_total{pool=\"default\",code=\"503\"} 2\n\
    # HELP lb_strategy_info Strategy in charge.\n# TYPE lb_strategy_info gauge\nlb_strategy_info{strategy=\"old\"} 1\n";
const TWO: &str = "# HELP lb_requests_total Requests \"answered\".\n# TYPE lb_requests_total counter\n\
    lb_requests_total{pool=\"default\",code=\"200\"} 7\n\
    # HELP lb_strategy_info Strategy in charge.\n# TYPE lb_strategy_info gauge\nlb_strategy_info{strategy=\"new\"} 1\n";

#[test]
fn a_counters_family_is_without_total_and_has_job_and_instance() {
    let read = of(&[(1_000, "h:1", ONE), (2_250, "h:1", ONE)]);
    let requests = &read["lb_requests"];
    assert_eq!((requests.kind.as_str(), requests.help.as_str()), ("counter", "Requests \\\"answered\\\"."));
    assert_eq!(requests.series("code", "200"), [(1.0, 40.0), (2.25, 40.0)]);
    assert!(requests.samples.iter().all(|(sample, _)| sample.name == "lb_requests_total"
        && sample.label("job") == Some("lb")
        && sample.label("instance") == Some("h:1")));
}

#[test]
fn counter_resets_and_missing_series_stay() {
    let read = of(&[(1_000, "h:1", ONE), (2_000, "h:1", TWO)]);
    assert_eq!(read["lb_requests"].series("code", "200"), [(1.0, 40.0), (2.0, 7.0)], "a restart");
    assert_eq!(read["lb_requests"].series("code", "503"), [(1.0, 2.0)], "the series ended");
    let strategies = &read["lb_strategy_info"];
    assert_eq!(strategies.series("strategy", "old"), [(1.0, 1.0)]);
    assert_eq!(strategies.series("strategy", "new"), [(2.0, 1.0)]);
}

#[test]
fn two_balancers_are_two_instances_and_two_runs_of_one_are_in_order_of_time() {
    let scrapes = [(9_000, "h:1", TWO), (1_000, "h:1", ONE), (1_000, "h:1", TWO), (9_000, "h:2", ONE)];
    let read = of(&scrapes);
    let requests = &read["lb_requests"];
    let of_instance = requests.series("instance", "h:1");
    // at 1 s only the first scrape counts
    assert_eq!(of_instance, [(1.0, 40.0), (9.0, 7.0), (1.0, 2.0)], "by series, each in order of time");
    assert_eq!(requests.series("instance", "h:2"), [(9.0, 40.0), (9.0, 2.0)]);
    let mut metrics = OpenMetrics::default();
    for (at, instance, text) in scrapes {
        metrics.add(&taken(at, instance), text).expect("well formed");
    }
    let span = Span { first_unix_ms: 1_000, last_unix_ms: 9_000, scrapes: 3, failed: 0 };
    assert_eq!(metrics.instances()["h:1"], span);
}

#[test]
fn a_histogram_is_written_point_by_point() {
    let text = "# TYPE d histogram\nd_bucket{p=\"x\",le=\"0.1\"} 1\nd_bucket{p=\"x\",le=\"+Inf\"} 3\nd_sum{p=\"x\"} 0.75\n\
        d_count{p=\"x\"} 3\nd_bucket{p=\"y\",le=\"0.1\"} 0\nd_bucket{p=\"y\",le=\"+Inf\"} 0\nd_sum{p=\"y\"} 0\nd_count{p=\"y\"} 0\n";
    let mut metrics = OpenMetrics::default();
    for at in [1_000, 2_000] {
        metrics.add(&taken(at, "h:1"), text).expect("well formed");
    }
    let text = written(&metrics);
    strictly_read(&text);
    let of_x: Vec<&str> = text.lines().filter(|line| line.contains("p=\"x\"")).collect();
    assert_eq!(
        of_x[..5],
        [
            "d_bucket{job=\"lb\",instance=\"h:1\",p=\"x\",le=\"0.1\"} 1 1.000",
            "d_bucket{job=\"lb\",instance=\"h:1\",p=\"x\",le=\"+Inf\"} 3 1.000",
            "d_sum{job=\"lb\",instance=\"h:1\",p=\"x\"} 0.75 1.000",
            "d_count{job=\"lb\",instance=\"h:1\",p=\"x\"} 3 1.000",
            "d_bucket{job=\"lb\",instance=\"h:1\",p=\"x\",le=\"0.1\"} 1 2.000",
        ]
    );
}

#[test]
fn a_scrape_without_a_response_is_down_and_has_no_series() {
    let mut metrics = OpenMetrics::default();
    metrics.add(&taken(1_000, "h:1"), ONE).expect("well formed");
    let failed = Taken { error: Some("refused".to_owned()), ..taken(2_000, "h:1") };
    metrics.add(&failed, "").expect("nothing to parse");
    let read = strictly_read(&written(&metrics));
    assert_eq!(read["up"].series("job", "lb"), [(1.0, 1.0), (2.0, 0.0)]);
    assert_eq!(read["scrape_samples_scraped"].series("job", "lb"), [(1.0, 3.0), (2.0, 0.0)]);
    assert_eq!(read["scrape_duration_seconds"].series("job", "lb"), [(1.0, 0.0015), (2.0, 0.0015)]);
    assert_eq!(read["lb_requests"].series("code", "200"), [(1.0, 40.0)]);
    assert_eq!(metrics.instances()["h:1"].failed, 1);
}

#[test]
fn names_and_types_follow_openmetrics() {
    let text = "# TYPE odd counter\nodd 1\n# TYPE twice gauge\ntwice 2\n# TYPE twice_total counter\ntwice_total 3\n\
        # TYPE u untyped\nu{job=\"its own\",v=\"a\\\\b\\\"c\\nd\"} NaN\nnobody_said 4\n# TYPE empty gauge\n\
        # TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 1\n";
    let read = of(&[(1_000, "h:1", text)]);
    let kinds: BTreeMap<&str, &str> = read.iter().map(|(name, family)| (name.as_str(), family.kind.as_str())).collect();
    assert_eq!(kinds["odd"], "unknown", "a counter needs `_total`");
    assert_eq!((kinds["twice"], kinds["twice_total"]), ("gauge", "unknown"), "one name, one family");
    assert_eq!((kinds["u"], kinds["nobody_said"], kinds["s"]), ("unknown", "unknown", "summary"));
    assert!(!kinds.contains_key("empty"));
    let (sample, _) = &read["u"].samples[0];
    assert_eq!((sample.label("job"), sample.label("exported_job")), (Some("lb"), Some("its own")));
    assert_eq!(sample.label("v"), Some("a\\b\"c\nd"));
    assert!(sample.value.is_nan());
}

#[test]
fn a_malformed_scrape_is_refused_as_a_whole() {
    let mut metrics = OpenMetrics::default();
    assert_eq!(metrics.add(&taken(1_000, "h:1"), "a 1\n<html>\n").expect_err("no sample").line, 2);
    assert_eq!(written(&metrics), "# EOF\n");
}
