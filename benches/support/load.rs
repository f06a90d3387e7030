//! Load by `wrk`.

use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use futures_util::future::try_join_all;
use serde_json::Value;

use super::contender::Contender;
use super::draw::Traffic;
use super::failures::Failures;
use super::installation::Installation;
use super::latencies::{Latencies, TELL};
use super::wrk;

/// Connections that a contender is loaded with.
pub const CONNECTIONS: u32 = 64;
/// Hashing is bounded by the cores: more callers only wait longer.
const LOGIN_CONNECTIONS: u32 = 8;

/// One turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Good answers per second.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// The latency that one in a hundred exceeds, in milliseconds.
    pub p99_ms: f64,
    /// Answers other than 2xx, broken connections and timeouts.
    pub failed: Failures,
}

/// Reads as fast as the contender lets us.
pub async fn get(contender: &dyn Contender, seconds: u64) -> Result<Sample> {
    let mut command = wrk::command(CONNECTIONS, seconds);
    if let Some(authorization) = contender.authorization() {
        command.arg("-H").arg(format!("Authorization: {authorization}"));
    }
    wrk::run(command.arg(contender.url())).await
}

/// Logs in again and again as the tenant's first admin.
pub async fn login(installation: &Installation, slug: &str, seconds: u64) -> Result<Sample> {
    let body = Value::String(installation.login_body(slug)?.to_string());
    // A JSON string of ASCII is a Lua string too.
    let mut script = tempfile::NamedTempFile::new()?;
    writeln!(script, "wrk.method = \"POST\"\nwrk.body = {body}\nwrk.headers[\"Content-Type\"] = \"application/json\"")?;
    let mut command = wrk::command(LOGIN_CONNECTIONS, seconds);
    command.arg("-s").arg(script.path()).arg(format!("{}/api/v1/auth/login", installation.url()));
    wrk::run(&mut command).await
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

/// Reads as fast as the contender lets us, each request for a tenant of the contender's drawn with this seed. Each of its
/// addresses has a process of `wrk`, an even part of the connections, and an order of its own.
pub async fn many(
    contender: &dyn Contender,
    traffic: Traffic,
    seed: u64,
    connections: u32,
    seconds: u64,
) -> Result<Sample> {
    let (urls, tokens) = (contender.urls(), contender.authorizations());
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("tokens"), tokens.join("\n"))?;
    let mut parts = Vec::new();
    for (url, seed) in urls.iter().zip(seed * urls.len() as u64..) {
        let order: Vec<_> = traffic.draw(tokens.len(), seed).iter().map(usize::to_string).collect();
        std::fs::write(folder.path().join(format!("order-{seed}")), order.join("\n"))?;
        let path = |name: &str| lua(&folder.path().join(name));
        let names = [path("tokens"), path(&format!("order-{seed}")), path(&format!("latencies-{seed}"))].join(", ");
        let tell = if urls.len() > 1 { TELL } else { "" };
        let script = folder.path().join(format!("{seed}.lua"));
        std::fs::write(&script, format!("local TOKENS, ORDER, LATENCIES = {names}\n{MANY}{tell}"))?;
        let mut command = wrk::command(connections / u32::try_from(urls.len())?, seconds);
        command.arg("-s").arg(script).arg(url);
        parts.push((command, folder.path().join(format!("latencies-{seed}"))));
    }
    let samples = try_join_all(parts.iter_mut().map(|(command, _)| wrk::run(command))).await?;
    if let [sample] = samples.as_slice() {
        return Ok(sample.clone());
    }
    let mut latencies = Latencies::default();
    for (_, path) in &parts {
        latencies.read(path)?;
    }
    Ok(Sample {
        rate: samples.iter().map(|sample| sample.rate).sum(),
        p50_ms: latencies.percentile_ms(0.5),
        p99_ms: latencies.percentile_ms(0.99),
        failed: samples.iter().map(|sample| &sample.failed).sum(),
    })
}

/// A path as Lua writes it: a JSON string of ASCII is a Lua string too.
fn lua(path: &Path) -> String {
    Value::String(path.display().to_string()).to_string()
}
