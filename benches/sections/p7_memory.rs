//! P7: what a server remembers of thousands of tenants, and whether its start depends on how many there are.

use anyhow::{Result, ensure};

use crate::Effort;
use crate::support::contender::{Contender, Tenants, check_all};
use crate::support::draw::Traffic;
use crate::support::estate::{Estate, Plane, TOKEN_LIFE, in_turns, sign_in};
use crate::support::load;
use crate::support::process::{self, Memory};
use crate::support::spread::{Spread, ratios};
use crate::yardstick;

/// The installation that is compared with has so many tenants.
const FEW: usize = 10;
/// Connections that a tenant may have, by default.
const CEILING: usize = 10;
/// Each tenant is asked so often: what is made at the first use is there at the last.
const ASKED: usize = 3;

/// Memory of one server, one thing after the other.
struct Stages {
    started: Memory,
    busy: Memory,
    warm: Memory,
    touched: Memory,
    loaded: Memory,
}

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let [registered, touched, databases, warm] = [10_000, 2_000, 300, 200].map(|number| effort.scaled(number));
    let (few, many) = (estate.another_plane("bench_few").await?, estate.another_plane("bench_many").await?);
    eprintln!("  making {databases} databases and registering {registered} tenants …");
    let shared = estate.shared_databases(&many, databases).await?;
    shared.register(&few, FEW).await?;
    let slugs = shared.register(&many, registered).await?;

    let (mut start_few, mut start_many, mut rest_few) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let server = few.serve(&[]).await?;
        start_few.push(server.started_in().as_secs_f64() * 1000.0);
        rest_few.push(server.memory().await?);
        drop(server);
        start_many.push(many.serve(&[]).await?.started_in().as_secs_f64() * 1000.0);
    }

    eprintln!("  signing in at {touched} tenants …");
    many.set_budget(400).await?;
    let node = many.serve(&[TOKEN_LIFE]).await?;
    let tokens = in_turns(&slugs[..touched], async |slug: &str| sign_in(&node, slug).await).await?;
    drop(node);
    // The first tenant may hold its ceiling, the others of `warm` one each.
    many.set_budget(warm + CEILING).await?;
    let mut measured = Vec::new();
    for round in 1..=effort.rounds.min(3) {
        measured.push(remember(&many, &tokens, warm, effort).await?);
        eprintln!("  round {round}: {:.0} MiB", measured[round - 1].loaded.resident);
    }
    let naive = yardstick::start("naive", &estate.databases(effort.tenants, "naive").await?, effort).await?;
    check_all(&naive, 20).await?;

    let of = |pick: fn(&Stages) -> Memory| -> Spread {
        Spread::of(&measured.iter().map(|stages| pick(stages).resident).collect::<Vec<_>>())
    };
    let rest = Spread::of(&rest_few.iter().map(|memory| memory.allocated).collect::<Vec<_>>()).median();
    let each = |from: &dyn Fn(&Stages) -> f64, to: fn(&Stages) -> Memory, count: usize| -> Spread {
        let kib = |stages: &Stages| (to(stages).allocated - from(stages)) * 1024.0 / count as f64;
        Spread::of(&measured.iter().map(kib).collect::<Vec<_>>())
    };
    println!("\n### P7: {registered} tenants registered, {touched} of them asked, {databases} databases behind them\n");
    println!("Start, from the process to the first good answer, {} times in turn:\n", effort.rounds);
    println!("| | ms (min / median / max) |\n|---|---|");
    println!("| {FEW} tenants registered | {:.1} |", Spread::of(&start_few));
    println!("| {registered} registered | {:.1} |", Spread::of(&start_many));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&start_many, &start_few)));
    println!("\nResident memory of the server, {} servers one after the other:\n", measured.len());
    println!("| | MiB (min / median / max) |\n|---|---|");
    println!(
        "| started, {FEW} registered | {:.1} |",
        Spread::of(&rest_few.iter().map(|memory| memory.resident).collect::<Vec<_>>())
    );
    println!("| started, {registered} registered | {:.1} |", of(|m| m.started));
    println!("| after {} s of one tenant's requests | {:.1} |", effort.seconds, of(|m| m.busy));
    println!("| {warm} asked, each with its connection | {:.1} |", of(|m| m.warm));
    println!("| {touched} asked, {} connections | {:.1} |", warm + CEILING, of(|m| m.touched));
    println!("| under load over all {touched} | {:.1} |", of(|m| m.loaded));
    println!(
        "| naive, {} tenants with a connection each | {:.1} |",
        effort.tenants,
        process::memory(naive.id()?)?.resident
    );
    println!("\nAllocated memory, over the number of tenants that made the difference:\n");
    println!("| | KiB (min / median / max) |\n|---|---|");
    println!("| a registered tenant | {:.2} |", each(&|_| rest, |m| m.started, registered - FEW));
    println!("| a warm tenant, with its connection | {:.1} |", each(&|m| m.busy.allocated, |m| m.warm, warm - 1));
    println!(
        "| an idle tenant, known and without one | {:.1} |",
        each(&|m| m.warm.allocated, |m| m.touched, touched - warm)
    );
    Ok(())
}

/// Takes a fresh server through all of it.
async fn remember(plane: &Plane, tokens: &[String], warm: usize, effort: Effort) -> Result<Stages> {
    let server = plane.serve(&[]).await?;
    let started = server.memory().await?;
    let tenantry = Tenants::new(&server, tokens);
    load::get(&tenantry, effort.seconds).await?;
    let busy = server.memory().await?;
    ask_each(&tenantry, &tokens[1..warm]).await?;
    let with_connections = server.memory().await?;
    ask_each(&tenantry, &tokens[warm..]).await?;
    let touched = server.memory().await?;
    let sample = load::many(&tenantry, Traffic::Zipf, 1, load::CONNECTIONS, effort.seconds).await?;
    ensure!(sample.failed.count() == 0, "{} requests failed under load", sample.failed);
    Ok(Stages { started, busy, warm: with_connections, touched, loaded: server.memory().await? })
}

async fn ask_each(tenantry: &Tenants, tokens: &[String]) -> Result<()> {
    let client = reqwest::Client::new();
    in_turns(tokens, async |token: &str| {
        for _ in 0..ASKED {
            client.get(tenantry.url()).header("authorization", token).send().await?.error_for_status()?.bytes().await?;
        }
        Ok(())
    })
    .await
    .map(drop)
}
