//! Rows that were read lately, as they are stored: sealed. A hit costs no statement, no lock of the file and no system call.
//! That a row of configuration does not exist is kept too: settings that nobody has made are looked for with every request.
//!
//! **As if it were not there.** A commit becomes visible to readers of the file a moment before it is answered. So the rows that a group is
//! about to change leave the cache before its COMMIT and are not let in again until it has returned: whoever reads one of them meanwhile reads the
//! file. A reader that began before that must not bring the old row back either: it takes a [`Ticket`] before it reads, and what it read is
//! kept only if nothing in that shard was about to change since.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use daypass_base::Recent;
use parking_lot::Mutex;

use crate::{Key, Row, Space};

/// A bounded cache of rows, in shards, so that readers seldom wait for each other.
pub(super) struct RowCache {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    /// Counts beginnings and ends of changes.
    changes: AtomicU64,
}

struct Shard {
    /// Counts the beginnings and ends of changes of rows that belong here.
    changes: u64,
    /// Rows that are about to change.
    changing: HashSet<Key>,
    rows: Recent<Key, Option<Row>>,
}

/// What a reader holds between a miss and [`RowCache::keep`].
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    shard: usize,
    changes: u64,
}

impl RowCache {
    /// A cache of about so many bytes in all; zero keeps nothing.
    pub(super) fn new(bytes: usize) -> Self {
        let shard = |_| Mutex::new(Shard { changes: 0, changing: HashSet::new(), rows: Recent::new(bytes / SHARDS) });
        Self { shards: std::array::from_fn(shard), hasher: RandomState::new(), changes: AtomicU64::new(0) }
    }

    /// The row, or that there is none, or else what is needed to keep it once it is read.
    pub(super) fn find(&self, key: &Key) -> Result<Option<Row>, Ticket> {
        let index = self.index(key);
        let Some(shard) = self.shards.get(index) else { return Err(Ticket { shard: index, changes: 0 }) };
        let mut shard = shard.lock();
        shard.rows.get(key).ok_or(Ticket { shard: index, changes: shard.changes })
    }

    /// All rows, if all are here and no change began or ended meanwhile: then they are of one state of the store.
    pub(super) fn find_all(&self, keys: &[Key]) -> Option<Vec<Option<Row>>> {
        let before = self.changes.load(Ordering::SeqCst);
        let rows: Option<Vec<Option<Row>>> = keys.iter().map(|key| self.find(key).ok()).collect();
        rows.filter(|_| self.changes.load(Ordering::SeqCst) == before)
    }

    /// A ticket for a read of several rows at once.
    pub(super) fn tickets(&self, keys: &[Key]) -> Vec<Ticket> {
        let ticket = |key| {
            let index = self.index(key);
            Ticket { shard: index, changes: self.shards.get(index).map_or(0, |shard| shard.lock().changes) }
        };
        keys.iter().map(ticket).collect()
    }

    /// Keeps what was read after `ticket` was taken, unless it may have changed since. Whoever guesses tokens makes no entries.
    pub(super) fn keep(&self, ticket: Ticket, key: &Key, row: Option<&Row>) {
        let bytes = row.map_or(0, |row| row.value.len());
        if bytes > ROW_BYTES_MAX || row.is_none() && key.space != Space::Config {
            return;
        }
        let Some(shard) = self.shards.get(ticket.shard) else { return };
        let mut shard = shard.lock();
        if shard.changes == ticket.changes && !shard.changing.contains(key) {
            // A copy: the key may be a small part of something large.
            let key = Key::new(key.space, Bytes::copy_from_slice(&key.bytes));
            let weight = key.bytes.len() + bytes + OVERHEAD;
            shard.rows.insert(key, row.cloned(), weight);
        }
    }

    /// These rows are about to change.
    pub(super) fn begin_change<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        self.each(keys, |shard, key| {
            shard.rows.remove(key);
            shard.changing.insert(key.clone());
        });
    }

    /// They have changed, or not: what the file says now holds.
    pub(super) fn end_change<'a>(&self, keys: impl Iterator<Item = &'a Key>) {
        self.each(keys, |shard, key| {
            shard.changing.remove(key);
        });
    }

    /// All rows may be others from now on. What readers have read until here is not kept either.
    pub(super) fn forget(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.changes += 1;
            shard.rows.clear();
        }
    }

    fn each<'a>(&self, keys: impl Iterator<Item = &'a Key>, act: impl Fn(&mut Shard, &Key)) {
        // First, so that whoever meets what follows also meets this.
        self.changes.fetch_add(1, Ordering::SeqCst);
        for key in keys {
            let Some(shard) = self.shards.get(self.index(key)) else { continue };
            let mut shard = shard.lock();
            shard.changes += 1;
            act(&mut shard, key);
        }
    }

    fn index(&self, key: &Key) -> usize {
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default()
    }
}

const SHARDS: usize = 16;
/// Rows larger than this are read from the file each time.
const ROW_BYTES_MAX: usize = 16 * 1024;
/// Bytes that an entry takes beside its key and value, about.
const OVERHEAD: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Space::Config, name.to_owned())
    }

    fn row(value: &str, version: u64) -> Row {
        Row { value: value.to_owned().into(), version }
    }

    fn ticket(cache: &RowCache, name: &str) -> Ticket {
        cache.find(&key(name)).expect_err("it is not there")
    }

    #[test]
    fn a_row_that_changes_while_it_is_read_is_not_kept() {
        let cache = RowCache::new(1 << 20);
        let changing = [key("a")];
        let before = ticket(&cache, "a");
        cache.begin_change(changing.iter());
        cache.keep(before, &key("a"), Some(&row("old", 1)));
        let meanwhile = ticket(&cache, "a");
        cache.keep(meanwhile, &key("a"), Some(&row("old or new", 1)));
        assert!(cache.find(&key("a")).is_err());
        cache.end_change(changing.iter());
        cache.keep(meanwhile, &key("a"), Some(&row("old or new", 1)));
        let after = ticket(&cache, "a");
        cache.keep(after, &key("a"), Some(&row("new", 2)));
        assert_eq!(cache.find(&key("a")).ok(), Some(Some(row("new", 2))));
        cache.begin_change(changing.iter());
        assert!(cache.find(&key("a")).is_err());
    }

    #[test]
    fn that_there_is_no_row_is_kept_until_one_is_made() {
        let cache = RowCache::new(1 << 20);
        cache.keep(ticket(&cache, "a"), &key("a"), None);
        assert_eq!(cache.find(&key("a")).ok(), Some(None));
        let made = [key("a")];
        cache.begin_change(made.iter());
        assert!(cache.find(&key("a")).is_err());
        cache.end_change(made.iter());
        assert!(cache.find(&key("a")).is_err());
        let guessed = Key::new(Space::Token, "guessed");
        let before = cache.find(&guessed).expect_err("it is not there");
        cache.keep(before, &guessed, None);
        assert!(cache.find(&guessed).is_err());
    }

    #[test]
    fn it_keeps_to_its_size() {
        let cache = RowCache::new(64 * 1024);
        for number in 0..10_000 {
            let name = format!("k{number}");
            cache.keep(ticket(&cache, &name), &key(&name), Some(&row(&"v".repeat(100), 1)));
        }
        assert!(cache.find(&key("k9999")).is_ok());
        let all: usize = cache.shards.iter().map(|shard| shard.lock().rows.weight()).sum();
        assert!(all <= 64 * 1024, "{all}");
        cache.keep(ticket(&cache, "huge"), &key("huge"), Some(&row(&"v".repeat(20_000), 1)));
        assert!(cache.find(&key("huge")).is_err());
    }

    #[test]
    fn rows_are_given_out_together_only_if_all_are_there() {
        let cache = RowCache::new(1 << 20);
        let keys = [key("a"), key("b")];
        for (key, ticket) in keys.iter().zip(cache.tickets(&keys)) {
            cache.keep(ticket, key, Some(&row("1", 1)));
        }
        assert_eq!(cache.find_all(&keys).unwrap().len(), 2);
        cache.begin_change(keys.iter().take(1));
        assert!(cache.find_all(&keys).is_none());
    }
}
