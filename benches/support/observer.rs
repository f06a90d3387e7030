//! The independent observer: counts backends in `pg_stat_activity`, over a connection of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::MissedTickBehavior;

use super::postgres;

/// Where the number is what is measured.
pub const CLOSELY: Duration = Duration::from_millis(20);
/// Where it is told beside something else. On a server of 2,400 connections a look costs 5 to 10 ms of a processor, which
/// every 20 ms is a quarter of two.
pub const NOW_AND_THEN: Duration = Duration::from_millis(250);
/// Connections to tenants' databases, of whoever connects as these roles.
const COUNT: &str = "SELECT count(*) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND datname LIKE 't\\_%' AND usename LIKE $1";

/// An observer at work, in a thread of its own so that nothing else delays it.
#[derive(Debug)]
pub struct Observer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<i64>>>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    counts: Vec<i64>,
}

impl Observer {
    /// Begins to count the connections of these roles (a pattern of `LIKE`).
    pub fn start(server_url: &str, roles: &str, every: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, url, roles) = (stop.clone(), server_url.to_owned(), roles.to_owned());
        let thread = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let client = postgres::connect(&url).await?;
                let statement = client.prepare(COUNT).await?;
                let mut beat = tokio::time::interval(every);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut counts = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    beat.tick().await;
                    counts.push(client.query_one(&statement, &[&roles]).await?.get(0));
                }
                Ok(counts)
            })
        });
        Self { stop, thread }
    }

    /// Ends it.
    pub async fn finish(self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let counts = joined.map_err(|_| anyhow!("the observer panicked"))??;
        Ok(Seen { counts })
    }
}

impl Seen {
    /// The most at any moment.
    pub fn most(&self) -> i64 {
        self.counts.iter().copied().max().unwrap_or_default()
    }

    /// On average.
    pub fn mean(&self) -> f64 {
        self.counts.iter().sum::<i64>() as f64 / self.counts.len().max(1) as f64
    }

    /// How often it looked.
    pub fn looks(&self) -> usize {
        self.counts.len()
    }

    /// In how many looks there were more than so many.
    pub fn above(&self, limit: i64) -> usize {
        self.counts.iter().filter(|count| **count > limit).count()
    }

    /// Takes in what another one saw.
    pub fn add(&mut self, other: &Self) {
        self.counts.extend(&other.counts);
    }
}
