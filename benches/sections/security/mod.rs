//! Whether the time of an answer tells who has an account, and what five hundred logins at once do to everybody else.
//!
//! As dudect does it (Reparaz, Balasch, Verbauwhede, 2017): the same question about people that there are and that there
//! are not, in random order, and Welch's t of the two series of times, of all of them and without the slowest.

mod flood;
mod ground;
mod postbox;
mod questions;
mod welch;

use anyhow::{Result, bail};

use self::ground::Ground;
use self::questions::Question;
use self::welch::{CROPS, LIMIT, Series};
use crate::Effort;

pub async fn run(effort: Effort) -> Result<()> {
    let ground = Ground::start().await?;
    let mut told = Vec::new();
    println!("\n### Who has an account: {} samples of each question\n", effort.samples);
    println!("| question | known, mean ms | unknown, mean ms | difference µs |{}", header());
    println!("|---|---|---|---|{}---|", "---|".repeat(CROPS.len()));
    for question in questions::all(&ground).await? {
        let series = ask(&ground, &question, effort.samples).await?;
        let (known, unknown) = (series.mean(true), series.mean(false));
        let all = series.all();
        let worst = all.iter().map(|t| t.abs()).fold(0.0, f64::max);
        let cells: Vec<_> = all.iter().map(|t| format!("{t:.2}")).collect();
        println!(
            "| {} | {known:.3} | {unknown:.3} | {:.1} | {} | **{worst:.2}** |",
            question.name,
            (known - unknown) * 1000.0,
            cells.join(" | ")
        );
        // A series too short for a figure is no proof either.
        let proven = worst < LIMIT && all.iter().all(|t| t.is_finite());
        if !proven {
            told.push(question.name);
        }
    }
    drop(ground);
    flood::run(effort).await?;
    if told.is_empty() {
        println!("\nNo question tells: every |t| is below {LIMIT}.");
        return Ok(());
    }
    bail!("|t| reaches {LIMIT}: {}", told.join(", "))
}

fn header() -> String {
    let crops =
        CROPS.map(|share| if share < 1.0 { format!(" t, fastest {:.0} % |", share * 100.0) } else { " t |".into() });
    format!("{} worst |", crops.concat())
}

async fn ask(ground: &Ground, question: &Question, samples: usize) -> Result<Series> {
    // Connections, statements and caches are there before it counts.
    let warm = (samples / 20).clamp(20, 200);
    let mut series = Series::default();
    let mut seen = [None, None];
    for turn in 0..warm + samples {
        if turn % 200 == 0 {
            ground.tidy().await?;
            eprintln!("  {}: {turn} of {} …", question.name, warm + samples);
        }
        let known = ground.toss();
        let (took, answer) = ground.time(question, known, turn).await?;
        let first = seen[usize::from(known)].get_or_insert_with(|| answer.clone());
        if *first != answer {
            bail!("{}: answers differ from one to the next: {first} and {answer}", question.name);
        }
        if turn >= warm {
            series.add(known, took);
        }
    }
    if let [Some(unknown), Some(known)] = &seen
        && known != unknown
    {
        bail!("{}: the answers themselves tell: {known} and {unknown}", question.name);
    }
    Ok(series)
}
