//! P10: many tenants, against Fastify with the same connections, and against PgBouncer with the same cap.

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::draw::Traffic;
use crate::support::duel::{HEADING, rounds, rows};
use crate::support::estate::Estate;
use crate::yardstick;

const WARM: u64 = 5;

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let authorizations = estate.authorizations(effort.tenants);
    println!("\n### P10: {} tenants, {} rounds of {} s", effort.tenants, effort.rounds, effort.seconds);

    // A connection per tenant in each of its two processes.
    let budget = effort.tenants * 2;
    let databases = estate.databases(effort.tenants, "fastify").await?;
    if let Some(fastify) = yardstick::start_fastify(&databases, 1, effort).await? {
        estate.plane.set_budget(budget).await?;
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, &authorizations);
        println!("\nFastify in two processes; {budget} connections at most for either:\n\n{HEADING}");
        for traffic in Traffic::ALL {
            let contenders: [&dyn Contender; 2] = [&fastify, &tenantry];
            rows(traffic, &rounds(estate, &contenders, traffic, WARM, effort).await?);
        }
    }

    let budget = effort.scaled(60);
    let databases = estate.databases(effort.tenants, "pgbouncer").await?;
    if let Some(pgbouncer) = yardstick::start_pgbouncer(&databases, budget, effort).await? {
        estate.plane.set_budget(budget).await?;
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, &authorizations);
        println!("\nThe naive pools through PgBouncer; {budget} connections at most for either:\n\n{HEADING}");
        for traffic in Traffic::ALL {
            let contenders: [&dyn Contender; 2] = [&pgbouncer, &tenantry];
            rows(traffic, &rounds(estate, &contenders, traffic, WARM, effort).await?);
        }
    }
    Ok(())
}
