//! One process of `wrk`, with one thread, so that the servers keep the cores.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::failures::Failures;
use super::load::Sample;

/// `wrk` with a report of its percentiles.
pub fn command(connections: u32, seconds: u64) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--latency", "-t1", "--timeout", "10s"]);
    command.arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn run(command: &mut Command) -> Result<Sample> {
    let output = command.output().await.context("wrk is missing: run scripts/setup bench")?;
    ensure!(output.status.success(), "wrk failed: {}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8_lossy(&output.stdout);
    parse(&report).with_context(|| format!("not understood:\n{report}"))
}

/// Reads the report of wrk 4.
fn parse(report: &str) -> Option<Sample> {
    let after = |label: &str| report.lines().find_map(|line| line.trim().strip_prefix(label)).map(str::trim);
    let (total, took) = report.lines().find_map(|line| line.trim().split_once(" requests in "))?;
    let total: u64 = total.parse().ok()?;
    let seconds = milliseconds(took.split(',').next()?)? / 1000.0;
    let refused: u64 = after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse().ok())?;
    let mut failed = Failures::default();
    failed.add("not 2xx", refused);
    // `connect 0, read 3, write 0, timeout 1`
    for (kind, count) in
        after("Socket errors:").iter().flat_map(|all| all.split(", ")).filter_map(|one| one.split_once(' '))
    {
        failed.add(kind, count.parse().ok()?);
    }
    Some(Sample {
        rate: total.saturating_sub(refused) as f64 / seconds,
        p50_ms: milliseconds(after("50%")?)?,
        p99_ms: milliseconds(after("99%")?)?,
        failed,
    })
}

/// `870.00us`, `12.34ms`, `1.20s`, `1.00m`.
fn milliseconds(text: &str) -> Option<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let value: f64 = text[..split].parse().ok()?;
    match &text[split..] {
        "us" => Some(value / 1000.0),
        "ms" => Some(value),
        "s" => Some(value * 1000.0),
        "m" => Some(value * 60_000.0),
        _ => None,
    }
}
