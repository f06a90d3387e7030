//! How far a longer task has come: a bar on a terminal, plain lines elsewhere. On stderr.

use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};

/// Lines of a long task without a terminal: about so many.
const LINES: usize = 20;

/// One task of `total` like things.
#[derive(Debug)]
pub(super) struct Progress {
    what: &'static str,
    total: usize,
    done: AtomicUsize,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(what: &'static str, total: usize) -> Self {
        let bar = (total > LINES && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{prefix} {pos}/{len} {wide_bar} {eta} {msg}");
            let bar = ProgressBar::new(total as u64).with_prefix(what);
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { what, total, done: AtomicUsize::new(0), begun: Instant::now(), bar }
    }

    /// One more is done.
    pub(super) fn done(&self, name: &str) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(name.to_owned());
        } else if self.total <= LINES || done.is_multiple_of(self.total.div_ceil(LINES)) || done == self.total {
            let (what, total) = (self.what, self.total);
            say(&format!("{what} {name} ({done} of {total}, {:.1} s)", self.begun.elapsed().as_secs_f32()));
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line about what is going on.
pub(super) fn say(text: &str) {
    // There is nowhere to say that stderr is gone.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
