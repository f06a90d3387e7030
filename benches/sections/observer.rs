//! The independent observer: the budget over three servers, through a crash and a restart; and how much of a small one
//! is used.

use std::time::Duration;

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender as _, TENANT_ROLES, Tenants, check_all};
use crate::support::draw::Traffic;
use crate::support::estate::Estate;
use crate::support::failures::Failures;
use crate::support::load::{self, Sample};
use crate::support::observer::{CLOSELY, Seen};

const WARM: u64 = 3;
/// Clients of each of three servers.
const EACH: u32 = 22;

pub async fn run(effort: Effort, estate: &mut Estate) -> Result<()> {
    for traffic in Traffic::ALL {
        three_servers(effort, estate, traffic).await?;
    }
    let active = effort.scaled(300);
    estate.grow(active).await?;
    let budget = effort.scaled(40);
    println!("\n### Observer: one server, {active} tenants, {budget} connections, {} s\n", effort.seconds * 3);
    println!(
        "| tenants asked | connections, most | of {budget} used, mean | looks | requests/s | failed | tenants served |"
    );
    println!("|---|---|---|---|---|---|---|");
    for traffic in Traffic::ALL {
        estate.plane.set_budget(budget).await?;
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, &estate.authorizations(active));
        load::many(&tenantry, traffic, 0, load::CONNECTIONS, WARM).await?;
        let observer = estate.observe(TENANT_ROLES, CLOSELY);
        let sample = load::many(&tenantry, traffic, 1, load::CONNECTIONS, effort.seconds * 3).await?;
        let seen = observer.finish().await?;
        // Whoever was not asked under load has to be served too.
        check_all(&tenantry, 20).await?;
        println!(
            "| {traffic} | {} | {:.1} % | {} | {:.0} | {} | {} of {active} |",
            seen.most(),
            share(&seen, budget),
            seen.looks(),
            sample.rate,
            sample.failed,
            tenantry.authorizations().len(),
        );
    }
    Ok(())
}

/// Under load all the time; the third one is killed and started again.
async fn three_servers(effort: Effort, estate: &Estate, traffic: Traffic) -> Result<()> {
    let budget = effort.scaled(60);
    estate.plane.set_budget(budget).await?;
    let authorizations = estate.authorizations(effort.tenants);
    let seconds = effort.seconds;
    let [first, second, third] =
        [estate.plane.serve(&[]).await?, estate.plane.serve(&[]).await?, estate.plane.serve(&[]).await?];
    let asked = [&first, &second, &third].map(|server| Tenants::new(server, &authorizations));
    let read = |at: usize, seconds: u64| load::many(&asked[at], traffic, at as u64, EACH, seconds);
    tokio::try_join!(read(0, WARM), read(1, WARM), read(2, WARM))?;

    println!("\n### Observer: three servers, {} tenants, {budget} connections in all, {traffic}\n", effort.tenants);
    println!("| | connections, most | looks above {budget} | looks | of {budget} used, mean | requests/s | failed |");
    println!("|---|---|---|---|---|---|---|");
    let observer = estate.observe(TENANT_ROLES, CLOSELY);
    let (a, b, c) = tokio::try_join!(read(0, seconds), read(1, seconds), read(2, seconds))?;
    row("all three", budget, &observer.finish().await?, &[a, b, c]);

    let observer = estate.observe(TENANT_ROLES, CLOSELY);
    let crash = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        third.crash()
    };
    // The third one's clients see it go; what they are answered is not counted.
    let (a, b, _, ()) = tokio::try_join!(read(0, seconds + 2), read(1, seconds + 2), read(2, 2), crash)?;
    row("the third killed: the other two", budget, &observer.finish().await?, &[a, b]);

    let observer = estate.observe(TENANT_ROLES, CLOSELY);
    let again = async {
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, &authorizations);
        let sample = load::many(&tenantry, traffic, 3, EACH, seconds).await?;
        anyhow::Ok((server, sample))
    };
    let (a, b, (third, c)) = tokio::try_join!(read(0, seconds + 2), read(1, seconds + 2), again)?;
    row("the third started again", budget, &observer.finish().await?, &[a, b, c]);
    drop(third);
    Ok(())
}

fn row(what: &str, budget: usize, seen: &Seen, samples: &[Sample]) {
    println!(
        "| {what} | {} | {} | {} | {:.1} % | {:.0} | {} |",
        seen.most(),
        seen.above(i64::try_from(budget).unwrap_or(i64::MAX)),
        seen.looks(),
        share(seen, budget),
        samples.iter().map(|sample| sample.rate).sum::<f64>(),
        samples.iter().map(|sample| &sample.failed).sum::<Failures>(),
    );
}

/// In percent.
fn share(seen: &Seen, budget: usize) -> f64 {
    seen.mean() * 100.0 / budget as f64
}
