//! How many connections of one server are opened at once. It finds its own value.
//!
//! Starting a backend is processor work of the server: more at once than it has processors to spare make each slower
//! and none earlier. As in TCP Vegas (Brakmo and Peterson, 1995), the time of an opening against the shortest one seen
//! tells how many of those under way only wait: with few the limit grows, with many it shrinks.

use std::time::Duration;

/// Where a new server begins.
const FIRST: f64 = 4.0;
const LEAST: f64 = 2.0;
const MOST: f64 = 32.0;
/// Waiting openings below which the limit grows.
const FEW: f64 = 2.0;
/// Waiting openings above which it shrinks.
const MANY: f64 = 4.0;
/// Weight of the newest opening in the average.
const NEWEST: f64 = 0.1;
/// An opening that takes so many times the average is not worked on, but waits for something else than the processor.
const HANGS: f64 = 10.0;
/// Shorter than this none hangs.
const HANGS_FROM: Duration = Duration::from_millis(250);
/// After so many openings the shortest time is measured anew: the server may have become another.
const MEASURE_EVERY: u32 = 512;
/// Openings, one at a time, that measure it.
const MEASURE_WITH: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Openings {
    limit: f64,
    shortest: f64,
    average: f64,
    since_measured: u32,
    /// Times measured so far in a measurement that is under way.
    measuring: Option<(u32, f64)>,
}

impl Openings {
    pub(super) const fn new() -> Self {
        Self { limit: FIRST, shortest: f64::INFINITY, average: 0.0, since_measured: 0, measuring: None }
    }

    /// The most connections that may be opening now.
    pub(super) const fn limit(&self) -> usize {
        if self.measuring.is_some() { 1 } else { self.limit as usize }
    }

    /// What takes longer hangs, and does not count against the limit.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs_f64(self.average * HANGS).max(HANGS_FROM)
    }

    /// An opening took this long, while `under_way` were (itself included).
    pub(super) fn took(&mut self, time: Duration, under_way: usize) {
        // What it waited for beyond that says nothing of the processor; a server that became slow is known soon all the same.
        let time = time.min(self.patience()).as_secs_f64().max(1e-6);
        if let Some((times, shortest)) = self.measuring {
            // Those that began before do not count.
            if under_way == 1 {
                let (times, shortest) = (times + 1, shortest.min(time));
                self.measuring = (times < MEASURE_WITH).then_some((times, shortest));
                if self.measuring.is_none() {
                    self.shortest = shortest;
                }
            }
            return;
        }
        self.since_measured += 1;
        if self.since_measured >= MEASURE_EVERY {
            self.since_measured = 0;
            self.measuring = Some((0, f64::INFINITY));
        }
        self.shortest = self.shortest.min(time);
        self.average = if self.average == 0.0 { time } else { self.average + (time - self.average) * NEWEST };
        let waiting = self.limit * (1.0 - self.shortest / self.average.max(self.shortest));
        // Only a limit that was reached says anything about a higher one.
        if waiting < FEW && under_way >= self.limit as usize {
            self.limit += 1.0 / self.limit;
        } else if waiting > MANY {
            self.limit -= 1.0 / self.limit;
        }
        self.limit = self.limit.clamp(LEAST, MOST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with `processors` that each spend `work` on an opening.
    fn settle(processors: f64, work: Duration) -> usize {
        let mut openings = Openings::new();
        for round in 0..4000_u32 {
            let under_way = openings.limit();
            let spread = 1.0 + f64::from(round % 5) / 20.0;
            let time = work.mul_f64((under_way as f64 / processors).max(1.0) * spread);
            openings.took(time, under_way);
        }
        openings.limit()
    }

    #[test]
    fn finds_what_the_server_bears() {
        let work = Duration::from_millis(3);
        assert!((2..=6).contains(&settle(2.0, work)), "{}", settle(2.0, work));
        assert!((10..=18).contains(&settle(12.0, work)), "{}", settle(12.0, work));
        assert!(settle(1000.0, work) >= 20);
    }

    #[test]
    fn few_openings_say_nothing_about_more() {
        let mut openings = Openings::new();
        for _ in 0..1000 {
            openings.took(Duration::from_millis(3), 1);
        }
        assert_eq!(openings.limit(), FIRST as usize);
    }

    #[test]
    fn what_takes_ten_times_as_long_as_usual_hangs() {
        let mut openings = Openings::new();
        assert_eq!(openings.patience(), HANGS_FROM, "nothing is known yet");
        for _ in 0..100 {
            openings.took(Duration::from_millis(3), 1);
        }
        assert_eq!(openings.patience(), HANGS_FROM);
        for _ in 0..100 {
            openings.took(Duration::from_millis(100), 1);
        }
        assert!(openings.patience() > Duration::from_millis(900), "{:?}", openings.patience());
    }

    #[test]
    fn one_that_hung_does_not_make_the_next_look_well() {
        let mut openings = Openings::new();
        for _ in 0..100 {
            openings.took(Duration::from_millis(3), 1);
        }
        let limit = openings.limit();
        openings.took(Duration::from_secs(5), 1);
        assert!(openings.patience() < 2 * HANGS_FROM && openings.limit() == limit, "{openings:?}");
    }
}
