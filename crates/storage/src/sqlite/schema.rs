//! Tables, pragmas and statements of the embedded store, and opening a connection to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::wal::{self, NotLasting};
use super::{OpenError, SqliteOptions};
use crate::Space;

/// A store's file that is open for writing.
pub(super) struct Opened {
    pub(super) connection: Connection,
    /// The configuration version in the file.
    pub(super) config_version: u64,
    /// Whether the WAL lasts, with what an earlier process has left in it: until then nothing may be committed or written back.
    pub(super) left: Result<(), NotLasting>,
}

/// Opens the writing connection, and makes the tables if the file is new. Nothing is committed before what is in the WAL lasts, and its name.
pub(super) fn open_writer(path: &Path, options: &SqliteOptions) -> Result<Opened, OpenError> {
    let sqlite = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(code @ ErrorCode::NotADatabase) => OpenError::NotDaypass { path: path.to_owned(), reason: format!("{code:?}") },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged { path: path.to_owned(), source },
        _ => OpenError::Sqlite { path: path.to_owned(), source },
    };
    let io = |action| move |source| OpenError::Io { action, path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(sqlite)?;
    keep_wal(&connection).map_err(sqlite)?;
    connection.busy_timeout(BUSY_WAIT).map_err(sqlite)?;
    let format = match state_of(&connection).map_err(sqlite)? {
        FileState::New => {
            shape(&connection).map_err(sqlite)?;
            None
        }
        FileState::Foreign(reason) => return Err(OpenError::NotDaypass { path: path.to_owned(), reason }),
        FileState::Ours(found) if found > FORMAT => return Err(OpenError::Newer { path: path.to_owned(), found, supported: FORMAT }),
        FileState::Ours(found) => Some(found),
    };
    set_up_writer(&connection, options).map_err(sqlite)?;
    let mut left = wal::make_last(&connection, path);
    if format != Some(FORMAT) {
        left = Ok(left.map_err(|error| match error {
            NotLasting::Sqlite(source) => sqlite(source),
            NotLasting::Unnamed(source) => io("record the WAL of")(source),
            NotLasting::Unwritten(source) => io("write once more what an earlier process has left in the WAL of")(source),
            NotLasting::BegunAnew => io("take over the WAL of")(std::io::Error::new(std::io::ErrorKind::ResourceBusy, error)),
        })?);
        format.map_or_else(|| make(&connection), |from| migrate(&connection, from)).map_err(sqlite)?;
    }
    let config_version = u64::try_from(meta(&connection, "config_version").map_err(sqlite)?).unwrap_or(0);
    Ok(Opened { connection, config_version, left })
}

/// Opens a connection that cannot write.
pub(super) fn open_reader(path: &Path, cache_kib: u32) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    keep_wal(&connection)?;
    connection.busy_timeout(BUSY_WAIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection
        .execute_batch(&format!("PRAGMA cache_size=-{cache_kib}; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA query_only=1;"))?;
    Ok(connection)
}

/// How far a checkpoint came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrittenBack {
    /// Somebody who reads, such as a snapshot, still needs what is in the WAL.
    InPart,
    /// The WAL is empty.
    Whole,
}

/// Writes the WAL back and cuts it off, as far as that goes at once: nobody who reads is waited for, since batches would wait as well.
pub(super) fn write_back(connection: &Connection) -> rusqlite::Result<WrittenBack> {
    connection.busy_timeout(Duration::ZERO)?;
    let written = write_back_whole(connection);
    connection.busy_timeout(BUSY_WAIT)?;
    written
}

/// Writes the WAL back and cuts it off, and waits a while for those who read.
pub(super) fn write_back_whole(connection: &Connection) -> rusqlite::Result<WrittenBack> {
    let held = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0))?;
    Ok(if held { WrittenBack::InPart } else { WrittenBack::Whole })
}

/// Writes back what nobody needs to read in the WAL. Where that was all of it, the next commit begins the WAL anew.
pub(super) fn write_back_some(connection: &Connection) -> rusqlite::Result<()> {
    run_through(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

/// Pages in the WAL. Reads a number in memory, and neither locks nor writes.
pub(super) fn wal_pages(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], |row| row.get(1))
}

/// A connection that is closed leaves the WAL as it is. SQLite's own checkpoint there tells nobody of a sync that failed.
fn keep_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map(|_set| ())
}

/// The connection is closed next. An empty WAL goes with it, any other stays.
pub(super) fn end_with(connection: &Connection, written: WrittenBack) -> rusqlite::Result<()> {
    match written {
        WrittenBack::InPart => Ok(()),
        WrittenBack::Whole => connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map(|_set| ()),
    }
}

/// Pages of the file.
pub(super) struct Pages {
    pub(super) all: i64,
    /// Those that hold nothing.
    pub(super) free: i64,
}

pub(super) fn pages(connection: &Connection) -> rusqlite::Result<Pages> {
    let number = |sql| connection.prepare_cached(sql)?.query_row([], |row| row.get(0));
    Ok(Pages { all: number("PRAGMA page_count")?, free: number("PRAGMA freelist_count")? })
}

/// Takes so many free pages out of the file, in a transaction. It becomes shorter once the WAL is written back.
pub(super) fn give_back(connection: &Connection, pages: i64) -> rusqlite::Result<()> {
    run_through(connection, &format!("PRAGMA incremental_vacuum({pages})"))
}

/// Runs a statement to its end, whatever rows it gives.
pub(super) fn run_through(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

enum FileState {
    New,
    Ours(i64),
    Foreign(String),
}

fn state_of(connection: &Connection) -> rusqlite::Result<FileState> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let id: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    Ok(match (tables, id) {
        (0, 0) => FileState::New,
        (_, APPLICATION_ID) => FileState::Ours(meta(connection, "format")?),
        _ => FileState::Foreign(format!("application id {id:#x} instead of {APPLICATION_ID:#x}")),
    })
}

/// What cannot be changed later in a new file.
fn shape(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL;")?;
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    tracing::debug!(mode, "new store");
    Ok(())
}

/// One transaction makes it all, so that a kill leaves an empty file or a whole one.
fn make(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {}; COMMIT;", tables()))
}

/// Opens a new file that is filled in one transaction, by nobody but this connection, and synced as a whole before it counts: no journal.
/// The caller commits.
pub(super) fn open_staging(path: &Path, options: &SqliteOptions) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch("PRAGMA page_size=4096; PRAGMA auto_vacuum=INCREMENTAL;")?;
    for pragma in ["journal_mode=OFF", "locking_mode=EXCLUSIVE"] {
        run_through(&connection, &format!("PRAGMA {pragma}"))?;
    }
    connection.execute_batch(&format!(
        "PRAGMA synchronous=OFF; PRAGMA cache_size=-{}; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; BEGIN IMMEDIATE; {}",
        options.writer_cache_kib,
        tables()
    ))?;
    Ok(connection)
}

fn tables() -> String {
    format!(
        "{KV};
         CREATE TABLE tok(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE lease(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE idx(k BLOB PRIMARY KEY, ver INTEGER NOT NULL, v BLOB NOT NULL) WITHOUT ROWID;
         CREATE TABLE exp(shard INTEGER NOT NULL, at INTEGER NOT NULL, id BLOB NOT NULL, PRIMARY KEY(shard, at, id)) WITHOUT ROWID;
         CREATE TABLE claim(shard INTEGER PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, until INTEGER NOT NULL);
         CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
         INSERT INTO meta VALUES('format', {FORMAT}), ('config_version', 0), ('next_version', 1);
         PRAGMA application_id={APPLICATION_ID};"
    )
}

/// Brings a file of an earlier format to this one: one transaction, so that a kill leaves one format or the other.
fn migrate(connection: &Connection, from: i64) -> rusqlite::Result<()> {
    let rebuilt = if from == 1 {
        tracing::warn!(
            from,
            to = FORMAT,
            "the store is brought to a newer format, which older versions of daypass refuse; this happens once and takes a few seconds per gigabyte"
        );
        format!("ALTER TABLE kv RENAME TO kv_1; {KV}; INSERT INTO kv(k, ver, v) SELECT k, ver, v FROM kv_1 ORDER BY k; DROP TABLE kv_1;")
    } else {
        tracing::warn!(from, to = FORMAT, "the store is brought to a newer format: older versions of daypass refuse it from now on");
        String::new()
    };
    connection.execute_batch(&format!("BEGIN IMMEDIATE; {rebuilt} UPDATE meta SET value = {FORMAT} WHERE name = 'format'; COMMIT;"))
}

fn set_up_writer(connection: &Connection, options: &SqliteOptions) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // A file system without shared memory would answer `delete` here; the readers could then block the writer.
    let mode: String = connection.query_row("PRAGMA journal_mode=WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!("journal mode {mode} instead of wal")));
    }
    // The WAL is made when the file is first read in this mode.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_row| Ok(()))?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous=FULL; PRAGMA cache_size=-{}; PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=0;",
        options.writer_cache_kib
    ))?;
    // The committer writes back, and hears of what fails there.
    run_through(connection, "PRAGMA wal_autocheckpoint=0")?;
    run_through(connection, "PRAGMA journal_size_limit=67108864")?;
    if let Some(bytes) = options.file_bytes_max {
        run_through(connection, &format!("PRAGMA max_page_count={}", (bytes / PAGE_BYTES).clamp(1, PAGES_MAX)))?;
    }
    Ok(())
}

pub(super) fn meta(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| row.get(0))
}

/// The statements on one space's table. `ver` comes before `v`: reading it then never walks the pages of a long value.
pub(super) struct SpaceSql {
    pub(super) get: &'static str,
    pub(super) version: &'static str,
    /// Bytes of the value. Like the version, it does not walk the value's pages.
    pub(super) length: &'static str,
    /// Key, version of a new row, value. Where the key has a row its version is raised by one.
    pub(super) put: &'static str,
    /// A row with its version, where none is.
    pub(super) add: &'static str,
    pub(super) delete: &'static str,
    pub(super) keys_from: &'static str,
    pub(super) rows_from: &'static str,
    pub(super) rows: &'static str,
}

impl SpaceSql {
    pub(super) fn of(space: Space) -> &'static Self {
        match space {
            Space::Config => &CONFIG,
            Space::Token => &TOKEN,
            Space::Lease => &LEASE,
            Space::Index => &INDEX,
        }
    }
}

macro_rules! space_sql {
    ($table:literal) => {
        SpaceSql {
            get: concat!("SELECT ver, v FROM ", $table, " WHERE k = ?1"),
            version: concat!("SELECT ver FROM ", $table, " WHERE k = ?1"),
            length: concat!("SELECT length(v) FROM ", $table, " WHERE k = ?1"),
            put: concat!(
                "INSERT INTO ",
                $table,
                "(k, ver, v) VALUES(?1, ?2, ?3) ON CONFLICT(k) DO UPDATE SET ver = ver + 1, v = excluded.v"
            ),
            add: concat!("INSERT INTO ", $table, "(k, ver, v) VALUES(?1, ?2, ?3)"),
            delete: concat!("DELETE FROM ", $table, " WHERE k = ?1"),
            keys_from: concat!("SELECT k FROM ", $table, " WHERE k >= ?1 ORDER BY k"),
            rows: concat!("SELECT k, ver, v FROM ", $table, " ORDER BY k"),
            rows_from: concat!("SELECT k, ver, v FROM ", $table, " WHERE k >= ?1 ORDER BY k"),
        }
    };
}

const CONFIG: SpaceSql = space_sql!("kv");
const TOKEN: SpaceSql = space_sql!("tok");
const LEASE: SpaceSql = space_sql!("lease");
const INDEX: SpaceSql = space_sql!("idx");

pub(super) const DUE_ADD: &str = "INSERT OR IGNORE INTO exp(shard, at, id) VALUES(?1, ?2, ?3)";
pub(super) const DUE_REMOVE: &str = "DELETE FROM exp WHERE shard = ?1 AND at = ?2 AND id = ?3";
pub(super) const DUE_FROM: &str = "SELECT at, id FROM exp WHERE shard = ?1 AND (at, id) >= (?2, ?3) AND at <= ?4 ORDER BY at, id LIMIT ?5";
pub(super) const DUE_ALL: &str = "SELECT shard, at, id FROM exp ORDER BY shard, at, id";
pub(super) const CLAIM_ALL: &str = "SELECT shard, owner, epoch, until FROM claim ORDER BY shard";
pub(super) const CLAIM_READ: &str = "SELECT owner, epoch, until FROM claim WHERE shard = ?1";
pub(super) const CLAIM_WRITE: &str = "INSERT OR REPLACE INTO claim(shard, owner, epoch, until) VALUES(?1, ?2, ?3, ?4)";
pub(super) const CONFIG_VERSION_WRITE: &str = "UPDATE meta SET value = ?1 WHERE name = 'config_version'";
pub(super) const NEXT_VERSION_READ: &str = "SELECT value FROM meta WHERE name = 'next_version'";
pub(super) const NEXT_VERSION_WRITE: &str = "INSERT OR REPLACE INTO meta(name, value) VALUES('next_version', ?1)";

/// Configuration and secrets, whose values may be long. With the value in the key's own tree, a value over a quarter of a page lies on a page of its
/// own that every comparison on the way to any row would have to read; so the keys have a tree for themselves.
const KV: &str = "CREATE TABLE kv(k BLOB NOT NULL UNIQUE, ver INTEGER NOT NULL, v BLOB NOT NULL)";

/// The storage format that this program writes. 1 had `kv` without row ids; in 2 every row of KV data held the version that its name says.
pub(super) const FORMAT: i64 = 3;
/// `dayp`: what file(1) and SQLite's tools see in the file's header.
const APPLICATION_ID: i64 = 0x6461_7970;
/// How long to wait for another connection: a backup tool, or recovery after a crash. A daypass connection holds one that long while a snapshot is
/// taken, and then nobody waits: see [`write_back`].
const BUSY_WAIT: Duration = Duration::from_secs(5);
pub(super) const PAGE_BYTES: u64 = 4096;
/// SQLite's own limit.
const PAGES_MAX: u64 = 4_294_967_294;
/// More than there are statements.
const STATEMENTS_MAX: usize = 64;
