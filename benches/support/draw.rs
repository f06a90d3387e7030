//! Whose turn it is: which tenant each request is for, the same in every run.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Requests drawn in advance; longer turns begin again.
const LENGTH: usize = 100_000;
/// The exponent of Zipf's law: the first of 200 tenants gets some 23 % of the requests.
const EXPONENT: f64 = 1.1;

/// How requests spread over tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Each tenant as often as any other.
    Uniform,
    /// A few tenants often, most of them seldom.
    Zipf,
}

impl Traffic {
    /// Both, in the order they are reported.
    pub const ALL: [Self; 2] = [Self::Uniform, Self::Zipf];

    /// The numbers of the tenants that one request after the other is for, below `tenants`.
    pub fn draw(self, tenants: usize, seed: u64) -> Vec<usize> {
        let mut total = 0.0;
        let bounds: Vec<f64> = (1..=tenants)
            .map(|rank| {
                total += match self {
                    Self::Uniform => 1.0,
                    Self::Zipf => (rank as f64).powf(-EXPONENT),
                };
                total
            })
            .collect();
        let mut random = StdRng::seed_from_u64(seed);
        (0..LENGTH)
            .map(|_| {
                let at = random.random::<f64>() * total;
                bounds.partition_point(|bound| *bound <= at).min(tenants - 1)
            })
            .collect()
    }
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uniform => "uniform",
            Self::Zipf => "zipf 1.1",
        })
    }
}
