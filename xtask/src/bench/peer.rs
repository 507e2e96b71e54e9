//! The servers that are measured: ours, and a peer that can be installed. Both durable, both with a token that holds `default`.

use super::standin::StandIns;
use crate::http;
use crate::process::{Log, end_tree};
use crate::project::Project;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Which server.
pub(crate) enum Subject {
    Bao(PathBuf),
    Daypass(PathBuf),
}

/// By which way, and with which token, a load reaches a server.
#[derive(Clone, Copy)]
pub(crate) enum Door {
    /// Plain text, with a token that has `default` and one more policy.
    Plain,
    /// TLS, with the same token.
    Tls,
    /// Plain text, with a token that has one policy and not `default`.
    Bare,
}

/// A running server, set up; dropping it ends it.
pub(crate) struct Target {
    child: Child,
    pub(crate) address: SocketAddr,
    /// The same over TLS.
    tls: SocketAddr,
    root: String,
    unseal_key: String,
    /// The configuration that it was started with.
    config: PathBuf,
    binary: PathBuf,
    /// What the load uses: a service token with policies, as a job has.
    pub(crate) token: String,
    /// The same without the policy `default`.
    bare_token: String,
    /// Of an AppRole.
    role: (String, String),
    /// wrk's script.
    pub(crate) script: PathBuf,
}

impl Target {
    /// Ours, with the mounts that mint: `aws` from the AWS of `environment`, `slow` and `tls` from the stand-ins.
    pub(crate) fn daypass(project: &Project, binary: &Path, environment: &[(String, String)], standins: &StandIns) -> Result<Self, String> {
        let folder = fresh(project, "bench-daypass")?;
        let storage = sqlite(&folder);
        let mut command = Command::new(binary);
        command.envs(environment.iter().map(|(name, value)| (name, value))).env("AWS_CA_BUNDLE", &standins.authority);
        let mut target = Self::start(project, "bench/daypass", command, &folder, &storage, "")?;
        target.set_up()?;
        target.call("POST", "sys/mounts/aws", &json!({"type": "aws"}))?;
        let role = json!({"credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging"});
        target.call("POST", "aws/roles/bench", &role)?;
        for (mount, sts) in [("slow", format!("http://{}", standins.slow)), ("tls", format!("https://{}", standins.tls))] {
            target.call("POST", &format!("sys/mounts/{mount}"), &json!({"type": "aws"}))?;
            let keys = json!({"access_key": "AKIABENCHBENCHBENCH0", "secret_key": "bench", "sts_endpoint": sts, "sts_region": "us-east-1"});
            target.call("POST", &format!("{mount}/config/root"), &keys)?;
            target.call("POST", &format!("{mount}/roles/bench"), &role)?;
        }
        Ok(target)
    }

    /// Ours under callgrind, which counts once it is told to.
    pub(crate) fn counted(project: &Project, binary: &Path, out: &Path) -> Result<Self, String> {
        let folder = fresh(project, "bench-counted")?;
        for dump in 1..10 {
            // A dump of an earlier run would be taken for this one's.
            drop(std::fs::remove_file(out.with_extension(format!("out.{dump}"))));
        }
        let mut command = Command::new("valgrind");
        command.args(["-q", "--tool=callgrind", "--instr-atstart=no"]).arg(format!("--callgrind-out-file={}", out.display())).arg(binary);
        let mut target = Self::start(project, "bench/counted", command, &folder, &sqlite(&folder), "")?;
        target.set_up()?;
        target.call("PUT", "bench/data/1", &json!({"data": {"v": "x".repeat(1000)}}))?;
        Ok(target)
    }

    /// Of the process.
    pub(crate) fn id(&self) -> String {
        self.child.id().to_string()
    }

    /// The same request again and again on one connection.
    pub(crate) fn again(&self, path: &str, times: u32) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("GET {path}: {e}");
        let mut stream = TcpStream::connect(self.address).map_err(failed)?;
        let mut reader = BufReader::new(stream.try_clone().map_err(failed)?);
        for _ in 0..times {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nX-Vault-Token: {}\r\n\r\n", self.address, self.token);
            stream.write_all(request.as_bytes()).map_err(failed)?;
            let (mut line, mut length, mut first) = (String::new(), 0, String::new());
            while reader.read_line(&mut line).map_err(failed)? > 2 {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                if first.is_empty() {
                    first.clone_from(&line);
                }
                line.clear();
            }
            if !first.contains(" 200 ") {
                return Err(format!("GET {path} answered {}", first.trim()));
            }
            std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).map_err(failed)?;
        }
        Ok(())
    }

    /// Ours, with a token that may make others.
    pub(crate) fn with_root(project: &Project, name: &str, binary: &Path) -> Result<Self, String> {
        let folder = fresh(project, &format!("bench-{name}"))?;
        let storage = sqlite(&folder);
        let mut target = Self::start(project, &format!("bench/{name}"), Command::new(binary), &folder, &storage, "")?;
        binary.clone_into(&mut target.binary);
        target.set_up()?;
        target.token.clone_from(&target.root);
        Ok(target)
    }

    /// kill -9, another process on the same store, and the time from its exec to the first good answer to a token.
    pub(crate) fn kill_and_start(&mut self) -> Result<Duration, String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.binary.display());
        self.child.kill().map_err(failed)?;
        self.child.wait().map_err(failed)?;
        let began = Instant::now();
        let (out, err) = (std::process::Stdio::null(), std::process::Stdio::null());
        let mut command = Command::new(&self.binary);
        command.arg("server").arg(format!("-config={}", self.config.display())).stdout(out).stderr(err);
        self.child = command.spawn().map_err(failed)?;
        while http::request(self.address, "PUT", "/v1/sys/unseal", &[], &json!({"key": self.unseal_key}).to_string()).is_err() {
            if began.elapsed() > Duration::from_mins(1) {
                return Err("the server did not come back".to_owned());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        if self.is_good(&self.token) { Ok(began.elapsed()) } else { Err("the token is refused after a restart".to_owned()) }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn end(mut self) -> Result<(), String> {
        stop(&mut self.child)
    }

    pub(crate) fn is_good(&self, token: &str) -> bool {
        let header = format!("X-Vault-Token: {token}");
        http::request(self.address, "GET", "/v1/auth/token/lookup-self", &[header], "").is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn new_token(&self) -> Result<String, String> {
        let made = self.call("POST", "auth/token/create", &json!({"policies": ["default"], "ttl": "1h", "no_parent": true}))?;
        Ok(made.pointer("/auth/client_token").and_then(Value::as_str).unwrap_or_default().to_owned())
    }

    /// Asks for it and does not wait for the end.
    pub(crate) fn revoke_all_tokens(&self) -> Result<(), String> {
        self.call("PUT", "sys/leases/revoke-prefix/auth/token/create", &json!({"sync": false})).map(drop)
    }

    /// How many are dealt with; `None` when nothing is being revoked any more.
    pub(crate) fn revoking(&self) -> Result<Option<u64>, String> {
        let shown = self.call("GET", "sys/leases/revoking", &Value::Null)?;
        Ok(shown.pointer("/data/revoking/0").map(|first| first["done"].as_u64().unwrap_or_default()))
    }

    /// Size of the store on disk, with what is not yet written back.
    pub(crate) fn store_bytes(&self) -> Result<u64, String> {
        let store = self.store();
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        match size(&store) + size(&store.with_extension("db-wal")) {
            0 => Err(format!("there is no store at {}", store.display())),
            bytes => Ok(bytes),
        }
    }

    pub(crate) fn bao(project: &Project, binary: &Path) -> Result<Self, String> {
        let folder = fresh(project, "bench-bao")?;
        let storage = format!("storage \"raft\" {{\n  path = \"{}\"\n  node_id = \"one\"\n}}", folder.display());
        let cluster = format!("api_addr = \"http://{{address}}\"\ncluster_addr = \"http://127.0.0.1:{}\"\n", http::free_port()?);
        let mut target = Self::start(project, "bench/bao", Command::new(binary), &folder, &storage, &cluster)?;
        target.set_up()?;
        Ok(target)
    }

    fn start(project: &Project, name: &str, mut command: Command, folder: &Path, storage: &str, more: &str) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let tls = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let mut log = project.log(name)?;
        let (cert, key) = certificate(project, &mut log)?;
        let plain = format!("listener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n}}\n");
        let sealed = format!(
            "listener \"tcp\" {{\n  address = \"{tls}\"\n  tls_cert_file = \"{}\"\n  tls_key_file = \"{}\"\n}}\ndisable_mlock = true\n",
            cert.display(),
            key.display()
        );
        let config = format!("{storage}\n{plain}{sealed}{}", more.replace("{address}", &address.to_string()));
        let file = folder.with_extension("hcl");
        std::fs::write(&file, config).map_err(|e| format!("{}: {e}", file.display()))?;
        let child = log.spawn(command.arg("server").arg(format!("-config={}", file.display())))?;
        let script = project.root.join("bench/request.lua");
        let (root, unseal_key, binary) = (String::new(), String::new(), PathBuf::new());
        let (token, bare_token, role) = (String::new(), String::new(), (String::new(), String::new()));
        let target = Self { child, address, tls, root, unseal_key, config: file, binary, token, bare_token, role, script };
        let began = Instant::now();
        while http::request(address, "GET", "/v1/sys/seal-status", &[], "").is_err() {
            if began.elapsed() > START_MAX {
                return Err(format!("{name} did not answer; see {}", log.path().display()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(target)
    }

    /// Initialises, unseals, and makes the mount and the token that the load uses.
    fn set_up(&mut self) -> Result<(), String> {
        let keys = self.call("PUT", "sys/init", &json!({"secret_shares": 1, "secret_threshold": 1}))?;
        let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        self.root = text(&keys, "/root_token");
        self.unseal_key = text(&keys, "/keys_base64/0");
        self.call("PUT", "sys/unseal", &json!({"key": self.unseal_key}))?;
        let began = Instant::now();
        while let Err(error) = self.call("POST", "sys/mounts/bench", &json!({"type": "kv", "options": {"version": "2"}})) {
            // A server that must first become the leader of itself.
            if began.elapsed() > Duration::from_secs(20) {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        self.call("PUT", "sys/policies/acl/bench", &json!({"policy": rules()}))?;
        let made = self.call("POST", "auth/token/create", &json!({"policies": ["bench"], "ttl": "2h"}))?;
        self.token = text(&made, "/auth/client_token");
        let made = self.call("POST", "auth/token/create", &json!({"policies": ["bench"], "ttl": "2h", "no_default_policy": true}))?;
        self.bare_token = text(&made, "/auth/client_token");
        self.call("POST", "sys/auth/approle", &json!({"type": "approle"}))?;
        self.call("POST", "auth/approle/role/bench", &json!({"token_policies": ["bench"], "token_ttl": "1h"}))?;
        let role_id = self.call("GET", "auth/approle/role/bench/role-id", &Value::Null)?;
        let secret_id = self.call("POST", "auth/approle/role/bench/secret-id", &json!({}))?;
        self.role = (text(&role_id, "/data/role_id"), text(&secret_id, "/data/secret_id"));
        self.call("POST", "sys/mounts/transit", &json!({"type": "transit"}))?;
        self.call("POST", "transit/keys/bench", &json!({}))?;
        std::thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Where a load goes, and with which token.
    pub(crate) fn door(&self, door: Door) -> (String, &str) {
        match door {
            Door::Plain => (format!("http://{}", self.address), &self.token),
            Door::Tls => (format!("https://{}", self.tls), &self.token),
            Door::Bare => (format!("http://{}", self.address), &self.bare_token),
        }
    }

    /// A body with this target's own words in it.
    pub(crate) fn fill_in(&self, body: &str) -> String {
        body.replace("{role_id}", &self.role.0).replace("{secret_id}", &self.role.1)
    }

    /// Has every request written to a file.
    pub(crate) fn audit_to_file(&self) -> Result<(), String> {
        let file = self.config.with_extension("audit.log");
        self.call("POST", "sys/audit/file", &json!({"type": "file", "options": {"file_path": file}})).map(drop)
    }

    /// So many connections, each of which has asked something and then says nothing.
    pub(crate) fn connect(&self, count: usize) -> Result<Vec<TcpStream>, String> {
        let failed = |e: std::io::Error| format!("a connection to {}: {e}", self.address);
        let mut all = Vec::with_capacity(count);
        let mut answer = [0_u8; 4096];
        for _ in 0..count {
            let mut stream = TcpStream::connect(self.address).map_err(failed)?;
            stream.write_all(format!("GET /v1/sys/health HTTP/1.1\r\nHost: {}\r\n\r\n", self.address).as_bytes()).map_err(failed)?;
            if stream.read(&mut answer).map_err(failed)? == 0 {
                return Err(format!("{} hung up", self.address));
            }
            all.push(stream);
        }
        Ok(all)
    }

    /// Secrets to read: 1 KB each.
    pub(crate) fn fill(&self, keys: u32) -> Result<(), String> {
        let body = json!({"data": {"v": "x".repeat(1000)}});
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..16)
                .map(|part| {
                    scope.spawn({
                        let body = &body;
                        move || {
                            (1..=keys)
                                .filter(|key| key % 16 == part)
                                .try_for_each(|key| self.call("PUT", &format!("bench/data/{key}"), body).map(drop))
                        }
                    })
                })
                .collect();
            writers.into_iter().try_for_each(|writer| writer.join().map_err(|_| "a writer died".to_owned())?)
        })
    }

    /// Seconds of processor time so far, user and system.
    pub(crate) fn cpu(&self) -> Result<f64, String> {
        let stat = self.proc("stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let ticks = |index: usize| fields.get(index).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        // Fields 14 and 15 of the file, counted from the state, which is field 3. A tick is 10 ms on Linux.
        Ok((ticks(11) + ticks(12)) / 100.0)
    }

    /// Resident memory in MB.
    pub(crate) fn memory(&self) -> Result<f64, String> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok((line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 100.0).round() / 10.0)
    }

    /// Open file descriptors.
    pub(crate) fn descriptors(&self) -> Result<usize, String> {
        let path = format!("/proc/{}/fd", self.child.id());
        std::fs::read_dir(&path).map(Iterator::count).map_err(|e| format!("{path}: {e}"))
    }

    /// The file that the store is.
    pub(crate) fn store(&self) -> PathBuf {
        self.config.with_extension("").join("store.db")
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))
    }

    pub(super) fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
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

/// A start under callgrind takes long.
const START_MAX: Duration = Duration::from_mins(3);

/// Our store in a folder, as it is configured.
fn sqlite(folder: &Path) -> String {
    format!("storage \"sqlite\" {{\n  path = \"{}\"\n}}", folder.join("store.db").display())
}

/// What the load may do.
fn rules() -> String {
    let rule = |path: &str| format!("path \"{path}\" {{ capabilities = [\"create\", \"read\", \"update\"] }}\n");
    let paths =
        ["bench/*", "aws/sts/*", "slow/sts/*", "tls/sts/*", "transit/encrypt/*", "sys/policies/acl/bench", "auth/token/lookup-self"];
    paths.iter().map(|path| rule(path)).collect::<String>() + &rule("auth/token/create")
}

/// A certificate for this machine, which vouches for itself, and its key.
pub(crate) fn certificate(project: &Project, log: &mut Log) -> Result<(PathBuf, PathBuf), String> {
    let (cert, key) = (project.work.join("bench-tls-cert.pem"), project.work.join("bench-tls-key.pem"));
    if !cert.is_file() || !key.is_file() {
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365"]);
        command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
        command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
        log.run(command.arg("-keyout").arg(&key).arg("-out").arg(&cert))?;
    }
    Ok((cert, key))
}

/// Milliseconds from exec of a dev server to its first healthy answer.
#[expect(clippy::cast_precision_loss, reason = "some seconds at most")]
pub(crate) fn time_to_answer(project: &Project, subject: &Subject) -> Result<f64, String> {
    let (Subject::Bao(binary) | Subject::Daypass(binary)) = subject;
    let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
    let mut command = Command::new(binary);
    command.args(["server", "-dev", "-dev-no-store-token"]).arg(format!("-dev-listen-address={address}"));
    let mut log: Log = project.log("bench/start")?;
    let began = Instant::now();
    let mut child = log.spawn(&mut command)?;
    let healthy = || http::request(address, "GET", "/v1/sys/health", &[], "").is_ok_and(|a| a.status == 200);
    while !healthy() && began.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_micros(500));
    }
    let took = began.elapsed().as_millis();
    stop(&mut child)?;
    Ok(took as f64)
}

/// Asks a server to end, and waits until it has.
fn stop(child: &mut Child) -> Result<(), String> {
    let asked = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().map_err(|e| format!("kill: {e}"))?;
    let status = child.wait().map_err(|e| format!("waiting for the server: {e}"))?;
    if asked.success() && status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
}

fn fresh(project: &Project, name: &str) -> Result<PathBuf, String> {
    let folder = project.work.join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    Ok(folder)
}
