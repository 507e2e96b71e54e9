//! Workloads, and wrk to run them.

use super::peer::Target;
use crate::process::Log;
use std::process::Command;

/// One kind of request.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    method: &'static str,
    path: String,
    body: String,
    keys: u32,
    /// It asks AWS.
    pub(crate) mints: bool,
}

/// What one run showed.
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50: String,
    pub(crate) p99: String,
    /// Microseconds of the server's processor time, user and system, per request.
    pub(crate) cpu: f64,
}

pub(crate) fn all(keys: u32) -> Vec<Workload> {
    let value = "x".repeat(1000);
    let workload =
        |name, method, path: &str, body: String, keys| Workload { name, method, path: path.to_owned(), body, keys, mints: false };
    vec![
        workload("sys/health", "GET", "/v1/sys/health", String::new(), 0),
        workload("token lookup-self", "GET", "/v1/auth/token/lookup-self", String::new(), 0),
        workload("KV v2 read, 1 KB of 10 k keys", "GET", "/v1/bench/data/%d", String::new(), keys),
        workload("KV v2 write, 1 KB, durable", "PUT", "/v1/bench/data/%d", format!("{{\"data\":{{\"v\":\"{value}\"}}}}"), keys),
        Workload { mints: true, ..workload("aws/sts", "PUT", "/v1/aws/sts/bench", "{\"ttl\":\"15m\"}".to_owned(), 0) },
    ]
}

pub(crate) fn run(log: &mut Log, target: &Target, workload: &Workload, connections: u32, seconds: u64) -> Result<Figures, String> {
    // A moment to warm up: connections, caches, and what the one before left to do.
    wrk(log, target, workload, connections, 1)?;
    let before = target.cpu()?;
    let text = wrk(log, target, workload, connections, seconds)?;
    let cpu = target.cpu()? - before;
    let refused = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors"));
    if let Some(refused) = refused {
        return Err(format!("{}: {}", workload.name, refused.trim()));
    }
    let word = |line: &str, number: usize| {
        let line = text.lines().find(|l| l.trim_start().starts_with(line) || l.trim_end().ends_with(line)).unwrap_or_default();
        line.split_whitespace().nth(number).unwrap_or_default().to_owned()
    };
    let total: f64 =
        text.lines().find(|l| l.contains(" requests in ")).and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    let rate = word("Requests/sec:", 1).parse().map_err(|e| format!("wrk printed no rate: {e}"))?;
    Ok(Figures { rate, p50: word("50%", 1), p99: word("99%", 1), cpu: cpu * 1_000_000.0 / total.max(1.0) })
}

fn wrk(log: &mut Log, target: &Target, workload: &Workload, connections: u32, seconds: u64) -> Result<String, String> {
    let mut command = Command::new("wrk");
    command.arg("-t1").arg(format!("-c{connections}")).arg(format!("-d{seconds}s")).arg("--latency").arg("-s").arg(&target.script);
    command.arg(format!("http://{}", target.address)).arg("--").args([
        workload.method,
        &workload.path,
        &workload.body,
        &workload.keys.to_string(),
    ]);
    command.env("BENCH_TOKEN", &target.token);
    log.run(&mut command)
}
