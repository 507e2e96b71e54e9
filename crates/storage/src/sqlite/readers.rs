//! Connections that read, each used by one thread at a time. They never wait for the writer: WAL lets them see the last commit.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use daypass_base::Timestamp;
use parking_lot::{Mutex, MutexGuard};
use rusqlite::{Connection, params};

use super::SqliteOptions;
use super::schema::{self, DUE_FROM, SpaceSql};
use crate::rules::{self, Name};
use crate::{Due, Key, Page, ReadError, Row, SCAN_BYTES_MAX};

/// A few connections, opened when all earlier ones are in use: a process with one busy thread pays for one.
pub(super) struct Readers {
    path: PathBuf,
    cache_kib: u32,
    slots: Vec<Mutex<Option<Connection>>>,
    closed: AtomicBool,
}

impl Readers {
    pub(super) fn new(path: PathBuf, options: &SqliteOptions) -> Self {
        let slots = std::iter::repeat_with(Mutex::default).take(options.readers_max.max(1)).collect();
        Self { path, cache_kib: options.reader_cache_kib, slots, closed: AtomicBool::new(false) }
    }

    pub(super) fn get(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        self.with(|connection| read_row(connection, key))
    }

    /// All keys from one state: one read transaction around them.
    pub(super) fn get_many(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, ReadError> {
        match keys {
            [] => Ok(Vec::new()),
            [key] => Ok(vec![self.get(key)?]),
            keys => self.with(|connection| in_one_state(connection, || keys.iter().map(|key| read_row(connection, key)).collect())),
        }
    }

    pub(super) async fn list(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, ReadError> {
        let mut names = Vec::new();
        let mut start = rules::list_start(&prefix.bytes, after);
        loop {
            let want = PIECE_ROWS.min(limit - names.len());
            let piece = self.with(|connection| in_one_state(connection, || read_names(connection, prefix, &mut start, want)))?;
            let ended = piece.len() < want;
            names.extend(piece);
            if ended || names.len() >= limit {
                return Ok(names);
            }
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn keys(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Vec<Bytes>, ReadError> {
        let found = self.walk(SpaceSql::of(prefix.space).keys_from, prefix, after, limit, |key, _| Ok((key, 0))).await?;
        Ok(found.0)
    }

    pub(super) async fn scan(&self, prefix: &Key, after: Option<&[u8]>, limit: usize) -> Result<Page, ReadError> {
        let read: ReadBelow<(Bytes, Row)> = |key, row| {
            let value = row_at(row, 1)?;
            let bytes = key.len() + value.value.len();
            Ok(((key, value), bytes))
        };
        let (rows, more) = self.walk(SpaceSql::of(prefix.space).rows_from, prefix, after, limit, read).await?;
        Ok(Page { rows, more })
    }

    /// What lies below a prefix, in pieces, until it is so many or they come to [`SCAN_BYTES_MAX`]; and whether there may be more.
    async fn walk<T>(
        &self,
        sql: &str,
        prefix: &Key,
        after: Option<&[u8]>,
        limit: usize,
        read: ReadBelow<T>,
    ) -> Result<(Vec<T>, bool), ReadError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let mut start = rules::scan_start(&prefix.bytes, after);
        loop {
            let (want, room) = (PIECE_ROWS.min(limit - found.len()), PIECE_BYTES.min(SCAN_BYTES_MAX - bytes));
            let piece = self.with(|connection| read_piece(connection, sql, prefix, &mut start, (want, room), read))?;
            bytes += piece.bytes;
            found.extend(piece.found);
            if piece.ended || found.len() >= limit || bytes >= SCAN_BYTES_MAX {
                return Ok((found, !piece.ended));
            }
            tokio::task::yield_now().await;
        }
    }

    /// Entries of the expiry index behind `after`, or from the first on.
    pub(super) async fn due(&self, shard: u8, after: Option<&Due>, until: Timestamp, limit: usize) -> Result<Vec<Due>, ReadError> {
        let mut found: Vec<Due> = Vec::new();
        let mut from = after.map_or((i64::MIN, Vec::new()), behind);
        loop {
            let want = PIECE_ROWS.min(limit - found.len());
            let piece = self.with(|connection| read_due(connection, shard, &from, until, want))?;
            let ended = piece.len() < want;
            found.extend(piece);
            let last = found.last().filter(|_| !ended && found.len() < limit);
            let Some(last) = last else { return Ok(found) };
            from = behind(last);
            tokio::task::yield_now().await;
        }
    }

    /// Waits for reads in progress, closes the connections and refuses further reads.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for slot in &self.slots {
            *slot.lock() = None;
        }
    }

    /// Waits for reads in progress, closes the connections, and holds up further reads until `change` has returned: those see what it left.
    pub(super) fn without<T>(&self, change: impl FnOnce() -> T) -> T {
        let mut slots: Vec<_> = self.slots.iter().map(Mutex::lock).collect();
        for slot in &mut slots {
            **slot = None;
        }
        change()
    }

    /// Refuses once the store is closed.
    pub(super) fn check_open(&self) -> Result<(), ReadError> {
        if self.closed.load(Ordering::Acquire) { Err(ReadError::Failed("it is closed".to_owned())) } else { Ok(()) }
    }

    fn with<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let mut slot = self.slot().ok_or_else(|| ReadError::Failed("it has no connection".to_owned()))?;
        // Looked at under the slot's lock: `close` empties each slot after it has set this.
        self.check_open()?;
        let connection = match &mut *slot {
            Some(connection) => connection,
            empty => empty.insert(schema::open_reader(&self.path, self.cache_kib).map_err(|error| failed(&error))?),
        };
        read(connection).map_err(|error| failed(&error))
    }

    /// The first connection that nobody uses, so that few are ever opened. When all are in use the first is waited for: reads are short.
    fn slot(&self) -> Option<MutexGuard<'_, Option<Connection>>> {
        self.slots.iter().find_map(Mutex::try_lock).or_else(|| self.slots.first().map(Mutex::lock))
    }
}

fn failed(error: &rusqlite::Error) -> ReadError {
    tracing::error!(%error, "the store cannot be read");
    ReadError::Failed(error.to_string())
}

/// Several statements on one state of the store.
fn in_one_state<T>(connection: &Connection, read: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    connection.prepare_cached("BEGIN")?.execute([])?;
    let result = read();
    // Nothing was written, so this only ends the read; it must happen on every way out.
    connection.prepare_cached("COMMIT")?.execute([])?;
    result
}

fn read_row(connection: &Connection, key: &Key) -> rusqlite::Result<Option<Row>> {
    let mut statement = connection.prepare_cached(SpaceSql::of(key.space).get)?;
    let mut rows = statement.query([&*key.bytes])?;
    rows.next()?.map(|row| row_at(row, 0)).transpose()
}

/// A row whose version stands in column `first` and whose value stands in the next.
fn row_at(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Row> {
    let version: i64 = row.get(first)?;
    let value = Bytes::copy_from_slice(row.get_ref(first + 1)?.as_blob()?);
    Ok(Row { value, version: version.unsigned_abs() })
}

/// Reads up to `want` names from `start`, and moves `start` behind them.
fn read_names(connection: &Connection, prefix: &Key, start: &mut Vec<u8>, want: usize) -> rusqlite::Result<Vec<Bytes>> {
    let mut names = Vec::new();
    let mut statement = connection.prepare_cached(SpaceSql::of(prefix.space).keys_from)?;
    'seek: while names.len() < want {
        let mut rows = statement.query([start.as_slice()])?;
        while names.len() < want {
            let Some(row) = rows.next()? else { break 'seek };
            let Some(name) = rules::list_name(&prefix.bytes, row.get_ref(0)?.as_blob()?) else { break 'seek };
            let (Name::Folder(bytes) | Name::Leaf(bytes)) = name;
            *start = rules::list_start(&prefix.bytes, Some(bytes));
            names.push(Bytes::copy_from_slice(bytes));
            if matches!(name, Name::Folder(_)) {
                // A new seek: whatever lies in the folder is not walked through.
                continue 'seek;
            }
        }
    }
    Ok(names)
}

/// What is made of a row below a prefix, whose first column is its key; and how many bytes that counts for.
type ReadBelow<T> = fn(Bytes, &rusqlite::Row<'_>) -> rusqlite::Result<(T, usize)>;

/// What was read without a yield.
struct Piece<T> {
    found: Vec<T>,
    bytes: usize,
    /// Nothing more lies below the prefix.
    ended: bool,
}

/// Reads so many rows from `start`, fewer when they come to so many bytes, and moves `start` behind them.
fn read_piece<T>(
    connection: &Connection,
    sql: &str,
    prefix: &Key,
    start: &mut Vec<u8>,
    (want, room): (usize, usize),
    read: ReadBelow<T>,
) -> rusqlite::Result<Piece<T>> {
    let mut piece = Piece { found: Vec::new(), bytes: 0, ended: false };
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([start.as_slice()])?;
    while piece.found.len() < want && piece.bytes < room {
        let row = rows.next()?;
        let key = row.map(|row| row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)).transpose()?;
        let (Some(row), Some(key)) = (row, key.filter(|key| key.starts_with(&prefix.bytes))) else {
            return Ok(Piece { ended: true, ..piece });
        };
        *start = rules::scan_start(&prefix.bytes, Some(key));
        let (what, bytes) = read(Bytes::copy_from_slice(key), row)?;
        piece.bytes += bytes;
        piece.found.push(what);
    }
    Ok(piece)
}

/// Where what follows an entry of the expiry index begins.
fn behind(entry: &Due) -> (i64, Vec<u8>) {
    (entry.at.nanos(), [&entry.id, [0].as_slice()].concat())
}

fn read_due(connection: &Connection, shard: u8, from: &(i64, Vec<u8>), until: Timestamp, want: usize) -> rusqlite::Result<Vec<Due>> {
    let mut statement = connection.prepare_cached(DUE_FROM)?;
    let want = i64::try_from(want).unwrap_or(i64::MAX);
    let entries = statement.query_map(params![shard, from.0, from.1, until.nanos(), want], |row| {
        let id = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
        Ok(Due { shard, at: Timestamp::from_nanos(row.get(0)?), id })
    })?;
    entries.collect()
}

/// Rows that are read without a yield: about a millisecond.
const PIECE_ROWS: usize = 512;
/// Bytes after which a piece ends.
const PIECE_BYTES: usize = 1024 * 1024;
