//! How far longer work has come: a bar on a terminal, a line now and then elsewhere. On stderr.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::fleet::{Progress, StepTime};

/// Without a terminal there is a line so often.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// See the module. What can be counted is drawn from its first count to its last.
#[derive(Debug)]
pub(super) struct Bar {
    draws: bool,
    drawn: Mutex<Option<ProgressBar>>,
    last: Mutex<Instant>,
}

impl Bar {
    pub(super) fn new() -> Self {
        let draws = std::io::stderr().is_terminal();
        Self { draws, drawn: Mutex::new(None), last: Mutex::new(Instant::now()) }
    }

    fn drawn(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.drawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, text: &str) {
        match &*self.drawn() {
            Some(bar) => bar.suspend(|| line(text)),
            None => line(text),
        }
    }
}

fn begin() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {pos}/{len} {wide_bar} {per_sec} ETA {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn line(text: &str) {
    // There is nowhere to say that stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

impl Progress for Bar {
    fn advanced(&self, step: &str, done: i64, total: i64) {
        let (position, length) = (u64::try_from(done).unwrap_or_default(), u64::try_from(total).unwrap_or_default());
        if self.draws {
            let mut drawn = self.drawn();
            let bar = drawn.get_or_insert_with(begin);
            bar.set_message(step.to_owned());
            bar.set_length(length);
            bar.set_position(position);
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_EVERY || done == total {
            *last = Instant::now();
            line(&format!("  {step} {done} of {total}"));
        }
    }

    fn done(&self, step: &StepTime) {
        // One that has come to its end is in the way of the steps that nothing is counted of.
        let over = self.drawn().take_if(|bar| bar.length().is_none_or(|length| bar.position() >= length));
        if let Some(bar) = over {
            bar.finish_and_clear();
        }
        self.say(&format!("  {:20} {:>6} ms", step.name, step.ms));
    }

    fn note(&self, text: &str) {
        self.say(&format!("note: {text}"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.drawn().take() {
            bar.finish_and_clear();
        }
    }
}
