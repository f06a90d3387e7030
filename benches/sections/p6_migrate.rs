//! P6: one ordinary migration of many databases, against the loop of the shell that everybody begins with.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::Effort;
use crate::support::estate::{Entry, Estate};
use crate::support::postgres;
use crate::support::spread::{Spread, ratios};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tenantry");
/// Processes of the loop at the same time.
const PROCESSES: usize = 4;

pub async fn run(effort: Effort, estate: &Estate) -> Result<()> {
    let count = effort.scaled(1_000);
    let plane = estate.copy_of_plane("bench_migrate").await?;
    let registry = postgres::connect(plane.control().db.target().to_url().expose_secret()).await?;
    registry.batch_execute("DELETE FROM tenants").await?;
    eprintln!("  making {count} databases …");
    let mut ours = estate.unregistered(count).await?;
    let theirs = ours.split_off(count / 2);
    let second = plane.add_cluster("second", estate.server()).await?;
    let (one, other) = ours.split_at(ours.len() / 2);
    plane.register_on(plane.cluster(), one.to_vec()).await?;
    plane.register_on(second, other.to_vec()).await?;

    let folder = tempfile::Builder::new().prefix("tenantry-bench-").tempdir()?;
    let list = folder.path().join("urls");
    let server = estate.server();
    let url = |entry: &Entry| {
        let user = entry.role.clone();
        let target = tenantry::router::Target { user, password: entry.password.clone(), ..server.clone() };
        target.with_database(entry.database.clone()).to_url().expose_secret().to_owned()
    };
    let mut urls = String::new();
    for entry in &theirs {
        writeln!(urls, "{}", url(entry))?;
    }
    std::fs::write(&list, urls)?;
    let migrations = folder.path().join("migrations");
    std::fs::create_dir(&migrations)?;

    let (mut shell, mut fleet) = (Vec::new(), Vec::new());
    for round in 1..=effort.rounds {
        let file = migrations.join(format!("V{round}__round.sql"));
        let sql = format!(
            "ALTER TABLE contacts ADD COLUMN round_{round} text;\n\
             CREATE TABLE round_{round} (id uuid PRIMARY KEY, contact_id uuid REFERENCES contacts (id));\n\
             CREATE INDEX round_{round}_contact_id ON round_{round} (contact_id);\n"
        );
        std::fs::write(&file, sql)?;
        let begun = Instant::now();
        let status = Command::new("xargs")
            .args(["-a", &list.to_string_lossy(), "-n1", &format!("-P{PROCESSES}")])
            .args(["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", &file.to_string_lossy()])
            .stdout(Stdio::null())
            .status()
            .context("xargs and psql")?;
        ensure!(status.success(), "the loop of the shell: {status}");
        shell.push(theirs.len() as f64 / begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let output = Command::new(PROGRAM)
            .args(["fleet", "migrate", "--output", "json"])
            .env_clear()
            .envs(plane.environment().iter().map(|(name, value)| (name, value)))
            .env("TENANTRY_TENANT_MIGRATIONS", &migrations)
            .current_dir(folder.path())
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fleet.push(ours.len() as f64 / begun.elapsed().as_secs_f64());
        let report: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(report["migrated"] == ours.len(), "not everybody was migrated: {report}");
    }

    println!("\n### P6: one migration of {} databases each, over two clusters, {} times\n", ours.len(), fleet.len());
    println!("| | tenants/s (min / median / max) |");
    println!("|---|---|");
    println!("| `xargs -P{PROCESSES} psql` | {:.0} |", Spread::of(&shell));
    println!("| `tenantry fleet migrate` | {:.0} |", Spread::of(&fleet));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&fleet, &shell)));
    Ok(())
}
