//! One file per row of the performance targets; each prints its table.

mod observer;
mod p10_peers;
mod p1_warm;
mod p2_many;
mod p3_tight;
mod p4_cold;
mod p5_provision;
mod p6;
mod p7_memory;
mod p8_login;
mod p9_noisy;
mod p9_trouble;
mod scaling;
mod security;
mod topology;

use anyhow::{Result, bail};

use crate::Effort;
use crate::support::estate::Estate;

/// The sections there are, in the order they run.
pub const NAMES: [&str; 13] =
    ["p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "scaling", "observer", "topology"];

/// The one that runs only where it is named: it judges, and takes long.
pub const SECURITY: &str = "security";

/// Runs the section of that name. Those of many tenants share an estate, which the first of them starts.
pub async fn run(name: &str, effort: Effort, estate: &mut Option<Estate>) -> Result<()> {
    eprintln!("{name} …");
    match name {
        "p1" => p1_warm::run(effort).await,
        "p4" => p4_cold::run(effort).await,
        "p5" => p5_provision::run(effort).await,
        "p8" => p8_login::run(effort).await,
        SECURITY => security::run(effort).await,
        _ => {
            let estate = match estate {
                Some(estate) => estate,
                None => estate.insert(Estate::start().await?),
            };
            if name == "p6" {
                return p6::run(effort, estate).await;
            }
            estate.grow(effort.tenants).await?;
            match name {
                "p2" => p2_many::run(effort, estate).await,
                "p3" => p3_tight::run(effort, estate).await,
                "p7" => p7_memory::run(effort, estate).await,
                "p9" => p9_noisy::run(effort, estate).await,
                "p10" => p10_peers::run(effort, estate).await,
                "scaling" => scaling::run(effort, estate).await,
                "observer" => observer::run(effort, estate).await,
                "topology" => topology::run(effort, estate).await,
                other => bail!("no section {other}"),
            }
        }
    }
}
