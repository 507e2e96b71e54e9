//! What an operator says about a device (`sys/audit/:path`), checked with Vault's texts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daypass_base::Brief;
use serde::{Deserialize, Serialize};

use crate::file::{Durability, FileMode, MODE_DEFAULT};
use crate::line::{Encoding, Format};
use crate::own::absolute;
use crate::sink::SinkError;
use crate::socket::Network;
use crate::syslog::Facility;

/// A device as it is stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceConfig {
    /// Where it is enabled, with a slash at the end.
    pub path: String,
    /// `file`, `socket` or `syslog`.
    #[serde(rename = "type")]
    pub device_type: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Whether it is of this node alone.
    #[serde(default)]
    pub local: bool,
    /// As they were given.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Whether the server's configuration lets file devices have a prefix: with one, an operator of Vault alone can make a log line
/// begin with what another program takes for a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefixing {
    /// `allow_audit_log_prefixing = true`.
    Allowed,
    /// The default.
    #[default]
    Refused,
}

/// Why a device cannot be enabled. The texts are Vault's, for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnableError {
    /// Made of the options, it does not work.
    #[error("unable to create new audit backend: {0}")]
    Create(CreateError),
    /// `fallback`, `filter` or `exclude`.
    #[error("enterprise-only options supplied: invalid configuration")]
    EnterpriseOptions,
    /// The file is one of the server's own.
    #[error(
        "file_path {path:?} is the {what} of this server, which lines of a log would destroy; give the log a file of its own: invalid configuration"
    )]
    FileOfServer {
        /// As it was given.
        path: String,
        /// What the file is.
        what: &'static str,
    },
    /// Two devices on one file would each cut the other's lines when rotated.
    #[error("file_path already in use: invalid configuration")]
    FilePathInUse,
    /// There is no name.
    #[error("backend path must be specified: invalid configuration")]
    NoPath,
    /// Another device is there, below or above.
    #[error("path already in use: invalid configuration")]
    PathInUse,
    /// A prefix on a file, and [`Prefixing::Refused`].
    #[error("audit prefixing is not enabled in configuration, audit prefixing may not be configured for file sinks")]
    Prefix,
    /// `skip_test` is no boolean.
    #[error("cannot parse supplied 'skip_test' setting: invalid configuration")]
    SkipTest,
    /// The first line was not taken.
    #[error("audit backend failed test message: {0}")]
    TestFailed(SinkError),
    /// [`DEVICES_MAX`] is reached.
    #[error("{DEVICES_MAX} audit devices are enabled, the most that there may be")]
    TooMany,
    /// No such type.
    #[error("unknown backend type: {:?}: invalid configuration", Brief(.0))]
    UnknownType(String),
}

/// Why a device cannot be made of its options.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// The file cannot be opened, with the operating system's reason.
    #[error("file sink creation failed for path {path:?}: {reason}")]
    File {
        /// As it was given.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// A log that can be run is a way in.
    #[error("file mode may not be executable: {}", Brief(.0))]
    ModeExecutable(String),
    /// Not octal.
    #[error("invalid mode: {}", Brief(.0))]
    ModeInvalid(String),
    /// An option that the type cannot do without.
    #[error("{0:?} is required: invalid configuration")]
    Required(&'static str),
    /// A boolean that is none.
    #[error("unable to parse {0:?}: invalid configuration")]
    Unparsable(&'static str),
    /// A value that is not offered.
    #[error("unsupported {0:?}: invalid configuration")]
    Unsupported(&'static str),
    /// What goes to each line cannot be of several.
    #[error("\"prefix\" may not hold a line break: a record is one line")]
    PrefixBreaksLine,
    /// The socket or the local syslog cannot be used.
    #[error("{0}")]
    Sink(String),
    /// How long a peer may make requests wait.
    #[error("\"write_timeout\" must be a duration of more than 0 and at most {WRITE_TIMEOUT_MAX:?}, such as 2s; it is {:?}", Brief(.0))]
    WriteTimeout(String),
}

/// The most devices that can be enabled: each gets every line.
pub const DEVICES_MAX: usize = 32;

/// How long a socket may take a line, unless the device says otherwise; Vault's number.
const WRITE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(2);
/// The longest that a device may say.
const WRITE_TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// RFC 3164 has 32 characters; some daemons take more.
const TAG_BYTES_MAX: usize = 48;

/// What a device's options say, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) format: Format,
    pub(crate) target: Target,
    pub(crate) skip_test: bool,
}

/// Where a device writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Discard,
    File { path: PathBuf, mode: FileMode, durability: Durability },
    Socket { network: Network, address: String, write_timeout: Duration },
    Stdout,
    Syslog { facility: Facility, tag: String },
}

impl DeviceConfig {
    /// Puts a slash at the end of the path and checks everything that needs no look at other devices or at the file system.
    pub(crate) fn parse(&mut self, prefixing: Prefixing) -> Result<Parsed, EnableError> {
        if !matches!(self.device_type.as_str(), "file" | "socket" | "syslog") {
            return Err(EnableError::UnknownType(self.device_type.clone()));
        }
        if ["fallback", "filter", "exclude"].iter().any(|option| self.options.contains_key(*option)) {
            return Err(EnableError::EnterpriseOptions);
        }
        if !self.path.ends_with('/') {
            self.path.push('/');
        }
        if self.path == "/" {
            return Err(EnableError::NoPath);
        }
        let skip_test = match self.options.get("skip_test") {
            None => false,
            Some(text) => go_bool(text).ok_or(EnableError::SkipTest)?,
        };
        let is_file = self.device_type == "file";
        if is_file && prefixing == Prefixing::Refused && self.options.get("prefix").is_some_and(|prefix| !prefix.is_empty()) {
            return Err(EnableError::Prefix);
        }
        let parsed = match self.device_type.as_str() {
            "socket" => self.parse_socket(),
            "syslog" => self.parse_syslog(),
            _ => self.parse_file(),
        };
        let (format, target) = parsed.map_err(EnableError::Create)?;
        Ok(Parsed { format, target, skip_test })
    }

    fn parse_socket(&self) -> Result<(Format, Target), CreateError> {
        let address = self.options.get("address").map(|address| address.trim()).filter(|address| !address.is_empty());
        let address = address.ok_or(CreateError::Required("address"))?.to_owned();
        let format = self.parse_format()?;
        let network = match self.options.get("socket_type").map(|network| network.trim()) {
            None | Some("") => Network::Tcp,
            Some(text) => Network::parse(text).ok_or(CreateError::Unsupported("socket_type"))?,
        };
        let write_timeout = match self.options.get("write_timeout").map(|text| text.trim()) {
            None | Some("") => WRITE_TIMEOUT_DEFAULT,
            Some(text) => daypass_base::duration::parse(text)
                .ok()
                .filter(|time| !time.negative && !time.size.is_zero() && time.size <= WRITE_TIMEOUT_MAX)
                .map(|time| time.size)
                .ok_or_else(|| CreateError::WriteTimeout(text.to_owned()))?,
        };
        Ok((format, Target::Socket { network, address, write_timeout }))
    }

    fn parse_syslog(&self) -> Result<(Format, Target), CreateError> {
        let format = self.parse_format()?;
        let facility = match self.options.get("facility").map(|facility| facility.trim()) {
            None | Some("") => Facility::default(),
            Some(text) => Facility::parse(text).ok_or(CreateError::Unsupported("facility"))?,
        };
        let tag = match self.options.get("tag").map(|tag| tag.trim()) {
            None | Some("") => "vault",
            Some(tag) if tag.len() <= TAG_BYTES_MAX && tag.bytes().all(|byte| byte.is_ascii_graphic()) => tag,
            Some(_) => return Err(CreateError::Unsupported("tag")),
        };
        Ok((format, Target::Syslog { facility, tag: tag.to_owned() }))
    }

    fn parse_file(&self) -> Result<(Format, Target), CreateError> {
        let path = self.file_option().ok_or(CreateError::Required("file_path"))?;
        let format = self.parse_format()?;
        let mode = match self.options.get("mode").map(|mode| mode.trim()) {
            None | Some("") => FileMode::Set(MODE_DEFAULT),
            Some(text) => parse_mode(text)?,
        };
        let durability = match self.options.get("fsync").map(String::as_str) {
            None | Some("never") => Durability::Never,
            Some("batch") => Durability::Batch,
            Some(_) => return Err(CreateError::Unsupported("fsync")),
        };
        let target = if is_stdout(path) {
            Target::Stdout
        } else if is_discard(path) {
            Target::Discard
        } else if path.is_empty() {
            return Err(CreateError::Required("file_path"));
        } else {
            Target::File { path: PathBuf::from(path), mode, durability }
        };
        Ok((format, target))
    }

    /// What a file device writes to, as it was given; `path` is the older name of the option.
    fn file_option(&self) -> Option<&str> {
        self.options.get("file_path").or_else(|| self.options.get("path")).map(|path| path.trim())
    }

    /// The same in its one spelling, without a look at the file system; `None` for devices of other types.
    fn file(&self) -> Option<PathBuf> {
        let path = self.file_option().filter(|path| self.device_type == "file" && !path.is_empty())?;
        if is_stdout(path) || is_discard(path) {
            return Some(PathBuf::from(path.to_ascii_lowercase()));
        }
        Some(absolute(Path::new(path)))
    }

    fn parse_format(&self) -> Result<Format, CreateError> {
        let encoding = match self.options.get("format").map(|format| format.trim().to_ascii_lowercase()).as_deref() {
            None | Some("json") => Encoding::Json,
            Some("jsonx") => Encoding::Jsonx,
            Some(_) => return Err(CreateError::Unsupported("format")),
        };
        let prefix = self.options.get("prefix").cloned().unwrap_or_default();
        if prefix.contains(['\n', '\r']) {
            return Err(CreateError::PrefixBreaksLine);
        }
        let flag = |name: &'static str, otherwise: bool| match self.options.get(name) {
            None => Ok(otherwise),
            Some(text) => go_bool(text).ok_or(CreateError::Unparsable(name)),
        };
        Ok(Format {
            hmac_accessor: flag("hmac_accessor", true)?,
            log_raw: flag("log_raw", false)?,
            elide_list_responses: flag("elide_list_responses", false)?,
            encoding,
            prefix,
        })
    }

    /// Whether this device and `other` cannot both be enabled.
    pub(crate) fn conflict(&self, other: &Self) -> Option<EnableError> {
        if self.path.starts_with(&other.path) || other.path.starts_with(&self.path) {
            return Some(EnableError::PathInUse);
        }
        let same_file = self.file().is_some_and(|file| other.file() == Some(file));
        same_file.then_some(EnableError::FilePathInUse)
    }
}

fn is_stdout(path: &str) -> bool {
    path.eq_ignore_ascii_case("stdout")
}

fn is_discard(path: &str) -> bool {
    path.eq_ignore_ascii_case("discard")
}

/// Octal; `0000` keeps what the file has.
fn parse_mode(text: &str) -> Result<FileMode, CreateError> {
    let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777).ok_or_else(|| CreateError::ModeInvalid(text.to_owned()))?;
    match bits {
        0 => Ok(FileMode::Keep),
        bits if bits & 0o111 != 0 => Err(CreateError::ModeExecutable(text.to_owned())),
        bits => Ok(FileMode::Set(bits)),
    }
}

/// A boolean in one of the spellings that Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(device_type: &str, options: &[(&str, &str)]) -> DeviceConfig {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        DeviceConfig { path: "a".to_owned(), device_type: device_type.to_owned(), description: String::new(), local: false, options }
    }

    fn refusal(device_type: &str, options: &[(&str, &str)]) -> String {
        device(device_type, options).parse(Prefixing::Refused).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_told_in_vaults_words() {
        let discard = ("file_path", "discard");
        // The first five from recorded answers (audit-devices.json), the others from Vault 1.21.4.
        assert_eq!(refusal("", &[]), "unknown backend type: \"\": invalid configuration");
        assert_eq!(refusal("bogus", &[]), "unknown backend type: \"bogus\": invalid configuration");
        assert_eq!(refusal("file", &[]), "unable to create new audit backend: \"file_path\" is required: invalid configuration");
        assert_eq!(refusal("socket", &[]), "unable to create new audit backend: \"address\" is required: invalid configuration");
        assert_eq!(refusal("file", &[discard, ("filter", "x")]), "enterprise-only options supplied: invalid configuration");
        assert_eq!(
            refusal("file", &[discard, ("format", "xml")]),
            "unable to create new audit backend: unsupported \"format\": invalid configuration"
        );
        for flag in ["hmac_accessor", "log_raw", "elide_list_responses"] {
            let expected = format!("unable to create new audit backend: unable to parse \"{flag}\": invalid configuration");
            assert_eq!(refusal("file", &[discard, (flag, "perhaps")]), expected);
        }
        assert_eq!(refusal("file", &[discard, ("mode", "rw")]), "unable to create new audit backend: invalid mode: rw");
        assert_eq!(
            refusal("file", &[discard, ("mode", "0755")]),
            "unable to create new audit backend: file mode may not be executable: 0755"
        );
        assert_eq!(refusal("file", &[discard, ("skip_test", "x")]), "cannot parse supplied 'skip_test' setting: invalid configuration");
        let prefix = "audit prefixing is not enabled in configuration, audit prefixing may not be configured for file sinks";
        assert_eq!(refusal("file", &[discard, ("prefix", "x")]), prefix);
        let address = ("address", "127.0.0.1:9");
        let unsupported = |option: &str| format!("unable to create new audit backend: unsupported {option:?}: invalid configuration");
        assert_eq!(refusal("socket", &[address, ("socket_type", "pigeon")]), unsupported("socket_type"));
        assert_eq!(refusal("syslog", &[("facility", "none")]), unsupported("facility"));
        assert_eq!(refusal("syslog", &[("tag", "two words")]), unsupported("tag"));
        for timeout in ["0", "-1s", "61s", "soon"] {
            let expected = format!("must be a duration of more than 0 and at most 60s, such as 2s; it is {timeout:?}");
            assert!(refusal("socket", &[address, ("write_timeout", timeout)]).ends_with(&expected));
        }
        assert!(refusal("syslog", &[("prefix", "a\nb")]).ends_with("\"prefix\" may not hold a line break: a record is one line"));
        let mut nameless = DeviceConfig { path: String::new(), ..device("file", &[discard]) };
        assert_eq!(nameless.parse(Prefixing::Refused).unwrap_err().to_string(), "backend path must be specified: invalid configuration");
    }

    #[test]
    fn options_are_read() {
        let mut config =
            device("file", &[("path", " /var/log/a.log "), ("mode", "0640"), ("log_raw", "T"), ("hmac_accessor", "0"), ("prefix", "> ")]);
        let parsed = config.parse(Prefixing::Allowed).unwrap();
        assert_eq!(config.path, "a/");
        let file = Target::File { path: "/var/log/a.log".into(), mode: FileMode::Set(0o640), durability: Durability::Never };
        assert_eq!(parsed.target, file);
        assert_eq!(parsed.format, Format { hmac_accessor: false, log_raw: true, prefix: "> ".to_owned(), ..Format::default() });
        assert_eq!(device("file", &[("file_path", "STDOUT")]).parse(Prefixing::Refused).unwrap().target, Target::Stdout);
        let keep = device("file", &[("file_path", "x"), ("mode", "0000"), ("fsync", "batch")]).parse(Prefixing::Refused).unwrap().target;
        assert_eq!(keep, Target::File { path: "x".into(), mode: FileMode::Keep, durability: Durability::Batch });
        let target = |device_type: &str, options: &[(&str, &str)]| device(device_type, options).parse(Prefixing::Refused).unwrap().target;
        let socket = |network, write_timeout| Target::Socket { network, address: "log:9".to_owned(), write_timeout };
        assert_eq!(target("socket", &[("address", " log:9 ")]), socket(Network::Tcp, Duration::from_secs(2)));
        let udp = [("address", "log:9"), ("socket_type", "udp"), ("write_timeout", "500ms")];
        assert_eq!(target("socket", &udp), socket(Network::Udp, Duration::from_millis(500)));
        assert_eq!(target("syslog", &[]), Target::Syslog { facility: Facility::default(), tag: "vault".to_owned() });
        let local = Target::Syslog { facility: Facility::parse("LOCAL0").unwrap(), tag: "daypass".to_owned() };
        assert_eq!(target("syslog", &[("facility", "local0"), ("tag", "daypass")]), local);
        let jsonx = device("syslog", &[("format", "jsonx"), ("prefix", "> ")]).parse(Prefixing::Refused).unwrap().format;
        assert_eq!(jsonx, Format { encoding: Encoding::Jsonx, prefix: "> ".to_owned(), ..Format::default() });
    }

    #[test]
    fn devices_that_overlap_are_seen() {
        let at = |path: &str, file: &str| DeviceConfig { path: path.to_owned(), ..device("file", &[("file_path", file)]) };
        assert_eq!(at("a/", "1").conflict(&at("a/", "2")), Some(EnableError::PathInUse));
        assert_eq!(at("a/b/", "1").conflict(&at("a/", "2")), Some(EnableError::PathInUse));
        assert_eq!(at("a/", "1").conflict(&at("a/b/", "2")), Some(EnableError::PathInUse));
        assert_eq!(at("ab/", "1").conflict(&at("a/", "1")), Some(EnableError::FilePathInUse));
        assert_eq!(at("ab/", "1").conflict(&at("a/", "2")), None);
    }

    /// Story: only the texts of `file_path` were compared. Two devices with the older option `path` had none, which was the same; a socket has none
    /// either. The same file under another spelling was taken twice.
    #[test]
    fn the_files_are_compared_not_how_they_are_written() {
        let at = |path: &str, device_type: &str, options: &[(&str, &str)]| DeviceConfig {
            path: path.to_owned(),
            ..device(device_type, options)
        };
        let known = at("a/", "file", &[("file_path", "/x/p.log")]);
        for same in ["/x/./p.log", "//x/y/../p.log", " /x/p.log "] {
            for option in ["file_path", "path"] {
                assert_eq!(at("b/", "file", &[(option, same)]).conflict(&known), Some(EnableError::FilePathInUse), "{option} {same}");
            }
        }
        let older = |path: &str, file: &str| at(path, "file", &[("path", file)]);
        let socket = at("c/", "socket", &[("address", "127.0.0.1:9")]);
        assert_eq!(older("b/", "/x/q.log").conflict(&older("a/", "/x/p.log")), None);
        assert_eq!((older("b/", "/x/q.log").conflict(&socket), socket.conflict(&older("b/", "/x/q.log"))), (None, None));
        assert_eq!(older("b/", "p.log").conflict(&older("a/", "./p.log")), Some(EnableError::FilePathInUse));
        assert_eq!(older("b/", "DISCARD").conflict(&older("a/", "discard")), Some(EnableError::FilePathInUse));
        assert_eq!(older("b/", "/discard").conflict(&older("a/", "discard")), None);
    }
}
