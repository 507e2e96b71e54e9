//! A log that a test writes itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use daypass_base::Timestamp;
use daypass_core::log::{Entry, Followers, Level, Levels, LineFormat, Lines, Log, NoSuchLogger};

/// The log of a [`crate::TestServer`]: its followers hear what the test tells, and nothing is written anywhere.
#[derive(Debug)]
pub struct TestLog {
    followers: Arc<Followers>,
    levels: Levels,
}

impl Default for TestLog {
    fn default() -> Self {
        Self { followers: Arc::default(), levels: Levels::new(["audit", "core", "expiry"], Level::Info) }
    }
}

impl TestLog {
    /// Logs something.
    pub fn tell(&self, level: Level, message: &str) {
        self.followers.tell(&Entry { time: Timestamp::from_nanos(0), level, logger: "core", message, fields: &[] });
    }

    /// Whether anybody follows.
    #[must_use]
    pub fn is_followed(&self) -> bool {
        self.followers.most().is_some()
    }
}

impl Log for TestLog {
    fn follow(&self, level: Level, format: LineFormat) -> Lines {
        self.followers.add(level, format)
    }

    fn levels(&self) -> BTreeMap<&'static str, Level> {
        self.levels.now()
    }

    fn set_level(&self, logger: Option<&str>, level: Option<Level>) -> Result<(), NoSuchLogger> {
        self.levels.set(logger, level)
    }
}
