//! The binary against a scripted server: exit codes, what goes to stdout, what goes to stderr, what is sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

#[path = "cli/logins.rs"]
mod logins;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// A server that answers by method and path, and remembers what it was sent.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

type Route = (&'static str, u16, &'static str);

impl Server {
    fn start(routes: &'static [Route]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let log = Arc::clone(&log);
                std::thread::spawn(move || serve(stream, routes, &log));
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, routes: &[Route], log: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    loop {
        head.clear();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let text = String::from_utf8(head.clone()).unwrap();
        let header = |name: &str| {
            text.lines()
                .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()))
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).unwrap();
        let line = text.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let token = header("x-vault-token").unwrap_or_default();
        log.lock().unwrap().push(format!("{line} {} [{token}]", String::from_utf8(body).unwrap()));
        let (status, answer) =
            routes.iter().find(|(route, ..)| *route == line).map_or((404, r#"{"errors":[]}"#), |(_, status, answer)| (*status, *answer));
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs the binary as `program` in an empty home with an empty environment but for these variables.
fn run_as(program: &str, home: &std::path::Path, variables: &[(&str, &str)], arguments: &[&str], stdin: &str) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
        .arg0(program)
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("VAULT_MAX_RETRIES", "0")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may be gone already.
    let _unread = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn run(server: &Server, arguments: &[&str]) -> Ran {
    let home = tempfile::tempdir().unwrap();
    run_as("daypass", home.path(), &[("VAULT_ADDR", &server.address), ("VAULT_TOKEN", "root")], arguments, "")
}

const SECRET: Route = (
    "GET /v1/aws/sts/deploy?ttl=15m",
    200,
    r#"{"request_id":"r","lease_id":"aws/sts/deploy/abc","renewable":false,"lease_duration":899,"data":{"access_key":"ASIA","secret_key":"s","security_token":"t","ttl":899},"warnings":["a remark"],"auth":null,"wrap_info":null,"mount_type":"aws"}"#,
);

#[test]
fn a_table_goes_to_stdout_and_warnings_to_stderr() {
    let server = Server::start(&[SECRET]);
    let ran = run(&server, &["read", "aws/sts/deploy", "ttl=15m"]);
    let wanted = "Key                Value\n---                -----\nlease_id           aws/sts/deploy/abc\nlease_duration     14m59s\nlease_renewable    false\naccess_key         ASIA\nsecret_key         s\nsecurity_token     t\nttl                14m59s\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, wanted));
    assert_eq!(ran.err, "WARNING! The following warnings were returned from Vault:\n\n  * a remark\n\n");
    assert_eq!(server.seen(), ["GET /v1/aws/sts/deploy?ttl=15m  [root]"]);
}

#[test]
fn json_is_whole_and_a_field_is_bare() {
    let server = Server::start(&[SECRET]);
    let ran = run(&server, &["read", "-format=json", "aws/sts/deploy", "ttl=15m"]);
    assert!(ran.out.contains("\"warnings\": [\n    \"a remark\"\n  ],\n  \"mount_type\": \"aws\"\n}\n"), "{}", ran.out);
    assert_eq!(ran.err, "");
    let ran = run(&server, &["read", "-field=access_key", "aws/sts/deploy", "ttl=15m"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "ASIA", ""));
    let ran = run(&server, &["read", "-field=nope", "aws/sts/deploy", "ttl=15m"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (1, "", "Field \"nope\" not present in secret\n"));
}

#[test]
fn writes_are_put_and_force_sends_no_body() {
    let server = Server::start(&[("PUT /v1/a/b", 204, "")]);
    let ran = run(&server, &["write", "a/b", "ttl=60m", "n=1"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "Success! Data written to: a/b\n", ""));
    assert_eq!(run(&server, &["write", "-f", "a/b"]).code, 0);
    assert_eq!(server.seen(), [r#"PUT /v1/a/b {"n":"1","ttl":"60m"} [root]"#, "PUT /v1/a/b  [root]"]);
    let ran = run(&server, &["write", "a/b"]);
    assert_eq!((ran.code, ran.err.as_str()), (1, "Must supply data or use -force\n"));
}

#[test]
fn refusals_and_nothing_found_end_with_two() {
    let server = Server::start(&[("GET /v1/x", 403, r#"{"errors":["permission denied"]}"#)]);
    let ran = run(&server, &["read", "x"]);
    let wanted = format!(
        "Error reading x: Error making API request.\n\nURL: GET {}/v1/x\nCode: 403. Errors:\n\n* permission denied\n",
        server.address
    );
    assert_eq!((ran.code, ran.out.as_str(), ran.err), (2, "", wanted));
    let ran = run(&server, &["read", "y"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (2, "", "No value found at y\n"));
    let ran = run(&server, &["list", "-format=json", "y"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (2, "{}\n", ""));
}

#[test]
fn wrong_use_ends_with_one_and_an_unknown_verb_with_127() {
    let server = Server::start(&[]);
    for (arguments, code, text) in [
        (&["read"][..], 1, "Not enough arguments (expected 1, got 0)\n"),
        (&["read", "-bogus", "x"], 1, "flag provided but not defined: -bogus\nhint: -help lists the flags of \"read\"\n"),
        (&["read", "-formta=json", "x"], 1, "flag provided but not defined: -formta\nhint: did you mean -format?\n"),
        (&["read", "-format=xml", "x"], 1, "Invalid output format: xml\nhint: the formats are table, json and yaml\n"),
    ] {
        let ran = run(&server, arguments);
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (code, "", text));
    }
    let ran = run(&server, &["raed", "x"]);
    assert_eq!(ran.code, 127);
    assert!(ran.err.starts_with("Unknown command: \"raed\"\n") && ran.err.ends_with("hint: did you mean \"read\"?\n"), "{}", ran.err);
    assert!(server.seen().is_empty());
}

#[test]
fn status_tells_by_its_exit_code() {
    const LEADER: Route = ("GET /v1/sys/leader", 200, r#"{"ha_enabled":false}"#);
    let open =
        Server::start(&[("GET /v1/sys/seal-status", 200, r#"{"type":"shamir","initialized":true,"sealed":false,"t":1,"n":1}"#), LEADER]);
    assert_eq!(run(&open, &["status"]).code, 0);
    let sealed = Server::start(&[
        ("GET /v1/sys/seal-status", 200, r#"{"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1}"#),
        LEADER,
    ]);
    let ran = run(&sealed, &["status"]);
    assert!(ran.code == 2 && ran.out.contains("Unseal Progress    1/3\n"), "{}", ran.out);
    let home = tempfile::tempdir().unwrap();
    let ran = run_as("daypass", home.path(), &[("VAULT_ADDR", "http://127.0.0.1:1")], &["status"], "");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("connect: connection refused\nhint: nothing listens at 127.0.0.1:1"), "{}", ran.err);
}

#[test]
fn a_login_is_kept_in_a_private_file_and_used_afterwards() {
    let server = Server::start(&[
        (
            "PUT /v1/auth/userpass/login/bob",
            200,
            r#"{"auth":{"client_token":"hvs.new","accessor":"a","policies":["default"],"token_policies":["default"],"lease_duration":60,"renewable":true,"metadata":{"username":"bob"}}}"#,
        ),
        ("GET /v1/x", 200, r#"{"data":{"k":"v"}}"#),
    ]);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join(".vault-token");
    std::fs::write(&file, "old").unwrap();
    let address = [("DAYPASS_ADDR", server.address.as_str())];
    let ran = run_as("daypass", home.path(), &address, &["login", "-method=userpass", "username=bob", "password=-"], "pw");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(
        ran.out.starts_with("Success! You are now authenticated.") && ran.out.contains("token                  hvs.new\n"),
        "{}",
        ran.out
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "hvs.new");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run_as("daypass", home.path(), &address, &["read", "x"], "").code, 0);
    assert_eq!(run_as("daypass", home.path(), &address, &["print", "token"], "").out, "hvs.new\n");
    assert_eq!(server.seen(), [r#"PUT /v1/auth/userpass/login/bob {"password":"pw"} []"#, "GET /v1/x  [hvs.new]"]);
}

/// Story: where the token could not be stored it was thrown away, and with it the secret id that had been good for one login.
#[test]
fn a_token_that_cannot_be_stored_is_shown() {
    let server = Server::start(&[(
        "PUT /v1/auth/approle/login",
        200,
        r#"{"auth":{"client_token":"hvs.only","accessor":"a","policies":["default"],"token_policies":["default"],"lease_duration":60,"renewable":true}}"#,
    )]);
    let home = tempfile::tempdir().unwrap();
    let (gone, unmounted) = (home.path().join("gone"), home.path().join("unmounted"));
    std::fs::create_dir(&unmounted).unwrap();
    std::os::unix::fs::symlink("stick/token", unmounted.join(".vault-token")).unwrap();
    let address = [("VAULT_ADDR", server.address.as_str())];
    let login = |home: &std::path::Path, flag: &str| {
        run_as("daypass", home, &address, &["login", "-method=approle", flag, "role_id=r", "secret_id=-"], "once")
    };
    for home in [&gone, &unmounted] {
        let ran = login(home, "-format=table");
        assert!(ran.code == 2 && ran.out.contains(" hvs.only\n") && !ran.out.contains("already"), "{}", ran.out);
        assert!(ran.err.starts_with("Error storing token: ") && ran.err.contains("the token was not persisted."), "{}", ran.err);
        let ran = login(home, "-field=token");
        assert_eq!((ran.code, ran.out.as_str()), (2, "hvs.only"));
    }
    let ran = login(&gone, "-no-print");
    assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains("it is lost"), "{}", ran.err);
    let ran = login(&gone, "-no-store");
    assert!(ran.code == 0 && ran.out.contains("hvs.only"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(&unmounted).unwrap().count(), 1);
}

#[test]
fn a_token_that_is_only_wanted_is_not_kept() {
    let server = Server::start(&[(
        "GET /v1/auth/token/lookup-self",
        200,
        r#"{"data":{"id":"t","policies":["root"],"ttl":0,"renewable":false,"accessor":"a"}}"#,
    )]);
    let home = tempfile::tempdir().unwrap();
    let variables = [("VAULT_ADDR", server.address.as_str())];
    let ran = run_as("vault", home.path(), &variables, &["login", "-token-only", "-"], "t\n");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "t", ""));
    let ran = run_as("vault", home.path(), &variables, &["login", "-no-store", "-"], "t\n");
    assert!(
        ran.code == 0 && ran.out.contains("token_duration       ∞\n") && ran.err.starts_with("The token was not stored"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert!(!home.path().join(".vault-token").exists());
    let ran = run_as("vault", home.path(), &variables, &["login"], "");
    assert!(ran.code == 2 && ran.err.contains("not a terminal\nhint: "), "{}", ran.err);
}

/// Story: the token at hand was presented to open the wrapped one of a login. One logs in because that has ended, so the login was spent and its token lost.
#[test]
fn the_wrapped_token_of_a_login_is_opened_by_itself() {
    let server = Server::start(&[
        ("PUT /v1/auth/approle/login", 200, r#"{"wrap_info":{"token":"hvs.wrapping","ttl":60}}"#),
        (
            "PUT /v1/sys/wrapping/unwrap",
            200,
            r#"{"auth":{"client_token":"hvs.new","accessor":"a","policies":["default"],"token_policies":["default"],"lease_duration":60,"renewable":true}}"#,
        ),
    ]);
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(".vault-token"), "hvs.ended").unwrap();
    let variables = [("VAULT_ADDR", server.address.as_str()), ("VAULT_WRAP_TTL", "60s")];
    let ran = run_as("daypass", home.path(), &variables, &["login", "-method=approle", "role_id=r", "secret_id=-"], "s");
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert_eq!(
        server.seen(),
        [r#"PUT /v1/auth/approle/login {"role_id":"r","secret_id":"s"} []"#, "PUT /v1/sys/wrapping/unwrap  [hvs.wrapping]"]
    );
    assert_eq!(std::fs::read_to_string(home.path().join(".vault-token")).unwrap(), "hvs.new");
}

/// Story: a path that the server does not know counted as undone.
#[test]
fn sessions_work_again_only_where_the_server_says_so() {
    let server = Server::start(&[
        ("DELETE /v1/aws/revoke-sessions/gone", 404, r#"{"errors":["no handler for route"]}"#),
        ("DELETE /v1/aws/revoke-sessions/deploy", 204, ""),
    ]);
    let ran = run(&server, &["aws", "revoke-sessions", "-undo", "aws", "gone"]);
    assert!(ran.code == 2 && ran.out.is_empty() && ran.err.contains("no handler for route"), "{}{}", ran.out, ran.err);
    let ran = run(&server, &["aws", "revoke-sessions", "-undo", "aws", "deploy"]);
    assert!(ran.code == 0 && ran.out.starts_with("Success!"), "{}{}", ran.out, ran.err);
}

/// Story: on a store without versions they were dropped, and the whole secret was deleted, overwritten, or another one than was asked for was shown.
#[test]
fn flags_about_versions_are_refused_where_there_are_none() {
    let server =
        Server::start(&[("GET /v1/sys/internal/ui/mounts/kv/a", 200, r#"{"data":{"path":"kv/","type":"kv","options":{"version":"1"}}}"#)]);
    for arguments in [&["delete", "-versions=1", "kv/a"][..], &["put", "-cas=0", "kv/a", "k=v"], &["get", "-version=3", "kv/a"]] {
        let ran = run(&server, &[&["kv"], arguments].concat());
        let wanted = format!("{} is not supported on KV Version 1", arguments[1].split('=').next().unwrap());
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.starts_with(&wanted), "{arguments:?}: {}{}", ran.out, ran.err);
    }
    assert_eq!(server.seen(), ["GET /v1/sys/internal/ui/mounts/kv/a  [root]"; 3]);
}

#[test]
fn kv_asks_about_the_mount_first() {
    let server = Server::start(&[
        ("GET /v1/sys/internal/ui/mounts/secret", 200, r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#),
        (
            "PUT /v1/secret/data/app",
            200,
            r#"{"data":{"version":1,"created_time":"2026-01-02T03:04:05Z","deletion_time":"","destroyed":false,"custom_metadata":null}}"#,
        ),
    ]);
    let ran = run(&server, &["kv", "put", "-mount=secret", "app", "k=v"]);
    let wanted = "= Secret Path =\nsecret/data/app\n\n======= Metadata =======\nKey                Value\n---                -----\ncreated_time       2026-01-02T03:04:05Z\ncustom_metadata    <nil>\ndeletion_time      n/a\ndestroyed          false\nversion            1\n";
    assert_eq!((ran.code, ran.out.as_str()), (0, wanted));
    assert_eq!(
        server.seen(),
        ["GET /v1/sys/internal/ui/mounts/secret  [root]", r#"PUT /v1/secret/data/app {"data":{"k":"v"},"options":{}} [root]"#]
    );
}

/// Story: `kv delete -versions="$OLD"` with `OLD` not set deleted the newest version, and a kill switch for one source identity ended the sessions of
/// all. Vault refuses the first; nothing is sent now.
#[test]
fn an_empty_flag_that_narrows_is_refused_before_anything_is_sent() {
    let server = Server::start(&[("GET /v1/sys/internal/ui/mounts/kv", 200, r#"{"data":{"path":"kv/","options":{"version":"2"}}}"#)]);
    for (arguments, wanted) in [
        (&["kv", "delete", "-versions=", "kv/a"][..], "-versions is empty, and without it the newest version is deleted"),
        (&["kv", "delete", "-versions", "", "kv/a"], "-versions is empty"),
        (&["kv", "delete", "-versions=,", "kv/a"], "No versions provided"),
        (&["kv", "destroy", "-versions=,", "kv/a"], "No versions provided"),
        (&["kv", "undelete", "kv/a"], "No versions provided"),
        (&["kv", "put", "-cas=", "kv/a", "k=v"], "-cas is empty"),
        (&["aws", "revoke-sessions", "-source-identity=", "aws", "r"], "-source-identity is empty, and without it the sessions of all"),
        (&["aws", "revoke-sessions", "-undo", "-source-identity= ", "aws", "r"], "-source-identity is empty"),
        (&["aws", "revoke-sessions", "-role-arn=", "aws", "r"], "-role-arn is empty"),
        (&["token", "create", "-use-limit="], "-use-limit is empty"),
    ] {
        let ran = run(&server, arguments);
        assert!(ran.code == 1 && ran.err.starts_with(wanted), "{arguments:?}: {} {}", ran.code, ran.err);
    }
    assert_eq!(server.seen(), [""; 0]);
}

/// Story: wrappers write `-mount="$MOUNT"` also where `MOUNT` is not set, which is the default to Vault; here `kv get` found nothing, `login` went to
/// `auth//login`, and numbers and files were refused.
#[test]
fn an_empty_flag_is_one_that_was_not_given() {
    let server = Server::start(&[
        ("GET /v1/sys/internal/ui/mounts/kv/a", 200, r#"{"data":{"path":"kv/","options":{"version":"2"}}}"#),
        ("GET /v1/kv/data/a", 200, r#"{"data":{"data":{"k":"v"},"metadata":{"version":1}}}"#),
        ("POST /v1/sys/mounts/kv", 204, ""),
        ("PUT /v1/sys/audit/file", 204, ""),
        ("GET /v1/auth/token/lookup-self", 200, r#"{"data":{"id":"t"}}"#),
    ]);
    for arguments in [
        &["kv", "get", "-mount=", "-field=", "kv/a"][..],
        &["kv", "get", "-ca-cert=", "-ca-path=", "-client-cert=", "-client-key=", "-agent-address=", "-address=", "kv/a"],
        &["secrets", "enable", "-path=", "-description=", "kv"],
        &["audit", "enable", "-path=", "file", "file_path=/tmp/a"],
        &["login", "-method=", "-path=", "token=t"],
    ] {
        let ran = run(&server, arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
    }
    for arguments in [["kv", "get", "-version=", "kv/a"], ["secrets", "enable", "-version=", "kv"], ["kv", "get", "-wrap-ttl=", "kv/a"]] {
        let ran = run(&server, &arguments);
        assert!(ran.code == 1 && ran.err.contains(" is empty, and without it "), "{arguments:?}: {}", ran.err);
    }
    let seen = server.seen();
    assert_eq!(seen.iter().filter(|line| line.starts_with("GET /v1/kv/data/a ")).count(), 2);
    assert!(seen.iter().any(|line| line.starts_with("PUT /v1/sys/audit/file ")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("GET /v1/auth/token/lookup-self  [t]"));
}

/// Story: a token from a file ends with a line's end, and only `login -` took it off: `token=-` and `token=@file` were refused.
#[test]
fn a_token_from_a_file_or_a_pipe_has_no_line_end() {
    let server = Server::start(&[("GET /v1/auth/token/lookup-self", 200, r#"{"data":{"id":"t"}}"#)]);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("token");
    std::fs::write(&file, "hvs.t\n").unwrap();
    let from_file = format!("token=@{}", file.display());
    for arguments in [["login", "token=-"], ["login", "-"], ["login", &from_file]] {
        let ran = run_as("daypass", home.path(), &[("VAULT_ADDR", &server.address)], &arguments, "hvs.t\n");
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.err);
    }
    assert_eq!(server.seen(), ["GET /v1/auth/token/lookup-self  [hvs.t]"; 3]);
}

#[test]
fn kv_patch_falls_back_to_read_and_write() {
    let server = Server::start(&[
        ("GET /v1/sys/internal/ui/mounts/secret/app", 200, r#"{"data":{"path":"secret/","options":{"version":"2"}}}"#),
        ("PATCH /v1/secret/data/app", 405, r#"{"errors":[]}"#),
        ("GET /v1/secret/data/app", 200, r#"{"data":{"data":{"a":"1","b":"2"},"metadata":{"version":4}}}"#),
        ("PUT /v1/secret/data/app", 200, r#"{"data":{"version":5}}"#),
    ]);
    let ran = run(&server, &["kv", "patch", "-field=version", "-remove-data=a", "secret/app", "b=3"]);
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "5", ""));
    assert_eq!(server.seen().last().unwrap(), r#"PUT /v1/secret/data/app {"data":{"b":"3"},"options":{"cas":4}} [root]"#);
}

/// Story: `-cas` was heard where the change is sent and not where the secret is read and written back: there the version that was read counted, so that
/// whoever named another one overwrote it.
#[test]
fn kv_patch_writes_back_only_over_the_version_that_was_named() {
    let server = Server::start(&[
        ("GET /v1/sys/internal/ui/mounts/secret/app", 200, r#"{"data":{"path":"secret/","options":{"version":"2"}}}"#),
        ("PATCH /v1/secret/data/app", 405, r#"{"errors":[]}"#),
        ("GET /v1/secret/data/app", 200, r#"{"data":{"data":{"a":"1"},"metadata":{"version":4}}}"#),
        ("PUT /v1/secret/data/app", 200, r#"{"data":{"version":5}}"#),
    ]);
    for (flags, cas) in
        [(&["-cas=3"][..], 3), (&["-cas=3", "-method=rw"], 3), (&["-cas=0", "-method=rw"], 0), (&["-cas=-1", "-method=rw"], 4)]
    {
        let ran = run(&server, &[&["kv", "patch"], flags, &["secret/app", "b=3"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let wanted = format!(r#"PUT /v1/secret/data/app {{"data":{{"a":"1","b":"3"}},"options":{{"cas":{cas}}}}} [root]"#);
        assert_eq!(server.seen().last(), Some(&wanted), "{flags:?}");
    }
}

/// Story: a flag that was given twice was an error. Wrappers that put `-format=json` before what their caller gives stopped working.
#[test]
fn of_a_flag_given_twice_the_last_counts_and_lists_grow() {
    let server = Server::start(&[SECRET, ("POST /v1/auth/token/create", 200, r#"{"auth":{"client_token":"t"}}"#)]);
    let ran = run(&server, &["read", "-format=json", "-field=ttl", "aws/sts/deploy", "-field=access_key", "-format=table", "ttl=15m"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "ASIA"), "{}", ran.err);
    let ran = run(&server, &["token", "create", "-policy=a", "-ttl=1h", "-policy=b", "-metadata=x=1", "-metadata=y=2", "-ttl=2h"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let sent = server.seen().pop().unwrap();
    for part in [r#""policies":["a","b"]"#, r#""meta":{"x":"1","y":"2"}"#, r#""ttl":"2h0m0s""#] {
        assert!(sent.contains(part), "{part} is missing: {sent}");
    }
}

/// Story: `policy fmt` said "Success!" of a text that no server takes.
#[test]
fn what_is_no_policy_is_not_formatted() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("p.hcl");
    for (text, why) in [
        ("path \"a\" {\ncapabilities=[\"fly\"]\n}\n", "invalid capability \"fly\""),
        ("storage \"x\" {\n}\n", "failed to parse policy"),
        ("hello world\n", "failed to parse policy"),
    ] {
        std::fs::write(&file, text).unwrap();
        let ran = run_as("daypass", home.path(), &[], &["policy", "fmt", file.to_str().unwrap()], "");
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains(why), "{}{}", ran.out, ran.err);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    }
    std::fs::write(&file, "path \"a\" {\ncapabilities=[\"read\"]\n}").unwrap();
    let ran = run_as("daypass", home.path(), &[], &["policy", "fmt", file.to_str().unwrap()], "");
    assert_eq!(
        (ran.code, std::fs::read_to_string(&file).unwrap().as_str()),
        (0, "path \"a\" {\n  capabilities = [\"read\"]\n}\n"),
        "{}",
        ran.err
    );
}

/// Story: URLs and headers of `-output-curl-string` stood in double quotes as they were: a shell put its own variables and commands in.
#[test]
fn a_curl_command_means_in_a_shell_what_was_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let header = r#"X-Own=a"b$(echo c)`echo d`\\!"#;
    let flags = ["-output-curl-string", "-address=http://h:1", "-header", header];
    let ran = run_as("daypass", home.path(), &[], &[&["write"], &flags[..], &["kv/it's$x", "a=b"]].concat(), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains(r#"-H "X-Vault-Token: $(daypass print token)""#), "{}", ran.out);
    // The shell takes it apart, with functions in the place of both programs.
    let script = format!("curl() {{ printf '%s\\n' \"$@\"; }}\ndaypass() {{ echo token-of-$1; }}\n{}", ran.out);
    let words = Command::new("/bin/bash").args(["-c", &script]).output().unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    for word in [r#"x-own: a"b$(echo c)`echo d`\\!"#, "X-Vault-Token: token-of-print", r#"{"a":"b"}"#] {
        assert!(words.lines().any(|line| line == word), "{word} is missing: {words}");
    }
    let url = words.lines().last().unwrap();
    assert!(url == "http://h:1/v1/kv/it's$x" || url == "http://h:1/v1/kv/it%27s$x", "{url}");
}

/// As bash asks for it on TAB.
#[test]
fn a_shell_offers_flags_with_one_dash() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("completion");
    std::fs::write(&script, run_as("daypass", home.path(), &[], &["completion", "bash"], "").out).unwrap();
    let offered = |word: &str| {
        let ask = format!(
            "source {}\nCOMP_WORDS=(daypass kv get {word})\nCOMP_CWORD=3\n_daypass daypass {word} get\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("/bin/bash").args(["-c", &ask]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered("-f"), ["-field", "-format"]);
    let all = offered("-");
    assert!(all.len() > 10 && all.iter().all(|flag| !flag.starts_with("--")), "{all:?}");
}

#[test]
fn called_vault_it_says_vault() {
    let home = tempfile::tempdir().unwrap();
    let ran = run_as("/usr/local/bin/vault", home.path(), &[], &["version"], "");
    assert_eq!(ran.out, format!("Vault v1.21.4+daypass.{}\n", env!("CARGO_PKG_VERSION")));
    let ran = run_as("daypass", home.path(), &[], &["-version"], "");
    assert_eq!(ran.out, format!("daypass v{} (speaks Vault 1.21.4)\n", env!("CARGO_PKG_VERSION")));
    let ran = run_as("vault", home.path(), &[], &["kv", "get", "-help"], "");
    assert!(ran.code == 0 && ran.out.contains("$ vault kv get") && ran.out.contains("-address <URL>"), "{}", ran.out);
}

#[test]
fn a_missing_token_is_pointed_out() {
    let server = Server::start(&[("GET /v1/x", 403, r#"{"errors":["permission denied"]}"#)]);
    let home = tempfile::tempdir().unwrap();
    let ran = run_as("daypass", home.path(), &[("VAULT_ADDR", &server.address)], &["read", "x"], "");
    assert!(ran.code == 2 && ran.err.ends_with("hint: no token was sent: log in first, or set VAULT_TOKEN\n"), "{}", ran.err);
}

#[test]
fn secrets_stay_out_of_errors() {
    let server = Server::start(&[]);
    for arguments in [&["write", "a/b", "hunter2"][..], &["login", "-method=userpass", "hunter2"], &["kv", "put", "a/b", "k=v", "hunter2"]]
    {
        let ran = run(&server, arguments);
        assert!(ran.code == 1 && !ran.err.contains("hunter2") && !ran.out.contains("hunter2"), "{}", ran.err);
    }
}

#[test]
fn a_unix_socket_is_spoken_to() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("d.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _whole = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 20\r\n\r\n{\"data\":{\"k\":\"v\"}}\n\n").unwrap();
    });
    let address = format!("unix://{}", path.display());
    let ran = run_as("daypass", home.path(), &[("VAULT_ADDR", &address), ("VAULT_TOKEN", "t")], &["read", "-field=k", "x"], "");
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, "v", ""));
    let gone = run_as("daypass", home.path(), &[("VAULT_ADDR", "unix:///no/such.sock")], &["read", "x"], "");
    assert!(gone.code == 2 && gone.err.contains("dial unix /no/such.sock: connect: no such file or directory\nhint: "), "{}", gone.err);
}

#[test]
fn a_snapshot_that_is_interrupted_leaves_nothing_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
    command.args(["operator", "snapshot", "save", "night.snap"]).current_dir(home.path()).env_clear();
    command.envs([("HOME", home.path().to_str().unwrap()), ("VAULT_ADDR", &address), ("VAULT_TOKEN", "t")]);
    let saving = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = [0; 4096];
    assert_ne!(stream.read(&mut request).unwrap(), 0);
    stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").unwrap();
    assert!(Command::new("kill").args(["-INT", &saving.id().to_string()]).status().unwrap().success());
    let ended = saving.wait_with_output().unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(ended.status.code() == Some(2) && told.contains("Interrupted: nothing was saved"), "{:?} {told}", ended.status);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

/// Story: a server that gives a snapshot up breaks it off, and whoever saved it was told of an end of file and not what to do.
#[test]
fn a_snapshot_that_is_broken_off_is_not_saved_and_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert_ne!(stream.read(&mut request).unwrap(), 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n").unwrap();
    });
    let ran =
        run_as("daypass", home.path(), &[("VAULT_ADDR", &address), ("VAULT_TOKEN", "t")], &["operator", "snapshot", "save", "a.snap"], "");
    assert!(ran.code == 2 && ran.err.contains("hint: nothing was saved: try again"), "{}", ran.err);
    assert!(!home.path().join("a.snap").exists());
}

/// Story: what came was not verified before it was gone, so a pipe that got half a snapshot must hear of it by the exit code.
#[test]
fn a_snapshot_that_is_none_ends_badly_wherever_it_went() {
    let server = Server::start(&[("GET /v1/sys/storage/raft/snapshot", 200, "no snapshot")]);
    let ran = run(&server, &["operator", "snapshot", "save", "-"]);
    assert!(ran.code == 2 && ran.out == "no snapshot" && ran.err.contains("hint: do not use what was written"), "{}", ran.err);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("night.snap");
    let ran = run(&server, &["operator", "snapshot", "save", file.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.err.contains("hint: nothing was saved"), "{}", ran.err);
    let ran = run(&server, &["operator", "snapshot", "save", home.path().to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("Is a directory"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    let (code, told) = run_full(&server, &["operator", "snapshot", "save", "-"]);
    assert!(code == Some(1) && told.starts_with("Error writing the snapshot: -: No space left"), "{told}");
}

const INIT: [Route; 4] = [
    ("GET /v1/sys/seal-status", 200, r#"{"type":"shamir","initialized":false,"sealed":true,"recovery_seal":false}"#),
    ("PUT /v1/sys/init", 200, r#"{"keys":["6162"],"keys_base64":["YWI="],"root_token":"hvs.once"}"#),
    ("GET /v1/sys/rekey/init", 200, r#"{"nonce":"n","started":true,"t":1,"n":1,"progress":0,"required":1}"#),
    ("PUT /v1/sys/rekey/update", 200, r#"{"nonce":"n","complete":true,"keys":["6364"],"keys_base64":["Y2Q="]}"#),
];

const ONCE: [Route; 5] = [
    ("POST /v1/auth/token/create", 200, r#"{"auth":{"client_token":"hvs.child","policies":["default"]}}"#),
    ("PUT /v1/auth/userpass/login/bob", 200, r#"{"auth":{"client_token":"hvs.login","policies":["default"]}}"#),
    ("GET /v1/secret/wrapped", 200, r#"{"wrap_info":{"token":"hvs.wrapping","ttl":60}}"#),
    ("PUT /v1/sys/wrapping/unwrap", 200, r#"{"data":{"password":"xyzzy"}}"#),
    ("PUT /v1/auth/approle/role/ci/secret-id", 200, r#"{"data":{"secret_id":"once-and-never-again"}}"#),
];

/// With stdout on a full disk.
fn run_full(server: &Server, arguments: &[&str]) -> (Option<i32>, String) {
    run_redirected(server, arguments, ">/dev/full")
}

/// With stdout as a shell has it after this redirection. Returns the exit code, and what stderr was told.
fn run_redirected(server: &Server, arguments: &[&str], redirection: &str) -> (Option<i32>, String) {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("exec \"$0\" \"$@\" {redirection}"), env!("CARGO_BIN_EXE_daypass")]).args(arguments);
    run_into(server, command, Stdio::null())
}

/// The same, with this as stdout.
fn run_into(server: &Server, mut command: Command, stdout: Stdio) -> (Option<i32>, String) {
    let home = tempfile::tempdir().unwrap();
    command.env_clear().env("HOME", home.path()).env("VAULT_ADDR", &server.address).env("VAULT_TOKEN", "root");
    let mut child = command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let _unread = child.stdin.take().unwrap().write_all(b"YWI=");
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Story: with stdout closed, a snapshot went nowhere and so did the keys of a new store, and both commands ended with success: Rust's runtime puts
/// the null device where nothing is.
#[test]
fn a_closed_stdout_is_an_error_and_one_that_leads_nowhere_on_purpose_is_not() {
    let server = Server::start(&[INIT[0], INIT[1], ("GET /v1/sys/storage/raft/snapshot", 200, "no snapshot")]);
    let save = ["operator", "snapshot", "save", "-"];
    let (code, told) = run_redirected(&server, &save, ">&-");
    assert!(code == Some(1) && told.starts_with("Error creating the snapshot: -: standard output is closed"), "{code:?} {told}");
    let (code, told) = run_redirected(&server, &["operator", "init"], ">&-");
    assert!(code == Some(1) && told.contains("standard output is closed") && told.contains("Unseal Key 1: YWI="), "{code:?} {told}");
    assert_eq!(run_redirected(&server, &["operator", "init"], ">/dev/null"), (Some(0), String::new()));
    let (code, told) = run_redirected(&server, &save, ">/dev/null");
    assert!(code == Some(2) && told.contains("hint: do not use what was written"), "{code:?} {told}");
}

/// Story: `operator init -format=json > keys.json` on a full disk ended with success, and the only copy of the keys was gone.
#[test]
fn output_that_cannot_be_written_is_an_error_and_keys_are_shown_all_the_same() {
    let server = Server::start(&INIT);
    for (arguments, shown) in [
        (&["operator", "init", "-format=json"][..], "\"root_token\": \"hvs.once\""),
        (&["operator", "init"], "Unseal Key 1: YWI="),
        (&["operator", "init", "-format=yaml"], "root_token: hvs.once"),
        (&["operator", "rekey", "-nonce=n", "-"], "Key 1: Y2Q="),
        (&["operator", "rekey", "-nonce=n", "-format=json", "-"], "\"Y2Q=\""),
    ] {
        let (code, told) = run_full(&server, arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {told}");
        assert!(told.starts_with("Error writing the output: No space left on device"), "{arguments:?}: {told}");
        assert!(told.contains(shown), "{arguments:?}: {told}");
    }
    let server = Server::start(&ONCE);
    for (arguments, shown) in [
        (&["token", "create"][..], "hvs.child"),
        (&["token", "create", "-field=token"], "hvs.child"),
        (&["token", "create", "-format=yaml"], "client_token: hvs.child"),
        (&["login", "-method=userpass", "username=bob", "password=-"], "hvs.login"),
        (&["login", "-token-only", "-method=userpass", "username=bob", "password=-"], "hvs.login"),
        (&["read", "-wrap-ttl=60s", "secret/wrapped"], "hvs.wrapping"),
        (&["read", "-wrap-ttl=60s", "-format=raw", "secret/wrapped"], "hvs.wrapping"),
        (&["unwrap", "-field=password"], "xyzzy"),
        (&["unwrap", "-format=json"], "\"password\": \"xyzzy\""),
        (&["write", "-f", "-field=secret_id", "auth/approle/role/ci/secret-id"], "once-and-never-again"),
    ] {
        let (code, told) = run_full(&server, arguments);
        assert!(code == Some(1) && told.contains("No space left on device") && told.contains(shown), "{arguments:?}: {code:?} {told}");
    }
    // What can be read again is not repeated.
    let server = Server::start(&[SECRET]);
    let (code, told) = run_full(&server, &["read", "aws/sts/deploy", "ttl=15m"]);
    assert!(code == Some(1) && told.contains("No space left on device") && !told.contains("ASIA"), "{code:?} {told}");
    assert_eq!(run_full(&server, &["kv", "-help"]).0, Some(1));
    assert_eq!(run_full(&server, &["read", "nowhere"]).0, Some(2), "a refusal stays one");
}

/// Story: `operator init | gpg` with a typo in the name of a key: gpg had ended, the keys were nowhere, and the exit code was 0.
#[test]
fn what_exists_nowhere_else_is_shown_though_its_reader_has_ended() {
    let server = Server::start(&INIT);
    for (arguments, shown) in [(&["operator", "init"][..], "Unseal Key 1: YWI="), (&["operator", "rekey", "-nonce=n", "-"], "Key 1: Y2Q=")]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
        command.args(arguments);
        let (code, told) = run_into(&server, command, writer.into());
        assert!(code == Some(1) && told.contains("has ended") && told.contains(shown), "{arguments:?}: {code:?} {told}");
    }
}

/// A reader that has seen enough is no error: `daypass list ... | head`.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = Server::start(&[SECRET]);
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
    command.args(["read", "aws/sts/deploy", "ttl=15m"]).env_clear().env("HOME", home.path()).env("VAULT_ADDR", &server.address);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command.env("VAULT_TOKEN", "root").stdout(writer).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn completion_scripts_know_the_verbs() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let ran = run_as("daypass", home.path(), &[], &["completion", shell], "");
        assert!(ran.code == 0 && ran.out.contains("path-help") && ran.out.contains("daypass"), "{shell}");
    }
    let ran = run_as("daypass", home.path(), &[], &["completion", "tcl"], "");
    assert!(ran.code == 1 && ran.err.contains("tcl"), "{}", ran.err);
}
