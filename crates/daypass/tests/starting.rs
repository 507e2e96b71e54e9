//! A real server while it starts, and what it leaves on the disk: signals, the log file, the pid file, the key of `-dev-tls`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, symlink};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

/// A server process. Dropping it ends it.
struct Server {
    child: Child,
    words: BufReader<ChildStdout>,
    log: BufReader<ChildStderr>,
    home: tempfile::TempDir,
}

impl Server {
    /// `config` is what its configuration has besides a listener; `{home}` is where it lies.
    fn start(config: &str, prepare: impl Fn(&Path)) -> Self {
        Self::start_with(&["-config=config.hcl"], config, prepare)
    }

    fn start_with(arguments: &[&str], config: &str, prepare: impl Fn(&Path)) -> Self {
        Self::start_in(&[], arguments, config, prepare)
    }

    fn start_in(environment: &[(&str, &str)], arguments: &[&str], config: &str, prepare: impl Fn(&Path)) -> Self {
        let home = tempfile::tempdir().unwrap();
        prepare(home.path());
        let config = config.replace("{home}", home.path().to_str().unwrap());
        let text =
            format!("{config}\nlistener \"unix\" {{ address = \"{}\" }}\ndisable_mlock = true\n", home.path().join("socket").display());
        fs::write(home.path().join("config.hcl"), text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_daypass"))
            .arg("server")
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .envs(environment.iter().copied())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let words = BufReader::new(child.stdout.take().unwrap());
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, words, log, home }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn is_started(&mut self) {
        until(&mut self.words, "server started!");
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Reads lines up to one that has this in it.
fn until(lines: &mut impl BufRead, text: &str) {
    let mut all = String::new();
    while !all.contains(text) {
        assert!(lines.read_line(&mut all).unwrap() > 0, "{text:?} was never said: {all}");
    }
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// A server that has bound its listener and waits for somebody to read its pid file, a pipe.
fn half_started() -> Server {
    let pipe = |home: &Path| assert!(Command::new("mkfifo").arg(home.join("pid")).status().unwrap().success());
    let config = "storage \"inmem\" {}\nseal \"keyfile\" { path = \"{home}/seal.key\" }\npid_file = \"{home}/pid\"";
    let mut server = Server::start(config, pipe);
    until(&mut server.log, "a new seal key was written");
    server
}

/// Story: a SIGHUP that a log rotation sent to a server which was still starting ended it.
#[test]
fn a_hangup_while_a_server_starts_is_kept_until_it_serves() {
    let mut server = half_started();
    server.signal("-HUP");
    assert_eq!(fs::read_to_string(server.at("pid")).unwrap().trim(), server.child.id().to_string());
    server.is_started();
    until(&mut server.log, "SIGHUP: certificates are read again");
    server.signal("-TERM");
    until(&mut server.log, "stopped");
    assert!(server.ended().success());
    assert!(fs::metadata(server.at("pid")).unwrap().file_type().is_fifo(), "what is not the pid file that it wrote stays");
}

#[test]
fn a_server_that_is_told_to_stop_while_it_starts_ends_well() {
    let mut server = half_started();
    server.signal("-TERM");
    fs::read_to_string(server.at("pid")).unwrap();
    until(&mut server.log, "stopped");
    assert!(server.ended().success());
}

/// Story: a script that sent SIGUSR2, which Vault answers by telling where it is, ended the server.
#[test]
fn signals_without_a_meaning_are_told_and_end_nothing() {
    let mut server = Server::start("storage \"inmem\" {}", |_| ());
    server.is_started();
    for name in ["USR1", "USR2"] {
        server.signal(&format!("-{name}"));
        until(&mut server.log, &format!("SIG{name} means nothing here"));
    }
    server.signal("-TERM");
    assert!(server.ended().success());
}

/// Story: a manager that listens at a name in no directory heard nothing, and none heard that files are read anew or that the server ends.
#[test]
fn a_service_manager_hears_of_the_start_of_reloads_and_of_the_end() {
    let name = format!("daypass-test-{}", std::process::id());
    let place = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = UnixDatagram::bind_addr(&place).unwrap();
    let heard = || {
        let mut text = [0; 200];
        let length = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };
    let mut server = Server::start_in(&[("NOTIFY_SOCKET", &format!("@{name}"))], &["-config=config.hcl"], "storage \"inmem\" {}", |_| ());
    assert_eq!(heard(), "READY=1");
    server.signal("-HUP");
    let reloading = heard();
    let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{reloading}"));
    assert!(micros.parse::<u64>().unwrap() > 0);
    assert_eq!(heard(), "READY=1");
    server.signal("-TERM");
    assert_eq!(heard(), "STOPPING=1");
    assert!(server.ended().success());
}

/// Story: a dev server in a container whose home cannot be written to did not start, for want of a place for its root token.
#[test]
fn a_dev_server_serves_where_its_token_cannot_be_kept() {
    let dev = ["-dev", "-dev-listen-address=127.0.0.1:0", "-log-format=JSON"];
    let mut server = Server::start_in(&[("HOME", "/proc/self")], &dev, "", |_| ());
    server.is_started();
    until(&mut server.log, "-dev-no-store-token");
}

#[test]
fn a_log_format_is_named_in_any_case() {
    for (format, begins) in [("JSON", "{"), ("Standard", "20")] {
        let mut server =
            Server::start_in(&[("VAULT_LOG_FORMAT", format)], &["-config=config.hcl"], "storage \"inmem\" {}\nui = true", |_| ());
        server.is_started();
        let mut line = String::new();
        server.log.read_line(&mut line).unwrap();
        assert!(line.starts_with(begins) && line.contains("ui"), "{line}");
    }
}

#[test]
fn a_pid_file_goes_with_its_process_unless_a_newer_one_has_written_it() {
    for (written, stays) in [(None, false), (Some("1\n"), true)] {
        let mut server = Server::start("storage \"inmem\" {}\npid_file = \"{home}/pid\"", |_| ());
        server.is_started();
        if let Some(other) = written {
            fs::write(server.at("pid"), other).unwrap();
        }
        server.signal("-TERM");
        assert!(server.ended().success());
        assert_eq!(server.at("pid").exists(), stays);
    }
}

/// Story: after a log rotation the server went on writing into the file that was moved away; and everyone could read it.
#[test]
fn a_hangup_opens_the_log_file_anew() {
    let config = "storage \"inmem\" {}\nseal \"keyfile\" { path = \"{home}/seal.key\" }\nlog_file = \"{home}/log\"\nlog_rotate_bytes = 5";
    let mut server = Server::start(config, |_| ());
    server.is_started();
    let (log, moved) = (server.at("log"), server.at("log.1"));
    assert_eq!(mode(&log), 0o600);
    let address = format!("unix://{}", server.at("socket").display());
    let made = Command::new(env!("CARGO_BIN_EXE_daypass")).args(["operator", "init"]).env("VAULT_ADDR", address).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let told = fs::read_to_string(&log).unwrap();
    for text in ["the server is initialised seal=\"keyfile\"", "the server is unsealed", "log_rotate_*: the server does not rotate"] {
        assert!(told.contains(text), "{text:?} is missing: {told}");
    }
    fs::rename(&log, &moved).unwrap();
    server.signal("-HUP");
    while !fs::read_to_string(&log).unwrap_or_default().contains("SIGHUP: ") {
        assert!(server.child.try_wait().unwrap().is_none());
        std::thread::yield_now();
    }
    server.signal("-TERM");
    assert!(server.ended().success());
    assert_eq!(mode(&log), 0o600);
    assert!(fs::read_to_string(&log).unwrap().contains("stopped"));
    assert_eq!(fs::read_to_string(&moved).unwrap(), told);
}

/// Story: the key of `-dev-tls` was everyone's to read, in a directory whose name everyone could know beforehand, and went to where a link led.
#[test]
fn the_key_of_a_dev_server_is_its_owners_alone() {
    let dev = ["-dev", "-dev-tls", "-dev-listen-address=127.0.0.1:0", "-dev-no-store-token"];
    let mut server = Server::start_with(&dev, "", |_| ());
    server.is_started();
    let made = |name: &str| name.starts_with("daypass-tls-");
    let entries = fs::read_dir(server.home.path()).unwrap().map(|entry| entry.unwrap().path());
    let folders: Vec<_> = entries.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(made)).collect();
    let [folder] = folders.as_slice() else { panic!("{folders:?}") };
    assert!(!folder.ends_with(format!("daypass-tls-{}", server.child.id())));
    assert_eq!((mode(folder), mode(&folder.join("vault-key.pem"))), (0o700, 0o600));

    let prepare = |home: &Path| {
        fs::create_dir(home.join("own")).unwrap();
        fs::write(home.join("precious"), "precious").unwrap();
        symlink("../precious", home.join("own/vault-key.pem")).unwrap();
        fs::write(home.join("own/vault-cert.pem"), "of an earlier run").unwrap();
    };
    let mut server = Server::start_with(&[&dev[..], &["-dev-tls-cert-dir=own"]].concat(), "", prepare);
    server.is_started();
    assert_eq!(fs::read_to_string(server.at("precious")).unwrap(), "precious");
    let key = server.at("own/vault-key.pem");
    assert!(mode(&key) == 0o600 && fs::symlink_metadata(&key).unwrap().is_file());
    assert!(fs::read_to_string(server.at("own/vault-cert.pem")).unwrap().starts_with("-----BEGIN"));
}

/// Starts a server that cannot start; what it says.
fn refused(config: &str, prepare: impl Fn(&Path)) -> String {
    let mut server = Server::start(config, prepare);
    assert!(!server.ended().success());
    std::io::read_to_string(&mut server.log).unwrap()
}

/// Story: a seal whose key file is a directory, or a file that is no key, was accepted. It was `operator init` that failed.
#[test]
fn a_key_file_that_is_none_is_told_at_the_start() {
    let seal = "storage \"inmem\" {}\nseal \"keyfile\" { path = \"{home}/seal\" }";
    let said = refused(seal, |home| fs::create_dir(home.join("seal")).unwrap());
    assert!(said.contains("The seal's key file cannot be used") && said.contains("is not a regular file"), "{said}");
    let text = |home: &Path| {
        fs::write(home.join("seal"), "hello\n").unwrap();
        fs::set_permissions(home.join("seal"), fs::Permissions::from_mode(0o600)).unwrap();
    };
    let said = refused(seal, text);
    assert!(said.contains("does not hold a key") && !said.contains("hello"), "{said}");
}

/// Story: the pid file was written over whatever the configuration named, the server's own files among them.
#[test]
fn a_pid_file_in_the_place_of_the_store_is_refused_and_nothing_is_written() {
    let said = refused("storage \"sqlite\" { path = \"{home}/db\" }\npid_file = \"{home}/x/../db\"", |home| {
        fs::create_dir(home.join("x")).unwrap();
    });
    assert!(said.contains("store") && said.contains("pid file") && said.contains("are the same file"), "{said}");
}

/// Story: the banner and the configuration as it is shown named the level of the file, not the one of the flag or the environment, which is in force.
#[test]
fn the_banner_names_the_log_level_that_is_in_force() {
    let quiet = "storage \"inmem\" {}\nlog_level = \"warn\"";
    for (environment, arguments, level) in [
        (&[][..], &["-config=config.hcl"][..], "warn"),
        (&[("VAULT_LOG_LEVEL", "ERR")][..], &["-config=config.hcl"][..], "error"),
        (&[("VAULT_LOG_LEVEL", "error")][..], &["-config=config.hcl", "-log-level=debug"][..], "debug"),
    ] {
        let mut server = Server::start_in(environment, arguments, quiet, |_| ());
        until(&mut server.words, &format!("Log Level: {level}\n"));
    }
}
