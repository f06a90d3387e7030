//! (d) fastify: Fastify in cluster mode, `pg`, `@fastify/jwt`, a map of pools. The program is `fastify/server.js`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::{Order, Yardstick, run};
use crate::Effort;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/yardstick/fastify");

/// Starts it on these databases by tenant, with pools of so many connections in each of its two processes; `None`, with
/// a word about it, where Node.js is not installed.
pub async fn start(
    databases: &BTreeMap<String, String>,
    connections: usize,
    effort: Effort,
) -> Result<Option<Yardstick>> {
    for program in ["node", "npm"] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().await.is_err() {
            eprintln!("  {program} is not installed: fastify is left out");
            return Ok(None);
        }
    }
    if !Path::new(FOLDER).join("node_modules").is_dir() {
        let mut install = Command::new("npm");
        install.args(["ci", "--omit=dev", "--no-audit", "--no-fund"]).current_dir(FOLDER);
        ensure!(install.stdout(Stdio::null()).status().await?.success(), "npm ci failed in {FOLDER}");
    }
    let mut command = Command::new("node");
    command.arg("server.js").current_dir(FOLDER).env("NODE_ENV", "production");
    let order = Order { cap: Some(connections), ..Order::new(databases, effort) };
    run("fastify", "fastify", command, &order).await.map(Some)
}
