//! A daypass server for a stage or the demo: started, waited for, and ended with its owner.

use crate::http;
use crate::process::{end_tree, last_lines};
use crate::project::Project;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The root token of every server that is started here. They listen on loopback and hold nothing of value.
pub(crate) const ROOT_TOKEN: &str = "root";

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
    pub(crate) address: SocketAddr,
    /// The fake AWS inside, where there is one.
    pub(crate) sandbox: Option<SocketAddr>,
}

impl Server {
    /// `daypass server -dev`, with AWS in a box.
    pub(crate) fn dev(project: &Project, binary: &Path, name: &str) -> Result<Self, String> {
        Self::dev_at(project, binary, name, http::free_port()?, http::free_port()?)
    }

    /// The same with sessions of AWS that may be so short.
    pub(crate) fn dev_with_short_sessions(project: &Project, binary: &Path, name: &str, least: &str) -> Result<Self, String> {
        let flag = format!("-dev-aws-sandbox-min-ttl={least}");
        Self::dev_flagged(project, binary, name, (http::free_port()?, http::free_port()?), Some(&flag))
    }

    /// The same at ports of the caller's choice.
    pub(crate) fn dev_at(project: &Project, binary: &Path, name: &str, port: u16, sandbox: u16) -> Result<Self, String> {
        Self::dev_flagged(project, binary, name, (port, sandbox), None)
    }

    fn dev_flagged(project: &Project, binary: &Path, name: &str, (port, sandbox): (u16, u16), flag: Option<&str>) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let sandbox = SocketAddr::from(([127, 0, 0, 1], sandbox));
        let mut command = Command::new(binary);
        command.args(["server", "-dev", "-dev-no-store-token", "-dev-aws-sandbox"]);
        command.arg(format!("-dev-root-token-id={ROOT_TOKEN}"));
        command.arg(format!("-dev-listen-address={address}"));
        command.arg(format!("-dev-aws-sandbox-address={sandbox}"));
        command.args(flag);
        Self::start(project, name, command, address, Some(sandbox))
    }

    /// A server from a configuration that is not initialised yet; `{address}` in the text is replaced.
    pub(crate) fn configured(project: &Project, binary: &Path, name: &str, config: &str) -> Result<Self, String> {
        let address = SocketAddr::from(([127, 0, 0, 1], http::free_port()?));
        let file = project.work.join("logs").join(format!("{}.hcl", name.replace('/', "-")));
        std::fs::write(&file, config.replace("{address}", &address.to_string())).map_err(|e| format!("{}: {e}", file.display()))?;
        let mut command = Command::new(binary);
        command.arg("server").arg(format!("-config={}", file.display()));
        Self::start(project, name, command, address, None)
    }

    fn start(
        project: &Project,
        name: &str,
        mut command: Command,
        address: SocketAddr,
        sandbox: Option<SocketAddr>,
    ) -> Result<Self, String> {
        // A server must not find the developer's own AWS account, nor an endpoint meant for the clients.
        for (variable, _) in std::env::vars_os() {
            let text = variable.to_string_lossy();
            if ["AWS_", "VAULT_", "BAO_", "DAYPASS_"].iter().any(|prefix| text.starts_with(prefix)) {
                command.env_remove(&variable);
            }
        }
        let mut log = project.log(name)?;
        let child = log.spawn(&mut command)?;
        let mut server = Self { child, log: log.path().to_path_buf(), address, sandbox };
        server.wait()?;
        Ok(server)
    }

    /// Until it answers anything at all: a server that is sealed or not initialised is up too.
    fn wait(&mut self) -> Result<(), String> {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at once with {status}; its last words:\n{}", self.last_words()));
            }
            if http::request(self.address, "GET", "/v1/sys/health", &[], "").is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("the server did not answer http://{}/v1/sys/health within 30 s; its last words:\n{}", self.address, self.last_words()))
    }

    pub(crate) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        // A dev server prints its keys. They are worth nothing, but a log is no place to get used to them.
        let lines: Vec<&str> = text.lines().filter(|l| !l.contains("Unseal Key:") && !l.contains("Root Token:")).collect();
        last_lines(&lines.join("\n"), 20)
    }

    /// Whether its log holds that word.
    pub(crate) fn log_has(&self, word: &str) -> bool {
        std::fs::read_to_string(&self.log).unwrap_or_default().contains(word)
    }

    /// True while the process lives.
    pub(crate) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end_tree(&mut self.child);
    }
}
