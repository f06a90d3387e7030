//! How many connections beyond one for each tenant a server bears. It finds its own value.
//!
//! A tenant's second connection works at the same time as everybody else's first. While the server has processors to
//! spare nobody feels it; when it has none, each such connection takes from those who have one each. So they are asked:
//! what a request of theirs takes now, against what it took them before. The limit follows that ratio as in gradient
//! concurrency limits (Netflix, 2018): it grows while nobody feels it, falls at once when they do, and a value that was
//! felt is tried again ever more rarely. Were the extra connections not the cause, the next ratios show it, and they
//! come back.

use std::time::{Duration, Instant};

/// How often the others are asked while somebody has more than one connection.
pub(in crate::router::pools) const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where a new server begins.
const FIRST: usize = 4;
const MOST: usize = 4096;
/// Requests that say enough.
const ENOUGH: f64 = 32.0;
/// With fewer than that it is judged after this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Below this ratio nobody feels anything.
const UNFELT: f64 = 1.15;
/// Above it everybody does.
const FELT: f64 = 1.35;
/// A ratio that falls by this much shows that the extra connections were the cause.
const CURED: f64 = 0.7;
/// Verdicts within which it does.
const VERDICTS: u32 = 4;
/// How long a limit is kept that was felt above, at first and at most.
const KEEP_FIRST: Duration = Duration::from_secs(5);
const KEEP_MOST: Duration = Duration::from_secs(60);

/// What the tenants with one connection say.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ratios {
    /// The sum of the square roots of each tenant's ratio, by its weight.
    sum: f64,
    /// By how many requests, of each tenant a few.
    weight: f64,
}

impl Ratios {
    /// A tenant's requests took this much longer than before.
    pub(super) fn add(&mut self, ratio: f64, weight: f64) {
        self.sum += weight * ratio.min(10.0).sqrt();
        self.weight += weight;
    }

    /// Their mean, by square roots: few that take long are heard, as a geometric mean would not hear them, and one that
    /// met a lock does not speak for all. 1 without any.
    fn mean(self) -> f64 {
        if self.weight > 0.0 { (self.sum / self.weight).powi(2) } else { 1.0 }
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The limit grows as it is reached.
    Free,
    /// It has just fallen, from `former` and at this ratio: was it the cause?
    Doubt { former: usize, ratio: f64, verdicts: u32 },
    /// It was.
    Kept { until: Instant },
}

/// See the module.
#[derive(Debug)]
pub(super) struct Extras {
    limit: usize,
    phase: Phase,
    keep: Duration,
    ratios: Ratios,
    since: Option<Instant>,
}

/// What is to be done with what the tenants remember.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// Nothing.
    None,
    /// The server has become slower by this factor for other reasons: that is how long requests take now.
    Slower(f64),
}

impl Extras {
    pub(super) const fn new() -> Self {
        Self {
            limit: FIRST,
            phase: Phase::Free,
            keep: KEEP_FIRST,
            ratios: Ratios { sum: 0.0, weight: 0.0 },
            since: None,
        }
    }

    /// The most connections that tenants may hold beyond one each.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Whether nothing is held against anybody.
    pub(super) const fn is_free(&self) -> bool {
        matches!(self.phase, Phase::Free)
    }

    /// A test says what the limit is.
    #[cfg(test)]
    pub(super) const fn set(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Takes in what was seen since the last look, while `extra` such connections were held or on their way out.
    pub(super) fn look(&mut self, ratios: Ratios, extra: usize, now: Instant) -> Verdict {
        self.ratios.sum += ratios.sum;
        self.ratios.weight += ratios.weight;
        let since = *self.since.get_or_insert(now);
        let waited = now.saturating_duration_since(since);
        // Nobody there to feel anything: no need to wait for a word of theirs.
        let nobody = self.ratios.weight == 0.0 && waited >= 2 * LOOK_EVERY;
        if self.ratios.weight < ENOUGH && waited < PATIENCE && !nobody {
            return Verdict::None;
        }
        let ratio = self.ratios.mean();
        (self.ratios, self.since) = (Ratios::default(), Some(now));
        self.judge(ratio, extra, now)
    }

    fn judge(&mut self, ratio: f64, extra: usize, now: Instant) -> Verdict {
        match self.phase {
            Phase::Free if ratio > FELT && extra > 0 => {
                self.phase = Phase::Doubt { former: extra, ratio, verdicts: 0 };
                self.limit = (extra as f64 / (ratio * ratio)) as usize;
            }
            Phase::Free if ratio < UNFELT && extra >= self.limit => {
                self.limit = (self.limit * 2).clamp(1, MOST);
                // It has grown beyond one that was felt.
                if self.limit > 2 {
                    self.keep = KEEP_FIRST;
                }
            }
            Phase::Doubt { ratio: before, .. } if ratio < UNFELT || ratio < CURED * before => {
                self.phase = Phase::Kept { until: now + self.keep };
                self.keep = (self.keep * 2).min(KEEP_MOST);
            }
            Phase::Doubt { former, verdicts, .. } if verdicts + 1 >= VERDICTS && self.limit == 0 => {
                self.phase = Phase::Free;
                self.limit = former;
                return Verdict::Slower(ratio);
            }
            Phase::Doubt { former, ratio: before, verdicts } => {
                self.limit /= 2;
                self.phase = Phase::Doubt { former, ratio: before, verdicts: verdicts + 1 };
            }
            Phase::Kept { .. } if ratio > FELT && extra > 0 => self.limit = 0,
            Phase::Kept { until } if now >= until => {
                self.phase = Phase::Free;
                self.limit += 1;
            }
            Phase::Free | Phase::Kept { .. } => {}
        }
        Verdict::None
    }
}

/// What a request of one tenant takes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    leases: u64,
    micros: u64,
    /// Microseconds, while nobody had more than one connection.
    calm: Option<f64>,
}

/// Of one tenant no more requests than these count in one look: a busy one does not speak for the others.
const COUNTED: f64 = 4.0;
/// Requests after which what was remembered is worth half.
const MEMORY: f64 = 64.0;
/// How much slower it is remembered that requests take longer, while somebody has more than one connection.
const RELUCTANCE: f64 = 16.0;

impl Pace {
    /// Takes in the counts so far. `alone`: the tenant has one connection; `calm`: and so has everybody.
    pub(super) fn look(&mut self, leases: u64, micros: u64, alone: bool, calm: bool) -> Option<(f64, f64)> {
        let (new, took) = (leases.saturating_sub(self.leases) as f64, micros.saturating_sub(self.micros) as f64);
        (self.leases, self.micros) = (leases, micros);
        if !alone || new == 0.0 {
            return None;
        }
        let average = (took / new).max(1.0);
        let known = *self.calm.get_or_insert(average);
        let reluctance = if calm || average < known { 1.0 } else { RELUCTANCE };
        self.calm = Some(known + (average - known) * (new / (MEMORY * reluctance)).min(0.5));
        Some((average / known, new.min(COUNTED)))
    }

    /// Requests take this much longer, and that is not the fault of those with more than one connection.
    pub(super) fn slower(&mut self, factor: f64) {
        self.calm = self.calm.map(|calm| calm * factor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of so many processors: others keep `others` of them at work, and each extra connection one more.
    fn ratio(processors: f64, others: f64, extra: usize) -> f64 {
        ((others + 1.0 + extra as f64) / processors).max(1.0)
    }

    /// Lets one tenant want as many as it may have, for so many looks. The mean of what it held in the second half.
    fn run(extras: &mut Extras, looks: u32, wanted: usize, at: impl Fn(usize) -> f64, start: Instant) -> f64 {
        let mut held = Vec::new();
        for look in 1..=looks {
            let extra = wanted.min(extras.limit());
            let mut ratios = Ratios::default();
            for _ in 0..5 {
                ratios.add(at(extra), 4.0);
            }
            extras.look(ratios, extra, start + LOOK_EVERY * look);
            held.push(extra as f64);
        }
        let half = &held[held.len() / 2..];
        half.iter().sum::<f64>() / half.len() as f64
    }

    #[test]
    fn waiting_costs_nobody_anything() {
        let mut extras = Extras::new();
        assert!(run(&mut extras, 20, 9, |_| 1.05, Instant::now()) > 8.9);
    }

    #[test]
    fn nobody_else_there_means_no_limit() {
        let (mut extras, start) = (Extras::new(), Instant::now());
        for look in 1..=40 {
            extras.look(Ratios::default(), 9.min(extras.limit()), start + LOOK_EVERY * look);
        }
        assert!(extras.limit() >= 9);
    }

    #[test]
    fn what_others_feel_is_taken_back_within_a_few_looks_and_seldom_tried_again() {
        let (mut extras, start) = (Extras::new(), Instant::now());
        let at = |extra| ratio(2.0, 1.1, extra);
        run(&mut extras, 6, 9, at, start);
        assert_eq!(extras.limit(), 0);
        let held = run(&mut extras, 1200, 9, at, start + LOOK_EVERY * 6);
        assert!(held < 0.1, "{held}");
    }

    #[test]
    fn a_bigger_server_bears_more() {
        let mut extras = Extras::new();
        let held = run(&mut extras, 2400, 30, |extra| ratio(16.0, 4.0, extra), Instant::now());
        assert!(held > 4.0, "{held}");
    }

    #[test]
    fn a_server_slow_for_other_reasons_takes_nothing_from_anybody() {
        let (mut extras, start) = (Extras::new(), Instant::now());
        run(&mut extras, 10, 9, |_| 1.0, start);
        let (mut now, mut slower) = (start + LOOK_EVERY * 10, None);
        for _ in 0..10 {
            now += LOOK_EVERY;
            let mut ratios = Ratios::default();
            ratios.add(3.0 / slower.unwrap_or(1.0), 20.0);
            if let Verdict::Slower(factor) = extras.look(ratios, 9.min(extras.limit()), now) {
                slower = Some(factor);
            }
        }
        assert!(slower.is_some_and(|factor| (factor - 3.0).abs() < 0.1), "{slower:?}");
        assert!(extras.limit() >= 9);
    }

    #[test]
    fn a_tenant_remembers_what_a_request_took() {
        let mut pace = Pace::default();
        let (mut leases, mut micros) = (0, 0);
        let mut look = |pace: &mut Pace, each: u64, calm| {
            (leases, micros) = (leases + 8, micros + 8 * each);
            pace.look(leases, micros, true, calm).expect("requests")
        };
        for _ in 0..40 {
            look(&mut pace, 500, true);
        }
        let (ratio, weight) = look(&mut pace, 2000, false);
        assert!((ratio - 4.0).abs() < 0.1 && weight == COUNTED, "{ratio}");
        let (ratio, _) = look(&mut pace, 2000, false);
        assert!(ratio > 3.5, "{ratio}: not forgotten while it lasts");
        pace.slower(4.0);
        assert!((look(&mut pace, 2000, false).0 - 1.0).abs() < 0.2);
        assert!(pace.look(leases + 1, micros + 1, false, false).is_none(), "it has more than one itself");
    }
}
