//! Throughput against the number of active tenants, each contender with what it would be given: a cap of 60
//! connections, or as many as it likes while PostgreSQL has them.

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::draw::Traffic;
use crate::support::duel::{Turns, rounds};
use crate::support::estate::Estate;
use crate::support::spread::Spread;
use crate::yardstick;

/// The naive pools have a thousand connections to open.
const WARM: u64 = 4;
/// From one kind of traffic to the other only some connections change hands.
const WARM_AGAIN: u64 = 2;
/// Five contenders, four sizes and two kinds of traffic take long enough.
const MOST_ROUNDS: usize = 3;
/// Beyond, the pools that know no cap would want more connections than PostgreSQL has.
const MOST_WITHOUT_CAP: usize = 300;

pub async fn run(effort: Effort, estate: &mut Estate) -> Result<()> {
    let effort = Effort { rounds: effort.rounds.min(MOST_ROUNDS), ..effort };
    let sizes = [10, 100, 300, 1000].map(|tenants| effort.scaled(tenants));
    let [.., most] = sizes;
    estate.grow(most).await?;
    let budget = effort.scaled(60);
    let without_cap = effort.scaled(MOST_WITHOUT_CAP);

    println!("\n### Active tenants, {} rounds of {} s\n", effort.rounds, effort.seconds);
    println!(
        "Requests per second, and Tenantry's ratio to each. Capped, pgbouncer and Tenantry: {budget} connections;"
    );
    println!("naive: up to four per tenant; fastify: one per tenant in each of its two processes.\n");
    println!("| tenants asked | active | | connections, most | requests/s | Tenantry to this one | failed |");
    println!("|---|---|---|---|---|---|---|");
    for active in sizes {
        estate.plane.set_budget(budget).await?;
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, &estate.authorizations(active));
        let capped = yardstick::start_capped(&estate.databases(active, "capped").await?, budget, None, effort).await?;
        let pgbouncer =
            yardstick::start_pgbouncer(&estate.databases(active, "pgbouncer").await?, budget, effort).await?;
        let (mut naive, mut fastify) = (None, None);
        if active <= without_cap {
            naive = Some(yardstick::start("naive", &estate.databases(active, "naive").await?, effort).await?);
            fastify = yardstick::start_fastify(&estate.databases(active, "fastify").await?, 1, effort).await?;
        }
        let optional = [&naive, &fastify, &pgbouncer].into_iter().flatten().map(|peer| peer as &dyn Contender);
        let contenders: Vec<&dyn Contender> =
            optional.chain([&capped as &dyn Contender, &tenantry as &dyn Contender]).collect();
        for (traffic, warm) in Traffic::ALL.into_iter().zip([WARM, WARM_AGAIN]) {
            rows(traffic, active, &rounds(estate, &contenders, traffic, warm, effort).await?);
        }
    }
    Ok(())
}

fn rows(traffic: Traffic, active: usize, all: &[Turns]) {
    let Some(ours) = all.last() else { return };
    for turns in all {
        println!(
            "| {traffic} | {active} | {} | {} | {:.0} | {:.2} | {} |",
            turns.name(),
            turns.seen.most(),
            Spread::of(&turns.rates()),
            ours.ratio_to(turns),
            turns.failed(),
        );
    }
}
