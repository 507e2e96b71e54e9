//! Real clients, unmodified, each in a session of its own: log in, policies, tokens, KV, leases, AWS credentials.
//!
//! A session is a program in `tests/clients/NAME`. It finds the server in VAULT_ADDR and VAULT_TOKEN, and the fake AWS in
//! AWS_SANDBOX. It prints one line for each thing that it proves, then `N passed, N failed`.

use super::conformance::Moto;
use super::{Tally, Verdict};
use crate::install::{debian, go as go_modules, java as maven, node as npm, python, rust};
use crate::process::Log;
use crate::project::Project;
use crate::server::{ROOT_TOKEN, Server};
use std::process::Command;
use std::time::Duration;

pub(super) fn bao(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let bin = python::ensure(project, log)?;
    debian::ensure(log, &[("gpg", "gpg"), ("gpg-agent", "gpg-agent")])?;
    let binary = project.daypass(log)?;
    // A second server, which the session sets up for holders of PGP keys.
    let fresh = Server::configured(project, &binary, "clients/bao-fresh", FRESH)?;
    let mut command = Command::new(bin.join("python"));
    command.arg("-B").arg(project.root.join("tests/clients/bao/session.py")).env("BAO", python::bao(&bin)?);
    command.env("FRESH", format!("http://{}", fresh.address)).env("DAYPASS_BIN", binary);
    brief(project, log, "bao", &mut command)
}

pub(super) fn hvac(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let bin = python::ensure(project, log)?;
    debian::ensure(log, &[("openssl", "openssl")])?;
    let binary = project.daypass(log)?;
    let mut command = Command::new(bin.join("python"));
    command.arg("-B").arg(project.root.join("tests/clients/hvac/session.py")).env("DAYPASS_BIN", binary);
    brief(project, log, "hvac", &mut command)
}

pub(super) fn aws(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let bin = python::ensure(project, log)?;
    let binary = project.daypass(log)?;
    let mut command = Command::new(bin.join("python"));
    command.arg("-B").arg(project.root.join("tests/clients/aws/session.py")).env("AWS", bin.join("aws")).env("DAYPASS_BIN", binary);
    brief(project, log, "aws", &mut command)
}

/// A second fake AWS, which others wrote. It waits for a rotation, which comes once a minute.
pub(super) fn moto(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let bin = python::ensure(project, log)?;
    let moto = Moto::start(project, &bin, "clients/moto-itself")?;
    let mut command = Command::new(bin.join("python"));
    command.arg("-B").arg(project.root.join("tests/clients/moto/session.py")).env("MOTO", format!("http://{}", moto.address));
    drop(project.daypass(log)?);
    log.limit(Duration::from_mins(6));
    session(project, log, "moto", &mut command)
}

pub(super) fn go(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    log.step("building the session with the official Go client");
    let program = go_modules::build(project, log, &project.root.join("tests/clients/go"), "clients", "go-session")?;
    brief(project, log, "go", &mut Command::new(program))
}

pub(super) fn java(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let jar = maven::jar(project, log, "io.github.jopenlibs:vault-java-driver:6.2.0")?;
    let source = project.root.join("tests/clients/java/Session.java");
    // One file needs no build step: java compiles it in memory.
    brief(project, log, "java", Command::new("java").arg("-cp").arg(jar).arg(source))
}

pub(super) fn node(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let source = project.root.join("tests/clients/node");
    let folder = npm::ensure(project, log, &source, "node-vault")?;
    brief(project, log, "node", Command::new("node").arg(source.join("session.js")).env("NODE_PATH", folder.join("node_modules")))
}

/// An OpenID provider that others wrote, and Chromium. Debian's driver brings the browser; elsewhere both must be there.
pub(super) fn oidc(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let source = project.root.join("tests/clients/oidc");
    let folder = npm::ensure(project, log, &source, "oidc-provider")?;
    debian::ensure(log, &[("chromedriver", "chromium-driver")])?;
    let binary = project.daypass(log)?;
    let mut command = Command::new("node");
    command.arg(source.join("session.js")).env("NODE_PATH", folder.join("node_modules")).env("DAYPASS_BIN", binary);
    // Chromium takes its time on a machine that has other work.
    log.limit(Duration::from_mins(8));
    session(project, log, "oidc", &mut command)
}

pub(super) fn vaultrs(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let program = rust::build(project, log, &project.root.join("tests/clients/vaultrs"), "vaultrs-session")?;
    brief(project, log, "vaultrs", &mut Command::new(program))
}

/// What Terraform's Vault provider said, word for word, where the provider itself cannot be installed.
pub(super) fn replay(project: &Project, log: &mut Log) -> Result<Verdict, String> {
    let Some(recorded) = project.beside("DAYPASS_RECORDED_CLIENTS", "recorded-clients") else {
        return Ok(Verdict::Skipped(
            "the recorded sessions lie outside this repository; DAYPASS_RECORDED_CLIENTS may name their folder".to_owned(),
        ));
    };
    let bin = python::ensure(project, log)?;
    let mut command = Command::new(bin.join("python"));
    command.arg("-B").arg(project.root.join("tests/clients/replay/replay.py")).arg(recorded);
    brief(project, log, "replay", &mut command)
}

/// A session of a minute or so.
fn brief(project: &Project, log: &mut Log, name: &str, command: &mut Command) -> Result<Verdict, String> {
    // Built now, so that building takes none of the session's time.
    drop(project.daypass(log)?);
    log.limit(Duration::from_mins(3));
    session(project, log, name, command)
}

/// One session against a server of its own, so that no session sees what another left. It ends within the log's limit.
pub(super) fn session(project: &Project, log: &mut Log, name: &str, command: &mut Command) -> Result<Verdict, String> {
    let binary = project.daypass(log)?;
    let server_name = format!("clients/{name}-server");
    // The others see AWS's own floor.
    let server = if WATCH_RENEWALS.contains(&name) {
        Server::dev_with_short_sessions(project, &binary, &server_name, SESSION_MIN)?
    } else {
        Server::dev(project, &binary, &server_name)?
    };
    for variable in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "VAULT_NAMESPACE"] {
        command.env_remove(variable);
    }
    command.current_dir(&project.work).env("VAULT_ADDR", format!("http://{}", server.address)).env("VAULT_TOKEN", ROOT_TOKEN);
    command
        .env("HOME", home(project, name)?)
        .env("AWS_REGION", "us-east-1")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    if let Some(sandbox) = server.sandbox {
        command.env("AWS_SANDBOX", format!("http://{sandbox}"));
    }
    let (status, text) = log.finish(command)?;
    let mut tally = Tally::read(&text);
    for line in text.lines().filter(|l| l.starts_with("FAIL")) {
        println!("        {line}");
    }
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
        println!("{}\n        and the server's last words:\n{}", crate::process::last_lines(&text, 15), server.last_words());
    }
    if tally.passed + tally.failed == 0 {
        return Err("the session proved nothing: it printed no `N passed, N failed`".to_owned());
    }
    Ok(Verdict::Ran(tally))
}

/// The configuration of a server that is not initialised yet.
const FRESH: &str = "storage \"inmem\" {}\ndisable_mlock = true\nlistener \"tcp\" {\n  address = \"{address}\"\n  tls_disable = true\n}\n";

/// Sessions that watch credentials being renewed.
const WATCH_RENEWALS: [&str; 2] = ["aws", "go"];
/// The shortest session of the fake AWS for them: renewals are watched, not waited for.
const SESSION_MIN: &str = "20s";

/// An empty home, so that no token or profile of the developer is found, nor overwritten.
fn home(project: &Project, name: &str) -> Result<std::path::PathBuf, String> {
    let home = project.work.join("homes").join(name);
    if home.exists() {
        std::fs::remove_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    }
    std::fs::create_dir_all(&home).map_err(|e| format!("{}: {e}", home.display()))?;
    Ok(home)
}
