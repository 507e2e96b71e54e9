//! All rows out of the file, and another file in its place.
//!
//! An export reads one state in one transaction and puts it into a file without a name beside the store: as fast as the disk takes it, whatever
//! the client's pace, since the WAL cannot be written back while the transaction lasts. A store that is to replace this one is filled as a file
//! beside it, synced, and renamed over it by the committer. Both files are gone after a kill: one has no name, the other is removed at the
//! next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use daypass_base::Timestamp;
use rusqlite::{Connection, ErrorCode, params};
use tokio::sync::OwnedSemaphorePermit;

use super::place::{give_to_owner_of, sync_name};
use super::schema::{self, CLAIM_ALL, CLAIM_WRITE, CONFIG_VERSION_WRITE, DUE_ADD, DUE_ALL, SpaceSql};
use super::versions::write_next;
use super::{Shared, SqliteOptions};
use crate::snapshot::export::{Export, Recorder};
use crate::snapshot::{Content, Record, RecordRef, Staged, Staging};
use crate::{CommitError, Key, Space};

/// Ends an export whose caller has gone away: the WAL grows as long as it lasts.
#[derive(Default)]
pub(super) struct GivenUp(pub(super) Arc<AtomicBool>);

impl Drop for GivenUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Writes all rows of one state into a file without a name. Blocks. The committer neither replaces nor gives up the file meanwhile; it does not
/// wait long, since an export ends soon after the store is to be closed, or nobody wants it any more.
pub(super) fn export(store: &Path, options: &SqliteOptions, shared: &Shared, given_up: &AtomicBool) -> Result<Export, CommitError> {
    let _under_way = shared.exports.read();
    let stop = Stop { closing: &shared.closing, given_up };
    stop.check()?;
    let failed = |error: io::Error| file_error(&error, store);
    let path = beside(store, EXPORT);
    let file = create(&path).map_err(failed)?;
    // From here on nobody can open it, and it is gone with the last handle.
    fs::remove_file(&path).map_err(failed)?;
    let room = Room { path: store, reserve: options.reserve_bytes };
    let sql = |error: rusqlite::Error| sql_error(&error, store);
    let connection = schema::open_reader(store, options.reader_cache_kib).map_err(sql)?;
    connection.execute_batch("BEGIN").map_err(sql)?;
    let config_version = schema::meta(&connection, "config_version").map_err(sql)?.unsigned_abs();
    let mut recorder = Checked { recorder: Recorder::new(BufWriter::with_capacity(BUFFER_BYTES, file)), room, stop, checked_at: 0 };
    for space in [Space::Config, Space::Token, Space::Lease, Space::Index] {
        export_space(&connection, space, &mut recorder, store)?;
    }
    export_rest(&connection, &mut recorder, store)?;
    let (out, totals) = recorder.recorder.finish().map_err(failed)?;
    let mut file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.rewind().map_err(failed)?;
    Ok(Export { state: Box::new(BufReader::with_capacity(BUFFER_BYTES, file)), totals, config_version })
}

fn export_space(connection: &Connection, space: Space, out: &mut Checked<'_>, store: &Path) -> Result<(), CommitError> {
    let sql = |error: rusqlite::Error| sql_error(&error, store);
    let blob = |error: rusqlite::types::FromSqlError| CommitError::Failed(error.to_string());
    let mut statement = connection.prepare_cached(SpaceSql::of(space).rows).map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let version: i64 = row.get(1).map_err(sql)?;
        let (key, value) = (row.get_ref(0).map_err(sql)?.as_blob().map_err(blob)?, row.get_ref(2).map_err(sql)?.as_blob().map_err(blob)?);
        out.add(&RecordRef::Row { space, key, version: version.unsigned_abs(), value }, store)?;
    }
    Ok(())
}

fn export_rest(connection: &Connection, out: &mut Checked<'_>, store: &Path) -> Result<(), CommitError> {
    let sql = |error: rusqlite::Error| sql_error(&error, store);
    let mut statement = connection.prepare_cached(DUE_ALL).map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let id: Vec<u8> = row.get(2).map_err(sql)?;
        let at = Timestamp::from_nanos(row.get(1).map_err(sql)?);
        out.add(&RecordRef::Due { shard: row.get(0).map_err(sql)?, at, id: &id }, store)?;
    }
    let mut statement = connection.prepare_cached(CLAIM_ALL).map_err(sql)?;
    let mut rows = statement.query([]).map_err(sql)?;
    while let Some(row) = rows.next().map_err(sql)? {
        let (owner, epoch): (String, i64) = (row.get(1).map_err(sql)?, row.get(2).map_err(sql)?);
        let until = Timestamp::from_nanos(row.get(3).map_err(sql)?);
        out.add(&RecordRef::Claim { shard: row.get(0).map_err(sql)?, until, epoch: epoch.unsigned_abs(), owner: &owner }, store)?;
    }
    Ok(())
}

/// A recorder that leaves the reserve on the disk alone, and ends where nobody waits for it.
struct Checked<'a> {
    recorder: Recorder<BufWriter<File>>,
    room: Room<'a>,
    stop: Stop<'a>,
    checked_at: u64,
}

impl Checked<'_> {
    fn add(&mut self, record: &RecordRef<'_>, store: &Path) -> Result<(), CommitError> {
        self.recorder.add(record).map_err(|error| file_error(&error, store))?;
        if self.recorder.bytes() - self.checked_at > CHECK_BYTES {
            self.checked_at = self.recorder.bytes();
            self.stop.check()?;
            self.room.check()?;
        }
        Ok(())
    }
}

/// Why an export may end before its time.
struct Stop<'a> {
    closing: &'a AtomicBool,
    given_up: &'a AtomicBool,
}

impl Stop<'_> {
    fn check(&self) -> Result<(), CommitError> {
        let stopped = |reason: &str| Err(CommitError::Failed(reason.to_owned()));
        if self.closing.load(Ordering::Acquire) {
            stopped("it is closed")
        } else if self.given_up.load(Ordering::Acquire) {
            stopped("nobody waits for this copy of the store any more")
        } else {
            Ok(())
        }
    }
}

/// What the disk has left.
struct Room<'a> {
    path: &'a Path,
    reserve: u64,
}

impl Room<'_> {
    fn check(&self) -> Result<(), CommitError> {
        let Ok(state) = rustix::fs::statvfs(self.path) else { return Ok(()) };
        let free = state.f_bavail.saturating_mul(state.f_frsize);
        if free >= self.reserve {
            return Ok(());
        }
        let (path, reserve) = (self.path.display(), self.reserve);
        Err(CommitError::Full(format!(
            "a copy of the store does not fit beside {path}: {free} bytes are left, and {reserve} are kept for revocations; make room for as much as the store takes"
        )))
    }
}

/// A whole store in a file beside the one in use. Removed when it is dropped before it was put in place.
pub(crate) struct StagedFile {
    path: PathBuf,
    _only_one: OwnedSemaphorePermit,
}

impl StagedFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Not there any more once it was put in place.
        let _gone = fs::remove_file(&self.path);
    }
}

/// A store that is being filled.
pub(super) struct SqliteStaging {
    // Closed before its file is removed: fields are dropped in this order.
    connection: Connection,
    file: StagedFile,
    store: PathBuf,
    reserve: u64,
    unchecked: u64,
    /// The highest version of a row.
    newest: u64,
}

impl SqliteStaging {
    pub(super) fn begin(store: &Path, options: &SqliteOptions, only_one: OwnedSemaphorePermit) -> Result<Self, CommitError> {
        let path = beside(store, STAGED);
        let made = remove(&path).and_then(|()| create(&path)).and_then(|_file| give_to_owner_of(store, &path));
        made.map_err(|error| file_error(&error, store))?;
        let file = StagedFile { path, _only_one: only_one };
        let connection = schema::open_staging(&file.path, options).map_err(|error| sql_error(&error, store))?;
        Ok(Self { connection, file, store: store.to_owned(), reserve: options.reserve_bytes, unchecked: 0, newest: 0 })
    }

    fn insert(&self, record: &Record) -> rusqlite::Result<usize> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        match record {
            Record::Row(key, row) => {
                self.connection.prepare_cached(SpaceSql::of(key.space).add)?.execute(params![&*key.bytes, number(row.version), &*row.value])
            }
            Record::Due(due) => self.connection.prepare_cached(DUE_ADD)?.execute(params![due.shard, due.at.nanos(), &*due.id]),
            Record::Claim { shard, until, epoch, owner } => {
                self.connection.prepare_cached(CLAIM_WRITE)?.execute(params![shard, owner, number(*epoch), until.nanos()])
            }
        }
    }

    fn keep_room(&mut self, bytes: usize) -> Result<(), CommitError> {
        self.unchecked += bytes as u64;
        if self.unchecked <= CHECK_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        Room { path: &self.store, reserve: self.reserve }.check()
    }
}

impl Staging for SqliteStaging {
    fn add(&mut self, record: &Record) -> Result<(), CommitError> {
        self.insert(record).map_err(|error| sql_error(&error, &self.store))?;
        let mut bytes = 0;
        if let Record::Row(key, row) = record {
            bytes = key.bytes.len() + row.value.len();
            self.newest = self.newest.max(row.version);
        }
        self.keep_room(bytes + ROW_OVERHEAD)
    }

    fn put(&mut self, key: &Key, value: &[u8]) -> Result<(), CommitError> {
        self.newest = self.newest.saturating_add(1);
        let version = i64::try_from(self.newest).unwrap_or(i64::MAX);
        let put =
            |connection: &Connection| connection.prepare_cached(SpaceSql::of(key.space).put)?.execute(params![&*key.bytes, version, value]);
        put(&self.connection).map(|_rows| ()).map_err(|error| sql_error(&error, &self.store))
    }

    fn finish(self: Box<Self>, config_version: u64) -> Result<Staged, CommitError> {
        let Self { connection, file, store, newest, .. } = *self;
        let sql = |error: rusqlite::Error| sql_error(&error, &store);
        let version = i64::try_from(config_version).unwrap_or(i64::MAX);
        connection.execute(CONFIG_VERSION_WRITE, [version]).map_err(sql)?;
        write_next(&connection, newest.saturating_add(1)).map_err(sql)?;
        connection.execute_batch("COMMIT").map_err(sql)?;
        connection.close().map_err(|(_connection, error)| sql(error))?;
        File::open(&file.path).and_then(|file| file.sync_all()).map_err(|error| file_error(&error, &store))?;
        Ok(Staged(Content::File(file)))
    }
}

/// Renames a staged file over the store, for good: in the directory too.
pub(super) fn rename(staged: &Path, store: &Path) -> io::Result<()> {
    fs::rename(staged, store)?;
    sync_name(store)
}

/// Whether a store that was closed has a WAL, or an index of one, empty or not: its last connection removes both, so somebody else has it open. Both would be taken for those of
/// whatever file bears the name, the index with the number of pages that the old one had.
pub(super) fn is_held(store: &Path) -> bool {
    ["-wal", "-shm"].into_iter().any(|suffix| !matches!(beside(store, suffix).try_exists(), Ok(false)))
}

/// Removes what a process that was killed has left. The caller has the store's lock.
pub(super) fn remove_leftovers(store: &Path) -> io::Result<()> {
    [EXPORT, STAGED].into_iter().try_for_each(|suffix| remove(&beside(store, suffix)))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A file beside the store's.
pub(super) fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn file_error(error: &io::Error, store: &Path) -> CommitError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => CommitError::Full(format!(
            "a copy of the store does not fit beside {}: make room for as much as the store takes",
            store.display()
        )),
        _ => CommitError::Failed(format!("a copy of the store beside {}: {error}", store.display())),
    }
}

fn sql_error(error: &rusqlite::Error, store: &Path) -> CommitError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => file_error(&io::ErrorKind::StorageFull.into(), store),
        _ => CommitError::Failed(format!("a copy of the store beside {}: {error}", store.display())),
    }
}

/// In the file for a moment only.
const EXPORT: &str = ".export";
pub(super) const STAGED: &str = ".restore";
const BUFFER_BYTES: usize = 64 * 1024;
/// How much is written between two looks at the disk.
const CHECK_BYTES: u64 = 4 * 1024 * 1024;
/// What a row takes beside its key and value, about.
const ROW_OVERHEAD: usize = 16;
