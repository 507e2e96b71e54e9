//! Versions of new rows: above all that any row ever had, so that a condition on a version never holds for another row that came to have the same key.
//!
//! Each put takes a number, and a changed row is raised by one. So no row's version is ever above the numbers that were taken.

use std::cell::Cell;

use rusqlite::{Connection, OptionalExtension, params};

use super::schema::{NEXT_VERSION_READ, NEXT_VERSION_WRITE};

/// The counter of a store's writer. The file holds a number that is above all that were given, and is raised seldom: what lies between is left out
/// after a restart.
pub(super) struct Versions {
    next: Cell<u64>,
    /// What the file holds.
    reserved: Cell<u64>,
}

impl Versions {
    /// The counter of an open file.
    pub(super) fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let stored = connection.query_row(NEXT_VERSION_READ, [], |row| row.get::<_, i64>(0)).optional()?;
        let next = stored.map_or(FIRST_OF_OLD_FILES, i64::unsigned_abs);
        Ok(Self { next: Cell::new(next), reserved: Cell::new(next) })
    }

    /// The next number.
    pub(super) fn take(&self) -> i64 {
        let version = self.next.get();
        self.next.set(version.saturating_add(1));
        i64::try_from(version).unwrap_or(i64::MAX)
    }

    /// Another file is in the store's place: what was given before is not given again.
    pub(super) fn follow(&self, before: &Self) {
        self.next.set(self.next.get().max(before.next.get()));
    }

    /// Raises the number in the file, within the transaction that is open, where this transaction's numbers reach it. Returns what the file holds
    /// once that is committed, for [`Self::committed`].
    pub(super) fn reserve(&self, connection: &Connection) -> rusqlite::Result<u64> {
        let (next, reserved) = (self.next.get(), self.reserved.get());
        if next <= reserved {
            return Ok(reserved);
        }
        let raised = next.saturating_add(BLOCK);
        write_next(connection, raised)?;
        Ok(raised)
    }

    /// The transaction is committed.
    pub(super) fn committed(&self, reserved: u64) {
        self.reserved.set(reserved);
    }
}

/// Writes down that all versions below this one may have been given.
pub(super) fn write_next(connection: &Connection, next: u64) -> rusqlite::Result<()> {
    connection.prepare_cached(NEXT_VERSION_WRITE)?.execute(params![i64::try_from(next).unwrap_or(i64::MAX)]).map(|_rows| ())
}

/// So many numbers are set aside at once: a write of one row more for a million of them.
const BLOCK: u64 = 1 << 20;
/// Files that were made before there was a counter: versions were counted per row, so none of them is as high as this.
const FIRST_OF_OLD_FILES: u64 = 1 << 32;

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::super::{SqliteOptions, place};
    use super::*;

    #[test]
    fn no_number_is_taken_twice_whatever_was_committed_before_a_restart() {
        let root = tempfile::tempdir().unwrap();
        let place = place::take(&root.path().join("store.db")).unwrap();
        let open = || schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        let connection = open();
        let versions = Versions::of(&connection).unwrap();
        assert_eq!((versions.take(), versions.take()), (1, 2));
        let reserved = versions.reserve(&connection).unwrap();
        versions.committed(reserved);
        let last = (0..BLOCK).map(|_| versions.take()).last().unwrap();
        assert_eq!(versions.reserve(&connection).unwrap(), reserved, "nothing is written within a block");
        drop(connection);
        let next = Versions::of(&open()).unwrap().take();
        assert!(next > last && next.unsigned_abs() == reserved, "{next} {last}");
    }

    #[test]
    fn a_file_without_a_counter_begins_above_all_that_were_counted_per_row() {
        let root = tempfile::tempdir().unwrap();
        let place = place::take(&root.path().join("store.db")).unwrap();
        let connection = schema::open_writer(&place.path, &SqliteOptions::default()).unwrap().connection;
        connection.execute("DELETE FROM meta WHERE name = 'next_version'", []).unwrap();
        let versions = Versions::of(&connection).unwrap();
        assert_eq!(versions.take().unsigned_abs(), FIRST_OF_OLD_FILES);
        versions.reserve(&connection).unwrap();
        assert!(Versions::of(&connection).unwrap().take().unsigned_abs() > FIRST_OF_OLD_FILES);
    }
}
