//! Ten thousand logins a minute by identity tokens, for ten minutes, as batch tokens: nothing may stay of them.

use super::load::{self, Workload};
use super::peer::Target;
use crate::install::python;
use crate::process::Log;
use crate::project::Project;
use crate::soak::{self, Found};
use serde_json::json;
use std::path::Path;
use std::process::Command;

/// Different identities that log in.
const IDENTITIES: usize = 50;
/// Logins a second that are asked of the server.
const RATE: f64 = 10_000.0 / 60.0;
/// How much more memory at the end than after the first minute is no leak.
const GROWTH_MAX: f64 = 1.15;

/// Ten minutes, or so many as `DAYPASS_MINUTES` says.
pub(crate) fn run(project: &Project, log: &mut Log, binary: &Path) -> Result<Found, String> {
    super::tools(log)?;
    let identities = Identities::make(project, log, IDENTITIES)?;
    let minutes: u64 = soak::number("DAYPASS_MINUTES", 10);
    let target = Target::with_root(project, "logins", binary)?;
    target.trust(&identities.key)?;
    let load = identities.load();
    let (mut samples, mut figures) = (Vec::new(), Vec::new());
    for minute in 0..=minutes {
        let seen = load::run(log, &target, &load, 64, 58)?;
        let sample = (seen.rate, target.memory()?, target.store_bytes()?);
        println!(
            "        minute {minute} of {minutes}: {:.0} logins a minute, {:.0} µs of CPU each, p99 {:.1} ms, RSS {} MB, store {} bytes",
            seen.rate * 60.0,
            seen.cpu,
            seen.p99 / 1000.0,
            sample.1,
            sample.2
        );
        figures = vec![format!("{:.0} µs of CPU each, p50 {:.1} ms, p99 {:.1} ms", seen.cpu, seen.p50 / 1000.0, seen.p99 / 1000.0)];
        samples.push(sample);
    }
    // The first minute warms up.
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Err("nothing was seen".to_owned()) };
    let least = samples.iter().skip(1).map(|sample| sample.0).fold(f64::MAX, f64::min);
    let most = samples.iter().map(|sample| sample.1).fold(0.0, f64::max);
    figures.extend([
        format!("{:.0} logins a minute at least, for {minutes} minutes, by {} identities", least * 60.0, identities.tokens.len()),
        format!("the store grew by {} bytes", last.2.saturating_sub(first.2)),
        format!("RSS {} MB after the first minute, at most {most} MB", first.1),
    ]);
    let checks = [least >= RATE, last.2 <= first.2, most <= first.1 * GROWTH_MAX];
    Ok(Found::judged(&checks, figures))
}

/// Tokens that a CI service would sign, and the key that says so.
pub(crate) struct Identities {
    pub(crate) key: String,
    tokens: Vec<String>,
}

impl Identities {
    pub(crate) fn make(project: &Project, log: &mut Log, count: usize) -> Result<Self, String> {
        let python = python::ensure(project, log)?.join("python");
        let script = project.root.join("bench/identities.py");
        let text = log.run(Command::new(python).arg("-B").arg(script).arg(count.to_string()))?;
        let (key, tokens) = text.split_once("\n\n").ok_or("no key and tokens were made")?;
        let tokens = tokens.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Self { key: key.trim().to_owned(), tokens })
    }

    /// Logins by them in turn.
    pub(crate) fn load(&self) -> Workload {
        Workload::logins(&self.tokens)
    }
}

impl Target {
    /// Logs pipelines in that bring a token signed by this key.
    pub(crate) fn trust(&self, pem: &str) -> Result<(), String> {
        self.call("POST", "sys/auth/jwt", &json!({"type": "jwt"}))?;
        self.call("POST", "auth/jwt/config", &json!({"jwt_validation_pubkeys": [pem], "bound_issuer": "https://ci.example.com"}))?;
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["daypass"], "bound_claims_type": "glob",
            "bound_claims": {"repository": "acme/*"}, "claim_mappings": {"repository": "repository", "run_id": "run_id"},
            "token_policies": ["default"], "token_ttl": "15m", "token_type": "batch",
        });
        self.call("POST", "auth/jwt/role/ci", &role).map(drop)
    }
}
