//! The log of a real server, followed by the real command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use daypass_base::{Clock as _, SystemClock};

/// A server in memory that logs to a file. Dropping it ends it.
struct Server {
    child: Child,
    /// Kept open: a closed one would end the server at its next word.
    _words: BufReader<ChildStdout>,
    home: tempfile::TempDir,
    address: SocketAddr,
}

impl Server {
    fn start(level: &str) -> Self {
        let address = daypass_testkit::free::address().unwrap();
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
            .args(["server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-log-file=log"])
            .arg(format!("-log-level={level}"))
            .arg(format!("-dev-listen-address={address}"))
            .env_clear()
            .env("HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("server started!") {
            line.clear();
            assert!(words.read_line(&mut line).unwrap() > 0, "the server did not start");
        }
        Self { child, _words: words, home, address }
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_daypass"));
        command
            .args(words.split(' '))
            .env_clear()
            .env("HOME", self.home.path())
            .env("VAULT_ADDR", format!("http://{}", self.address))
            .env("VAULT_TOKEN", "root")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, words: &str) -> String {
        let output = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        format!("{} {}{}", output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Follows the log; the lines come one by one.
    fn follow(&self, words: &str) -> (Child, Receiver<String>) {
        let mut child = self.command(words).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (told, heard) = channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| told.send(line)));
        (child, heard)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[test]
fn a_monitor_hears_what_the_server_itself_does_not_write_down_and_ends_with_it() {
    let mut server = Server::start("warn");
    let (mut monitor, lines) = server.follow("monitor -log-level=info");
    let (mut as_json, objects) = server.follow("monitor -log-format=json");
    // Each try logs a line; the first ones may come before the monitors listen.
    let (mut line, mut object) = (None, None);
    for _ in 0..200 {
        server.run("write sys/loggers/expiry level=warn");
        line = line.or(lines.try_recv().ok());
        object = object.or(objects.try_recv().ok());
        if line.is_some() && object.is_some() {
            break;
        }
    }
    let (line, object) = (line.expect("the monitor hears nothing"), object.expect("the monitor hears no JSON"));
    assert!(line.ends_with("[INFO]  core: what is logged was changed: logger=expiry level=warn"), "{line}");
    let object: serde_json::Value = serde_json::from_str(&object).unwrap();
    assert_eq!((&object["@level"], &object["@module"], &object["logger"]), (&"info".into(), &"core".into(), &"expiry".into()));
    assert!(!server.log().contains("what is logged was changed"), "{}", server.log());

    let pid = rustix::process::Pid::from_child(&server.child);
    let clock = SystemClock::new();
    let asked = clock.elapsed();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.child.wait().unwrap().success());
    let took = clock.elapsed().saturating_sub(asked);
    assert!(took < Duration::from_secs(20), "listeners held the server up for {took:?}");
    assert!(monitor.wait().unwrap().success() && as_json.wait().unwrap().success());
}

#[test]
fn a_monitor_is_refused_in_words() {
    let server = Server::start("info");
    assert!(server.run("monitor -log-level=loud").starts_with("1 loud is an unknown log level."));
    assert!(server.run("monitor -log-format=xml").starts_with("1 xml is an unknown log format."));
    let mut stranger = server.command("monitor").env("VAULT_TOKEN", "nobody").spawn().unwrap();
    let mut said = String::new();
    stranger.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(stranger.wait().unwrap().code() == Some(2) && said.contains("Code: 403"), "{said}");
}

#[test]
fn what_a_running_server_writes_down_is_changed_and_changed_back() {
    let server = Server::start("warn");
    server.run("write sys/loggers/core level=info");
    let told = |log: String| log.matches("what is logged was changed").count();
    assert_eq!(told(server.log()), 1, "{}", server.log());
    assert!(server.run("read -field=core sys/loggers").starts_with("0 info"));
    server.run("delete sys/loggers");
    assert!(server.run("read -field=core sys/loggers/core").starts_with("0 warn"));
    server.run("write sys/loggers/expiry level=trace");
    assert_eq!(told(server.log()), 1, "{}", server.log());
}

/// A channel that is empty and one that has ended are told apart, so that a monitor that dies early fails the test at once.
#[test]
fn a_monitor_stays_while_there_is_nothing_to_tell() {
    let server = Server::start("warn");
    let (mut monitor, lines) = server.follow("monitor -log-level=error");
    for _ in 0..5 {
        server.run("status");
    }
    assert_eq!(lines.try_recv(), Err(TryRecvError::Empty));
    monitor.kill().unwrap();
    monitor.wait().unwrap();
}
