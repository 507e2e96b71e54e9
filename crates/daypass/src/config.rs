//! The server's configuration file: Vault's keys, in HCL or JSON, from one or more files and directories.
//!
//! All mistakes are collected with file and line. A key that nobody knows is a mistake, with the key that was perhaps
//! meant; a key that Vault knows and that has no meaning here is a [`Warning`] that says why. This module reads and checks;
//! it opens nothing but the files themselves. Which defaults apply where a key is absent stands at each field.
//! Source: Vault documentation, "Configuration".

mod known;
pub(crate) mod listener;
mod read;
mod section;

use std::fmt;
use std::path::{Path, PathBuf};

use daypass_base::Seconds;
use daypass_base::trace::Ratio;
use daypass_core::SystemTtls;
use daypass_otlp::Endpoint;

use listener::Listener;

/// What the files say together.
#[derive(Debug, Clone, PartialEq, Default)]
#[expect(clippy::struct_excessive_bools, reason = "the file's switches, one each")]
pub(crate) struct Config {
    /// The files that it was read from.
    pub(crate) files: Vec<PathBuf>,
    /// Where to listen, in the order of the files.
    pub(crate) listeners: Vec<Listener>,
    /// Where the data is; the caller decides whether it may be absent.
    pub(crate) storage: Option<Storage>,
    /// How the root key is kept.
    pub(crate) seal: Seal,
    /// The URL by which clients reach this node.
    pub(crate) api_addr: Option<String>,
    /// The URL by which other nodes reach this node.
    pub(crate) cluster_addr: Option<String>,
    /// The cluster's name; absent means one is made.
    pub(crate) cluster_name: Option<String>,
    /// Lifetime of leases where nothing else says so; absent or zero means 768 hours, or the longest where that is shorter.
    pub(crate) default_lease_ttl: Option<Seconds>,
    /// Longest lifetime of leases; absent or zero means 768 hours.
    pub(crate) max_lease_ttl: Option<Seconds>,
    /// Longest that a request may take where its listener does not say; absent or zero means 90 s.
    pub(crate) default_max_request_duration: Option<Seconds>,
    /// Logging.
    pub(crate) log: Log,
    /// Whether the web UI is served.
    pub(crate) ui: bool,
    /// Metrics and traces.
    pub(crate) telemetry: Telemetry,
    /// Whether memory may be written to swap.
    pub(crate) disable_mlock: bool,
    /// File to write the process id to.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether `sys/raw` exists.
    pub(crate) raw_storage_endpoint: bool,
    /// Whether audit files may have a prefix before each line.
    pub(crate) allow_audit_log_prefixing: bool,
    /// Whether `sys/internal/inspect` exists.
    pub(crate) introspection_endpoint: bool,
    /// Whether answers carry `X-Vault-Hostname`.
    pub(crate) hostname_header: bool,
}

/// Logging, as far as the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Log {
    /// `trace`, `debug`, `info`, `warn` or `error`.
    pub(crate) level: Option<String>,
    /// Whether lines are JSON.
    pub(crate) json: Option<bool>,
    /// File to log to, in place of stderr.
    pub(crate) file: Option<PathBuf>,
    /// Size at which a new file is begun.
    pub(crate) rotate_bytes: Option<u64>,
    /// Age at which a new file is begun.
    pub(crate) rotate_after: Option<Seconds>,
    /// How many old files stay.
    pub(crate) rotate_files_max: Option<u64>,
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory: gone when the process ends.
    Memory,
    /// The embedded store in this file.
    Sqlite {
        /// The database file.
        path: PathBuf,
    },
}

/// How the root key is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Seal {
    /// In a file: the server unseals itself.
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// In shares that people hold.
    #[default]
    Shamir,
}

/// Metrics and traces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Telemetry {
    /// How long Prometheus finds a metric after its last change; zero means that `sys/metrics` has no Prometheus format.
    pub(crate) prometheus_retention: Option<Seconds>,
    /// Whether names of metrics go without the host's name.
    pub(crate) disable_hostname: bool,
    /// What names of metrics begin with; absent means `vault`.
    pub(crate) prefix: Option<String>,
    /// Where traces of requests go; absent means that there are none.
    pub(crate) traces: Option<Traces>,
}

/// Traces of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Traces {
    /// The collector.
    pub(crate) endpoint: Endpoint,
    /// The share of requests that are traced where the caller does not say; absent means all.
    pub(crate) ratio: Option<Ratio>,
}

/// Something in a file that was read and does nothing, or does something else than it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The file.
    pub(crate) file: PathBuf,
    /// The line.
    pub(crate) line: u32,
    /// What and why.
    pub(crate) text: String,
}

/// `file:line: text`.
impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.text)
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    /// The file or directory.
    pub(crate) file: PathBuf,
    /// The line; 0 where it is about the file as a whole.
    pub(crate) line: u32,
    /// What is wrong, and what to do.
    pub(crate) text: String,
}

/// Everything that is wrong, one line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct ConfigErrors(pub(crate) Vec<Mistake>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.0.iter().enumerate() {
            let end = if index > 0 { "\n" } else { "" };
            match mistake.line {
                0 => write!(f, "{end}{}: {}", mistake.file.display(), mistake.text)?,
                line => write!(f, "{end}{}:{line}: {}", mistake.file.display(), mistake.text)?,
            }
        }
        Ok(())
    }
}

/// Reads files, and of directories the files that end in `.hcl` or `.json`, and puts them together in that order.
/// Like Vault's server it then takes `VAULT_API_ADDR`, `VAULT_CLUSTER_ADDR` and `VAULT_UI` from the environment, and
/// `VAULT_RAFT_PATH` for a raft stanza; each also as `DAYPASS_...`, which comes first.
pub(crate) fn load(paths: &[PathBuf]) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    load_with(paths, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

/// What [`load`] does, with the environment given.
pub(crate) fn load_with(paths: &[PathBuf], variable: impl Fn(&str) -> Option<String>) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    let environment = |name: &str| variable(&format!("DAYPASS_{name}")).or_else(|| variable(&format!("VAULT_{name}")));
    let mut findings = Findings::default();
    let mut config = Config::default();
    for path in paths {
        for file in files(path, &mut findings) {
            match std::fs::read_to_string(&file) {
                Ok(text) => {
                    let mut found = Findings::default();
                    config.merge(read::document(&file, &text, &environment, &mut found));
                    findings.append(found);
                    config.files.push(file);
                }
                Err(error) => findings.mistake(&file, 0, format!("cannot be read: {error}")),
            }
        }
    }
    config.apply(&environment, &mut findings);
    if findings.mistakes.is_empty() { Ok((config, findings.warnings)) } else { Err(ConfigErrors(findings.mistakes)) }
}

/// What was found on the way.
#[derive(Debug, Default)]
struct Findings {
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

impl Findings {
    /// Adds what was found in one file, in the order of its lines.
    fn append(&mut self, mut found: Self) {
        found.mistakes.sort_by_key(|mistake| mistake.line);
        found.warnings.sort_by_key(|warning| warning.line);
        self.mistakes.append(&mut found.mistakes);
        self.warnings.append(&mut found.warnings);
    }

    fn mistake(&mut self, file: &Path, line: u32, text: impl Into<String>) {
        self.mistakes.push(Mistake { file: file.to_owned(), line, text: text.into() });
    }

    fn warning(&mut self, file: &Path, line: u32, text: impl Into<String>) {
        self.warnings.push(Warning { file: file.to_owned(), line, text: text.into() });
    }
}

impl Config {
    /// Adds what a later file says. Listeners add up; of times the longer stays, as in Vault; switches stay on; else the later wins.
    fn merge(&mut self, later: Self) {
        self.listeners.extend(later.listeners);
        self.storage = later.storage.or(self.storage.take());
        if later.seal != Seal::Shamir {
            self.seal = later.seal;
        }
        self.api_addr = later.api_addr.or(self.api_addr.take());
        self.cluster_addr = later.cluster_addr.or(self.cluster_addr.take());
        self.cluster_name = later.cluster_name.or(self.cluster_name.take());
        self.default_lease_ttl = later.default_lease_ttl.max(self.default_lease_ttl);
        self.max_lease_ttl = later.max_lease_ttl.max(self.max_lease_ttl);
        self.default_max_request_duration = later.default_max_request_duration.max(self.default_max_request_duration);
        self.log.merge(later.log);
        self.ui |= later.ui;
        if later.telemetry != Telemetry::default() {
            self.telemetry = later.telemetry;
        }
        self.disable_mlock |= later.disable_mlock;
        self.pid_file = later.pid_file.or(self.pid_file.take());
        self.raw_storage_endpoint |= later.raw_storage_endpoint;
        self.allow_audit_log_prefixing |= later.allow_audit_log_prefixing;
        self.introspection_endpoint |= later.introspection_endpoint;
        self.hostname_header |= later.hostname_header;
    }

    fn apply(&mut self, environment: &impl Fn(&str) -> Option<String>, findings: &mut Findings) {
        let place = Path::new("environment");
        self.api_addr = environment("API_ADDR").or(self.api_addr.take());
        self.cluster_addr = environment("CLUSTER_ADDR").or(self.cluster_addr.take());
        if let Some(text) = environment("UI") {
            match section::flag_word(&text) {
                Some(ui) => self.ui = ui,
                None => findings.mistake(place, 0, format!("VAULT_UI: {text:?} is neither true nor false")),
            }
        }
        for (name, address) in [("api_addr", &self.api_addr), ("cluster_addr", &self.cluster_addr)] {
            if let Some(wrong) = address.as_deref().and_then(|address| wrong_url(name, address)) {
                findings.mistake(place, 0, wrong);
            }
        }
        let SystemTtls { default, max } = self.ttls();
        if default > max {
            let text = match self.max_lease_ttl.and_then(Seconds::set) {
                Some(_) => format!("default_lease_ttl {default} is over max_lease_ttl {max}"),
                None => format!(
                    "default_lease_ttl {default} is over max_lease_ttl, which is {max} where it is not set; set max_lease_ttl as well, or a \
                     shorter default_lease_ttl"
                ),
            };
            findings.mistake(Path::new("configuration"), 0, text);
        }
    }

    /// Longest that a request may take: the longest of all listeners, each with what holds where it does not say.
    pub(crate) fn request_seconds(&self) -> Option<Seconds> {
        let usual = self.default_max_request_duration.and_then(Seconds::set);
        let own = self.listeners.iter().filter_map(|listener| listener.max_request_duration.and_then(Seconds::set).or(usual));
        own.max().or(usual)
    }

    /// The lifetimes that hold where a mount sets none. Zero is as good as absent, as in Vault: else every token would be over at birth.
    pub(crate) fn ttls(&self) -> SystemTtls {
        let usual = SystemTtls::default();
        let max = self.max_lease_ttl.and_then(Seconds::set).unwrap_or(usual.max);
        SystemTtls { default: self.default_lease_ttl.and_then(Seconds::set).unwrap_or_else(|| usual.default.min(max)), max }
    }
}

impl Log {
    fn merge(&mut self, later: Self) {
        self.level = later.level.or(self.level.take());
        self.json = later.json.or(self.json);
        self.file = later.file.or(self.file.take());
        self.rotate_bytes = later.rotate_bytes.or(self.rotate_bytes);
        self.rotate_after = later.rotate_after.or(self.rotate_after);
        self.rotate_files_max = later.rotate_files_max.or(self.rotate_files_max);
    }
}

/// What is wrong with the URL of a node.
fn wrong_url(name: &str, address: &str) -> Option<String> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"));
    match rest {
        Some(host) if !host.is_empty() && !host.starts_with([':', '/']) => None,
        _ => Some(format!("{name}: {address:?} is no URL; write it as \"https://vault.example.com:8200\"")),
    }
}

/// The file itself, or a directory's files by name, without those that editors leave behind.
fn files(path: &Path, findings: &mut Findings) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) => {
            findings.mistake(path, 0, format!("cannot be read: {error}"));
            return Vec::new();
        }
    };
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|file| is_config_file(file)).collect();
    files.sort();
    if files.is_empty() {
        findings.mistake(path, 0, "no file in this directory ends in .hcl or .json");
    } else if files.len() > FILES_MAX {
        findings.mistake(path, 0, format!("{} files, the limit is {FILES_MAX}", files.len()));
        files.clear();
    }
    files
}

fn is_config_file(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let left_behind = name.ends_with('~') || name.starts_with(".#") || (name.starts_with('#') && name.ends_with('#'));
    let ending = file.extension().and_then(|ending| ending.to_str());
    !left_behind && ending.is_some_and(|ending| ENDINGS.contains(&ending)) && file.is_file()
}

/// How the names of a directory's files end.
pub(crate) const ENDINGS: &[&str] = &["hcl", "json"];
/// Most files of one directory.
const FILES_MAX: usize = 100;

#[cfg(test)]
mod tests;
