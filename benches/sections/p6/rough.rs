//! What a run over the fleet goes through: it is killed, a lock is held, some tenants fail, and there is nothing to do.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::fleet::Installed;
use super::ordinary;

/// How many tenants a migration fails on.
const FAIL: usize = 7;
/// Longer than any of these takes by far.
const DEADLINE: Duration = Duration::from_secs(600);

/// Prints what each comes to, and ends with an error where it is not as it has to be.
pub async fn run(installed: &Installed, count: usize) -> Result<()> {
    println!("\n### P6: what a run over {count} tenants on two servers goes through\n");
    println!("| | what came of it |");
    println!("|---|---|");
    println!("| killed (`kill -9`) in the middle, and asked for again | {} |", killed(installed, count).await?);
    println!("| a transaction holds `contacts` of one tenant | {} |", held(installed, count).await?);
    println!("| it fails on {FAIL} | {} |", failing(installed, count).await?);
    println!("| nothing to do | {} |", nothing(installed, count).await?);
    Ok(())
}

async fn killed(installed: &Installed, count: usize) -> Result<String> {
    // A second time it would fail.
    let file = installed.write("CREATE TABLE killed (id int);")?;
    let runs = installed.runs().await?;
    let mut run = installed.begin(&[])?;
    let done = until(installed, runs, count / 3).await?;
    run.kill().await?;
    ensure!(!run.wait().await?.success(), "it was over before it was killed");
    let there = "SELECT to_regclass('killed') IS NOT NULL";
    let before = installed.count(there).await?;
    ensure!(before < count, "everybody had it");
    let begun = Instant::now();
    let said = installed.migrate(&[]).await?;
    let (took, report) = (begun.elapsed(), said.report()?);
    ensure!(said.status.success() && report["failed"] == json!([]), "{report}");
    let once = format!(
        "SELECT to_regclass('killed') IS NOT NULL AND (SELECT count(*) = 1 FROM tenantry.operator_history \
         WHERE version = {})",
        version(&file)?
    );
    let have = installed.count(&once).await?;
    ensure!(have == count, "{have} of {count} have it once");
    Ok(format!(
        "{before} tenants had it, {done} of them written down; {have} of {count} have it once after the next run, which \
         took {:.1} s",
        took.as_secs_f64()
    ))
}

async fn held(installed: &Installed, count: usize) -> Result<String> {
    installed.write(&ordinary("held"))?;
    let holder = installed.inside(count / 3).await?;
    holder.batch_execute("BEGIN; LOCK TABLE contacts IN ACCESS SHARE MODE").await?;
    let runs = installed.runs().await?;
    let begun = Instant::now();
    let run = installed.begin(&["--lock-timeout", "500ms"])?;
    until(installed, runs, count - 1).await?;
    let others = begun.elapsed();
    holder.batch_execute("ROLLBACK").await?;
    let said = installed.ended(run).await?;
    let report = said.report()?;
    ensure!(said.status.success() && report["migrated"] == count, "{report}");
    let tries = "SELECT max(attempts)::bigint FROM migration_tenants m JOIN operations o ON o.id = m.run_id \
                 WHERE o.id = (SELECT id FROM operations WHERE kind = 'migrate' ORDER BY id DESC LIMIT 1)";
    let tries = installed.asked(tries).await?;
    ensure!(tries > 1, "nobody was in its way");
    Ok(format!(
        "the other {} were done after {:.1} s; it was migrated at try {tries}, once the lock was free",
        count - 1,
        others.as_secs_f64()
    ))
}

async fn failing(installed: &Installed, count: usize) -> Result<String> {
    let file = installed.write("CREATE TABLE taken (id int);")?;
    // From all over the list.
    let taken: Vec<usize> = (0..FAIL).map(|at| at * count / FAIL).collect();
    for number in &taken {
        installed.inside(*number).await?.batch_execute("CREATE TABLE taken ()").await?;
    }
    let begun = Instant::now();
    let said = installed.migrate(&[]).await?;
    let (took, report) = (begun.elapsed(), said.report()?);
    let failed = report["failed"].as_array().context("a list")?;
    ensure!(said.status.code() == Some(3), "exit code {:?}", said.status.code());
    ensure!(failed.len() == FAIL && report["migrated"] == count - FAIL, "{report}");
    let cause = failed[0]["error"].as_str().context("a cause")?.to_owned();
    for one in failed {
        let named = one["migration"] == json!(file) && one["error"].as_str().is_some_and(|why| why.contains("taken"));
        ensure!(named, "{one}");
    }
    for number in &taken {
        installed.inside(*number).await?.batch_execute("DROP TABLE taken").await?;
    }
    let begun = Instant::now();
    let mended = installed.migrate(&[]).await?;
    let (again, report) = (begun.elapsed(), mended.report()?);
    ensure!(mended.status.success() && report["migrated"] == FAIL, "{report}");
    Ok(format!(
        "{} done and {FAIL} listed (\"{cause}\"), exit code 3, in {:.1} s; the next run mended {FAIL} in {:.2} s, exit \
         code 0",
        count - FAIL,
        took.as_secs_f64(),
        again.as_secs_f64()
    ))
}

async fn nothing(installed: &Installed, count: usize) -> Result<String> {
    let before = sessions(installed).await?;
    let begun = Instant::now();
    let said = installed.migrate(&[]).await?;
    let (took, report) = (begun.elapsed(), said.report()?);
    ensure!(said.status.success() && report["skipped"] == count, "{report}");
    let after = sessions(installed).await?;
    ensure!(before == after, "tenants' databases were touched: {before:?} before, {after:?} after");
    Ok(format!(
        "{:.2} s; of all tenants' databases together `pg_stat_database` counts {} sessions and {} transactions before it \
         and after it",
        took.as_secs_f64(),
        after.0,
        after.1
    ))
}

/// Sessions and transactions of all tenants' databases, once the servers have counted all there were.
async fn sessions(installed: &Installed) -> Result<(i64, i64)> {
    const COUNTED: &str = "SELECT sum(sessions)::bigint, sum(xact_commit + xact_rollback)::bigint \
        FROM pg_stat_database WHERE datname LIKE 't\\_%'";
    let (begun, mut last) = (Instant::now(), (-1, -1));
    loop {
        let mut now = (0, 0);
        for server in installed.servers() {
            let row = server.client.query_one(COUNTED, &[]).await?;
            now = (now.0 + row.get::<_, i64>(0), now.1 + row.get::<_, i64>(1));
        }
        if now == last {
            return Ok(now);
        }
        ensure!(begun.elapsed() < DEADLINE, "the servers go on counting");
        last = now;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// Waits until so many tenants of the run after these are done.
async fn until(installed: &Installed, runs: i64, count: usize) -> Result<i64> {
    let begun = Instant::now();
    loop {
        let done = installed.done(runs).await?;
        if usize::try_from(done)? >= count {
            return Ok(done);
        }
        ensure!(begun.elapsed() < DEADLINE, "{done} of {count} are done");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn version(file: &str) -> Result<u32> {
    let digits = file.trim_start_matches('V').split("__").next().context("a number")?;
    Ok(digits.parse()?)
}
