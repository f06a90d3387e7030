//! Figures as they are reported: minimum, median, maximum.

use std::fmt;

/// Minimum, median and maximum of a series; prints as `a / b / c` with the precision asked for.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    /// Of a series that is not empty.
    pub fn of(series: &[f64]) -> Self {
        Self { min: percentile(series, 0.0), median: percentile(series, 0.5), max: percentile(series, 1.0) }
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.median
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        write!(f, "{:.digits$} / **{:.digits$}** / {:.digits$}", self.min, self.median, self.max)
    }
}

/// The value below which that share of the series lies (nearest rank).
pub fn percentile(series: &[f64], share: f64) -> f64 {
    let mut sorted = series.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Round by round, `ours` over `theirs`.
pub fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}
