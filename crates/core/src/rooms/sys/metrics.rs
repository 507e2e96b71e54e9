//! `sys/metrics`: what was counted, with what can be read off at the moment of asking.

use std::sync::Arc;

use daypass_audit::DeviceHealth;
use daypass_base::{Brief, Timestamp};
use daypass_sdk::{Cx, Endpoint, Error, Operation, Outcome, Reply, Result};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::Sys;
use crate::expiry::Oldest;
use crate::metrics::{Family, Point, Reading, counter, gauge, json, prometheus};
use crate::node::{Inner, Unsealed};
use crate::quotas::leases::LeaseQuota;
use crate::respond::{Answer, Content, refusal};
use crate::stages::parse::Parsed;

const TEXT: &str = "text/plain; version=0.0.4";
/// Parked leases that are counted; a person has to look long before there are more.
const PARKED_MAX: u64 = 1_000;

pub(super) fn endpoints() -> Vec<Endpoint<Sys>> {
    vec![
        Endpoint::at(["metrics"])
            .summary("Show the server's metrics.")
            .help("JSON, or with `format=prometheus` or an `Accept` of Prometheus the text that Prometheus reads.")
            .text(TEXT)
            .on(Operation::Read, metrics),
    ]
}

/// How metrics are shown.
#[derive(Debug, Deserialize, JsonSchema)]
struct Wanted {
    /// `prometheus`, or empty for JSON.
    #[serde(default)]
    format: String,
}

async fn metrics(sys: Arc<Sys>, cx: Cx, wanted: Wanted) -> Result<Reply> {
    let accept = cx.request.headers.get("accept").map(String::as_str).unwrap_or_default();
    Ok(match show(&*sys.way.inner()?, &wanted.format, accept).await? {
        Shown::Text(text) => Outcome::Raw(200, TEXT, text.into()).into(),
        Shown::Document(document) => Outcome::Bare(200, document).into(),
    })
}

/// Answers for a listener that lets metrics be read without a token, before quotas, the seal and audit are asked: an alarm has to be heard from a server
/// that is sealed, and from one whose audit devices take nothing.
pub(crate) async fn opened(inner: &Inner, parsed: &Parsed) -> Option<Answer> {
    if parsed.path != "sys/metrics" {
        return None;
    }
    let format = parsed.fields.get("format").and_then(Value::as_str).unwrap_or_default();
    let accept = parsed.headers.get("accept").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let content = match show(inner, format, accept).await {
        Ok(Shown::Text(text)) => Content::Raw(TEXT, text.into()),
        Ok(Shown::Document(document)) => Content::Bare(document),
        Err(error) => return Some(refusal(&error.bare(), &parsed.id)),
    };
    Some(Answer { status: 200, content, ..Answer::default() })
}

enum Shown {
    Text(String),
    Document(Value),
}

/// Errors: `BadRequest` for a format that does not exist.
async fn show(inner: &Inner, format: &str, accept: &str) -> Result<Shown> {
    let text = match format {
        "prometheus" => true,
        "" => accept.starts_with("application/openmetrics-text") || accept.starts_with("text/plain"),
        other => return Err(Error::bad_request(format!("metric response format {:?} unknown", Brief(other)))),
    };
    let shown = &inner.settings.metrics;
    if text && !shown.prometheus {
        return Err(Error::bad_request("prometheus is not enabled"));
    }
    let families = families(inner).await;
    if text {
        return Ok(Shown::Text(prometheus(&families, &shown.prefix)));
    }
    let now = inner.clock.now();
    Ok(Shown::Document(json(&families, &shown.prefix, &now.to_string(), now.since(inner.started))))
}

async fn families(inner: &Inner) -> Vec<Family> {
    let unsealed = inner.unsealed.load_full();
    let serves = u64::from(unsealed.is_some());
    let mut all = vec![
        gauge("vault.core.unsealed", "Whether the server serves.", serves),
        gauge("vault.core.active", "Whether this node answers requests itself.", serves),
        gauge("daypass.store.stopped", "Whether the store takes no writes until a restart.", inner.backend.stopped().is_some().into()),
        gauge("vault.core.in_flight_requests", "Requests that are being answered.", inner.in_flight.count()),
        gauge("daypass.connections.open", "Connections of clients.", inner.settings.connections.open()),
        counter(
            "daypass.connections.closed_for_others",
            "Connections that did nothing and were closed because all were taken and a new one came.",
            inner.settings.connections.closed_for_others(),
        ),
    ];
    if let Some(unsealed) = unsealed {
        all.extend(of_unsealed(inner, &unsealed).await);
    }
    all.extend(inner.metrics.families());
    all.extend(traces(inner));
    all.extend(memory());
    all
}

/// What a server knows while it is unsealed. A figure that the store does not give is left out: the others are wanted then all the more.
async fn of_unsealed(inner: &Inner, unsealed: &Unsealed) -> Vec<Family> {
    let mut irrevocable = 0;
    let count = |_| {
        irrevocable += 1;
        irrevocable < PARKED_MAX
    };
    let counted = unsealed.leases.parked(count).await;
    let mut all = Vec::new();
    match counted {
        Ok(()) => {
            all.push(gauge("vault.expire.num_irrevocable_leases", "Leases that could not be revoked, up to a thousand.", irrevocable));
        }
        Err(error) => tracing::warn!(%error, "leases that could not be revoked are not counted in the metrics"),
    }
    all.extend([
        gauge(
            "daypass.revocation.paused",
            "Whether what has ended is left as it is, as after a restore.",
            unsealed.revocation.is_paused().into(),
        ),
        counter("vault.token.lookup", "Tokens presented since the server was unsealed.", unsealed.tokens.counts.lookups.get()),
        counter(
            "daypass.mints.lost",
            "Mints since the server was unsealed that found no place in the ledger's queue.",
            unsealed.mints.lost.get(),
        ),
        tokens(unsealed),
    ]);
    all.extend(overdue(unsealed.overdue.read(), inner.clock.now()));
    all.extend(lease_quotas(unsealed));
    all.extend(audit(&unsealed.audit.health()));
    all
}

/// How late the expiry worker is.
fn overdue(oldest: Oldest, now: Timestamp) -> [Family; 2] {
    let late = |at: Option<Timestamp>| at.map_or(0, |at| now.since(at).as_secs());
    [
        gauge(
            "daypass.expire.oldest_lease_seconds",
            "Seconds since the oldest lease was due, or due again, whose secret is not taken back yet; 0 while revocation is paused.",
            late(oldest.lease),
        ),
        gauge(
            "daypass.expire.oldest_token_seconds",
            "Seconds since the oldest token was due, or due again, that is not removed yet; 0 while revocation is paused.",
            late(oldest.token),
        ),
    ]
}

/// What became of traces, where they are on.
fn traces(inner: &Inner) -> Vec<Family> {
    let Some(traced) = &inner.settings.traces else { return Vec::new() };
    let counts = traced.sink.counts();
    vec![
        counter("daypass.trace.spans_sent", "Spans that the collector took.", counts.sent),
        counter(
            "daypass.trace.spans_dropped",
            "Spans that are lost: the queue was full, or the collector did not take them.",
            counts.dropped,
        ),
    ]
}

/// The lease-count quotas. Their names are the operator's own.
fn lease_quotas(unsealed: &Unsealed) -> Vec<Family> {
    let counts = unsealed.rows.leases();
    let all = counts.all();
    let family = |name: &'static str, help: &'static str, read: &dyn Fn(&LeaseQuota) -> u64| {
        let point =
            |quota: &Arc<LeaseQuota>| Point { labels: vec![("name", quota.row.name.clone())], reading: Reading::Gauge(read(quota)) };
        Family { name, help, points: all.iter().map(point).collect() }
    };
    vec![
        family("vault.quota.lease_count.counter", "Leases that live below the path of a quota.", &LeaseQuota::live),
        family("vault.quota.lease_count.max", "Leases that may live below the path of a quota.", &|quota| u64::from(quota.row.max)),
        counter("vault.quota.lease_count.violation", "Leases over a lease-count quota.", counts.violations.get()),
    ]
}

fn tokens(unsealed: &Unsealed) -> Family {
    let counts = &unsealed.tokens.counts;
    let of = |kind: &str, count: u64| Point { labels: vec![("token_type", kind.to_owned())], reading: Reading::Counter(count) };
    Family {
        name: "vault.token.creation",
        help: "Tokens made since the server was unsealed.",
        points: vec![of("service", counts.service.get()), of("batch", counts.batch.get())],
    }
}

/// How each audit device fares. Their paths are the operator's own.
fn audit(health: &[DeviceHealth]) -> Vec<Family> {
    let family = |name: &'static str, help: &'static str, read: &dyn Fn(&daypass_audit::SinkHealth) -> Option<Reading>| {
        let points =
            health.iter().filter_map(|device| Some(Point { labels: vec![("device", device.path.clone())], reading: read(&device.sink)? }));
        Family { name, help, points: points.collect() }
    };
    let size = |size: usize| Some(Reading::Gauge(u64::try_from(size).unwrap_or(u64::MAX)));
    vec![
        family("daypass.audit.accepted", "Audit lines that the operating system took.", &|sink| Some(Reading::Counter(sink.accepted))),
        family("daypass.audit.failed", "Audit lines that the operating system refused.", &|sink| Some(Reading::Counter(sink.failed))),
        family("daypass.audit.dropped", "Audit lines that were not even queued.", &|sink| Some(Reading::Counter(sink.dropped))),
        family("daypass.audit.queued_lines", "Audit lines that wait.", &|sink| size(sink.queued_lines)),
        family("daypass.audit.queued_bytes", "Bytes of audit lines that wait.", &|sink| size(sink.queued_bytes)),
        family("daypass.audit.failing", "Whether the last line was refused.", &|sink| Some(Reading::Gauge(sink.failing.into()))),
        family("daypass.audit.free_bytes", "Room for an audit file.", &|sink| sink.space.map(|space| Reading::Gauge(space.free))),
        family("daypass.audit.low_space", "Whether an audit file's disk is nearly full.", &|sink| {
            sink.space.map(|space| Reading::Gauge(space.is_low().into()))
        }),
    ]
}

/// The process's memory, where the system tells.
fn memory() -> Vec<Family> {
    // Not a file on a disk: the kernel writes it out as it is read.
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return Vec::new() };
    let kib = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let resident = kib("VmRSS:").map(|kib| gauge("vault.runtime.alloc_bytes", "Memory in use, in bytes.", kib.saturating_mul(1024)));
    let size = kib("VmSize:").map(|kib| gauge("vault.runtime.sys_bytes", "Address space taken, in bytes.", kib.saturating_mul(1024)));
    let threads = kib("Threads:").map(|count| gauge("daypass.runtime.threads", "Threads of the process.", count));
    [resident, size, threads].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use daypass_audit::{SinkHealth, Space};

    use super::*;

    #[test]
    fn an_audit_file_whose_disk_is_nearly_full_raises_its_alarm_alone() {
        let device = |path: &str, space| DeviceHealth {
            path: path.to_owned(),
            device_type: "file".to_owned(),
            sink: SinkHealth { space, ..SinkHealth::default() },
        };
        let space = |free| Some(Space { free, total: 100 << 30 });
        let text =
            prometheus(&audit(&[device("roomy/", space(90 << 30)), device("full/", space(1 << 20)), device("socket/", None)]), "vault");
        let low: Vec<&str> = text.lines().filter(|line| line.starts_with("daypass_audit_low_space")).collect();
        assert_eq!(low, ["daypass_audit_low_space{device=\"roomy/\"} 0", "daypass_audit_low_space{device=\"full/\"} 1"]);
        assert!(text.contains("daypass_audit_free_bytes{device=\"full/\"} 1048576"), "{text}");
    }

    #[test]
    fn names_begin_with_the_word_of_the_operator() {
        let families = [gauge("vault.core.unsealed", "Help.", 1), gauge("daypass.audit.failing", "Help.", 0)];
        let text = prometheus(&families, "7-my.shop");
        assert!(text.contains("\n_7_my_shop_core_unsealed 1\n") && text.contains("\ndaypass_audit_failing 0\n"), "{text}");
        let shown = json(&families, "shop", "now", std::time::Duration::from_secs(1));
        assert_eq!(shown.pointer("/Gauges/0/Name").and_then(serde_json::Value::as_str), Some("shop.core.unsealed"));
    }
}
