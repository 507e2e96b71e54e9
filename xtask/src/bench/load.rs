//! Workloads, and wrk to run them.

use super::peer::Target;
use crate::process::Log;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// One kind of request.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    method: &'static str,
    path: String,
    body: String,
    keys: u32,
    /// Milliseconds that each connection waits before each request.
    pub(crate) pause: u32,
    /// It asks AWS.
    pub(crate) mints: bool,
    /// How many at once: one, where waiting shows, and more, where work shows.
    pub(crate) connections: &'static [u32],
}

/// What one run showed.
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50: String,
    pub(crate) p99: String,
    /// Requests that were answered, those of the moment to warm up included.
    pub(crate) total: u64,
    /// Microseconds of the server's processor time, user and system, per request.
    pub(crate) cpu: f64,
}

impl Workload {
    fn new(name: &'static str, method: &'static str, path: &str, body: &str) -> Self {
        Self { name, method, path: path.to_owned(), body: body.to_owned(), keys: 0, pause: 0, mints: false, connections: &[64] }
    }

    /// Tokens that live for a day, each with its entry in the list of what expires.
    pub(crate) fn token_create() -> Self {
        Self::new("token create", "POST", "/v1/auth/token/create", r#"{"policies":["default"],"ttl":"24h","no_parent":true}"#)
    }

    /// The caller's own token.
    pub(crate) fn look_up() -> Self {
        Self::new("token lookup-self", "GET", "/v1/auth/token/lookup-self", "")
    }
}

pub(crate) fn all(keys: u32) -> Vec<Workload> {
    let (value, mint) = ("x".repeat(1000), "{\"ttl\":\"15m\"}".to_owned());
    let workload = |name, method, path: &str, body: String, keys| Workload {
        name,
        method,
        path: path.to_owned(),
        body,
        keys,
        pause: 0,
        mints: false,
        connections: &[1, 64],
    };
    vec![
        workload("sys/health", "GET", "/v1/sys/health", String::new(), 0),
        workload("token lookup-self", "GET", "/v1/auth/token/lookup-self", String::new(), 0),
        workload("KV v2 read, 1 KB of 10 k keys", "GET", "/v1/bench/data/%d", String::new(), keys),
        workload("KV v2 write, 1 KB, durable", "PUT", "/v1/bench/data/%d", format!("{{\"data\":{{\"v\":\"{value}\"}}}}"), keys),
        Workload { mints: true, ..workload("aws/sts", "PUT", "/v1/aws/sts/bench", mint.clone(), 0) },
        Workload { mints: true, connections: &[64, 256], ..workload(SLOW, "PUT", "/v1/slow/sts/bench", mint.clone(), 0) },
        Workload { mints: true, pause: 100, connections: &[256], ..workload(SLOW_PACED, "PUT", "/v1/slow/sts/bench", mint, 0) },
    ]
}

/// Minting where STS takes its time.
pub(crate) const SLOW: &str = "aws/sts, STS answers in 20 ms";

/// The same by callers that have something else to do: ten requests a second each, so that the machine is not the limit.
const SLOW_PACED: &str = "aws/sts, STS answers in 20 ms, 100 ms between two requests of a caller";

/// Asks the stand-in for STS itself: what no server in between could better.
pub(crate) fn bare(
    log: &mut Log,
    script: &Path,
    address: SocketAddr,
    (connections, pause): (u32, u32),
    seconds: u64,
) -> Result<Figures, String> {
    let body = "Action=AssumeRole&Version=2011-06-15".to_owned();
    let workload = Workload { name: SLOW, method: "POST", path: "/".to_owned(), body, keys: 0, pause, mints: true, connections: &[] };
    let wrk = Wrk { script, address, token: "", connections };
    wrk.run(log, &workload, 1)?;
    figures(&workload, &wrk.run(log, &workload, seconds)?, 0.0)
}

pub(crate) fn run(log: &mut Log, target: &Target, workload: &Workload, connections: u32, seconds: u64) -> Result<Figures, String> {
    // A moment to warm up: connections, caches, and what the one before left to do.
    let wrk = Wrk { script: &target.script, address: target.address, token: &target.token, connections };
    let warm = figures(workload, &wrk.run(log, workload, 1)?, 0.0)?;
    let before = target.cpu()?;
    let text = wrk.run(log, workload, seconds)?;
    let measured = figures(workload, &text, target.cpu()? - before)?;
    Ok(Figures { total: warm.total + measured.total, ..measured })
}

/// What wrk printed, and the seconds of processor time that it took.
fn figures(workload: &Workload, text: &str, cpu: f64) -> Result<Figures, String> {
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
    let cpu = cpu * 1_000_000.0 / total.max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests as wrk prints it")]
    let total = total as u64;
    let rate = word("Requests/sec:", 1).parse().map_err(|e| format!("wrk printed no rate: {e}"))?;
    Ok(Figures { rate, p50: word("50%", 1), p99: word("99%", 1), total, cpu })
}

/// Where the load goes.
struct Wrk<'a> {
    script: &'a Path,
    address: SocketAddr,
    token: &'a str,
    connections: u32,
}

impl Wrk<'_> {
    fn run(&self, log: &mut Log, workload: &Workload, seconds: u64) -> Result<String, String> {
        let mut command = Command::new("wrk");
        command.arg("-t1").arg(format!("-c{}", self.connections)).arg(format!("-d{seconds}s")).arg("--latency").arg("-s").arg(self.script);
        command.arg(format!("http://{}", self.address)).arg("--").args([
            workload.method,
            &workload.path,
            &workload.body,
            &workload.keys.to_string(),
            &workload.pause.to_string(),
        ]);
        command.env("BENCH_TOKEN", self.token);
        log.run(&mut command)
    }
}
