//! The embedded store: one SQLite file in WAL mode, written by one thread, read by a few connections.
//!
//! - [`place`] finds out whether the file may be used at all: directory, permissions, file system, names, lock.
//! - [`schema`] has the tables, the pragmas and every statement.
//! - [`committer`] is the only writer: it takes all batches that wait, applies them in one transaction with one sync, and answers.
//! - [`readers`] never wait for the writer.
//! - [`snapshot`] exports all rows, and fills the file that takes this one's place.
//! - [`wal`] makes what an earlier process has left last, before anything is built on it.
//! - [`versions`] numbers the values of rows, each number once.
//! - [`cache`] keeps rows that were read lately, sealed as they are, and never one that is older than an answered commit.
//!
//! **Reads run on the caller's thread.** A row whose page is cached takes about 10 µs, a hop to another thread and back takes more than
//! that and wakes a core. A page that is not cached costs a disk read, some 100 µs, for which a runtime thread stands still; leases
//! are read in the order in which they were written, so such reads come seldom and lie together. Long lists are read in pieces,
//! with a yield between them.
//!
//! Nothing but the committer may write or checkpoint: two connections doing so at once is how SQLite's WAL-reset bug (fixed in
//! 3.51.3) was reached. SQLite does not checkpoint by itself either, not even when a connection is closed: it would drop the error of a failed sync.

mod cache;
mod committer;
mod place;
mod readers;
mod schema;
mod snapshot;
#[cfg(test)]
mod tests;
mod versions;
mod wal;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use daypass_base::{BoxFuture, SystemClock, Timestamp};
use parking_lot::{Mutex, RwLock};
use rusqlite::ErrorCode;
use tokio::sync::{Semaphore, oneshot};

use self::cache::RowCache;
use self::committer::{Committer, Job, Work};
pub use self::place::{give_to_owner_of, sync_name};
use self::readers::Readers;
pub(crate) use self::snapshot::StagedFile;
use self::snapshot::{GivenUp, SqliteStaging};
use self::versions::Versions;
use crate::snapshot::{Content, Export, Staged, Staging};
use crate::{Backend, Batch, Claim, CommitError, Due, Key, Page, Read, ReadError, Row, rules};

/// The files that a store at this path lives on: its own, SQLite's beside it, the lock, and the state that a restore puts in its place.
pub fn files_of(store: &Path) -> impl Iterator<Item = PathBuf> {
    ["", "-journal", "-shm", "-wal", LOCK, snapshot::STAGED].into_iter().map(|suffix| snapshot::beside(store, suffix))
}

/// What the name of the side file that is locked ends in.
const LOCK: &str = ".lock";

/// The embedded store. Dropping it finishes what was handed over, as [`Backend::close`] does, but blocks while it does so.
pub struct SqliteBackend {
    readers: Arc<Readers>,
    path: PathBuf,
    options: SqliteOptions,
    /// The right to fill another store beside this one.
    staging: Arc<Semaphore>,
    jobs: mpsc::Sender<Job>,
    /// Bounds what waits for the committer, in units of [`PERMIT_BYTES`].
    room: Arc<Semaphore>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How the store uses memory and disk. The defaults are what a server should run with.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Connections for reading, opened when first needed; at least one per runtime thread is best.
    pub readers_max: usize,
    /// Page cache of the writing connection, in KiB.
    pub writer_cache_kib: u32,
    /// Page cache of each reading connection, in KiB.
    pub reader_cache_kib: u32,
    /// Rows that were read lately, kept in memory as they are stored (sealed), in KiB.
    pub row_cache_kib: u32,
    /// The most bytes that the file may take; from there on commits answer [`CommitError::Full`]. `None`: as much as the disk has.
    pub file_bytes_max: Option<u64>,
    /// Bytes of the file system that are kept for revocations. A batch that would leave fewer is answered [`CommitError::Full`] if it adds a row, makes
    /// the expiry index longer or values by more than 4 KiB, or if such smaller steps have taken a sixteenth of the reserve already. What removes rows
    /// or changes them in their place goes on, and so does what [takes something back](Batch::takes_back), rows or not: leases can be revoked on a
    /// full disk. SQLite itself needs room to delete.
    pub reserve_bytes: u64,
    /// How long nothing must have been written before free pages are given back to the file system. Where much of the file is free that goes on
    /// between writes as well, more slowly.
    pub idle_before_reclaim: Duration,
    /// Free pages (4 KiB each) that are kept for new rows and never given back.
    pub spare_pages: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            readers_max: std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16),
            writer_cache_kib: 4 * 1024,
            reader_cache_kib: 1024,
            row_cache_kib: 16 * 1024,
            file_bytes_max: None,
            reserve_bytes: 16 * 1024 * 1024,
            idle_before_reclaim: Duration::from_secs(2),
            spare_pages: 256,
        }
    }
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{path} is in use by another process{holder}: stop that one first, or give this one another path")]
    InUse {
        /// The store's file.
        path: PathBuf,
        /// ` (process 123)`, or what else is known.
        holder: String,
    },
    /// The file has a second name, under which its newest commits would not be found.
    #[error(
        "{path} has {names} names (hard links): the newest commits of a store lie in a file beside it that is named after it, and are lost to whoever opens it by another name; \
         find the names with `find / -samefile {path}`, remove all but the first, and link the store's directory instead"
    )]
    Linked {
        /// The store's file.
        path: PathBuf,
        /// How many names it has.
        names: u64,
    },
    /// The file is a mount of its own, as of `docker -v FILE:FILE`.
    #[error(
        "{path} is mounted by itself: the newest commits of a store lie in files beside it, which would be elsewhere than the store; mount the directory that the file comes from at {directory} instead"
    )]
    MountedAlone {
        /// The store's file.
        path: PathBuf,
        /// Where it lies.
        directory: PathBuf,
    },
    /// There is no room to open it.
    #[error(
        "the file system of {path} is full: {free} bytes are left, and {needed} are enough for a start; make room and start again, and leave all files of the store where they are, {path}-wal too: \
         nothing that was committed is lost ({source})"
    )]
    Full {
        /// The store's file.
        path: PathBuf,
        /// Bytes that are left.
        free: u64,
        /// Bytes that are enough.
        needed: u64,
        /// How it was noticed.
        source: Box<OpenError>,
    },
    /// A file or directory could not be made or opened.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It lies on a file system whose locks and shared memory do not hold between machines.
    #[error(
        "{path} lies on {filesystem}, a network file system, where SQLite can lose data: use a local disk, or storage \"postgresql\" for several nodes"
    )]
    NetworkFilesystem {
        /// The store's file.
        path: PathBuf,
        /// Its name, such as `NFS`.
        filesystem: &'static str,
    },
    /// A newer daypass wrote it.
    #[error("{path} has storage format {found}, this daypass knows up to {supported}: use the daypass that wrote it, or a newer one")]
    Newer {
        /// The store's file.
        path: PathBuf,
        /// The format of the file.
        found: i64,
        /// The newest format that this program knows.
        supported: i64,
    },
    /// What is read does not fit together: as where another program has kept the index of a WAL that was replaced.
    #[error(
        "{path} cannot be read as it is ({source}): another program may have it open (`fuser -v {path}` tells which): stop it and start again, and leave all files of the store where they are; \
         if none has, the file is damaged: restore a snapshot at a new path"
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It is some other program's file, or damaged at its very start.
    #[error("{path} is not a daypass store ({reason}): give a path to a new file")]
    NotDaypass {
        /// The file.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// SQLite refused.
    #[error("cannot open the store {path}: {source}")]
    Sqlite {
        /// The store's file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// What the committer tells the rest.
struct Shared {
    /// Set after a COMMIT has returned and before anyone is told of it.
    config_version: AtomicU64,
    /// Holds nothing of what a COMMIT is changing.
    rows: RowCache,
    batches: AtomicU64,
    transactions: AtomicU64,
    /// Held for reading by each export, for its whole time: it has a connection of its own to the file.
    exports: RwLock<()>,
    /// The store is closed, or about to be.
    closing: AtomicBool,
    /// Why nothing is written any more, once nobody can say what is on the disk.
    stopped: OnceLock<String>,
}

impl Shared {
    fn new(config_version: u64, options: &SqliteOptions) -> Self {
        let rows = RowCache::new(usize::try_from(options.row_cache_kib).unwrap_or_default() * 1024);
        Self {
            config_version: AtomicU64::new(config_version),
            rows,
            batches: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            exports: RwLock::new(()),
            closing: AtomicBool::new(false),
            stopped: OnceLock::new(),
        }
    }
}

/// How well the group commit works, since the store was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Batches and claims that were answered.
    pub batches: u64,
    /// Transactions, each with at most one sync, that this took.
    pub transactions: u64,
}

impl SqliteBackend {
    /// Opens the store at `path`, or makes a new one there: the directory with mode 0700, the file with mode 0600.
    pub fn open(path: &Path, options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        Self::open_at(path, options).map_err(|error| explain(error, path, place::free_bytes(path)))
    }

    fn open_at(path: &Path, options: SqliteOptions) -> Result<Arc<Self>, OpenError> {
        let place = place::take(path)?;
        let io = |source| OpenError::Io { action: "remove what an interrupted restore has left beside", path: place.path.clone(), source };
        snapshot::remove_leftovers(&place.path).map_err(io)?;
        let opened = schema::open_writer(&place.path, &options)?;
        let versions = Versions::of(&opened.connection).map_err(|source| OpenError::Sqlite { path: place.path.clone(), source })?;
        let shared = Arc::new(Shared::new(opened.config_version, &options));
        let readers = Arc::new(Readers::new(place.path.clone(), &options));
        let (jobs, queue) = mpsc::channel();
        let file = place.path.clone();
        // For the pace of its own work alone, which no test of the store's users is to set.
        let clock = Arc::new(SystemClock::new());
        let committer = Committer::new((opened, versions), queue, Arc::clone(&shared), Arc::clone(&readers), options.clone(), clock, place);
        let thread = std::thread::Builder::new()
            .name("store-commit".to_owned())
            .spawn(move || committer.run())
            .map_err(|source| OpenError::Io { action: "start the writing thread of", path: file.clone(), source })?;
        Ok(Arc::new(Self {
            readers,
            path: file,
            options,
            staging: Arc::new(Semaphore::new(1)),
            jobs,
            room: Arc::new(Semaphore::new(ROOM_PERMITS)),
            shared,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// How well the group commit works.
    pub fn counts(&self) -> Counts {
        Counts { batches: self.shared.batches.load(Ordering::Relaxed), transactions: self.shared.transactions.load(Ordering::Relaxed) }
    }

    /// Hands work to the committer, once there is room, and waits for its answer.
    async fn submit<T>(&self, bytes: usize, work: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Work) -> Result<T, CommitError> {
        let weight = u32::try_from(1 + bytes / PERMIT_BYTES).unwrap_or(u32::MAX);
        let closed = || CommitError::Failed("it is closed".to_owned());
        let permit = Arc::clone(&self.room).acquire_many_owned(weight).await.map_err(|_closed| closed())?;
        if self.shared.closing.load(Ordering::Acquire) {
            return Err(closed());
        }
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Work { work: work(answer), bytes, permit }).map_err(|_gone| closed())?;
        answered.await.unwrap_or_else(|_gone| Err(CommitError::Unknown("the writing thread ended without an answer".to_owned())))
    }

    /// Read together with what is found *before* the read begins: the rows are then of this configuration version or a newer one,
    /// never older. The other way round, a node could take an old row for one that was read under the new configuration. This way
    /// a node may, during the commit alone, see a new row and reload one request later; whoever starts after the commit was answered
    /// sees the new version, since it is set before the answer.
    fn config_version(&self) -> u64 {
        self.shared.config_version.load(Ordering::Acquire)
    }
}

impl Backend for SqliteBackend {
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<u64, CommitError>> {
        Box::pin(async move {
            let bytes = rules::check_batch(&batch)?;
            self.submit(bytes, |answer| Work::Commit { batch, answer }).await
        })
    }

    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read<Option<Row>>, ReadError>> {
        Box::pin(async move {
            let config_version = self.config_version();
            Ok(Read { found: self.row(key)?, config_version })
        })
    }

    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Read<Vec<Option<Row>>>, ReadError>> {
        Box::pin(async move {
            let config_version = self.config_version();
            Ok(Read { found: self.rows(keys)?, config_version })
        })
    }

    fn list<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(self.readers.list(prefix, after, limit))
    }

    fn keys<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>> {
        Box::pin(self.readers.keys(prefix, after, limit))
    }

    fn scan<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Page, ReadError>> {
        Box::pin(self.readers.scan(prefix, after, limit))
    }

    fn due(&self, shard: u8, until: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, ReadError>> {
        Box::pin(self.readers.due(shard, None, until, limit))
    }

    fn due_behind<'a>(&'a self, after: &'a Due, until: Timestamp, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, ReadError>> {
        Box::pin(self.readers.due(after.shard, Some(after), until, limit))
    }

    fn claim<'a>(
        &'a self,
        shard: u8,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Claim>, CommitError>> {
        Box::pin(async move {
            rules::check_owner(owner)?;
            let owner = owner.to_owned();
            self.submit(owner.len(), |answer| Work::Claim { shard, owner, now, until, answer }).await
        })
    }

    fn export(&self) -> BoxFuture<'_, Result<Export, CommitError>> {
        Box::pin(async move {
            self.readers.check_open().map_err(|error| CommitError::Failed(error.to_string()))?;
            let (path, options, shared) = (self.path.clone(), self.options.clone(), Arc::clone(&self.shared));
            let until_then = GivenUp::default();
            let given_up = Arc::clone(&until_then.0);
            let exported = tokio::task::spawn_blocking(move || snapshot::export(&path, &options, &shared, &given_up)).await;
            exported.unwrap_or_else(|error| Err(CommitError::Failed(format!("the export ended badly: {error}"))))
        })
    }

    fn stage(&self) -> BoxFuture<'_, Result<Box<dyn Staging>, CommitError>> {
        Box::pin(async move {
            let only_one = Arc::clone(&self.staging).try_acquire_owned();
            let only_one =
                only_one.map_err(|_taken| CommitError::Failed("another store is being put beside this one already".to_owned()))?;
            Ok(Box::new(SqliteStaging::begin(&self.path, &self.options, only_one)?) as Box<dyn Staging>)
        })
    }

    fn replace(&self, staged: Staged) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let Content::File(file) = staged.0 else { return Err(CommitError::Failed("another kind of store was staged".to_owned())) };
            let closed = || CommitError::Failed("it is closed".to_owned());
            if self.shared.closing.load(Ordering::Acquire) {
                return Err(closed());
            }
            let (answer, answered) = oneshot::channel();
            self.jobs.send(Job::Replace { file, answer }).map_err(|_gone| closed())?;
            answered.await.unwrap_or_else(|_gone| Err(CommitError::Unknown("the writing thread ended without an answer".to_owned())))
        })
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn stopped(&self) -> Option<String> {
        if let Some(reason) = self.shared.stopped.get() {
            return Some(reason.clone());
        }
        let ended = !self.shared.closing.load(Ordering::Acquire) && self.thread.lock().as_ref().is_some_and(JoinHandle::is_finished);
        ended.then(|| "the writing thread has ended".to_owned())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closing.store(true, Ordering::Release);
            let (answer, closed) = oneshot::channel();
            // Readers first: the last connection to go takes the WAL with it, and only the writer may write.
            self.readers.close();
            // Both fail only when the committer has ended already, which is what is wanted.
            if self.jobs.send(Job::Close { answer: Some(answer) }).is_ok() {
                let _ended = closed.await;
            }
            self.join();
        })
    }
}

impl SqliteBackend {
    /// A row from memory, or else from the file.
    fn row(&self, key: &Key) -> Result<Option<Row>, ReadError> {
        self.readers.check_open()?;
        let ticket = match self.shared.rows.find(key) {
            Ok(found) => return Ok(found),
            Err(ticket) => ticket,
        };
        let found = self.readers.get(key)?;
        self.shared.rows.keep(ticket, key, found.as_ref());
        Ok(found)
    }

    /// Rows of one state, from memory if all are there.
    fn rows(&self, keys: &[Key]) -> Result<Vec<Option<Row>>, ReadError> {
        self.readers.check_open()?;
        if let Some(rows) = self.shared.rows.find_all(keys) {
            return Ok(rows);
        }
        let tickets = self.shared.rows.tickets(keys);
        let found = self.readers.get_many(keys)?;
        for ((key, ticket), row) in keys.iter().zip(tickets).zip(&found) {
            self.shared.rows.keep(ticket, key, row.as_ref());
        }
        Ok(found)
    }

    fn join(&self) {
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writing thread ended in a panic");
        }
    }
}

impl Drop for SqliteBackend {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.readers.close();
        let _ended = self.jobs.send(Job::Close { answer: None });
        self.join();
    }
}

/// Names a full file system as what kept the store from being opened. SQLite says `disk I/O error` or `unable to open` where it found no room for the
/// files that it needs beside the store.
fn explain(error: OpenError, path: &Path, free: Option<u64>) -> OpenError {
    let full = match &error {
        OpenError::Io { source, .. } => matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded),
        OpenError::Sqlite { source, .. } => match source.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => free.is_some_and(|free| free < OPENING_BYTES),
            _ => false,
        },
        _ => false,
    };
    if full {
        OpenError::Full { path: path.to_owned(), free: free.unwrap_or_default(), needed: OPENING_BYTES, source: Box::new(error) }
    } else {
        error
    }
}

/// What SQLite needs to open a store, and to spare: an index of the WAL (32 KiB) and the first pages of the WAL.
const OPENING_BYTES: u64 = 1024 * 1024;
/// Bytes of waiting batches that one permit stands for.
const PERMIT_BYTES: usize = 4096;
/// What may wait for the committer: 65,536 small batches, or 256 MiB.
const ROOM_PERMITS: usize = 65_536;
