//! Workloads, and wrk to run them.

use super::peer::{Door, Target};
use crate::process::Log;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// One kind of load.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// Requests, each as likely as the others.
    kinds: Vec<Kind>,
    keys: u32,
    /// Milliseconds that each connection waits before each request.
    pub(crate) pause: u32,
    /// It asks AWS: the peer has no such engine.
    pub(crate) mints: bool,
    door: Door,
    /// How many at once: one, where waiting shows, and more, where work shows.
    pub(crate) connections: &'static [u32],
}

#[derive(Clone)]
struct Kind {
    method: &'static str,
    path: String,
    /// `{role_id}` and `{secret_id}` stand for the target's.
    body: String,
}

/// What one run showed. Times in microseconds.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Requests that were answered, those of the moment to warm up included.
    pub(crate) total: u64,
    /// The server's processor time, user and system, per request.
    pub(crate) cpu: f64,
}

impl Workload {
    fn new(name: &'static str, method: &'static str, path: &str, body: &str) -> Self {
        let kinds = vec![Kind { method, path: path.to_owned(), body: body.to_owned() }];
        Self { name, kinds, keys: 0, pause: 0, mints: false, door: Door::Plain, connections: &[64] }
    }

    fn at(mut self, connections: &'static [u32]) -> Self {
        self.connections = connections;
        self
    }

    fn of_keys(mut self, keys: u32) -> Self {
        self.keys = keys;
        self
    }

    fn through(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    fn minting(mut self) -> Self {
        self.mints = true;
        self
    }

    /// Tokens that live for a day, each with its entry in the list of what expires.
    pub(crate) fn token_create() -> Self {
        Self::new("token create", "POST", "/v1/auth/token/create", r#"{"policies":["default"],"ttl":"24h","no_parent":true}"#)
    }

    /// Tokens that live for twenty seconds.
    pub(crate) fn short_token_create() -> Self {
        Self::new("token create", "POST", "/v1/auth/token/create", r#"{"policies":["default"],"ttl":"20s","no_parent":true}"#)
    }

    /// The caller's own token.
    pub(crate) fn look_up() -> Self {
        Self::new("token lookup-self", "GET", "/v1/auth/token/lookup-self", "")
    }

    /// Requests of every kind that a day brings, some more often than others; each caller ten times a second.
    pub(crate) fn everything(keys: u32) -> Self {
        let read = Self::new("", "GET", "/v1/bench/data/%d", "");
        let all = [
            read.clone(),
            read.clone(),
            read.clone(),
            Self::new("", "PUT", "/v1/bench/data/%d", &write()),
            Self::new("", "PUT", "/v1/aws/sts/bench", MINT),
            Self::look_up(),
            Self::new("", "PUT", "/v1/auth/approle/login", LOGIN),
            Self::new("", "POST", "/v1/auth/token/create", r#"{"policies":["default"],"ttl":"1m"}"#),
            Self::new("", "PUT", "/v1/transit/encrypt/bench", &encrypt()),
            Self::new("", "GET", "/v1/sys/policies/acl/bench", ""),
            Self::new("", "GET", "/v1/sys/health", ""),
        ];
        let kinds = all.into_iter().flat_map(|workload| workload.kinds).collect();
        Self { kinds, pause: 100, ..Self::new("everything", "", "", "") }.of_keys(keys).minting()
    }
}

impl Workload {
    /// Logins by these identity tokens; sixty-four callers reach some 180 a second.
    pub(crate) fn logins(tokens: &[String]) -> Self {
        let kind = |token: &String| {
            let body = format!("{{\"role\":\"ci\",\"jwt\":\"{token}\"}}");
            Kind { method: "PUT", path: "/v1/auth/jwt/login".to_owned(), body }
        };
        Self { kinds: tokens.iter().map(kind).collect(), pause: 350, ..Self::new("logins", "", "", "") }
    }
}

/// A secret of 1 KB.
fn write() -> String {
    format!("{{\"data\":{{\"v\":\"{}\"}}}}", "x".repeat(1000))
}

/// 1 KB to encrypt.
fn encrypt() -> String {
    format!("{{\"plaintext\":\"{}\"}}", "eHh4".repeat(333))
}

const MINT: &str = "{\"ttl\":\"15m\"}";
const LOGIN: &str = r#"{"role_id":"{role_id}","secret_id":"{secret_id}"}"#;

/// All that is measured; KV reads and writes are of so many keys.
pub(crate) fn all(keys: u32) -> Vec<Workload> {
    let write = write();
    let both = &[1, 64];
    let read = |name| Workload::new(name, "GET", "/v1/bench/data/%d", "").of_keys(keys);
    let one = |workload: Workload| workload.kinds.into_iter().next();
    let reads = std::iter::repeat_n(one(read("")), 7).flatten();
    let others =
        [Workload::new("", "PUT", "/v1/bench/data/%d", &write), Workload::new("", "PUT", "/v1/aws/sts/bench", MINT), Workload::look_up()];
    let mix = reads.chain(others.into_iter().filter_map(one)).collect();
    vec![
        Workload::new("sys/health", "GET", "/v1/sys/health", "").at(both),
        Workload::look_up().at(both),
        Workload { name: "token lookup-self, TLS", ..Workload::look_up() }.through(Door::Tls),
        Workload { name: "token lookup-self, no default policy", ..Workload::look_up() }.through(Door::Bare).at(&[16]),
        read("KV v2 read, 1 KB of 10 k keys").at(both),
        Workload::new("KV v2 write, 1 KB, durable", "PUT", "/v1/bench/data/%d", &write).of_keys(keys).at(both),
        Workload::new("AppRole login", "PUT", "/v1/auth/approle/login", LOGIN),
        Workload { name: "token create", ..Workload::new("", "POST", "/v1/auth/token/create", r#"{"policies":["default"],"ttl":"1h"}"#) },
        Workload::new("transit encrypt, 1 KB", "PUT", "/v1/transit/encrypt/bench", &encrypt()),
        Workload::new("policy read", "GET", "/v1/sys/policies/acl/bench", ""),
        Workload::new("aws/sts", "PUT", "/v1/aws/sts/bench", MINT).minting().at(both),
        Workload::new("aws/sts, STS over TLS", "PUT", "/v1/tls/sts/bench", MINT).minting().at(&[16]),
        Workload { kinds: mix, ..Workload::new(MIX, "", "", "") }.of_keys(keys).minting(),
        Workload::new(SLOW, "PUT", "/v1/slow/sts/bench", MINT).minting().at(&[64, 256]),
        Workload { pause: 100, ..Workload::new(SLOW_BUSY, "PUT", "/v1/slow/sts/bench", MINT) }.minting().at(&[256]),
        Workload { pause: 1000, ..Workload::new(SLOW_PACED, "PUT", "/v1/slow/sts/bench", MINT) }.minting().at(&[256]),
    ]
}

/// Minting where STS takes its time.
pub(crate) const SLOW: &str = "aws/sts, STS answers in 20 ms";

const MIX: &str = "mix: 70 % KV read, 10 % write, 10 % aws/sts, 10 % lookup";

/// The same by callers that have something else to do, so that the machine is not the limit: ten requests a second each, and one.
const SLOW_BUSY: &str = "aws/sts, STS answers in 20 ms, 100 ms between two requests of a caller";
const SLOW_PACED: &str = "aws/sts, STS answers in 20 ms, a second between two requests of a caller";

/// Asks the stand-in for STS itself: what no server in between could better.
pub(crate) fn bare(
    log: &mut Log,
    script: &Path,
    address: SocketAddr,
    (connections, pause): (u32, u32),
    seconds: u64,
) -> Result<Figures, String> {
    let workload = Workload { pause, ..Workload::new(SLOW, "POST", "/", "Action=AssumeRole&Version=2011-06-15") };
    let wrk = Wrk { script, url: format!("http://{address}"), token: "", connections };
    wrk.run(log, workload.name, &arguments(&workload, None), 1)?;
    figures(&workload, &wrk.run(log, workload.name, &arguments(&workload, None), seconds)?, 0.0)
}

pub(crate) fn run(log: &mut Log, target: &Target, workload: &Workload, connections: u32, seconds: u64) -> Result<Figures, String> {
    // A moment to warm up: connections, caches, and what the one before left to do.
    let (url, token) = target.door(workload.door);
    let wrk = Wrk { script: &target.script, url, token, connections };
    let arguments = arguments(workload, Some(target));
    let warm = figures(workload, &wrk.run(log, workload.name, &arguments, 1)?, 0.0)?;
    let before = target.cpu()?;
    let text = wrk.run(log, workload.name, &arguments, seconds)?;
    let measured = figures(workload, &text, target.cpu()? - before)?;
    Ok(Figures { total: warm.total + measured.total, ..measured })
}

/// What the script is told.
fn arguments(workload: &Workload, target: Option<&Target>) -> Vec<String> {
    let mut all = vec![workload.pause.to_string(), workload.keys.to_string()];
    for kind in &workload.kinds {
        let body = target.map_or_else(|| kind.body.clone(), |target| target.fill_in(&kind.body));
        all.extend([kind.method.to_owned(), kind.path.clone(), body]);
    }
    all
}

/// What wrk printed, and the seconds of processor time that it took.
fn figures(workload: &Workload, text: &str, cpu: f64) -> Result<Figures, String> {
    let refused = text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors"));
    if let Some(refused) = refused {
        return Err(format!("{}: {}", workload.name, refused.trim()));
    }
    let after = |start: &str| text.lines().find_map(|line| line.trim_start().strip_prefix(start)).unwrap_or_default();
    let numbers = |line: &str| line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<f64>>();
    let total: f64 =
        text.lines().find(|l| l.contains(" requests in ")).and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    let cpu = cpu * 1_000_000.0 / total.max(1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests as wrk prints it")]
    let total = total as u64;
    let (rate, percentiles) = (numbers(after("Requests/sec:")), numbers(after("percentiles-us")));
    let ([rate], [p50, p99, p999]) = (rate.as_slice(), percentiles.as_slice()) else {
        return Err(format!("{}: wrk printed no figures", workload.name));
    };
    Ok(Figures { rate: *rate, p50: *p50, p99: *p99, p999: *p999, total, cpu })
}

/// Where the load goes.
struct Wrk<'a> {
    script: &'a Path,
    url: String,
    token: &'a str,
    connections: u32,
}

impl Wrk<'_> {
    fn run(&self, log: &mut Log, what: &str, arguments: &[String], seconds: u64) -> Result<String, String> {
        let mut command = Command::new("wrk");
        command.arg("-t1").arg(format!("-c{}", self.connections)).arg(format!("-d{seconds}s")).arg("--latency").arg("-s").arg(self.script);
        command.arg(&self.url).arg("--").args(arguments);
        command.env("BENCH_TOKEN", self.token);
        log.run(&mut command).map_err(|error| format!("{what}: {error}"))
    }
}
