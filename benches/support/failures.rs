//! What went wrong, kind by kind: a table that only counts failures does not say whose they are.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::AddAssign;

/// How often something failed, by what was the matter; prints as `0`, or `11 (503 pool_timeout: 9, timeout: 2)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<String, u64>);

impl Failures {
    /// Takes in as many of a kind.
    pub fn add(&mut self, kind: &str, times: u64) {
        if times > 0 {
            *self.0.entry(kind.to_owned()).or_default() += times;
        }
    }

    /// All kinds together.
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }
}

impl AddAssign<&Self> for Failures {
    fn add_assign(&mut self, other: &Self) {
        for (kind, times) in &other.0 {
            self.add(kind, *times);
        }
    }
}

impl<'a> Sum<&'a Self> for Failures {
    fn sum<I: Iterator<Item = &'a Self>>(all: I) -> Self {
        let mut sum = Self::default();
        all.for_each(|one| sum += one);
        sum
    }
}

impl<'a> FromIterator<&'a str> for Failures {
    fn from_iter<I: IntoIterator<Item = &'a str>>(kinds: I) -> Self {
        let mut all = Self::default();
        kinds.into_iter().for_each(|kind| all.add(kind, 1));
        all
    }
}

impl fmt::Display for Failures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count())?;
        let kinds: Vec<_> = self.0.iter().map(|(kind, times)| format!("{kind}: {times}")).collect();
        if kinds.is_empty() { Ok(()) } else { write!(f, " ({})", kinds.join(", ")) }
    }
}
