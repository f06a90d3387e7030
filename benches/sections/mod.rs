//! One file per row of the performance targets; each prints its table.

mod p1_warm;
mod p4_cold;
mod p5_provision;
mod p8_login;

use anyhow::{Result, bail};

use crate::Effort;

/// The sections there are, in the order they run.
pub const NAMES: [&str; 4] = ["p1", "p4", "p5", "p8"];

/// Runs the section of that name.
pub async fn run(name: &str, effort: Effort) -> Result<()> {
    eprintln!("{name} …");
    match name {
        "p1" => p1_warm::run(effort).await,
        "p4" => p4_cold::run(effort).await,
        "p5" => p5_provision::run(effort).await,
        "p8" => p8_login::run(effort).await,
        other => bail!("no section {other}"),
    }
}
