//! Builds that outlast a credential: `daypass run` and `daypass aws credential-process` with a real server and a fake AWS whose sessions are short.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

#[path = "bad_input/server.rs"]
mod server;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use daypass_base::{Clock as _, SystemClock, Timestamp};
use serde_json::{Value, json};
use server::Server;

const STAGING: &str = "arn:aws:iam::111111111111:role/ecr-staging";
/// One that the fake AWS does not let the server have.
const LOCKED: &str = "arn:aws:iam::111111111111:role/locked";

/// A server with roles whose credentials last an hour, and six seconds.
fn roles() -> Server {
    let server = Server::start_with(&["-dev-aws-sandbox-min-ttl=1s".to_owned()]);
    let write = |path: &str, body: Value| {
        let answer = server.ask("PUT", path, body.to_string());
        assert_eq!(answer.status / 100, 2, "{path}: {}", answer.body);
    };
    write("sys/mounts/aws", json!({"type": "aws"}));
    for (role, arn, ttl) in [("deploy", STAGING, "1h"), ("short", STAGING, "6s"), ("locked", LOCKED, "1h")] {
        write(&format!("aws/roles/{role}"), json!({"credential_type": "assumed_role", "role_arns": arn, "default_sts_ttl": ttl}));
    }
    write("sys/mounts/iam", json!({"type": "aws"}));
    // The administrator of the fake account, known to everybody.
    let key = json!({"access_key": "AKIADAYPASSSANDBOX22", "secret_key": "sandbox/only/never/a/real/secret/key/000"});
    write("iam/config/root", key);
    write("iam/roles/uploader", json!({"credential_type": "iam_user", "policy_arns": "arn:aws:iam::aws:policy/ReadOnlyAccess"}));
    write("sys/policies/acl/build", json!({"policy": "path \"aws/sts/*\" { capabilities = [\"read\"] }"}));
    server
}

static CLOCK: LazyLock<SystemClock> = LazyLock::new(SystemClock::new);

/// The command line in an empty home, with root's token.
fn daypass(server: &Server, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("HOME", "/nonexistent")
        .env("VAULT_ADDR", server.url())
        .env("VAULT_TOKEN", "root")
        .env("VAULT_MAX_RETRIES", "0")
        .stdin(Stdio::null());
    command
}

/// The same behind another command.
fn under(outer: &[&str], run: &Command) -> Command {
    let mut command = Command::new(outer[0]);
    command.args(&outer[1..]).arg(run.get_program()).args(run.get_args()).stdin(Stdio::null());
    command.env_clear().envs(run.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

/// How it ended: exit code, stdout, stderr.
fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn token(server: &Server, fields: Value) -> String {
    let made: Value = serde_json::from_str(&server.ask("PUT", "auth/token/create", fields.to_string()).body).unwrap();
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

fn kill(signal: &str, whom: &str) {
    assert!(Command::new("kill").args([signal, "--", whom]).status().unwrap().success());
}

/// Lets a moment pass.
fn moment() {
    let (_kept, nothing) = mpsc::channel::<()>();
    let _timeout = nothing.recv_timeout(Duration::from_millis(100));
}

/// A build under `daypass run`: a shell that tells of its endpoint, then does as the script says.
struct Build {
    run: Child,
    words: BufReader<ChildStdout>,
    remarks: Receiver<String>,
    address: String,
    secret: String,
}

impl Build {
    fn start(command: &mut Command, script: &str) -> Self {
        let told = "echo \"$AWS_CONTAINER_CREDENTIALS_FULL_URI\"; echo \"$AWS_CONTAINER_AUTHORIZATION_TOKEN\"";
        let command = command.args(["--", "sh", "-c", &format!("{told}; {script}")]);
        let mut run = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (say, remarks) = mpsc::channel();
        let stderr = BufReader::new(run.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| say.send(line)));
        let mut build =
            Self { words: BufReader::new(run.stdout.take().unwrap()), run, remarks, address: String::new(), secret: String::new() };
        let uri = build.word();
        uri.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/credentials")).expect(&uri).clone_into(&mut build.address);
        build.secret = build.word();
        build
    }

    /// Its next line.
    fn word(&mut self) -> String {
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What an SDK in it sees.
    fn asks(&self) -> (u16, Value) {
        self.asks_as("GET", &self.secret)
    }

    fn asks_as(&self, method: &str, authorization: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "{method} /credentials HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    fn key(&self) -> String {
        let (status, body) = self.asks();
        assert_eq!(status, 200, "{body}");
        body["AccessKeyId"].as_str().unwrap().to_owned()
    }

    fn signal(&self, name: &str) {
        kill(name, &self.run.id().to_string());
    }

    /// To all processes of the group that it leads.
    fn signal_the_group(&self, name: &str) {
        kill(name, &format!("-{}", self.run.id()));
    }

    /// Its exit code, once its stdin was closed.
    fn ends(&mut self) -> i32 {
        drop(self.run.stdin.take());
        self.run.wait().unwrap().code().unwrap()
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        // The shell reads to the end of its stdin.
        drop(self.run.stdin.take());
        let _status = self.run.wait();
    }
}

fn end(credential: &Value) -> Timestamp {
    credential["Expiration"].as_str().unwrap().parse().unwrap()
}

fn names(credential: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = credential.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_credential_process_prints_what_sdks_read_and_nothing_else() {
    let server = roles();
    let before = CLOCK.now();
    let (code, out, err) =
        ran(&mut daypass(&server, &["aws", "credential-process", "-ttl=20m", "-role-session-name=alice", "aws", "deploy"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let credential: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(names(&credential), ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken", "Version"]);
    assert_eq!(credential["Version"], 1);
    assert!(credential["AccessKeyId"].as_str().unwrap().starts_with("ASIA") && !credential["SessionToken"].as_str().unwrap().is_empty());
    let life = end(&credential).since(before);
    assert!(life > Duration::from_mins(19) && life < Duration::from_mins(20) + CLOCK.now().since(before), "{life:?}");
    let whole = credential["Expiration"].as_str().unwrap();
    assert!(whole.ends_with('Z') && !whole.contains('.'), "{whole}");
}

#[test]
fn a_refusal_is_told_on_stderr_alone() {
    let server = roles();
    for (arguments, code, text) in [
        (&["aws", "credential-process", "aws", "locked"][..], 2, "Error assuming role"),
        (&["aws", "credential-process", "aws", "nobody"], 2, "nobody"),
        (&["aws", "credential-process", "aws"], 1, "Not enough arguments (expected 2, got 1)"),
        (&["run", "-role=locked", "--", "echo", "ran"], 2, "Error assuming role"),
        (&["run", "-role=nobody", "echo", "ran"], 2, "nobody"),
        (&["run", "-mount=none", "-role=deploy", "echo", "ran"], 2, "none/sts/deploy"),
        (&["run", "echo", "ran"], 1, "DAYPASS_AWS_ROLE"),
        (&["run", "-role=deploy"], 1, "which command?"),
        (&["run", "-role=deploy", "-bogus", "echo", "ran"], 1, "flag provided but not defined: -bogus"),
    ] {
        let (found, out, err) = ran(&mut daypass(&server, arguments));
        assert!((found, out.as_str()) == (code, "") && err.contains(text), "{arguments:?}: {found} {out} {err}");
    }
}

/// Keys of a user have no end that AWS knows: who kept them for an SDK would be left with dead ones, and each call would make another user.
#[test]
fn a_role_that_makes_users_is_refused_and_leaves_none_behind() {
    let server = roles();
    for arguments in [&["aws", "credential-process", "iam", "uploader"][..], &["run", "-mount=iam", "-role=uploader", "echo", "ran"]] {
        let (code, out, err) = ran(&mut daypass(&server, arguments));
        assert!((code, out.as_str()) == (2, "") && err.contains("of type iam_user") && !err.contains("hint"), "{code} {out} {err}");
        let leases = server.ask("LIST", "sys/leases/lookup/iam/sts/uploader", "");
        assert_eq!(leases.status, 404, "{}", leases.body);
    }
    // Who may not revoke it is told of it.
    let policy = json!({"policy": "path \"iam/sts/uploader\" { capabilities = [\"read\"] }"});
    assert_eq!(server.ask("PUT", "sys/policies/acl/users", policy.to_string()).status, 204);
    let workload = token(&server, json!({"policies": "users"}));
    let (_, _, err) = ran(daypass(&server, &["aws", "credential-process", "iam", "uploader"]).env("VAULT_TOKEN", workload));
    assert!(err.contains("hint: delete the user that was made: daypass lease revoke iam/sts/uploader/"), "{err}");
}

#[test]
fn a_command_has_its_own_arguments_streams_and_exit_code() {
    let server = roles();
    let (code, out, err) = ran(&mut daypass(&server, &["run", "-role=deploy", "sh", "-c", "echo $0 $1; echo e >&2; exit 7", "-h", "--"]));
    assert_eq!((code, out.as_str(), err.as_str()), (7, "-h --\n", "e\n"));
    let mut command = daypass(&server, &["run", "--", "true"]);
    assert_eq!(ran(command.env("DAYPASS_AWS_ROLE", "deploy").env("DAYPASS_AWS_MOUNT", "aws")).0, 0);
    assert_eq!(ran(&mut daypass(&server, &["run", "-role=deploy", "--", "sh", "-c", "kill -9 $$"])).0, 137);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (program, code, text) in [("no-such-program", 127, "no such file or directory"), (file.to_str().unwrap(), 126, "permission denied")]
    {
        let (found, out, err) = ran(&mut daypass(&server, &["run", "-role=deploy", program]));
        assert!((found, out.as_str()) == (code, "") && err.contains(&format!("{program:?} cannot be run: {text}")), "{found} {err}");
    }
}

#[test]
fn nothing_that_sdks_would_take_instead_is_left_to_the_command() {
    let server = roles();
    let home = tempfile::tempdir().unwrap();
    let aws = home.path().join(".aws");
    std::fs::create_dir(&aws).unwrap();
    let mut command = daypass(&server, &["run", "-role=deploy", "env"]);
    command.env("HOME", home.path()).env("AWS_REGION", "eu-west-1").env("AWS_ENDPOINT_URL", "http://x");
    for name in ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE", "ROLE_ARN", "WEB_IDENTITY_TOKEN_FILE"]
    {
        command.env(format!("AWS_{name}"), "other");
    }
    command.env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/other").env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/other");
    let seen = |command: &mut Command| {
        let (code, out, err) = ran(command);
        assert_eq!(code, 0, "{err}");
        let mut names: Vec<String> = out.lines().filter(|line| line.starts_with("AWS_")).map(str::to_owned).collect();
        names.sort();
        (names, err)
    };
    let (names, err) = seen(&mut command);
    assert_eq!(err, "");
    let [secret, uri, endpoint, region]: [String; 4] = names.try_into().unwrap();
    let secret = secret.strip_prefix("AWS_CONTAINER_AUTHORIZATION_TOKEN=").unwrap();
    assert!(secret.len() == 43 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(uri.starts_with("AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:"), "{uri}");
    assert_eq!((endpoint.as_str(), region.as_str()), ("AWS_ENDPOINT_URL=http://x", "AWS_REGION=eu-west-1"));

    std::fs::write(aws.join("config"), "[default]\nregion=eu-west-1\n[profile x]\nrole_arn=y").unwrap();
    std::fs::write(aws.join("credentials"), "[default]\naws_access_key_id=AKIA\naws_secret_access_key=s").unwrap();
    let (names, err) = seen(&mut command);
    assert!(names.contains(&"AWS_SHARED_CREDENTIALS_FILE=/dev/null".to_owned()) && names.len() == 5, "{names:?}");
    assert!(err.contains("the default profile of") && err.contains(".aws/credentials") && !err.contains(".aws/config"), "{err}");

    std::fs::write(home.path().join(".boto"), "[Credentials]\naws_access_key_id: AKIA\n").unwrap();
    std::fs::write(aws.join("credentials"), "[default]\naws_access_key_id: AKIA\n").unwrap();
    let (_, out, err) = ran(command.env("AWS_CONFIG_FILE", "$HOME/config"));
    for variable in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "BOTO_CONFIG"] {
        assert!(out.lines().any(|line| line == format!("{variable}=/dev/null")), "{variable}: {out}");
        assert!(err.contains(&format!("({variable}=/dev/null)")), "{variable}: {err}");
    }
}

#[test]
fn the_endpoint_serves_the_command_and_nobody_else() {
    let server = roles();
    let build = Build::start(&mut daypass(&server, &["run", "-role=deploy"]), "cat");
    let before = CLOCK.now();
    let (status, credential) = build.asks();
    assert_eq!((status, names(&credential)), (200, vec!["AccessKeyId", "Expiration", "SecretAccessKey", "Token"]));
    assert!(end(&credential).since(before) <= Duration::from_hours(1));
    assert_eq!(build.key(), credential["AccessKeyId"], "it is kept");
    let (status, refused) = build.asks_as("GET", &build.secret.to_lowercase());
    assert_eq!((status, refused["code"].as_str()), (403, Some("AccessDenied")), "{refused}");
    assert_eq!(build.asks_as("POST", &build.secret).0, 405);
    let silent: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&build.address).unwrap()).collect();
    assert_eq!(build.key(), credential["AccessKeyId"], "those who say nothing are in nobody's way");
    drop(silent);
    let many: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(&build.address).unwrap()).collect();
    let began = CLOCK.now();
    assert_eq!(build.key(), credential["AccessKeyId"], "nor more of them than there are places");
    assert!(CLOCK.now().since(began) < Duration::from_millis(900), "and not for want of patience with them");
    drop(many);
    let mut greedy = TcpStream::connect(&build.address).unwrap();
    let _cut_off = write!(greedy, "GET /credentials HTTP/1.1\r\nX: {}", "x".repeat(200_000));
    let mut text = Vec::new();
    let _reset = greedy.read_to_end(&mut text);
    assert!(!String::from_utf8_lossy(&text).contains("200 OK"));
}

/// As a build of two hours with credentials of one: here they last for six seconds.
#[test]
fn a_command_that_outlasts_a_credential_gets_the_next() {
    let server = roles();
    let build = Build::start(&mut daypass(&server, &["run", "-role=short"]), "cat");
    let (began, mut seen) = (CLOCK.now(), vec![build.asks().1]);
    while seen.len() < 3 {
        moment();
        let (status, credential) = build.asks();
        assert_eq!(status, 200, "{credential}");
        assert!(end(&credential) > CLOCK.now(), "never one that is over: {credential}");
        let last = seen.last().unwrap();
        if last["AccessKeyId"] != credential["AccessKeyId"] {
            // Half of six seconds, less the fraction of one that an end drops.
            assert!(end(&credential).since(end(last)) >= Duration::from_secs(2), "each is used for half of its life");
            seen.push(credential);
        }
        assert!(CLOCK.now().since(began) < Duration::from_secs(30), "{} credentials", seen.len());
    }
}

/// A server that restarts while builds run must not be noticed by them.
#[test]
fn a_server_that_is_gone_ends_nothing_before_the_credential_does() {
    let server = roles();
    let build = Build::start(&mut daypass(&server, &["run", "-role=short"]), "cat");
    let (_, first) = build.asks();
    drop(server);
    let over = end(&first);
    while CLOCK.now() + Duration::from_secs(1) < over {
        assert_eq!(build.key(), first["AccessKeyId"]);
        moment();
    }
    while CLOCK.now() <= over {
        moment();
    }
    let (status, refused) = build.asks();
    assert_eq!((status, refused["code"].as_str()), (503, Some("ServiceUnavailable")), "worth another try: {refused}");
    assert!(refused["message"].as_str().unwrap().contains("connection refused"), "{refused}");
}

#[test]
fn the_token_is_renewed_for_as_long_as_it_may_live_and_its_end_is_told_once() {
    let server = roles();
    let workload = token(&server, json!({"policies": "build", "ttl": "4s", "explicit_max_ttl": "9s"}));
    let mut build = Build::start(daypass(&server, &["run", "-role=short", "-ttl=3s"]).env("VAULT_TOKEN", &workload), "cat");
    let began = CLOCK.now();
    let mut keys = std::collections::BTreeSet::new();
    while CLOCK.now().since(began) < Duration::from_millis(7_500) {
        keys.insert(build.key());
        moment();
    }
    assert!(keys.len() >= 3, "behind the four seconds of its first life it still gets credentials: {keys:?}");
    let said = build.remarks.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(said.starts_with("daypass run: the token cannot be renewed any further, and ends at 20"), "{said}");
    let mut refused = build.asks();
    while refused.0 == 200 {
        assert!(CLOCK.now().since(began) < Duration::from_secs(30));
        moment();
        refused = build.asks();
    }
    assert_eq!((refused.0, refused.1["code"].as_str()), (403, Some("AccessDenied")), "a refusal, and not to be tried again: {}", refused.1);
    assert_eq!(build.ends(), 0);
    assert_eq!(build.remarks.iter().count(), 0, "once");
}

/// Story: one renewal was refused, because the server could not ask AWS just then. The token was given up, and the build died with half of its life left.
#[test]
fn a_renewal_that_is_refused_is_tried_again_while_the_token_lives() {
    let server = roles();
    let write = |method: &str, path: &str, body: &Value| {
        let answer = server.ask(method, path, if body.is_null() { String::new() } else { body.to_string() });
        assert_eq!(answer.status / 100, 2, "{path}: {}", answer.body);
        answer.body
    };
    write("PUT", "sys/auth/approle", &json!({"type": "approle"}));
    let role = json!({
        "role_id": "ci", "bind_secret_id": false, "secret_id_bound_cidrs": "127.0.0.0/8", "token_ttl": "8s", "token_policies": "build",
    });
    write("PUT", "auth/approle/role/ci", &role);
    let login: Value = serde_json::from_str(&write("PUT", "auth/approle/login", &json!({"role_id": "ci"}))).unwrap();
    let (workload, began) = (login["auth"]["client_token"].as_str().unwrap().to_owned(), CLOCK.now());
    write("DELETE", "auth/approle/role/ci", &Value::Null);
    let mut build = Build::start(daypass(&server, &["run", "-role=short", "-ttl=3s"]).env("VAULT_TOKEN", &workload), "cat");
    let next = |build: &Build| build.remarks.recv_timeout(Duration::from_secs(20)).unwrap();
    let said = next(&build);
    assert!(said.starts_with("daypass run: the token was not renewed (failed to renew entry: role \"ci\" does not exist"), "{said}");
    assert!(said.ends_with("the command gets no new AWS credentials after that, unless a renewal comes through before"), "{said}");
    write("PUT", "auth/approle/role/ci", &role);
    assert_eq!(next(&build), "daypass run: the token was renewed after all");
    while CLOCK.now().since(began) < Duration::from_secs(9) {
        moment();
    }
    build.key();
    // Once it is over nothing is said again.
    write("DELETE", "auth/approle/role/ci", &Value::Null);
    assert!(next(&build).contains("was not renewed"));
    while build.asks().0 == 200 {
        assert!(CLOCK.now().since(began) < Duration::from_mins(1));
        moment();
    }
    assert_eq!(build.ends(), 0);
    assert_eq!(build.remarks.iter().count(), 0, "once");
}

#[test]
fn signals_reach_the_command_and_do_not_leave_it_alone() {
    let server = roles();
    for (signal, name) in [("-TERM", "TERM"), ("-INT", "INT"), ("-HUP", "HUP"), ("-QUIT", "QUIT"), ("-USR1", "USR1")] {
        // Without a terminal: with one, the terminal gives INT and QUIT to the command itself.
        // And not with what the test itself was told to ignore, by `nohup`.
        let mut run = under(&["setsid", "env", "--default-signal"], &daypass(&server, &["run", "-role=deploy"]));
        let script = format!("trap 'echo {name}; exit 9' {name}; echo ready; while :; do sleep 0.1; done");
        let mut build = Build::start(&mut run, &script);
        assert_eq!(build.word(), "ready");
        build.signal(signal);
        assert_eq!((build.word().as_str(), build.ends()), (name, 9));
    }
    // One that does not care, and one that dies of it.
    let mut build = Build::start(&mut daypass(&server, &["run", "-role=deploy"]), "trap '' TERM; echo ready; cat; exit 3");
    assert_eq!(build.word(), "ready");
    build.signal("-TERM");
    assert_eq!(build.ends(), 3);
    let mut build = Build::start(&mut daypass(&server, &["run", "-role=deploy"]), "echo ready; exec sleep 60");
    assert_eq!(build.word(), "ready");
    build.signal("-TERM");
    assert_eq!(build.ends(), 128 + 15);
}

/// Story: a runner that ended a job's process group reached the command twice, by itself and through us. Terraform took the second one for "at once".
#[test]
fn a_signal_to_the_whole_group_reaches_the_command_once() {
    let server = roles();
    let folder = tempfile::tempdir().unwrap();
    for name in ["TERM", "INT", "QUIT"] {
        let over = folder.path().join(name);
        let mut run = under(&["setsid", "env", "--default-signal"], &daypass(&server, &["run", "-role=deploy"]));
        let wait = format!("echo ready; until [ -e {} ]; do sleep 0.1; done; echo over", over.display());
        // And so it is for what the command started.
        let script = format!("(trap 'echo {name}' {name}; {wait}); :");
        let mut build = Build::start(&mut run, &format!("trap 'echo {name}' {name}; {script}"));
        assert_eq!(build.word(), "ready");
        build.signal_the_group(&format!("-{name}"));
        assert_eq!(build.word(), name, "the one that was started");
        moment();
        moment();
        std::fs::write(over, "").unwrap();
        assert_eq!([build.word(), build.word()], ["over", name], "and then the one that waited for it");
        assert_eq!((build.word().as_str(), build.ends()), ("", 0));
    }
}

/// A shell stops its jobs when they want the terminal, and `fg` gives it to all of their group.
///
/// Story: in the background of a terminal the command had a group of its own. Where we were one part of a pipeline or a script the shell never saw the job
/// stop, and the terminal stayed with a group that nobody could stop, resume or interrupt.
#[test]
fn a_job_that_is_brought_to_the_front_reads_the_terminal() {
    let server = roles();
    let run = "\"$DAYPASS\" run -role=deploy -- sh -c \"read line; echo got=\\$line\"";
    for job in [run.to_owned(), format!("{run} | cat"), format!("sh -c '{run}; :'")] {
        reads_in_the_front(&server, &job);
    }
}

fn reads_in_the_front(server: &Server, job: &str) {
    let folder = tempfile::tempdir().unwrap();
    let shell = format!("set -m; {job} & until grep -q Stopped jobs; do sleep 0.1; jobs >jobs; done; fg; echo code=$?");
    std::fs::write(folder.path().join("shell"), shell).unwrap();
    let mut terminal = Command::new("script");
    terminal.args(["-qec", "timeout --foreground 60 bash shell 2>&1", "/dev/null"]).current_dir(folder.path()).env_clear();
    terminal.envs(daypass(server, &[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
    terminal.env("DAYPASS", env!("CARGO_BIN_EXE_daypass")).env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped());
    std::fs::write(folder.path().join("jobs"), "").unwrap();
    let mut terminal = terminal.spawn().unwrap();
    terminal.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    let mut said = String::new();
    terminal.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    terminal.wait().unwrap();
    assert!(said.contains("got=hello") && said.contains("code=0"), "{job}: {said}");
}

/// Story: as the first process of a container it waited for its command alone, and all that others left behind stayed as zombies.
#[test]
fn the_first_process_of_a_container_waits_for_what_others_left_behind() {
    let container = ["unshare", "--map-root-user", "--fork", "--pid", "--mount-proc"];
    // Not everywhere may one make them.
    if !Command::new(container[0]).args(&container[1..]).arg("true").stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return;
    }
    let server = roles();
    let script =
        "(sleep 0.2 & echo $! >&3) 3>&1 >/dev/null | { read pid; for i in $(seq 100); do [ -d /proc/$pid ] || exit 5; sleep 0.1; done; }";
    let run = daypass(&server, &["run", "-role=deploy", "--", "sh", "-c", script]);
    assert_eq!(ran(&mut under(&container, &run)).0, 5);
}

/// `nohup` and shells with a job in the background have signals ignored: the command inherits that.
#[test]
fn signals_that_are_ignored_stay_ignored() {
    let server = roles();
    let run = daypass(&server, &["run", "-role=deploy", "sh", "-c", "kill -HUP $$; echo alive"]);
    let mut nohup = under(&["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""], &run);
    assert_eq!(ran(&mut nohup), (0, "alive\n".to_owned(), String::new()));
}
