//! P2: many tenants, each with room for its connection, against a pool of four for each of them.

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::draw::Traffic;
use crate::support::duel::{HEADING, rounds, rows};
use crate::support::estate::Estate;
use crate::yardstick;

/// Opening hundreds of connections takes its time.
const WARM: u64 = 5;

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    // A third of what the naive pools come to hold: 800 at most, 730 when it was first measured.
    let budget = effort.scaled(240);
    estate.plane.set_budget(budget).await?;
    let server = estate.plane.serve(&[]).await?;
    let tenantry = Tenants::new(&server, &estate.authorizations(effort.tenants));
    let naive = yardstick::start("naive", &estate.databases(effort.tenants, "naive").await?, effort).await?;

    println!(
        "\n### P2: {} tenants, each with room, {} rounds of {} s\n",
        effort.tenants, effort.rounds, effort.seconds
    );
    println!("Tenantry's budget is {budget} connections.\n\n{HEADING}");
    for traffic in Traffic::ALL {
        let contenders: [&dyn Contender; 2] = [&naive, &tenantry];
        rows(traffic, &rounds(estate, &contenders, traffic, WARM, effort).await?);
    }
    Ok(())
}
