//! Metrics as text: OpenMetrics with exemplars for whoever asks for it, else the classic format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use metrics::Unit;

use super::histogram::{BOUNDS, Histogram};
use super::recorder::{Family, Kind, Recorder, Series, plain};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus, version 0.0.4: understood by everything, has no exemplars.
    Classic,
    /// OpenMetrics 1.0, with exemplars.
    OpenMetrics,
}

impl Format {
    /// Its `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes all metrics.
pub(super) fn write(recorder: &Recorder, format: Format) -> String {
    let mut text = String::with_capacity(16 * 1024);
    for (name, family) in recorder.families().iter() {
        // Writing to a string does not fail.
        let _ = write_family(&mut text, name, family, format);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

fn write_family(text: &mut String, name: &str, family: &Family, format: Format) -> std::fmt::Result {
    let unit = match family.unit {
        Some(Unit::Seconds) => Some("seconds"),
        Some(Unit::Bytes) => Some("bytes"),
        _ => None,
    };
    let mut name = plain(name);
    if let Some(unit) = unit.filter(|unit| !name.ends_with(unit)) {
        let _ = write!(name, "_{unit}");
    }
    let kind = match family.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let sample = if family.kind == Kind::Counter { format!("{name}_total") } else { name.clone() };
    let described = if format == Format::Classic { &sample } else { &name };
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"");
    writeln!(text, "# HELP {described} {help}")?;
    writeln!(text, "# TYPE {described} {kind}")?;
    if let Some(unit) = unit.filter(|_| format == Format::OpenMetrics) {
        writeln!(text, "# UNIT {described} {unit}")?;
    }
    for (labels, series) in &family.series {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        match series {
            Series::Counter(count) => writeln!(text, "{sample}{braced} {}", count.load(Ordering::Relaxed))?,
            Series::Gauge(bits) => {
                writeln!(text, "{sample}{braced} {}", f64::from_bits(bits.load(Ordering::Relaxed)))?;
            }
            Series::Histogram(histogram) => write_histogram(text, &name, labels, &braced, histogram, format)?,
        }
    }
    Ok(())
}

fn write_histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    braced: &str,
    histogram: &Histogram,
    format: Format,
) -> std::fmt::Result {
    let snapshot = histogram.snapshot();
    let comma = if labels.is_empty() { "" } else { "," };
    let mut count = 0;
    for (at, (in_bucket, exemplar)) in snapshot.buckets.iter().enumerate() {
        count += in_bucket;
        let bound = match (BOUNDS.get(at), format) {
            (None, _) => "+Inf".to_owned(),
            (Some(bound), Format::Classic) => bound.to_string(),
            (Some(bound), Format::OpenMetrics) => format!("{bound:?}"),
        };
        write!(text, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}")?;
        if let Some(seen) = exemplar.filter(|_| format == Format::OpenMetrics) {
            write!(text, " # {{trace_id=\"{}\"}} {} {:.3}", seen.trace, seen.value, seen.at)?;
        }
        text.push('\n');
    }
    writeln!(text, "{name}_sum{braced} {}", snapshot.sum)?;
    writeln!(text, "{name}_count{braced} {count}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::trace::{self, Trace};

    fn recorded() -> Recorder {
        let recorder = Recorder::default();
        metrics::with_local_recorder(&recorder, || {
            metrics::describe_counter!("a.count", "Things \"seen\".");
            metrics::describe_histogram!("b.time", Unit::Seconds, "How long.");
            metrics::counter!("a.count", "pool.name" => "main").increment(3);
            metrics::gauge!("c").set(1.5);
            let time = metrics::histogram!("b.time");
            time.record(0.3);
            let trace = Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
            let waker = std::task::Waker::noop();
            let mut work = std::pin::pin!(trace::within(trace, async { time.record(1.0) }));
            assert!(work.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_ready());
        });
        recorder
    }

    #[test]
    fn classic() {
        let text = write(&recorded(), Format::Classic);
        for line in [
            "# TYPE a_count_total counter",
            "a_count_total{pool_name=\"main\"} 3",
            "# TYPE b_time_seconds histogram",
            "b_time_seconds_bucket{le=\"1\"} 2",
            "b_time_seconds_bucket{le=\"+Inf\"} 2",
            "b_time_seconds_sum 1.3",
            "b_time_seconds_count 2",
            "c 1.5",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("trace_id") && !text.contains("EOF"));
    }

    #[test]
    fn openmetrics_with_the_trace() {
        let text = write(&recorded(), Format::OpenMetrics);
        for line in ["# TYPE a_count counter", "# UNIT b_time_seconds seconds", "a_count_total{pool_name=\"main\"} 3"] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
        let bucket = text.lines().find(|line| line.starts_with("b_time_seconds_bucket{le=\"1.0\"}")).unwrap();
        assert!(bucket.contains(" 2 # {trace_id=\"4bf92f3577b34da6a3ce929d0e0e4736\"} 1 "), "{bucket}");
        assert!(text.ends_with("\n# EOF\n"));
    }
}
