//! The servers that are measured: ours, and a peer. Both durable, both with the same mounts, policies and tokens.

use crate::http;
use crate::process::end_tree;
use crate::project::Project;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A running server, set up; dropping it ends it.
pub(crate) struct Target {
    child: Child,
    pub(crate) address: SocketAddr,
    root: String,
    /// What the load uses: a service token with `default` and a policy, as a job has.
    pub(crate) token: String,
    /// The same without `default`.
    pub(crate) bare_token: String,
    /// wrk's script.
    pub(crate) script: PathBuf,
}

/// How our server is started: on the same files again and again.
pub(crate) struct Ours {
    binary: PathBuf,
    config: PathBuf,
    environment: Vec<(String, String)>,
}

impl Ours {
    /// Writes a configuration with a key-file seal and an empty SQLite store.
    pub(crate) fn new(project: &Project, binary: &Path, environment: &[(String, String)]) -> Result<Self, String> {
        let folder = fresh(project, "bench-daypass")?;
        let config = folder.join("daypass.hcl");
        let text = format!(
            "storage \"sqlite\" {{\n  path = \"{}\"\n}}\nseal \"keyfile\" {{\n  path = \"{}\"\n}}\n",
            folder.join("store.db").display(),
            folder.join("seal.key").display()
        );
        std::fs::write(&config, text).map_err(|e| format!("{}: {e}", config.display()))?;
        Ok(Self { binary: binary.to_path_buf(), config, environment: environment.to_vec() })
    }

    /// Starts the server at a free port. Returns it with the time from its start to its first answer whose status is `wanted`.
    pub(crate) fn start(&self, project: &Project, wanted: u16) -> Result<(Target, Duration), String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let listener = self.config.with_file_name("listener.hcl");
        let text = format!("listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n}}\ndisable_mlock = true\n");
        std::fs::write(&listener, text).map_err(|e| format!("{}: {e}", listener.display()))?;
        let mut command = clean(&self.binary);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg("server").arg(format!("-config={}", self.config.display())).arg(format!("-config={}", listener.display()));
        start(project, "bench/daypass", &mut command, address, &[wanted])
    }

    /// The store's bytes on disk, its journal among them.
    pub(crate) fn disk(&self) -> u64 {
        let sizes = ["store.db", "store.db-wal", "store.db-shm"].map(|name| std::fs::metadata(self.config.with_file_name(name)));
        sizes.into_iter().flatten().map(|m| m.len()).sum()
    }
}

impl Target {
    /// Ours, with everything that the workloads want.
    pub(crate) fn daypass(project: &Project, ours: &Ours) -> Result<Self, String> {
        let (mut target, _) = ours.start(project, 501)?;
        target.set_up(&json!({"recovery_shares": 1, "recovery_threshold": 1}))?;
        target.call("POST", "sys/mounts/aws", &json!({"type": "aws"}))?;
        let role = json!({"credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging"});
        target.call("POST", "aws/roles/bench", &role)?;
        Ok(target)
    }

    /// OpenBao on its integrated storage, everything as it is by default.
    pub(crate) fn bao(project: &Project, binary: &Path) -> Result<Self, String> {
        let folder = fresh(project, "bench-bao")?;
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let cluster = http::free_port()?;
        let file = folder.with_extension("hcl");
        let text = format!(
            "storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n}}\nlistener \"tcp\" {{\n  address = \"{address}\"\n  \
             tls_disable = true\n}}\napi_addr = \"http://{address}\"\ncluster_addr = \"http://127.0.0.1:{cluster}\"\n",
            folder.display()
        );
        std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut command = clean(binary);
        command.arg("server").arg(format!("-config={}", file.display()));
        let (mut target, _) = start(project, "bench/bao", &mut command, address, &[501])?;
        target.set_up(&json!({"secret_shares": 1, "secret_threshold": 1}))?;
        Ok(target)
    }

    /// Initialises, unseals where a key is needed, and makes the mount and the tokens that the load uses.
    fn set_up(&mut self, init: &Value) -> Result<(), String> {
        let keys = self.call("PUT", "sys/init", init)?;
        self.root = text(&keys, "/root_token");
        let key = text(&keys, "/keys_base64/0");
        if !key.is_empty() {
            self.call("PUT", "sys/unseal", &json!({ "key": key }))?;
        }
        let began = Instant::now();
        while let Err(error) = self.call("POST", "sys/mounts/bench", &json!({"type": "kv", "options": {"version": "2"}})) {
            // A server that must first become the leader of itself.
            if began.elapsed() > Duration::from_secs(20) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.call("PUT", "sys/policies/acl/bench", &json!({ "policy": RULES }))?;
        let made = self.call("POST", "auth/token/create", &json!({"policies": ["bench"], "ttl": "2h"}))?;
        self.token = text(&made, "/auth/client_token");
        let made = self.call("POST", "auth/token/create", &json!({"policies": ["bench"], "ttl": "2h", "no_default_policy": true}))?;
        self.bare_token = text(&made, "/auth/client_token");
        // A KV mount of the peer prepares itself in the background and refuses until it has.
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Secrets to read: 1 KB each.
    pub(crate) fn fill(&self, keys: u32) -> Result<(), String> {
        let body = json!({"data": {"v": "x".repeat(1000)}});
        let part = |part: u32| {
            let mine = (1..=keys).filter(|key| key % WRITERS == part);
            mine.into_iter().try_for_each(|key| self.call("PUT", &format!("bench/data/{key}"), &body).map(drop))
        };
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..WRITERS).map(|number| scope.spawn(move || part(number))).collect();
            writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer died".to_owned())?)
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in MB (a million bytes).
    pub(crate) fn memory(&self) -> Result<f64, String> {
        let status = proc(self.pid(), "status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0 / 1e6)
    }

    /// Asks it to end in its own time, and waits.
    pub(crate) fn end(mut self) -> Result<(), String> {
        let told = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        told.map_err(|e| format!("kill did not start: {e}"))?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(20) {
            if self.child.try_wait().map_err(|e| e.to_string())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("the server did not end within 20 s of SIGTERM".to_owned())
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let header = format!("X-Vault-Token: {}", self.root);
        let answer = http::request(self.address, method, &format!("/v1/{path}"), &[header], &body.to_string())?;
        if !(200..300).contains(&answer.status) {
            return Err(format!("{method} {path} answered {}: {}", answer.status, answer.body));
        }
        Ok(serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}

/// The fake AWS in a process of its own, so that its work is not counted as the server's.
pub(crate) struct Sandbox {
    child: Child,
    /// What makes a program take it for AWS.
    pub(crate) environment: Vec<(String, String)>,
}

impl Sandbox {
    pub(crate) fn start(project: &Project, daypass: &Path) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let mut log = project.log("bench/sandbox")?;
        let child = log.spawn(clean(daypass).arg("sandbox").arg(format!("-listen={address}")))?;
        let mut sandbox = Self { child, environment: Vec::new() };
        let began = Instant::now();
        while http::request(address, "GET", "/_sandbox/health", &[], "").is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                return Err(format!("the sandbox did not answer; see {}", log.path().display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let text = std::fs::read_to_string(log.path()).map_err(|e| e.to_string())?;
        let exports = text.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        sandbox.environment = exports.map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned())).collect();
        Ok(sandbox)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}

/// Time from exec of a dev server to its first healthy answer.
pub(crate) fn dev_start(project: &Project, binary: &Path) -> Result<Duration, String> {
    let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
    let mut command = clean(binary);
    command.args(["server", "-dev", "-dev-no-store-token"]).arg(format!("-dev-listen-address={address}"));
    start(project, "bench/start", &mut command, address, &[200]).map(|(_, took)| took)
}

/// Seconds of processor time of a process so far, user and system, its children not counted.
pub(crate) fn cpu(pid: u32) -> Result<f64, String> {
    // Fields 14 and 15 of the file.
    fields(&proc(pid, "stat")?, 14)
}

/// The same of our own children that have ended: of wrk.
pub(crate) fn own_children() -> Result<f64, String> {
    // Fields 16 and 17.
    fields(&proc(std::process::id(), "stat")?, 16)
}

/// The sum of two neighbouring fields of `/proc/PID/stat`, in seconds; they are counted from 1.
fn fields(stat: &str, first: usize) -> Result<f64, String> {
    // The name in parentheses may hold anything, so count from the last one: the state behind it is field 3.
    let ticks = |number: usize| {
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        rest.split(' ').nth(number - 3).and_then(|f| f.parse::<f64>().ok())
    };
    let (user, system) = ticks(first).zip(ticks(first + 1)).ok_or("/proc/PID/stat is not as on Linux")?;
    Ok((user + system) / TICKS)
}

fn proc(pid: u32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{pid}/{file}");
    std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))
}

/// Starts a server and waits for its first answer to a health check with one of those statuses.
fn start(
    project: &Project,
    name: &str,
    command: &mut Command,
    address: SocketAddr,
    wanted: &[u16],
) -> Result<(Target, Duration), String> {
    let mut log = project.log(name)?;
    let began = Instant::now();
    let child = log.spawn(command)?;
    let script = project.root.join("bench/request.lua");
    let target = Target { child, address, root: String::new(), token: String::new(), bare_token: String::new(), script };
    let mut last = String::new();
    while began.elapsed() < Duration::from_secs(20) {
        match http::request(address, "GET", "/v1/sys/health", &[], "") {
            Ok(answer) if wanted.contains(&answer.status) => return Ok((target, began.elapsed())),
            Ok(answer) => last = format!("its last answer had status {}", answer.status),
            Err(error) => last = error,
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Err(format!("{name} was not ready within 20 s: {last}; see {}", log.path().display()))
}

/// A command that knows nothing of the developer's own servers and AWS account.
fn clean(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (variable, _) in std::env::vars_os() {
        if ["AWS_", "VAULT_", "BAO_", "DAYPASS_"].iter().any(|prefix| variable.to_string_lossy().starts_with(prefix)) {
            command.env_remove(&variable);
        }
    }
    command
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn fresh(project: &Project, name: &str) -> Result<PathBuf, String> {
    let folder = project.work.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}

/// Clock ticks per second in `/proc`: 100 on every Linux that matters.
pub(crate) const TICKS: f64 = 100.0;
/// Connections that fill the store.
const WRITERS: u32 = 16;
const RULES: &str = "\
path \"bench/*\" { capabilities = [\"create\", \"read\", \"update\"] }
path \"aws/sts/*\" { capabilities = [\"read\", \"update\"] }
path \"auth/token/create\" { capabilities = [\"create\", \"update\"] }
path \"sys/policies/acl/bench\" { capabilities = [\"read\"] }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 0 0 0 0 0 150 50 30 20 20 0 1 0 5";
        assert_eq!(fields(stat, 14), Ok(2.0));
        assert_eq!(fields(stat, 16), Ok(0.5));
        assert!(fields("7", 14).is_err());
    }
}
