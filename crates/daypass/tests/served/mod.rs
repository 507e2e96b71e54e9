//! A real server of the shipped binary, and its command line, for tests of what people do with both.
#![allow(dead_code, reason = "each test binary uses its part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// A server process and what it keeps. Dropping it ends it.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// Kept open: a closed one would end the server at its next word.
    pub(crate) words: BufReader<ChildStdout>,
    /// What it said of itself when it started.
    pub(crate) said: String,
    pub(crate) home: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Server {
    /// Not initialised. `more` is what its configuration has besides a listener.
    pub(crate) fn fresh(more: impl Fn(&std::path::Path) -> String) -> Self {
        let address = daypass_testkit::free::address().unwrap();
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("tmp")).unwrap();
        let more = more(home.path());
        let text = format!("{more}\nlistener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n}}\ndisable_mlock = true\n");
        std::fs::write(home.path().join("config.hcl"), text).unwrap();
        let (child, words, said) = Self::spawn(home.path());
        Self { child, words, said, home, address, token: String::new() }
    }

    /// With as few open files as a shell may grant.
    pub(crate) fn spawn(home: &std::path::Path) -> (Child, BufReader<ChildStdout>, String) {
        let log = std::fs::File::create(home.join("log")).unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -Sn 300; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_daypass"), "server", "-config=config.hcl"])
            .env_clear()
            .env("HOME", home)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        while !said.contains("server started!") {
            let log = || std::fs::read_to_string(home.join("log")).unwrap();
            assert!(words.read_line(&mut said).unwrap() > 0, "the server did not start: {}", log());
        }
        (child, words, said)
    }

    pub(crate) fn restart(&mut self) {
        self.child.kill().unwrap();
        self.start_again();
    }

    /// Without a word, as a power cut would.
    pub(crate) fn die(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// What a server that does not start says.
    pub(crate) fn refuses_to_start(&self) -> String {
        let mut server = Command::new(env!("CARGO_BIN_EXE_daypass"));
        server.args(["server", "-config=config.hcl"]).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        let output = server.stdin(Stdio::null()).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }

    pub(crate) fn at(&self, name: &str) -> std::path::PathBuf {
        self.home.path().join(name)
    }

    /// Puts another configuration in the place of this text of it.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let config = std::fs::read_to_string(self.at("config.hcl")).unwrap();
        assert!(config.contains(from), "{config}");
        std::fs::write(self.at("config.hcl"), config.replace(from, to)).unwrap();
    }

    /// As a service manager does it.
    pub(crate) fn restart_gracefully(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.start_again();
    }

    pub(crate) fn start_again(&mut self) {
        self.child.wait().unwrap();
        (self.child, self.words, self.said) = Self::spawn(self.home.path());
    }

    pub(crate) fn run(&self, words: &str, stdin: &str) -> Ran {
        Ran::of(self.piped(words, stdin.as_bytes()))
    }

    pub(crate) fn run_at(&self, address: &str, words: &str, stdin: &str) -> Ran {
        Ran::of(fed(self.begin_at(address, words), stdin.as_bytes()))
    }

    pub(crate) fn piped(&self, words: &str, stdin: &[u8]) -> Output {
        fed(self.begin(words), stdin)
    }

    pub(crate) fn begin(&self, words: &str) -> Child {
        self.begin_at(&format!("http://{}", self.address), words)
    }

    pub(crate) fn begin_at(&self, address: &str, words: &str) -> Child {
        Command::new(env!("CARGO_BIN_EXE_daypass"))
            .args(words.split(' '))
            .env_clear()
            .env("HOME", self.home.path())
            .env("TMPDIR", self.home.path().join("tmp"))
            .env("VAULT_ADDR", address)
            .env("VAULT_TOKEN", &self.token)
            .env("VAULT_MAX_RETRIES", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn json(&self, words: &str, stdin: &str) -> Value {
        let ran = self.run(&format!("{words} -format=json"), stdin);
        assert_eq!(ran.code, 0, "{words}: {}", ran.err);
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Gives the keys on stdin; returns whether the server is open then.
    pub(crate) fn unseals(&self, keys: &[String]) -> bool {
        self.run("operator unseal -reset", "");
        for key in keys {
            self.run("operator unseal -", key);
        }
        self.run("status", "").code == 0
    }

    /// Gives the keys on stdin to a ceremony; what the last of them brings.
    pub(crate) fn give(&self, verb: &str, nonce: &str, keys: &[String]) -> Value {
        keys.iter().fold(Value::Null, |_, key| self.json(&format!("{verb} -nonce={nonce} -"), key))
    }
}

/// Gives a command its input, and waits for its end.
pub(crate) fn fed(mut child: Child, stdin: &[u8]) -> Output {
    // A command that does not read its input may be gone already.
    let _unread = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    pub(crate) fn refused(&self, code: i32, text: &str) {
        assert!(self.code == code && self.err.contains(text), "{self:?}");
    }
}

pub(crate) fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned()).collect()
}

/// Initialised with three keys out of five and open.
pub(crate) fn three_of_five(storage: &str) -> (Server, Vec<String>) {
    let mut server = Server::fresh(|home| {
        format!(
            "storage \"{storage}\" {{ {} }}",
            if storage == "inmem" { String::new() } else { format!("path = \"{}\"", home.join("db").display()) }
        )
    });
    let made = server.json("operator init -key-shares=5 -key-threshold=3", "");
    made["root_token"].as_str().unwrap().clone_into(&mut server.token);
    let keys = texts(&made["unseal_keys_b64"]);
    assert!(server.unseals(&keys[..3]));
    (server, keys)
}
