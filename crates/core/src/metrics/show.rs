//! Figures as text: Prometheus' format 0.0.4, and the JSON that Vault's clients know.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Times;

/// Figures of one name.
#[derive(Debug, Clone)]
pub(crate) struct Family {
    /// Parts with dots between.
    pub(crate) name: &'static str,
    /// One sentence.
    pub(crate) help: &'static str,
    pub(crate) points: Vec<Point>,
}

/// A figure and what tells it from others of its name.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub(crate) labels: Vec<(&'static str, String)>,
    pub(crate) reading: Reading,
}

/// What was read.
#[derive(Debug, Clone)]
pub(crate) enum Reading {
    Counter(u64),
    Gauge(u64),
    /// In seconds, by steps.
    Histogram(Times),
    /// In milliseconds, as Vault has it.
    Summary(Times),
}

impl Point {
    pub(crate) fn plain(reading: Reading) -> Self {
        Self { labels: Vec::new(), reading }
    }
}

/// A counter without labels.
pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Family {
    Family { name, help, points: vec![Point::plain(Reading::Counter(value))] }
}

/// A gauge without labels.
pub(crate) fn gauge(name: &'static str, help: &'static str, value: u64) -> Family {
    Family { name, help, points: vec![Point::plain(Reading::Gauge(value))] }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

fn millis(micros: u64) -> f64 {
    seconds(micros) * 1_000.0
}

/// The text that Prometheus reads.
pub(crate) fn prometheus(families: &[Family], prefix: &str) -> String {
    let mut out = String::new();
    for family in families {
        let Some(first) = family.points.first() else { continue };
        let name = prometheus_name(&named(family.name, prefix));
        let kind = match first.reading {
            Reading::Counter(_) => "counter",
            Reading::Gauge(_) => "gauge",
            Reading::Histogram(_) => "histogram",
            Reading::Summary(_) => "summary",
        };
        let _never_fails = write!(out, "# HELP {name} {}\n# TYPE {name} {kind}\n", family.help);
        for point in &family.points {
            lines(&mut out, &name, point);
        }
    }
    out
}

/// The name with the operator's own word in place of Vault's.
fn named(name: &str, prefix: &str) -> String {
    name.strip_prefix("vault.").map_or_else(|| name.to_owned(), |rest| format!("{prefix}.{rest}"))
}

/// Prometheus knows letters, digits, underscores and colons, and no digit in front.
fn prometheus_name(name: &str) -> String {
    let name: String = name.chars().map(|one| if one.is_ascii_alphanumeric() || one == ':' { one } else { '_' }).collect();
    if name.starts_with(|first: char| first.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn lines(out: &mut String, name: &str, point: &Point) {
    let plain = labels(&point.labels, None);
    let _never_fails = match &point.reading {
        Reading::Counter(value) | Reading::Gauge(value) => writeln!(out, "{name}{plain} {value}"),
        Reading::Summary(times) => {
            writeln!(out, "{name}_sum{plain} {}\n{name}_count{plain} {}", millis(times.sum), times.count)
        }
        Reading::Histogram(times) => {
            let ends = times.steps.iter().map(|(end, below)| (seconds(*end).to_string(), *below));
            for (end, below) in ends.chain([("+Inf".to_owned(), times.count)]) {
                let _never_fails = writeln!(out, "{name}_bucket{} {below}", labels(&point.labels, Some(&end)));
            }
            writeln!(out, "{name}_sum{plain} {}\n{name}_count{plain} {}", seconds(times.sum), times.count)
        }
    };
}

fn labels(labels: &[(&'static str, String)], end: Option<&str>) -> String {
    let all = labels.iter().map(|(name, value)| (*name, value.as_str())).chain(end.map(|end| ("le", end)));
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let parts: Vec<String> = all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

/// The document that Vault's clients know. Figures are since the start, not of the last ten seconds.
pub(crate) fn json(families: &[Family], prefix: &str, now: &str, up: Duration) -> Value {
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    for (family, point) in families.iter().flat_map(|family| family.points.iter().map(move |point| (family, point))) {
        let name = named(family.name, prefix);
        let labels: Map<String, Value> = point.labels.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        match &point.reading {
            Reading::Gauge(value) => gauges.push(json!({ "Name": name, "Value": value, "Labels": labels })),
            Reading::Counter(value) => {
                let one = u8::from(*value > 0);
                counters.push(json!({
                    "Name": name, "Count": value, "Rate": rate(*value, up), "Sum": value,
                    "Min": one, "Max": one, "Mean": one, "Stddev": 0, "Labels": labels,
                }));
            }
            Reading::Histogram(times) => samples.push(sample(&name, times, up, seconds, labels)),
            Reading::Summary(times) => samples.push(sample(&name, times, up, millis, labels)),
        }
    }
    json!({ "Timestamp": now, "Gauges": gauges, "Points": [], "Counters": counters, "Samples": samples })
}

/// The deviation is not kept: it is shown as zero.
fn sample(name: &str, times: &Times, up: Duration, unit: fn(u64) -> f64, labels: Map<String, Value>) -> Value {
    let mean = times.sum.checked_div(times.count).unwrap_or_default();
    json!({
        "Name": name, "Count": times.count, "Rate": rate(times.count, up), "Sum": unit(times.sum),
        "Min": unit(times.least), "Max": unit(times.most), "Mean": unit(mean), "Stddev": 0, "Labels": labels,
    })
}

/// How often per second, by thousandths.
fn rate(count: u64, up: Duration) -> f64 {
    let millis = u64::try_from(up.as_millis()).unwrap_or(u64::MAX).max(1);
    // A thousandth of a rate in thousandths of a second: whole numbers until the last step.
    Duration::from_millis(count.saturating_mul(1_000_000) / millis).as_secs_f64()
}
