//! Logs on stderr and the recorder of metrics. Installed once, by `main`; nothing else here is global.

use std::io::IsTerminal as _;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Upper bounds of the buckets of durations, in seconds.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
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
        .finish(std::io::stderr());
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
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder of metrics.
///
/// # Errors
/// If one is installed already.
pub fn install_metrics() -> Result<(), BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?
        .install_recorder()?;
    // A second recorder is refused above, so this is the first handle.
    let _ = METRICS.set(handle);
    Ok(())
}

/// What renders the metrics, where a recorder is installed.
#[must_use]
pub fn metrics() -> Option<PrometheusHandle> {
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
