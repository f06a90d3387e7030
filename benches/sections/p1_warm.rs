//! P1: warm, routed, authenticated reads of twenty contacts, against handlers that route and authenticate nothing.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::Effort;
use crate::support::contender::{Contender, Tenantry, check};
use crate::support::failures::Failures;
use crate::support::installation::Installation;
use crate::support::load::{self, Sample};
use crate::support::spread::{Spread, ratios};
use crate::yardstick;

pub async fn run(effort: Effort) -> Result<()> {
    let installation = Installation::start(&[]).await?;
    let databases = BTreeMap::from([("acme".to_owned(), installation.tenant_database_url("acme").await?)]);
    let bare = yardstick::start("bare", &databases, effort).await?;
    let floor = yardstick::start("floor", &databases, effort).await?;
    let naive = yardstick::start("naive", &databases, effort).await?;
    let tenantry = Tenantry::warm(&installation, "acme").await?;
    let contenders: [&dyn Contender; 4] = [&bare, &floor, &naive, &tenantry];

    for contender in contenders {
        check(contender, 20).await?;
        load::get(contender, 2).await?;
    }
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 1..=effort.rounds {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            let sample = load::get(*contender, effort.seconds).await?;
            eprintln!("  round {round}: {:<9} {:>8.0} requests/s", contender.name(), sample.rate);
            samples.push(sample);
        }
    }

    println!(
        "\n### P1: warm reads, {} connections, {} rounds of {} s\n",
        load::CONNECTIONS,
        effort.rounds,
        effort.seconds
    );
    println!("min / median / max; ratios are to *bare* in the same round.\n");
    println!("| | requests/s | ratio | p50 ms | p99 ms | p99 ratio | failed |");
    println!("|---|---|---|---|---|---|---|");
    let column = |samples: &[Sample], pick: fn(&Sample) -> f64| samples.iter().map(pick).collect::<Vec<_>>();
    for (contender, of) in contenders.iter().zip(&samples) {
        println!(
            "| {} | {:.0} | {:.2} | {:.2} | {:.2} | {:.2} | {} |",
            contender.name(),
            Spread::of(&column(of, |s| s.rate)),
            Spread::of(&ratios(&column(of, |s| s.rate), &column(&samples[0], |s| s.rate))),
            Spread::of(&column(of, |s| s.p50_ms)),
            Spread::of(&column(of, |s| s.p99_ms)),
            Spread::of(&ratios(&column(of, |s| s.p99_ms), &column(&samples[0], |s| s.p99_ms))),
            of.iter().map(|sample| &sample.failed).sum::<Failures>(),
        );
    }
    Ok(())
}
