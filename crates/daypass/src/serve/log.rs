//! The log: where it is written to, who else follows it, and how much each part of the server tells.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use daypass_base::{Clock, SystemClock};
use daypass_core::log::{Entry, Followers, Level, Levels, LineFormat, Lines, Log, NoSuchLogger};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, reload};

use crate::cli::server::ServerArgs;
use crate::config::Config;

/// Loggers by the names that `sys/loggers` has, with the modules that write to them. The longest module that fits counts.
const LOGGERS: [(&str, &[&str]); 13] = [
    ("audit", &["daypass_audit", "daypass_core::audit"]),
    ("auth", &["daypass_engines::auth", "daypass_idp"]),
    ("aws", &["daypass_aws", "daypass_engines::aws_keys", "daypass_engines::secrets::aws"]),
    ("core", &["daypass_core", "daypass_engines", "daypass_sdk"]),
    ("expiry", &["daypass_core::expiry", "daypass_core::revoke", "daypass_core::leases"]),
    ("http", &["daypass_server"]),
    ("identity", &["daypass_core::identity"]),
    ("keys", &["daypass_barrier", "daypass_core::keys"]),
    ("sandbox", &["daypass_sandbox"]),
    ("secrets", &["daypass_engines::secrets"]),
    ("server", &["daypass"]),
    ("storage", &["daypass_storage"]),
    ("traces", &["daypass_otlp"]),
];

/// Sets what passes a filter.
type Set = Arc<dyn Fn(Targets) + Send + Sync>;

/// The log of this process.
pub(super) struct ServerLog {
    /// What it started with, by the flag, the environment or the file.
    level: Level,
    levels: Levels,
    followers: Arc<Followers>,
    written: Set,
    followed: Set,
    file: Option<Arc<LogFile>>,
}

/// Starts the log. The command line wins over the file.
pub(super) fn start(args: &ServerArgs, config: &Config) -> Result<Arc<ServerLog>, String> {
    let named = args.log_level.as_deref().or(config.log.level.as_deref()).unwrap_or("info");
    let level = Level::parse(named).ok_or_else(|| format!("unknown log level {named:?}; use trace, debug, info, warn or error"))?;
    let json = match args.log_format.as_deref().map(|named| (is_json(named), named)) {
        Some((Some(json), _)) => json,
        Some((None, other)) => return Err(format!("unknown log format {other:?}; use standard or json")),
        None => config.log.json.unwrap_or(false),
    };
    let file = args.log_file.as_ref().or(config.log.file.as_ref()).map(|path| LogFile::open(path).map(Arc::new)).transpose()?;
    let writer = file.as_ref().map_or_else(|| BoxMakeWriter::new(io::stderr), |file| BoxMakeWriter::new(Arc::clone(file)));
    let levels = Levels::new(LOGGERS.iter().map(|(name, _)| *name), level);
    let followers = Arc::new(Followers::default());
    let (written, set_written) = reload::Layer::new(targets(&levels.now()));
    let (followed, set_followed) = reload::Layer::new(followed_targets(&followers));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(false).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json { Box::new(layer.json().flatten_event(true)) } else { Box::new(layer) };
    let follow = Follow { followers: Arc::clone(&followers), clock: Arc::new(SystemClock::new()) };
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(written)).with(follow.with_filter(followed));
    subscriber.try_init().map_err(|error| format!("The log cannot start: {error}"))?;
    // An error means that there is no log any more: nobody is left to tell.
    let written: Set = Arc::new(move |targets| drop(set_written.reload(targets)));
    let followed: Set = Arc::new(move |targets| drop(set_followed.reload(targets)));
    Ok(Arc::new(ServerLog { level, levels, followers, written, followed, file }))
}

/// Whether a format's name means JSON, in any case, as the configuration reads it; `None` where it means nothing.
fn is_json(named: &str) -> Option<bool> {
    match named.trim().to_ascii_lowercase().as_str() {
        "json" => Some(true),
        "standard" | "" => Some(false),
        _ => None,
    }
}

impl ServerLog {
    /// How much it told when it started.
    pub(super) fn level(&self) -> Level {
        self.level
    }

    /// Opens the file anew, where there is one, after a log rotation. Errors: it cannot be opened; lines still go to the one that is open.
    pub(super) fn reopen(&self) -> Result<(), String> {
        self.file.as_ref().map_or(Ok(()), |file| file.reopen())
    }
}

impl Log for ServerLog {
    fn follow(&self, level: Level, format: LineFormat) -> Lines {
        let lines = self.followers.add(level, format);
        (self.followed)(followed_targets(&self.followers));
        let (set, followers) = (Arc::clone(&self.followed), Arc::clone(&self.followers));
        lines.when_left(move || set(followed_targets(&followers)))
    }

    fn levels(&self) -> BTreeMap<&'static str, Level> {
        self.levels.now()
    }

    fn set_level(&self, logger: Option<&str>, level: Option<Level>) -> Result<(), NoSuchLogger> {
        self.levels.set(logger, level)?;
        (self.written)(targets(&self.levels.now()));
        Ok(())
    }
}

/// A file that lines go to, for its owner alone where it is made here.
struct LogFile {
    path: PathBuf,
    /// One line at a time; held for nothing but a write.
    file: Mutex<File>,
}

impl LogFile {
    fn open(path: &Path) -> Result<Self, String> {
        Ok(Self { path: path.to_owned(), file: Mutex::new(opened(path)?) })
    }

    fn held(&self) -> MutexGuard<'_, File> {
        // A thread that died while it wrote a line has left the file as good as it was.
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reopen(&self) -> Result<(), String> {
        let file = opened(&self.path)?;
        *self.held() = file;
        Ok(())
    }
}

fn opened(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|error| format!("The log file {} cannot be opened: {error}", path.display()))
}

impl io::Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.held().write(line)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.held().write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.held().flush()
    }
}

/// Libraries below stay at warnings: at their debug levels, some write headers.
fn targets(levels: &BTreeMap<&'static str, Level>) -> Targets {
    let modules = LOGGERS.iter().flat_map(|(name, modules)| {
        let level = levels.get(name).copied().unwrap_or(Level::Info);
        modules.iter().map(move |module| (*module, filter(level)))
    });
    Targets::new().with_default(LevelFilter::WARN).with_targets(modules)
}

/// What passes for followers: nothing when there are none, so that lines which nobody reads are not even put together.
fn followed_targets(followers: &Followers) -> Targets {
    match followers.most() {
        None => Targets::new().with_default(LevelFilter::OFF),
        Some(most) => Targets::new().with_default(filter(most).min(LevelFilter::WARN)).with_target("daypass", filter(most)),
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

/// The name of the logger that a module writes to; of a library, its own.
fn logger(module: &str) -> &str {
    let all = LOGGERS.iter().flat_map(|(name, modules)| modules.iter().map(move |one| (*name, *one)));
    let fits = |one: &str| module.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let best = all.filter(|(_, one)| fits(one)).max_by_key(|(_, one)| one.len());
    best.map_or_else(|| module.split("::").next().unwrap_or(module), |(name, _)| name)
}

/// Tells followers what is logged.
struct Follow {
    followers: Arc<Followers>,
    clock: Arc<dyn Clock>,
}

impl<S: Subscriber> Layer<S> for Follow {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warn,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG => Level::Debug,
            tracing::Level::TRACE => Level::Trace,
        };
        if !self.followers.want(level) {
            return;
        }
        let mut told = Told::default();
        event.record(&mut told);
        let logger = logger(event.metadata().target());
        self.followers.tell(&Entry { time: self.clock.now(), level, logger, message: &told.message, fields: &told.fields });
    }
}

/// What an event carries, as text.
#[derive(Default)]
struct Told {
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Told {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { value.clone_into(&mut self.message) } else { self.fields.push((field.name(), value.to_owned())) }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        let _never_fails = write!(text, "{value:?}");
        if field.name() == "message" { self.message = text } else { self.fields.push((field.name(), text)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_writes_to_the_logger_that_fits_it_best() {
        let cases = [
            ("daypass::serve", "server"),
            ("daypass_core", "core"),
            ("daypass_core::request", "core"),
            ("daypass_core::expiry", "expiry"),
            ("daypass_engines::secrets::aws::users", "aws"),
            ("daypass_engines::aws_keys::rotation", "aws"),
            ("daypass_engines::secrets::transit", "secrets"),
            ("daypass_otlp::worker", "traces"),
            ("hyper::proto", "hyper"),
        ];
        for (module, name) in cases {
            assert_eq!(logger(module), name, "{module}");
        }
    }

    #[test]
    fn a_logger_is_turned_up_alone_and_libraries_never_are() {
        let levels = Levels::new(LOGGERS.iter().map(|(name, _)| *name), Level::Info);
        levels.set(Some("expiry"), Some(Level::Trace)).unwrap();
        let targets = targets(&levels.now());
        assert!(targets.would_enable("daypass_core::expiry", &tracing::Level::TRACE));
        assert!(!targets.would_enable("daypass_core::request", &tracing::Level::DEBUG));
        assert!(!targets.would_enable("hyper::proto", &tracing::Level::INFO));
        levels.set(None, Some(Level::Error)).unwrap();
        assert!(!super::targets(&levels.now()).would_enable("daypass::serve", &tracing::Level::WARN));
    }

    #[test]
    fn lines_that_nobody_follows_are_not_put_together() {
        let followers = Arc::new(Followers::default());
        assert!(!followed_targets(&followers).would_enable("daypass_core", &tracing::Level::ERROR));
        let lines = followers.add(Level::Trace, LineFormat::Json);
        let targets = followed_targets(&followers);
        assert!(targets.would_enable("daypass_core", &tracing::Level::TRACE) && targets.would_enable("hyper", &tracing::Level::WARN));
        assert!(!targets.would_enable("hyper", &tracing::Level::INFO), "some libraries write headers at their talkative levels");
        drop(lines);
    }
}
