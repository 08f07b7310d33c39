//! A parser of Prometheus' text format: names, labels, values. Comments, types and timestamps are skipped.
//!
//! Why not a library: the grammar has ten lines, and existing parsers depend on a regular-expression engine and a
//! calendar.

use thiserror::Error;

/// One scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line} is no sample of Prometheus' text format: {text:?}")]
pub struct BadScrape {
    pub line: usize,
    pub text: String,
}

// === impl Scrape ===

impl Scrape {
    pub fn parse(text: &str) -> Result<Self, BadScrape> {
        let is_sample = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let numbered = text.lines().map(str::trim).enumerate().filter(|(_, line)| is_sample(line));
        let parse = |(number, line): (usize, &str)| sample(line).ok_or_else(|| BadScrape::at(number + 1, line));
        Ok(Self { samples: numbered.map(parse).collect::<Result<_, _>>()? })
    }

    /// All samples of this name that have all of these labels.
    pub fn matching<'a>(&'a self, name: &'a str, labels: &'a [(&'a str, &'a str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name && labels.iter().all(|(label, value)| sample.label(label) == Some(value))
        })
    }

    /// The sum of these samples; 0 if there are none, because a counter that is still 0 may be missing.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The sum of these counters as an integer.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels).round().max(0.0) as u64
    }

    pub fn has(&self, name: &str) -> bool {
        self.samples.iter().any(|sample| sample.name == name)
    }
}

// === impl Sample ===

impl Sample {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

// === impl BadScrape ===

impl BadScrape {
    pub(super) fn at(line: usize, text: &str) -> Self {
        Self { line, text: text.chars().take(80).collect() }
    }
}

/// Parses one line.
pub(super) fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(|char: char| !(char.is_ascii_alphanumeric() || char == '_' || char == ':'))?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([' ', ',']);
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind;
                break;
            }
            let (label, behind) = rest.split_once('"')?;
            let (value, behind) = quoted(behind)?;
            labels.push((label.trim_end().strip_suffix('=')?.trim().to_owned(), value));
            rest = behind;
        }
    }
    let value = rest.split_ascii_whitespace().next()?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().ok()?,
    };
    (!name.is_empty()).then(|| Sample { name: name.to_owned(), labels, value })
}

/// The value up to its closing quote, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP lb_requests_total Requests.\n# TYPE lb_requests_total counter\n\
        lb_requests_total{listener=\"127.0.0.1:80\",pool=\"default\",code=\"200\"} 40\n\
        lb_requests_total{listener=\"127.0.0.1:80\",pool=\"default\",code=\"503\"} 2 1700000000\n\
        lb_generation 4\n\
        odd{a=\"x,y}\\\"\\\\\\n\", b = \"2\",} +Inf\nnan NaN\n";

    #[test]
    fn sums_cover_all_values_of_labels_that_are_not_given() {
        let scrape = Scrape::parse(TEXT).expect("well formed");
        assert_eq!(scrape.count("lb_requests_total", &[("pool", "default")]), 42);
        assert_eq!(scrape.count("lb_requests_total", &[("code", "503")]), 2);
        assert_eq!(scrape.sum("lb_generation", &[]), 4.0);
        assert_eq!(scrape.count("lb_retries_total", &[]), 0);
        assert!(scrape.has("nan") && !scrape.has("lb_requests"));
    }

    #[test]
    fn values_of_labels_may_have_any_characters() {
        let scrape = Scrape::parse(TEXT).expect("well formed");
        let odd = scrape.matching("odd", &[]).next().expect("there");
        assert_eq!(odd.label("a"), Some("x,y}\"\\\n"));
        assert_eq!((odd.label("b"), odd.value), (Some("2"), f64::INFINITY));
    }

    #[test]
    fn a_malformed_sample_is_refused_with_its_line() {
        for (text, line) in [("a 1\nb{c=\"1\n", 2), ("<html>\n", 1), ("a\n", 1), ("\n\na one\n", 3), ("{x=\"1\"} 1", 1)]
        {
            assert_eq!(Scrape::parse(text).expect_err(text).line, line, "{text:?}");
        }
    }
}
