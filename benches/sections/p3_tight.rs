//! P3: many tenants on few connections, against the naive pools under the same cap.

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::draw::Traffic;
use crate::support::duel::{HEADING, rounds, rows};
use crate::support::estate::Estate;
use crate::yardstick;

const WARM: u64 = 3;

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let budget = effort.scaled(60);
    estate.plane.set_budget(budget).await?;
    let server = estate.plane.serve(&[]).await?;
    let tenantry = Tenants::new(&server, &estate.authorizations(effort.tenants));
    let databases = estate.databases(effort.tenants, "capped").await?;
    let capped = yardstick::start_capped(&databases, budget, None, effort).await?;
    let databases = estate.databases(effort.tenants, "capped_openings").await?;
    let gentle = yardstick::start_capped(&databases, budget, Some(4), effort).await?;

    println!(
        "\n### P3: {} tenants, {budget} connections, {} rounds of {} s\n\n{HEADING}",
        effort.tenants, effort.rounds, effort.seconds
    );
    let mut shares = Vec::new();
    for traffic in Traffic::ALL {
        let contenders: [&dyn Contender; 3] = [&capped, &gentle, &tenantry];
        let all = rounds(estate, &contenders, traffic, WARM, effort).await?;
        rows(traffic, &all);
        shares.extend(all.last().map(|ours| format!("{traffic} {:.1} %", ours.seen.mean() * 100.0 / budget as f64)));
    }
    println!("\nShare of the budget that Tenantry used under load: {}.", shares.join(", "));
    Ok(())
}
