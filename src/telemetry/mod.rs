//! Logs on stderr and the recorder of metrics. Installed once, by `main`; nothing else here is global.

mod exposition;
mod gathered;
mod histogram;
mod recorder;

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

pub use exposition::Format;
use gathered::Gathered;
use recorder::Recorder;

/// Lines that may wait for a slow reader of stderr; more are dropped rather than holding up requests.
const BUFFERED_LINES: usize = 32_768;

/// Writes out the lines that still wait when it is dropped. Keep it until the end.
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "held for its drop")] WorkerGuard);

/// Whether `filter` is a level or a filter of `tracing`.
///
/// # Errors
/// If it is neither.
pub fn check_filter(filter: &str) -> Result<(), ParseError> {
    EnvFilter::builder().parse(filter).map(drop)
}

/// Sends log lines to stderr: JSON objects, or text where `json` is false or stderr is a terminal.
///
/// # Errors
/// If `filter` is none. A second installation in one process changes nothing.
pub fn install_logs(json: bool, filter: &str) -> Result<LogGuard, ParseError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let terminal = std::io::stderr().is_terminal();
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .thread_name("log")
        .finish(Gathered::new(std::io::stderr()));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(terminal);
    // An error says that somebody else installed a subscriber: theirs then has the lines.
    let _ = if json && !terminal {
        lines.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        lines.compact().try_init()
    };
    Ok(LogGuard(guard))
}

/// The recorder is the process's; so is what renders it.
static METRICS: OnceLock<Metrics> = OnceLock::new();

/// The metrics of this process. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Metrics(Recorder);

impl Metrics {
    /// All of them, as text.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        exposition::write(&self.0, format)
    }
}

/// There is one recorder of metrics in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a recorder of metrics is installed already")]
pub struct AlreadyInstalled;

/// Installs the recorder of metrics. Whoever keeps handles asks for them afterwards.
///
/// # Errors
/// If one is installed already.
pub fn install_metrics() -> Result<(), AlreadyInstalled> {
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).map_err(|_| AlreadyInstalled)?;
    // A second recorder is refused above, so this is the first.
    let _ = METRICS.set(Metrics(recorder));
    Ok(())
}

/// The metrics, where a recorder is installed.
#[must_use]
pub fn metrics() -> Option<Metrics> {
    METRICS.get().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_filters_from_other_texts() {
        for good in ["info", "warn,tenantry::router=debug"] {
            assert!(check_filter(good).is_ok(), "{good}");
        }
        assert!(check_filter("tenantry=loudly").is_err());
    }
}
