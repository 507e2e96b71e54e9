//! Audit devices in trouble, under many clients at once, against the real binary: a receiver that does not read and a disk that is full.
//!
//! While another device takes the records, nobody notices. While none does, requests are refused before anything is minted, in clear
//! words, and at once. When a device is back, so is the service, without a restart.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a failing test may panic"
)]

#[path = "bad_input/server.rs"]
mod server;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use daypass_base::{Clock as _, SystemClock};
use serde_json::{Value, json};
use server::{Answer, Server};

const CLIENTS: usize = 64;
/// Long enough to fill the receiver's buffers soon: it is logged with each record.
const AGENT_BYTES: usize = 4000;
const NOT_CARRIED_OUT: &str = "internal error: no audit device took the record of this request, so it was not carried out";

#[test]
fn a_hung_socket_and_a_full_disk_stop_nothing_while_another_device_works_and_everything_while_none_does() {
    let disk = Disk::small();
    let receiver = Receiver::start();
    let sandbox = daypass_testkit::free::address().unwrap();
    let server = Server::start_with(&[format!("-dev-aws-sandbox-address={sandbox}")]);
    lend(&server);
    enable(&server, "disk", &json!({ "type": "file", "options": { "file_path": disk.log, "skip_test": "true" } }));
    enable(&server, "socket", &json!({ "type": "socket", "options": { "address": receiver.address.to_string(), "write_timeout": "1s" } }));
    disk.fill();

    // Nothing fails while the file works, and nobody waits for long.
    let clock = SystemClock::new();
    let answers = mint(&server, 4);
    let spent = clock.elapsed();
    assert_all(&answers, 200, "");
    assert_eq!(answers.len(), CLIENTS * 4);
    assert_eq!(whole_lines(&server.audit_file()).filter(is_mint).count(), answers.len(), "a mint without a record");
    assert!(spent < Duration::from_mins(2), "{CLIENTS} clients took {spent:?} for 4 requests each");
    until_logged(&server, "audit device does not take lines device=socket/");
    assert!(server.log().contains("audit device does not take lines device=disk/"), "the disk is not full: {}", server.log());

    // The file goes: now no device takes a record.
    let gone = server.ask("DELETE", "sys/audit/file", "");
    // Its own record may just fit into the last bytes of the disk; those of a mint do not.
    assert!(gone.status == 204 || gone.errors().ends_with("took the record of the answer, so it is withheld"), "{gone:?}");
    assert!(assumed(sandbox) >= answers.len());
    forget(sandbox);
    assert_all(&mint(&server, 2), 500, NOT_CARRIED_OUT);
    assert_eq!(assumed(sandbox), 0, "something was minted without a record");

    // The disk has room again.
    if disk.is_mounted {
        disk.free();
        assert_all(&mint(&server, 1), 200, "");
        assert!(whole_lines(&disk.log).filter(is_mint).count() >= CLIENTS);
        disk.fill();
        until(&server, 500);
        forget(sandbox);
        assert_all(&mint(&server, 1), 500, NOT_CARRIED_OUT);
        assert_eq!(assumed(sandbox), 0);
    }

    // The receiver reads again, on the connection that it had.
    receiver.read();
    until(&server, 200);
    assert_all(&mint(&server, 1), 200, "");
    assert!(!server.log().contains("panic"));
    drop(server);
    let received = receiver.all();
    let lines: Vec<Value> = received.lines().map(|line| serde_json::from_str(line).expect("a torn line")).collect();
    assert!(lines.iter().filter(|line| is_mint(line)).count() >= CLIENTS, "{} lines", lines.len());
}

#[test]
fn a_log_that_was_moved_away_or_deleted_goes_on_in_a_new_file_within_a_second_or_so() {
    let server = Server::start();
    let path = server.audit_file();
    let moved = path.with_extension("1");
    std::fs::rename(&path, &moved).unwrap();
    until_exists(&server, &path);
    std::fs::remove_file(&path).unwrap();
    until_exists(&server, &path);
    assert_eq!(server.ask("GET", "sys/mounts", "").status, 200);
    assert!(whole_lines(&path).count() >= 2);
    assert!(whole_lines(&moved).count() >= 2);
}

fn lend(server: &Server) {
    assert_eq!(server.ask("POST", "sys/mounts/aws", r#"{"type":"aws"}"#).status, 204);
    let role = json!({ "credential_type": "assumed_role", "role_arns": "arn:aws:iam::111111111111:role/ecr-staging" });
    assert_eq!(server.ask("POST", "aws/roles/deploy", role.to_string()).status, 204);
}

fn enable(server: &Server, path: &str, device: &Value) {
    let answer = server.ask("PUT", &format!("sys/audit/{path}"), device.to_string());
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// All clients at once, each so many requests for a credential.
fn mint(server: &Server, rounds: usize) -> Vec<Answer> {
    let headers = format!("User-Agent: {}\r\n", "x".repeat(AGENT_BYTES));
    let client = || (0..rounds).map(|_| server.with_headers("GET", "/v1/aws/creds/deploy", &headers, "")).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn assert_all(answers: &[Answer], status: u16, error: &str) {
    for answer in answers {
        assert_eq!((answer.status, answer.errors().as_str()), (status, error), "{answer:?}");
    }
}

/// Asks until the answer has this status, for ever so long.
fn until(server: &Server, status: u16) {
    let clock = SystemClock::new();
    while server.ask("GET", "aws/roles/deploy", "").status != status {
        assert!(clock.elapsed() < Duration::from_mins(1), "never {status}");
    }
}

/// Asks until the file is there. Nothing is asked of the file itself: the server looks after it when idle, too.
/// A write to a receiver that is stuck fails a second after it began, when all are answered already.
fn until_logged(server: &Server, text: &str) {
    let clock = SystemClock::new();
    while !server.log().contains(text) {
        assert_eq!(server.ask("GET", "sys/health", "").status, 200);
        assert!(clock.elapsed() < Duration::from_secs(20), "no {text:?} in {}", server.log());
    }
}

fn until_exists(server: &Server, path: &Path) {
    let clock = SystemClock::new();
    while !path.exists() {
        assert_eq!(server.ask("GET", "sys/health", "").status, 200);
        assert!(clock.elapsed() < Duration::from_secs(30), "{} does not come back", path.display());
    }
}

fn is_mint(line: &Value) -> bool {
    line["type"] == "response" && line["request"]["path"] == "aws/creds/deploy" && line["error"].is_null()
}

/// The lines of a log, each of which must be whole.
fn whole_lines(path: &Path) -> impl Iterator<Item = Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{} ends in a cut line", path.display());
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("a torn line: {line}"))).collect();
    lines.into_iter()
}

/// How many roles were assumed since it was told to forget, failed attempts too. It remembers a thousand.
fn assumed(sandbox: SocketAddr) -> usize {
    let calls: Value = serde_json::from_str(&sandbox_says(sandbox, "GET", "calls", "")).unwrap();
    calls["calls"].as_array().unwrap().iter().filter(|call| call["action"] == "AssumeRole").count()
}

fn forget(sandbox: SocketAddr) {
    sandbox_says(sandbox, "POST", "control", r#"{"forget_calls":true}"#);
}

fn sandbox_says(sandbox: SocketAddr, method: &str, what: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(sandbox).unwrap();
    let head = format!("{method} /_sandbox/{what} HTTP/1.1\r\nHost: {sandbox}\r\nContent-Type: application/json\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let answer = std::io::read_to_string(stream).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// A file system of a megabyte with a log on it. Where none can be mounted (that takes root), the device that is always full.
struct Disk {
    log: PathBuf,
    folder: tempfile::TempDir,
    is_mounted: bool,
}

impl Disk {
    fn small() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "daypass-test"]).arg(folder.path()).output();
        let is_mounted = mounted.is_ok_and(|output| output.status.success());
        if !is_mounted {
            eprintln!("no file system can be mounted here: the full disk is /dev/full, which never has room again");
        }
        let log = if is_mounted { folder.path().join("audit.log") } else { PathBuf::from("/dev/full") };
        Self { log, folder, is_mounted }
    }

    /// Leaves no whole page.
    fn fill(&self) {
        if self.is_mounted {
            let mut filler = std::fs::OpenOptions::new().append(true).create(true).open(self.filler()).unwrap();
            for _ in 0..10_000 {
                if let Err(error) = filler.write_all(&[0; 4096]) {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    return;
                }
            }
            panic!("the disk has no end");
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.folder.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            // Lazily: whoever still has the log open does not matter.
            let done = Command::new("umount").arg("-l").arg(self.folder.path()).status();
            assert!(std::thread::panicking() || done.unwrap().success());
        }
    }
}

/// Accepts every connection and reads none, until it is told to.
struct Receiver {
    address: SocketAddr,
    start: mpsc::Sender<()>,
    received: mpsc::Receiver<String>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((start, started), (sender, received)) = (mpsc::channel::<()>(), mpsc::channel());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // Others are accepted and left alone: only the first is ever read.
            std::thread::spawn(move || listener.incoming().collect::<Vec<_>>());
            if started.recv().is_ok() {
                let mut text = String::new();
                // The end may be a reset, when the server is killed; what came before counts.
                let _reset = stream.read_to_string(&mut text);
                let _test_over = sender.send(text);
            }
        });
        Self { address, start, received }
    }

    fn read(&self) {
        self.start.send(()).unwrap();
    }

    /// What came, to the end.
    fn all(self) -> String {
        self.received.recv_timeout(Duration::from_secs(30)).unwrap()
    }
}
