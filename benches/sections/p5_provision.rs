//! P5: a whole new tenant, made on demand, against one bare `CREATE DATABASE … TEMPLATE` of the same template.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::Effort;
use crate::support::installation::Installation;
use crate::support::postgres;
use crate::support::spread::{Spread, ratios};

pub async fn run(effort: Effort) -> Result<()> {
    let installation = Installation::start(&[]).await?;
    let admin = postgres::connect(&installation.cluster_url(None)?).await?;
    let operator = installation.operator_token().await?;
    let client = reqwest::Client::new();
    let (mut whole, mut bare) = (Vec::new(), Vec::new());

    for n in 0..effort.rounds * 2 {
        let start = Instant::now();
        let answer = client
            .post(format!("{}/api/v1/admin/tenants", installation.url()))
            .bearer_auth(&operator)
            .json(&json!({"slug": format!("bench-{n:03}"), "name": format!("Bench {n}")}))
            .send()
            .await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status == 201, "creating a tenant was answered {status}: {body}");
        whole.push(start.elapsed().as_secs_f64() * 1000.0);

        // The cluster's own template is the database that lets nobody in.
        let template: String = admin
            .query_opt("SELECT datname FROM pg_database WHERE NOT datallowconn AND datname <> 'template0' LIMIT 1", &[])
            .await?
            .context("the cluster has no template of Tenantry's")?
            .get(0);
        let start = Instant::now();
        admin.batch_execute(&format!("CREATE DATABASE bench_bare_{n} TEMPLATE \"{template}\"")).await?;
        bare.push(start.elapsed().as_secs_f64() * 1000.0);
        admin.batch_execute(&format!("DROP DATABASE bench_bare_{n}")).await?;
    }

    println!("\n### P5: a new tenant without stock, {} times\n", whole.len());
    println!("| | ms (min / median / max) |");
    println!("|---|---|");
    println!("| bare `CREATE DATABASE … TEMPLATE` | {:.1} |", Spread::of(&bare));
    println!("| Tenantry, role to active | {:.1} |", Spread::of(&whole));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&whole, &bare)));
    Ok(())
}
