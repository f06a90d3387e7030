//! P6: one ordinary migration of many databases on two servers, against the loop of the shell that everybody begins with,
//! and against what the servers need at least; then what a run goes through besides.

mod bare;
mod fleet;
mod rough;

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join;
use secrecy::ExposeSecret as _;
use tenantry::router::Target;

use crate::Effort;
use crate::support::estate::{Entry, Estate};
use crate::support::processor::Processor;
use crate::support::spread::{Spread, ratios};
use fleet::Installed;

/// Processes of the loop at the same time.
const PROCESSES: usize = 4;
/// Tenants of each cluster that are migrated at the same time; the first is the default.
const AT_ONCE: [usize; 3] = [8, 4, 16];

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let count = effort.scaled(1_000);
    let other = Estate::start().await?;
    let plane = estate.copy_of_plane("bench_migrate").await?;
    eprintln!("  making {count} databases on two servers …");
    let half = count / 2;
    let made = try_join(estate.unregistered(&plane, "m", half), other.unregistered(&plane, "n", count - half));
    let (one, two) = made.await?;
    let urls: Vec<Vec<String>> = vec![
        one.iter().map(|entry| url(estate, entry)).collect(),
        two.iter().map(|entry| url(&other, entry)).collect(),
    ];
    let installed = Installed::new(plane, estate, one, &other, two).await?;

    let list = installed.folder().join("urls");
    let mut text = String::new();
    // In turn from either server, as a run over both goes.
    for at in 0..count.div_ceil(2) {
        for url in urls.iter().filter_map(|urls| urls.get(at)) {
            writeln!(text, "{url}")?;
        }
    }
    std::fs::write(&list, text)?;

    let processor = Processor::of(installed.servers().iter().map(|server| &server.client)).await?;
    let mut figures: Vec<Vec<f64>> = vec![Vec::new(); 3 + AT_ONCE.len()];
    let mut costs = figures.clone();
    for round in 1..=effort.rounds {
        eprintln!("  round {round} …");
        // Whoever is first in one round is last in the next.
        let mut turns: Vec<usize> = (0..figures.len()).collect();
        if round % 2 == 0 {
            turns.reverse();
        }
        for turn in turns {
            let sql = ordinary(&format!("r{round}_{turn}"));
            let spent = processor.seconds().await?;
            let begun = Instant::now();
            match turn {
                0 => shell(&installed, &sql).await?,
                1 => bare::all(&urls, AT_ONCE[0], "").await?,
                2 => bare::all(&urls, AT_ONCE[0], &format!("BEGIN; {sql} COMMIT")).await?,
                _ => {
                    installed.write(&sql)?;
                    let said = installed.migrate(&["--concurrency", &AT_ONCE[turn - 3].to_string()]).await?;
                    ensure!(said.report()?["migrated"] == count, "not everybody was migrated: {said:?}");
                }
            }
            figures[turn].push(count as f64 / begun.elapsed().as_secs_f64());
            costs[turn].push((processor.seconds().await? - spent) / count as f64 * 1000.0);
        }
    }

    println!("\n### P6: one migration of {count} databases on two servers, {} times\n", effort.rounds);
    println!("| | tenants/s (min / median / max) | ratio to the loop | processor, ms per tenant |");
    println!("|---|---|---|---|");
    let mut names = vec![
        format!("`xargs -P{PROCESSES} psql`"),
        format!("a connection and nothing else, {} at once for each server", AT_ONCE[0]),
        "a connection, and the migration in one message".to_owned(),
    ];
    names.extend(AT_ONCE.map(|at_once| format!("`tenantry fleet migrate --concurrency {at_once}`")));
    for ((name, series), costs) in names.iter().zip(&figures).zip(&costs) {
        let ratio = Spread::of(&ratios(series, &figures[0]));
        println!("| {name} | {:.0} | {ratio:.2} | {:.1} |", Spread::of(series), Spread::of(costs));
    }
    rough::run(&installed, count).await
}

/// A column, a table, and an index.
fn ordinary(name: &str) -> String {
    format!(
        "ALTER TABLE contacts ADD COLUMN {name} text;\n\
         CREATE TABLE {name} (id uuid PRIMARY KEY, contact_id uuid REFERENCES contacts (id));\n\
         CREATE INDEX {name}_contact_id ON {name} (contact_id);\n"
    )
}

/// As the tenant's own role.
fn url(estate: &Estate, entry: &Entry) -> String {
    let target = Target { user: entry.role.clone(), password: entry.password.clone(), ..estate.server().clone() };
    target.with_database(entry.database.clone()).to_url().expose_secret().to_owned()
}

async fn shell(installed: &Installed, sql: &str) -> Result<()> {
    let file = installed.folder().join("shell.sql");
    std::fs::write(&file, sql)?;
    let status = tokio::process::Command::new("xargs")
        .args(["-a", &installed.folder().join("urls").to_string_lossy(), "-n1", &format!("-P{PROCESSES}")])
        .args(["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", &file.to_string_lossy()])
        .stdout(Stdio::null())
        .status()
        .await
        .context("xargs and psql")?;
    ensure!(status.success(), "the loop of the shell: {status}");
    Ok(())
}
