//! P4: the first request of a tenant that holds no connection, against a bare connect and the same query.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::Effort;
use crate::support::contender::{Contender as _, Tenantry};
use crate::support::installation::Installation;
use crate::support::postgres;
use crate::support::spread::{Spread, ratios};
use crate::yardstick::contact::QUERY;

pub async fn run(effort: Effort) -> Result<()> {
    // Idle connections close at once, so that a tenant is cold again a moment after its request.
    let installation = Installation::start(&[("TENANTRY_ROUTER__IDLE_TIMEOUT", "1s")]).await?;
    let tenant = Tenantry::warm(&installation, "acme").await?;
    let database_url = installation.tenant_database_url("acme").await?;
    let admin = postgres::connect(&installation.cluster_url(None)?).await?;
    let (mut cold, mut bare) = (Vec::new(), Vec::new());

    for _ in 0..effort.rounds * 3 {
        until_cold(&admin, &installation.database_name("acme").await?).await?;
        // The HTTP connection is open before the clock starts: the tenant is what is cold.
        let client = reqwest::Client::new();
        client.get(format!("{}/livez", installation.url())).send().await?.bytes().await?;
        let start = Instant::now();
        let answer =
            client.get(tenant.url()).header("authorization", tenant.authorization().unwrap_or_default()).send().await?;
        ensure!(answer.status().is_success(), "the cold request was answered {}", answer.status());
        answer.bytes().await?;
        cold.push(start.elapsed().as_secs_f64() * 1000.0);

        let start = Instant::now();
        let connection = postgres::connect(&database_url).await?;
        ensure!(!connection.query(QUERY, &[]).await?.is_empty(), "acme has no contacts");
        bare.push(start.elapsed().as_secs_f64() * 1000.0);
    }

    println!("\n### P4: a cold tenant's first request, {} times\n", cold.len());
    println!("| | ms (min / median / max) |");
    println!("|---|---|");
    println!("| bare connect and query | {:.2} |", Spread::of(&bare));
    println!("| Tenantry | {:.2} |", Spread::of(&cold));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&cold, &bare)));
    Ok(())
}

/// Waits until nobody is connected to the database.
async fn until_cold(admin: &tokio_postgres::Client, database: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let row = admin.query_one("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", &[&database]).await?;
        if row.get::<_, i64>(0) == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("{database} still has connections after a minute without a request")
}
