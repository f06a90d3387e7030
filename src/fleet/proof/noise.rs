//! One canary asks as much as it can; the other one is measured, before and meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::task::JoinSet;

use super::canary::Canary;
use super::report::{Fault, NoisyNeighbour, Times};
use crate::fleet::web::{Ask, Client};

/// Requests of the measured one in each run.
const REQUESTS: usize = 150;
/// Requests of the noisy one in flight.
const NOISE: usize = 24;
/// After one that was not answered the noisy one does not turn in circles.
const BREATH: Duration = Duration::from_millis(20);

const SEARCH: &str = "/api/v1/contacts?q=canary&pageSize=100";
const LIST: &str = "/api/v1/contacts?pageSize=20";

/// Runs it: figures, and a fault if the measured one was refused anything.
pub(super) async fn run(client: &Client, noisy: &Canary, quiet: &Canary) -> (NoisyNeighbour, Vec<Fault>) {
    let ask = quiet.ask(Method::GET, LIST);
    // Its connection is open, its rights are known.
    measure(client, &ask, REQUESTS / 10).await;
    let (before, failed_before) = measure(client, &ask, REQUESTS).await;
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut noise = JoinSet::new();
    for _ in 0..NOISE {
        let (stop, answered) = (stop.clone(), answered.clone());
        let (mut line, search) = (client.line(), noisy.ask(Method::GET, SEARCH));
        noise.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match line.ask(&search).await {
                    Ok(heard) if heard.status == 200 => drop(answered.fetch_add(1, Ordering::Relaxed)),
                    _ => tokio::time::sleep(BREATH).await,
                }
            }
        });
    }
    let (meanwhile, failed) = measure(client, &ask, REQUESTS).await;
    stop.store(true, Ordering::Relaxed);
    while noise.join_next().await.is_some() {}
    let figures = NoisyNeighbour {
        requests: REQUESTS,
        noise: NOISE,
        noise_answered: answered.load(Ordering::Relaxed),
        quiet: before,
        noisy: meanwhile,
        p99_ratio: meanwhile.p99_ms / before.p99_ms.max(0.001),
        failed,
    };
    let faults = judge(&figures, failed_before);
    (figures, faults)
}

/// The ratio of the times is told and not judged: it is the machine's as much as ours.
fn judge(figures: &NoisyNeighbour, failed_before: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    if figures.failed > failed_before {
        let said = format!(
            "{} of {} requests of one canary failed while the other was noisy, {failed_before} before",
            figures.failed, figures.requests
        );
        faults.push(Fault::new("neighbour_disturbed", "canaries", said));
    }
    if failed_before > 0 {
        let said =
            format!("{failed_before} of {} requests of one canary failed with no noise at all", figures.requests);
        faults.push(Fault::new("not_proven", "noisy neighbour", said));
    }
    if figures.noise_answered == 0 {
        let said = "the server answered none of the noisy one's requests, so that there was no noise";
        faults.push(Fault::new("not_proven", "noisy neighbour", said));
    }
    faults
}

/// One request after the other: the times of those that were answered, and how many were not.
async fn measure(client: &Client, ask: &Ask, count: usize) -> (Times, usize) {
    let mut line = client.line();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let begun = Instant::now();
        if line.ask(ask).await.is_ok_and(|heard| heard.status == 200) {
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    times.sort_by(f64::total_cmp);
    let failed = count - times.len();
    (Times { p50_ms: at(&times, 50), p99_ms: at(&times, 99) }, failed)
}

/// A percentile of sorted times; 0 of none.
fn at(times: &[f64], percent: usize) -> f64 {
    let place = (times.len() * percent).div_ceil(100).max(1) - 1;
    times.get(place).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_noise_or_without_rest_nothing_is_proven() {
        let times = Times { p50_ms: 1.0, p99_ms: 1.0 };
        let judged = |noise_answered, failed, failed_before| {
            let figures = NoisyNeighbour {
                requests: REQUESTS,
                noise: NOISE,
                noise_answered,
                quiet: times,
                noisy: times,
                p99_ratio: 1.0,
                failed,
            };
            judge(&figures, failed_before).iter().map(|fault| fault.code).collect::<Vec<_>>()
        };
        assert!(judged(1, 0, 0).is_empty());
        assert_eq!(judged(0, 0, 0), ["not_proven"]);
        assert_eq!(judged(1, 1, 0), ["neighbour_disturbed"]);
        assert_eq!(judged(1, 2, 2), ["not_proven"]);
        assert_eq!(judged(1, 3, 2), ["neighbour_disturbed", "not_proven"]);
    }

    #[test]
    fn percentiles() {
        let times: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!((at(&times, 50), at(&times, 99), at(&[], 99), at(&[3.0], 1)), (50.0, 99.0, 0.0, 3.0));
    }
}
