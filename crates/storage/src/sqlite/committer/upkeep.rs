//! What the committer does when nobody waits for an answer: it writes the WAL back, and gives space back that nothing needs.
//!
//! **SQLite does neither by itself.** Its own checkpoints, within COMMIT and when a connection is closed, drop their error. The kernel tells of a page that
//! it could not write once, at the next sync, and takes it for written from then on: where that error is dropped, the checkpoint after it succeeds
//! without the page, and the WAL, which had it, is overwritten. Here such an error stops the store as that of a COMMIT does.
//!
//! **Then the WAL is all that counts**, from its first page, since what was copied out of it may not be on the disk. It stays when the store is closed, and the next
//! start reads it whole. How far it was copied stands in its index (`-shm`), which a start makes anew, unless another program has it open: so the number
//! is set to nothing there as well. That file stays open until SQLite has closed it: closing any descriptor of a file gives up the process's locks on it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::{Committer, Tidy, is_sync_failure};
use crate::CommitError;
use crate::sqlite::schema::{self, WrittenBack};
use crate::sqlite::snapshot::beside;
use crate::sqlite::wal::{self, NotLasting};

impl Committer {
    /// Goes on from what an earlier process has left in the WAL. What lasts is written back later, like any other.
    pub(super) fn take_over(&mut self, left: Result<(), NotLasting>) {
        match left {
            Ok(()) => {}
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "the WAL, with what an earlier process has left in it, does not last yet: no writes until it does, reads go on");
                self.owed = true;
            }
            Err(error) => {
                tracing::error!(%error, "the WAL, with what an earlier process has left in it, cannot be made to last: no more writes until a restart");
                self.stop(format!("the WAL does not last: {error}; writes stay off until a restart: check the disk first"));
            }
        }
    }

    /// Tries again to make what is owed last. Errors: while that cannot be. Where the disk fails the store is stopped, which whoever writes is told as ever.
    pub(super) fn lasting(&mut self) -> Result<(), CommitError> {
        if !self.owed || self.is_stopped() {
            return Ok(());
        }
        let left = wal::make_last(&self.connection, &self.place.path);
        if let Err(error) = &left
            && error.may_pass()
        {
            return Err(error.refusal(&self.place.path));
        }
        self.owed = false;
        if left.is_ok() {
            tracing::info!("the WAL lasts now: writes go on");
        }
        self.take_over(left);
        Ok(())
    }

    /// Writes the WAL back and cuts it off, where nobody reads it, and the file has room for it.
    fn write_back(&self) -> rusqlite::Result<WrittenBack> {
        if self.fits()? { schema::write_back(&self.connection) } else { Ok(WrittenBack::InPart) }
    }

    /// Whether the file has room for what is in the WAL. A checkpoint that ends halfway has filled the disk and freed nothing: the WAL begins anew after a whole
    /// one alone, and what is kept for revocations is gone.
    fn fits(&self) -> rusqlite::Result<bool> {
        let (Some(free), Ok(file)) = (self.place.free_bytes(), self.place.path.metadata()) else { return Ok(true) };
        Ok(has_room(schema::pages(&self.connection)?.all, file.len(), free))
    }

    /// After a group, once it was answered.
    pub(super) fn keep_up(&mut self) {
        if self.owed || self.is_stopped() {
            return;
        }
        self.write_back_if_long();
        if !self.is_stopped() {
            self.shrink_if_loose();
        }
    }

    /// While somebody reads, part of the WAL may have to stay, and be so again after each group: a look then, until it can begin anew.
    fn write_back_if_long(&mut self) {
        let written = schema::wal_pages(&self.connection).and_then(|pages| {
            if pages < WAL_PAGES || !self.fits()? {
                return Ok(());
            }
            schema::write_back_some(&self.connection)
        });
        match written {
            Ok(()) => self.lags = false,
            // Said once: on a full disk it fails after each group.
            Err(error) if self.lags && !is_sync_failure(&error) => {}
            Err(error) => {
                self.lags = true;
                self.upkeep_failed(&error, "the WAL could not be written back and grows; that is tried again after each write");
            }
        }
    }

    /// One step where much of the file is free, though there is no pause in the writing: ten writes a second would otherwise keep a file at its peak for good.
    fn shrink_if_loose(&mut self) {
        let now = self.clock.elapsed();
        if now.saturating_sub(self.looked) < LOOSE_PAUSE {
            return;
        }
        self.looked = now;
        let step = schema::pages(&self.connection).and_then(|pages| {
            let keep = LOOSE_PAGES.max(self.options.spare_pages.into()).max(pages.all / 10 * LOOSE_TENTHS);
            // A WAL that did not begin anew is read by somebody, and each step makes it longer.
            if pages.free <= keep || schema::wal_pages(&self.connection)? >= 2 * WAL_PAGES {
                return Ok(());
            }
            schema::give_back(&self.connection, BUSY_PAGES)
        });
        if let Err(error) = step {
            self.upkeep_failed(&error, "the store could not give space back; it tries again after the next write");
        }
    }

    /// One small step of giving free pages back to the file system, when nothing is to be written; says when to come again.
    pub(super) fn reclaim(&mut self) -> Tidy {
        if self.lasting().is_err() {
            return Tidy::After(HELD_PAUSE);
        }
        if self.is_stopped() {
            return Tidy::Done;
        }
        let done = self.step_back();
        done.unwrap_or_else(|error| {
            self.upkeep_failed(&error, "the store could not give space back; it tries again after the next write");
            Tidy::Done
        })
    }

    /// No step makes the WAL longer than it may be: what a step frees is written there first, and what it moves.
    fn step_back(&self) -> rusqlite::Result<Tidy> {
        let connection = &self.connection;
        let is_long = schema::wal_pages(connection)? >= WAL_PAGES;
        if is_long && self.write_back()? == WrittenBack::InPart {
            return Ok(Tidy::After(HELD_PAUSE));
        }
        let (free, spare) = (schema::pages(connection)?.free, i64::from(self.options.spare_pages));
        if free > spare {
            schema::give_back(connection, IDLE_PAGES.min(free - spare))?;
            return Ok(Tidy::After(RECLAIM_PAUSE));
        }
        // Nothing more to free: what was freed leaves the file once the WAL is written back.
        Ok(match self.write_back()? {
            WrittenBack::Whole => Tidy::Done,
            WrittenBack::InPart => Tidy::After(HELD_PAUSE),
        })
    }

    /// Before the store is closed.
    pub(super) fn write_back_last(&mut self) {
        if self.lasting().is_err() || self.is_stopped() {
            return;
        }
        match self.write_back().and_then(|written| schema::end_with(&self.connection, written).map(|()| written)) {
            Ok(WrittenBack::Whole) => {}
            Ok(WrittenBack::InPart) => {
                tracing::warn!(
                    "another program reads the store, or its disk is full: its newest commits stay in the WAL until the next start"
                );
            }
            Err(error) => self.upkeep_failed(&error, "the last checkpoint failed; the next start does it"),
        }
    }

    /// A failed sync stops the store. Anything else has lost nothing: what is not written back is in the WAL, a file that was not cut off is too long.
    fn upkeep_failed(&mut self, error: &rusqlite::Error, what: &'static str) {
        if is_sync_failure(error) {
            self.sync_failed(error);
        } else {
            tracing::warn!(%error, what);
        }
    }

    /// From here on what was copied out of the WAL counts no more than what was not.
    pub(super) fn distrust_index(&mut self) {
        let index = OpenOptions::new().write(true).open(beside(&self.place.path, "-shm"));
        let distrusted = index.and_then(|index| {
            let written = index.write_all_at(&0_u32.to_ne_bytes(), WRITTEN_BACK_AT);
            self.index = Some(index);
            written
        });
        match distrusted {
            Ok(()) => {}
            // The next start makes it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, "the index of the WAL cannot be written: let no other program have the store open at the next start");
            }
        }
    }
}

/// Whether a file of so many bytes becomes as long as these pages with what is free. That may be all of it: once the WAL is written back, the next commits take no more room.
fn has_room(pages: i64, bytes: u64, free: u64) -> bool {
    let all = u64::try_from(pages).unwrap_or(0).saturating_mul(schema::PAGE_BYTES);
    all.saturating_sub(bytes) <= free
}

/// Where the index of a WAL says how much was written back: `nBackfill` in "WAL-mode File Format" (sqlite.org/walformat.html), a number of the machine's
/// byte order behind the two copies of the header.
const WRITTEN_BACK_AT: u64 = 96;
/// Pages of the WAL after which it is written back: SQLite's own number.
const WAL_PAGES: i64 = 1000;
/// Pages (4 KiB each) given back in one step: a batch that comes meanwhile waits some milliseconds at most.
const IDLE_PAGES: i64 = 256;
/// The same between groups, where one surely comes.
const BUSY_PAGES: i64 = 128;
/// Between two steps while nothing is written.
const RECLAIM_PAUSE: Duration = Duration::from_millis(10);
/// Between two steps while something is: each costs a sync, about what a group costs.
const LOOSE_PAUSE: Duration = Duration::from_millis(250);
/// A file with fewer free pages than these (8 MiB) waits for a pause in the writing,
const LOOSE_PAGES: i64 = 2048;
/// and so does one of which no more than so many tenths are free.
const LOOSE_TENTHS: i64 = 3;
/// Before the next look at a WAL that somebody reads: a snapshot takes minutes, and each look writes back what has become free to be.
pub(super) const HELD_PAUSE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
