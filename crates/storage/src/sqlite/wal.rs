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
}

impl NotLasting {
    /// Whether the disk may be sound: it has no room, where files are never written in place, or another program writes to the store just now.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Sqlite(error) => matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)),
            Self::Unnamed(error) | Self::Unwritten(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
        }
    }

    /// What a batch is answered meanwhile.
    pub(super) fn refusal(&self, store: &Path) -> CommitError {
        let text = format!("the WAL of {} does not last yet: {self}", store.display());
        match self {
            Self::Sqlite(_) => CommitError::Failed(text),
            Self::Unnamed(_) | Self::Unwritten(_) => CommitError::Full(format!("{text}; make room")),
        }
    }
}

/// Makes the name of the WAL last, and what is in it: that is written once more and synced. Until this has succeeded nothing may be committed or written back.
pub(super) fn make_last(connection: &Connection, store: &Path) -> Result<(), NotLasting> {
    record_name(store).map_err(NotLasting::Unnamed)?;
    let pages = u64::try_from(schema::wal_pages(connection)?).unwrap_or(0);
    if pages == 0 {
        return Ok(());
    }
    // Another program neither adds to the WAL meanwhile nor begins it anew.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let written = write_anew(&beside(store, "-wal"), HEADER_BYTES + pages * (FRAME_HEADER_BYTES + PAGE_BYTES));
    let ended = connection.execute_batch("ROLLBACK");
    written.map_err(NotLasting::Unwritten)?;
    Ok(ended?)
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

/// Writes the first bytes of a file with what it has already, so that the sync has something to write.
fn write_anew(path: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut part = vec![0; PART_BYTES];
    let mut at = 0;
    while at < bytes {
        let wanted = usize::try_from(bytes - at).unwrap_or(PART_BYTES).min(PART_BYTES);
        let read = file.read_at(part.get_mut(..wanted).unwrap_or_default(), at)?;
        let Some(read) = part.get(..read).filter(|read| !read.is_empty()) else { break };
        file.write_all_at(read, at)?;
        at += read.len() as u64;
    }
    file.sync_data()
}

/// Of the WAL, and of each page in it: "WAL File Format" (sqlite.org/walformat.html).
const HEADER_BYTES: u64 = 32;
const FRAME_HEADER_BYTES: u64 = 24;
/// Bytes written anew at once.
const PART_BYTES: usize = 1024 * 1024;
