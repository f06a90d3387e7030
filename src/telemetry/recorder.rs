//! Keeps what the `metrics` facade is told. Looking up a series takes a lock and allocates: whoever records often keeps
//! the handle, which is a few atomics.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use metrics::{Counter, Gauge, Histogram as HistogramHandle, Key, KeyName, Label, Metadata, SharedString, Unit};

use super::histogram::Histogram;

/// Series of one metric. What comes after shares one, as OpenTelemetry has it: no client can make labels without end.
const MAX_SERIES: usize = 2_000;
const OVERFLOW: &str = "otel_metric_overflow=\"true\"";

/// What kind of metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

#[derive(Debug, Clone)]
pub(super) enum Series {
    Counter(Arc<AtomicU64>),
    /// The bits of an `f64`.
    Gauge(Arc<AtomicU64>),
    Histogram(Arc<Histogram>),
}

/// A metric with all its series.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) kind: Kind,
    pub(super) unit: Option<Unit>,
    pub(super) help: SharedString,
    /// By their labels as they are written.
    pub(super) series: BTreeMap<String, Series>,
}

/// All metrics by name. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder(Arc<RwLock<BTreeMap<String, Family>>>);

impl Recorder {
    /// Everything that was recorded.
    pub(super) fn families(&self) -> RwLockReadGuard<'_, BTreeMap<String, Family>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn describe(&self, name: &KeyName, kind: Kind, unit: Option<Unit>, help: SharedString) {
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name.as_str().to_owned()).or_insert_with(|| Family::new(kind));
        (family.unit, family.help) = (unit, help);
    }

    /// The series of a key. `None` if its name is that of another kind of metric.
    fn series(&self, key: &Key, kind: Kind) -> Option<Series> {
        let labels = labels(key.labels());
        if let Some(family) = self.families().get(key.name())
            && let Some(series) = family.series.get(&labels)
        {
            return (family.kind == kind).then(|| series.clone());
        }
        let mut families = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(key.name().to_owned()).or_insert_with(|| Family::new(kind));
        let labels = if family.series.len() < MAX_SERIES { labels } else { OVERFLOW.to_owned() };
        let series = family.series.entry(labels).or_insert_with(|| Series::new(family.kind));
        (family.kind == kind).then(|| series.clone())
    }
}

impl Family {
    fn new(kind: Kind) -> Self {
        Self { kind, unit: None, help: SharedString::const_str(""), series: BTreeMap::new() }
    }
}

impl Series {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(Arc::default()),
            Kind::Gauge => Self::Gauge(Arc::default()),
            Kind::Histogram => Self::Histogram(Arc::default()),
        }
    }
}

/// `a="1",b="2"`, escaped, in the order of the names.
fn labels<'a>(labels: impl Iterator<Item = &'a Label>) -> String {
    let mut pairs: Vec<String> = labels
        .map(|label| {
            let value = label.value().replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            format!("{}=\"{value}\"", plain(label.key()))
        })
        .collect();
    pairs.sort_unstable();
    pairs.join(",")
}

/// A dotted name in the letters that Prometheus takes everywhere.
pub(super) fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, Kind::Counter, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, Kind::Gauge, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, Kind::Histogram, unit, description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        match self.series(key, Kind::Counter) {
            Some(Series::Counter(counter)) => Counter::from_arc(counter),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match self.series(key, Kind::Gauge) {
            Some(Series::Gauge(gauge)) => Gauge::from_arc(gauge),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> HistogramHandle {
        match self.series(key, Kind::Histogram) {
            Some(Series::Histogram(histogram)) => HistogramHandle::from_arc(histogram),
            _ => HistogramHandle::noop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_a_bound() {
        let recorder = Recorder::default();
        metrics::with_local_recorder(&recorder, || {
            for number in 0..=MAX_SERIES {
                metrics::counter!("many", "number" => number.to_string()).increment(1);
            }
            metrics::counter!("many", "number" => "one more").increment(1);
        });
        let families = recorder.families();
        assert_eq!(families["many"].series.len(), MAX_SERIES + 1);
        assert!(families["many"].series.contains_key(OVERFLOW));
    }

    #[test]
    fn a_name_has_one_kind() {
        let recorder = Recorder::default();
        metrics::with_local_recorder(&recorder, || {
            metrics::counter!("thing").increment(1);
            metrics::gauge!("thing").set(2.0);
        });
        assert_eq!(recorder.families()["thing"].kind, Kind::Counter);
        assert_eq!(labels([Label::new("b.c", "x\"y\n"), Label::new("a", "1")].iter()), r#"a="1",b_c="x\"y\n""#);
    }
}
