//! The conversion of values to positions, and the values of ticks.
//!
//! Invariant: a scale covers at least the values that it was made for, and its ticks lie within it.

/// The value of a tick and its text.
pub(crate) type Tick = (f64, String);

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    Linear {
        from: f64,
        to: f64,
    },
    /// Both ends are above 0.
    Log {
        from: f64,
        to: f64,
    },
}

// === impl Scale ===

impl Scale {
    /// From 0 to a round number at `top` or slightly above.
    pub(crate) fn from_zero(top: f64) -> Self {
        let top = if top.is_finite() && top > 0.0 { top } else { 1.0 };
        let step = step(top, 5);
        Self::Linear { from: 0.0, to: (top / step - 1e-9).ceil() * step }
    }

    /// Logarithmic around both values, with a small margin.
    pub(crate) fn log_around(low: f64, high: f64) -> Self {
        let low = if low.is_finite() && low > 0.0 { low } else { 1e-3 };
        let high = if high.is_finite() && high > low { high } else { low * 2.0 };
        let air = (high / low).powf(0.05).max(1.02);
        Self::Log { from: low / air, to: high * air }
    }

    /// From 0 to 1 for values within the scale.
    pub(crate) fn place(&self, value: f64) -> f64 {
        match *self {
            Self::Linear { from, to } => (value - from) / (to - from),
            Self::Log { from, to } => (value.max(from / 1e3) / from).ln() / (to / from).ln(),
        }
    }

    pub(crate) fn ends(&self) -> (f64, f64) {
        match *self {
            Self::Linear { from, to } | Self::Log { from, to } => (from, to),
        }
    }

    /// About `wanted` round values. A logarithmic scale over less than a decade has more.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<f64> {
        let (from, to) = self.ends();
        match self {
            Self::Linear { .. } => linear_ticks(from, to, wanted),
            Self::Log { .. } => log_ticks(from, to, wanted),
        }
    }
}

/// 1, 2, 2.5 or 5 times a power of ten, so that about `wanted` steps fit into `range`.
fn step(range: f64, wanted: usize) -> f64 {
    let raw = range / wanted.max(1) as f64;
    let power = 10_f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= raw * 0.999).unwrap_or(10.0);
    // halves look odd where values are whole numbers
    if factor == 2.5 && (power - 1.0).abs() < 1e-9 { 5.0 * power } else { factor * power }
}

/// Even steps, if possible so that both ends get a tick.
fn linear_ticks(from: f64, to: f64, wanted: usize) -> Vec<f64> {
    let range = to - from;
    let rough = step(range, wanted);
    let fits = |step: f64| (range / step - (range / step).round()).abs() < 1e-6 && range / step <= wanted as f64 + 2.5;
    let finer = [1.0, 2.0, 2.5, 4.0, 5.0].map(|part| rough / part);
    let step = if from == 0.0 { finer.into_iter().find(|&step| fits(step)).unwrap_or(rough) } else { rough };
    let (first, last) = ((from / step - 1e-9).ceil() as i64, (to / step + 1e-9).floor() as i64);
    (first..=last).map(|number| number as f64 * step).collect()
}

fn log_ticks(from: f64, to: f64, wanted: usize) -> Vec<f64> {
    let decades = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
    let within = |factors: &[f64]| -> Vec<f64> {
        decades
            .clone()
            .flat_map(|decade| factors.iter().map(move |factor| factor * 10_f64.powi(decade)))
            .filter(|value| (from * 0.9999..=to * 1.0001).contains(value))
            .collect()
    };
    let choices: [&[f64]; 3] = [&[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]];
    if within(choices[0]).len() < 3 {
        // on a short range, even steps are easier to read, and fewer than three ticks are not a scale
        let even = linear_ticks(from, to, wanted);
        return if even.len() < 3 { linear_ticks(from, to, 2 * wanted) } else { even };
    }
    let fitting = choices.iter().map(|factors| within(factors)).find(|ticks| ticks.len() <= wanted + 2);
    fitting.unwrap_or_else(|| within(&[1.0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_from_zero_ends_at_a_round_number_at_or_above_the_top() {
        for (top, end) in [(8_437.0, 10_000.0), (3_334.0, 4_000.0), (1.02, 1.2), (0.3, 0.3), (0.0, 1.0)] {
            let (_, to) = Scale::from_zero(top).ends();
            assert!((to - end).abs() < end * 0.26 && to >= top, "{top}: {to}");
        }
    }

    #[test]
    fn ticks_lie_within_and_are_few() {
        for scale in [
            Scale::from_zero(8_437.0),
            Scale::log_around(0.9, 1_200.0),
            Scale::log_around(10.0, 13.0),
            Scale::Linear { from: 0.7, to: 1.3 },
        ] {
            let (from, to) = scale.ends();
            let ticks = scale.ticks(6);
            assert!((2..=10).contains(&ticks.len()), "{scale:?}: {ticks:?}");
            assert!(ticks.iter().all(|tick| (from - 1e-9..=to * 1.001).contains(tick)), "{scale:?}: {ticks:?}");
        }
    }

    #[test]
    fn a_short_logarithmic_scale_has_enough_ticks() {
        for (low, high) in [(0.53, 1.3), (0.48, 1.28), (0.93, 1.08)] {
            assert!(Scale::log_around(low, high).ticks(3).len() >= 3, "{low} to {high}");
        }
    }

    #[test]
    fn a_logarithmic_scale_gives_each_decade_the_same_room() {
        let scale = Scale::Log { from: 1.0, to: 100.0 };
        assert!((scale.place(10.0) - 0.5).abs() < 1e-12);
    }
}
