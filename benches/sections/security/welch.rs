//! Welch's t of two series of times.

use crate::support::spread::percentile;

/// Beyond this the two series are not of the same kind: by chance it happens to one in a hundred thousand.
pub const LIMIT: f64 = 4.5;
/// The shares of the fastest samples that are looked at: the slow ones are those that something else held up.
pub const CROPS: [f64; 6] = [1.0, 0.99, 0.95, 0.9, 0.75, 0.5];

/// Times in milliseconds, and whether each was of somebody known.
#[derive(Debug, Default)]
pub struct Series(Vec<(bool, f64)>);

impl Series {
    /// One more.
    pub fn add(&mut self, known: bool, took_ms: f64) {
        self.0.push((known, took_ms));
    }

    /// Of those who are known, or of those who are not.
    pub fn mean(&self, known: bool) -> f64 {
        Moments::of(self.0.iter().filter(|(is, _)| *is == known).map(|(_, took)| *took)).mean
    }

    /// t for each of [`CROPS`], above zero where those who are known take longer. What is cropped is told from both
    /// series together.
    pub fn all(&self) -> [f64; CROPS.len()] {
        let times: Vec<f64> = self.0.iter().map(|(_, took)| *took).collect();
        CROPS.map(|share| {
            let most = percentile(&times, share);
            let of = |known: bool| {
                Moments::of(self.0.iter().filter(|(is, took)| *is == known && *took <= most).map(|(_, took)| *took))
            };
            of(true).t(&of(false))
        })
    }
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: impl Iterator<Item = f64>) -> Self {
        // Welford's way: the times are close together and far from zero.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times {
            count += 1.0;
            let off = time - mean;
            mean += off / count;
            squares += off * (time - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }

    fn t(&self, other: &Self) -> f64 {
        (self.mean - other.mean) / (self.variance / self.count + other.variance / other.count).sqrt()
    }
}
