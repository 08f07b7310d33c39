//! Recorded scrapes as OpenMetrics text with timestamps: <https://prometheus.io/docs/specs/om/open_metrics_spec/>.
//! `promtool tsdb create-blocks-from openmetrics` converts it to a block for Prometheus and Grafana.
//!
//! The output equals the data that a scraping Prometheus would have stored. It has the labels `job` and `instance`, and
//! the series of each scrape: `up`, `scrape_duration_seconds`, `scrape_samples_scraped`. The format cannot mark the end
//! of a series, so queries need a short look-back (`--query.lookback-delta`).
//!
//! Invariants: each family appears once, each of its metrics once, with points in order of time. Counter resets (a
//! restart) are kept, because `rate` handles them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::scrape::{BadScrape, Sample, sample};
use crate::model::Taken;

/// Scrapes, sorted by family and metric.
#[derive(Debug, Default)]
pub struct OpenMetrics {
    /// Keyed by their names in the scrape.
    families: BTreeMap<String, Family>,
    instances: BTreeMap<String, Span>,
}

/// The scrapes of one instance. Times are milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first_unix_ms: u64,
    pub last_unix_ms: u64,
    pub scrapes: u64,
    /// Scrapes without a response.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Family {
    /// The type in the scrape; "" if it has none.
    kind: String,
    help: String,
    /// The suffixes and labels by which the samples of one point differ.
    parts: Vec<Part>,
    metrics: BTreeMap<Labels, Vec<Point>>,
}

type Labels = Vec<(String, String)>;

/// `_bucket` with its bound, or `_sum`. Most families have one part without suffix and bound.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    suffix: &'static str,
    /// `le` or `quantile`.
    bound: Option<(String, String)>,
}

/// One metric in one scrape.
#[derive(Debug)]
struct Point {
    at_unix_ms: u64,
    /// Each value with the number of its part.
    values: Vec<(usize, f64)>,
}

const JOB: &str = "lb";
const WHOLE: Part = Part { suffix: "", bound: None };
/// The series that Prometheus adds to each scrape.
const OWN: [(&str, &str); 3] = [
    ("up", "1 when the scrape had a response."),
    ("scrape_duration_seconds", "Duration of the scrape."),
    ("scrape_samples_scraped", "Samples in the response."),
];

// === impl OpenMetrics ===

impl OpenMetrics {
    /// Adds a scrape. If one instance has two scrapes at the same time, the first counts.
    pub fn add(&mut self, taken: &Taken, text: &str) -> Result<(), BadScrape> {
        let mut samples = Vec::new();
        for (number, line) in text.lines().map(str::trim).enumerate() {
            if let Some(comment) = line.strip_prefix('#') {
                self.declare(comment.trim_start());
            } else if !line.is_empty() {
                samples.push(sample(line).ok_or_else(|| BadScrape::at(number + 1, line))?);
            }
        }
        let at = taken.at_unix_ms;
        let span = Span { first_unix_ms: at, last_unix_ms: at, scrapes: 0, failed: 0 };
        let span = self.instances.entry(taken.instance.clone()).or_insert(span);
        (span.first_unix_ms, span.last_unix_ms) = (span.first_unix_ms.min(at), span.last_unix_ms.max(at));
        span.scrapes += 1;
        span.failed += u64::from(taken.error.is_some());

        let up = f64::from(u8::from(taken.error.is_none()));
        let own = [up, taken.took_us as f64 / 1e6, samples.len() as f64];
        for ((name, help), value) in OWN.into_iter().zip(own) {
            let family = self.families.entry(name.to_owned()).or_default();
            (family.kind, family.help) = ("gauge".to_owned(), help.to_owned());
            family.push(taken, WHOLE, Sample { name: name.to_owned(), labels: Vec::new(), value });
        }
        for mut sample in samples {
            let (name, suffix) = self.family_of(&sample.name);
            let bound = match (suffix, self.is(&name, "summary")) {
                ("_bucket", _) => "le",
                ("", true) => "quantile",
                _ => "",
            };
            let bound = sample.labels.iter().position(|(label, _)| label == bound);
            let bound = bound.map(|at| sample.labels.remove(at));
            self.families.entry(name).or_default().push(taken, Part { suffix, bound }, sample);
        }
        Ok(())
    }

    /// The scraped instances.
    pub fn instances(&self) -> &BTreeMap<String, Span> {
        &self.instances
    }

    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for (name, family) in &self.families {
            // the name of a counter's family lacks the `_total` of its samples
            let (name, suffix, kind) = match family.kind.as_str() {
                "counter" => match name.strip_suffix("_total") {
                    Some(base) if !self.families.contains_key(base) => (base, "_total", "counter"),
                    _ => (name.as_str(), "", "unknown"),
                },
                kind @ ("gauge" | "histogram" | "summary") => (name.as_str(), "", kind),
                _ => (name.as_str(), "", "unknown"),
            };
            if family.metrics.is_empty() {
                continue;
            }
            writeln!(out, "# TYPE {name} {kind}")?;
            if !family.help.is_empty() {
                writeln!(out, "# HELP {name} {}", family.help.replace('"', "\\\""))?;
            }
            for (labels, points) in &family.metrics {
                let mut points: Vec<&Point> = points.iter().collect();
                points.sort_by_key(|point| point.at_unix_ms);
                points.dedup_by_key(|point| point.at_unix_ms);
                let head: Vec<String> = family.parts.iter().map(|part| part.head(name, suffix, labels)).collect();
                for Point { at_unix_ms, values } in points {
                    let (seconds, milliseconds) = (at_unix_ms / 1000, at_unix_ms % 1000);
                    for (part, value) in values {
                        writeln!(out, "{} {} {seconds}.{milliseconds:03}", head[*part], Value(*value))?;
                    }
                }
            }
        }
        writeln!(out, "# EOF")
    }

    /// Parses `TYPE name kind` or `HELP name text`.
    fn declare(&mut self, comment: &str) {
        let mut words = comment.splitn(3, ' ');
        let (Some(what @ ("TYPE" | "HELP")), Some(name), Some(text)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let family = self.families.entry(name.to_owned()).or_default();
        let field = if what == "TYPE" { &mut family.kind } else { &mut family.help };
        if field != text {
            text.clone_into(field);
        }
    }

    /// The family of a sample, and the suffix of its name.
    fn family_of(&self, sample: &str) -> (String, &'static str) {
        let of_several = |suffix: &&'static str| {
            let name = sample.strip_suffix(*suffix)?;
            let is_so = self.is(name, "histogram") || (*suffix != "_bucket" && self.is(name, "summary"));
            is_so.then(|| (name.to_owned(), *suffix))
        };
        let found = ["_bucket", "_count", "_sum"].iter().find_map(of_several);
        found.unwrap_or_else(|| (sample.to_owned(), ""))
    }

    fn is(&self, family: &str, kind: &str) -> bool {
        self.families.get(family).is_some_and(|family| family.kind == kind)
    }
}

// === impl Family ===

impl Family {
    fn push(&mut self, taken: &Taken, part: Part, sample: Sample) {
        let number = self.parts.iter().position(|known| *known == part).unwrap_or_else(|| {
            self.parts.push(part);
            self.parts.len() - 1
        });
        let mut labels = vec![("job".to_owned(), JOB.to_owned()), ("instance".to_owned(), taken.instance.clone())];
        labels.extend(sample.labels.into_iter().map(|(name, value)| match name.as_str() {
            // Prometheus renames labels that collide with its own in the same way
            "job" | "instance" => (format!("exported_{name}"), value),
            _ => (name, value),
        }));
        let at_unix_ms = taken.at_unix_ms;
        let points = self.metrics.entry(labels).or_default();
        match points.last_mut() {
            Some(point) if point.at_unix_ms == at_unix_ms => {
                if point.values.iter().all(|(known, _)| *known != number) {
                    point.values.push((number, sample.value));
                }
            }
            _ => points.push(Point { at_unix_ms, values: vec![(number, sample.value)] }),
        }
    }
}

// === impl Part ===

impl Part {
    /// The beginning of a line, up to its value.
    fn head(&self, family: &str, suffix: &str, labels: &Labels) -> String {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let labels = labels.iter().chain(&self.bound).map(|(name, value)| format!("{name}=\"{}\"", escaped(value)));
        format!("{family}{suffix}{}{{{}}}", self.suffix, labels.collect::<Vec<_>>().join(","))
    }
}

/// A number in the notation of OpenMetrics.
struct Value(f64);

impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_infinite() => out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(out, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests;
