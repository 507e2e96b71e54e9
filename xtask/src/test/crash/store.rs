//! The store that outlives its servers, and root who asks them.

use crate::http;
use crate::process::on_path;
use crate::project::Project;
use crate::server::Server;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a server may take from its start until it serves.
const PATIENCE: Duration = Duration::from_secs(20);

/// How the server gets its root key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    KeyFile,
    Share,
}

impl Seal {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::KeyFile => "key file",
            Self::Share => "share",
        }
    }
}

/// One database and what opens it.
pub(super) struct Store<'a> {
    project: &'a Project,
    binary: PathBuf,
    folder: PathBuf,
    pub(super) seal: Seal,
    unseal_key: String,
    root_token: String,
}

impl<'a> Store<'a> {
    pub(super) fn new(project: &'a Project, binary: PathBuf, seal: Seal) -> Result<Self, String> {
        let folder = project.work.join("crash").join(seal.name().replace(' ', "-"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        Ok(Self { project, binary, folder, seal, unseal_key: String::new(), root_token: String::new() })
    }

    pub(super) fn start(&self) -> Result<Server, String> {
        let folder = self.folder.display();
        let seal = match self.seal {
            Seal::KeyFile => format!("seal \"keyfile\" {{\n  path = \"{folder}/key\"\n}}\n"),
            Seal::Share => String::new(),
        };
        let config = format!(
            "storage \"sqlite\" {{\n  path = \"{folder}/store.db\"\n}}\n{seal}disable_mlock = true\nlistener \"tcp\" {{\n  address = \"{{address}}\"\n  tls_disable = true\n}}\n"
        );
        Server::configured(self.project, &self.binary, "crash/server", &config)
    }

    pub(super) fn client(&self, server: &Server) -> Client {
        Client { address: server.address, header: format!("X-Vault-Token: {}", self.root_token) }
    }

    /// The command line as root at that server.
    pub(super) fn cli(&self, server: &Server) -> Command {
        let mut command = Command::new(&self.binary);
        command.env("VAULT_ADDR", format!("http://{}", server.address)).env("VAULT_TOKEN", &self.root_token);
        command
    }

    /// A file beside the store's own folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.with_extension(name)
    }

    /// A file in the store's folder that is neither store nor key.
    pub(super) fn left_over(&self) -> Option<String> {
        let files = std::fs::read_dir(&self.folder).ok()?;
        let names = files.filter_map(|file| Some(file.ok()?.file_name().to_string_lossy().into_owned()));
        names.into_iter().find(|name| {
            !name.starts_with("key") && !["store.db", "store.db-wal", "store.db-shm", "store.db.lock"].contains(&name.as_str())
        })
    }

    /// A first server, initialised, with the mounts that are written to.
    pub(super) fn initialise(&mut self) -> Result<Server, String> {
        let server = self.start()?;
        let shares = match self.seal {
            Seal::KeyFile => r#"{"recovery_shares":1,"recovery_threshold":1}"#,
            Seal::Share => r#"{"secret_shares":1,"secret_threshold":1}"#,
        };
        let body = self.client(&server).call("PUT", "sys/init", shares).map_err(Failure::text)?;
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        self.unseal_key = text("/keys_base64/0").unwrap_or_default();
        self.root_token = text("/root_token").ok_or("sys/init answered no root token")?;
        self.serve(&server)?;
        let client = self.client(&server);
        for (path, version) in [("kv1", "1"), ("kv2", "2")] {
            let body = format!(r#"{{"type":"kv","options":{{"version":"{version}"}}}}"#);
            client.call("POST", &format!("sys/mounts/{path}"), &body).map_err(Failure::text)?;
        }
        // A mount may still be opening right after it was made.
        client.wait_for("kv2/config")?;
        Ok(server)
    }

    /// Until the server is unsealed and says that it is well.
    pub(super) fn serve(&self, server: &Server) -> Result<(), String> {
        let client = self.client(server);
        if self.seal == Seal::Share {
            let answer = client.call("PUT", "sys/unseal", &format!("{{\"key\":\"{}\"}}", self.unseal_key)).map_err(Failure::text)?;
            if answer.pointer("/sealed").and_then(Value::as_bool) != Some(false) {
                return Err("it does not unseal with its key".to_owned());
            }
        }
        client.wait_for("sys/health").map_err(|e| format!("it does not unseal: {e}"))
    }

    /// The database file, judged by a reader that is not ours. `python3` brings one; where it is absent, our own reads must do.
    pub(super) fn integrity(&self) -> Result<(), String> {
        if !on_path("python3") {
            return Ok(());
        }
        let script = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('pragma integrity_check').fetchone()[0])";
        let output = Command::new("python3").args(["-c", script]).arg(self.folder.join("store.db")).output();
        let output = output.map_err(|e| format!("python3 did not start: {e}"))?;
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said.trim() == "ok" { Ok(()) } else { Err(format!("the database is damaged: {said}")) }
    }
}

/// Root at one server.
pub(super) struct Client {
    address: SocketAddr,
    header: String,
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server went away in the middle: nobody knows what became of the request.
    Gone(String),
    /// It was answered, and not with success.
    Refused(u16, String),
}

impl Failure {
    pub(super) fn text(self) -> String {
        match self {
            Self::Gone(text) => text,
            Self::Refused(status, text) => format!("{text} (status {status})"),
        }
    }
}

impl Client {
    pub(super) fn call(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let headers = std::slice::from_ref(&self.header);
        let answer = http::request(self.address, method, &format!("/v1/{path}"), headers, body).map_err(Failure::Gone)?;
        if !(200..300).contains(&answer.status) {
            return Err(Failure::Refused(answer.status, format!("{method} {path}: {}", answer.body.trim())));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        // The kill may cut an answer short.
        serde_json::from_str(&answer.body).map_err(|e| Failure::Gone(format!("{method} {path}: {e}")))
    }

    /// Asks until it is answered with success.
    pub(super) fn wait_for(&self, path: &str) -> Result<(), String> {
        let began = Instant::now();
        loop {
            match self.call("GET", path, "") {
                Ok(_) => return Ok(()),
                Err(failure) if began.elapsed() > PATIENCE => return Err(failure.text()),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }
}
