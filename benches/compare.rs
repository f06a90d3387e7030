//! Tenantry beside its yardsticks, in turn, in one run: every figure is a ratio (docs/performance.md has the last run).
//!
//! `cargo bench --features testing --bench compare -- [section …] [--rounds N] [--seconds N] [--tenants N]
//! [--no-checkout-test] [--samples N]`
//!
//! Without a section all of them run: p1 p2 p3 p4 p5 p6 p7 p8 p9 p10 scaling observer topology; `security` only where it is
//! named. Tenantry runs as a process
//! of its own, `tenantry dev` or `tenantry serve`; the yardsticks are this program again, one process each, on the same
//! PostgreSQL and the same rows. `--tenants` makes the sections of many tenants smaller, all numbers in proportion.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a report goes to stdout, its progress to stderr")]

mod sections;
mod support;
mod yardstick;

use anyhow::{Context as _, Result, bail};

// As the server does: the yardsticks get the allocator that Tenantry has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long and how often to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Times that each contender has its turn.
    pub rounds: usize,
    /// Length of one turn under load.
    pub seconds: u64,
    /// How many tenants "200 tenants" are; at least ten.
    pub tenants: usize,
    /// Whether the yardsticks' bb8 pools test a connection before handing it out, as is bb8's default.
    pub checkout_test: bool,
    /// How often `security` asks each question.
    pub samples: usize,
}

impl Effort {
    /// A number that is meant for 200 tenants, in proportion to those there are; at least two.
    pub fn scaled(&self, of_200: usize) -> usize {
        (of_200 * self.tenants).div_ceil(200).max(2)
    }
}

#[actix_web::main]
async fn main() -> Result<()> {
    let mut effort = Effort { rounds: 7, seconds: 8, tenants: 200, checkout_test: true, samples: 10_000 };
    let mut wanted = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64> {
            words.next().and_then(|value| value.parse().ok()).with_context(|| format!("{word} takes a number"))
        };
        match word.as_str() {
            // The other half of this program: a yardstick, started by `yardstick::start`.
            "serve" => return yardstick::serve(&words.next().context("serve what?")?).await,
            "--rounds" => effort.rounds = usize::try_from(number()?)?.max(1),
            "--tenants" => effort.tenants = usize::try_from(number()?)?.max(10),
            "--seconds" => effort.seconds = number()?.max(1),
            "--samples" => effort.samples = usize::try_from(number()?)?.max(100),
            "--no-checkout-test" => effort.checkout_test = false,
            // Cargo says so to every bench.
            "--bench" => {}
            section if sections::NAMES.contains(&section) || section == sections::SECURITY => {
                wanted.push(section.to_owned())
            }
            other => bail!("unknown word {other:?}; sections are {}", sections::NAMES.join(", ")),
        }
    }
    let mut estate = None;
    for name in sections::NAMES.into_iter().chain([sections::SECURITY]) {
        let by_default = wanted.is_empty() && name != sections::SECURITY;
        if by_default || wanted.iter().any(|section| section == name) {
            sections::run(name, effort, &mut estate).await.with_context(|| format!("section {name}"))?;
        }
    }
    Ok(())
}
