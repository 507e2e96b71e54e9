//! That the WAL lasts: its name, and what an earlier process has left in it.
//!
//! **The kernel tells of a page that it could not write once**, at the next sync, and takes it for written from then on. The process that was told has ended; this one cannot know of it, and a
//! sync of the WAL succeeds without writing anything. So what is in the WAL is written once more, where it is, before a commit comes behind it, and before a page of it is copied over the
//! store's file: a copy that ends halfway, with a WAL on the disk that does not have it, leaves neither the old state nor the new one. It needs no room where files are written in place.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode};
use rustix::io::Errno;

use super::place::sync_name;
use super::schema::{self, PAGE_BYTES};
use super::snapshot::beside;
use crate::CommitError;

/// Why it is not known to last.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotLasting {
    #[error("it cannot be looked at: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("its name cannot be recorded: {0}")]
    Unnamed(#[source] io::Error),
    #[error("it cannot be written once more: {0}")]
    Unwritten(#[source] io::Error),
    #[error("another program began it anew {TRIES} times running")]
    BegunAnew,
}

impl NotLasting {
    /// Whether the disk may be sound: it has no room, where files are never written in place, no file can be opened, or another program writes to the store just now.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)),
            Self::Unnamed(error) | Self::Unwritten(error) => is_no_room(error) || is_no_descriptor(error),
            Self::BegunAnew => true,
        }
    }

    /// What a batch is answered meanwhile.
    pub(super) fn refusal(&self, store: &Path) -> CommitError {
        let text = format!("the WAL of {} does not last yet: {self}", store.display());
        match self {
            Self::Unnamed(error) | Self::Unwritten(error) if is_no_room(error) => CommitError::Full(format!("{text}; make room")),
            Self::Sqlite(_) | Self::Unnamed(_) | Self::Unwritten(_) | Self::BegunAnew => CommitError::Failed(text),
        }
    }
}

fn is_no_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Of this process or of the machine: it says nothing of the disk.
fn is_no_descriptor(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].into_iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Makes the name of the WAL last, and what is in it: that is written once more and synced. Until this has succeeded nothing may be committed or written back.
pub(super) fn make_last(connection: &Connection, store: &Path) -> Result<(), NotLasting> {
    make_last_between(connection, store, || {})
}

/// `between` is called before each try, for tests.
fn make_last_between(connection: &Connection, store: &Path, mut between: impl FnMut()) -> Result<(), NotLasting> {
    record_name(store).map_err(NotLasting::Unnamed)?;
    let wal = beside(store, "-wal");
    let mut found = Found::look(connection, &wal)?;
    for _try in 0..TRIES {
        if found.pages == 0 {
            return Ok(());
        }
        between();
        if !connection.is_autocommit() {
            // A rollback failed.
            connection.execute_batch("ROLLBACK")?;
        }
        // Another program neither adds to the WAL meanwhile nor begins it anew.
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let written = write_anew(&wal, found.pages);
        let ended = connection.execute_batch("ROLLBACK");
        match written {
            Ok(()) => return Ok(ended?),
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
                ended?;
                // It may have done so before: while it was waited for. A WAL that is still the same one is the disk's fault.
                let now = Found::look(connection, &wal)?;
                if now == found {
                    return Err(NotLasting::Unwritten(error));
                }
                found = now;
            }
            Err(error) => return Err(NotLasting::Unwritten(error)),
        }
    }
    Err(NotLasting::BegunAnew)
}

/// Which WAL it is, and how much of it counts.
#[derive(PartialEq, Eq)]
struct Found {
    pages: u64,
    /// With salts that are others each time that it begins anew.
    header: [u8; HEADER_BYTES],
}

impl Found {
    /// An empty WAL has no header. What it has cannot be asked for within a transaction.
    fn look(connection: &Connection, wal: &Path) -> Result<Self, NotLasting> {
        let pages = u64::try_from(schema::wal_pages(connection)?).unwrap_or(0);
        let mut header = [0; HEADER_BYTES];
        match OpenOptions::new().read(true).open(wal).and_then(|file| file.read_exact_at(&mut header, 0)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {}
            Err(error) => return Err(NotLasting::Unwritten(error)),
        }
        Ok(Self { pages, header })
    }
}

/// SQLite syncs the directory too, with the first commit, and drops the error.
fn record_name(store: &Path) -> io::Result<()> {
    match sync_name(&beside(store, "-wal")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(%error, "the directory of the store cannot be read, nor synced therefore: a power cut may take files that are new in it");
            Ok(())
        }
        synced => synced,
    }
}

/// Writes so many pages of the WAL with what they have already, so that the sync has something to write. They are still what SQLite found there: the kernel may let go of pages that it takes
/// for written, and reads from the disk then, where they never were.
fn write_anew(path: &Path, pages: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    file.write_all_at(&header, 0)?;
    let mut sum = Sum::of(&header);
    let mut parts = vec![0; PART_PAGES * FRAME_BYTES];
    let (mut at, mut left) = (HEADER_BYTES as u64, usize::try_from(pages).unwrap_or(usize::MAX));
    while left > 0 {
        let now = left.min(PART_PAGES);
        let part = parts.get_mut(..now * FRAME_BYTES).unwrap_or_default();
        file.read_exact_at(part, at)?;
        if !part.chunks_exact(FRAME_BYTES).all(|frame| sum.goes_on(frame)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what it was when it was opened"));
        }
        file.write_all_at(part, at)?;
        at += part.len() as u64;
        left -= now;
    }
    file.sync_data()
}

/// The sum over a WAL from its beginning, which the header of each page has: "Checksum Algorithm" in "WAL-mode File Format" (sqlite.org/walformat.html).
struct Sum {
    big_endian: bool,
    one: u32,
    two: u32,
}

impl Sum {
    /// Of the WAL's header, without the last eight bytes, which are the sum.
    fn of(header: &[u8; HEADER_BYTES]) -> Self {
        let mut sum = Self { big_endian: header.starts_with(&BIG_ENDIAN), one: 0, two: 0 };
        sum.add(header.get(..HEADER_BYTES - 8).unwrap_or_default());
        sum
    }

    /// Whether a page with its header (number and commit mark, salts, sum) comes next.
    fn goes_on(&mut self, frame: &[u8]) -> bool {
        let (Some(marks), Some(stored), Some(page)) = (frame.get(..8), frame.get(16..24), frame.get(24..)) else { return false };
        self.add(marks);
        self.add(page);
        [self.one.to_be_bytes(), self.two.to_be_bytes()].as_flattened() == stored
    }

    fn add(&mut self, bytes: &[u8]) {
        let word = |bytes| if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) };
        for [a, b, c, d, e, f, g, h] in bytes.as_chunks().0 {
            self.one = self.one.wrapping_add(word([*a, *b, *c, *d])).wrapping_add(self.two);
            self.two = self.two.wrapping_add(word([*e, *f, *g, *h])).wrapping_add(self.one);
        }
    }
}

/// How the WAL of a big-endian machine begins.
const BIG_ENDIAN: [u8; 4] = 0x377f_0683_u32.to_be_bytes();
const HEADER_BYTES: usize = 32;
/// A page with its header.
const FRAME_BYTES: usize = 24 + 4096;
const _: () = assert!(FRAME_BYTES as u64 == 24 + PAGE_BYTES);
/// Another program may begin it anew as often before it is given up.
const TRIES: u32 = 3;
/// Pages written anew at once: a MiB.
const PART_PAGES: usize = 256;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::super::{SqliteOptions, place};
    use super::*;

    fn grow(connection: &Connection, pages: u32) {
        connection.execute("INSERT INTO kv(k, ver, v) VALUES(randomblob(8), 1, randomblob(? * 4096))", [pages]).unwrap();
    }

    /// Story: where the WAL could not be written at the start, but hours later, the memory of the machine might have let go of it meanwhile. What the disk had there was written anew, and the
    /// first commit behind it was found by no start.
    #[test]
    fn only_what_was_found_at_the_opening_is_written_anew() {
        let root = tempfile::tempdir().unwrap();
        let place = place::take(&root.path().join("store.db")).unwrap();
        let connection = schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        for _ in 0..3 {
            grow(&connection, 300);
            make_last(&connection, &place.path).unwrap();
        }
        assert!(schema::wal_pages(&connection).unwrap() > 900);
        // It begins anew, with more behind it that does not count.
        schema::write_back_some(&connection).unwrap();
        grow(&connection, 300);
        assert!(schema::wal_pages(&connection).unwrap() < 400);
        make_last(&connection, &place.path).unwrap();
        let wal = OpenOptions::new().read(true).write(true).open(beside(&place.path, "-wal")).unwrap();
        let at = (HEADER_BYTES + 299 * FRAME_BYTES + 1000) as u64;
        let mut byte = [0];
        wal.read_exact_at(&mut byte, at).unwrap();
        wal.write_all_at(&[!byte[0]], at).unwrap();
        let error = make_last(&connection, &place.path).unwrap_err();
        assert!(!error.may_pass() && error.to_string().contains("not what it was"), "{error}");
        wal.write_all_at(&byte, at).unwrap();
        make_last(&connection, &place.path).unwrap();
    }

    /// Story: the machine had no descriptors left for a moment, and the store took no writes until a restart.
    #[test]
    fn what_passes_is_told_from_a_fault_of_the_disk() {
        let all = |errno: Errno| [NotLasting::Unnamed(errno.into()), NotLasting::Unwritten(errno.into())];
        for (errno, passes, full) in [
            (Errno::NOSPC, true, true),
            (Errno::DQUOT, true, true),
            (Errno::MFILE, true, false),
            (Errno::NFILE, true, false),
            (Errno::IO, false, false),
        ] {
            for error in all(errno) {
                assert_eq!(error.may_pass(), passes, "{errno}");
                assert_eq!(matches!(error.refusal(Path::new("s.db")), CommitError::Full(_)), full, "{errno}");
            }
        }
    }

    thread_local! {
        static OTHER: RefCell<Option<Connection>> = const { RefCell::new(None) };
    }

    /// Story: a shell had the store open at its start, and wrote the WAL back just when it was waited for. What had been counted before was no longer there, and the store
    /// took no writes until a restart, on a sound disk.
    #[test]
    fn a_wal_that_another_program_begins_anew_meanwhile_is_looked_at_once_more() {
        let root = tempfile::tempdir().unwrap();
        let place = place::take(&root.path().join("store.db")).unwrap();
        let connection = schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        grow(&connection, 300);
        let other = Connection::open(&place.path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        OTHER.set(Some(other));
        let ends = |_| {
            OTHER.with_borrow(|other| {
                let other = other.as_ref().unwrap();
                if !other.is_autocommit() {
                    other.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
                    other.execute("INSERT INTO kv(k, ver, v) VALUES(x'07', 1, x'02')", []).unwrap();
                }
            });
            true
        };
        connection.busy_handler(Some(ends)).unwrap();
        make_last(&connection, &place.path).unwrap();
        assert!(schema::wal_pages(&connection).unwrap() < 10);
    }

    /// Story: a script wrote the WAL back in a loop while the server started. The third time that it began anew was taken for a fault of the disk, and the store took no writes until a restart.
    #[test]
    fn a_wal_that_begins_anew_again_and_again_is_not_taken_for_a_fault_of_the_disk() {
        let root = tempfile::tempdir().unwrap();
        let place = place::take(&root.path().join("store.db")).unwrap();
        let connection = schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        grow(&connection, 400);
        let other = Connection::open(&place.path).unwrap();
        let mut shorter = 400;
        let begin_anew = || {
            shorter /= 4;
            other.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            grow(&other, shorter);
        };
        let error = make_last_between(&connection, &place.path, begin_anew).unwrap_err();
        assert!(error.may_pass() && error.to_string().contains("3 times"), "{error}");
        make_last(&connection, &place.path).unwrap();
    }
}
