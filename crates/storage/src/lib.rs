//! Bytes at keys: the [`Backend`] trait and its implementations.
//!
//! Sees only ciphertext (and the sealed keyring); knows no token, no lease and no policy. Every backend passes the same
//! suite, [`contract`]. `Backend` is the whole surface: small, so that fakes are cheap.
//!
//! [`snapshot`] is the whole store of one moment, in a file.
//! [`sqlite`] is what a server runs on, [`memory`] is for `-dev` and tests, [`evil`] wraps either and fails on purpose.

pub mod contract;
pub mod evil;
pub mod memory;
mod rules;
pub mod snapshot;
pub mod sqlite;

pub use evil::EvilBackend;
pub use memory::MemoryBackend;
pub use sqlite::SqliteBackend;

use bytes::Bytes;
use daypass_base::{BoxFuture, Timestamp};

/// The kinds of rows. Each is a table of its own, so that rows of one kind lie together in time order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Configuration and secrets, by path.
    Config,
    /// Tokens, by internal id.
    Token,
    /// Leases, by internal id.
    Lease,
    /// Edges and indexes: children by parent token, leases by path.
    Index,
}

/// Where a value lies. Order is by space, then by bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The kind of row.
    pub space: Space,
    /// At most [`KEY_BYTES_MAX`] bytes.
    pub bytes: Bytes,
}

impl Key {
    /// A key of `space`.
    pub fn new(space: Space, bytes: impl Into<Bytes>) -> Self {
        Self { space, bytes: bytes.into() }
    }
}

/// A stored value with its version, which each change of it raises by one. No other value of the key ever has the same, nor one that is put after the key
/// was deleted: a new row begins above all versions that any row had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The sealed value.
    pub value: Bytes,
    /// At least 1.
    pub version: u64,
}

/// What a read saw, and how new the configuration was at that same moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// What was asked for.
    pub found: T,
    /// The configuration version in force when it was read; see [`Batch::config_changed`].
    pub config_version: u64,
}

/// Rows below a prefix, by their full keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// In the order of their keys. Never empty while there are some and one was asked for.
    pub rows: Vec<(Bytes, Row)>,
    /// Whether there may be more behind the last of them. How many there are does not tell: large rows end a page early.
    pub more: bool,
}

/// What must hold for a batch to be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The key has no value.
    Absent,
    /// The key has a value.
    Exists,
    /// The key has a value with this version.
    Version(u64),
    /// No key begins with this one, itself included.
    NothingBelow,
}

/// Something that comes due: the expiry index is ordered by shard, then time, then id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// The expiry shard that owns it.
    pub shard: u8,
    /// When.
    pub at: Timestamp,
    /// What: opaque to the store, at most [`KEY_BYTES_MAX`] bytes.
    pub id: Bytes,
}

/// Who works on an expiry shard, proven by an epoch that each new claim raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The shard.
    pub shard: u8,
    /// The number of the claim; an older one is fenced off.
    pub epoch: u64,
}

/// Changes that are applied together or not at all.
///
/// Removals are applied first, additions after them: a batch that removes and adds the same key or expiry entry leaves it there
/// (the key as a new row, see [`Row`]). So a renewal to the very moment that it had cannot lose its expiry.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// All must hold; they are checked against the state before the batch.
    pub conditions: Vec<(Key, Condition)>,
    /// If set, this claim must still be the newest of its shard.
    pub claim: Option<Claim>,
    /// New values. A key that is put twice keeps the last value, and its version rises twice.
    pub puts: Vec<(Key, Bytes)>,
    /// Keys to remove; removing what is absent is no error.
    pub deletes: Vec<Key>,
    /// Entries added to the expiry index; adding one twice is no error.
    pub due_add: Vec<Due>,
    /// Entries removed from it; removing what is absent is no error.
    pub due_remove: Vec<Due>,
    /// Whether this changes configuration that nodes cache (mounts, policies, roles): raises the configuration version.
    pub config_changed: bool,
    /// Whether this takes something back: a revocation, its mark, or what it leaves to be done. It may use the room that a nearly full store keeps for
    /// that, see [`sqlite::SqliteOptions::reserve_bytes`].
    pub takes_back: bool,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn require(mut self, key: Key, condition: Condition) -> Self {
        self.conditions.push((key, condition));
        self
    }

    /// Adds a put.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.puts.push((key, value.into()));
        self
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.deletes.push(key);
        self
    }

    /// Adds an expiry entry.
    #[must_use]
    pub fn due(mut self, due: Due) -> Self {
        self.due_add.push(due);
        self
    }

    /// Removes an expiry entry.
    #[must_use]
    pub fn not_due(mut self, due: Due) -> Self {
        self.due_remove.push(due);
        self
    }

    /// Marks the batch as a change of cached configuration.
    #[must_use]
    pub fn config_change(mut self) -> Self {
        self.config_changed = true;
        self
    }

    /// Marks the batch as one that takes something back.
    #[must_use]
    pub fn taking_back(mut self) -> Self {
        self.takes_back = true;
        self
    }
}

/// Why a batch was not applied, or why nobody can say.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The condition with this index does not hold; nothing was changed.
    #[error("condition {0} of the batch does not hold")]
    Conflict(usize),
    /// The claim is no longer the newest; nothing was changed.
    #[error("the claim on shard {} was lost", .0.shard)]
    Fenced(Claim),
    /// The medium is full; nothing was changed. Reads go on.
    #[error("the store is full: {0}")]
    Full(String),
    /// A key, value or batch is over a limit; nothing was changed.
    #[error("{0}")]
    TooLarge(String),
    /// The store is closed or the medium failed; nothing was changed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store cannot be replaced while another program has it open, for the operator to read; nothing was changed. Commits never answer this.
    #[error("{0}")]
    Held(String),
    /// The medium failed earlier in a way after which nobody can say what is on it: nothing is written until it is opened again, and nothing was changed.
    #[error("the store takes no writes: {0}")]
    Stopped(String),
    /// The answer was lost: the batch may or may not have been applied. Read back before trying again; where it does not show, it may still be found when
    /// the store is opened the next time, unless a later commit succeeded.
    #[error("the store's answer was lost: {0}")]
    Unknown(String),
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store is closed or the medium failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// A store. Everything that was committed survives a kill and a power cut from the moment `commit` returns.
pub trait Backend: Send + Sync + 'static {
    /// Applies a batch, atomically and durably. Returns the configuration version after it.
    ///
    /// Dropping the future does not take the batch back: it may have been handed over already. Batches that wait at the same time
    /// are applied in any order, but when one is answered, what was handed over before it has been applied, too, or never will be.
    fn commit(&self, batch: Batch) -> BoxFuture<'_, Result<u64, CommitError>>;

    /// Reads one key.
    fn get<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Read<Option<Row>>, ReadError>>;

    /// Reads several keys from one state of the store, in the order asked. All of them, whatever they come to: who does not know that their rows are
    /// small asks for few at a time.
    fn get_many<'a>(&'a self, keys: &'a [Key]) -> BoxFuture<'a, Result<Read<Vec<Option<Row>>>, ReadError>>;

    /// Names below `prefix`, each once: up to the next `/` (kept) or to the end, as bytes after the prefix, in byte order,
    /// beginning after `after`, at most `limit`. Cost follows what is returned, not what lies beneath. A key that equals the prefix
    /// has no name below it and is left out. A long list is read in pieces, so it need not be one state of the store.
    fn list<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>>;

    /// Full keys (as bytes) that start with `prefix`, in byte order, beginning after the full key `after`, at most `limit`. No value is read:
    /// this is for whoever deletes, counts or follows an index, since a value may have [`VALUE_BYTES_MAX`] bytes.
    /// Unlike [`Backend::list`] it does not fold at `/`, and a key that equals the prefix is part of it. A long answer is read in pieces, so
    /// it need not be one state of the store.
    fn keys<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Vec<Bytes>, ReadError>>;

    /// The same keys with their rows, at most `limit`, and no more of them once they come to [`SCAN_BYTES_MAX`] bytes.
    fn scan<'a>(&'a self, prefix: &'a Key, after: Option<&'a [u8]>, limit: usize) -> BoxFuture<'a, Result<Page, ReadError>>;

    /// Entries of the expiry index of `shard` that are due at `until` or before, earliest first, at most `limit`.
    fn due(&self, shard: u8, until: Timestamp, limit: usize) -> BoxFuture<'_, Result<Vec<Due>, ReadError>>;

    /// The same of entries behind this one, in its shard. It need not be there.
    fn due_behind<'a>(&'a self, after: &'a Due, until: Timestamp, limit: usize) -> BoxFuture<'a, Result<Vec<Due>, ReadError>>;

    /// Takes or keeps the work of `shard` for `owner` until `until`. `None` when another owner's claim has not ended at `now`.
    ///
    /// An owner whose claim has not ended keeps its epoch; any other success raises it, also for an owner that comes back late,
    /// since what it began before is to be fenced. Claiming until `now` gives the work up.
    fn claim<'a>(
        &'a self,
        shard: u8,
        owner: &'a str,
        now: Timestamp,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Option<Claim>, CommitError>>;

    /// Gives all rows of one state. Writers are not held up meanwhile. Errors: `Full` when there is no room for them on the way, `Failed`.
    fn export(&self) -> BoxFuture<'_, Result<snapshot::Export, CommitError>>;

    /// Begins an empty store beside this one; there is one at a time. Errors: `Failed`, also when another one has been begun; `Full`.
    fn stage(&self) -> BoxFuture<'_, Result<Box<dyn snapshot::Staging>, CommitError>>;

    /// Puts a staged store in the place of all that is stored. What was handed over before is done first, and lost with the rest. At any moment
    /// of this, a kill leaves the old rows or the new ones, never a mix. The configuration version is above both afterwards.
    /// Errors: `Failed`, `Full`, `Held` and `Stopped` when nothing was changed; `Unknown` when it was, and the store cannot go on.
    fn replace(&self, staged: snapshot::Staged) -> BoxFuture<'_, Result<(), CommitError>>;

    /// What `seal-status` and `vault status` call it: `inmem`, `sqlite`.
    fn kind(&self) -> &'static str;

    /// Why no write will be taken until the store is opened again ([`CommitError::Stopped`]); `None` while there is hope.
    fn stopped(&self) -> Option<String>;

    /// Stops taking batches, finishes those taken, and closes the medium.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// The longest key, in bytes: paths end at 1 KiB long before that.
pub const KEY_BYTES_MAX: usize = 4096;
/// The largest value, in bytes: Vault's largest request, sealed, with room to spare.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A scan ends with the row that brings its keys and values to so many bytes; the last one may be as large as a value may be.
pub const SCAN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most changes in one batch: puts, deletes and expiry entries together. Conditions are counted apart, with the same limit.
pub const BATCH_CHANGES_MAX: usize = 10_000;
/// The most bytes in one batch: all keys, values and ids.
pub const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;
/// The longest name of an owner of a claim, in bytes.
pub const OWNER_BYTES_MAX: usize = 256;
