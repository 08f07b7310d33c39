//! Reads a page of metrics in the text format.

/// The sum of the series of `name` whose labels contain each of `labels`, as `code="200"`.
pub fn sum(page: &str, name: &str, labels: &[&str]) -> f64 {
    let own = samples(page).filter(|(series, _)| {
        let is_named = series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        is_named && labels.iter().all(|label| series.contains(label))
    });
    own.map(|(_, value)| value).sum()
}

/// The value of one series, written with its labels as on the page.
pub fn value(page: &str, series: &str) -> Option<f64> {
    samples(page).find(|(found, _)| *found == series).map(|(_, value)| value)
}

fn samples(page: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        let sample = line.rsplit_once(' ').and_then(|(series, value)| Some((series, value.parse().ok()?)));
        sample.unwrap_or_else(|| panic!("{line:?} is no sample"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str =
        "# HELP a text\n# TYPE a counter\na{b=\"1\",c=\"x y\"} 2\na{b=\"2\",c=\"z\"} 3\nab 5\nad{b=\"1\"} 7\n";

    #[test]
    fn a_sum_has_the_series_of_one_name_with_all_labels() {
        assert_eq!(sum(PAGE, "a", &[]), 5.0);
        assert_eq!(sum(PAGE, "a", &["b=\"1\"", "c=\"x y\""]), 2.0);
        assert_eq!((sum(PAGE, "ab", &[]), sum(PAGE, "absent", &[])), (5.0, 0.0));
    }

    #[test]
    fn a_value_belongs_to_one_whole_series() {
        assert_eq!(
            (value(PAGE, "a{b=\"2\",c=\"z\"}"), value(PAGE, "ab"), value(PAGE, "a")),
            (Some(3.0), Some(5.0), None)
        );
    }
}
