//! The server's log as the core sees it: who follows it, and how much each logger tells. What writes the log stands behind [`Log`].
//!
//! A follower has a queue of [`QUEUED_LINES`] lines. One that does not keep up loses lines and is told how many: the log never waits for
//! anybody. No line holds a secret, because no log line ever does.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use daypass_base::Timestamp;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

/// How much is told, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What went wrong.
    Error,
    /// What will go wrong.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Reads a level, with the other names that Vault has for some.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text.trim().to_ascii_lowercase().as_str() {
            "error" | "err" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" | "notice" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return None,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }

    fn rank(self) -> u64 {
        match self {
            Self::Error => 1,
            Self::Warn => 2,
            Self::Info => 3,
            Self::Debug => 4,
            Self::Trace => 5,
        }
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Standard,
}

/// The log: `sys/monitor` follows it, `sys/loggers` sets how much it tells.
pub trait Log: Send + Sync {
    /// What is logged from now on, at this level and those before it.
    fn follow(&self, level: Level, format: LineFormat) -> Lines;
    /// Every logger and how much it tells.
    fn levels(&self) -> BTreeMap<&'static str, Level>;
    /// Sets how much one logger tells, or all of them; `None` is what they told at the start. Errors: [`NoSuchLogger`].
    fn set_level(&self, logger: Option<&str>, level: Option<Level>) -> Result<(), NoSuchLogger>;
}

/// There is no logger of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoSuchLogger;

/// Something that was logged.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    /// When.
    pub time: Timestamp,
    /// How grave it is.
    pub level: Level,
    /// Which part of the server tells it.
    pub logger: &'a str,
    /// What it tells.
    pub message: &'a str,
    /// Names and values that belong to it.
    pub fields: &'a [(&'static str, String)],
}

impl Entry<'_> {
    /// The line with its end.
    #[must_use]
    pub fn line(&self, format: LineFormat) -> Bytes {
        match format {
            LineFormat::Json => self.json(),
            LineFormat::Standard => self.standard(),
        }
    }

    fn standard(&self) -> Bytes {
        let level = format!("[{}]", self.level.name().to_ascii_uppercase());
        let mut line = format!("{} {level:<7} {}: ", self.time, self.logger);
        push_on_one_line(&mut line, self.message);
        for (number, (name, value)) in self.fields.iter().enumerate() {
            let _never_fails = write!(line, "{}{name}=", if number == 0 { ": " } else { " " });
            if value.is_empty() || value.contains([' ', '"', '=']) {
                let _never_fails = write!(line, "{value:?}");
            } else {
                push_on_one_line(&mut line, value);
            }
        }
        line.push('\n');
        line.into()
    }

    fn json(&self) -> Bytes {
        let mut line = Map::new();
        line.insert("@level".to_owned(), self.level.name().into());
        line.insert("@message".to_owned(), self.message.into());
        line.insert("@module".to_owned(), self.logger.into());
        line.insert("@timestamp".to_owned(), self.time.to_string().into());
        for (name, value) in self.fields {
            line.insert((*name).to_owned(), value.as_str().into());
        }
        let mut line = Value::Object(line).to_string();
        line.push('\n');
        line.into()
    }
}

/// One entry is one line, whatever is in it.
fn push_on_one_line(line: &mut String, text: &str) {
    for one in text.chars() {
        if one.is_control() { line.extend(one.escape_default()) } else { line.push(one) }
    }
}

/// All who follow the log.
#[derive(Debug, Default)]
pub struct Followers {
    list: Mutex<Vec<Follower>>,
    next: AtomicU64,
    /// Rank of the most that anybody wants to hear; 0 when nobody listens.
    most: AtomicU64,
}

#[derive(Debug)]
struct Follower {
    number: u64,
    level: Level,
    format: LineFormat,
    queue: mpsc::Sender<Bytes>,
    missed: u64,
}

impl Followers {
    /// Adds one.
    #[must_use]
    pub fn add(self: &Arc<Self>, level: Level, format: LineFormat) -> Lines {
        let (queue, lines) = mpsc::channel(QUEUED_LINES);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut list = self.list.lock();
        list.push(Follower { number, level, format, queue, missed: 0 });
        self.most.store(most(&list), Ordering::Relaxed);
        Lines { lines, number, all: Arc::downgrade(self), left: None }
    }

    /// The most that anybody wants to hear.
    #[must_use]
    pub fn most(&self) -> Option<Level> {
        self.list.lock().iter().map(|follower| follower.level).max()
    }

    /// Whether anybody wants to hear this. Costs one read of a number.
    #[must_use]
    pub fn want(&self, level: Level) -> bool {
        level.rank() <= self.most.load(Ordering::Relaxed)
    }

    /// Tells everybody who wants to hear it. Never waits.
    pub fn tell(&self, entry: &Entry<'_>) {
        for follower in self.list.lock().iter_mut().filter(|follower| entry.level <= follower.level) {
            follower.tell(entry);
        }
    }

    fn remove(&self, number: u64) {
        let mut list = self.list.lock();
        list.retain(|follower| follower.number != number);
        self.most.store(most(&list), Ordering::Relaxed);
    }
}

fn most(list: &[Follower]) -> u64 {
    list.iter().map(|follower| follower.level.rank()).max().unwrap_or(0)
}

impl Follower {
    fn tell(&mut self, entry: &Entry<'_>) {
        if self.missed > 0 {
            let message = format!("{} lines were left out here: they are read more slowly than they are written", self.missed);
            let gap = Entry { level: Level::Warn, logger: "monitor", message: &message, fields: &[], ..entry.clone() };
            match self.queue.try_send(gap.line(self.format)) {
                Ok(()) => self.missed = 0,
                Err(_still_no_room) => {
                    self.missed += 1;
                    return;
                }
            }
        }
        if self.queue.try_send(entry.line(self.format)).is_err() {
            self.missed += 1;
        }
    }
}

/// What one follower hears. Dropping it ends that.
pub struct Lines {
    lines: mpsc::Receiver<Bytes>,
    number: u64,
    all: Weak<Followers>,
    left: Option<Box<dyn FnOnce() + Send>>,
}

impl Lines {
    /// With something to do once this follower has gone.
    #[must_use]
    pub fn when_left(mut self, left: impl FnOnce() + Send + 'static) -> Self {
        self.left = Some(Box::new(left));
        self
    }

    /// The next line; `None` when the log has ended.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.lines.recv().await
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(all) = self.all.upgrade() {
            all.remove(self.number);
        }
        if let Some(left) = self.left.take() {
            left();
        }
    }
}

/// How much every logger tells, now and at the start.
#[derive(Debug)]
pub struct Levels {
    start: Level,
    now: Mutex<BTreeMap<&'static str, Level>>,
}

impl Levels {
    /// All of them at one level.
    pub fn new(loggers: impl IntoIterator<Item = &'static str>, start: Level) -> Self {
        Self { start, now: Mutex::new(loggers.into_iter().map(|name| (name, start)).collect()) }
    }

    /// As they are now.
    #[must_use]
    pub fn now(&self) -> BTreeMap<&'static str, Level> {
        self.now.lock().clone()
    }

    /// See [`Log::set_level`].
    pub fn set(&self, logger: Option<&str>, level: Option<Level>) -> Result<(), NoSuchLogger> {
        let level = level.unwrap_or(self.start);
        let mut now = self.now.lock();
        match logger {
            None => now.values_mut().for_each(|one| *one = level),
            Some(name) => *now.get_mut(name).ok_or(NoSuchLogger)? = level,
        }
        Ok(())
    }
}

/// Lines that wait for one follower. Further ones are left out.
pub const QUEUED_LINES: usize = 512;

/// A log that nobody writes.
#[cfg(test)]
pub(crate) struct Unwritten;

#[cfg(test)]
impl Log for Unwritten {
    fn follow(&self, level: Level, format: LineFormat) -> Lines {
        Arc::new(Followers::default()).add(level, format)
    }

    fn levels(&self) -> BTreeMap<&'static str, Level> {
        BTreeMap::new()
    }

    fn set_level(&self, _: Option<&str>, _: Option<Level>) -> Result<(), NoSuchLogger> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(level: Level, message: &'a str, fields: &'a [(&'static str, String)]) -> Entry<'a> {
        Entry { time: Timestamp::from_nanos(1_767_323_045_000_000_000), level, logger: "core", message, fields }
    }

    #[tokio::test]
    async fn a_follower_that_does_not_keep_up_is_told_what_it_missed() {
        let followers = Arc::new(Followers::default());
        let mut lines = followers.add(Level::Info, LineFormat::Standard);
        for _ in 0..QUEUED_LINES + 7 {
            followers.tell(&entry(Level::Info, "busy", &[]));
        }
        for _ in 0..QUEUED_LINES {
            assert!(lines.next().await.unwrap().ends_with(b"core: busy\n"));
        }
        followers.tell(&entry(Level::Info, "again", &[]));
        let gap = lines.next().await.unwrap();
        assert!(
            gap.ends_with(b"[WARN]  monitor: 7 lines were left out here: they are read more slowly than they are written\n"),
            "{gap:?}"
        );
        assert!(lines.next().await.unwrap().ends_with(b"core: again\n"));
    }

    #[tokio::test]
    async fn each_follower_hears_its_own_level_and_nobody_is_told_anything_once_all_left() {
        let followers = Arc::new(Followers::default());
        assert!(!followers.want(Level::Error));
        let mut quiet = followers.add(Level::Warn, LineFormat::Standard);
        let mut all = followers.add(Level::Trace, LineFormat::Standard);
        followers.tell(&entry(Level::Debug, "detail", &[]));
        followers.tell(&entry(Level::Error, "trouble", &[]));
        assert!(quiet.next().await.unwrap().ends_with(b"[ERROR] core: trouble\n"));
        assert!(all.next().await.unwrap().ends_with(b"[DEBUG] core: detail\n"));
        assert!(followers.want(Level::Trace));
        drop(all);
        assert!(!followers.want(Level::Info) && followers.want(Level::Warn));
        drop(quiet);
        assert!(!followers.want(Level::Error));
    }

    #[test]
    fn an_entry_is_one_line_whatever_is_in_it() {
        let fields = [("path", "a\nb".to_owned()), ("why", "no room".to_owned())];
        let entry = entry(Level::Warn, "bad\r\nthing", &fields);
        let text = |format| String::from_utf8(entry.line(format).to_vec()).unwrap();
        let time = entry.time.to_string();
        assert_eq!(text(LineFormat::Standard), format!("{time} [WARN]  core: bad\\r\\nthing: path=a\\nb why=\"no room\"\n"));
        let json: Value = serde_json::from_str(&text(LineFormat::Json)).unwrap();
        assert_eq!((&json["@level"], &json["@module"], &json["path"]), (&"warn".into(), &"core".into(), &"a\nb".into()));
        assert_eq!(text(LineFormat::Json).lines().count(), 1);
    }

    #[test]
    fn loggers_go_back_to_what_they_told_at_the_start() {
        let levels = Levels::new(["audit", "core"], Level::Info);
        levels.set(Some("core"), Some(Level::Trace)).unwrap();
        assert_eq!(levels.now(), BTreeMap::from([("audit", Level::Info), ("core", Level::Trace)]));
        levels.set(None, Some(Level::Error)).unwrap();
        levels.set(Some("core"), None).unwrap();
        assert_eq!(levels.now(), BTreeMap::from([("audit", Level::Error), ("core", Level::Info)]));
        assert_eq!(levels.set(Some("nobody"), None), Err(NoSuchLogger));
    }
}
