//! Load by `wrk`: one thread, so that the servers keep the cores.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

use super::contender::Contender;
use super::draw::Traffic;
use super::installation::Installation;

/// Connections that a contender is loaded with.
pub const CONNECTIONS: u32 = 64;
/// Hashing is bounded by the cores: more callers only wait longer.
const LOGIN_CONNECTIONS: u32 = 8;

/// One turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Good answers per second.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// The latency that one in a hundred exceeds, in milliseconds.
    pub p99_ms: f64,
    /// Answers other than 2xx, broken connections and timeouts.
    pub failed: u64,
}

/// Reads as fast as the contender lets us.
pub async fn get(contender: &dyn Contender, seconds: u64) -> Result<Sample> {
    let mut command = wrk(CONNECTIONS, seconds);
    if let Some(authorization) = contender.authorization() {
        command.arg("-H").arg(format!("Authorization: {authorization}"));
    }
    run(command.arg(contender.url())).await
}

/// Logs in again and again as the tenant's first admin.
pub async fn login(installation: &Installation, slug: &str, seconds: u64) -> Result<Sample> {
    let body = Value::String(installation.login_body(slug)?.to_string());
    // A JSON string of ASCII is a Lua string too.
    let mut script = tempfile::NamedTempFile::new()?;
    writeln!(script, "wrk.method = \"POST\"\nwrk.body = {body}\nwrk.headers[\"Content-Type\"] = \"application/json\"")?;
    let mut command = wrk(LOGIN_CONNECTIONS, seconds);
    command.arg("-s").arg(script.path()).arg(format!("{}/api/v1/auth/login", installation.url()));
    run(&mut command).await
}

/// What [`many`] does with the files that it is given: one prepared request per tenant, drawn in order.
const MANY: &str = r#"
local requests, order, turn = {}, {}, 0
init = function()
  for token in io.lines(TOKENS) do requests[#requests + 1] = wrk.format("GET", nil, {["Authorization"] = token}) end
  for tenant in io.lines(ORDER) do order[#order + 1] = tonumber(tenant) + 1 end
end
request = function()
  turn = turn % #order + 1
  return requests[order[turn]]
end
"#;

/// Reads as fast as the contender lets us, each request for a tenant of the contender's drawn with this seed.
pub async fn many(
    contender: &dyn Contender,
    traffic: Traffic,
    seed: u64,
    connections: u32,
    seconds: u64,
) -> Result<Sample> {
    let tokens = contender.authorizations();
    let order: Vec<_> = traffic.draw(tokens.len(), seed).iter().map(usize::to_string).collect();
    let folder = tempfile::tempdir()?;
    let file = |name: &str, content: String| -> Result<String> {
        let path = folder.path().join(name);
        std::fs::write(&path, content)?;
        // A JSON string of ASCII is a Lua string too.
        Ok(Value::String(path.display().to_string()).to_string())
    };
    let (tokens, order) = (file("tokens", tokens.join("\n"))?, file("order", order.join("\n"))?);
    file("many.lua", format!("local TOKENS, ORDER = {tokens}, {order}\n{MANY}"))?;
    let mut command = wrk(connections, seconds);
    run(command.arg("-s").arg(folder.path().join("many.lua")).arg(contender.url())).await
}

fn wrk(connections: u32, seconds: u64) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--latency", "-t1", "--timeout", "10s"]);
    command.arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn run(command: &mut Command) -> Result<Sample> {
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
    let broken: u64 = after("Socket errors:").map_or(0, |counts| {
        counts.split(|c: char| !c.is_ascii_digit()).filter_map(|count| count.parse::<u64>().ok()).sum()
    });
    Some(Sample {
        rate: total.saturating_sub(refused) as f64 / seconds,
        p50_ms: milliseconds(after("50%")?)?,
        p99_ms: milliseconds(after("99%")?)?,
        failed: refused + broken,
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
