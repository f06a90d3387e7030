//! P9: what a tenant in trouble does to the others: 500 concurrent slow requests, a database that hangs, one that is
//! down.

use anyhow::Result;

use super::p9_trouble;
use crate::Effort;
use crate::support::contender::{Contender, Tenants};
use crate::support::crowd::{Crowd, failures, trickle};
use crate::support::estate::Estate;
use crate::support::failures::Failures;
use crate::support::load::Sample;
use crate::support::spread::{Spread, ratios};

/// Concurrent requests of the noisy tenant.
const CROWD: usize = 500;
/// Seconds until the crowd stands.
const RUSH: u64 = 1;
/// Requests of the others per second: little, so that what is measured is waiting and not a machine without idle time.
pub const RATE: u64 = 300;

/// Every query takes 200 ms and no processor.
const SLEEP: &str = "ALTER TABLE contacts RENAME TO contacts_kept; \
    CREATE VIEW contacts AS SELECT contacts_kept.* FROM contacts_kept, pg_sleep(0.2); ";
const WAKE: &str = "DROP VIEW contacts; ALTER TABLE contacts_kept RENAME TO contacts";
/// A search that finds nothing reads 120,000 rows.
const FILL: &str = "INSERT INTO contacts (id, last_name, company, emails, notes, tags, created_at) \
    SELECT gen_random_uuid(), last_name, company, emails, notes, tags, '2000-01-01' \
    FROM contacts, generate_series(1, 2000); ANALYZE contacts";
const EMPTY: &str = "DELETE FROM contacts WHERE created_at = '2000-01-01'";
const SEARCH: &str = "&q=nobody-is-called-so";
/// The least that a tenant can be given: what is left is the price of one backend at work all the time.
const ONE_EACH: [(&str, &str); 1] = [("TENANTRY_ROUTER__TENANT_MAX_CONNECTIONS", "1")];

/// What the others went through with and without the trouble, round by round.
#[derive(Debug, Default)]
pub struct Others {
    calm: Vec<f64>,
    troubled: Vec<f64>,
    failed: Failures,
}

impl Others {
    /// Takes in a round.
    pub fn add(&mut self, calm: &Sample, troubled: &Sample) {
        eprintln!(
            "  others' p99 {:.2} ms, failed {}; in trouble {:.2} ms, failed {}",
            calm.p99_ms, calm.failed, troubled.p99_ms, troubled.failed
        );
        self.calm.push(calm.p99_ms);
        self.troubled.push(troubled.p99_ms);
        self.failed += &calm.failed;
        self.failed += &troubled.failed;
    }

    /// `p99 | p99 in trouble | ratio | failed`.
    pub fn columns(&self) -> String {
        let ratio = Spread::of(&ratios(&self.troubled, &self.calm));
        format!("{:.2} | {:.2} | {ratio:.2} | {}", Spread::of(&self.calm), Spread::of(&self.troubled), self.failed)
    }
}

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    // Everyone can have a connection, and the noisy one its ceiling of ten.
    let (others, budget) = (effort.scaled(50), effort.scaled(60));
    estate.plane.set_budget(budget).await?;
    let authorizations = estate.authorizations(3 + others);
    let (troubled, quiet) = authorizations.split_at_checked(3).unwrap_or_default();

    println!(
        "\n### P9: one tenant in trouble, {others} others, {budget} connections, {} rounds of {} s\n",
        effort.rounds, effort.seconds
    );
    println!("The others' {RATE} requests per second; {CROWD} callers of the noisy one at a time.\n");
    println!(
        "| the noisy tenant | others' p99 ms | p99 ms beside it | ratio | others failed | its own: served per second, refused |"
    );
    println!("|---|---|---|---|---|---|");
    for (number, name, begin, end, query, settings) in [
        (0, "queries of 200 ms that only wait", SLEEP, WAKE, "", &[] as &[_]),
        (1, "searches through 120,000 rows", FILL, EMPTY, SEARCH, &[]),
        (1, "the same, with one connection for it and no more", FILL, EMPTY, SEARCH, &ONE_EACH),
    ] {
        let tenant = estate.tenant(number)?;
        let inside = estate.inside(tenant).await?;
        let give = format!("ALTER VIEW contacts OWNER TO \"{}\"", tenant.database);
        inside.batch_execute(&if number == 0 { format!("{begin}{give}") } else { begin.to_owned() }).await?;
        let server = estate.plane.serve(settings).await?;
        let tenantry = Tenants::new(&server, quiet);
        trickle(&tenantry, RATE, 0, 3).await?;
        let (mut theirs, mut served, mut refused) = (Others::default(), Vec::new(), Failures::default());
        for round in 1..=effort.rounds as u64 {
            let calm = trickle(&tenantry, RATE, round, effort.seconds).await?;
            let crowd = Crowd::gather(CROWD, &format!("{}{query}", tenantry.url()), &troubled[number]);
            // The rush of its arrival: connections, and the openings they bring about.
            trickle(&tenantry, RATE, round, RUSH).await?;
            let beside = trickle(&tenantry, RATE, round, effort.seconds).await?;
            let replies = crowd.disperse().await?;
            let failed = failures(&replies);
            served.push((replies.len() as u64 - failed.count()) as f64 / effort.seconds as f64);
            refused += &failed;
            theirs.add(&calm, &beside);
        }
        println!("| {name} | {} | {:.0}, {refused} |", theirs.columns(), Spread::of(&served));
        drop(server);
        inside.batch_execute(end).await?;
    }
    p9_trouble::run(effort, estate, quiet, &troubled[2]).await
}
