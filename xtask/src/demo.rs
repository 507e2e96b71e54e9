//! `cargo xtask demo`: the main job of this project, run before the eyes of a newcomer, with nothing to configure.

use crate::http;
use crate::install::python;
use crate::process::{Log, describe, last_lines};
use crate::project::Project;
use crate::server::{ROOT_TOKEN, Server};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const ACCOUNTS: [(&str, &str); 2] = [("staging", "111111111111"), ("production", "222222222222")];

pub(crate) fn main(arguments: &[&str]) -> Result<(), String> {
    let stay = match arguments {
        [] => true,
        ["--exit"] => false,
        _ => return Err(format!("cargo xtask demo has no option {}: --exit", arguments.join(" "))),
    };
    let project = Project::open()?;
    let mut log = project.log("demo")?;
    println!(
        "Daypass hands out AWS credentials that are gone by tonight. This shows it, with AWS in a box: nothing leaves this machine.\n"
    );
    heading("First, what the demo needs");
    let binary = project.daypass(&mut log)?;
    let aws = python::ensure(&project, &mut log)?.join("aws");
    println!("        daypass is built, and the AWS CLI is there to check what daypass says");

    heading("A server in dev mode: in memory, unsealed, with a fake AWS inside that checks signatures, trust and expiry as AWS does");
    let server = Server::dev_at(&project, &binary, "demo/server", http::port_or_free(8200)?, http::port_or_free(4566)?)?;
    let sandbox = server.sandbox.ok_or("the server started without its AWS in a box")?;
    println!("        $ daypass server -dev -dev-aws-sandbox");
    println!(
        "        It listens on http://{}, and the fake AWS on http://{sandbox}. It got its own AWS identity as a container on ECS",
        server.address
    );
    println!("        would, from the container-credentials endpoint. No key is configured anywhere.");

    let stage = Stage { binary, aws, address: server.address, sandbox };
    for (environment, account) in ACCOUNTS {
        stage.account(&mut log, environment, account)?;
    }
    stage.record()?;

    if stay {
        heading("Your turn: the server stays up until you press Ctrl-C");
        println!("        export VAULT_ADDR=http://{} VAULT_TOKEN={ROOT_TOKEN}", stage.address);
        println!("        {} read cdp/aws/staging/sts/ecr-staging ttl=15m", stage.binary.display());
        println!("        vault, bao, Terraform's Vault provider, hvac and every other client of Vault work too.");
        return remain(server);
    }
    println!("\nAll of it worked.");
    Ok(())
}

fn heading(text: &str) {
    println!("\n{text}");
}

/// Until Ctrl-C ends us, and with us the server; or until the server ends by itself.
fn remain(mut server: Server) -> Result<(), String> {
    while server.lives() {
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("{}", server.last_words());
    Err("the server ended by itself".to_owned())
}

struct Stage {
    binary: PathBuf,
    aws: PathBuf,
    address: SocketAddr,
    sandbox: SocketAddr,
}

impl Stage {
    /// The three commands of the story for one account, and the proof that their outcome is worth something.
    fn account(&self, log: &mut Log, environment: &str, account: &str) -> Result<(), String> {
        heading(&format!("The {environment} account ({account}): an engine, a role, a credential"));
        let (mount, role) = (format!("cdp/aws/{environment}"), format!("ecr-{environment}"));
        self.daypass(log, &["secrets", "enable", &format!("-path={mount}"), "aws"])?;
        let arn = format!("arn:aws:iam::{account}:role/{role}");
        self.daypass(log, &["write", &format!("{mount}/roles/{role}"), "credential_type=assumed_role", &format!("role_arns={arn}")])?;
        let table = self.daypass(log, &["write", &format!("{mount}/sts/{role}"), "ttl=60m"])?;
        let field = |name: &str| {
            let row = table.lines().filter_map(|line| line.split_once(char::is_whitespace)).find(|(key, _)| *key == name);
            row.map(|(_, value)| value.trim().to_owned()).ok_or_else(|| format!("the answer has no {name}"))
        };
        let credential = [
            ("AWS_ACCESS_KEY_ID", field("access_key")?),
            ("AWS_SECRET_ACCESS_KEY", field("secret_key")?),
            ("AWS_SESSION_TOKEN", field("session_token")?),
        ];

        println!("\n        The AWS CLI, which knows nothing of daypass, asks AWS whose credential that is:");
        let identity = self.aws(log, &["sts", "get-caller-identity", "--query", "Arn", "--output", "text"], &credential)?;
        println!("        {}", identity.trim());
        if !identity.contains(&format!("::{account}:assumed-role/{role}/")) {
            return Err(format!("that is not the role {role} of {account}"));
        }
        println!("        and asks ECR for a registry login, as `docker push` needs it:");
        let login =
            self.aws(log, &["ecr", "get-authorization-token", "--query", "authorizationData[0]", "--output", "json"], &credential)?;
        self.registry(&login, account)
    }

    /// A registry asks the fake ECR whether the login is good, as the real one would know it.
    fn registry(&self, login: &str, account: &str) -> Result<(), String> {
        let login: Value = serde_json::from_str(login).map_err(|e| format!("the AWS CLI printed no JSON: {e}"))?;
        let text = |name: &str| login.get(name).and_then(Value::as_str).unwrap_or_default();
        println!(
            "        {}, good until {}",
            text("proxyEndpoint"),
            login.get("expiresAt").map(ToString::to_string).unwrap_or_default().trim_matches('"')
        );
        let header = format!("Authorization: Basic {}", text("authorizationToken"));
        let answer = http::request(self.sandbox, "GET", &format!("/_sandbox/ecr/verify?account={account}"), &[header], "")?;
        if answer.status != 200 {
            return Err(format!("the registry refuses that login with {}", answer.status));
        }
        println!("        The registry of {account} accepts it.");
        Ok(())
    }

    /// What AWS wrote down: who assumed which role, and under which name.
    fn record(&self) -> Result<(), String> {
        heading("What AWS saw: the server's own identity assumed each role, under a name that says for whom");
        let answer = http::request(self.sandbox, "GET", "/_sandbox/calls", &[], "")?;
        let calls: Value = serde_json::from_str(&answer.body).map_err(|e| format!("/_sandbox/calls: {e}"))?;
        let calls = calls.get("calls").and_then(Value::as_array).cloned().unwrap_or_default();
        for call in calls.iter().filter(|c| c.get("action").and_then(Value::as_str) == Some("AssumeRole")) {
            let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            println!("        {}\n            assumed {}\n            as {}", text("caller"), text("role_arn"), text("session_name"));
        }
        println!("        Each credential ends within the hour by itself. Nothing was stored for it, and there is nothing to rotate.");
        Ok(())
    }

    fn daypass(&self, log: &mut Log, arguments: &[&str]) -> Result<String, String> {
        println!("\n        $ daypass {}", arguments.join(" "));
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("VAULT_ADDR", format!("http://{}", self.address)).env("VAULT_TOKEN", ROOT_TOKEN);
        let output = run(log, &mut command)?;
        for line in output.lines() {
            println!("        {}", mask(line));
        }
        Ok(output)
    }

    fn aws(&self, log: &mut Log, arguments: &[&str], credential: &[(&str, String)]) -> Result<String, String> {
        let mut command = Command::new(&self.aws);
        command.args(arguments).envs(credential.iter().map(|(name, value)| (*name, value)));
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.sandbox)).env("AWS_DEFAULT_REGION", "us-east-1").env("AWS_PAGER", "");
        for variable in ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"] {
            command.env_remove(variable);
        }
        run(log, &mut command)
    }
}

/// Runs a client. What it printed does not go into the log, because it holds a credential.
fn run(log: &mut Log, command: &mut Command) -> Result<String, String> {
    log.note(&format!("$ {}", describe(command)));
    let output = command.output().map_err(|e| format!("{} did not start: {e}", describe(command)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = last_lines(&String::from_utf8_lossy(&output.stderr), 20);
    Err(format!("{} ended with {}\n{said}", describe(command), output.status))
}

/// The first letters of a secret show that it is there; the rest is nobody's business.
fn mask(line: &str) -> String {
    let secret = ["secret_key", "security_token", "session_token"].iter().any(|name| line.starts_with(name));
    match line.rsplit_once(' ') {
        Some((name, value)) if secret => {
            format!("{name} {}… ({} characters)", value.chars().take(4).collect::<String>(), value.chars().count())
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_shown_by_their_first_letters() {
        assert_eq!(mask("secret_key         abcdefgh"), "secret_key         abcd… (8 characters)");
        assert_eq!(mask("access_key         ASIAX"), "access_key         ASIAX");
    }
}
