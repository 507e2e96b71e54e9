//! Lines to the local syslog, as Go's library writes them: `<priority>Jan  2 15:04:05 tag[pid]: line`, RFC 3164 without the host name.
//! The time is UTC.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

use daypass_base::{Clock, Timestamp};

use crate::link::{Framing, Link, Remote};
use crate::socket::unix;

/// What the messages are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facility(u8);

impl Default for Facility {
    /// `AUTH`, as in Vault.
    fn default() -> Self {
        Self(4)
    }
}

impl Facility {
    /// By its name, in any case.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let upper = text.to_ascii_uppercase();
        FACILITIES.iter().find(|(name, _)| *name == upper).map(|(_, number)| Self(*number))
    }
}

/// The local syslog.
pub(crate) struct LocalSyslog {
    pub(crate) facility: Facility,
    pub(crate) tag: String,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where its socket may be.
    pub(crate) paths: &'static [&'static str],
}

impl LocalSyslog {
    fn header(&self, now: Timestamp) -> String {
        let (priority, now) = (u32::from(self.facility.0) * 8 + SEVERITY_INFO, now.date_time());
        let month = now.month().to_string();
        let month = month.get(..3).unwrap_or_default();
        let (day, hour, minute, second) = (now.day(), now.hour(), now.minute(), now.second());
        format!("<{priority}>{month} {day:2} {hour:02}:{minute:02}:{second:02} {}[{}]: ", self.tag, std::process::id())
    }
}

impl Remote for LocalSyslog {
    fn connect(&mut self, _limit: Duration) -> Result<Link> {
        let mut last = Error::from(ErrorKind::NotFound);
        for path in self.paths {
            for framing in [Framing::Datagram, Framing::Stream] {
                match unix(path, framing) {
                    Ok(link) => return Ok(link),
                    // Of several reasons, that of a socket that is there says most.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => last = error,
                }
            }
        }
        Err(Error::new(last.kind(), format!("the local syslog cannot be reached at {}: {last}", self.paths.join(", "))))
    }

    fn frame(&self, line: &[u8]) -> Option<Vec<u8>> {
        let mut framed = self.header(self.clock.now()).into_bytes();
        framed.extend_from_slice(line);
        Some(framed)
    }
}

/// Where systems have it.
pub(crate) const PATHS: [&str; 3] = ["/dev/log", "/var/run/syslog", "/var/run/log"];

const SEVERITY_INFO: u32 = 6;
/// RFC 3164, section 4.1.1.
const FACILITIES: [(&str, u8); 20] = [
    ("KERN", 0),
    ("USER", 1),
    ("MAIL", 2),
    ("DAEMON", 3),
    ("AUTH", 4),
    ("SYSLOG", 5),
    ("LPR", 6),
    ("NEWS", 7),
    ("UUCP", 8),
    ("CRON", 9),
    ("AUTHPRIV", 10),
    ("FTP", 11),
    ("LOCAL0", 16),
    ("LOCAL1", 17),
    ("LOCAL2", 18),
    ("LOCAL3", 19),
    ("LOCAL4", 20),
    ("LOCAL5", 21),
    ("LOCAL6", 22),
    ("LOCAL7", 23),
];

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use daypass_base::sim::SimClock;

    use super::*;
    use crate::link::LinkWriter;
    use crate::sink::Writer as _;

    fn writer(path: &std::path::Path) -> LinkWriter<LocalSyslog> {
        let clock: Arc<dyn Clock> = Arc::new(SimClock::default());
        let path: &'static str = path.display().to_string().leak();
        let paths: &'static [&'static str] = vec![path].leak();
        let facility = Facility::parse("local3").unwrap();
        let syslog = LocalSyslog { facility, tag: "vault".to_owned(), clock: Arc::clone(&clock), paths };
        LinkWriter::new(syslog, Duration::from_secs(1), clock)
    }

    #[test]
    fn each_line_is_a_datagram_with_priority_time_and_tag() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        writer(&path).append(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
        let mut message = [0; 256];
        for number in 1..=2 {
            let length = daemon.recv(&mut message).unwrap();
            let expected = format!("<158>Jan  2 03:04:05 vault[{}]: {{\"a\":{number}}}\n", std::process::id());
            assert_eq!(std::str::from_utf8(&message[..length]).unwrap(), expected);
        }
    }

    #[test]
    fn a_daemon_that_takes_a_stream_gets_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let daemon = UnixListener::bind(&path).unwrap();
        writer(&path).append(b"{}\n{}\n").unwrap();
        let text = std::io::read_to_string(daemon.accept().unwrap().0).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("<158>") && line.ends_with("]: {}")).count(), 2, "{text}");
    }

    #[test]
    fn no_daemon_is_told() {
        let unwritten = writer(std::path::Path::new("/nowhere/log")).append(b"{}\n").unwrap_err();
        assert!(unwritten.source.to_string().starts_with("the local syslog cannot be reached at /nowhere/log"), "{}", unwritten.source);
    }

    #[test]
    fn facilities_have_their_numbers() {
        assert_eq!(["AUTH", "authpriv", "Local7", "KERN"].map(Facility::parse), [4, 10, 23, 0].map(|number| Some(Facility(number))));
        assert_eq!(Facility::parse("none"), None);
    }
}
