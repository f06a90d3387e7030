//! Worker-affine pools against shared ones: what it does to the tail when each HTTP worker has pools and a fixed part of
//! the budget to itself.
//!
//! There is one implementation, so affine pools are two servers of one worker each. Each has a control plane of its own,
//! a copy of the other's, so that its half of the budget is fixed; half of the connections is pinned to each.

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::draw::Traffic;
use crate::support::duel::{Turns, rounds};
use crate::support::estate::{Estate, Plane};
use crate::support::server::Server;
use crate::support::spread::Spread;

/// Opening hundreds of connections takes its time.
const WARM: u64 = 5;
/// Connections of one tenant, where all workers share them.
const CEILING: usize = 10;

/// Who is asked, and with how many connections.
struct Case {
    tenants: usize,
    traffic: Traffic,
    budget: usize,
}

/// Tenantry at two addresses, half of the load at each.
struct Split {
    name: &'static str,
    halves: [Tenants; 2],
}

impl Contender for Split {
    fn name(&self) -> &str {
        self.name
    }

    fn url(&self) -> String {
        self.halves[0].url()
    }

    fn urls(&self) -> Vec<String> {
        self.halves.iter().map(Contender::url).collect()
    }

    fn authorization(&self) -> Option<String> {
        self.halves[0].authorization()
    }

    fn authorizations(&self) -> Vec<String> {
        self.halves[0].authorizations()
    }
}

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let halves =
        [estate.copy_of_plane("bench_control_left").await?, estate.copy_of_plane("bench_control_right").await?];
    let tenants = effort.tenants;
    let case = |tenants, traffic, of_200| Case { tenants, traffic, budget: effort.scaled(of_200) };
    let cases = [
        case(1, Traffic::Uniform, 60),
        case(tenants, Traffic::Uniform, 480),
        case(tenants, Traffic::Uniform, 240),
        case(tenants, Traffic::Zipf, 60),
    ];

    println!(
        "\n### Topology: pools of each worker against shared ones, {} rounds of {} s\n",
        effort.rounds, effort.seconds
    );
    println!(
        "Two HTTP workers on either side: *affine* in two servers with half of the budget and of a tenant's {CEILING} \
         connections each, *shared* in one with all of it."
    );
    println!("Two processes of wrk with 32 connections each; their latencies are joined value by value.\n");
    println!("| tenants asked | budget | | requests/s | ratio | p50 ms | p99 ms | p99 ratio | failed |");
    println!("|---|---|---|---|---|---|---|---|---|");
    for Case { tenants, traffic, budget } in cases {
        let authorizations = estate.authorizations(tenants);
        let both = serve(&estate.plane, 2, budget).await?;
        let [left, right] = [serve(&halves[0], 1, budget / 2).await?, serve(&halves[1], 1, budget / 2).await?];
        let at = |server: &Server| Tenants::new(server, &authorizations);
        let shared = Split { name: "shared", halves: [at(&both), at(&both)] };
        let affine = Split { name: "affine", halves: [at(&left), at(&right)] };
        let all = rounds(estate, &[&shared, &affine], traffic, WARM, effort).await?;
        let who = if tenants == 1 { "one".to_owned() } else { format!("{tenants}, {traffic}") };
        rows(&who, budget, &all);
    }
    Ok(())
}

/// A server with so many threads for requests, and as many for its connections to PostgreSQL.
async fn serve(plane: &Plane, workers: usize, budget: usize) -> Result<Server> {
    plane.set_budget(budget).await?;
    let (ceiling, workers) = ((CEILING * workers / 2).to_string(), workers.to_string());
    let settings = [
        ("TENANTRY_HTTP__WORKERS", workers.as_str()),
        ("TOKIO_WORKER_THREADS", workers.as_str()),
        ("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", ceiling.as_str()),
    ];
    plane.serve(&settings).await
}

fn rows(who: &str, budget: usize, all: &[Turns]) {
    let [shared, ..] = all else { return };
    for turns in all {
        println!(
            "| {who} | {budget} | {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            turns.name(),
            Spread::of(&turns.rates()),
            turns.ratio_to(shared),
            Spread::of(&turns.column(|sample| sample.p50_ms)),
            Spread::of(&turns.column(|sample| sample.p99_ms)),
            turns.p99_ratio_to(shared),
            turns.failed(),
        );
    }
}
