//! P8: logins per second against the bare Argon2id rate of the cores, and what they do to another route's p99.

use std::time::{Duration, Instant};

use anyhow::Result;
use argon2::{Algorithm, Argon2, Params, Version};

use crate::Effort;
use crate::support::contender::{Contender as _, Tenantry};
use crate::support::failures::Failures;
use crate::support::installation::Installation;
use crate::support::load;
use crate::support::spread::{Spread, percentile, ratios};

pub async fn run(effort: Effort) -> Result<()> {
    let installation = Installation::start(&[]).await?;
    let reader = Tenantry::warm(&installation, "globex").await?;
    let (mut logins, mut failed) = (Vec::new(), Failures::default());
    let (mut hashes, mut calm, mut busy) = (Vec::new(), Vec::new(), Vec::new());

    load::login(&installation, "acme", 2).await?;
    for round in 1..=effort.rounds {
        let seconds = effort.seconds;
        hashes.push(tokio::task::spawn_blocking(move || bare_rate(Duration::from_secs(seconds))).await??);
        let sample = load::login(&installation, "acme", seconds).await?;
        eprintln!("  round {round}: {:.1} logins/s, {:.1} bare hashes/s", sample.rate, hashes[round - 1]);
        logins.push(sample.rate);
        failed += &sample.failed;
        calm.push(probe(&reader, seconds).await?);
        let (p99, _) = tokio::try_join!(probe(&reader, seconds), load::login(&installation, "acme", seconds))?;
        busy.push(p99);
    }

    println!("\n### P8: logins, {} rounds of {} s\n", effort.rounds, effort.seconds);
    println!("| | min / median / max |");
    println!("|---|---|");
    println!("| bare Argon2id (19 MiB, t=2, p=1) on all cores, per second | {:.1} |", Spread::of(&hashes));
    println!("| logins per second (failed: {failed}) | {:.1} |", Spread::of(&logins));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&logins, &hashes)));
    println!("| another tenant's reads, 50 per second: p99 ms | {:.2} |", Spread::of(&calm));
    println!("| the same under the logins: p99 ms | {:.2} |", Spread::of(&busy));
    println!("| ratio | {:.2} |", Spread::of(&ratios(&busy, &calm)));
    Ok(())
}

/// Hashes per second with one thread per core, each with its own memory kept.
fn bare_rate(length: Duration) -> Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    let start = Instant::now();
    let hashed: u32 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(move || {
                    let params = Params::new(19_456, 2, 1, Some(32)).expect("the parameters of the target");
                    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
                    let mut memory = vec![argon2::Block::default(); params.block_count()];
                    let (mut out, mut count) = ([0_u8; 32], 0);
                    while start.elapsed() < length {
                        argon2
                            .hash_password_into_with_memory(b"correct horse battery", &[7; 16], &mut out, &mut memory)
                            .expect("a hash");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a hashing thread")).sum()
    });
    Ok(f64::from(hashed) / start.elapsed().as_secs_f64())
}

/// The p99 of a reader that asks fifty times a second, in milliseconds.
async fn probe(reader: &Tenantry, seconds: u64) -> Result<f64> {
    let client = reqwest::Client::new();
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let mut times = Vec::new();
    for _ in 0..seconds * 50 {
        beat.tick().await;
        let start = Instant::now();
        let request = client.get(reader.url()).header("authorization", reader.authorization().unwrap_or_default());
        request.send().await?.error_for_status()?.bytes().await?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(percentile(&times, 0.99))
}
