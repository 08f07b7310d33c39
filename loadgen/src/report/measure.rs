//! How even counts are.

/// The largest count over the mean: 1 = all the same, N = all on one. `None` without any request.
pub(crate) fn max_over_mean(counts: &[u64]) -> Option<f64> {
    let mean = mean(counts)?;
    counts.iter().max().map(|&max| max as f64 / mean)
}

/// Coefficient of variation: the standard deviation of the counts over their mean; 0 = all the same.
pub(crate) fn variation(counts: &[u64]) -> Option<f64> {
    let mean = mean(counts)?;
    let variance = counts.iter().map(|&count| (count as f64 - mean).powi(2)).sum::<f64>() / counts.len() as f64;
    Some(variance.sqrt() / mean)
}

/// Jain's index, (Σx)² / (n Σx²): 1 = all the same, 1/N = all on one.
pub(crate) fn jain(counts: &[u64]) -> Option<f64> {
    mean(counts)?;
    let (sum, squares) = counts.iter().fold((0.0, 0.0), |(sum, squares), &count| {
        let count = count as f64;
        (sum + count, squares + count * count)
    });
    Some(sum * sum / (counts.len() as f64 * squares))
}

fn mean(counts: &[u64]) -> Option<f64> {
    let sum: u64 = counts.iter().sum();
    (sum > 0).then(|| sum as f64 / counts.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sheet's ring at N = 3: max/mean 2.53, Jain 0.459.
    #[test]
    fn the_skew_of_the_course_is_measured_as_published() {
        let counts = [8_437, 469, 1_094];
        assert!((max_over_mean(&counts).expect("counts") - 2.531).abs() < 0.001);
        assert!((jain(&counts).expect("counts") - 0.459).abs() < 0.001);
        assert!((jain(&[7, 0, 0]).expect("counts") - 1.0 / 3.0).abs() < 1e-12);
        assert_eq!((variation(&[5, 5]), max_over_mean(&[0, 0]), jain(&[])), (Some(0.0), None, None));
    }
}
