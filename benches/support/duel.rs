//! Contenders in turn, round by round, over many tenants.

use std::time::Instant;

use anyhow::Result;

use super::contender::{Contender, check};
use super::draw::Traffic;
use super::estate::Estate;
use super::failures::Failures;
use super::load::{self, Sample};
use super::observer::{NOW_AND_THEN, Seen};
use super::spread::{Spread, ratios};
use crate::Effort;

/// What one contender did in all its turns.
#[derive(Debug, Default)]
pub struct Turns {
    name: String,
    samples: Vec<Sample>,
    /// Its connections to tenants' databases during the turns.
    pub seen: Seen,
}

/// Lets each contender have its turn in each round, after a turn of `warm` seconds that does not count.
pub async fn rounds(
    estate: &Estate,
    contenders: &[&dyn Contender],
    traffic: Traffic,
    warm: u64,
    effort: Effort,
) -> Result<Vec<Turns>> {
    let mut all: Vec<Turns> =
        contenders.iter().map(|contender| Turns { name: contender.name().to_owned(), ..Turns::default() }).collect();
    for contender in contenders {
        check(*contender, 20).await?;
        load::many(*contender, traffic, 0, load::CONNECTIONS, warm).await?;
    }
    for round in 1..=effort.rounds {
        for (contender, turns) in contenders.iter().zip(&mut all) {
            let observer = estate.observe(&contender.roles(), NOW_AND_THEN);
            let begun = Instant::now();
            let sample = load::many(*contender, traffic, round as u64, load::CONNECTIONS, effort.seconds).await?;
            turns.seen.add(&observer.finish().await?);
            eprintln!(
                "  {traffic}, round {round}: {:<10} {:>7.0} requests/s, {} failed, {:.1} s",
                turns.name,
                sample.rate,
                sample.failed,
                begun.elapsed().as_secs_f64(),
            );
            turns.samples.push(sample);
        }
    }
    Ok(all)
}

impl Turns {
    /// As the report calls the contender.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Requests per second, turn by turn.
    pub fn rates(&self) -> Vec<f64> {
        self.column(|sample| sample.rate)
    }

    /// One figure of each turn.
    pub fn column(&self, pick: fn(&Sample) -> f64) -> Vec<f64> {
        self.samples.iter().map(pick).collect()
    }

    /// Requests per second of this one over another's in the same round.
    pub fn ratio_to(&self, other: &Self) -> Spread {
        Spread::of(&ratios(&self.rates(), &other.rates()))
    }

    /// The latency that one in a hundred exceeds, over another's in the same round.
    pub fn p99_ratio_to(&self, other: &Self) -> Spread {
        let p99 = |turns: &Self| turns.column(|sample| sample.p99_ms);
        Spread::of(&ratios(&p99(self), &p99(other)))
    }

    /// Answers other than 2xx, and none at all, in all turns.
    pub fn failed(&self) -> Failures {
        self.samples.iter().map(|sample| &sample.failed).sum()
    }
}

/// The heading of [`rows`].
pub const HEADING: &str = "| tenants asked | | connections, mean and most | requests/s | Tenantry to this one | p50 ms | p99 ms | failed |\n\
    |---|---|---|---|---|---|---|---|";

/// Prints a row for each contender; the last one is Tenantry, whose ratio to each of the others is what counts.
pub fn rows(traffic: Traffic, all: &[Turns]) {
    let Some(ours) = all.last() else { return };
    for turns in all {
        let column = |pick: fn(&Sample) -> f64| Spread::of(&turns.column(pick));
        println!(
            "| {traffic} | {} | {:.0}, {} | {:.0} | {:.2} | {:.2} | {:.2} | {} |",
            turns.name,
            turns.seen.mean(),
            turns.seen.most(),
            column(|sample| sample.rate),
            ours.ratio_to(turns),
            column(|sample| sample.p50_ms),
            column(|sample| sample.p99_ms),
            turns.failed(),
        );
    }
}
