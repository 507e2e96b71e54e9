//! A dev server of the real binary, and the least HTTP that is needed to ask it wrongly.
#![allow(dead_code, reason = "each test file that includes this uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// A dev server with an audit device, so that what is refused is also written down. Dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a closed one would end the server at its next word.
    _words: BufReader<ChildStdout>,
    home: tempfile::TempDir,
    address: SocketAddr,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// An answer later than this counts as a hang. The server's own patience with a slow request head is 10 seconds.
const PATIENCE: Duration = Duration::from_secs(30);

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments.
    pub(crate) fn start_with(more: &[String]) -> Self {
        let address = daypass_testkit::free::address().unwrap();
        let home = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
            // AWS in a box: no request of a test may leave this machine.
            .args(["server", "-dev", "-dev-aws-sandbox", "-dev-root-token-id=root", "-dev-no-store-token"])
            .arg(format!("-dev-listen-address={address}"))
            .args(more)
            .env_clear()
            .env("HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("server started!") {
            line.clear();
            assert!(
                words.read_line(&mut line).unwrap() > 0,
                "the server did not start: {}",
                std::fs::read_to_string(home.path().join("log")).unwrap()
            );
        }
        let server = Self { child, _words: words, home, address };
        let device = format!(r#"{{"type":"file","options":{{"file_path":"{}"}}}}"#, server.audit_file().display());
        assert_eq!(server.ask("PUT", "sys/audit/file", device).status, 204);
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn audit_file(&self) -> PathBuf {
        self.home.path().join("audit")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    /// Sends bytes, then nothing more, and reads to the end. A client that is cut off while it sends still reads what was answered.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        if stream.write_all(bytes).is_ok() {
            // Gone already is as good.
            let _gone = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            let hangs = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
            assert!(!hangs, "no end within {PATIENCE:?} after {}", excerpt(bytes));
        }
        answer
    }

    /// A request of root's to a path below `/v1/`.
    pub(crate) fn ask(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.with_headers(method, &format!("/v1/{path}"), "", body)
    }

    /// A request with more header lines, each ended by `\r\n`.
    pub(crate) fn with_headers(&self, method: &str, target: &str, headers: &str, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let mut bytes = format!(
            "{method} {target} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: root\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend(body);
        Answer::read(&self.raw(&bytes)).unwrap_or_else(|| panic!("no answer to {}", excerpt(&bytes)))
    }

    /// One connection for many requests.
    pub(crate) fn connect(&self) -> Connection {
        Connection { stream: dial(self.address) }
    }

    /// The server serves on, nothing of it panicked, and its audit log is whole.
    pub(crate) fn is_unharmed(&self) {
        assert_eq!(self.ask("GET", "sys/health", "").status, 200);
        let log = self.log();
        assert!(!log.contains("panic"), "{log}");
        for line in std::fs::read_to_string(self.audit_file()).unwrap().lines() {
            assert!(serde_json::from_str::<Value>(line).is_ok(), "no JSON in the audit log: {line}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Kept open from request to request.
pub(crate) struct Connection {
    stream: TcpStream,
}

impl Connection {
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let kind = if method == "PATCH" { "Content-Type: application/merge-patch+json\r\n" } else { "" };
        let length = body.len();
        let request =
            format!("{method} /v1/{path} HTTP/1.1\r\nHost: x\r\nX-Vault-Token: root\r\n{kind}Content-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let mut piece = [0; 16 * 1024];
        loop {
            let read = self.stream.read(&mut piece).unwrap_or_else(|error| panic!("{method} {path} {}: {error}", excerpt(body.as_bytes())));
            assert!(read > 0, "the connection ended at {method} {path} {}", excerpt(body.as_bytes()));
            bytes.extend_from_slice(&piece[..read]);
            // A HEAD request's answer has a length and no body.
            if let Some(answer) = Answer::read(&bytes).filter(|answer| method == "HEAD" || Some(answer.body.len()) == length_of(&bytes)) {
                // What answers before it has read a body says that it hangs up, and a client dials again.
                if String::from_utf8_lossy(&bytes).to_ascii_lowercase().contains("\r\nconnection: close\r\n") {
                    self.stream = dial(self.stream.peer_addr().unwrap());
                }
                return answer;
            }
        }
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl Answer {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(bytes);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
        Some(Self { status, body: body.to_owned() })
    }

    /// The errors, joined.
    pub(crate) fn errors(&self) -> String {
        let value: Value = serde_json::from_str(&self.body).unwrap_or_default();
        value["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")
    }
}

fn length_of(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    match text.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => length.parse().ok(),
        // 204: no body and no length.
        None => Some(0),
    }
}

pub(crate) fn excerpt(bytes: &[u8]) -> String {
    let text: String = bytes.escape_ascii().take(160).map(char::from).collect();
    format!("{text} ({} bytes)", bytes.len())
}
