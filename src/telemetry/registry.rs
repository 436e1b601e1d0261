//! The registry: counters, gauges and histograms in memory, written out in the Prometheus text format 0.0.4.
//!
//! Bounded (I6): a metric keeps at most [`SERIES_MAX`] series; what comes after is counted under `other`. Reading a value never blocks a
//! writer for longer than a map lookup.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::telemetry::names::{COUNTS_BUCKETS, Kind, Metric, SECONDS_BUCKETS};

/// Most series of one metric. Labels come from closed sets and the configuration, so this is reached only by a defect.
pub const SERIES_MAX: usize = 10_000;
const OTHER: &str = "other";

/// Sums of histograms are kept in millionths, as whole numbers: atomics have no floating point.
const SUM_SCALE: f64 = 1_000_000.0;

#[derive(Debug)]
enum Cell {
    Counter(AtomicU64),
    /// Bits of an `f64`.
    Gauge(AtomicU64),
    Spread {
        bounds: &'static [f64],
        /// One a bound, then one for everything larger.
        buckets: Vec<AtomicU64>,
        sum: AtomicU64,
    },
}

impl Cell {
    fn new(kind: Kind) -> Self {
        let spread = |bounds: &'static [f64]| Self::Spread {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        };
        match kind {
            Kind::Counter | Kind::StoredCounter => Self::Counter(AtomicU64::new(0)),
            Kind::Gauge | Kind::StoredGauge | Kind::StoredSpans => Self::Gauge(AtomicU64::new(0)),
            Kind::Seconds => spread(SECONDS_BUCKETS),
            Kind::Counts => spread(COUNTS_BUCKETS),
        }
    }

    fn add(&self, amount: u64) {
        if let Self::Counter(value) = self {
            value.fetch_add(amount, Ordering::Relaxed);
        }
    }

    fn change(&self, change: impl Fn(f64) -> f64) {
        if let Self::Gauge(bits) = self {
            let _ = bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| Some(change(f64::from_bits(old)).to_bits()));
        }
    }

    fn observe(&self, value: f64) {
        if let Self::Spread { bounds, buckets, sum } = self {
            let value = if value.is_finite() { value.max(0.0) } else { 0.0 };
            let place = bounds.partition_point(|bound| *bound < value);
            if let Some(bucket) = buckets.get(place) {
                bucket.fetch_add(1, Ordering::Relaxed);
            }
            sum.fetch_add((value * SUM_SCALE) as u64, Ordering::Relaxed);
        }
    }
}

type Series = BTreeMap<String, BTreeMap<String, Arc<Cell>>>;

/// All series of all metrics.
#[derive(Debug)]
pub struct Registry {
    /// One a metric, in the order of [`Metric::ALL`].
    families: Vec<RwLock<Series>>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { families: Metric::ALL.iter().map(|_| RwLock::new(Series::new())).collect() }
    }
}

/// Values of a metric's labels, in order; empty text for a label it does not have.
type Labels<'a> = (&'a str, &'a str);

impl Registry {
    fn with(&self, metric: Metric, labels: Labels<'_>, act: impl FnOnce(&Cell)) {
        let Some(family) = self.families.get(metric as usize) else { return };
        {
            let series = family.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(cell) = series.get(labels.0).and_then(|inner| inner.get(labels.1)) {
                return act(cell);
            }
        }
        let mut series = family.write().unwrap_or_else(PoisonError::into_inner);
        let full = series.values().map(BTreeMap::len).sum::<usize>() >= SERIES_MAX;
        let second = if labels.1.is_empty() { "" } else { OTHER };
        let (first, second) = if full { (OTHER, second) } else { labels };
        let cell =
            series.entry(first.to_owned()).or_default().entry(second.to_owned()).or_insert_with(|| Arc::new(Cell::new(metric.kind())));
        let cell = Arc::clone(cell);
        drop(series);
        act(&cell);
    }

    /// Adds to a counter.
    pub fn add(&self, metric: Metric, labels: Labels<'_>, amount: u64) {
        self.with(metric, labels, |cell| cell.add(amount));
    }

    /// Sets a gauge.
    pub fn set(&self, metric: Metric, labels: Labels<'_>, value: f64) {
        self.with(metric, labels, |cell| cell.change(|_| value));
    }

    /// Moves a gauge.
    pub fn shift(&self, metric: Metric, labels: Labels<'_>, by: f64) {
        self.with(metric, labels, |cell| cell.change(|old| old + by));
    }

    /// Adds one observation to a histogram.
    pub fn observe(&self, metric: Metric, labels: Labels<'_>, value: f64) {
        self.with(metric, labels, |cell| cell.observe(value));
    }

    /// Forgets all series of a metric whose first label is `first`.
    pub fn forget(&self, metric: Metric, first: &str) {
        if let Some(family) = self.families.get(metric as usize) {
            family.write().unwrap_or_else(PoisonError::into_inner).remove(first);
        }
    }

    /// Value of a counter or gauge, number of observations of a histogram; for tests and the status page.
    pub fn value(&self, metric: Metric, labels: Labels<'_>) -> Option<f64> {
        let series = self.families.get(metric as usize)?.read().unwrap_or_else(PoisonError::into_inner);
        let cell = series.get(labels.0)?.get(labels.1)?;
        Some(match cell.as_ref() {
            Cell::Counter(value) => value.load(Ordering::Relaxed) as f64,
            Cell::Gauge(bits) => f64::from_bits(bits.load(Ordering::Relaxed)),
            Cell::Spread { buckets, .. } => buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum::<u64>() as f64,
        })
    }

    /// Writes one family, unless it has no series.
    pub fn write(&self, metric: Metric, out: &mut String) {
        let Some(family) = self.families.get(metric as usize) else { return };
        let series = family.read().unwrap_or_else(PoisonError::into_inner);
        if series.is_empty() {
            return;
        }
        write_head(metric, out);
        for (first, inner) in series.iter() {
            for (second, cell) in inner {
                write_cell(metric, (first, second), cell, out);
            }
        }
    }
}

/// The `# HELP` and `# TYPE` lines.
pub fn write_head(metric: Metric, out: &mut String) {
    let help = metric.help().replace('\\', "\\\\").replace('\n', "\\n");
    let _ = writeln!(out, "# HELP {} {help}", metric.name());
    let _ = writeln!(out, "# TYPE {} {}", metric.name(), metric.kind().word());
}

/// One sample line.
pub fn write_sample(metric: Metric, suffix: &str, labels: Labels<'_>, bound: Option<&str>, value: f64, out: &mut String) {
    out.push_str(metric.name());
    out.push_str(suffix);
    let mut open = '{';
    let values = [labels.0, labels.1];
    for (name, text) in metric.labels().iter().zip(values) {
        let _ = write!(out, "{open}{name}=\"");
        escape(text, out);
        out.push('"');
        open = ',';
    }
    if let Some(bound) = bound {
        let _ = write!(out, "{open}le=\"{bound}\"");
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

fn write_cell(metric: Metric, labels: Labels<'_>, cell: &Cell, out: &mut String) {
    match cell {
        Cell::Counter(value) => write_sample(metric, "", labels, None, value.load(Ordering::Relaxed) as f64, out),
        Cell::Gauge(bits) => write_sample(metric, "", labels, None, f64::from_bits(bits.load(Ordering::Relaxed)), out),
        Cell::Spread { bounds, buckets, sum } => {
            // Read once: `_count` must equal the last bucket in every scrape, whatever is observed meanwhile.
            let counts: Vec<u64> = buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
            let mut total = 0u64;
            for (place, count) in counts.iter().enumerate() {
                total = total.saturating_add(*count);
                let bound = bounds.get(place).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
                write_sample(metric, "_bucket", labels, Some(&bound), total as f64, out);
            }
            write_sample(metric, "_sum", labels, None, sum.load(Ordering::Relaxed) as f64 / SUM_SCALE, out);
            write_sample(metric, "_count", labels, None, total as f64, out);
        }
    }
}

/// Escapes a label's value: backslash, quote and line feed (exposition format 0.0.4).
fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_into_the_bucket_of_its_bound() {
        let registry = Registry::default();
        for value in [0.000_25, 0.01, 700.0] {
            registry.observe(Metric::CommitSeconds, ("", ""), value);
        }
        let mut text = String::new();
        registry.write(Metric::CommitSeconds, &mut text);
        assert!(text.contains("omnigate_commit_seconds_bucket{le=\"0.00025\"} 1\n"), "{text}");
        assert!(text.contains("omnigate_commit_seconds_bucket{le=\"0.01\"} 2\n"), "{text}");
        assert!(text.contains("omnigate_commit_seconds_bucket{le=\"600\"} 2\n"), "{text}");
        assert!(text.contains("omnigate_commit_seconds_bucket{le=\"+Inf\"} 3\n"), "{text}");
        assert!(text.contains("omnigate_commit_seconds_count 3\n"), "{text}");
    }

    #[test]
    fn label_values_are_escaped() {
        let registry = Registry::default();
        registry.add(Metric::Refused, ("a\"b\\c\nd", "signature"), 2);
        let mut text = String::new();
        registry.write(Metric::Refused, &mut text);
        assert!(text.contains(r#"omnigate_refused_total{hook="a\"b\\c\nd",code="signature"} 2"#), "{text}");
    }

    #[test]
    fn series_beyond_the_limit_are_counted_together() {
        let registry = Registry::default();
        for number in 0..SERIES_MAX + 5 {
            registry.add(Metric::Pulled, (&format!("c{number}"), ""), 1);
        }
        assert_eq!(registry.value(Metric::Pulled, ("other", "")), Some(5.0));
    }
}
