//! Five hundred logins at once: what the process takes of memory, who is served, and what another route's callers notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use reqwest::header::RETRY_AFTER;
use serde_json::json;

use super::ground::{PASSWORD, bring};
use crate::Effort;
use crate::support::contender::Tenantry;
use crate::support::crowd::trickle;
use crate::support::failures::Failures;
use crate::support::installation::Installation;
use crate::support::process;
use crate::support::spread::{Spread, ratios};

const CALLERS: usize = 500;
/// The other route is asked so often a second, whatever has been answered.
const RATE: u64 = 100;
const SLUG: &str = "acme";

pub async fn run(Effort { seconds, rounds, .. }: Effort) -> Result<()> {
    let installation = Installation::start(&[("TENANTRY_LOG__LEVEL", "error")]).await?;
    bring(&installation, &installation.login(SLUG).await?, SLUG, CALLERS, address).await?;
    let reader = Tenantry::warm(&installation, "globex").await?;
    trickle(&reader, RATE, 0, 2).await?;

    let before = process::memory(installation.pid())?;
    process::forget_peak(installation.pid())?;
    let (mut idle, mut during, mut failed) = (Vec::new(), Vec::new(), Failures::default());
    let mut answers: BTreeMap<u16, u64> = BTreeMap::new();
    for round in 0..rounds as u64 {
        let without = trickle(&reader, RATE, 2 * round + 1, seconds).await?;
        let crowd = Crowd::gather(installation.url());
        let with = trickle(&reader, RATE, 2 * round + 2, seconds).await?;
        for (status, times) in crowd.disperse().await? {
            *answers.entry(status).or_default() += times;
        }
        idle.push(without.p99_ms);
        during.push(with.p99_ms);
        failed += &without.failed;
        failed += &with.failed;
    }
    let peak = process::peak(installation.pid())?;

    let count = |status: u16| answers.get(&status).copied().unwrap_or_default();
    let (served, refused) = (count(200), count(503));
    let others: Vec<_> = answers.iter().filter(|(status, _)| ![200, 503].contains(*status)).collect();
    println!("\n### {CALLERS} logins at once, again and again, {rounds} rounds of {seconds} s\n");
    println!("Whoever is sent away comes back when `Retry-After` says.\n");
    println!("| | |\n|---|---|");
    println!("| memory before, MiB | {:.0} |", before.resident);
    println!("| peak during, MiB | {peak:.0} |");
    println!("| more for each of them, KiB | {:.0} |", (peak - before.resident) * 1024.0 / CALLERS as f64);
    println!("| served | {served} |");
    println!("| sent away with 503 | {refused} |");
    println!("| answered otherwise | {others:?} |");
    println!("| another tenant's reads, {RATE} per second, idle: p99 ms, min / median / max | {} |", Spread::of(&idle));
    println!("| the same during (failed: {failed}): p99 ms | {} |", Spread::of(&during));
    println!("| ratio | {} |", Spread::of(&ratios(&during, &idle)));
    Ok(())
}

fn address(number: usize) -> String {
    format!("crowd-{number:03}@people.example")
}

/// Each logs in as somebody else, and again once they are answered: whoever is sent away comes back when `Retry-After` says.
/// In a thread of its own.
struct Crowd {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<BTreeMap<u16, u64>>>,
}

impl Crowd {
    fn gather(url: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, url) = (stop.clone(), format!("{url}/api/v1/auth/login"));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let client = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
                let all = join_all((0..CALLERS).map(|number| go_on(&client, &url, number, &stopped))).await;
                let mut answers = BTreeMap::new();
                for status in all.concat() {
                    *answers.entry(status).or_default() += 1;
                }
                Ok(answers)
            })
        });
        Self { stop, thread }
    }

    /// Lets everybody finish; gives how often each status was answered, 0 for none.
    async fn disperse(self) -> Result<BTreeMap<u16, u64>> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.thread.join()).await?.map_err(|_| anyhow!("a caller panicked"))?
    }
}

async fn go_on(client: &reqwest::Client, url: &str, number: usize, stop: &AtomicBool) -> Vec<u16> {
    let body = json!({"tenant": SLUG, "email": address(number), "password": PASSWORD});
    let mut answers = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let Ok(answer) = client.post(url).json(&body).send().await else {
            answers.push(0);
            continue;
        };
        answers.push(answer.status().as_u16());
        let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        // Read, the connection can be used again.
        let _ = answer.bytes().await;
        tokio::time::sleep(Duration::from_secs(after.unwrap_or_default())).await;
    }
    answers
}
