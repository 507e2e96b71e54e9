//! kill -9 under a load of writes, at random moments, again and again on one store. After each restart the server must
//! unseal, every acknowledged write must be there, and no write may be there by half.
//!
//! A KV v2 write is two rows and more (the version, the metadata), so it shows halves: version V must hold the value V,
//! and the metadata must name exactly the versions up to the current one.

use super::{Tally, Verdict};
use crate::http;
use crate::process::Log;
use crate::project::Project;
use crate::server::Server;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KILLS: u64 = 200;
const WRITERS: usize = 4;

pub(super) fn run(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let kills = std::env::var("DAYPASS_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let binary = project.daypass(log)?;
    let folder = project.work.join("crash");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut chance = Chance::new();
    log.step(&format!("{kills} times kill -9 under {WRITERS} writers (seed {})", chance.seed));
    let mut store = Store { project, binary, folder, unseal_key: String::new(), root_token: String::new() };
    store.initialise()?;
    let mut acknowledged = [0_u64; WRITERS];
    let mut tally = Tally::default();
    for round in 1..=kills {
        let delay = Duration::from_millis(20 + chance.next() % 300);
        let found = store.round(&mut acknowledged, delay).map_err(|e| format!("round {round} of {kills} (seed {}): {e}", chance.seed))?;
        if found.is_empty() {
            tally.passed += 1;
        } else {
            tally.failed += 1;
            println!("        round {round} (seed {}): {}", chance.seed, found.join("; "));
        }
        if round % 50 == 0 {
            println!("        {round} of {kills} rounds, {} acknowledged writes", acknowledged.iter().sum::<u64>());
        }
    }
    let writes: u64 = acknowledged.iter().sum();
    log.note(&format!("{writes} acknowledged writes, {} rounds lost one or kept a half", tally.failed));
    // A load that wrote nothing proves nothing.
    if writes < kills { Err(format!("only {writes} writes were acknowledged in {kills} rounds")) } else { Ok(Verdict::Ran(tally)) }
}

struct Store<'a> {
    project: &'a Project,
    binary: PathBuf,
    folder: PathBuf,
    unseal_key: String,
    root_token: String,
}

impl Store<'_> {
    fn start(&self) -> Result<Server, String> {
        let config = format!(
            "storage \"sqlite\" {{\n  path = \"{}\"\n}}\ndisable_mlock = true\nlistener \"tcp\" {{\n  address = \"{{address}}\"\n  tls_disable = true\n}}\n",
            self.folder.join("store.db").display()
        );
        Server::configured(self.project, &self.binary, "crash/server", &config)
    }

    fn initialise(&mut self) -> Result<(), String> {
        let server = self.start()?;
        let body = self.call(server.address, "PUT", "sys/init", r#"{"secret_shares":1,"secret_threshold":1}"#)?;
        let text = |pointer: &str| {
            body.pointer(pointer).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("sys/init answered no {pointer}"))
        };
        self.unseal_key = text("/keys_base64/0")?;
        self.root_token = text("/root_token")?;
        self.unseal(&server)?;
        self.call(server.address, "POST", "sys/mounts/kv", r#"{"type":"kv","options":{"version":"2"}}"#)?;
        Ok(())
    }

    fn unseal(&self, server: &Server) -> Result<(), String> {
        let answer = self.call(server.address, "PUT", "sys/unseal", &format!("{{\"key\":\"{}\"}}", self.unseal_key))?;
        if answer.pointer("/sealed").and_then(Value::as_bool) == Some(false) {
            Ok(())
        } else {
            Err("it does not unseal with its key".to_owned())
        }
    }

    /// Load, kill, restart, look. What is wrong then is returned.
    fn round(&self, acknowledged: &mut [u64; WRITERS], delay: Duration) -> Result<Vec<String>, String> {
        let server = self.start()?;
        self.unseal(&server)?;
        // A mount may still be opening right after unsealing.
        self.ready(server.address)?;
        let stop = AtomicBool::new(false);
        let latest: Vec<AtomicU64> = acknowledged.iter().map(|n| AtomicU64::new(*n)).collect();
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            for (writer, latest) in latest.iter().enumerate() {
                let stop = &stop;
                let address = server.address;
                scope.spawn(move || self.write(address, writer, latest, stop));
            }
            std::thread::sleep(delay);
            // Dropping the server is kill -9.
            drop(server);
            stop.store(true, Ordering::Relaxed);
        });
        let server = self.start()?;
        self.unseal(&server)?;
        self.ready(server.address)?;
        for (writer, (latest, acknowledged)) in latest.iter().zip(acknowledged.iter_mut()).enumerate() {
            match self.check(server.address, writer, latest.load(Ordering::Relaxed)) {
                Ok(current) => *acknowledged = current,
                Err(wrong) => found.push(wrong),
            }
        }
        Ok(found)
    }

    /// Writes value V as version V until the server is gone.
    fn write(&self, address: SocketAddr, writer: usize, latest: &AtomicU64, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let next = latest.load(Ordering::Relaxed) + 1;
            let body = format!("{{\"options\":{{\"cas\":{}}},\"data\":{{\"n\":{next}}}}}", next - 1);
            if self.call(address, "PUT", &format!("kv/data/w{writer}"), &body).is_err() {
                return;
            }
            latest.store(next, Ordering::Relaxed);
        }
    }

    /// The current version, when all is well: at least the acknowledged one, and at most the one in flight besides.
    fn check(&self, address: SocketAddr, writer: usize, acknowledged: u64) -> Result<u64, String> {
        let number = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let metadata = self.call(address, "GET", &format!("kv/metadata/w{writer}"), "")?;
        let current = number(&metadata, "/data/current_version");
        if current < acknowledged || current > acknowledged + 1 {
            return Err(format!("w{writer}: {acknowledged} writes were acknowledged, {current} are there"));
        }
        if current == 0 {
            return Ok(0);
        }
        let versions = metadata.pointer("/data/versions").and_then(Value::as_object).map_or(0, serde_json::Map::len) as u64;
        let oldest = number(&metadata, "/data/oldest_version").max(1);
        if versions != current - oldest + 1 {
            return Err(format!("w{writer}: the metadata names {versions} versions from {oldest} to {current}"));
        }
        let data = self.call(address, "GET", &format!("kv/data/w{writer}"), "")?;
        let (version, value) = (number(&data, "/data/metadata/version"), number(&data, "/data/data/n"));
        if version != current || value != current {
            return Err(format!("w{writer}: version {current} in the metadata, version {version} with value {value} in the data"));
        }
        Ok(current)
    }

    fn ready(&self, address: SocketAddr) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.call(address, "GET", "kv/config", "") {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() > Duration::from_secs(10) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn call(&self, address: SocketAddr, method: &str, path: &str, body: &str) -> Result<Value, String> {
        let header = format!("X-Vault-Token: {}", self.root_token);
        let answer = http::request(address, method, &format!("/v1/{path}"), &[header], body)?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{method} {path} answered {}: {}", answer.status, answer.body));
        }
        if answer.body.is_empty() {
            Ok(Value::Null)
        } else {
            serde_json::from_str(&answer.body).map_err(|e| format!("{method} {path}: {e}"))
        }
    }
}

/// xorshift64*, seeded by the clock; the seed is printed.
struct Chance {
    seed: u64,
    state: u64,
}

impl Chance {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.subsec_nanos().into()) | 1;
        let seed = std::env::var("DAYPASS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(now);
        Self { seed, state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }
}
