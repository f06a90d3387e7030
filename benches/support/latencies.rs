//! Latencies of several processes of `wrk`, joined value by value: no percentile can be made of two percentiles.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

/// For `wrk`, which then writes how often each latency came, in microseconds, to the file `LATENCIES`.
pub const TELL: &str = r#"
done = function(summary, latency)
  local out = io.open(LATENCIES, "w")
  for number = 1, #latency do
    local value, count = latency(number)
    out:write(string.format("%d %d\n", value, count))
  end
  out:close()
end
"#;

/// How often each latency came, by microseconds.
#[derive(Debug, Default)]
pub struct Latencies(BTreeMap<u64, u64>);

impl Latencies {
    /// Takes in what one of them has written.
    pub fn read(&mut self, path: &Path) -> Result<()> {
        let written = std::fs::read_to_string(path)?;
        for line in written.lines() {
            let (value, count) = line.split_once(' ').with_context(|| format!("a latency is {line:?}"))?;
            *self.0.entry(value.parse()?).or_default() += count.parse::<u64>()?;
        }
        Ok(())
    }

    /// The latency below which that share of all lies (nearest rank), in milliseconds.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (share * self.0.values().sum::<u64>() as f64).ceil() as u64;
        let mut passed = 0;
        let at = self.0.iter().find(|(_, count)| {
            passed += **count;
            passed >= rank
        });
        at.map_or(f64::NAN, |(value, _)| *value as f64 / 1000.0)
    }
}
