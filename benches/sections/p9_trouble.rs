//! The second half of P9: one tenant's database hangs, or takes no connections, while everyone goes on asking.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::p9_noisy::{Others, RATE};
use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::crowd::{Crowd, Reply, trickle};
use crate::support::estate::{Estate, TenantOf};
use crate::support::postgres;
use crate::support::spread::Spread;

/// The tenant that is in trouble, by number.
const TROUBLED: usize = 2;
/// Callers of its own.
const CALLERS: usize = 20;
/// How long to wait for a tenant to be served again: longer than idle connections of others are kept.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// Every statement waits for a lock: even the look at the stamp, so that no new connection becomes usable either.
    Hangs,
    /// Nobody is connected, and nobody may.
    Down,
}

/// Goes on until it is told to end.
struct Ongoing {
    client: tokio_postgres::Client,
    end: String,
}

impl Trouble {
    async fn begin(self, estate: &Estate, tenant: &TenantOf) -> Result<Ongoing> {
        let database = &tenant.database;
        let (client, begin, end) = match self {
            Self::Hangs => (
                estate.inside(tenant).await?,
                "BEGIN; DO $$ DECLARE t record; BEGIN \
                 FOR t IN SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('public', 'tenantry') LOOP \
                 EXECUTE format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', t.schemaname, t.tablename); \
                 END LOOP; END $$"
                    .to_owned(),
                "ROLLBACK".to_owned(),
            ),
            Self::Down => (
                postgres::connect(&estate.server_url()).await?,
                format!(
                    "ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS false; \
                     SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
                ),
                format!("ALTER DATABASE \"{database}\" ALLOW_CONNECTIONS true"),
            ),
        };
        client.batch_execute(&begin).await?;
        Ok(Ongoing { client, end })
    }
}

/// What the callers of the troubled tenant were answered.
#[derive(Debug, Default)]
struct Own {
    asked_when_open: usize,
    told_when_to_come: usize,
    slowest_ms: Vec<f64>,
    recovered_ms: Vec<f64>,
}

impl Own {
    /// The breaker counts as open from the first refusal on.
    fn add(&mut self, replies: &[Reply], length: Duration, recovered: Duration) {
        let refused = |reply: &&Reply| reply.status == 503;
        let open = replies.iter().filter(refused).map(|reply| reply.asked + reply.took).min().unwrap_or(length);
        let when_open: Vec<_> = replies.iter().filter(|reply| reply.asked > open && reply.asked < length).collect();
        let told = when_open.iter().filter(|reply| reply.status == 503 && reply.retry_after.is_some());
        self.asked_when_open += when_open.len();
        self.told_when_to_come += told.count();
        let slowest = when_open.iter().map(|reply| reply.took).max().unwrap_or_default();
        self.slowest_ms.push(slowest.as_secs_f64() * 1000.0);
        self.recovered_ms.push(recovered.as_secs_f64() * 1000.0);
    }
}

/// Measures with the `Authorization` headers of the others and of the troubled tenant.
pub async fn run(effort: Effort, estate: &Estate, quiet: &[String], authorization: &str) -> Result<()> {
    println!("\nOne tenant's database in trouble, with {CALLERS} callers of its own:\n");
    println!(
        "| its database | others' p99 ms | p99 ms beside it | ratio | others failed | 503 with `Retry-After`, of those \
         asked with the breaker open | slowest of these, ms | served again after, ms |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (trouble, name) in [(Trouble::Hangs, "hangs"), (Trouble::Down, "takes no connections")] {
        let tenant = estate.tenant(TROUBLED)?;
        let server = estate.plane.serve(&[]).await?;
        let tenantry = Tenants::new(&server, quiet);
        trickle(&tenantry, RATE, 0, 3).await?;
        let (mut theirs, mut own) = (Others::default(), Own::default());
        for round in 1..=effort.rounds as u64 {
            until_served(&tenantry.url(), authorization).await?;
            let calm = trickle(&tenantry, RATE, round, effort.seconds).await?;
            let ongoing = trouble.begin(estate, tenant).await?;
            let begun = Instant::now();
            let crowd = Crowd::gather(CALLERS, &tenantry.url(), authorization);
            let beside = trickle(&tenantry, RATE, round, effort.seconds).await?;
            let length = begun.elapsed();
            ongoing.client.batch_execute(&ongoing.end).await?;
            let recovered = until_served(&tenantry.url(), authorization).await?;
            own.add(&crowd.disperse().await?, length, recovered);
            theirs.add(&calm, &beside);
        }
        println!(
            "| {name} | {} | {} of {} | {:.1} | {:.0} |",
            theirs.columns(),
            own.told_when_to_come,
            own.asked_when_open,
            Spread::of(&own.slowest_ms),
            Spread::of(&own.recovered_ms),
        );
    }
    Ok(())
}

/// Asks until there is a good answer, or it takes too long; gives how long that took.
async fn until_served(url: &str, authorization: &str) -> Result<Duration> {
    let begun = Instant::now();
    let client = reqwest::Client::new();
    loop {
        let answer = client.get(url).header("authorization", authorization).send().await?;
        if answer.status().is_success() {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > RECOVERY_DEADLINE {
            eprintln!("  the tenant is not served again: {}", answer.text().await?);
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
